"""The command line: exit statuses, what goes to which stream, and never a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fml import cli

MODEL = """\
option lr = 0.5 in 0.001 .. 10   ## learning rate
option width = 4                 ## hidden units
data points = given { x: f32[2]; y: label[3] }
model net(x: f32[N, D]) -> f32[N, 3] = x |> dense(width) |> relu |> dense(3)
train main {
  m = net()
  feed x, y from points.train |> shuffle |> batch(8)
  minimize loss = cross_entropy(m(x), y)
  using sgd(lr)
  stop after 2 epochs
}
"""
BROKEN = MODEL.replace("dense(3)", "dence(3)")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.fml"
    path.write_text(MODEL)
    return path


class Ran:
    """What a call of the command left behind."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


def fml(capfd: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Run the command in this process."""
    status = cli.main(arguments)
    out, err = capfd.readouterr()
    return Ran(status, out, err)


def process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as people do."""
    return subprocess.run(
        [sys.executable, "-m", "fml", *arguments],
        capture_output=True, text=True, check=False, timeout=60, encoding="utf-8",
        env={**os.environ, **environment},
    )  # fmt: skip


HEAVY = {"numpy", "networkx", "lark", "rich", "safetensors", "fml.dsl.program"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["trian"]])
def test_answers_that_need_no_file_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from fml.cli import main; main({arguments!r});"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert not HEAVY & set(done.stderr.split())


def test_import_fml_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, fml; print(*sys.modules)"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert not HEAVY & set(done.stdout.split())


def test_help_lists_every_command_with_what_it_does(capfd: pytest.CaptureFixture[str]) -> None:
    ran = fml(capfd, "--help")
    assert ran.status == 0
    for name, words in cli.COMMANDS.items():
        assert f"  {name} " in ran.out
        assert words in ran.out


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    ran = fml(capfd, name, "--help")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: fml {name}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "did you mean `train`?"),
        (["model.fml"], "did you mean `fml train model.fml`?"),
        (["check"], "Missing argument"),
        (["check", "absent.fml"], "`absent.fml` does not exist"),
        (["check", "modle.fml"], "did you mean `model.fml`?"),
        (["check", "."], "is a folder"),
        (["summary", "model.fml", "lr"], "write `name=value`"),
        (["summary", "model.fml", "=3"], "write `name=value`"),
        (["summary", "model.fml", "lr=1", "lr=2"], "`lr` is set twice"),
        (["summary", "model.fml", "rl=1"], "there is no option `rl`"),
        (["summary", "model.fml", "lr=100"], "0.001 .. 10"),
        (["summary", "model.fml", "lr=)"], "takes a number in 0.001 .. 10, found `)`"),
        (["summary", "model.fml", "--plan", "mian"], "did you mean `main`?"),
        (["visualize", "model.fml", "-o", "x.gif"], "`.svg`"),
        (["visualize", "model.fml", "--graph", "measures"], "measure"),
        (["explain", "E03011"], "`fml explain` lists all codes"),
        (["explain", "300"], "E0301  inner axes differ"),
        (["explain", "E9999"], "E0903"),
        (["explain", "w0001"], "W0501"),
        (["explain", "broadcast"], "E0302  shapes do not broadcast"),
        (["train", "lr=0.1", "model.fml"], "`fml train FILE lr=0.1`"),
        (["summary", "lr=0.1"], "`fml summary FILE lr=0.1`"),
        (["summary", "model.fml", "width=1.5"], "this comes of `width=1.5`"),
        (["summary", "model.fml", "width="], "`width=` gives no value"),
        (["check", "binary.fml"], "`binary.fml` is no UTF-8 text"),
        (["check", "utf16.fml"], "save it as UTF-8"),
        (["check", "latin1.fml"], "the byte 0xE9 is not UTF-8"),
        (["explain", "nonsense"], "`fml explain` lists all codes"),
        (["eval", "runs/absent"], "absent"),
        (["predict", "runs/absent", "x.csv", "-o", "y.csv"], "absent"),
        (["train", "model.fml", "--device", "gpu"], "cpu"),
        (["train", "model.fml"], "points"),
        (["train"], "FILE"),
        (["train", "--lr", "3", "model.fml"], "`fml train FILE lr=...`"),
        (["train", "model.fml", "--epochs", "3"], "`fml train FILE epochs=...`"),
        (["train", "model.fml", "--pln", "main"], "--plan"),
        (["train", "--resume", "runs/r", "lr=3"], "--resume takes the folder of a run"),
        (["train", "lr=3", "--resume", "runs/r"], "--resume takes the folder of a run"),
    ],
)
def test_bad_input_is_status_2_with_a_way_out_on_stderr(
    arguments: list[str], words: str, model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("binary.fml").write_bytes(bytes(range(256)))
    Path("utf16.fml").write_text(MODEL, encoding="utf-16")
    Path("latin1.fml").write_text("option caf\xe9 = 1\n", encoding="latin1")
    ran = fml(capfd, *arguments)
    assert ran.status == 2
    assert words in ran.err
    assert ran.err.replace("\n", "").isprintable()
    assert "Traceback" not in ran.err + ran.out
    assert ran.out == ""


def test_a_setting_with_a_blank_is_shown_as_a_shell_takes_it(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("long.fml").write_text(f"option long = 5 epochs\n{MODEL}")
    ran = fml(capfd, "summary", "long.fml", "long=5")
    assert ran.status == 2
    assert 'for instance the default, `"long=5 epochs"`' in ran.err


def test_check_reports_all_files_and_counts(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (model.parent / "broken.fml").write_text(BROKEN)
    assert fml(capfd, "check", "model.fml").out == "no errors in 1 file\n"
    ran = fml(capfd, "check", "broken.fml", "model.fml", "broken.fml")
    assert ran.status == 2
    assert ran.err.count("--> broken.fml:4:") == 2
    assert ran.err.endswith("2 errors in 3 files\n")


def test_check_for_tools(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (model.parent / "broken.fml").write_text(BROKEN)
    ran = fml(capfd, "check", "broken.fml", "--format", "json")
    (found,) = json.loads(ran.out)
    assert (ran.status, ran.err) == (2, "")
    assert found["code"].startswith("E02")
    assert (found["marks"][0]["file"], found["marks"][0]["line"]) == ("broken.fml", 4)
    assert json.loads(fml(capfd, "check", "model.fml", "--format", "json").out) == []
    ran = fml(capfd, "check", "broken.fml", "--format", "github")
    assert ran.out.startswith("::error file=broken.fml,line=4,")
    ran = fml(capfd, "check", "model.fml", "--format", "github")
    assert (ran.status, ran.out, ran.err) == (0, "", "")


def test_summary_counts_what_a_hand_counts(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = fml(capfd, "summary", "model.fml", "width=5").out
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert "f32[N, 5]" in rows["m.dense_0"]
    assert " 15 " in rows["m.dense_0"]  # 2 * 5 weights and 5 biases
    assert " 18 " in rows["m.dense_1"]
    assert "33 parameters" in out


def test_visualize_writes_what_it_says(model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for graph in ("step", "init", "model"):
        ran = fml(capfd, "visualize", "model.fml", "--graph", graph, "-o", f"{graph}.dot")
        assert (ran.status, ran.out) == (0, f"wrote {graph}.dot\n")
    assert "cross" not in Path("model.dot").read_text()
    assert "model.fml · plan main · step" in Path("step.dot").read_text()
    assert fml(capfd, "visualize", "model.fml", "--graph", "measure").status in {0, 2}


def test_explain_prints_definitions_of_std(capfd: pytest.CaptureFixture[str]) -> None:
    shown = fml(capfd, "explain", "momentum").out
    assert shown.startswith("# std/optimizers.fml\n## Polyak's heavy ball")
    assert "m <- beta * m + rate * g" in shown
    assert "nesterov" not in shown


def test_explain_prints_the_page_and_lists_all(capfd: pytest.CaptureFixture[str]) -> None:
    page = fml(capfd, "explain", "e0738").out
    assert page.startswith("# E0738: no such error code")
    assert "## Wrong" in page
    listed = fml(capfd, "explain").out.splitlines()
    assert "E0738  no such error code" in listed
    assert listed == sorted(listed)


@pytest.mark.parametrize("code", ["E0301", "e301", "301", "0301"])
def test_a_code_may_be_written_short(code: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert fml(capfd, "explain", code).out.startswith("# E0301: ")


def test_too_little_memory_is_no_bug(
    model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*_: object) -> None:
        raise MemoryError("Unable to allocate 22 TiB")

    monkeypatch.setattr("fml.program.load", exhausted)
    ran = fml(capfd, "train", "model.fml")
    assert ran.status == 2
    assert "E0714" in ran.err
    assert "22 TiB" in ran.err


def test_a_bug_is_one_line_and_a_file(
    model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a wheel came off")

    monkeypatch.setattr("fml.program.load", broken)
    ran = fml(capfd, "check", "model.fml")
    assert ran.status == 70
    assert ran.err.startswith("fml: this is a bug in fml; what happened is in ")
    assert ran.err.count("\n") == 1
    saved = Path(ran.err.split(" is in ")[1].strip())
    assert "a wheel came off" in saved.read_text()
    saved.unlink()


def test_ctrl_c_is_status_130(
    model: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fml.program.load", interrupted)
    ran = fml(capfd, "check", "model.fml")
    assert (ran.status, ran.err) == (130, "\nfml: interrupted\n")


# Presses Ctrl-C when a module is looked for.
EARLY = """
import os, sys
module = sys.argv.pop(1)
class Pressing:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), 2)
sys.meta_path.insert(0, Pressing())
from fml.__main__ import run
run()
"""


@pytest.mark.parametrize(
    "module", ["fml.leaving", "signal", "click", "fml.commands.check", "fml.program", "lark"]
)
def test_ctrl_c_while_modules_are_imported_leaves_no_traceback(model: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY, module, "check", str(model)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nfml: interrupted\n")


def test_ctrl_c_in_a_callback_of_c_is_heard() -> None:
    """Python would print it, and go on."""
    code = """
import ctypes, os, signal, time
from fml.leaving import leave_at_once, undoing
@ctypes.CFUNCTYPE(None)
def called():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)
leave_at_once()
try:
    with undoing():
        called()
        time.sleep(5)
except KeyboardInterrupt:
    print("undone")
os.kill(os.getpid(), signal.SIGINT)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("undone\n", "\nfml: interrupted\n")
    assert done.returncode == 130


def test_what_is_ignored_stays_ignored(model: Path) -> None:
    """As in the background of a shell."""
    code = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" + EARLY
    done = subprocess.run(
        [sys.executable, "-c", code, "click", "check", str(model)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_who_leaves_early_is_no_error() -> None:
    writer = subprocess.Popen(
        [sys.executable, "-m", "fml", "explain"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert writer.stdout is not None
    assert writer.stderr is not None
    writer.stdout.close()
    errors = writer.stderr.read()
    writer.stderr.close()
    assert writer.wait(timeout=60) == 141
    assert errors == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("arguments", [("explain",), ("summary", "model.fml"), ("train", "-h")])
def test_an_output_without_room_is_told(arguments: tuple[str, ...], model: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "fml", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error[E0732]: the output cannot be written: No space left")


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"TERM": "dumb"},
        {"NO_COLOR": "1"},
        {"FORCE_COLOR": "1"},
        {"COLUMNS": "7"},
        {"LC_ALL": "C", "PYTHONUTF8": "0"},
    ],
)
def test_odd_surroundings_neither_crash_nor_colour(
    environment: dict[str, str], model: Path
) -> None:
    model.write_text(BROKEN.replace("lr", "η"), encoding="utf-8")
    done = process("check", str(model), **environment)
    assert done.returncode == 2
    assert "dence" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    done = process("summary", str(model), **environment)
    assert "Traceback" not in done.stderr


def test_python_m_fml_is_the_command() -> None:
    assert process("--version").stdout.startswith("fml ")


def test_a_warning_is_a_line_for_people(tmp_path: Path) -> None:
    text = MODEL.replace("given {", 'csv("points.csv") {')
    (tmp_path / "model.fml").write_text(
        text.replace("f32[2]; y: label[3]", "f32[2] = [a, b]; y: label[3] = y")
    )
    rows = "\n".join(f"{n},{n % 7},{n % 3}" for n in range(32))
    (tmp_path / "points.csv").write_text(f"a,b,y\n{rows}\n")
    (tmp_path / "file").touch()
    done = process("profile", str(tmp_path / "model.fml"), "--seconds", "0.02",
                   FML_CACHE=str(tmp_path / "file"))  # fmt: skip
    assert done.returncode == 0
    (warning,) = [line for line in done.stderr.splitlines() if "FML_CACHE" in line]
    assert warning.startswith("warning: compiled kernels cannot be kept in")
    assert "compiled.py" not in done.stderr
