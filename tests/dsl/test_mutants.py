"""No program whatever ends in a traceback: it lowers, or its faults are told, each at its place."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.dsl.program import check, lower
from fml.dsl.report import render
from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.source import Source

ROOT = Path(__file__).parent.parent.parent
TEXTS = [
    path.read_text(encoding="utf-8")
    for path in (*sorted((ROOT / "examples").glob("*.fml")), Path(__file__).parent / "mutated.fml")
]
TOKEN = re.compile(r"#[^\n]*|\"[^\"\n]*\"|\w+|\s+|\|>|<-|->|\.\.\.?|[<>=!]=|.")
VALUES = (
    "0", "-1", "2.5", "1e30", "10%", "true", '"s"', "[1, 2]", "[]", "5 epochs", "1 .. 3",
    "(1 / 0)", "(x > 0)", "x", "y", "net", "net.W", "net.state", "x[0]", "x[..., 0]", "x[1:3]",
    "learners", "learners.w", "iris.train", "iris", "dense", "dense(3)", "sgd(0.1)", "sma", "relu",
    "f32", "grad(x, x)", "previous(x)", "replica(net)", "repeat(2, dense(3))", "steps(2 epochs)",
    "size(learners)", "(step < 3)", "argmax(x)", "one_hot(y)", "cast(x, i32)", "valid.loss",
    "sum(x, over = 0)", "uniform(x)", "standardize(x)", "columns[0 .. 3]", "training",
    "(2 ^ 99999)",
)  # fmt: skip
OPERATORS = ("+", "-", "*", "/", "@", "^", "<", "==", "and", "or", "|>")


def survives(text: str) -> None:
    """Lowers, or says what is wrong in a way that can be shown."""
    faults = faults_of(text)
    if faults is not None:
        assert faults
        assert all(fault.span for fault in faults)
        assert render(faults)


def faults_of(text: str) -> Sequence[Diagnostic] | None:
    try:
        program = check(Source("test.fml", text), ROOT / "examples")
        for plan in program.plans:
            lower(program, plan.name or None)
    except FmlError as error:
        return error.diagnostics
    return None


def mutated(text: str, data: st.DataObject) -> str:
    """Change one token, or move a line, so that much of the rest still means something."""
    tokens = TOKEN.findall(text)
    words = [i for i, t in enumerate(tokens) if re.match(r"\w", t)]
    signs = [i for i, t in enumerate(tokens) if t in OPERATORS]
    at = data.draw(st.sampled_from(words), "word")
    match data.draw(st.integers(0, 6), "kind"):
        case 0:
            tokens[at] = tokens[data.draw(st.sampled_from(words), "other word")]
        case 1:
            tokens[at] = data.draw(st.sampled_from(VALUES), "value")
        case 2:
            tokens[data.draw(st.sampled_from(signs), "operator")] = data.draw(
                st.sampled_from(OPERATORS), "sign"
            )
        case 3:
            tokens[at] += data.draw(
                st.sampled_from(["(x)", "[0]", ".W", ".train", "()", " epochs", " |> relu"])
            )
        case 4:
            tokens[at] = f"({tokens[at]} {data.draw(st.sampled_from(OPERATORS))} x)"
        case 5:
            del tokens[at]
        case _:
            lines = text.split("\n")
            line = lines.pop(data.draw(st.integers(0, len(lines) - 1), "line"))
            if data.draw(st.booleans(), "is put elsewhere"):
                lines.insert(data.draw(st.integers(0, len(lines))), line)
            return "\n".join(lines)
    return "".join(tokens)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEXTS), st.data())
def test_mutated_programs(text: str, data: st.DataObject) -> None:
    for _ in range(data.draw(st.integers(1, 3), "mutations")):
        text = mutated(text, data)
    survives(text)


def plan(statements: str) -> str:
    """A right plan with more statements."""
    return f"""
data points = given {{ x: f32[4]; y: f32 }}
model linear(x: f32[N, D]) -> f32[N] {{ param w: f32[D] ~ zeros; x @ w }}
train {{
  net = linear()
  feed x, y from points.train
  minimize mse(net(x), y)
  using sgd(0.1)
  stop after 3 steps
  {statements}
}}
"""


@pytest.mark.parametrize(
    "text",
    [
        "a = 9 ^ 9 ^ 9 ^ 9",
        "a = 10 ^ 300 * 10 ^ 300",
        "a = (10 ^ 300) epochs * 1e10",
        "a = [][0]",
        "a0 = 1" + "".join(f"\na{i} = a{i - 1} + a{i - 1}" for i in range(1, 300)),
        "a300 = 1" + "".join(f"\na{i} = a{i + 1} + 1" for i in range(300)),
        "fn f0(x) = x" + "".join(f"\nfn f{i}(x) = f{i - 1}(f{i - 1}(x))" for i in range(1, 8)),
        "fn f0(x: f32[N]) = x" + "".join(f"\nfn f{i}(x) = f{i - 1}(x)" for i in range(1, 100)),
        "fn f(a: f32[A], b: f32[B], c: f32[C], d: f32[(A + B + C + 1) ^ 60]) -> f32 = 1",
        "fn f(x: f32[N], y: f32[N ^ 1000000000]) = x",
        "layer l(x: f32) { param w: f32 ~ w; w }",
        "layer l(x: f32) = k(x)\nlayer k(x: f32) = l(x)",
        "optimizer o(rate) { each w, g { state m ~ m; w <- m } }",
        "model m(x: f32[N, 8, 8, 1]) = x |> conv(1, 3, stride = 0)",
        "model m(x: f32[N, 8, 8, 1]) = x |> conv(0, 0)",
        "model m(x: f32[N, 8, 8, 1]) = x |> conv(1, 3, pad = true)",
        'data d = csv("a.csv") { x: f32[4] = columns[0 .. 1000000000000] }',
        'data d = csv("a.csv") { }\ntrain { feed x from d.train; stop after 1 step }',
        plan("q = x[..., ...]"),
        plan("q = iota([1, 2])"),
        plan("q = repeat(1000000000, dense(3))"),
        plan("q = net(x) * 10 ^ 300"),
        plan("stop after x epochs"),
        plan("state q: f32[4] ~ x\n q <- q + 1"),
        plan("unused = linear()\n descend unused along unused using sgd(1)"),
        plan("measure mse(net(x), y) on mse(points, y).train"),
        plan("measure mse(net(x), y) on points.train\n points = mse(net(x), y)"),
        plan("minimize q = train(x)"),
    ],
    ids=lambda text: text[:30].replace("\n", " "),
)
def test_strange_programs(text: str) -> None:
    survives(text)
