"""Pictures of plans with learners: who has what, and where they wait for one another."""

from pathlib import Path

import pytest

import fml
from fml.engine.draw.sides import unrolled
from fml.engine.ir.graph import Graph
from fml.engine.passes.pipeline import readable
from tests.api.test_cli import fml as command
from tests.api.test_pictures import Seen

PLAN = """
option k = 3
data points = given {{ x: f32[8]; y: label[3] }}
model net(x: f32[N, D]) -> f32[N, 3] {{ param W: f32[D, 3] ~ zeros; x @ W }}
train {{
  z = net()
  learners {learners} {{
    w = replica(z)
    feed x, y from points.train |> shuffle |> batch(8)
    minimize loss = cross_entropy(w(x), y)
    {inside}
  }}
  {outside}
  stop after 3 epochs
}}
"""
AVERAGED = PLAN.format(
    learners="k per device",
    inside="using sgd(0.1)",
    outside="use sma(learners.w, z, tau = 4 steps, restart = step > 100)",
)


def drawn(text: str, **arguments: object) -> Seen:
    return Seen(fml.loads(text).visualize(**arguments).dot)  # pyright: ignore[reportArgumentType]


def words(seen: Seen, names: set[str]) -> list[str]:
    labels = (seen.nodes[name]["label"].partition("</b>")[0] for name in names)
    return sorted(label.removeprefix("<b>") for label in labels)


def crossing(seen: Seen) -> list[tuple[str, str]]:
    """Ends of the lines that are drawn as synchronisations."""
    lines = [(a, b) for a, b, e in seen.edges if e.get("penwidth") == "2.2"]
    return [(*words(seen, {a}), *words(seen, {b})) for a, b in lines]


def test_the_learner_is_drawn_once_beside_the_central_model() -> None:
    seen = drawn(AVERAGED)
    learner, central = seen.inside("learners × 3"), seen.inside("central")
    assert learner & central == set()
    assert "points.train x" in words(seen, learner)
    assert words(seen, seen.inside("w") & learner).count("W") == 1
    assert words(seen, seen.inside("z") & central).count("W") == 1
    assert "sum over learners" in words(seen, central)


def test_an_option_changes_the_count() -> None:
    assert drawn(AVERAGED, k=5).inside("learners × 5")


def test_conditions_say_what_is_done_for_the_others() -> None:
    seen = drawn(AVERAGED)
    assert words(seen, seen.inside("every 4 steps: correction")) == [
        "W ←", "multiply", "subtract", "subtract",
    ]  # fmt: skip
    assert "sum over learners" in words(seen, seen.inside("every 4 steps: central update"))
    (copy,) = (c for c in seen.clusters if "copy back" in c["label"])
    assert "&gt; 100: copy back" in copy["label"] or "sma(" in copy["label"]


def test_what_learners_wait_for_is_drawn_apart() -> None:
    found = crossing(drawn(AVERAGED))
    # z into the correction, the correction into the sum, the new z into the copy; nothing else.
    assert sorted(found) == [("W", "subtract"), ("W ←", "W ←"), ("multiply", "sum over learners")]


def test_a_schedule_is_known_to_all_and_waited_for_by_nobody() -> None:
    rate = "using sgd(0.1 |> warmup(5 steps))"
    seen = drawn(PLAN.format(learners="2 per device", inside=rate, outside=""))
    assert crossing(seen) == []
    framed = seen.inside("learners × 2") | seen.inside("central")
    assert seen.node("counter step") not in framed


def test_a_push_looks_like_what_it_is() -> None:
    text = PLAN.format(
        learners="2 per device, staleness = 3",
        inside="z <- z - 0.1 * grad(loss, w)\n    w <- z",
        outside="",
    )
    seen = drawn(text)
    push = seen.node("push W ←")
    assert push in seen.inside("learners × 2, staleness 3")
    assert seen.nodes[push]["shape"] == "doubleoctagon"
    (variable,) = seen.inside("central")
    (back,) = seen.drawn(push, variable)
    assert back["style"] == "dashed"


def test_a_restart_that_never_comes_is_not_drawn() -> None:
    never = AVERAGED.replace(", restart = step > 100", "")
    assert not [c for c in drawn(never).clusters if "copy back" in c["label"]]


def test_only_the_last_assignment_leads_back() -> None:
    seen = drawn(AVERAGED)
    back = [(a, b) for a, b, e in seen.edges if e.get("style") == "dashed"]
    assert len(back) == len({b for _, b in back})


def test_unrolled_learners_are_all_there() -> None:
    seen = drawn(AVERAGED, unroll=True)
    learners = [seen.inside(f"learner {number}") for number in range(3)]
    alone = [[w.replace(f"[{k}]", "") for w in words(seen, x)] for k, x in enumerate(learners)]
    assert alone[0] == alone[1] == alone[2]
    assert not set.intersection(*learners)
    reduction = seen.node("sum over learners")
    sources = {a for a, b, _ in seen.edges if b == reduction}
    assert [len(sources & learner) for learner in learners] == [1, 1, 1]


def step(outside: str) -> Graph:
    text = PLAN.format(learners="3 per device", inside="using sgd(0.1)", outside=outside)
    return readable(fml.loads(text).lower().step)


def test_a_shift_reads_the_learner_before_round_a_ring() -> None:
    outside = "every 2 steps { learners.w <- roll(learners.w, 1, over = learners) }"
    graph, learner_of = unrolled(step(outside), 3)
    pairs = {
        (learner_of[node.inputs[0]], learner_of[node.id]) for node in graph.of_op("learners_roll")
    }
    assert pairs == {("learner 2", "learner 0"), ("learner 0", "learner 1"),
                     ("learner 1", "learner 2")}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AVERAGED.replace("k per", "auto per"), "found out by a run"),
        (
            "train { state k: f32 ~ zeros\n k <- k + 1\n stop after 3 steps }",
            "the plan has no learners",
        ),
    ],
)
def test_learners_that_cannot_be_counted_are_not_unrolled(text: str, message: str) -> None:
    with pytest.raises(fml.FmlError) as caught:
        fml.loads(text).visualize(unroll=True)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0735"
    assert message in diagnostic.message
    assert [mark.span.text[:8] for mark in diagnostic.marks] == ["learners"] * ("learners" in text)


def test_the_command_unrolls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("averaged.fml").write_text(AVERAGED)
    ran = command(capfd, "visualize", "averaged.fml", "k=2", "--unroll", "-o", "all.dot")
    assert (ran.status, ran.out) == (0, "wrote all.dot\n")
    text = Path("all.dot").read_text()
    assert "learner 1" in text
    assert "learner 2" not in text
