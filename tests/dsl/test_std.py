"""`std` in .fml: every declaration checks, and computes what numpy, SciPy, scikit-learn do."""

from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import special
from sklearn import metrics

from fml.dsl import ast
from fml.dsl.elaborate.declarations import ensure_checked
from fml.dsl.elaborate.session import Session
from fml.dsl.modules import std_index, std_module
from fml.dsl.parse import parse
from fml.dsl.program import check
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source
from tests.backends import on_each_backend
from tests.dsl.programs import applied, lowered, trained

ROOT = Path(__file__).parent.parent.parent
STD = sorted((ROOT / "dsl" / "std").glob("*.fml"))
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(6, 4)).astype(np.float32)
Y = RANDOM.integers(0, 4, 6)
T = RANDOM.normal(size=(6, 4)).astype(np.float32)


@pytest.mark.parametrize("name", sorted(std_index()))
def test_every_declaration_of_std_checks(name: str) -> None:
    module = std_module(name)
    assert module is not None
    declaration = module.names[name]
    session = Session(module, {})
    if isinstance(declaration, ast.Function | ast.Layer | ast.Optimizer):
        ensure_checked(session, declaration, module)
    assert session.diagnostics == []


def test_std_is_the_same_whether_parsed_whole_or_by_declaration() -> None:
    for path in STD:
        whole = parse(Source(f"std/{path.name}", path.read_text(encoding="utf-8"))).declarations
        for declaration in whole:
            assert not isinstance(declaration, ast.Import | ast.ImportFrom | ast.Train)
            module = std_module(declaration.name)
            assert module is not None
            assert module.file.declarations == (declaration,)
            assert module.file.declarations[0].span.place == declaration.span.place
    declared = sum(len(parse(Source(p.name, p.read_text("utf-8"))).declarations) for p in STD)
    assert declared == len(std_index())


FUNCTIONS = [
    ("relu(x)", np.maximum(X, 0)),
    ("leaky_relu(x, 0.1)", np.where(X > 0, X, 0.1 * X)),
    ("elu(x)", np.where(X > 0, X, np.expm1(X))),
    ("gelu(x)", X * 0.5 * (1 + special.erf(X / np.sqrt(2)))),
    ("silu(x)", X * special.expit(X)),
    ("clip(x, -0.5, 0.5)", np.clip(X, -0.5, 0.5)),
    ("softmax(x)", special.softmax(X, axis=1)),
    ("softmax(x, over = 0)", special.softmax(X, axis=0)),
    ("log_softmax(x)", special.log_softmax(X, axis=1)),
    ("logsumexp(x)", special.logsumexp(X, axis=1)),
    ("logsumexp(1000 * x)", special.logsumexp(1000 * X.astype(float), axis=1)),
    ("var(x)", X.var()),
    ("var(x, over = 1, keep = true)", X.var(1, keepdims=True)),
    ("std(x, over = 0)", X.std(0)),
    ("norm(x)", np.linalg.norm(X)),
    ("norm(x, over = 1)", np.linalg.norm(X, axis=1)),
    ("sum(x, over = everything)", X.sum()),
    ("prod(x, over = 1)", X.prod(1)),
    ("cumsum(x, over = 0)", X.cumsum(0)),
    ("mean(x, over = N)", X.mean(0)),
    ("max(x, over = 1)", X.max(1)),
    ("mod(x, 0.75)", np.mod(X, np.float32(0.75))),
    ("where(x > 0 and not (x > 1), x, -1)", np.where((X > 0) & (X <= 1), X, -1)),
    ("cast(any(x > 1, over = 1), f32)", (X > 1).any(1)),
    ("cast(all(x > -1, over = 1), f32)", (X > -1).all(1)),
    ("cast(argmin(x), f32)", X.argmin(1)),
    ("flatten(x)", X),
    ("reshape(x, [N, 2, 2])", X.reshape(6, 2, 2)),
    ("x[1:3, -1]", X[1:3, -1]),
    ("transpose(x)", X.T),
    ("expand(x)", X[:, :, None]),
    ("expand(x, 0)", X[None]),
    ("expand(x, over = -2, size = 3)", np.repeat(X[:, None], 3, 1)),
    ("squeeze(expand(expand(x, 0), 2))", X),
    ("squeeze(expand(x, 1), over = 1)", X),
    ("flip(x)", X[:, ::-1]),
    ("roll(x, 1)", np.roll(X, 1, 1)),
    ("roll(x, -8, over = 0)", np.roll(X, -8, 0)),
    ("tile(x, 3)", np.tile(X, (1, 3))),
    ("tile(x, 2, over = 0)", np.tile(X, (2, 1))),
    ("pad(x, 1)", np.pad(X, 1)),
    ("pad(x, [2, 0], over = 1, value = -1.5)", np.pad(X, ((0, 0), (2, 0)), constant_values=-1.5)),
    ("concat([x, ones(x)], over = 1)", np.c_[X, np.ones_like(X)]),
    ("stack([x, 2 * x])", np.stack([X, 2 * X], 2)),
    ("stack([x, 2 * x], over = 0)", np.stack([X, 2 * X])),
    ("split(x, 2)[1]", np.split(X, 2, 1)[1]),
    ("split(x, [1, 0, 3])[2]", X[:, 1:]),
    ("take(x, [2, 0], over = 1)", X[:, [2, 0]]),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("expression", "expected"), FUNCTIONS, ids=[f for f, _ in FUNCTIONS])
def test_functions(expression: str, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(applied(expression, X), expected, rtol=2e-5, atol=1e-6)


PLACES = "i = cast(iota(3), i64); j = cast(expand([3, 0]), i64);"
AT, BELOW = np.arange(3), np.array([[3], [0]])


@on_each_backend
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("x[i]", X[AT]),
        ("x[:, j]", X[:, BELOW]),
        ("x[iota(4), iota(4)]", X[np.arange(4), np.arange(4)]),
        ("x[i, j]", X[AT, BELOW]),
        ("x[1:, i]", X[1:, AT]),
        ("x[i, -1]", X[AT, -1]),
        ("x[i, 1:3]", X[AT, 1:3]),
        ("x[5 + 9 * i, j - 9]", X[np.minimum(5 + 9 * AT, 5), 0 * BELOW]),
        ("x[[5, 0], [1, 2]]", X[[5, 0], [1, 2]]),
        ("x[iota(N), argmax(x)]", X.max(1)),
        ("stack([x, -x], over = 1)[i, :, j]", np.stack([X, -X], 1)[AT, :, BELOW]),
        ("stack([x, -x], over = 1)[:, 0, i]", X[:, AT]),
        ("stack([x, -x], over = 1)[:, [1, 0], [0, 2]]", np.stack([-X[:, 0], X[:, 2]], 1)),
        ("stack([x, -x], over = 0)[[1, 0], :, [0, 2]]", np.stack([-X[:, 0], X[:, 2]])),
    ],
)
def test_tensors_of_indices(expression: str, expected: NDArray[np.float64]) -> None:
    np.testing.assert_array_equal(applied(f"{PLACES} {expression}", X), expected)


IMAGES = RANDOM.normal(size=(2, 4, 6, 3)).astype(np.float32)
WINDOWS = np.moveaxis(sliding_window_view(IMAGES, (3, 3), (1, 2)), 3, 5)
AROUND = np.pad(IMAGES, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=np.nan)
MARGINS = np.moveaxis(sliding_window_view(AROUND, (3, 3), (1, 2)), 3, 5)
NAN = np.isnan(MARGINS)
# `same` adds one row of padding to 4 and 6 entries, behind them.
STRIDED = MARGINS[:, 1::2, 1::2]
BLOCKS = IMAGES.reshape(2, 2, 2, 3, 2, 3)


@on_each_backend
@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("max_pool(x, 2)", BLOCKS.max((2, 4))),
        ("avg_pool(x, 2)", BLOCKS.mean((2, 4))),
        ("max_pool(x, 3, 1, pad = valid)", WINDOWS.max((3, 4))),
        ("max_pool(x, 3, 1, pad = same)", MARGINS.max((3, 4), initial=-np.inf, where=~NAN)),
        ("avg_pool(x, 3, stride = 1, pad = 1)", np.nanmean(MARGINS, (3, 4))),
        ("avg_pool(x, 3, stride = 2, pad = same)", np.nanmean(STRIDED, (3, 4))),
        ("global_avg_pool(x)", IMAGES.mean((1, 2))),
    ],
)
def test_pooling(expression: str, expected: NDArray[np.float64]) -> None:
    np.testing.assert_allclose(applied(expression, IMAGES), expected, rtol=1e-5, atol=1e-6)


KERNEL = np.sin(np.arange(54, dtype=np.float32)).reshape(3, 3, 2, 3)


@on_each_backend
@pytest.mark.parametrize(
    ("stride", "pad"), [(1, "same"), (2, "same"), (4, "same"), (1, "valid"), (2, "valid")]
)
def test_transposed_convolutions(stride: int, pad: str) -> None:
    """Against JAX; `same` makes H * stride entries of H."""
    wanted = jax.lax.conv_transpose(
        IMAGES, KERNEL, (stride, stride), pad.upper(), transpose_kernel=True, precision="highest"
    )
    kernel = "k = reshape(sin(cast(iota(54), f32)), [3, 3, 2, 3]);"
    got = applied(f"{kernel} conv2d_transpose(x, k, {stride}, {pad}, 1, 1)", IMAGES)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attributes", [
    "4, 3", "4, 2, stride = 3", "4, 3, pad = valid", "4, 3, stride = 2, pad = 1",
    "6, 2, stride = 2, dilation = 2, groups = 3", "6, 3, stride = 3, pad = valid, groups = 3",
])  # fmt: skip
def test_a_transposed_convolution_undoes_the_shape_of_the_convolution(attributes: str) -> None:
    units, how = attributes.split(", ", 1)
    text = f"""
data d = given {{ v: f32[7, 8, {units}] }}
model m(v: f32[N, H, W, C]) = v |> conv_transpose(6, {how}) |> conv({units}, {how})
train {{
  net = m()
  feed v from d.train
  minimize sum((net(v) - v)^2)
  using sgd(0)
  stop after 1 step
}}"""
    assert lowered(text)


def figure(expression: str) -> float:
    """Measure an expression of logits z = x and of the labels y and targets t."""
    text = f"""
data d = given {{ x: f32[4]; t: f32[4]; y: label[4] }}
model m(x: f32[N, D]) -> f32[N, D] {{
  param w: f32 ~ ones
  x * w
}}
train {{
  net = m()
  feed x, t, y from d.train
  z = net(x)
  minimize sum(z)
  using sgd(0)
  measure {expression} as "figure" on d.train
  stop after 1 step
}}"""
    return trained(text, {"d": {"x": X, "t": T, "y": Y}}).figures["train.figure"]


P, Q = special.softmax(X.astype(float), 1), special.softmax(T.astype(float), 1)
SIGNS = np.sign(T)
LOSSES = [
    ("mse(z, t)", np.mean((X - T) ** 2)),
    ("mae(z, t)", np.mean(np.abs(X - T))),
    ("huber(z, t, delta = 0.7)", np.mean(special.huber(0.7, (X - T).astype(float)))),
    ("cross_entropy(z, y)", metrics.log_loss(Y, P, labels=range(4))),
    (
        "cross_entropy(z, y, smoothing = 0.2)",
        -np.mean(np.sum((0.8 * np.eye(4)[Y] + 0.05) * np.log(P), 1)),
    ),
    (
        "binary_cross_entropy(z, sigmoid(t))",
        np.mean(
            -special.expit(T) * special.log_expit(X) - special.expit(-T) * special.log_expit(-X)
        ),
    ),
    ("hinge(z, sign(t))", np.mean(np.maximum(1 - SIGNS * X, 0))),
    ("perceptron_loss(z, sign(t))", np.mean(np.maximum(-SIGNS * X, 0))),
    ("kl(softmax(z), softmax(t))", np.mean(np.sum(special.rel_entr(P, Q), 1))),
    ("kl(one_hot(y), softmax(t))", -np.mean(np.log(Q[np.arange(len(Y)), Y]))),
    ("accuracy(z, y)", metrics.accuracy_score(Y, X.argmax(1))),
    ("top_k_accuracy(z, y, k = 2)", metrics.top_k_accuracy_score(Y, X, k=2, labels=range(4))),
    ("top_k_accuracy(z, y, k = 1)", metrics.accuracy_score(Y, X.argmax(1))),
    ("soft_cross_entropy(z, softmax(t))", -np.mean(np.sum(Q * np.log(P), 1))),
    (
        "soft_cross_entropy(z, label_smooth(y, 0.2))",
        -np.mean(np.sum((0.8 * np.eye(4)[Y] + 0.05) * np.log(P), 1)),
    ),
    ("r2(z[:, 0], t[:, 0])", metrics.r2_score(T[:, 0], X[:, 0])),
    ("l1(z)", np.abs(X).sum()),
    ("l2(z)", np.sum(X**2)),
]


@on_each_backend
@pytest.mark.parametrize(("expression", "expected"), LOSSES, ids=[e for e, _ in LOSSES])
def test_losses_and_figures_of_merit(expression: str, expected: float) -> None:
    np.testing.assert_allclose(figure(expression), expected, rtol=2e-5)


SCHEDULES = [
    ("1 |> warmup(4 steps)", [0.25, 0.5, 0.75, 1, 1, 1]),
    ("1 |> warmup(4 steps, from = 0.5)", [0.625, 0.75, 0.875, 1, 1, 1]),
    ("1 |> warmup_constant(2 steps, 0.1)", [0.1, 0.1, 1, 1, 1, 1]),
    ("1 |> linear_scaling(8)", [8] * 6),
    ("1 |> drop(to = 10%, at = [2 steps, 4 steps])", [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ("1 |> decay_exp(0.5, 2 steps)", [0.5 ** (n / 2) for n in range(6)]),
    ("1 |> cosine(4 steps)", [0.5 * (1 + np.cos(np.pi * min(1, n / 4))) for n in range(6)]),
    ("1 |> poly(4 steps, 2)", [(1 - min(1, n / 4)) ** 2 for n in range(6)]),
]


@pytest.mark.parametrize(("schedule", "rates"), SCHEDULES, ids=[e for e, _ in SCHEDULES])
def test_schedules(schedule: str, rates: list[float]) -> None:
    """The gradient of sum(w) is 1, so each step subtracts the rate."""
    text = f"""
data d = given {{ x: f32[1] }}
model m(x: f32[N, D]) -> f32 {{
  param w: f32 ~ zeros
  w + 0 * sum(x)
}}
train {{
  net = m()
  feed x from d.train
  minimize net(x)
  using sgd({schedule})
  log net.w as "w" every 1 step
  stop after 6 steps
}}"""
    outcome = trained(text, {"d": {"x": np.ones((2, 1))}})
    values = [0.0, *(p.value for p in outcome.history if p.series == "w")]
    np.testing.assert_allclose(-np.diff(values), rates, rtol=1e-5, atol=1e-7)


def test_a_folder_of_the_user_that_is_called_std_is_the_users() -> None:
    text = "fn halve(x: f32[N]) -> f32[N] = x / two"
    with pytest.raises(FmlError) as caught:
        check(Source("std/losses.fml", text), ROOT)
    (fault,) = caught.value.diagnostics
    assert fault.marks[0].span.place == "std/losses.fml:1:37"
    assert not fault.notes
