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
from fml.engine.sources.line import LINE
from fml.engine.sources.spirals import SPIRALS
from fml.engine.sources.table import Argument, Source, Table, declared_at
from fml.engine.sources.text import TEXT

SOURCES: Mapping[str, Source] = MappingProxyType(
    {source.name: source for source in (CSV, IDX, NPZ, NPY, TEXT, BLOBS, SPIRALS, LINE)}
)


def read_table(dataset: Dataset, given: object, base: Path) -> Table:
    """Read the source of a data set; `given` are the arrays handed over from Python, if any.

    Raises:
        FmlError: E0501 to E0507 as the source raises, E0902 for a source that is not there yet.
    """
    if dataset.source == "given":
        return table_of(dataset, given)
    with declared_at(dataset.span):
        return _source(dataset).read(arguments_of(dataset), base)


def _source(dataset: Dataset) -> Source:
    source = SOURCES.get(dataset.source)
    if source is None:
        raise _placed(
            dataset, "E0902", f"the source `{dataset.source}` is not available yet",
            f"there are {', '.join([*SOURCES, 'given'])}",
        )  # fmt: skip
    return source


def arguments_of(dataset: Dataset) -> dict[str, bool | float | str]:
    """All arguments of a data set's source, the defaults of those that are left out included.

    Raises:
        FmlError: E0507, an argument that does not fit; E0902 as `read_table`.
    """
    source = _source(dataset)
    known = {argument.name: argument for argument in source.arguments}
    for name in dataset.arguments:
        if name not in known:
            listed = f"its arguments are {', '.join(known)}"
            raise _placed(
                dataset, "E0507", f"`{source.name}` has no argument `{name}`",
                did_you_mean(name, known) or listed,
            )  # fmt: skip
    return {name: _argument(dataset, source, a) for name, a in known.items()}


def _argument(dataset: Dataset, source: Source, argument: Argument) -> bool | float | str:
    value = dataset.arguments.get(argument.name, argument.default)
    if value is None:
        raise _placed(
            dataset, "E0507", f"`{source.name}` needs its `{argument.name}`",
            f'`{source.name}({argument.name} = ...)`',
        )  # fmt: skip
    if not argument.accepts(value):
        kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
        raise _placed(
            dataset, "E0507", f"`{argument.name}` of `{source.name}` is {kinds[argument.kind]}, "
            f"found {value!r}", "",
        )  # fmt: skip
    if argument.least is not None and not isinstance(value, str) and value < argument.least:
        raise _placed(
            dataset, "E0507", f"`{argument.name}` of `{source.name}` is {value:g}",
            f"use {argument.least} or more",
        )  # fmt: skip
    return value


def _placed(dataset: Dataset, code: str, message: str, help: str) -> FmlError:
    marks = (Mark(dataset.span),) if dataset.span else ()
    return FmlError([Diagnostic(code, message, marks, (), help)])
