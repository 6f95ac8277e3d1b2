"""A graph's text parses back to an equal graph, is short, and says where it cannot be read."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attribute, Graph, GraphBuilder, Phase
from fml.engine.ir.text import dump, read
from fml.engine.ir.types import BOOL, F32, Element, Label, TensorType, tensor

NAMES = st.sampled_from(["N", "H", "W", "steps_per_epoch", "η", "floor", "..."])
DIMS = st.recursive(
    st.integers(-9, 99).map(Dim.of) | NAMES.map(Dim.of),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
        st.tuples(inner, inner).map(lambda p: p[0] * p[1]),
        st.tuples(inner, st.integers(1, 6)).map(lambda p: p[0] / p[1]),
        st.tuples(inner, NAMES).map(lambda p: p[0] / Dim.of(p[1])),
        inner.map(Dim.floor),
        inner.map(Dim.ceil),
    ),
    max_leaves=5,
)
ELEMENTS = st.sampled_from(list(Element))
TYPES = st.builds(TensorType, ELEMENTS | DIMS.map(Label), st.lists(DIMS, max_size=3).map(tuple))
ATTRIBUTES: st.SearchStrategy[Attribute] = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(), DIMS,
        ELEMENTS, TYPES, st.just(math.inf),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=5,
)  # fmt: skip
WORDS = st.sampled_from(["name", "shape", "axis", "value", "graph", "return", "over"])


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Any nodes at all: text knows nothing of operations."""
    builder = GraphBuilder(draw(st.text()))
    for number in range(draw(st.integers(0, 4))):
        earlier = st.integers(0, number - 1) if number else st.nothing()
        builder.add(
            draw(WORDS),
            draw(TYPES),
            tuple(draw(st.lists(earlier, max_size=3))) if number else (),
            draw(st.dictionaries(WORDS, ATTRIBUTES, max_size=3)),
            scope=draw(st.text()),
            phase=draw(st.sampled_from(Phase)),
            mapped=draw(st.booleans()),
            guard=draw(st.none() | earlier) if number else None,
        )
    count = len(builder.nodes)
    outputs = st.dictionaries(st.text(), st.integers(0, count - 1), max_size=3)
    return builder.finish(draw(outputs) if count else {})


def kinds(value: Attribute) -> object:
    """The Python types within: `1`, `1.0`, `true` and `dim(1)` are different attributes."""
    return [type(value), [kinds(v) for v in value] if isinstance(value, tuple) else None]


@settings(deadline=None)
@given(graphs())
def test_a_graph_reads_back_from_its_text(graph: Graph) -> None:
    again = read(dump(graph))
    assert again == graph
    for mine, theirs in zip(graph, again, strict=True):
        for name, value in mine.attributes.items():
            assert kinds(theirs.attributes[name]) == kinds(value)


def test_not_a_number_reads_back() -> None:
    builder = GraphBuilder("nan")
    builder.add("constant", tensor(F32), (), {"value": (math.nan, -math.inf)})
    (node,) = read(dump(builder.finish({})))
    first, second = node.attributes["value"]
    assert math.isnan(first)
    assert second == -math.inf


EXAMPLE = """\
graph "step"
%0 = feed() {data = "d", split = "train", field = "x"} : f32[N, 4] [data]
%1 = variable() {name = "net.W", role = "param"} : f32[4, 3] in "net"
%2 = fires() {amount = 5, unit = "epochs"} : bool
%3 = matmul(%0, %1) : f32[N, 3] in "net" [update] over learners when %2
%4 = argmax(%3) {axis = 1} : label[3][N]
return "net.y" = %3, class = %4
"""


def test_text_leaves_out_what_is_default() -> None:
    builder = GraphBuilder("step")
    builder.add(
        "feed", tensor(F32, "N", 4), (), {"data": "d", "split": "train", "field": "x"},
        phase=Phase.DATA,
    )  # fmt: skip
    builder.add("variable", tensor(F32, 4, 3), (), {"name": "net.W", "role": "param"}, scope="net")
    builder.add("fires", tensor(BOOL), (), {"amount": 5, "unit": "epochs"})
    builder.add(
        "matmul", tensor(F32, "N", 3), (0, 1), scope="net", phase=Phase.UPDATE, mapped=True, guard=2
    )
    builder.add("argmax", tensor(Label(Dim.of(3)), "N"), (3,), {"axis": 1})
    graph = builder.finish({"net.y": 3, "class": 4})
    assert dump(graph) == EXAMPLE
    assert read(EXAMPLE) == graph
    assert "%4 = argmax(%3) {axis = 1}\n" in dump(graph, types=False)


def test_comments_and_empty_lines_are_skipped() -> None:
    lines = EXAMPLE.splitlines()
    assert read("# a comment\n\n" + "\n\n  # more\n".join(lines)) == read(EXAMPLE)


FAULTS = [
    ("%0 = exp(", "line 2"),
    ("%0 = exp() : f33", "unknown element"),
    ("%0 = exp() : f32 [sideways]", "unknown phase"),
    ("%0 = exp() : f32[N", "line 2"),
    ("%0 = exp() {a = } : f32", "expected a number"),
    ("%0 = exp() {a = -true}: f32", "expected a number behind"),
    ("%0 = exp() : f32 ?", "unexpected"),
    ("exp()", "expected a node"),
    ("return y", "expected `=`"),
]


@pytest.mark.parametrize(("line", "message"), FAULTS)
def test_what_cannot_be_read_is_reported_with_its_line(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(f'graph "g"\n{line}\n')
    assert "line 2" in str(caught.value)
