"""What a name stands for: the scope, the plan's clock, the file, its imports, `std`, primitives."""

from collections.abc import Callable, Iterable, Iterator
from typing import cast

from fml.dsl import ast
from fml.dsl.elaborate import builtins, clock, elsewhere, expressions
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.modules import Module, std_index, std_module
from fml.dsl.scope import Bound, FedField, ParamEntry, Scope
from fml.dsl.values import (
    LEARNERS_AXIS,
    POISON,
    Any_,
    Builtin,
    Cell,
    Closure,
    DataValue,
    FunctionValue,
    Instance,
    LayerFactory,
    Namespace,
    OptimizerFactory,
    Place,
    Poison,
    Stack,
    StrategyFactory,
    Tensor,
    Tree,
    Unknown,
)  # fmt: skip
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.source import Span
from fml.engine.ir.types import Element

ELEMENTS = {element.value: element for element in Element}


def look_up(s: Session, e: ast.Name, scope: Scope) -> Any_:
    """Return what a name stands for here."""
    return _named(s, e, scope, _known)


def called(s: Session, e: ast.Expression, scope: Scope) -> Any_:
    """Evaluate what is called or piped into: near names are those of things that can be."""
    if not isinstance(e, ast.Name):
        return expressions.evaluate(s, e, scope)
    try:
        if scope.find(e.name) and not (
            Scope.find(scope, e.name) or is_global(scope.module, e.name)
        ):
            raise _nothing(s, e, _callable(scope))  # a column of a data set, which is not called
        return _named(s, e, scope, _callable)
    except Failed:
        return POISON


def require_optimizer(s: Session, e: ast.Expression, scope: Scope) -> None:
    """Refuse a name that stands for nothing where only an optimizer can stand.

    Raises:
        Failed: E0201, with near names of optimizers.
    """
    match e:
        case ast.Pipe(value=first, into=then):
            require_optimizer(s, first, scope)
            require_optimizer(s, then, scope)
        case ast.Call(function=function):
            require_optimizer(s, function, scope)
        case ast.Name():
            _named(s, e, scope, _optimizers)
        case _:
            pass


def _named(
    s: Session, e: ast.Name, scope: Scope, candidates: Callable[[Scope], Iterable[str]]
) -> Any_:
    found = scope.find(e.name)
    if found:
        return _entry(s, found[1], e)
    if s.region.fields is not None and e.name in s.region.fields:
        return s.region.fields[e.name]
    value = global_value(s, scope.module, e.name, e)
    if value is not None:
        return value
    value = _contextual(s, e)
    if value is not None:
        return value
    if e.name in builtins.NOT_LOWERED:
        raise s.report(
            "E0903", f"`{e.name}` is part of the language but cannot be lowered yet", [e],
            help="it comes with a later version; the primitives of today are in the language "
            "reference",
        )  # fmt: skip
    if s.region.fields is not None and e.name in s.plan.doubtful:
        return POISON
    raise _nothing(s, e, candidates(scope))


def _nothing(s: Session, e: ast.Name, candidates: Iterable[str]) -> Failed:
    if s.plan.learners is not None:
        candidates = [*candidates, "learners"]
    near = _of_learners(s, e) or elsewhere.NAMES.get(e.name) or did_you_mean(e.name, candidates)
    return s.report("E0201", f"nothing is called `{e.name}` here", [e], help=near)


def _of_learners(s: Session, e: ast.Name) -> str | None:
    """The way to a name that only the block `learners` has."""
    if s.plan.learners is None or e.name not in s.plan.learners.names:
        return None
    return f"the learners have it: `learners.{e.name}`"


def _entry(s: Session, entry: object, e: ast.Name) -> Any_:
    match entry:
        case ParamEntry():
            if entry.in_making:
                raise s.report("E0207", f"`{e.name}` is defined by itself", [e])
            return entry.place()
        case Closure():
            return expressions.evaluate(s, entry.expression, entry.scope)
        case FedField():
            return _fed(s, entry, e)
        case Bound():
            return _bound(s, entry)
        case _:
            return entry  # pyright: ignore[reportReturnType]


def _fed(s: Session, entry: FedField, e: ast.Name) -> Tensor:
    """A field of the batch in the step; of the whole split where one is measured."""
    fields = s.region.fields
    if fields is None:
        if (entry.data, entry.field) in s.region.fed:
            return s.region.fed[entry.data, entry.field]
        raise s.report(
            "E0607", f"`{e.name}` is the batch of a step, and there is none here", [e],
            help="the statements of the step see a batch, and `measure ... on` sees a whole split",
        )  # fmt: skip
    if entry.field not in fields:
        raise s.report(
            "E0607", f"`{e.name}` is not a field of the split that is measured", [e],
            help=did_you_mean(entry.field, fields),
        )  # fmt: skip
    return fields[entry.field]


def _bound(s: Session, bound: Bound) -> Any_:
    """A plan's `=`: its value of that moment, or evaluated anew where that moment is over."""
    if bound.moment == s.region.moment:
        return bound.value
    if isinstance(bound.value, Poison):
        return POISON
    if not s.region.apart and is_fed(s, bound.value):
        return bound.value
    if bound not in s.region.again:
        closure = bound.closure
        s.region.again[bound] = expressions.settled(
            s, expressions.evaluate(s, closure.expression, closure.scope)
        )
    return s.region.again[bound]


def is_of_a_graph(value: Any_) -> bool:
    """Whether a value is made of nodes, or a list that has some; an error's stands for any."""
    if isinstance(value, tuple):
        return any(map(is_of_a_graph, cast("tuple[Any_, ...]", value)))
    return isinstance(value, Tensor | Tree | Poison)


def is_fed(s: Session, value: Any_) -> bool:
    """Whether a value of the graph at hand depends on the batch."""
    if isinstance(value, Tree):
        return any(is_fed(s, item) for item in value.items.values())
    if isinstance(value, tuple):
        return any(is_fed(s, item) for item in cast("tuple[Any_, ...]", value))
    if not isinstance(value, Tensor) or value.value.builder is not s.builder:
        return False
    nodes = s.builder.nodes
    return any(nodes[number].op == "feed" for number in nodes.ancestors([value.value.id]))


def global_value(s: Session, module: Module, name: str, e: ast.Syntax) -> Any_ | None:
    """Return what a file, its imports, `std` or the primitives declare under the name at `e`."""
    if name in module.unsure:
        return POISON
    if name in module.names:
        return _declared(s, module, name, e)
    if name in module.imports:
        imported, inner = module.imports[name]
        return Namespace(imported) if inner is None else global_value(s, imported, inner, e)
    std = std_module(name)
    if std is not None:
        return _declared(s, std, name, e)
    if name in builtins.BUILTINS:
        return Builtin(name)
    return ELEMENTS.get(name)


def is_global(module: Module, name: str) -> bool:
    """Whether a file, its imports, `std` or the primitives give a name a meaning."""
    known = module.knows(name) or name in builtins.BUILTINS
    return known or name in std_index() or name in ELEMENTS


def _declared(s: Session, module: Module, name: str, e: ast.Syntax) -> Any_:
    declaration = module.names[name]
    match declaration:
        case ast.Function():
            return FunctionValue(declaration, module)
        case ast.Layer():
            return LayerFactory(declaration, module)
        case ast.Optimizer():
            return OptimizerFactory(declaration, module)
        case ast.Strategy():
            return StrategyFactory(declaration, module)
        case ast.Data():
            return DataValue(declaration, module)
        case ast.Option() if module is s.module and name in s.options:
            return s.options[name]
        case ast.Option():
            return _static(s, module, name, declaration.default, declaration.span)
        case ast.Constant():
            return _static(s, module, name, declaration.value, declaration.span)
        case ast.Train():
            raise s.report(
                "E0402", f"`{name}` is a plan, which has no value", [e],
                help="bind what it computes inside the plan, and use that",
            )  # fmt: skip
        case _:
            return POISON


def _static(s: Session, module: Module, name: str, value: ast.Expression, span: Span) -> Any_:
    """The value of a constant or option, computed once."""
    key = (id(module), name)
    if key not in s.globals:
        if name in s.pending:
            chain = " -> ".join((*s.pending[s.pending.index(name) :], name))
            raise s.report("E0207", f"`{name}` is defined by itself: {chain}", [span])
        s.pending.append(name)
        try:
            s.globals[key] = expressions.evaluate(s, value, Scope(module, None))
        finally:
            s.pending.pop()
        if isinstance(s.globals[key], Tensor | Tree | Place | Cell):
            s.globals[key] = POISON
            raise s.report(
                "E0401", f"`{name}` must be known before anything runs", [value],
                help="move what computes with tensors into an `fn` or the plan",
            )  # fmt: skip
    return s.globals[key]


def _contextual(s: Session, e: ast.Name) -> Any_ | None:
    """Names that mean something in a plan or a layer without being declared."""
    if e.name == "training":
        return Unknown("training") if s.region.rigid else s.region.training
    if e.name == "learners":
        return LEARNERS_AXIS
    if e.name not in clock.COUNTERS:
        return None
    region = s.region
    if not (region.in_plan or region.rigid):
        raise s.report(
            "E0409", f"`{e.name}` has a value only while a plan runs", [e],
            help="hand it over from the plan, as an argument",
        )  # fmt: skip
    return clock.counter(s, e.name)


def _callable(scope: Scope) -> Iterator[str]:
    """The names of what can be called."""
    for name in scope.visible():
        found = scope.find(name)
        if found and isinstance(found[1], Instance | Stack | FunctionValue | LayerFactory):
            yield name
    kinds = (ast.Function, ast.Layer, ast.Optimizer, ast.Strategy)
    yield from (n for n, d in scope.module.names.items() if isinstance(d, kinds))
    yield from scope.module.imports
    yield from std_index()
    yield from builtins.BUILTINS


def _optimizers(scope: Scope) -> Iterator[str]:
    """The names of optimizers."""
    names = scope.module.names
    yield from (n for n, d in names.items() if isinstance(d, ast.Optimizer))
    yield from (n for n, e in std_index().items() if e.file == "optimizers.fml")
    yield from scope.module.imports


def _known(scope: Scope) -> Iterator[str]:
    yield from scope.visible()
    yield from scope.module.names
    yield from scope.module.imports
    yield from std_index()
    yield from builtins.BUILTINS
    yield from clock.COUNTERS
