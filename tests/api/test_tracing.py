"""A run's timeline shows what was planned beside what was done, and changes no bit."""

import json
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fml
from tests.api.test_cli import fml as command

TEXT = """
data d = given {{ x: f32[6]; y: label[3] }}
model net(x: f32[N, 6]) -> f32[N, 3] = x |> dense(8) |> relu |> dense(3)
train {{
  z = net()
  {learners}
  stop after 30 steps
}}
"""
ALONE = """feed x, y from d.train |> shuffle |> batch(4)
  minimize loss = cross_entropy(z(x), y)
  using momentum(0.05)"""
TOGETHER = """learners 2 per device {
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    minimize loss = cross_entropy(w(x), y)
    using momentum(0.05)
  }
  use sma(learners.w, z)"""
LEARNERS = pytest.mark.parametrize("learners", [ALONE, TOGETHER], ids=["alone", "together"])
DEVICE = pytest.mark.parametrize("device", ["cpu", "numpy"])


def trained(learners: str, **arguments: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6)).astype(np.float32), rng.integers(0, 3, 40)
    data = {"d": {"train": {"x": x, "y": y}}}
    return dict(fml.loads(TEXT.format(learners=learners)).train(data=data, **arguments).variables)


def rows(path: Path, process: str) -> dict[str, list[dict[str, Any]]]:
    """What is drawn on each row of a process, in the order of time."""
    events = json.loads(path.read_text())["traceEvents"]
    named = [e for e in events if e["ph"] == "M" and "name" in e["args"]]
    (number,) = (
        e["pid"] for e in named if e["name"] == "process_name" and e["args"]["name"] == process
    )
    tracks = {
        e["tid"]: e["args"]["name"]
        for e in named
        if e["name"] == "thread_name" and e["pid"] == number
    }
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for event in sorted((e for e in events if e["ph"] == "X"), key=lambda e: e["ts"]):
        if event["pid"] == number:
            found[tracks[event["tid"]]].append(event)
    return found


def assert_one_by_one(events: Sequence[dict[str, Any]]) -> None:
    for one, after in pairwise(events):
        assert one["ts"] + one["dur"] <= after["ts"] + 1e-3


@LEARNERS
@DEVICE
def test_a_timeline_changes_no_bit(tmp_path: Path, learners: str, device: str) -> None:
    plain = trained(learners, device=device)
    traced = trained(learners, device=device, trace=tmp_path / "steps.json")
    assert plain.keys() == traced.keys()
    assert all(np.array_equal(plain[name], traced[name]) for name in plain)
    assert (tmp_path / "steps.json").exists()


@DEVICE
def test_every_task_is_planned_and_done_on_the_same_row(tmp_path: Path, device: str) -> None:
    trained(TOGETHER, device=device, trace=tmp_path / "steps.json")
    done = rows(tmp_path / "steps.json", "done: steps")
    planned = rows(tmp_path / "steps.json", "planned: steps")
    assert done.keys() == planned.keys() == {"central", "learner 0", "learner 1"}
    for name, events in done.items():
        assert [e["name"] for e in events] == [e["name"] for e in planned[name]]
        assert [e["args"]["step"] for e in events] == [e["args"]["step"] for e in planned[name]]
        assert_one_by_one(events)
        assert_one_by_one(planned[name])
    steps = {e["args"]["step"] for e in done["learner 0"]}
    assert steps == set(range(22, 30))  # the last ones
    cores = rows(tmp_path / "steps.json", "cores")
    assert sum(map(len, cores.values())) == sum(map(len, done.values()))
    for events in cores.values():
        assert_one_by_one(events)


def test_arrows_lead_from_within_what_is_waited_for(tmp_path: Path) -> None:
    trained(TOGETHER, trace=tmp_path / "steps.json")
    events = json.loads((tmp_path / "steps.json").read_text())["traceEvents"]
    slices = [e for e in events if e["ph"] == "X"]
    arrows: defaultdict[int, dict[str, dict[str, Any]]] = defaultdict(dict)
    for event in events:
        if event["ph"] in {"s", "f"}:
            arrows[event["id"]][event["ph"]] = event
    assert arrows
    for arrow in arrows.values():
        begin, end = arrow["s"], arrow["f"]
        assert begin["ts"] <= end["ts"] + 1e-3
        assert begin["tid"] != end["tid"]
        # Perfetto takes an arrow to be of the events that are under way where it begins and ends.
        on = [e for e in slices if (e["pid"], e["tid"]) == place_of(begin)]
        under_way = [e for e in on if is_within(e, begin["ts"])]
        assert any(abs(e["ts"] + e["dur"] - begin["ts"]) < 2e-3 for e in under_way)
        on = [e for e in slices if (e["pid"], e["tid"]) == place_of(end)]
        (reached,) = [e for e in on if is_within(e, end["ts"])]
        assert abs(reached["ts"] - end["ts"]) < 2e-3


def is_within(event: dict[str, Any], time: float) -> bool:
    """Whether a time lies in an event, which is without its end."""
    begin, at = round(1000 * event["ts"]), round(1000 * time)
    return begin <= at < begin + round(1000 * event["dur"])


def place_of(event: dict[str, Any]) -> tuple[int, int]:
    return event["pid"], event["tid"]


def test_one_stream_shows_what_is_given_and_kept_too(tmp_path: Path) -> None:
    trained(ALONE, trace=tmp_path / "steps.json")
    (done,) = rows(tmp_path / "steps.json", "done: steps").values()
    (planned,) = rows(tmp_path / "steps.json", "planned: steps").values()
    assert_one_by_one(done)
    names = {e["name"] for e in done}
    assert {"give d.x", "give d.y", "keep a figure"} == names - {e["name"] for e in planned}


def test_what_a_step_is_given_has_one_name_everywhere(tmp_path: Path) -> None:
    text = """
    data d = given { x: f32[6]; y: label[3] }
    model net(x: f32[N, 6]) -> f32[N, 3] = x |> dropout(0.5) |> dense(3)
    train {
      z = net()
      feed x, y from d.train |> shuffle |> batch(4)
      minimize loss = cross_entropy(z(x), y)
      using momentum(0.05 |> cosine(40 steps))
      every 1 epoch { z.dense.b <- 0.5 * z.dense.b }
      stop after 12 steps
    }"""
    program = fml.loads(text)
    rng = np.random.default_rng(0)
    data = {"d": {"train": {"x": rng.normal(size=(40, 6)), "y": rng.integers(0, 3, 40)}}}
    program.train(data=data, trace=tmp_path / "steps.json", streams=2, device="numpy")
    done = rows(tmp_path / "steps.json", "done: steps").values()
    for names in (
        {event["name"] for row in done for event in row},
        {task.name for task in program.outlook(streams=2).tasks},
        {f"give {one.name}" for one in program.profile(seconds=0.01, device="numpy").given},
    ):
        assert {name.removeprefix("give ") for name in names if name.startswith("give ")} == {
            "d.x", "d.y", "every 1 epoch", "counter of step", "key of random draws"
        }  # fmt: skip


def test_a_file_that_cannot_be_written_is_told_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d.csv").write_text("a,b\n" + "1,2\n" * 8)
    text = """
data d = csv("d.csv") { x: f32 = columns[0]; y: f32 = columns[1] }
model line(x: f32[N]) -> f32[N] {
  param w: f32 ~ zeros
  w * x
}
train {
  l = line()
  feed x, y from d.train |> batch(4)
  minimize mean((l(x) - y)^2)
  using sgd(0.1)
  stop after 3 epochs
}
"""
    (tmp_path / "line.fml").write_text(text)
    refused = command(capfd, "train", "line.fml", "--trace", "nowhere/steps.json")
    assert refused.status == 2
    assert "E0732" in refused.err
    assert "nowhere/steps.json" in refused.err
    assert not (tmp_path / "runs").exists()
    dry = command(capfd, "train", "line.fml", "--trace", "steps.json", "--dry-run")
    assert dry.status == 2
    assert "--dry-run takes no step" in dry.err
    done = command(capfd, "train", "line.fml", "--trace", "steps.json")
    assert done.status == 0
    assert "steps.json, for https://ui.perfetto.dev" in done.out
    assert rows(tmp_path / "steps.json", "planned: steps")
