"""CSV files as they come: what is read, and what is said about those that cannot be."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from tests.sources.datasets import fault, loaded, words

TWO = 'data d = csv("t.csv") { a: f32 = a; b: f32 = b }'


def columns(path: Path, content: str | bytes, text: str = TWO) -> dict[str, list[float]]:
    (path / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    train = loaded(text, base=path).splits["train"]
    return {name: values.tolist() for name, values in train.items()}


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\n1,2\n3,4",
        "a,b\r\n1,2\r\n3,4\r\n",
        "\ufeffa,b\n1,2\n3,4\n",
        " a , b \n 1, 2\n3 ,4\n",
        '"a","b"\n"1","2"\n3,4\n',
        "\na,b\n\n1,2\n\n\n3,4\n\n",
        "a,b\n1,2\n3,4\n   \n",
        "b,unused,a\n2,,1\n4,word,3\n",
        "a,b\n1e0,2.0\n+3,4.\n",
        gzip.compress(b"a,b\n1,2\n3,4\n", mtime=0),
    ],
)
def test_the_same_table_however_it_is_written(tmp_path: Path, content: str | bytes) -> None:
    assert columns(tmp_path, content) == {"a": [1, 3], "b": [2, 4]}


def test_columns_by_place_with_and_without_names(tmp_path: Path) -> None:
    text = "{ a: f32 = columns[0]; b: f32 = columns[1] }"
    named = columns(tmp_path, "a,b\n1,2\n", f'data d = csv("t.csv") {text}')
    bare = columns(tmp_path, "1,2\n", f'data d = csv("t.csv", header = false) {text}')
    assert named == bare == {"a": [1], "b": [2]}


@pytest.mark.parametrize("value", ["columns[0 .. 3] / 2", "[a, b, c, d] / 2"])
def test_a_list_of_columns_fills_a_field_of_several_axes(tmp_path: Path, value: str) -> None:
    text = f'data t = csv("t.csv") {{ x: f32[2, 2, 1] = {value} }}'
    made = columns(tmp_path, "a,b,c,d\n2,4,6,8\n10,12,14,16\n", text)
    assert made == {"x": [[[[1], [2]], [[3], [4]]], [[[5], [6]], [[7], [8]]]]}


def test_odd_names_of_columns(tmp_path: Path) -> None:
    text = 'data d = csv("t.csv") { a: f32 = columns["size (cm), η"]; b: f32 = columns["1"] }'
    assert columns(tmp_path, '"size (cm), η",1\n5,6\n', text) == {"a": [5], "b": [6]}


def test_names_that_are_numbers_are_said_to_be_names(tmp_path: Path) -> None:
    text = 'data d = csv("t.csv", header = true) { a: f32 = columns["2019"]; b: f32 = columns[1] }'
    assert columns(tmp_path, "2019,2020\n1,2\n", text) == {"a": [1], "b": [2]}


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        ("", "E0503", ["no samples"]),
        ("a,b\n", "E0503", ["no samples"]),
        ("a,b\n1,2\n3\n", "E0503", ["line 3", "1 cell instead of 2"]),
        ("a,b\n\n1,2\n3,4,5\n", "E0503", ["line 4", "3 cells instead of 2"]),
        ('a,b\n"1\n,2\n3,4\n', "E0503", ["is not CSV"]),
        ("a,b,a\n1,2,3\n", "E0503", ["two columns `a`"]),
        ("a;b\n1;2\n", "E0503", ["semicolons"]),
        ("a;b\n1,5;2,5\n", "E0503", ["semicolons", "decimals with a point"]),
        ("a|b\n1|2\n", "E0503", ["bars"]),
        ("a b\n1  2\n", "E0503", ["spaces"]),
        ("# measured in May\na,b\n1,2\n", "E0503", ["line 2", "take what stands before"]),
        ("a,b,,\n1,2,,\n", "E0503", ["2 columns without a name"]),
        ('a,b\n1,2\n3,"4\n5,6\n', "E0503", ["line 3 of", "is not CSV"]),
        ("<!DOCTYPE html>\n<html></html>\n", "E0503", ["is a web page"]),
        ("a,b\n1,2\n".encode("utf-16"), "E0503", ["not UTF-8", "iconv -f utf-16"]),
        (b"PK\x03\x04\xff\xff", "E0503", ["spreadsheet"]),
        (b"PAR1\xff\xff", "E0503", ["`parquet` reads it"]),
        (b"a,b\n1,\xe9\n", "E0503", ["not UTF-8", "iconv"]),
        (gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "E0503", ["cannot be read"]),
        (b"\x1f\x8b\x08\x00 this is no gzip", "E0503", ["cannot be read"]),
        ("a,c\n1,2\n", "E0502", ["no column `b`", "its columns are a, c"]),
        ("1,2\n3,4\n", "E0513", ["it is 1, 2", "header = false", "header = true"]),
        ("1,1\n", "E0513", ["looks like a sample"]),
        ("5.1,rose\n4.9,rose\n", "E0513", ["looks like a sample"]),
        ("place,2019\nOslo,1.5\n", "E0502", ["its columns are place, 2019"]),
        ("a,bb\n1,2\n", "E0502", ["did you mean `bb`"]),
        ("a,b\n1,2\n,3\n", "E0504", ["line 3", "nothing in `a`"]),
        ("a,b\n1,2\n\n3,x\n", "E0504", ["line 4", "`x` in `b`"]),
        ("a,b\n1,2\n3,nan\n", "E0504", ["line 3", "`nan` in `b`"]),
        ("a,b\n1,2\n3,inf\nx,1\n", "E0504", ["line 4", "`x` in `a`"]),
        ('a,b\n1,2\n"3\n",4\n5,?\n', "E0504", ["line 5", "`?` in `b`"]),
    ],
)
def test_faults_are_named_with_their_line(
    tmp_path: Path, content: str | bytes, code: str, said: list[str]
) -> None:
    (tmp_path / "t.csv").write_bytes(content.encode() if isinstance(content, str) else content)
    found = fault(TWO, base=tmp_path)
    assert found.code == code
    assert all(part in words(found) for part in said), words(found)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").mkdir()
    found = fault(TWO, base=tmp_path)
    assert found.code == "E0503"
    assert "is a folder" in found.message


def test_columns_without_names_are_said_to_have_places(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    found = fault(TWO.replace('"t.csv"', '"t.csv", header = false'), base=tmp_path)
    assert found.code == "E0502"
    assert "`columns[0]` is the first" in found.help


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("csv()", "`csv` needs its `path`"),
        ("csv(3)", "`path` of `csv` is a text"),
        ('csv("t.csv", header = 1)', "`header` of `csv` is true or false"),
        ('csv("t.csv", heder = true)', "did you mean `header`"),
        ("blobs(samples = 2.5)", "`samples` of `blobs` is a whole number"),
        ("blobs(samples = true)", "`samples` of `blobs` is a whole number"),
        ("spirals(samples = 0)", "use 1 or more"),
        ("line(noise = -1)", "use 0 or more"),
    ],
)
def test_arguments_are_checked(call: str, said: str) -> None:
    found = fault(f"data d = {call} {{ a: f32 = a }}")
    assert found.code == "E0507"
    assert said in words(found)


# --- where files are looked for -----------------------------------------------------------------


def test_files_are_looked_for_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, cache = tmp_path / "own", tmp_path / "cache"
    base = tmp_path / "base"
    monkeypatch.setenv("FML_DATA", str(own))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    text = 'data d = csv("deep/t.csv") { a: f32 = a }'
    found = fault(text, base=base)
    assert found.code == "E0501"
    places = [base, own, cache / "fml", Path("/usr/share/datasets")]
    assert list(found.notes) == [f"looked for {place / 'deep/t.csv'}" for place in places]
    for value, folder in enumerate([cache / "fml", own, base]):
        (folder / "deep").mkdir(parents=True)
        (folder / "deep" / "t.csv").write_text(f"a\n{value}\n")
        assert loaded(text, base=base).splits["train"]["a"].tolist() == [value]


def test_a_user_without_a_home_has_no_cache_to_look_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("FML_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    found = fault('data d = csv("t.csv") { a: f32 = a }', base=tmp_path)
    places = [tmp_path, Path("/usr/share/datasets")]
    assert list(found.notes) == [f"looked for {place / 't.csv'}" for place in places]


def test_an_absolute_path_is_looked_for_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a\n7\n")
    text = 'data d = csv("{}") {{ a: f32 = a }}'
    path = tmp_path / "t.csv"
    assert loaded(text.format(path), base=Path("/nowhere")).splits["train"]["a"].tolist() == [7]
    found = fault(text.format(tmp_path / "u.csv"), base=Path("/nowhere"))
    assert list(found.notes) == [f"looked for {tmp_path / 'u.csv'}"]


def test_a_file_is_near_by_more_than_its_ending(tmp_path: Path) -> None:
    for name in ("digits.csv.gz", "flowers.csv"):
        (tmp_path / name).write_text("a\n7\n")
    helps = [
        fault(f'data d = csv("{name}") {{ a: f32 = a }}', base=tmp_path).help
        for name in ("iris.csv", "flower.csv", "digits.csv")
    ]
    assert "FML_DATA" in helps[0]
    assert helps[1:] == ["did you mean `flowers.csv`?", "did you mean `digits.csv.gz`?"]


def test_a_column_that_is_in_use_is_not_what_was_meant(tmp_path: Path) -> None:
    text = 'data d = csv("t.csv") { x: f32[2] = [sepal_length, sepal_width] }'
    for header, said in (("sepal_length,b", ""), ("sepal_length,sepal_widht", "`sepal_widht`")):
        (tmp_path / "t.csv").write_text(f"{header}\n1,2\n")
        found = fault(text, base=tmp_path)
        assert found.code == "E0502"
        assert "did you mean `sepal_length`" not in found.help
        assert said in found.help
        assert header.replace(",", ", ") in found.notes[0]


# --- generated data -----------------------------------------------------------------------------


def test_generated_data_follow_their_seed() -> None:
    for source in ("blobs", "spirals"):
        fields = "{ x: f32[2] = [x1, x2]; y: label[3] = label }"
        first, again, other = (
            loaded(f"data d = {source}(classes = 3, seed = {seed}) {fields}").splits["train"]
            for seed in (1, 1, 2)
        )
        assert first["x"].tobytes() == again["x"].tobytes() != other["x"].tobytes()
        assert np.bincount(first["y"]).tolist() == [100, 100, 100]


def test_blobs_stand_around_their_centres() -> None:
    source = "blobs(samples = 4000, classes = 4, spread = 0.1)"
    text = f"data d = {source} {{ x: f32[2] = [x1, x2]; y: label[4] = label }}"
    train = loaded(text).splits["train"]
    means = [train["x"][train["y"] == k].mean(0) for k in range(4)]
    assert means == pytest.approx(np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]), abs=0.02)
    spread = train["x"][train["y"] == 0].std(0)
    assert spread == pytest.approx([0.1, 0.1], rel=0.1)


def test_arms_of_a_spiral_have_the_angle_of_their_radius() -> None:
    text = "data d = spirals(turns = 2, noise = 0) { x: f32[2] = [x1, x2]; y: label[2] = label }"
    train = loaded(text).splits["train"]
    radius = np.hypot(*train["x"].T)
    angle = 2 * np.pi * (2 * radius + train["y"] / 2)
    wanted = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    assert train["x"] == pytest.approx(wanted, abs=1e-5)


def test_a_line_without_noise_is_one() -> None:
    text = "data d = line(slope = -3, intercept = 0.5, noise = 0) { a: f32 = a; b: f32 = b }"
    train = loaded(text).splits["train"]
    assert train["b"] == pytest.approx(-3 * train["a"] + 0.5, abs=1e-5)
    assert -1 <= train["a"].min() < -0.9 < 0.9 < train["a"].max() <= 1
