"""`fml check` compares the data that are there with their declarations, and stays fast."""

import gzip
from pathlib import Path

import pytest

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
    assert ran.err.startswith("note: of `flowers` the first ")
    write(large_csv("length,height,species"))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0502]" in ran.err
    write(large_csv("length,species,width"))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 2
    assert "error[E0504]" in ran.err


def test_sources_that_cannot_be_read_yet_are_said_to_be_so(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("flowers.fml").write_text(FLOWERS.replace('csv("', 'parquet("'))
    ran = fml(capfd, "check", "flowers.fml")
    assert ran.status == 0
    assert ran.err.startswith("note: `flowers` was not looked at: the source `parquet`")
