"""The sources by name, and the reading of a data set's own."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.training import Dataset
from fml.engine.sources.arrays import NPY, NPZ
from fml.engine.sources.blobs import BLOBS
from fml.engine.sources.csv import CSV
from fml.engine.sources.given import table_of
from fml.engine.sources.idx import IDX
from fml.engine.sources.images import IMAGES
from fml.engine.sources.line import LINE
from fml.engine.sources.parquet import PARQUET
from fml.engine.sources.spirals import SPIRALS
from fml.engine.sources.table import Argument, Source, Table, declared_at
from fml.engine.sources.text import TEXT

SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        source.name: source
        for source in (CSV, PARQUET, IDX, IMAGES, NPZ, NPY, TEXT, BLOBS, SPIRALS, LINE)
    }
)


def read_table(dataset: Dataset, given: object, base: Path) -> Table:
    """Read the source of a data set; `given` are the arrays handed over from Python, if any.

    Raises:
        FmlError: E0501 to E0513 as the source raises.
    """
    if dataset.source == "given":
        return table_of(dataset, given)
    with declared_at(dataset.span):
        return SOURCES[dataset.source].read(arguments_of(dataset), base)


def arguments_of(dataset: Dataset) -> dict[str, bool | float | str]:
    """The arguments of a data set's source, the defaults of those that are left out included.

    Raises:
        FmlError: E0507, an argument that does not fit.
    """
    source = SOURCES[dataset.source]
    given = _named(dataset, source)
    return {
        a.name: _argument(dataset, a, given.get(a.name, a.default))
        for a in source.arguments
        if a.name in given or not a.is_optional
    }


def _named(dataset: Dataset, source: Source) -> dict[str, object]:
    """The arguments that are given, by name; those by place follow the order of the source's."""
    known = [argument.name for argument in source.arguments]
    named: dict[str, object] = {}
    for key, value in dataset.arguments.items():
        if isinstance(key, int) and key >= len(known):
            raise _placed(
                dataset, "E0507", f"`{source.name}` has no argument {key + 1}",
                f"its arguments are {', '.join(known)}",
            )  # fmt: skip
        name = known[key] if isinstance(key, int) else key
        if name not in known:
            raise _placed(
                dataset, "E0507", f"`{source.name}` has no argument `{name}`",
                did_you_mean(name, known) or f"its arguments are {', '.join(known)}",
            )  # fmt: skip
        if name in named:
            raise _placed(
                dataset, "E0507", f"`{name}` of `{source.name}` is given twice",
                f"it is argument {known.index(name) + 1} as well",
            )  # fmt: skip
        named[name] = value
    return named


def _argument(dataset: Dataset, argument: Argument, value: object) -> bool | float | str:
    if value is None:
        raise _placed(
            dataset, "E0507", f"`{dataset.source}` needs its `{argument.name}`",
            f'`{dataset.source}({argument.name} = ...)`',
        )  # fmt: skip
    if not argument.accepts(value):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise _placed(
            dataset, "E0507", f"`{argument.name}` of `{dataset.source}` is {kinds[argument.kind]}, "
            f"found {value!r}", "",
        )  # fmt: skip
    if argument.least is not None and not isinstance(value, str) and value < argument.least:
        raise _placed(
            dataset, "E0507", f"`{argument.name}` of `{dataset.source}` is {value:g}",
            f"use {argument.least} or more",
        )  # fmt: skip
    return value


def _placed(dataset: Dataset, code: str, message: str, help: str) -> FmlError:
    marks = (Mark(dataset.span),) if dataset.span else ()
    return FmlError([Diagnostic(code, message, marks, (), help)])
