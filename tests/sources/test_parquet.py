"""Parquet: columns by name in their own element, nulls as empty cells, and files that are none."""

import decimal
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from tests.sources.datasets import fault, fields_of, loaded, words

TEXT = 'data d = parquet("d.parquet") { x: f32[2] = [a, columns["b c"]]; y: label[2] = kind }'
COLUMNS = {
    "a": pa.array([1.5, 2.5, -3.0]),
    "b c": pa.array([1, 0, 255], pa.uint8()),
    "kind": pa.array(["oak", "ash", "oak"]),
}


def write(folder: Path, **columns: object) -> Path:
    file = folder / "d.parquet"
    parquet.write_table(pa.table({**COLUMNS, **columns}), file, row_group_size=2)
    return file


def test_columns_are_reached_by_name_and_words_are_classes(tmp_path: Path) -> None:
    write(tmp_path)
    data = loaded(TEXT, base=tmp_path)
    assert fields_of(data)["x"].tolist() == [[1.5, 1], [2.5, 0], [-3, 255]]
    assert data.splits["train"]["y"].tolist() == [1, 0, 1]
    assert data.classes == {"y": ("ash", "oak")}
    by_place = 'data d = parquet("d.parquet") { x: f32[2] = columns[0 .. 1] }'
    assert fields_of(loaded(by_place, base=tmp_path))["x"].tolist() == [
        [1.5, 1],
        [2.5, 0],
        [-3, 255],
    ]


@pytest.mark.parametrize(
    "column",
    [
        *(
            pa.array([0, 1, 1], type)
            for type in (pa.int8(), pa.uint16(), pa.int64(), pa.float16(), pa.float32())
        ),
        pa.array([False, True, True]),
        pa.array([decimal.Decimal("0.00"), decimal.Decimal(1), decimal.Decimal(1)]),
        pa.array([0, 1, 1]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)
def test_numbers_and_booleans_of_all_types_are_numbers(tmp_path: Path, column: object) -> None:
    write(tmp_path, a=column)
    text = 'data d = parquet("d.parquet") { x: f32 = a + 0.5; y: label[2] = a }'
    train = fields_of(loaded(text, base=tmp_path))
    assert train["x"].tolist() == [0.5, 1.5, 1.5]
    assert train["y"].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    "type", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())]
)
def test_words_of_all_types_are_classes(tmp_path: Path, type: pa.DataType) -> None:
    write(tmp_path, kind=COLUMNS["kind"].cast(type))
    assert loaded(TEXT, base=tmp_path).splits["train"]["y"].tolist() == [1, 0, 1]


def test_columns_that_no_field_reads_may_hold_anything(tmp_path: Path) -> None:
    write(tmp_path, a=COLUMNS["a"], when=pa.array([None, 1, 2], pa.timestamp("ms")))
    assert len(fields_of(loaded(TEXT, base=tmp_path))["x"]) == 3
    found = fault('data d = parquet("d.parquet") { x: f32 = when }', base=tmp_path)
    assert found.code == "E0510"
    assert found.message.endswith("holds timestamp[ms]")


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("a", [1.0, None, 2.0], "sample 1 of {file} has nothing in `a`"),
        ("a", [1, 2, None], "sample 2 of {file} has nothing in `a`"),
        ("a", [1.0, float("nan"), 2.0], "sample 1 of {file} has `nan` in `a`"),
        ("a", ["1", "2", "3"], 'sample 0 of {file} has `"1"` in `a`'),
        ("kind", [None, "oak", "ash"], "sample 0 of {file} has no class for `y`"),
        ("kind", [0, 1, None], "sample 2 of {file} has no class for `y`"),
    ],
)
def test_cells_without_a_number_are_told_as_those_of_csv(
    tmp_path: Path, name: str, values: list[object], said: str
) -> None:
    file = write(tmp_path, **{name: pa.array(values)})
    found = fault(TEXT, base=tmp_path)
    assert found.code == "E0504"
    assert found.message.startswith(said.format(file=file))


def test_a_column_that_is_not_there_has_near_names(tmp_path: Path) -> None:
    write(tmp_path)
    found = fault(TEXT.replace("= kind", "= kin"), base=tmp_path)
    assert (found.code, found.help) == ("E0502", "did you mean `kind`?")


def test_two_columns_of_one_name_are_an_error(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([COLUMNS["a"], COLUMNS["a"]], names=["a", "a"])
    parquet.write_table(twice, tmp_path / "d.parquet")
    assert fault(TEXT, base=tmp_path).code == "E0503"


def test_files_that_are_none_are_named_with_the_reason(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole = file.read_bytes()
    # Cut at the end, where the sizes are, and spoilt at the beginning, where the samples are.
    for content in (b"", b"a,b\n1,2\n", whole[:-9], b"PAR1" + bytes(200) + whole[204:]):
        file.write_bytes(content)
        found = fault(TEXT, base=tmp_path)
        assert found.code == "E0510"
        assert str(file) in found.message
        assert found.notes[0]
    file.unlink()
    assert fault(TEXT, base=tmp_path).code == "E0501"
    file.mkdir()
    assert fault(TEXT, base=tmp_path).code == "E0510"
    file.rmdir()
    parquet.write_table(pa.table({"a": pa.array([], pa.float32())}), file)
    assert "no samples" in words(fault(TEXT, base=tmp_path))


def test_without_pyarrow_the_remedy_is_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    found = fault(TEXT, base=tmp_path)
    assert (found.code, found.help) == ("E0512", "pip install 'fml-lang[parquet]'")


def test_it_gives_what_csv_gives(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(50, 2)).round(3)
    kinds = ["ash", "oak"] * 25
    write_columns = {"a": values[:, 0], "b c": values[:, 1], "kind": kinds}
    parquet.write_table(pa.table(write_columns), tmp_path / "d.parquet")
    rows = [f"{a},{b},{kind}" for (a, b), kind in zip(values, kinds, strict=True)]
    (tmp_path / "d.csv").write_text("\n".join(["a,b c,kind", *rows]))
    text = TEXT.replace("]; y", "] |> standardize; y").replace(
        "}", "; split train 60%, test 40% by stratified(y, seed = 3) }"
    )
    one = loaded(text, base=tmp_path).splits
    other = loaded(text.replace("parquet", "csv"), base=tmp_path).splits
    for split in ("train", "test"):
        for name in ("x", "y"):
            assert one[split][name][:].tolist() == other[split][name][:].tolist()
