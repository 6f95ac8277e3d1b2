"""The splits of a data set: which there are, how samples are cut into them, the way to a feed."""

from fml.dsl import ast
from fml.dsl.elaborate import expressions
from fml.dsl.elaborate.arithmetic import to_dim
from fml.dsl.elaborate.session import Attempts, Failed, Session
from fml.dsl.modules import Module
from fml.dsl.scope import Scope, declared
from fml.dsl.values import POISON, DataValue, Poison, SplitValue
from fml.engine.ir.diagnostics import did_you_mean
from fml.engine.ir.dims import Dim
from fml.engine.ir.training import Part, Split

PIPES = ("shuffle", "batch")  # what may stand between a split and its feed
# Their columns are arrays, an entry of the field's shape each; those of the others are numbers.
OF_ARRAYS = ("npz", "npy", "idx", "images")


def names_of(declaration: ast.Data) -> list[str] | None:
    """The splits that a data set declares; None where only the data tell."""
    has_own = source_name(declaration) in {"given", *OF_ARRAYS}
    if not declaration.splits:
        return None if has_own else ["train"]
    # A source that is cut in part keeps its other splits: idx has a `test` of its own.
    if has_own and any(split.of for split in declaration.splits):
        return None
    return [part.name for split in declaration.splits for part in split.parts]


def has(declaration: ast.Data, split: str) -> bool:
    """Whether a data set may have this split."""
    known = names_of(declaration)
    return known is None or split in known


def source_name(declaration: ast.Data) -> str:
    """What the source of a data set is called; nothing where it has no name."""
    source = declaration.source
    called = source.function if isinstance(source, ast.Call) else source
    return called.name if isinstance(called, ast.Name) else ""


def cut(s: Session, declaration: ast.Data, module: Module) -> Split | None:
    """How the samples are cut; None also where a fault was reported."""
    if not declaration.splits:
        return None
    written, *more = declaration.splits
    attempts = Attempts()
    with attempts:
        if more:
            raise s.report("E0543", "a data set is cut once", [more[0]])
    parts: dict[str, Part] = {}
    for part in written.parts:
        with attempts:
            if part.name in parts:
                raise s.report("E0202", f"the split `{part.name}` is named twice", [part])
            parts[part.name] = _part(s, declaration, part, module)
    with attempts:
        if sum(p.amount for p in parts.values() if p.is_share) > 1 + 1e-9:
            raise s.report("E0543", "the shares add up to more than 100%", [written])
    with attempts:
        method, by, seed = _method(s, declaration, written, module)
        if not attempts.failed:
            return Split(tuple(parts.values()), written.of, method, by, seed)
    return None


def _part(s: Session, declaration: ast.Data, part: ast.SplitPart, module: Module) -> Part:
    amount = expressions.evaluate_static(s, part.amount, Scope(module, None), "an amount")
    if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
        raise s.report("E0543", "a split is a number of samples or a percentage", [part.amount])
    if not amount:
        raise s.report(
            "E0521", f"the split `{part.name}` of `{declaration.name}` is empty", [part],
            help="give it samples, or leave it out",
        )  # fmt: skip
    return Part(part.name, amount, isinstance(amount, float), part.span)


def _method(
    s: Session, declaration: ast.Data, written: ast.SplitBy, module: Module
) -> tuple[str, str | None, int]:
    if written.by is None:
        return "given_order", None, 0
    called = written.by.function if isinstance(written.by, ast.Call) else written.by
    method = called.name if isinstance(called, ast.Name) else ""
    if method not in {"random", "stratified"}:
        raise s.report(
            "E0543",
            "samples are split by `random(seed = n)` or `stratified(field, seed = n)`",
            [written.by],
            help=did_you_mean(method, ["random", "stratified"]),
        )
    by: str | None = None
    seed = 0
    attempts = Attempts()
    for argument in written.by.arguments if isinstance(written.by, ast.Call) else ():
        with attempts:
            if argument.name == "seed" or (argument.name is None and method == "random"):
                seed = _seed(s, argument, module)
            elif argument.name is None and by is None and isinstance(argument.value, ast.Name):
                by = argument.value.name
            else:
                raise s.report("E0205", f"`{method}` does not take this argument", [argument])
    if method == "stratified":
        _require_label(s, declaration, written.by, by, seed)
    attempts.settle()
    return method, by, seed


def _seed(s: Session, argument: ast.Argument, module: Module) -> int:
    value = expressions.evaluate_static(s, argument.value, Scope(module, None), "a seed")
    if isinstance(value, bool) or not isinstance(value, int):
        raise s.report("E0543", "a seed is a whole number", [argument.value])
    return value


def _require_label(
    s: Session, declaration: ast.Data, at: ast.Expression, by: str | None, seed: int
) -> None:
    labels = [f.name for f in declaration.fields if f.type.name == "label"]
    if by in labels:
        return
    raise s.report(
        "E0543",
        "`stratified` needs the label field whose classes stay in proportion",
        [at],
        help=f"`stratified({labels[0]}, seed = {seed})`"
        if labels
        else "declare a field of type `label[K]`",
    )


# --- between a split and its feed ----------------------------------------------------------------


def one_split(s: Session, value: DataValue, at: ast.Syntax) -> SplitValue:
    """Say that a data set is drawn from by splits, and go on as if its first were written."""
    split = (names_of(value.declaration) or ["train"])[0]
    name = value.declaration.name
    s.report(
        "E0604", "a feed draws from one split of a data set", [at],
        help=f"name the split: `{name}.{split}`",
    )  # fmt: skip
    return SplitValue(value, split)


def piped_into(into: ast.Expression) -> str:
    """The plain name that stands behind `|>`, or nothing."""
    return declared(into.function if isinstance(into, ast.Call) else into)


def piped(
    s: Session, value: SplitValue | Poison, into: ast.Expression, scope: Scope
) -> SplitValue | Poison:
    """`iris.train |> shuffle |> batch(32)`; after a fault, the split as it was."""
    written = piped_into(into)
    batch = None if isinstance(value, Poison) else value.batch
    if written == "batch" and isinstance(into, ast.Call) and len(into.arguments) == 1:
        batch = _batch(s, into.arguments[0].value, scope)
    elif written != "shuffle" or isinstance(into, ast.Call):
        s.report(
            "E0604", "a split goes through `shuffle` and `batch(n)` only", [into],
            help=_on_the_way(written),
        )  # fmt: skip
    if isinstance(value, Poison):
        return POISON
    return SplitValue(value.data, value.split, value.shuffle or written == "shuffle", batch)


def _batch(s: Session, at: ast.Expression, scope: Scope) -> int:
    """The samples of a batch; 1 where a fault was reported."""
    try:
        dim = to_dim(s, expressions.evaluate_static(s, at, scope, "a number of samples"), at)
    except Failed:
        return 1
    if isinstance(dim, Dim) and not dim.size and dim.constant is not None:
        s.report("E0604", "a batch has at least one sample", [at])
    return (dim.size if isinstance(dim, Dim) else None) or 1


def _on_the_way(written: str) -> str:
    """How what was written between a split and its feed is said."""
    if written == "shuffle":
        return "`shuffle` stands without parentheses; `seed n` in the plan decides the order"
    if written == "batch":
        return "write the samples of a batch: `batch(32)`"
    near = did_you_mean(written, PIPES)
    return near or "transform samples in the fields of the data set, or after the `feed`"
