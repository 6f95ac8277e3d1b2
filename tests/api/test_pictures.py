"""Pictures of graphs, read back through Graphviz's own JSON: what counts is what it sees."""

import itertools
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from fml.engine.draw.dot import to_dot
from fml.engine.draw.render import drawing_program, render
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, GraphBuilder, Phase
from fml.engine.ir.source import Source, Span
from fml.engine.ir.types import BOOL, F32, SCALAR, TensorType, tensor
from fml.program import load

SPAN = Span(Source("my.fml", "w <- w - lr * g if loss < 1\n"), 1, 17, 1, 25)


def small_step() -> Graph:
    """One layer, its gradient, its update under a guard, and a reduction over learners."""
    b = GraphBuilder("step")
    x = b.add(
        "feed", tensor(F32, "N", 3), (), {"data": "d", "split": "train", "field": "x"},
        phase=Phase.DATA, mapped=True,
    )  # fmt: skip
    w = b.add(
        "variable", tensor(F32, 3), (), {"name": "net.dense_0.W"}, scope="net.dense_0", mapped=True
    )
    y = b.add("matmul", tensor(F32, "N"), (x, w), scope="net.dense_0", mapped=True, span=SPAN)
    n = b.add("dim_value", SCALAR, (), {"dim": Dim.of("N")})
    total = b.add("sum", SCALAR, (y,), {"axes": (0,), "keep": False}, scope="net", mapped=True)
    loss = b.add("divide", SCALAR, (total, n), mapped=True)
    gradient = b.add(
        "broadcast", tensor(F32, 3), (loss,), {}, scope="net.dense_0", phase=Phase.BACKWARD,
        mapped=True,
    )  # fmt: skip
    every = b.add("fires", TensorType(BOOL), (), {"amount": 4.0, "unit": "steps"})
    mean = b.add(
        "learners_reduce", tensor(F32, 3), (gradient,), {"kind": "mean"}, phase=Phase.UPDATE,
        guard=every,
    )  # fmt: skip
    rate = b.add("constant", SCALAR, (), {"value": 0.25})
    change = b.add("multiply", tensor(F32, 3), (rate, mean), phase=Phase.UPDATE, guard=every)
    new = b.add(
        "subtract", tensor(F32, 3), (w, change), phase=Phase.UPDATE, guard=every, mapped=True
    )
    b.add(
        "assign", tensor(F32, 3), (w, new), {"name": "net.dense_0.W"}, phase=Phase.UPDATE,
        guard=every, mapped=True,
    )  # fmt: skip
    return b.finish({"train.loss": loss})


class Seen:
    """A picture as Graphviz understood it."""

    def __init__(self, dot: str) -> None:
        program = drawing_program("svg")
        assert program is not None
        done = subprocess.run(
            [program, "-Tjson"], input=dot.encode(), capture_output=True, check=True
        )
        self.json = json.loads(done.stdout)
        self.objects = {o["_gvid"]: o for o in self.json["objects"]}
        self.nodes = {o["name"]: o for o in self.objects.values() if "nodes" not in o}
        self.clusters = [o for o in self.objects.values() if o["name"].startswith("cluster")]
        self.edges = [
            (self.objects[e["tail"]]["name"], self.objects[e["head"]]["name"], e)
            for e in self.json.get("edges", ())
        ]

    @property
    def invisible(self) -> list[object]:
        """The lines that only put layers below one another."""
        return [e for _, _, e in self.edges if e.get("style") == "invis"]

    def node(self, words: str) -> str:
        """Name of the only node whose label says these words."""
        (name,) = (n for n, o in self.nodes.items() if f"<b>{words}</b>" in o["label"])
        return name

    def drawn(self, upper: str, lower: str) -> list[dict[str, str]]:
        return [e for tail, head, e in self.edges if (tail, head) == (upper, lower)]

    def inside(self, title: str) -> set[str]:
        """Names of all nodes in the clusters of that title, inner clusters included."""
        found: set[str] = set()
        for cluster in self.clusters:
            if f"<b>{title}</b>" in cluster["label"]:
                found |= {self.objects[n]["name"] for n in cluster.get("nodes", ())}
        return found


def test_scopes_are_nested_clusters() -> None:
    seen = Seen(to_dot(small_step()))
    outer, inner = seen.inside("net"), seen.inside("dense_0")
    assert inner == {seen.node("W"), seen.node("matmul"), seen.node("broadcast")}
    assert outer == inner | {seen.node("sum")}


def test_guarded_nodes_stand_in_a_dashed_cluster_named_by_the_condition() -> None:
    seen = Seen(to_dot(small_step()))
    group = seen.inside("every 4 steps: update from the central one")
    assert {seen.node("subtract"), seen.node("W ←")} == group
    group = seen.inside("every 4 steps: central update")
    assert {seen.node("mean over learners"), seen.node("multiply(0.25, ·)")} == group
    clusters = [c for c in seen.clusters if "every 4 steps" in c["label"]]
    assert len(clusters) == 2
    assert all("dashed" in cluster["style"] for cluster in clusters)


def test_a_condition_without_a_rhythm_is_quoted_from_the_source() -> None:
    b = GraphBuilder("step")
    below = b.add("less", TensorType(BOOL), (), {}, span=SPAN)
    b.add("negate", SCALAR, (), {}, guard=below)
    (cluster,) = Seen(to_dot(b.finish({}))).clusters
    assert "when if loss" in cluster["label"]


def test_what_every_learner_has_is_set_apart() -> None:
    seen = Seen(to_dot(small_step()))
    mapped = {f"n{node.id}" for node in small_step() if node.mapped}
    assert seen.inside("each learner") == mapped
    synchronisation = seen.nodes[seen.node("mean over learners")]
    assert synchronisation["shape"] == "doubleoctagon"


def test_constants_are_written_into_their_readers() -> None:
    seen = Seen(to_dot(small_step()))
    assert seen.node("train.loss = divide(·, N)")
    assert seen.node("multiply(0.25, ·)")
    boxes = [name for name in seen.nodes if not name.startswith("below")]
    assert len(boxes) == len(small_step()) - 3  # the rhythm is a heading


def test_a_constant_that_is_a_result_is_drawn() -> None:
    b = GraphBuilder("init")
    zero = b.add("constant", tensor(F32, 3), (), {"value": 0.0})
    assert Seen(to_dot(b.finish({"net.b": zero}))).node("net.b = 0")


def test_a_number_with_many_readers_is_named_instead_of_wired() -> None:
    b = GraphBuilder("step")
    step = b.add("counter", SCALAR, (), {"name": "step"})
    rate = b.add("sqrt", SCALAR, (step,))
    for _ in range(6):
        b.add("negate", SCALAR, (rate,))
    seen = Seen(to_dot(b.finish({})))
    assert seen.node("s1 = sqrt")
    assert [(tail, head) for tail, head, _ in seen.edges] == [("n0", "n1")]
    assert sum("<b>negate(s1)</b>" in o["label"] for o in seen.nodes.values()) == 6


def penalised(layers: int) -> Seen:
    """A sum of squares of each layer's parameters, as `l2(net)` makes it."""
    b = GraphBuilder("step")
    total = b.add("argument", SCALAR, (), {"name": "loss"})
    for number in range(layers):
        name = f"net.dense_{number}.W"
        w = b.add(
            "variable", tensor(F32, 3), (), {"name": name, "role": "param"},
            scope=f"net.dense_{number}",
        )  # fmt: skip
        square = b.add("multiply", tensor(F32, 3), (w, w))
        penalty = b.add("sum", SCALAR, (square,), {"axes": (0,), "keep": False})
        total = b.add("add", SCALAR, (total, penalty))
    return Seen(to_dot(b.finish({"loss": total})))


def test_a_penalty_stands_with_its_layer_and_is_wired_to_the_loss() -> None:
    seen = penalised(2)
    for number in range(2):
        held = sorted(re.findall("<b>(.*?)</b>", seen.nodes[name]["label"])[0]
                      for name in seen.inside(f"dense_{number}"))  # fmt: skip
        assert held == ["W", "multiply", "sum"]
    # In each layer W twice into its square, that into the sum, that to the loss, and the loss on.
    assert len(seen.edges) - len(seen.invisible) == 2 * (2 + 1 + 1 + 1)


def test_penalties_of_many_layers_are_named_instead_of_wired() -> None:
    seen = penalised(9)
    for number in range(1, 10):
        assert seen.node(f"s{number} = sum")
    assert seen.node("loss = add(·, s9)")


def test_phases_have_different_colours_and_a_legend_of_those_that_occur() -> None:
    seen = Seen(to_dot(small_step()))
    fills = {seen.nodes[f"n{n.id}"]["fillcolor"] for n in small_step() if f"n{n.id}" in seen.nodes}
    assert len(fills) == 5  # data, forward, backward, update, synchronisation
    words = {"data", "forward", "backward", "update", "synchronisation"}
    assert {word for word in (*words, "measure") if f"> {word} <" in seen.json["label"]} == words


def test_gradients_are_laid_out_upwards_and_assignments_lead_back_to_their_variable() -> None:
    seen = Seen(to_dot(small_step()))
    (use,) = seen.drawn(seen.node("broadcast"), seen.node("train.loss = divide(·, N)"))
    assert use["dir"] == "back"
    (back,) = seen.drawn(seen.node("W ←"), seen.node("W"))
    assert (back["style"], back["constraint"]) == ("dashed", "false")


def test_a_square_is_two_lines() -> None:
    b = GraphBuilder("g")
    x = b.add("argument", SCALAR, (), {"name": "x"})
    b.add("multiply", SCALAR, (x, x))
    assert len(Seen(to_dot(b.finish({}))).drawn("n0", "n1")) == 2


def test_a_layer_stands_above_the_one_it_flows_into() -> None:
    b = GraphBuilder("g")
    value = b.add("argument", SCALAR, (), {"name": "x"})
    for number in range(4):
        scope = f"layer_{number}"
        value = b.add("sin", SCALAR, (value,), scope=scope)
        slot = value
        for _ in range(3):  # an update chain longer than the layer is deep
            slot = b.add("negate", SCALAR, (slot,), scope=scope, phase=Phase.UPDATE)
    seen = Seen(to_dot(b.finish({})))
    heights = {name: float(o["pos"].split(",")[1]) for name, o in seen.nodes.items()}
    groups = [[heights[n] for n in seen.inside(f"layer_{i}")] for i in range(4)]
    for upper, lower in itertools.pairwise(groups):
        assert min(upper) > max(lower)


def test_the_tooltip_gives_the_place_in_the_source() -> None:
    seen = Seen(to_dot(small_step()))
    assert "my.fml:1:17" in seen.nodes[seen.node("matmul")]["tooltip"]


ODD_NAMES = [
    'quo"te', "back\\slash", "ends in \\", "<b>&amp;", "]]>", "η ŷ 中文 😀", "new\nline\t\x07\x1b",
    "\udcff", "\ufffe", "", "a" * 300, "--> }", "%d\\N\\G\\l",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_make_valid_svg_and_are_seen_as_written(name: str, tmp_path: Path) -> None:
    b = GraphBuilder(name)
    b.add(
        "variable", SCALAR, (), {"name": name}, scope=name, span=Span(Source(name, ""), 1, 1, 1, 1)
    )
    dot = to_dot(b.finish({name: 0}), title=name)
    render(dot, tmp_path / "odd.svg")
    words = "".join(ET.parse(tmp_path / "odd.svg").getroot().itertext())
    if len(name) < 40 and name.isprintable():
        assert name in words.replace("\xa0", " ")


def test_equal_graphs_give_equal_text() -> None:
    assert to_dot(small_step()) == to_dot(small_step())


def test_an_empty_graph_is_a_picture_too(tmp_path: Path) -> None:
    render(to_dot(Graph("empty", (), {})), tmp_path / "empty.svg")
    assert ET.parse(tmp_path / "empty.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize(
    ("ending", "starts"),
    [(".dot", b"digraph"), (".svg", b"<?xml"), (".png", b"\x89PNG"), (".SVG", b"<?xml")],
)
def test_the_ending_chooses_the_format(ending: str, starts: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"graph{ending}"
    render(to_dot(small_step()), path)
    assert path.read_bytes().startswith(starts)


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_without_graphviz_the_program_from_pip_draws(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    program = drawing_program("svg")
    assert program is not None
    assert Path(program).stem == "graphviz-pure"
    render(to_dot(small_step()), tmp_path / f"graph{ending}")
    assert (tmp_path / f"graph{ending}").stat().st_size > 1000


def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fml.engine.draw.render.drawing_program", lambda form: None)


def failing_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fml.engine.draw.render.drawing_program", lambda form: "/bin/false")


@pytest.mark.parametrize(
    ("name", "circumstance", "code", "remedy"),
    [
        ("graph.gif", lambda _: None, "E0730", ".svg"),
        ("graph", lambda _: None, "E0730", ".svg"),
        ("graph.svg", no_programs, "E0731", "fml-lang[pictures]"),
        ("graph.pdf", no_programs, "E0731", "apt install graphviz"),
        ("graph.png", failing_program, "E0731", "program"),
        ("missing/graph.dot", lambda _: None, "E0732", ""),
        ("missing/graph.svg", no_programs, "E0732", ""),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_reported_with_a_way_out(
    name: str,
    circumstance: Callable[[pytest.MonkeyPatch], None],
    code: str,
    remedy: str,
    *,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    circumstance(monkeypatch)
    with pytest.raises(FmlError) as caught:
        render("digraph {}", tmp_path / name)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    assert remedy in diagnostic.help
    if code == "E0731":
        assert (tmp_path / "graph.dot").read_text() == "digraph {}"


def test_the_fields_of_the_data_are_drawn_in_their_phase(tmp_path: Path) -> None:
    examples = Path(__file__).parent.parent.parent / "examples"
    program = load(examples / "softmax_regression.fml")
    program.visualize(tmp_path / "data.svg", graph="data")
    words = "".join(ET.parse(tmp_path / "data.svg").getroot().itertext())
    assert "column petal_length" in words
    assert "data" in words
    assert "forward" not in words


def test_attributes_that_are_alike_along_all_axes_are_said_once() -> None:
    b = GraphBuilder("step")
    x = b.add("argument", tensor(F32, "N", 8, 8, 3), (), {"name": "x"})
    w = b.add("argument", tensor(F32, 3, 3, 3, 4), (), {"name": "w"})
    plain = {"stride": (1, 1), "dilation": (1, 1), "groups": 1}
    y = b.add("conv", tensor(F32, "N", 8, 8, 4), (x, w), {"padding": ((1, 1), (1, 1)), **plain})
    z = b.add("conv", tensor(F32, "N", 4, 8, 4), (x, w), {
        **plain, "padding": ((0, 1), (1, 1)), "stride": (2, 1),
    })  # fmt: skip
    dot = to_dot(b.finish({"y": y, "z": z}), "step")
    assert ">padding 1<" in dot
    assert "stride (2, 1)" in dot
    assert "padding ((0, 1), (1" in dot


def test_a_rhythm_of_one_is_no_plural() -> None:
    b = GraphBuilder("step")
    every = b.add("fires", TensorType(BOOL), (), {"amount": 1.0, "unit": "steps"})
    assert "every step<" in to_dot(b.finish({"due": every}), "step")
