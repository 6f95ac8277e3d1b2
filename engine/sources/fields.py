"""The fields of a data set, computed by its graph over the columns of a table, piece by piece."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark
from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.training import Field
from fml.engine.ir.types import Element, Label
from fml.engine.ops.record import Array
from fml.engine.passes.fold_constants import as_attribute
from fml.engine.runtime.measuring import samples_at_once
from fml.engine.runtime.section import Section
from fml.engine.runtime.variables import VariableStore
from fml.engine.sources.columns import Columns
from fml.engine.sources.labels import class_count
from fml.engine.sources.table import is_text

# What data are held in and graphs have as well, and is narrower than the elements of most fields.
_NARROW = {"uint8": Element.U8, "float16": Element.F16}


def reading(columns: Columns, outputs: Sequence[str], statistics: Mapping[str, Array]) -> Graph:
    """Return the graph of outputs of a data set in which columns are fed, in the form they have.

    Bytes are fed as bytes and converted by a node; statistics are constants. A feed's field is
    the `column_key` of its column.
    """
    graph = columns.dataset.graph
    wanted = Graph(graph.name, [*graph], {name: graph.outputs[name] for name in outputs})

    def change(node: Node, builder: GraphBuilder) -> int:
        if node.op == "variable":
            value = as_attribute(statistics[str(node.attributes["name"])])
            return builder.keep(replace(node, op="constant", attributes={"value": value}))
        return _fed(columns, node, builder) if node.op == "column" else builder.keep(node)

    return wanted.restricted_to(wanted.outputs.values()).rewrite(change)


def column_key(column: Node) -> str:
    """What a feed calls a `column` node: the column as it is written, and the type of a sample."""
    type = column.type.with_shape(column.type.shape[1:])
    name = json.dumps(column.attributes["name"], ensure_ascii=False)
    return f"columns[{name}] {type}"


def _fed(columns: Columns, node: Node, builder: GraphBuilder) -> int:
    attributes = {"data": columns.dataset.name, "split": "", "field": column_key(node)}
    feed = replace(node, op="feed", attributes=attributes)
    held = columns.held(node).dtype
    is_narrow = held.name in _NARROW and held.itemsize < node.type.dtype.itemsize
    if not is_narrow or isinstance(node.type.element, Label):
        return builder.keep(feed)
    number = builder.keep(replace(feed, type=node.type.with_element(_NARROW[held.name])))
    attributes = {"element": node.type.element}
    return builder.keep(replace(node, op="cast", inputs=(number,), attributes=attributes))


def pieces(
    columns: Columns, outputs: Sequence[str], rows: Array, statistics: Mapping[str, Array]
) -> Iterator[tuple[slice, Mapping[str, Array]]]:
    """Yield outputs for some of the rows after others, and which of the rows these are.

    Raises:
        FmlError: E0502 no such column, E0504 a cell that is no number, E0508 no such class, E0511
            a sample of another shape.
    """
    graph = reading(columns, outputs, statistics)
    size = max(1, min(len(rows), samples_at_once(graph, "N", {})))
    read = {node.id: node for output in outputs for node in columns_behind(columns, output)}
    backend, sections = NumpyBackend(), dict[int, Section]()
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        length = part.stop - part.start  # the last piece may be shorter
        if length not in sections:
            store = VariableStore({}, backend)
            sections[length] = Section(graph, {"N": length}, backend, store)
        section = sections[length]
        fed = {column_key(node): columns.values(node, rows[part]) for node in read.values()}
        section.feed({(columns.dataset.name, key): array for key, array in fed.items()})
        section.run()
        yield part, {name: section.result(name) for name in outputs}


def checked(
    columns: Columns, fields: Sequence[str], statistics: Mapping[str, Array]
) -> dict[str, Array]:
    """Return fields of all samples, [samples, ...], every number of them finite.

    Raises:
        FmlError: as `pieces`; E0509, a field's expression gave NaN or an infinity.
    """
    types = {f.name: f.type for f in columns.dataset.fields}
    count = columns.table.samples
    made = {f: np.empty((count, *types[f].sizes), types[f].dtype) for f in fields}
    for part, values in _finite(columns, fields, statistics):
        for name, array in values.items():
            made[name][part] = array
    return made


def check(columns: Columns, fields: Sequence[str], statistics: Mapping[str, Array]) -> None:
    """Check fields of all samples without keeping them.

    Raises:
        FmlError: as `checked`.
    """
    for _ in _finite(columns, fields, statistics):
        pass


def _finite(
    columns: Columns, fields: Sequence[str], statistics: Mapping[str, Array]
) -> Iterator[tuple[slice, Mapping[str, Array]]]:
    rows = np.arange(columns.table.samples)
    for part, values in pieces(columns, fields, rows, statistics):
        _check_finite(columns, part.start, values)
        yield part, values


def _check_finite(columns: Columns, start: int, values: Mapping[str, Array]) -> None:
    for field in columns.dataset.fields:
        if field.name not in values or not field.type.is_float:
            continue
        by_sample = values[field.name].reshape(len(values[field.name]), -1)
        for row in np.flatnonzero(~np.isfinite(by_sample).all(axis=1))[:1]:
            found = by_sample[row][~np.isfinite(by_sample[row])][0]
            marks = (Mark(field.span),) if field.span else ()
            raise FmlError([Diagnostic(
                "E0509", f"`{field.name}` is {found} for {columns.table.place(start + row)}",
                marks, (),
                "check the cell, and what the expression does to it (log of 0, division by 0)",
            )])  # fmt: skip


def is_read_late(columns: Columns, field: Field) -> bool:
    """Whether a field is computed batch by batch, not once for all samples.

    That is so where one of its columns is narrower than the field, as bytes are, or mapped into
    memory: the data then stay as they came.
    """
    behind = columns_behind(columns, field.name)
    held = [columns.held(node) for node in behind]
    names = [node.attributes["name"] for node in behind]
    is_label = class_count(field) is not None
    if any(map(is_text, held)) or (is_label and not all(map(columns.is_numbered, names))):
        return False
    width = field.type.dtype.itemsize
    return any(isinstance(c, np.memmap) or c.dtype.itemsize < width for c in held)


def columns_behind(columns: Columns, output: str) -> list[Node]:
    """The `column` nodes that an output of the data set's graph is computed from."""
    graph = columns.dataset.graph
    behind = graph.ancestors([graph.outputs[output]])
    return [node for node in graph.of_op("column") if node.id in behind]
