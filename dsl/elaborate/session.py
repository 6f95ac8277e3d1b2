"""The state of one check or one lowering: diagnostics, the graph at hand, variables, calls.

`Session` is passed to every function of this package.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fml.dsl import ast
from fml.dsl.elaborate.region import Origin, Region
from fml.dsl.modules import Module
from fml.dsl.values import Any_, Instance, Place, Tensor
from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.graph import Phase
from fml.engine.ir.source import Span
from fml.engine.ir.training import Duration, Role, Variable
from fml.engine.ops.build import Builder, Context, Value
from fml.engine.ops.record import OpTypeError

if TYPE_CHECKING:
    from fml.dsl.scope import Scope

MAX_CALLS = 60


class Failed(Exception):
    """An expression has no value: the reason is among the session's diagnostics already."""


class Attempts:
    """The parts of a list, one by one: a fault in one does not hide those of the others."""

    def __init__(self) -> None:
        self.failed = False

    def __enter__(self) -> None:
        """Begin with a part."""

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        """Remember that a part has failed, and go on."""
        has_failed = kind is not None and issubclass(kind, Failed)
        self.failed |= has_failed
        return has_failed

    def settle(self) -> None:
        """Raise `Failed` if any part has."""
        if self.failed:
            raise Failed


@dataclass(frozen=True, slots=True)
class CallFrame:
    """A call that is being followed: where it stands and what it calls.

    `outside` is the call in the user's text that led here, if this one stands in `std`.
    """

    span: Span
    name: str
    module: Module
    outside: "CallFrame | None" = None

    @property
    def is_of_strategy(self) -> bool:
        """Whether it is a `use`."""
        return isinstance(self.module.names.get(self.name), ast.Strategy)


@dataclass(slots=True, eq=False)
class PlanState:
    """What a plan has made so far: its layer values, variables and their first values.

    `doubtful` are the fields of its data whose type is not known: a fault of theirs was reported.
    `states` are the paths of its own states. `misapplied`: a layer value has not come to its
    parameters because of a fault in what it is applied to.
    """

    written: ast.Train | None = None
    root: Instance = field(default_factory=lambda: Instance(None, {}, None, ""))
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    slots: dict[str, Place] = field(default_factory=dict[str, Place])
    first_values: dict[str, Value] = field(default_factory=dict[str, Value])
    optimizers: dict[str, int] = field(default_factory=dict[str, int])
    applied: dict[Instance, tuple[Any_, ...]] = field(
        default_factory=dict[Instance, "tuple[Any_, ...]"]
    )
    doubtful: set[str] = field(default_factory=set[str])
    states: set[str] = field(default_factory=set[str])
    misapplied: bool = False
    delays: int = 0
    pushes: int = 0
    learners: "Scope | None" = None


class Session:
    """What the functions of this package share while they follow a program."""

    def __init__(self, module: Module, options: Mapping[str, Any_]) -> None:
        self.module = module
        self.options = options
        self.diagnostics: list[Diagnostic] = []
        self.variables: dict[str, Variable] = {}
        self.frames: list[CallFrame] = []
        self.globals: dict[tuple[int, str], Any_] = {}
        self.pending: list[str] = []
        self.checked: set[int] = set()
        self.broken: set[int] = set()
        self.naming: tuple[int, str] | None = None
        self.plan = PlanState()
        self._moments = 0
        self.region = self.new_region("check")
        self.init = self.new_region("init")

    # --- regions ---------------------------------------------------------------------------

    def new_region(self, name: str, **settings: object) -> Region:
        """Begin a graph."""
        self._moments += 1
        region = Region(Builder(name), self._moments)
        for key, value in settings.items():
            setattr(region, key, value)
        return region

    @contextmanager
    def within(self, region: Region) -> Generator[Region]:
        """Add nodes to another graph inside the `with`."""
        outer, self.region = self.region, region
        try:
            yield region
        finally:
            self.region = outer

    @contextmanager
    def reading(self, every: Duration) -> Generator[None]:
        """Assign nothing inside the `with`, though the graph at hand is one that may.

        Only `previous` remembers, whenever `every` is due.
        """
        region = self.region
        outer = region.read_only, region.due
        region.read_only, region.due = True, every
        try:
            yield
        finally:
            region.read_only, region.due = outer

    @contextmanager
    def called_from(self, frames: tuple[CallFrame, ...]) -> Generator[None]:
        """Go on, inside the `with`, in calls that were left meanwhile."""
        outer, self.frames = self.frames, [*frames]
        try:
            yield
        finally:
            self.frames = outer

    def advance(self) -> None:
        """Say that the step is over: what is bound and not fed is read anew from here on."""
        self._moments += 1
        self.region.moment = self._moments
        self.region.after_step = True
        self.region.again.clear()

    @property
    def builder(self) -> Builder:
        """The builder of the graph at hand."""
        return self.region.builder

    def marked(
        self, *, span: Span | None = None, **changes: object
    ) -> AbstractContextManager[None]:
        """Mark the nodes added inside the `with`: span, scope, phase, mapped, guard."""
        context = self.builder.context
        if changes:
            context = replace(context, **changes)  # pyright: ignore[reportArgumentType]
        return self.builder.under(context, span)

    # --- variables -------------------------------------------------------------------------

    def read(self, place: Place) -> Tensor:
        """Return a variable's value at this point of the text."""
        region, name = self.region, place.name
        if name not in region.current:
            region.current[name] = self.at_start(place).value
        if region.push is not None and region.push.begins_with(place):
            region.push.before[name] = old = region.current[name]
            with self.marked(mapped=True, guard=None, scope=name.rpartition(".")[0]):
                turn = old.call("learners_turn", name=name, push=region.push.number)
            region.versions.setdefault(name, []).append(turn.id)
            region.current[name] = turn
        return Tensor(region.current[name])

    def at_start(self, place: Place) -> Tensor:
        """Return a variable's value when the graph at hand starts."""
        variable = place.variable
        region = self.region

        def make() -> Value:
            context = Context(
                scope=variable.name.rpartition(".")[0],
                phase=Phase.UPDATE if variable.role is Role.SLOT else Phase.FORWARD,
                mapped=variable.mapped,
            )
            with region.builder.under(context, variable.span):
                value = region.builder.add(
                    "variable",
                    variable.type,
                    (),
                    {"name": variable.name, "role": variable.role.value},
                )
            if variable.span:
                region.origins.setdefault(value.id, Origin(variable, variable.span))
            return value

        key = f"variable {place.name}"
        if key not in region.shared:
            region.shared[key] = make()
        return Tensor(region.shared[key])

    def optimizer_path(self, name: str) -> str:
        """Return the path of an optimizer's states: its name, numbered from its second use on."""
        count = self.plan.optimizers.get(name, 0)
        self.plan.optimizers[name] = count + 1
        return f"{name}_{count}" if count else name

    # --- diagnostics -----------------------------------------------------------------------

    def report(
        self,
        code: str,
        message: str,
        marks: Iterable[Mark | ast.Syntax | Span],
        *,
        notes: Iterable[str] = (),
        help: str = "",
    ) -> Failed:
        """Add a diagnostic and return what to raise.

        What goes wrong inside `std` is reported at the user's own call.
        """
        made = tuple(_mark(m) for m in marks)
        extra = list(notes)
        outside = self.user_frame()
        if outside is not None and all(m.span.source.is_std for m in made):
            extra.append(f"inside `{outside.name}`, which is written in fml: {made[0].span.place}")
            made = (Mark(outside.span),)
        elif outside is not None:
            made = tuple(m for m in made if not m.span.source.is_std) or made
        self.diagnostics.append(Diagnostic(code, message, made, tuple(extra), help))
        return Failed()

    def user_frame(self) -> CallFrame | None:
        """Return the innermost call that stands in the user's text and leads into `std`."""
        last = self.frames[-1] if self.frames else None
        return last.outside if last and last.span.source.is_std else last

    def strategy(self) -> str | None:
        """Return the name of the strategy whose statements are being taken, if there is one."""
        return next((frame.name for frame in reversed(self.frames) if frame.is_of_strategy), None)

    def user_span(self, span: Span) -> Span:
        """Return the span, or that of the user's call if it lies in `std`."""
        frame = self.user_frame() if span.source.is_std else None
        return frame.span if frame else span

    def op(
        self,
        name: str,
        values: tuple[Value, ...],
        operands: tuple[ast.Syntax, ...],
        **attributes: object,
    ) -> Tensor:
        """Add an operation; its type errors become diagnostics at the operands."""
        try:
            return Tensor(self.builder.call(name, *values, **attributes))  # pyright: ignore[reportArgumentType]
        except OpTypeError as reason:
            raise self._clash(reason, values, operands) from None

    def _clash(
        self, reason: OpTypeError, values: tuple[Value, ...], operands: tuple[ast.Syntax, ...]
    ) -> Failed:
        places = reason.operands or tuple(range(len(values)))
        chosen = [
            (values[i], operands[min(i, len(operands) - 1)]) for i in places if i < len(values)
        ]
        marks = [Mark(s.span, self.type_text(v)) for v, s in chosen]
        notes = [note for v, _ in chosen for note in self.origin_notes(v)]
        return self.report(
            reason.code,
            reason.message,
            marks or operands,
            notes=dict.fromkeys(notes),
            help=reason.help,
        )

    def type_text(self, value: Value) -> str:
        """Write a type with the names its axes were declared with: `f32[K=3, D=4]`."""
        origin = self.region.origins.get(value.id)
        if not origin or len(origin.axes) != value.type.rank:
            return str(value.type)
        axes = [
            str(axis) if not name or name == str(axis) or name.isdigit() else f"{name}={axis}"
            for name, axis in zip(origin.axes, value.type.shape, strict=True)
        ]
        return f"{value.type.element}[{', '.join(axes)}]" if axes else str(value.type)

    def origin_notes(self, value: Value) -> list[str]:
        """Say where a value's shape was written, following it back to declared things."""
        seen: set[int] = set()
        stack, notes = [value.id], list[str]()
        while stack and len(notes) < 2:
            number = stack.pop()
            if number in seen:
                continue
            seen.add(number)
            origin = self.region.origins.get(number)
            if origin and not origin.span.source.is_std:
                notes.append(f"`{origin.text}` is declared at {origin.span.place}")
            else:
                stack.extend(reversed(self.builder.nodes[number].inputs))
        return notes


def _mark(place: Mark | ast.Syntax | Span) -> Mark:
    if isinstance(place, Mark):
        return place
    return Mark(place if isinstance(place, Span) else place.span)
