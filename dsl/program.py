"""The stages of the language joined: a source is checked whole, and a plan of it is lowered.

The only file of `fml.dsl` that knows their order.
"""

import gc
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fml.dsl import ast
from fml.dsl.elaborate import declarations, expressions, learners, measuring, models, plan
from fml.dsl.elaborate.datasets import lower as lower_dataset
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.modules import Module, load_module
from fml.dsl.options import OptionInfo, option_values, options_of
from fml.dsl.scope import Scope
from fml.dsl.values import DataValue
from fml.engine.ir.diagnostics import Diagnostic, FmlError, did_you_mean, error
from fml.engine.ir.never_due import never_due
from fml.engine.ir.source import Source, Span
from fml.engine.ir.training import Dataset, Draws, Model, Series, Training


@dataclass(frozen=True, slots=True)
class PlanInfo:
    """A `train` block: its name, empty where none was written."""

    name: str
    doc: str
    span: Span


@dataclass(frozen=True, slots=True)
class CheckedProgram:
    """A file without errors.

    `sources` are all files that were read, imports included; `base` is the folder in which its
    relative paths are looked for first; `datasets` are those that its plans use, by name, and
    `draws` say what each plan takes of them. `never_due` are warnings that other options may make
    pointless: of updates that come too late for a run with the defaults.
    """

    source: Source
    sources: tuple[Source, ...]
    base: Path
    module: Module
    options: tuple[OptionInfo, ...]
    plans: tuple[PlanInfo, ...]
    datasets: Mapping[str, Dataset]
    draws: tuple[Draws, ...]
    warnings: tuple[Diagnostic, ...] = ()
    never_due: tuple[Diagnostic, ...] = ()


def check(source: Source, base: Path) -> CheckedProgram:
    """Check a file whole: every declaration on its own, and every plan with its defaults.

    Raises:
        FmlError: all the errors of the file, in the order of the text.
    """
    with _uncollected():
        return _check(source, base)


def _check(source: Source, base: Path) -> CheckedProgram:
    loaded = load_module(source, base)
    module, found = loaded.module, list(loaded.diagnostics)
    session = Session(module, {})
    options = options_of(session, module)
    _check_declarations(session, module)
    found += session.diagnostics
    broken, first = bool(found), session
    followed: list[_Followed] = []
    for written in module.plans:
        session = Session(module, {})
        session.checked, session.broken = first.checked, first.broken
        made = _follow(session, written, module)
        followed += [made] if made else []
        # A fault of a declaration is reported once, where it stands.
        found += [d for d in session.diagnostics if not (broken and _known(d, found))]
    if any(d.severity == "error" for d in found):
        raise FmlError(found)
    works = [each.work for each in followed]
    return CheckedProgram(
        source,
        loaded.sources,
        base,
        module,
        options,
        plans=tuple(PlanInfo(t.name, t.doc, t.span) for t in module.plans),
        datasets={name: data for work in works for name, data in work.datasets.items()},
        draws=tuple(Draws((*w.feeds,), (*w.measures,), w.learners) for w in works),
        warnings=tuple(found),
        never_due=tuple(
            warning
            for work in works
            for warning in never_due(work.step.builder.nodes.nodes, work.stops)
        ),
    )


def _known(diagnostic: Diagnostic, found: list[Diagnostic]) -> bool:
    return any(d.code == diagnostic.code and d.marks[:1] == diagnostic.marks[:1] for d in found)


def _check_declarations(session: Session, module: Module) -> None:
    for declaration in module.file.declarations:
        try:
            match declaration:
                case ast.Function() | ast.Layer() | ast.Optimizer():
                    declarations.ensure_checked(session, declaration, module)
                case ast.Constant():
                    _check_constant(session, declaration, module)
                case ast.Data():
                    lower_dataset(session, DataValue(declaration, module))
                case _:
                    pass
        except Failed:
            continue


def _check_constant(session: Session, written: ast.Constant, module: Module) -> None:
    """By its name, as others read it; one that its name does not stand for, by its value."""
    is_meant = module.names[written.name] is written and written.name not in module.unsure
    read = ast.Name(written.name, span=written.span) if is_meant else written.value
    expressions.evaluate(session, read, Scope(module, None))


def lower(
    program: CheckedProgram, name: str | None = None, options: Mapping[str, object] | None = None
) -> Training:
    """Lower one plan; `options` are Python values, or text as typed on a command line.

    Raises:
        FmlError: unknown plan or option, a value out of range, sizes that do not fit.
    """
    with _uncollected():
        return _lower(program, name, options or {})


@contextmanager
def _uncollected() -> Generator[None]:
    """Put off looking for cyclic garbage, of which syntax and graphs leave next to none.

    With their many small objects it took a fifth of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _lower(program: CheckedProgram, name: str | None, options: Mapping[str, object]) -> Training:
    written = _chosen(program, name)
    values = option_values(Session(program.module, {}), program.options, options)
    session = Session(program.module, values)
    followed = _follow(session, written, program.module)
    if followed is None:
        raise FmlError(_blamed(d, program, options or {}) for d in session.diagnostics)
    return _put_together(session, followed)


def _blamed(
    diagnostic: Diagnostic, program: CheckedProgram, options: Mapping[str, object]
) -> Diagnostic:
    """Say which options an error comes of: with its defaults the file was checked."""
    if not options:
        return diagnostic
    given = ", ".join(f"`{name}={value}`" for name, value in options.items())
    known = {option.name: option.default for option in program.options}
    defaults = ", ".join(f"`{name}={known[name]}`" for name in options)
    notes = (*diagnostic.notes, f"this comes of {given}")
    return replace(diagnostic, notes=notes, help=f"the file has no errors with its own {defaults}")


def _chosen(program: CheckedProgram, name: str | None) -> ast.Train:
    plans = program.module.plans
    if not plans:
        raise error(
            "E0602", f"`{program.source.name}` has no plan",
            help="add a `train { ... }` block, or apply its models from Python",
        )  # fmt: skip
    if name is None:
        return plans[0]
    for written in plans:
        if written.name == name:
            return written
    names = [p.name for p in plans if p.name]
    listed = f"its plans are {', '.join(names)}" if names else "its only plan has no name"
    raise error(
        "E0602", f"`{program.source.name}` has no plan `{name}`",
        help=did_you_mean(name, names) or listed,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Followed:
    """A plan without errors: what was gathered of its statements, and its models."""

    name: str
    work: plan.PlanWork
    models: tuple[Model, ...]


def _follow(s: Session, written: ast.Train, module: Module) -> _Followed | None:
    """Take a plan's statements and look at its models; None where there are errors."""
    work = plan.run(s, written, module)
    if _has_errors(s):
        return None
    if any(m.loss is None for m in work.minimized):
        return None  # the fault is in a declaration, and was reported there
    made = models.lower(s, work)
    return None if _has_errors(s) else _Followed(written.name, work, made)


def _has_errors(s: Session) -> bool:
    return any(d.severity == "error" for d in s.diagnostics)


def _put_together(s: Session, followed: _Followed) -> Training:
    """Finish the graphs of a plan."""
    work = followed.work
    outputs = {m.name: m.loss.id for m in work.minimized if m.loss is not None}
    outputs |= {name: value.id for name, value in work.step_logs.items()}
    step = measuring.pruned(work.step.builder.nodes.finish(outputs))
    init = measuring.pruned(s.init.builder.finish(dict(s.plan.first_values)))
    return Training(
        followed.name,
        {**s.plan.variables},
        dict(work.datasets),
        init,
        step,
        tuple(work.feeds),
        tuple(Series(f"train.{m.name}", m.name) for m in work.minimized),
        tuple(work.measures),
        tuple(work.logs),
        tuple(work.stops),
        work.keep,
        work.seed,
        work.learners,
        followed.models,
        learners.averaged_states(s),
    )
