"""Pictures of deep networks: what is drawn as one box, and that nothing gets lost."""

import re
from pathlib import Path

import pytest

import fml
from fml.engine.draw.dot import to_dot
from fml.engine.draw.fold import fold
from fml.engine.draw.label import Captions
from fml.engine.ir.graph import Graph
from fml.engine.passes.pipeline import readable
from tests.api.test_cli import fml as command
from tests.api.test_pictures import Seen

DEEP = """
data d = given { x: f32[8]; y: label[3] }
layer block(units: dim)(x: f32[N, D]) -> f32[N, units] = x |> dense(units) |> relu
model deep(x: f32[N, D]) -> f32[N, 3] = x |> repeat(30, block(8)) |> dense(3)
train {
  net = deep()
  feed x, y from d.train |> shuffle |> batch(4)
  minimize loss = cross_entropy(net(x), y) + 1e-4 * l2(net)
  using adam(0.001)
  stop after 1 epoch
}
"""
SMALL = DEEP.replace("repeat(30, block(8)) |> ", "")


def step(text: str) -> Graph:
    return readable(fml.loads(text).lower().step)


def labels(dot: str) -> list[str]:
    return re.findall(r"label=<<b>(.*?)</b>", dot)


@pytest.mark.parametrize("depth", [None, 1, 2, 3, 99])
def test_every_operation_is_in_the_picture_once(depth: int | None) -> None:
    graph = step(DEEP)
    captions = Captions.of(graph)
    shown = [node for node in graph if captions.is_drawn(node)]
    folding = fold(captions, shown, depth)
    held = [number for box in folding.boxes.values() for number in box.members]
    assert len(held) == len(set(held))
    alone = [node.id for node in shown if folding.is_drawn(node)]
    alone = [number for number in alone if number not in folding.boxes]
    assert sorted([*held, *alone]) == [node.id for node in shown]


def test_a_deep_network_fits_a_page_with_its_layers_counted() -> None:
    dot = to_dot(step(DEEP))
    seen = Seen(dot)
    assert len(seen.nodes) < 100
    # The first block reads the data, whose gradient nobody wants: it is not like the others.
    assert "block_1 … block_29" in labels(dot)
    box = seen.nodes[seen.node("block_1 … block_29")]["label"]
    assert "29 layers alike, each with" in box
    assert f"{8 * 8 + 8} parameters" in box
    assert "f32[N, 8]" in box
    # 62 penalties, those of a W and a b in each of 31 layers; the first two meet in `block_0`.
    assert "60 times in a chain" in dot
    width, height = (float(n) / 72 for n in seen.json["bb"].split(",")[2:])
    assert width < 20
    assert height < 20


def test_boxes_are_wired_as_their_layers_are() -> None:
    seen = Seen(to_dot(step(DEEP)))
    first, others, last = map(seen.node, ("block_0", "block_1 … block_29", "dense"))
    forward = [e for e in seen.drawn(first, others) if "dir" not in e]
    backward = [e for e in seen.drawn(first, others) if e.get("dir") == "back"]
    assert forward
    assert backward
    assert seen.drawn(others, last)
    assert not seen.drawn(first, last)
    assert not [pair for *pair, _ in seen.edges if pair[0] == pair[1]]


@pytest.mark.parametrize(("depth", "present", "absent"), [(1, "net", "dense"), (2, "dense", "W")])
def test_a_depth_is_how_many_names_of_a_path_are_drawn(
    depth: int, present: str, absent: str
) -> None:
    names = labels(to_dot(step(SMALL), depth=depth))
    assert present in names
    assert absent not in names


def test_a_small_graph_is_drawn_whole() -> None:
    graph = step(SMALL)
    assert to_dot(graph) == to_dot(graph, depth=99)
    assert "W" in labels(to_dot(graph))


def test_where_learners_wait_is_seen_at_any_depth() -> None:
    program = fml.load(Path(__file__).parents[2] / "examples" / "lenet_crossbow.fml")
    for depth in (1, 2, None):
        dot = program.visualize(max_depth=depth).dot
        assert "doubleoctagon" in dot
        assert "sum over learners" in labels(dot)


def test_the_command_takes_a_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("deep.fml").write_text("option plan = 3\n" + DEEP)
    # An option may be called as an argument of Python is.
    ran = command(capfd, "visualize", "deep.fml", "plan=4", "--depth", "1", "-o", "one.dot")
    assert (ran.status, ran.out) == (0, "wrote one.dot\n")
    assert "net" in labels(Path("one.dot").read_text())
    assert command(capfd, "visualize", "deep.fml", "--depth", "0").status == 2
    assert command(capfd, "summary", "deep.fml", "plan=4").status == 0
