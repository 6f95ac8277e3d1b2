"""All plans of all examples train for two steps, on their data or on images made at random."""

import importlib.util
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fml

EXAMPLES = Path(__file__).parents[2] / "examples"
PLANS = [(path, plan) for path in sorted(EXAMPLES.glob("*.fml")) for plan in fml.load(path).plans]
# What the splits of images are cut to, and what makes a step small.
SPLITS = {
    "split train 45_000, valid 5_000": "split train 40, valid 20",
    "split train 55_000, valid 5_000": "split train 40, valid 20",
    "split train samples, valid 5_000": "split train 40, valid 20",
}
SMALL: dict[str, dict[str, Any]] = {
    "lenet_crossbow": {"m": 2, "b": 2},
    "lenet_fashion": {"b": 2},
    "mlp_regularised": {"width": 16},
    "resnet": {"m": 2, "b": 2},
    "resnet_fashion": {"b": 2},
}


def make_images(file: Path) -> None:
    """Run the generator that users are given."""
    place = EXAMPLES / "data" / "make_images.py"
    spec = importlib.util.spec_from_file_location("make_images", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(file, train=60, test=10)


def make_fashion(folder: Path) -> None:
    """Write random images in the files of Fashion-MNIST, as the format IDX has them."""
    folder.mkdir()
    random = np.random.default_rng(28)
    for prefix, count in {"train": 60, "t10k": 10}.items():
        images = random.integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{prefix}-{kind}-ubyte").write_bytes(head + array.tobytes())


def points() -> dict[str, np.ndarray]:
    random = np.random.default_rng(8)
    return {"x": random.normal(size=(64, 8)), "y": random.normal(size=64)}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all data of the examples, small where they do not ship."""
    folder = tmp_path_factory.mktemp("samples")
    (folder / "data").symlink_to(EXAMPLES / "data")
    make_images(folder / "cifar10.npz")
    make_fashion(folder / "fashion-mnist")
    return folder


def of_two_steps(text: str) -> str:
    for old, new in SPLITS.items():
        text = text.replace(old, new)
    return re.sub(r"stop after .*", "stop after 2 steps", text)


@pytest.mark.parametrize(("path", "plan"), PLANS, ids=[f"{path.stem}-{p}" for path, p in PLANS])
def test_every_plan_of_the_examples_trains(path: Path, plan: str, project: Path) -> None:
    copy = project / path.name
    copy.write_text(of_two_steps(path.read_text(encoding="utf-8")), encoding="utf-8")
    program = fml.load(copy)
    given = {"points": {"train": points(), "valid": points()}} if path.stem == "own_rules" else None
    run = program.train(plan=plan, data=given, device="cpu", options=SMALL.get(path.stem, {}))
    assert run.stopped_by == "after 2 steps"
    assert all(np.isfinite(values).all() for values in run.variables.values())
    assert all(np.isfinite(value) for value in run.figures.values())
