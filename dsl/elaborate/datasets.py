"""`data` declarations: fields become a graph over the source's columns."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from math import prod
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate import expressions, names, splits, written_types
from fml.dsl.elaborate.arithmetic import as_tensor, read
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.elaborate.syntax import walk
from fml.dsl.modules import Module
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import (
    Any_,
    Columns,
    DataValue,
    Poison,
    RangeOf,
    Tensor,
    describe,
)
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Phase
from fml.engine.ir.training import Dataset, Field, Role, Statistic, Variable
from fml.engine.ir.types import BOOL, F32, Element, Label, TensorType, tensor
from fml.engine.ops.by_sample import Reach, reaches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

SOURCES = (
    "csv",
    "parquet",
    "npz",
    "npy",
    "idx",
    "images",
    "text",
    "given",
    "blobs",
    "spirals",
    "line",
)
MAX_COLUMNS = 100_000
_ROWS = Dim.of("N")
_NUMBERS = tensor(F32, _ROWS)


def lower(s: Session, value: DataValue) -> Dataset:
    """Return a data set as the engine reads it; where a fault was reported, as far as it goes.

    Whatever is wrong with how a field is computed, its declared type holds for those who use it,
    but where it clashes with what is computed.
    """
    declaration, module = value.declaration, value.module
    name = splits.source_name(declaration)
    if name not in SOURCES:
        s.report(
            "E0541",
            f"{f'`{name}`' if name else 'this'} is not a source of data",
            [declaration.source],
            help=did_you_mean(name, SOURCES) or f"there are {', '.join(SOURCES)}",
        )
    arguments = _arguments(s, declaration, module)
    region = s.new_region(declaration.name, apart=True)
    statistics: list[Statistic] = []
    with s.within(region), s.marked(phase=Phase.DATA, scope=declaration.name):
        region.dataset = declaration.name
        region.statistics = statistics
        fields, outputs = _fields(s, declaration, module, name)
        outputs = {**outputs, **region.sources}
        graph = region.builder.finish({k: t.value for k, t in outputs.items()})
        _require_apart(s, declaration, graph)
    return Dataset(
        declaration.name,
        name,
        arguments,
        fields,
        graph,
        splits.cut(s, declaration, module),
        tuple(statistics),
        declaration.span,
    )


def _arguments(s: Session, declaration: ast.Data, module: Module) -> dict[str | int, object]:
    """The arguments by name, or by place, counted from 0: sources know what theirs are called."""
    source = declaration.source
    arguments: dict[str | int, object] = {}
    places = count()
    attempts = Attempts()
    for argument in source.arguments if isinstance(source, ast.Call) else ():
        key = next(places) if argument.name is None else argument.name
        with attempts:
            if key in arguments:
                raise s.report("E0205", f"`{key}` is given twice", [argument])
            arguments[key] = expressions.evaluate_static(
                s, argument.value, Scope(module, None), "a static value"
            )
    return arguments


def _fields(
    s: Session, declaration: ast.Data, module: Module, source: str
) -> tuple[tuple[Field, ...], dict[str, Tensor]]:
    """The fields whose type is known, and those of them that could be computed."""
    fields: dict[str, Field] = {}
    outputs: dict[str, Tensor] = {}
    if not declaration.fields:
        s.report(
            "E0542", f"the data set `{declaration.name}` has no fields", [declaration],
            help="`x: f32 = column`",
        )  # fmt: skip
    attempts = Attempts()
    for written in declaration.fields:
        if written.name in fields:
            s.report("E0202", f"the field `{written.name}` is named twice", [written])
        with attempts:
            type = _sample_type(s, written, module)
            first = fields.setdefault(written.name, Field(written.name, type, None, written.span))
            if source in SOURCES:
                made, text = _field(s, written, type, module, source)
                if not _is_of_type(s, written, made, type):
                    # Which of the two is wrong is not known: nothing is said of those who use it.
                    del fields[written.name]
                    raise Failed
                if first.span is written.span:
                    fields[written.name] = replace(first, text_column=text)
                    outputs[written.name] = made
    s.plan.doubtful |= {written.name for written in declaration.fields} - fields.keys()
    return tuple(fields.values()), outputs


def _sample_type(s: Session, written: ast.DataField, module: Module) -> TensorType:
    type = written_types.written_type(s, written.type, written_types.Matched(Scope(module, None)))
    if type is None:
        raise Failed
    if type.names():
        raise s.report("E0325", f"the size of a sample must be known: {type}", [written.type])
    return type


def _require_apart(s: Session, declaration: ast.Data, graph: Graph) -> None:
    """A sample's fields are its own: they are computed batch by batch, and for new samples."""
    reach = reaches(graph, "N")
    for written in declaration.fields:
        number = graph.outputs.get(written.name)
        if number is not None and written.value and reach[number] is Reach.BATCH:
            s.report(
                "E0542", f"the field `{written.name}` mixes samples", [written.value],
                notes=["each sample's fields are computed from its own columns"],
                help="figures of the training samples come in by `standardize`",
            )  # fmt: skip


def _field(
    s: Session, written: ast.DataField, type: TensorType, module: Module, source: str
) -> tuple[Tensor, str | None]:
    batch = type.with_shape((_ROWS, *type.shape))
    if source == "given":
        if written.value is not None:
            raise s.report(
                "E0542",
                "a field of `given` is handed over as it is",
                [written.value],
                help="leave the expression out, and compute in the plan",
            )
        return _column(s, written.name, batch), None
    if written.value is None:
        raise s.report(
            "E0542",
            f"the field `{written.name}` needs an expression over the columns",
            [written],
            help=f"`{written.name}: {written.type.span.text} = column`",
        )
    if isinstance(type.element, Label):
        name = _bare_column(s, written.value, module)
        text = name if isinstance(name, str) else str(name)
        return _column(s, name, batch), text
    of_column = _column_type(source, written.value, batch)
    scope = ColumnScope(module, None, None, {"columns": Columns(of_column)})
    scope.column = lambda name: _column(s, name, of_column)
    value = read(s, expressions.evaluate(s, written.value, scope))
    if isinstance(value, Poison):
        raise Failed
    made = as_tensor(s, value, written.value)
    if not made.type.rank or made.type.shape[0] != _ROWS:
        raise s.report(
            "E0323", f"the field `{written.name}` has one value for all samples", [written.value],
            notes=[f"it is {made.type}, and a field has a value for each sample"],
        )  # fmt: skip
    if _is_flat(made.type, batch):
        made = s.op("reshape", (made.value,), (written.value,), shape=batch.shape)
    return made, None


def _is_of_type(s: Session, written: ast.DataField, made: Tensor, type: TensorType) -> bool:
    """Whether a field is what it is declared to be (E0323)."""
    found = made.type.with_shape(made.type.shape[1:])
    if found != type:
        s.report(
            "E0323", f"the field `{written.name}` is declared {type} and is {found}",
            [written.value or written, written.type],
        )  # fmt: skip
    return found == type


def _is_flat(found: TensorType, wanted: TensorType) -> bool:
    """Whether a field of several axes is given all its entries in a row."""
    entries = prod(wanted.shape[1:], start=Dim.of(1))
    return wanted.rank > 2 and found == wanted.with_shape((_ROWS, entries))


def _column(s: Session, name: str | int, type: TensorType) -> Tensor:
    key = f"column {name!r} {type}"
    return Tensor(s.region.once(key, lambda: s.builder.add("column", type, (), {"name": name})))


def _bare_column(s: Session, e: ast.Expression, module: Module) -> str | int:
    """A label is a column as it is."""
    if isinstance(e, ast.Name):
        return e.name
    if isinstance(e, ast.Index) and isinstance(e.value, ast.Name) and e.value.name == "columns":
        item = e.items[0]
        if not isinstance(item, ast.Slice | ast.All | ast.Dots):
            name = expressions.evaluate_static(s, item, Scope(module, None), "a column")
            if isinstance(name, str) or (isinstance(name, int) and not isinstance(name, bool)):
                return name
    raise s.report(
        "E0542",
        "a label is a column as it is",
        [e],
        help="name the column, or write `columns[...]`",
    )


@dataclass(slots=True, eq=False)
class ColumnScope(Scope):
    """The names of a field's expression: what nothing else is called is a column."""

    column: Callable[[str], Tensor] | None = None

    def find(self, name: str) -> tuple[Scope, Entry] | None:
        """Return the entry of a name, or the column of that name."""
        found = Scope.find(self, name)
        if found or self.column is None or names.is_global(self.module, name):
            return found
        return self, self.column(name)


def _column_type(source: str, value: ast.Expression, field: TensorType) -> TensorType:
    """The type that a column has in a field's expression: its element, and for an array its shape.

    What a list puts together are single numbers, whatever the source.
    """
    is_list = any(isinstance(part, ast.ListOf | ast.Range) for part in walk(value))
    numbers = (
        field if isinstance(field.element, Element) and field.element is not BOOL else _NUMBERS
    )
    if source in splits.OF_ARRAYS and not is_list:
        return numbers.with_shape(field.shape)
    return numbers.with_shape((_ROWS,))


def columns(s: Session, e: ast.Index, type: TensorType, scope: Scope) -> Any_:
    """`columns["name"]`, `columns[3]`, `columns[0 .. 63]`."""
    if len(e.items) != 1 or isinstance(e.items[0], ast.Slice | ast.All | ast.Dots):
        raise s.report("E0542", "`columns[...]` takes a name, a place or a range", [e])
    value = expressions.evaluate_static(s, e.items[0], scope, "a column")
    if isinstance(value, RangeOf):
        if not value.low <= value.high <= value.low + MAX_COLUMNS:
            raise s.report(
                "E0542", f"`columns[a .. b]` goes up, over at most {MAX_COLUMNS} columns", [e]
            )
        return tuple(_column(s, n, type) for n in range(int(value.low), int(value.high) + 1))
    if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
        return _column(s, value, type)
    raise s.report(
        "E0542", f"a column has a name or a place, found {describe(value)}", [e.items[0]]
    )


def standardize(
    s: Session, p: "Primitive", bound: "Mapping[str, Given]", e: ast.Expression
) -> Any_:
    """(x - mean) / std, entry by entry; mean and standard deviation are those of `train`."""
    region = s.region
    if region.statistics is None:
        raise s.report("E0542", "`standardize` is for the fields of a data set", [e])
    x = as_tensor(s, bound["x"].value, bound["x"].at)
    number = len(region.statistics) // 2
    source = f"standardize_{number}"
    region.sources[source] = x
    type = x.type.with_shape(x.type.shape[1:])
    values: list[Tensor] = []
    for figure in ("mean", "std"):
        name = f"{region.dataset}.{source}.{figure}"
        variable = Variable(name, type, Role.STATISTIC, span=e.span)
        region.statistics.append(Statistic(name, source, figure))
        region.variables[name] = variable
        attributes = {"name": name, "role": Role.STATISTIC.value}
        values.append(Tensor(s.builder.add("variable", type, (), attributes)))
    centred = s.op("subtract", (x.value, values[0].value), (e, e))
    return s.op("divide", (centred.value, values[1].value), (e, e))
