"""What `fml profile` says: sums that add up, layers, formulae, a timeline, and nothing changed."""

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fml
from fml.cli import main
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.graph import Phase
from fml.engine.ir.types import F32, Element
from fml.engine.profile import machine
from fml.engine.profile.measure import of_trainer
from fml.engine.profile.profile import Profile
from fml.engine.runtime.trainer import Trainer
from fml.engine.sources.bind import bind
from fml.training import BACKENDS, read_data
from tests.api.programs import CLASSIFIER, LINE, line_csv, points

LENET = """
data images = given { x: f32[28, 28, 1]; y: label[10] }
layer block(C: dim)(x: f32[N, H, W, Cin]) -> f32[N, H/2, W/2, C] =
  x |> conv(C, 5) |> relu |> max_pool(2)
model lenet(K: dim)(x: f32[N, 28, 28, 1]) -> f32[N, K] =
  x |> block(32) |> block(64) |> flatten |> dense(512) |> relu |> dropout(0.4) |> dense(K)
train small {
  net = lenet(10)
  feed x, y from images.train |> shuffle |> batch(4)
  logits = net(x)
  minimize loss = cross_entropy(logits, y)
  using momentum(0.01, beta = 0.9)
  measure accuracy(logits, y) on images.valid
  stop after 1 epoch
}
"""
LAYERS = {
    "net.block_0.conv",
    "net.block_0",
    "net.block_1.conv",
    "net.block_1",
    "net.dense_0",
    "net.dropout",
    "net.dense_1",
}
SECONDS = 0.05
MACHINE = machine.Machine(
    {F32: 1e11, Element.F64: 5e10}, {1 << 18: 1e11, 1 << 22: 4e10, 1 << 26: 1e10}, "nothing"
)


@cache
def lenet(device: str) -> Profile:
    return fml.loads(LENET).profile(device=device, seconds=SECONDS)


def classifier(device: str) -> tuple[Trainer, Any]:
    program = fml.loads(CLASSIFIER)
    training, backend = program.lower(), BACKENDS[device]()
    data = read_data(program, training, {"points": {"train": points(48)}})
    return Trainer(*bind(training, data), backend, 0), backend


# --- sums and attribution ------------------------------------------------------------------------


@pytest.mark.parametrize("device", BACKENDS)
def test_parts_add_up_to_their_tasks_and_rows_to_the_step(device: str) -> None:
    profile = lenet(device)
    for task in profile.tasks:
        assert sum(part.share for part in task.parts) == pytest.approx(1)
        assert sum(part.flops for part in task.parts) == task.flops
        assert sum(part.nbytes for part in task.parts) == pytest.approx(task.nbytes)
    for rows in (profile.layers, profile.operations, profile.phases):
        costs = list(rows.values())
        assert sum(cost.seconds for cost in costs) == pytest.approx(profile.kernels)
        assert sum(cost.flops for cost in costs) == profile.total.flops
        assert sum(cost.nbytes for cost in costs) == pytest.approx(profile.total.nbytes)
    given = sum(given.seconds for given in profile.given)
    parts = profile.kernels + given + profile.figures + profile.between + profile.python
    assert profile.seconds == pytest.approx(parts)
    assert profile.kernels > 0


@pytest.mark.parametrize("device", BACKENDS)
def test_layers_of_lenet(device: str) -> None:
    layers = lenet(device).layers
    assert layers.keys() >= LAYERS
    # What the optimizer does to a layer's parameters is that layer's.
    for name in ("net.block_0.conv", "net.block_1.conv", "net.dense_0", "net.dense_1"):
        assert set(layers[name].phases) >= {Phase.FORWARD, Phase.BACKWARD, Phase.UPDATE}
    assert Phase.UPDATE not in layers["net.dropout"].phases


@pytest.mark.parametrize("device", BACKENDS)
def test_flops_are_those_of_the_formulae(device: str) -> None:
    operations, batch = lenet(device).operations, 4
    # A multiply-add for each place, channel, unit and tap; padding is counted as if it were there.
    first, second = 28 * 28 * 5 * 5 * 1 * 32, 14 * 14 * 5 * 5 * 32 * 64
    assert operations["conv"].flops == 2 * batch * (first + second)
    assert operations["conv_weight_gradient"].flops == 2 * batch * (first + second)
    assert operations["conv_input_gradient"].flops == 2 * batch * second
    products = 3136 * 512 + 512 * 10
    # Of few samples, the first layer's product is made in parts.
    made = operations["matmul"].flops + operations["partial_matmul"].flops
    assert made == 3 * 2 * batch * products
    assert operations["partial_matmul"].flops == 2 * batch * 3136 * 512


def test_bytes_are_those_of_the_regions() -> None:
    product = next(t for t in lenet("numpy").tasks if "forward partial_matmul" in t.name)
    assert product.nbytes == 4 * (4 * 3136 + 3136 * 512 + 2 * 4 * 512)


def test_a_task_that_is_left_out_now_and_then_has_no_rate() -> None:
    text = CLASSIFIER.replace(
        "sgd(lr)", "sgd(lr)\n  every 2 steps { m.dense_0.W <- 0.5 * m.dense_0.W }"
    )
    data = {"points": {"train": points(48)}}
    profile = fml.loads(text).profile(data=data, seconds=SECONDS)
    left_out = [task for task in profile.tasks if task.is_conditional]
    assert left_out
    assert all(task.flops == task.nbytes == 0 for task in left_out)
    assert profile.total.flops == sum(task.flops for task in profile.tasks)
    assert "not always" in profile.text(80, len(profile.tasks))


# --- the roofline --------------------------------------------------------------------------------


def test_bandwidth_lies_between_those_of_the_nearest_copies() -> None:
    assert MACHINE.bandwidth(100) == pytest.approx(1e11)
    assert MACHINE.bandwidth(1 << 22) == pytest.approx(4e10)
    assert 1e10 < MACHINE.bandwidth(1 << 24) < 4e10
    assert MACHINE.bandwidth(1 << 30) == pytest.approx(1e10)


@pytest.mark.parametrize("device", BACKENDS)
def test_a_machine_adds_faster_in_registers_than_it_reads_memory(device: str) -> None:
    found = machine.measured(BACKENDS[device]())
    assert found.flops.keys() == {F32, Element.F64}
    assert all(rate > 1e8 for rate in (*found.flops.values(), *found.copies.values()))


def test_a_convolution_is_bound_by_arithmetic_and_an_activation_by_memory() -> None:
    rows = lenet("numpy").operations
    assert rows["conv"].is_compute_bound
    assert not rows["max_pool"].is_compute_bound
    assert not rows["assign"].is_compute_bound


# --- nothing is changed --------------------------------------------------------------------------


@pytest.mark.parametrize("device", BACKENDS)
def test_a_run_that_was_profiled_goes_on_to_the_same_bits(device: str) -> None:
    (profiled, backend), (plain, _) = classifier(device), classifier(device)
    before = profiled.store.snapshot()
    of_trainer(profiled, backend, MACHINE, 0.0, SECONDS)
    for name, value in before.items():
        np.testing.assert_array_equal(value, profiled.store[name])
    found, expected = profiled.run(), plain.run()
    assert found.figures == expected.figures
    for name, value in expected.variables.items():
        np.testing.assert_array_equal(value, found.variables[name])


def test_a_plan_that_diverges_is_profiled() -> None:
    data = {"points": {"train": points(48)}}
    profile = fml.loads(CLASSIFIER).profile(data=data, seconds=SECONDS, lr="10")
    assert profile.kernels > 0


# --- how it is written ---------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_lines_fit_the_terminal(width: int) -> None:
    text = lenet("cpu").text(width, top=8)
    assert max(map(len, text.splitlines())) <= width
    for said in ("net.block_1.conv", "conv_weight_gradient", "GFLOP/s", "GB/s", "images.valid"):
        assert said in text
    assert f"and {len(lenet('cpu').tasks) - 8} more" in text


def test_what_beats_a_peak_is_not_said_to_be_more_than_all_of_it() -> None:
    slow = replace(lenet("cpu").machine, flops={F32: 1e6, Element.F64: 1e6})
    text = replace(lenet("cpu"), machine=slow).text(120)
    assert "100%+ arithmetic" in text
    assert not re.search(r"[1-9]\d\d+% ", text.replace("100% ", ""))


@cache
def deep() -> Profile:
    """The network with convolutions one layer deeper, whose names are longer."""
    cell = "layer cell(C: dim)(x: f32[N, H, W, D]) -> f32[N, H, W, C] = x |> conv(C, 5)\n"
    text = LENET.replace("x |> conv(C, 5)", "x |> cell(C)")
    return fml.loads(text.replace("layer block", f"{cell}layer block")).profile(seconds=SECONDS)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_gets_whole_numbers_and_names_broken_behind_dots(width: int) -> None:
    text = deep().text(width, top=40)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    broken = [line.split()[0] for line in text.splitlines() if line.startswith(" net.block_1")]
    assert len(broken) > 2
    names = {"net.block_1", "net.block_1.cell", "net.block_1.cell.conv"}
    assert {name.rstrip(":") for name in broken if not name.endswith(".")} <= names


def test_a_file_gets_whole_names_and_no_blanks_at_the_end_of_lines() -> None:
    lines = lenet("cpu").text(None, top=40).splitlines()
    assert all(line == line.rstrip() for line in lines)
    for task in lenet("cpu").tasks:
        assert any(task.name in line for line in lines)
    (core,) = [line for line in lines if line.startswith("core:")]
    assert "MiB" in core


def test_printing_it_is_the_text_of_80_letters() -> None:
    assert repr(lenet("cpu")) == lenet("cpu").text(80)


def test_it_says_where_numpy_computes_and_where_data_are_made_up() -> None:
    notes = "\n".join(lenet("numpy").notes)
    assert "everything runs in numpy" in notes
    assert "`images` are made up (256 of train" in notes
    assert "numpy" not in "\n".join(lenet("cpu").notes)


@pytest.mark.parametrize("element", ["f16", "bf16"])
def test_no_task_of_sixteen_bits_runs_in_numpy(element: str) -> None:
    narrow = CLASSIFIER.replace("f32", element)
    found = fml.loads(narrow).profile(data={"points": {"train": points(48)}}, seconds=SECONDS)
    assert all(task.is_native for task in found.tasks)
    assert found.notes == ()


def test_measures_are_a_line_each() -> None:
    measures = {measure.name: measure for measure in lenet("cpu").measures}
    assert list(measures) == list(dict.fromkeys(m.name for m in lenet("cpu").measures))
    valid = measures["images.valid"]
    assert (valid.samples, valid.of) == (256, 64 * 4)
    assert "valid.accuracy" in valid.series


# --- the timeline --------------------------------------------------------------------------------


@pytest.mark.parametrize("device", BACKENDS)
def test_a_trace_has_what_perfetto_needs(device: str) -> None:
    profile = lenet(device)
    trace = json.loads(json.dumps(profile.trace()))
    assert trace["displayTimeUnit"] in {"ms", "ns"}
    events = trace["traceEvents"]
    for event in events:
        assert {"name", "ph", "ts", "pid", "tid", "args"} <= event.keys()
        assert event["ph"] in {"X", "M"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
    complete = [event for event in events if event["ph"] == "X"]
    assert all(event["ts"] >= 0 and event["dur"] >= 0 and event["cat"] for event in complete)
    named = {e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert {event["tid"] for event in complete} <= named
    for track in named:
        assert_nested([event for event in complete if event["tid"] == track])
    steps = [event for event in complete if event["cat"] == "step"]
    assert len(steps) == 5
    tasks = [event for event in complete if "nodes" in event["args"]]
    assert [e["name"] for e in tasks] == [task.name for task in profile.tasks] * len(steps)
    for event, task in zip(tasks, profile.tasks * len(steps), strict=True):
        assert event["args"]["nodes"] == [*task.nodes]
        assert (event["args"]["flops"], event["args"]["bytes"]) == (task.flops, task.nbytes)


def assert_nested(events: list[dict[str, Any]]) -> None:
    """Events of a track lie inside each other or apart, in whole nanoseconds."""
    open_until: list[int] = []
    begin_first = sorted(events, key=lambda e: (e["ts"], -e["dur"]))
    for event in begin_first:
        begin = round(event["ts"] * 1000)
        end = begin + round(event["dur"] * 1000)
        while open_until and open_until[-1] <= begin:
            open_until.pop()
        assert not open_until or end <= open_until[-1], event["name"]
        open_until.append(end)


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(line_csv())
    Path("line.fml").write_text(LINE)
    return Path("line.fml")


def test_the_command_writes_json_and_a_trace(
    line: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["profile", str(line), "--seconds", "0.02", "--json", "--trace", "t.json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["device"] == "cpu"
    assert found["notes"] == []
    layers = found["layers"].values()
    assert sum(row["seconds"] for row in layers) == pytest.approx(found["kernels"])
    assert json.loads(Path("t.json").read_text())["traceEvents"]
    assert not Path("runs").exists()


def test_the_command_prints_tables(line: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(line), "--seconds", "0.02", "--top", "1", "--device", "numpy"]) == 0
    printed = capsys.readouterr().out
    assert "everything runs in numpy" in printed
    assert "line.x" in printed
    assert all(line == line.rstrip() for line in printed.splitlines())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "gpu"], "E0740"),
        (["speed=1"], "E0405"),
        (["--plan", "no"], "E0602"),
        (["--seconds", "0"], "--seconds"),
        (["--top", "0"], "--top"),
        (["--seconds", "3600", "--trace", "no/t.json"], "E0732"),  # and at once
    ],
)
def test_bad_input_is_told(
    line: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", str(line), *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("device", ["cpu", "numpy"])
@pytest.mark.parametrize("strategy", ["sma()", "sync_sgd()"])
def test_of_learners_the_costs_are_those_of_all(device: str, strategy: str, tmp_path: Path) -> None:
    one, two = (
        fml.loads(
            CLASSIFIER.replace(
                "  stop after", f"  learners {count} per device by {strategy}\n  stop after"
            )
        ).profile(device=device, seconds=0.02)
        for count in (1, 2)
    )
    assert {task.instances for task in two.tasks} == {1, 2}
    assert {task.instances for task in one.tasks} == {1}
    assert two.samples == 2 * one.samples
    forward = [p.phases[Phase.FORWARD] for p in (one, two)]
    assert forward[1].flops == pytest.approx(2 * forward[0].flops, rel=0.02)
    assert sum(task.seconds for task in two.tasks) == pytest.approx(two.kernels)
    assert any("each of 2 learners" in note for note in two.notes)
    names = {e["name"] for e in two.trace()["traceEvents"]}
    assert any(name.startswith("learner 0: ") for name in names)
    assert any(name.startswith("learner 1: ") for name in names)


def test_odd_arguments_are_refused() -> None:
    with pytest.raises(FmlError, match="E0744"):
        fml.loads(CLASSIFIER).profile(seconds=0)
