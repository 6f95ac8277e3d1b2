"""`fml check` compares the data that are there with their declarations, and stays fast."""

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from tests.api.test_cli import fml
from tests.api.test_runs import FLOWERS, flowers_csv


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("flowers.fml").write_text(FLOWERS)
    return tmp_path


def test_data_that_are_not_there_are_no_fault_and_said_in_one_line(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = fml(capfd, "check", "flowers.fml")
    assert (ran.status, ran.out) == (0, "no errors in 1 file\n")
    assert ran.err == "note: `flowers` was not looked at: cannot find the data `flowers.csv`\n"
    Path("flower.csv").write_text(flowers_csv())
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.err.endswith("`flowers.csv`; did you mean `flower.csv`?\n")
    assert fml(capfd, "check", "flowers.fml", "--format", "json").out == "[]\n"


def test_without_its_data_nothing_is_imported_that_computes(project: Path) -> None:
    code = "import sys; from fml.cli import main; main(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "check", "flowers.fml"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith("no errors in 1 file\n")
    # No file of `engine/ops` may ask numpy for anything while it is imported: see `later.py` there.
    assert not {"numpy", "networkx", "rich", "safetensors"} & set(done.stdout.split())


def test_data_as_declared_leave_nothing_to_say(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("flowers.csv").write_text(flowers_csv())
    ran = fml(capfd, "check", "flowers.fml")
    assert (ran.status, ran.out, ran.err) == (0, "no errors in 1 file\n", "")
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("before", "after", "code", "words"),
    [
        ("width,species", "widht,species", "E0502", "did you mean `widht`?"),
        ("0.0,5.0,aster", "0.0,five,aster", "E0504", "line 2 of"),
        ("crocus", "aster", "E0508", "2 classes were found"),
        ("0.0,5.0,aster", "0.0,5.0", "E0503", "has 2 cells instead of 3"),
        ("length,width,species\n", "", "E0513", "`header = false`"),
    ],
)
def test_data_that_are_not_as_declared_are_errors_with_the_place_in_the_text(
    before: str,
    after: str,
    code: str,
    words: str,
    *,
    project: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    text = flowers_csv()
    assert before in text
    Path("flowers.csv").write_text(text.replace(before, after))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert f"error[{code}]" in ran.err
    assert words in ran.err
    assert "--> flowers.fml:" in ran.err


UNUSABLE = [
    ("valid 20%", "valid 0%", "E0521", ":6:20", "`valid` of `flowers` is empty"),
    ("valid 20%", "valid 0", "E0521", ":6:20", "leave it out"),
    ("valid 20%", "valid 0.5%", "E0521", ":6:20", "0.5% of 90 samples are none"),
    ("batch(8)", "batch(80)", "E0520", ":12:3", "it has 54 samples"),
    ("60%, valid 20%, test 20%", "7, valid 50", "E0520", ":12:3", "use `batch(7)` or less"),
    (
        "  logits = net(x)",
        "  learners 8 per device by sma()\n  logits = net(x)",
        "E0520",
        ":12:3",
        "8 batches of 8, one a learner, are larger than",
    ),
    ("60%, valid 20%, test 20%", "80, valid 20", "E0506", ":3:1", "train 80, valid 20"),
]


@pytest.mark.parametrize(("before", "after", "code", "place", "said"), UNUSABLE)
def test_too_few_samples_are_told_with_the_words_of_training(
    before: str,
    after: str,
    code: str,
    place: str,
    said: str,
    *,
    project: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert before in FLOWERS
    Path("flowers.csv").write_text(flowers_csv())
    Path("flowers.fml").write_text(FLOWERS.replace(before, after))
    ran, trained = fml(capfd, "check", "flowers.fml"), fml(capfd, "train", "flowers.fml", "-q")
    assert ran.status == trained.status == 2
    assert ran.err == f"{trained.err}1 error in 1 file\n"
    assert f"error[{code}]" in ran.err
    assert f"flowers.fml{place}\n" in ran.err
    assert said in ran.err


def test_splits_that_only_the_data_tell_are_looked_for(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    np.savez("d.npz", x_train=random.normal(size=(40, 2)), x_test=random.normal(size=(9, 2)))
    text = """
data d = npz("d.npz") { x: f32[2] = x }
model net(x: f32[N, D]) -> f32[N, 1] = x |> dense(1)
train {
  net = net()
  feed x from d.train |> batch(8)
  minimize J = mean(net(x)^2)
  using sgd(0.1)
  measure mean(net(x)) as "m" on d.SPLIT
  stop after 1 epochs
}
"""
    Path("d.fml").write_text(text.replace("SPLIT", "test"))
    assert fml(capfd, "check", "d.fml").status == 0
    Path("d.fml").write_text(text.replace("SPLIT", "valid"))
    ran = fml(capfd, "check", "d.fml")
    assert "error[E0521]: `d` has no samples in the split `valid` to measure on" in ran.err
    assert "--> d.fml:9:" in ran.err
    assert "`train` has 40, `test` has 9" in ran.err


def test_a_folder_that_is_there_and_lacks_files_is_a_fault(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("faces").mkdir()
    text = FLOWERS.replace('csv("flowers.csv")', 'idx("faces")').replace("= species", "= label")
    Path("flowers.fml").write_text(text)
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0501]: faces has no file train-images-idx3-ubyte" in ran.err
    assert "--> flowers.fml:3:" in ran.err


def large_csv(head: str) -> str:
    """More than is read at once, faulty only far behind the beginning."""
    rows = [head, *['1.5,2.5,"a, b"'] * 200_000, "1.5,oops,aster"]
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("packed", [False, True])
def test_of_a_large_table_the_first_lines_are_looked_at(
    packed: bool, project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def write(text: str) -> None:
        content = text.encode()
        if packed:
            content = gzip.compress(content, compresslevel=0)
        Path("flowers.csv").write_bytes(content)

    write(large_csv("length,width,species"))
    ran = fml(capfd, "check", "flowers.fml")
    assert (ran.status, ran.out) == (0, "no errors in 1 file\n")
    assert ran.err.startswith("note: of `flowers` ")
    write(large_csv("length,height,species"))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0502]" in ran.err
    write(large_csv("length,species,width"))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0504]" in ran.err


def test_data_of_a_package_that_is_not_installed_are_no_fault(
    project: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    Path("flowers.csv").write_text(flowers_csv())
    Path("flowers.fml").write_text(FLOWERS.replace('csv("', 'parquet("'))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 0
    assert ran.err.startswith("note: `flowers` was not looked at: `parquet` reads with pyarrow")


def test_of_a_large_parquet_file_the_first_samples_are_looked_at(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("flowers.fml").write_text(FLOWERS.replace("flowers.csv", "d").replace("csv", "parquet"))
    random = np.random.default_rng(0)
    columns = {name: random.normal(size=200_000) for name in ("length", "width")}
    columns["species"] = np.array(["aster"] * 200_000)  # other classes may follow
    columns["width"][-1] = np.nan
    parquet.write_table(pyarrow.table(columns), "d")
    ran = fml(capfd, "check", "flowers.fml")
    assert (ran.status, ran.err) == (0, "note: of `flowers` 10,000 samples were looked at\n")
    columns["width"][0] = np.nan
    parquet.write_table(pyarrow.table(columns), "d")
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0504]" in ran.err


IMAGES = """
data d = images("d") { x: f32[300, 200, 3] = image; y: label[3] = label }
model net(x: f32[N, H, W, C]) -> f32[N, 3] = x |> mean(over = [H, W]) |> dense(3)
train {
  net = net()
  feed x from d.train |> batch(2)
  minimize mean(net(x)^2)
  using sgd(0.1)
  stop after 1 epochs
}
"""


def test_of_a_large_folder_of_images_one_of_each_class_is_looked_at(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(0)
    for kind in range(3):
        Path(f"d/{kind}").mkdir(parents=True)
        for number in range(3):
            pixels = random.integers(0, 256, (300, 200, 3), np.uint8)  # noise cannot be packed
            Image.fromarray(pixels).save(f"d/{kind}/{number}.png")
    Path("d/1/2.png").write_bytes(b"spoilt")
    Path("d.fml").write_text(IMAGES)
    ran = fml(capfd, "check", "d.fml")
    assert (ran.status, ran.err) == (0, "note: of `d` 3 samples were looked at\n")
    for before, after, code in (
        ("300, 200, 3", "200, 300, 3", "E0511"), ("label[3]", "label[2]", "E0508"),
        ("label[3]", "label[4]", "E0508"),
    ):  # fmt: skip
        Path("d.fml").write_text(IMAGES.replace(before, after))
        ran = fml(capfd, "check", "d.fml")
        assert ran.status == 2
        assert f"error[{code}]" in ran.err
    Path("d/1/0.png").write_bytes(b"spoilt")
    Path("d.fml").write_text(IMAGES)
    ran = fml(capfd, "check", "d.fml")
    assert ran.status == 2
    assert "error[E0510]" in ran.err
    assert "d/1/0.png" in ran.err


def test_a_small_folder_of_images_is_looked_at_whole(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for kind in range(3):
        Path(f"d/{kind}").mkdir(parents=True)
        Image.new("RGB", (200, 300)).save(f"d/{kind}/0.png")
    Path("d.fml").write_text(IMAGES)
    ran = fml(capfd, "check", "d.fml")
    assert (ran.status, ran.err) == (0, "")
    Path("d/2/1.png").write_bytes(b"spoilt")
    ran = fml(capfd, "check", "d.fml")
    assert ran.status == 2
    assert "error[E0510]" in ran.err
