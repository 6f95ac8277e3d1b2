"""Where a plan is trained: what the file says, and what goes before it."""

from pathlib import Path

import pytest

import fml
from fml.engine.ir.diagnostics import FmlError
from fml.training import device_of
from tests.api.programs import LINE, line_csv
from tests.api.test_cli import fml as command

TEXT = """
data d = given {{
  x: f32[3]
  y: f32
}}
model line(x: f32[N, D]) -> f32[N] {{
  param w: f32[D] ~ zeros
  x @ w
}}
train {{
  z = line()
  learners 2 per device {on} {{
    w = replica(z)
    feed x, y from d.train |> shuffle |> batch(4)
    minimize loss = mse(w(x), y)
    using sgd(0.1)
  }}
  use sma(learners.w, z)
  stop after 2 epochs
}}"""


def chosen(on: str, asked: str | None = None) -> str:
    return device_of(fml.loads(TEXT.format(on=on)).lower(), asked)


def test_the_file_says_where() -> None:
    assert chosen("") == chosen("on cpu") == "cpu"


def test_a_device_that_is_asked_for_goes_before_the_file_s() -> None:
    assert chosen("on gpu[*]", "cpu") == "cpu"
    assert chosen("on cpu", "numpy") == "numpy"


@pytest.mark.parametrize("on", ["on gpu[*]", "on gpu[0]"])
def test_without_a_gpu_the_ways_out_are_named(on: str) -> None:
    with pytest.raises(FmlError, match="E0740") as caught:
        fml.loads(TEXT.format(on=on)).train()
    (diagnostic,) = caught.value.diagnostics
    assert on.removeprefix("on ") in diagnostic.message
    assert diagnostic.marks
    for way in ("leave `on` out", "`on cpu`", "`--device cpu`"):
        assert way in diagnostic.help


@pytest.mark.parametrize(
    ("on", "way"),
    [
        ("tpu", "there are `cpu`, and of GPUs `gpu[*]`"),
        ("cuda[0]", "every GPU is `gpu[*]`"),
        ("2", "there are `cpu`"),
        ("cpu[1]", "`fml train --devices 2`"),
        ("cpu[*]", "write `on cpu`"),
    ],
)
def test_a_device_that_there_is_not_is_told_before_anything_runs(on: str, way: str) -> None:
    with pytest.raises(FmlError, match="E0613") as caught:
        fml.loads(TEXT.format(on=f"on {on}"))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.marks[0].span.text == on
    assert way in diagnostic.help


@pytest.mark.parametrize(
    "wrong", [{"devices": 0}, {"devices": True}, {"devices": 1.5}, {"on_fault": "ignore"}]
)
def test_arguments_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(FmlError, match="E0744.*" + next(iter(wrong))):
        fml.loads(TEXT.format(on="")).train(**wrong)


def test_what_is_for_learners_is_refused_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("line.csv").write_text(line_csv(16))
    Path("line.fml").write_text(LINE)
    way = "learners 2 per device by sma()"
    for option in ("--devices 2", "--on-fault restart"):
        ran = command(capfd, "train", "line.fml", *option.split())
        assert ran.status == 2
        assert "error[E0746]" in ran.err
        assert f"leave `{option}`" in ran.err
        assert way in ran.err
    for asked in (("train", "--dry-run"), ("plan",)):
        assert "E0746" in command(capfd, asked[0], "line.fml", "--devices", "2", *asked[1:]).err
    assert not Path("runs").exists()
    # The way out, taken.
    text = LINE.replace("line.train", "line.train |> batch(4)").replace(
        "400 epochs", f"1 epoch\n{way}"
    )
    Path("line.fml").write_text(text)
    ran = command(capfd, "train", "line.fml", "--devices", "2", "--on-fault", "restart", "-q")
    assert (ran.status, ran.err) == (0, "")


def test_the_sample_for_gpus_trains_elsewhere() -> None:
    program = fml.load(Path(__file__).parent.parent.parent / "examples" / "resnet.fml")
    training = program.lower()
    with pytest.raises(FmlError, match="E0740"):
        device_of(training, None)
    assert device_of(training, "cpu") == "cpu"
