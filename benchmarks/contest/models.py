"""The models that are trained, their data, and where everybody begins.

A contestant knows a model by its name and its parameters by the names that fml gives them, in fml's
layouts: images [N, height, width, channels], kernels [height, width, in, out], matrices [in, out].
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

import fml

SAMPLES = 8192
CLASSES = 10
# The rate is small enough for every network to settle: numbers that grow or vanish cost time.
RATE, MOMENTUM, DECAY = 0.001, 0.9, 1e-4
CHECKED_STEPS = 3
SEED = 0


@dataclass(frozen=True)
class Model:
    """A network.

    Attributes:
        sizes: those of a sample, channels last.
        body: what fml makes of `x`.
        wanted: by the batch of a learner, how many times as fast as the best peer it is to be on
            one core, and on two.
    """

    sizes: tuple[int, ...]
    body: str
    wanted: Mapping[int, tuple[float, float]]

    @property
    def has_images(self) -> bool:
        return len(self.sizes) == 3

    @property
    def normalises(self) -> bool:
        """Whether a sample's result depends on the others of its batch."""
        return "unit(" in self.body


DIGITS, IMAGES = (28, 28, 1), (32, 32, 3)
MODELS: Mapping[str, Model] = {
    "softmax": Model((784,), "x |> dense(10)", {16: (1.5, 2.0)}),
    "mlp": Model(
        (784,), "x |> dense(256) |> relu |> dense(128) |> relu |> dense(10)", {16: (1.4, 1.6)}
    ),
    "lenet": Model(
        DIGITS,
        "x |> conv(32, 5) |> relu |> max_pool(2) |> conv(64, 5) |> relu |> max_pool(2)"
        " |> flatten |> dense(512) |> relu |> dense(10)",
        {4: (1.5, 2.0), 16: (1.3, 1.4), 64: (1.15, 1.25)},
    ),
    "resnet8": Model(
        IMAGES,
        "x |> unit(16) |> relu |> block(16) |> block(32, 2) |> block(64, 2)"
        " |> global_avg_pool |> dense(10)",
        {8: (1.2, 1.4), 32: (1.05, 1.25)},
    ),
    "resnet32": Model(
        IMAGES,
        "x |> unit(16) |> relu |> repeat(5, block(16)) |> block(32, 2) |> repeat(4, block(32))"
        " |> block(64, 2) |> repeat(4, block(64)) |> global_avg_pool |> dense(10)",
        {16: (1.2, 1.4)},
    ),
}

_TEXT = """
data d = given {{ x: f32[{sizes}]; y: label[{classes}] }}
layer unit(c: dim, s = 1)(x) = x |> conv(c, 3, stride = s, pad = 1, bias = false) |> batch_norm
layer block(c: dim, s = 1)(x: f32[N, H, W, C]) {{
  short = if s == 1 then x else x |> conv(c, 1, stride = s, bias = false) |> batch_norm
  relu((x |> unit(c, s) |> relu |> unit(c)) + short)
}}
model net(x: f32[N, {sizes}]) -> f32[N, {classes}] = {body}
train {{
  m = net()
  feed x, y from d.train |> shuffle |> batch({batch})
  minimize loss = cross_entropy(m(x), y)
  using decay({decay}) |> momentum({rate}, {momentum})
  {learners}
  stop after 1000000000 steps
}}
"""


def text_of(model: Model, batch: int, learners: int = 1, strategy: str = "") -> str:
    """The plan in fml; several learners have batches of their own, and meet after every step."""
    return _TEXT.format(
        sizes=", ".join(map(str, model.sizes)),
        classes=CLASSES,
        body=model.body,
        batch=batch,
        decay=DECAY,
        rate=RATE,
        momentum=MOMENTUM,
        learners=f"learners {learners} per device by {strategy}" if learners > 1 else "",
    )


@dataclass(frozen=True)
class Start:
    """What all contestants begin with.

    Attributes:
        x: f32[SAMPLES, *sizes].
        y: i32[SAMPLES].
        weights: the trained parameters by name, without the name of the model.
    """

    x: np.ndarray
    y: np.ndarray
    weights: Mapping[str, np.ndarray]

    def write(self, folder: Path) -> None:
        """Leave it to the contestants."""
        np.save(folder / "x.npy", self.x)
        np.save(folder / "y.npy", self.y)
        np.savez(folder / "weights.npz", **self.weights)

    @classmethod
    def read(cls, folder: Path) -> "Start":
        """Load it into memory."""
        with np.load(folder / "weights.npz") as weights:
            return cls(np.load(folder / "x.npy"), np.load(folder / "y.npy"), dict(weights))


def start_of(model: Model) -> Start:
    """Data from the normal distribution with random labels; weights like those of a new network.

    Nothing is exactly 0 or 1, so that a bias or a scale that is left out makes a difference.
    """
    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((SAMPLES, *model.sizes), np.float32)
    y = rng.integers(0, CLASSES, SAMPLES, np.int32)
    variables = fml.loads(text_of(model, 1)).lower().variables
    weights: dict[str, np.ndarray] = {}
    for path, variable in variables.items():
        if variable.role.value != "param":
            continue
        sizes = variable.type.sizes
        drawn = rng.standard_normal(sizes, np.float32)
        if len(sizes) > 1:
            drawn *= (2 / prod(sizes[:-1])) ** 0.5
        else:
            drawn = 0.1 * drawn + path.endswith("gamma")
        weights[path.removeprefix("m.")] = drawn.astype(np.float32)
    return Start(x, y, weights)


def batches(batch: int, samples: int = SAMPLES, seed: int = SEED) -> Iterator[np.ndarray]:
    """Which samples each step has: i64[batch], a new order in every epoch, fml's own."""
    epoch = 0
    while True:
        order = np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(samples)
        whole = samples // batch * batch
        yield from order[:whole].reshape(-1, batch)
        epoch += 1
