"""Calls and pipes: arguments bound to parameters, functions followed, layers made and applied."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from fml.dsl import ast
from fml.dsl.elaborate import (
    allowed,
    builtins,
    chains,
    declarations,
    expressions,
    layers,
    names,
    optimizers,
    signatures,
    splits,
)  # fmt: skip
from fml.dsl.elaborate.arithmetic import read
from fml.dsl.elaborate.session import MAX_CALLS, Attempts, CallFrame, Failed, Session
from fml.dsl.modules import Module
from fml.dsl.scope import Entry, Scope
from fml.dsl.values import (
    POISON,
    Any_,
    Builtin,
    Cell,
    DataValue,
    FunctionValue,
    Instance,
    LayerFactory,
    OptimizerChain,
    OptimizerFactory,
    OptimizerValue,
    Place,
    Poison,
    SplitValue,
    Stack,
    StrategyFactory,
    Tensor,
    Tree,
    Unknown,
    describe,
)  # fmt: skip
from fml.engine.ir.diagnostics import did_you_mean


@dataclass(frozen=True, slots=True)
class Given:
    """An argument: its name if it was given by name, its value, and where it was written.

    `at` is the place of the value, `written` that of the name, too.
    """

    name: str | None
    value: Any_
    at: ast.Expression
    written: ast.Argument | None = None

    @property
    def whole(self) -> ast.Syntax:
        """What was written: the name and the value."""
        return self.written or self.at


def call(s: Session, e: ast.Call, scope: Scope) -> Any_:
    """Evaluate `f(a, b = c)`."""
    callee = names.called(s, e.function, scope)
    if isinstance(callee, Builtin) and callee.name in builtins.SPECIAL:
        return builtins.SPECIAL[callee.name](s, e, scope)
    if isinstance(callee, LayerFactory):
        return _call_layer(s, e, callee, scope)
    return apply(s, callee, evaluate_arguments(s, e.arguments, scope), e, scope)


def _call_layer(s: Session, e: ast.Call, factory: LayerFactory, scope: Scope) -> Any_:
    """`dense(3)` makes a layer value; `relu_layer(x)`, a bare name, is `f()(x)`."""
    declaration = factory.declaration
    given = [] if declaration.attributes else evaluate_arguments(s, e.arguments, scope)
    if given:
        instance = layers.make(s, factory, [], e, scope)
        return layers.apply(s, instance, given, e)
    arguments = evaluate_arguments(s, e.arguments, scope)
    if any(isinstance(g.value, Tensor | Tree | Place) for g in arguments):
        first = next(g for g in arguments if isinstance(g.value, Tensor | Tree | Place))
        wanted = [p for p in declaration.attributes if p.default is None]
        if not wanted and len(arguments) == len(declaration.parameters):
            instance = layers.make(s, factory, [], e, scope)
            return layers.apply(s, instance, arguments, e)
        attributes = ", ".join(p.name for p in declaration.attributes)
        raise s.report(
            "E0401", f"`{declaration.name}` takes its attributes first, and they are static",
            [first.at], notes=[f"found {describe(first.value)}"],
            help=f"write `{declaration.name}({attributes})(...)`",
        )  # fmt: skip
    return layers.make(s, factory, arguments, e, scope)


def evaluate_arguments(s: Session, arguments: Sequence[ast.Argument], scope: Scope) -> list[Given]:
    """Evaluate what stands between the parentheses of a call."""
    return [Given(a.name, expressions.evaluate(s, a.value, scope), a.value, a) for a in arguments]


def apply(s: Session, callee: Any_, given: list[Given], e: ast.Expression, scope: Scope) -> Any_:
    """Apply a value to arguments."""
    match callee:
        case Poison() | Unknown():
            return POISON
        case FunctionValue():
            return function(s, callee, given, e)
        case Builtin(name):
            return builtins.BUILTINS[name].apply(s, given, e)
        case Instance() | Stack():
            return layers.apply(s, callee, given, e)
        case LayerFactory():
            instance = layers.make(s, callee, [], e, scope)
            return layers.apply(s, instance, given, e)
        case OptimizerFactory():
            return optimizers.make(s, callee, given, e)
        case StrategyFactory():
            raise s.report(
                "E0404", "a strategy is put in place by `use`", [e],
                help=f"write `use {callee.declaration.name}(...)` as a statement of the plan",
            )  # fmt: skip
        case _:
            raise s.report("E0204", f"{describe(callee)} cannot be called", [e])


def pipe(s: Session, e: ast.Pipe, scope: Scope) -> Any_:
    """Evaluate `x |> f` and `x |> f(a)`."""
    value = expressions.evaluate(s, e.value, scope)
    return pipe_into(s, value, e.value, e.into, scope)


def pipe_into(
    s: Session, value: Any_, at: ast.Expression, into: ast.Expression, scope: Scope
) -> Any_:
    """Pipe a value: `f(x, a)` for functions, `f(a)(x)` for layers, a chain for optimizers."""
    if isinstance(value, DataValue):
        value = splits.one_split(s, value, at)
    if isinstance(value, SplitValue) or (
        isinstance(value, Poison) and splits.piped_into(into) in splits.PIPES
    ):
        return splits.piped(s, value, into, scope)
    first = Given(None, value, at)
    if isinstance(value, OptimizerValue | OptimizerChain):
        chains.require_optimizer(s, value, into, scope)
    if isinstance(into, ast.Call):
        callee = names.called(s, into.function, scope)
        if isinstance(callee, FunctionValue) or (
            isinstance(callee, Builtin) and callee.name not in builtins.SPECIAL
        ):
            given = [first, *evaluate_arguments(s, into.arguments, scope)]
            return apply(s, callee, given, into, scope)
        if isinstance(callee, LayerFactory):
            given = evaluate_arguments(s, into.arguments, scope)
            return layers.apply(s, layers.make(s, callee, given, into, scope), [first], into)
    target = names.called(s, into, scope)
    if isinstance(target, OptimizerFactory):
        target = optimizers.make(s, target, [], into)
    if isinstance(target, OptimizerValue | OptimizerChain):
        return optimizers.chain(s, value, target, at)
    if isinstance(target, Tensor | Tree | Place | Cell | int | float | str):
        raise s.report("E0204", f"{describe(target)} cannot be piped into", [into])
    return apply(s, target, [first], into, scope)


# --- functions -----------------------------------------------------------------------------------


@contextmanager
def followed(s: Session, name: str, module: Module, e: ast.Expression) -> Generator[None]:
    """Remember the call while its body is followed; refuse recursion without end."""
    if len(s.frames) >= MAX_CALLS:
        if any(frame.name == name and frame.module is module for frame in s.frames):
            raise s.report("E0207", f"`{name}` calls itself without end", [e])
        raise s.report(
            "E0107", f"these calls are nested too deeply: more than {MAX_CALLS}", [e],
            help="let one declaration do what several hand on",
        )  # fmt: skip
    outside = s.user_frame() if e.span.source.is_std else None
    s.frames.append(CallFrame(e.span, name, module, outside))
    try:
        yield
    finally:
        s.frames.pop()


def function(s: Session, f: FunctionValue, given: list[Given], e: ast.Expression) -> Any_:
    """Follow a call of an `fn`."""
    declaration = f.declaration
    declarations.ensure_checked(s, declaration, f.module)
    bound = bind(s, declaration.parameters, given, declaration.name, e, Scope(f.module, None))
    if any(isinstance(g.value, Poison) for g in bound.values()):
        return POISON
    with followed(s, declaration.name, f.module, e):
        matched = signatures.match(s, declaration.parameters, bound, declaration.name)
        if id(declaration) in s.broken:
            return POISON
        scope = Scope(f.module, None, None, dict(matched.names))
        result = body(s, declaration.body, scope)
        return signatures.check_result(s, declaration.result, result, matched, declaration)


def body(s: Session, written: ast.Expression | ast.Block, scope: Scope) -> Any_:
    """Evaluate a body: its statements in order, then its value."""
    if isinstance(written, ast.Block):
        for statement in written.statements:
            try:
                layers.statement(s, statement, scope)
            except Failed:
                continue
        return read(s, expressions.evaluate(s, written.value, scope))
    return read(s, expressions.evaluate(s, written, scope))


def bind(
    s: Session,
    parameters: Sequence[ast.Parameter],
    given: Sequence[Given],
    name: str,
    e: ast.Expression,
    defaults: Scope,
) -> dict[str, Given]:
    """Match arguments with parameters by place and name; defaults see earlier parameters."""
    bound = _written(s, parameters, given, name)
    needed = [p.name for p in parameters if p.name not in bound and p.default is None]
    if needed:
        listed = ", ".join(f"`{parameter}`" for parameter in needed)
        raise s.report(
            "E0205", f"`{name}` needs {listed}", [e],
            notes=[f"it is declared as {signature_text(name, parameters)}"],
        )  # fmt: skip
    for parameter in parameters:
        if parameter.name in bound or parameter.default is None:
            continue
        earlier: dict[str, Entry] = {k: g.value for k, g in bound.items()}
        value = expressions.evaluate(s, parameter.default, defaults.inner(earlier))
        bound[parameter.name] = Given(parameter.name, value, parameter.default)
    allowed.require(s, parameters, bound, name, defaults)
    return {p.name: bound[p.name] for p in parameters}


def _written(
    s: Session, parameters: Sequence[ast.Parameter], given: Sequence[Given], name: str
) -> dict[str, Given]:
    """Find the parameter of each argument that is written."""
    bound: dict[str, Given] = {}
    free = [p.name for p in parameters]
    attempts = Attempts()
    for argument in given:
        key = argument.name if argument.name is not None else (free[0] if free else None)
        with attempts:
            if key is None:
                raise _too_many(s, parameters, given, name, argument)
            if key not in {p.name for p in parameters}:
                near = did_you_mean(key, free)
                raise s.report(
                    "E0205", f"`{name}` has no `{key}`", [argument.whole],
                    notes=[f"it is declared as {signature_text(name, parameters)}"], help=near,
                )  # fmt: skip
            if key in bound:
                raise s.report("E0205", f"`{key}` is given twice to `{name}`", [argument.whole])
            bound[key] = argument
            free.remove(key)
        if key is None:
            break  # one argument too many says it for all of them
    attempts.settle()
    return bound


def _too_many(
    s: Session,
    parameters: Sequence[ast.Parameter],
    given: Sequence[Given],
    name: str,
    argument: Given,
) -> Failed:
    return s.report(
        "E0205", f"`{name}` takes {_count(len(parameters))}, found {len(given)}",
        [argument.at], notes=[f"it is declared as {signature_text(name, parameters)}"],
    )  # fmt: skip


def _count(arguments: int) -> str:
    return f"{arguments or 'no'} argument{'' if arguments == 1 else 's'}"


def signature_text(name: str, parameters: Sequence[ast.Parameter]) -> str:
    """Write a declaration's parameters as they were written: `huber(a: f32[...], delta)`."""
    return f"`{name}({', '.join(p.span.text for p in parameters)})`"


def values_of(bound: Mapping[str, Given]) -> dict[str, Any_]:
    """Return bound arguments without their places."""
    return {name: given.value for name, given in bound.items()}
