"""What `fml plan` says, before anything runs."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import fml
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Graph, Node
from fml.engine.ir.types import F32, tensor
from fml.engine.plan.task import Plan, Region, Space, Streams, Task, Wait, Work
from fml.engine.profile.outlook import outlook
from fml.engine.profile.outlook_report import text
from fml.engine.runtime.dry_run import DryRun
from fml.engine.runtime.footprint import Footprint
from tests.api.programs import CLASSIFIER, points
from tests.api.test_cli import fml as command

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.fml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_told_within_a_hundred_columns(path: Path) -> None:
    program = fml.load(path)
    for plan in program.plans:
        found = program.outlook(plan or None)
        lines = str(found).splitlines()
        assert max(map(len, lines)) <= 100
        # A table of tasks, one of the chain, one of memory; and what was not read.
        assert len(lines) < 140
        assert 0 < found.path.cost <= found.seconds * (1 + 1e-9)


def test_all_tasks_are_shown_and_counted() -> None:
    found = fml.load(EXAMPLES[0].with_name("resnet_fashion.fml")).outlook()
    count = len(found.plan.tasks)
    assert count > 100
    shown = text(found, 100)
    assert f"{count} tasks" in shown
    assert "`--all` shows every task" in shown
    numbers = [
        line.split()[0] for line in text(found, 100, every=True).splitlines() if line.strip()
    ]
    assert [n for n in numbers if n.isdigit()] == [str(n) for n in range(count)]
    grouped = [line.split()[0] for line in shown.splitlines() if line[1:2].isdigit()]
    ends = [(int(n.split("-")[0]), int(n.split("-")[-1])) for n in grouped]
    assert ends[0][0] == 0
    assert all(a[1] + 1 == b[0] for a, b in pairwise(ends))
    assert ends[-1][1] == count - 1


def test_the_bytes_are_those_of_the_dry_run() -> None:
    program = fml.loads(CLASSIFIER)
    found = program.outlook(width=64)
    dry: DryRun = program.dry_run(width=64)
    assert found.dry == dry
    assert outlook(dry).path == found.path
    room = found.room(Space.VARIABLES)
    assert room.per_learner == 0
    # Places are aligned; the variables of a step lie in those of the run.
    assert 0 < room.central <= dry.footprint.variables
    assert 0 < found.room(Space.ARENA).central <= found.plan.arena


def test_the_chain_runs_through_the_layers_and_back() -> None:
    found = fml.loads(CLASSIFIER).outlook()
    names = [found.tasks[link.task].name for link in found.path.links]
    assert any("forward" in name for name in names)
    assert any("backward" in name for name in names)


def test_the_command_writes_tables_or_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.fml").write_text(CLASSIFIER)
    tables = command(capfd, "plan", "net.fml", "width=9")
    assert (tables.status, tables.err) == (0, "")
    for words in ("a step", "estimate", "longest chain", "the run"):
        assert words in tables.out
    lines = command(capfd, "plan", "net.fml", "width=9", "--format", "text").out.splitlines()
    assert lines[0].startswith('plan "step"')
    count = int(lines[0].split('": ')[1].split()[0])
    assert sum(line.split(":")[0].isdigit() for line in lines) == count
    assert command(capfd, "plan", "net.fml", "--plan", "nowhere").status == 2
    assert [*Path().iterdir()] == [Path("net.fml")]  # nothing runs, and nothing is kept


def test_streams_that_are_asked_for_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wide layers are worth it; a program with them gives the same result on several."""
    monkeypatch.chdir(tmp_path)
    Path("net.fml").write_text(CLASSIFIER)
    shown = command(capfd, "plan", "net.fml", "width=4096", "--streams", "2").out
    assert "on 2 streams" in shown
    assert "stream 1" in shown
    assert "on 1 stream" in command(capfd, "plan", "net.fml", "width=4096").out
    assert command(capfd, "plan", "net.fml", "--streams", "0").status == 2
    program = fml.loads(CLASSIFIER)
    data = {"points": {"train": points()}}
    one, several = (program.train(data=data, streams=n, width=64) for n in (1, 3))
    for name, value in one.variables.items():
        np.testing.assert_array_equal(several.variables[name], value, err_msg=name)


def test_the_cpu_may_be_several_devices(capfd: pytest.CaptureFixture[str]) -> None:
    path = EXAMPLES[0].with_name("iris_learners.fml")
    program = fml.load(path)
    found = program.outlook(devices=2, k=3)
    assert str(found.dry) == str(program.dry_run(devices=2, k=3))
    assert found.plan.streams.learners == 6
    shown = command(capfd, "plan", str(path), "--devices", "2", "k=3").out
    assert "for each of 6 learners" in shown
    assert "device 1" in shown
    assert "for each of 1 learner," in command(capfd, "plan", str(path), "k=1").out
    with pytest.raises(FmlError, match="E0744"):
        program.outlook(devices=0)


def test_learners_are_told_apart_from_what_is_central() -> None:
    own, stacked = Region(Space.ARENA, 0, 64, 64), Region(Space.ARENA, 0, 192)
    mean, w = Region(Space.ARENA, 192, 64), Region(Space.VARIABLES, 0, 64, 64)
    nodes = [Node(0, "variable", tensor(F32, 16), (), {"name": "w"}, "w", mapped=True)]
    nodes += [Node(n, "negate", tensor(F32, 16), (n - 1,), mapped=n == 1) for n in (1, 2)]
    tasks = (
        Task(1, 0, (w,), (own,), work=Work((1,), (0,), (1,)), mapped=True,
             waits=(Wait(0, 2, all_learners=True),)),
        Task(2, 0, (stacked,), (mean,), work=Work((2,), (1,), (2,)),
             waits=(Wait(0),)),
    )  # fmt: skip
    graph = Graph("step", nodes, {"z": 2})
    plan = Plan(graph, tasks, {}, {}, {"z": mean}, 256, 256, Streams(learners=3), staleness=1)
    dry = DryRun("averaged", plan, 0, Footprint(192, 0, 256, 0, 0, 0), 2)
    found = outlook(dry)
    assert [link.task for link in found.path.links] == [0, 1]
    room = found.room(Space.ARENA)
    # The stack is what the learners have together; the central task reads it and has its own.
    assert (room.central, room.per_learner) == (256, 64)
    shown = text(found, 100)
    assert "a step of averaged: 2 tasks, 1 of them for each of 3 learners, on 4 streams" in shown
    assert "at most 1 step apart" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "learner" in rows["0"]
    assert "0 all -2" in rows["0"]
    assert "central" in rows["1"]
    assert "0 all" in rows["1"]
