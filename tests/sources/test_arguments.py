"""Arguments of sources, by place and by name."""

from pathlib import Path

import pytest

from fml.dsl.program import check
from fml.engine.ir.diagnostics import FmlError
from fml.engine.ir.source import Source as Text
from fml.engine.sources.read import SOURCES, arguments_of
from fml.engine.sources.table import Source
from tests.sources.datasets import dataset, fault, words

POINTS = "data d = {} {{ x: f32 = a }}"


def test_the_language_names_the_sources_that_there_are() -> None:
    # Only after the table of functions, which these modules import each other for.
    from fml.dsl.elaborate.datasets import SOURCES as NAMED

    assert {*NAMED} == {*SOURCES, "given"}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
def test_the_first_argument_is_the_path_of_files_and_the_samples_of_generators(
    source: Source,
) -> None:
    assert source.arguments[0].name in {"path", "samples"}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("line(200, seed = 3)", {"samples": 200, "seed": 3}),
        ("line(200, -1, 0.5)", {"samples": 200, "slope": -1, "intercept": 0.5}),
        ("line(seed = 3, 200)", {"samples": 200, "seed": 3}),
        ("spirals(90, 3)", {"samples": 90, "classes": 3}),
        ('csv("d.csv", false)', {"path": "d.csv", "header": False}),
        ('text("d.txt", 8, "bytes")', {"path": "d.txt", "window": 8, "unit": "bytes"}),
    ],
)
def test_arguments_by_place_are_those_of_the_source_in_order(
    written: str, meant: dict[str, object]
) -> None:
    found = arguments_of(dataset(POINTS.format(written)))
    assert {name: found[name] for name in meant} == meant
    others = {a.name: a.default for a in SOURCES[written.partition("(")[0]].arguments}
    assert found == {**others, **meant}


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('line("d.csv")', "`samples` of `line` is a whole number, found 'd.csv'"),
        ("csv(200)", "`path` of `csv` is a text, found 200"),
        ("line(9, 1, 1, 0, 1, 5)", "`line` has no argument 6"),
        ("line(200, samples = 100)", "`samples` of `line` is given twice"),
        ("line(path = 1)", "its arguments are samples, slope, intercept, noise, seed"),
    ],
)
def test_arguments_that_do_not_fit_are_told(written: str, said: str) -> None:
    found = fault(POINTS.format(written))
    assert found.code == "E0507"
    assert said in words(found)


def test_a_name_that_is_given_twice_is_an_error_of_the_text() -> None:
    with pytest.raises(FmlError) as found:
        check(Text("test.fml", POINTS.format("line(seed = 1, seed = 2)")), Path())
    assert [d.code for d in found.value.diagnostics] == ["E0205"]
