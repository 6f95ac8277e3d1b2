"""One graph under construction, and what the text means there: the batch or a measured split."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from fml.dsl.values import Any_, Place, Tensor
from fml.engine.ir.graph import Phase
from fml.engine.ir.source import Span
from fml.engine.ir.training import Duration, Role, Statistic, Variable
from fml.engine.ops.build import Builder, Value

if TYPE_CHECKING:
    from fml.dsl.scope import Bound


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a shape comes from: what was written (`x: f32[N, 4]`) and where, axis by axis."""

    written: str | Variable
    span: Span
    axes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What was written; made when a message asks, since few do."""
        if isinstance(self.written, str):
            return self.written
        return f"{self.written.name.rpartition('.')[2]}: {self.written.type}"


@dataclass(slots=True, eq=False)
class Push:
    """A turn of each learner: the variables that it is about, and those that it has come to.

    An optimizer's slots belong to the turn of what it updates. `before` has the values before it.
    """

    number: int
    targets: frozenset[str]
    before: dict[str, Value] = field(default_factory=dict[str, Value])
    assigned: set[str] = field(default_factory=set[str])

    def begins_with(self, place: Place) -> bool:
        """Whether a variable is to be read anew for the turn."""
        variable = place.variable
        is_about = variable.name in self.targets or variable.role is Role.SLOT
        return is_about and not variable.mapped and variable.name not in self.before


@dataclass(slots=True, eq=False)
class Region:
    """One graph under construction.

    `joins` are the nodes across learners that a loss depends on, by the number of the loss.
    `memory` is what `previous` remembers once the graph has run, by variable, where it assigns
    nothing; `due` is how often a log of the step does so. None: nothing is remembered there.
    """

    builder: Builder
    moment: int
    training: bool = False
    in_plan: bool = False
    after_step: bool = False
    rigid: bool = False
    fields: Mapping[str, Tensor] | None = None
    series: bool = False
    used_series: dict[str, Span] = field(default_factory=dict[str, Span])
    apart: bool = False
    read_only: bool = True
    due: Duration | None = None
    memory: dict[str, Value] | None = None
    push: Push | None = None
    fed: dict[tuple[str, str], Tensor] = field(default_factory=dict[tuple[str, str], Tensor])
    current: dict[str, Value] = field(default_factory=dict[str, Value])
    versions: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    origins: dict[int, Origin] = field(default_factory=dict[int, Origin])
    joins: dict[int, list[int]] = field(default_factory=dict[int, list[int]])
    again: "dict[Bound, Any_]" = field(default_factory=dict["Bound", "Any_"])
    draws: dict[str, int] = field(default_factory=dict[str, int])
    shared: dict[str, Value] = field(default_factory=dict[str, Value])

    dataset: str = ""
    statistics: list[Statistic] | None = None
    sources: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    variables: dict[str, Variable] = field(default_factory=dict[str, Variable])

    def once(self, key: str, make: Callable[[], Value], *, mapped: bool = False) -> Value:
        """Return the node of this key, made outside any scope or guard when first asked for."""
        if key not in self.shared:
            context = replace(self.builder.context, guard=None, scope="", mapped=mapped)
            with self.builder.under(replace(context, phase=Phase.DATA)):
                self.shared[key] = make()
        return self.shared[key]
