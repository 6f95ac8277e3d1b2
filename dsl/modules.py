"""Files and their declarations by name: the user's, those imported, and `std` on demand.

Stands between the parser and the elaboration; finds duplicate names, missing imports and
import cycles, and says nothing yet about what the declarations mean.
"""

import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from fml.dsl import ast
from fml.dsl.parse import parse
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean
from fml.engine.ir.source import Source

_STD = Path(__file__).parent / "std"
# A declaration in the first column, with the doc comments above it.
_DECLARED = re.compile(
    r"^(?:##[^\n]*\n)*(?:(?:fn|layer|model|optimizer|strategy)\s+(?P<called>\w+)|(?P<bound>\w+)\s*=)",
    re.MULTILINE,
)


@dataclass(slots=True, eq=False)
class Module:
    """A parsed file: what it declares, by name, and what it imports.

    `imports` maps a name to the imported module (`import ... as`) or to a module and the name
    in it (`from ... import`).
    """

    source: Source
    base: Path
    file: ast.File
    names: dict[str, ast.Declaration] = field(default_factory=dict[str, ast.Declaration])
    imports: "dict[str, tuple[Module, str | None]]" = field(
        default_factory=dict[str, "tuple[Module, str | None]"]
    )

    @property
    def plans(self) -> tuple[ast.Train, ...]:
        """The `train` blocks."""
        return tuple(d for d in self.file.declarations if isinstance(d, ast.Train))


class Loader:
    """Reads a file and all that it imports; collects every error before it raises them."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.sources: list[Source] = []
        self._first: dict[tuple[int, str], ast.Syntax] = {}
        self._modules: dict[Path, Module] = {}
        self._open: list[Path] = []

    def load(self, source: Source, base: Path) -> Module:
        """Parse a source and its imports; relative paths are looked for in `base`."""
        self.sources.append(source)
        module = Module(source, base, parse(source))
        for declaration in module.file.declarations:
            match declaration:
                case ast.Import():
                    self._import(module, declaration.name, declaration, None)
                case ast.ImportFrom():
                    for name in declaration.names:
                        self._import(module, name.name, declaration, name)
                case ast.Train():
                    self._declare(module, f"train {declaration.name}".rstrip(), declaration)
                case _:
                    self._declare(module, declaration.name, declaration)
        return module

    def _declare(self, module: Module, name: str, declaration: ast.Declaration) -> None:
        first = self._first.get((id(module), name)) or module.names.setdefault(name, declaration)
        if first is not declaration:
            self._duplicate(name, declaration, first)
        known: dict[str, ast.Parameter] = {}
        for parameter in _parameters(declaration):
            earlier = known.setdefault(parameter.name, parameter)
            if earlier is not parameter:
                self._duplicate(parameter.name, parameter, earlier)

    def _duplicate(self, name: str, second: ast.Syntax, first: ast.Syntax) -> None:
        marks = (Mark(second.span, "again here"), Mark(first.span, "first here"))
        self.diagnostics.append(
            Diagnostic("E0202", f"`{name}` is declared twice", marks, (), "rename one of the two")
        )

    def _import(
        self,
        module: Module,
        name: str,
        declaration: ast.Import | ast.ImportFrom,
        wanted: ast.Name | None,
    ) -> None:
        imported = self._imported(module, declaration)
        if imported is None:
            return
        if wanted and wanted.name not in imported.names:
            near = did_you_mean(wanted.name, imported.names)
            mark = Mark(wanted.span, "not declared there")
            self.diagnostics.append(
                Diagnostic(
                    "E0201", f"`{declaration.path.value}` has no `{wanted.name}`", (mark,), (), near
                )
            )
            return
        second = wanted or declaration
        first = module.names.get(name) or self._first.setdefault((id(module), name), second)
        if first is not second:
            self._duplicate(name, second, first)
        module.imports[name] = (imported, wanted.name if wanted else None)

    def _imported(self, module: Module, declaration: ast.Import | ast.ImportFrom) -> Module | None:
        path = (module.base / declaration.path.value).resolve()
        mark = (Mark(declaration.path.span),)
        if path in self._open:
            chain = " -> ".join(p.name for p in (*self._open[self._open.index(path) :], path))
            self.diagnostics.append(
                Diagnostic(
                    "E0206",
                    f"files import each other: {chain}",
                    mark,
                    (),
                    "move what both need into a third file",
                )
            )
            return None
        if path not in self._modules:
            try:
                text = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as reason:
                why = "is not UTF-8 text" if isinstance(reason, UnicodeDecodeError) else "not found"
                near = did_you_mean(path.stem, (p.stem for p in path.parent.glob("*.fml")))
                self.diagnostics.append(
                    Diagnostic(
                        "E0206",
                        f"cannot import `{declaration.path.value}`: {why}",
                        mark,
                        (f"looked for it at {path}",),
                        near or "paths are relative to this file",
                    )
                )
                return None
            self._open.append(path)
            try:
                # Named as seen from where the importing file was named from.
                name = (Path(module.source.name).parent / declaration.path.value).as_posix()
                self._modules[path] = self.load(Source(name, text), path.parent)
            except FmlError as errors:
                self.diagnostics.extend(errors.diagnostics)
                return None
            finally:
                self._open.pop()
        return self._modules[path]


def _parameters(declaration: ast.Declaration) -> tuple[ast.Parameter, ...]:
    match declaration:
        case ast.Layer():
            return (*declaration.attributes, *declaration.parameters)
        case ast.Function() | ast.Optimizer() | ast.Strategy():
            return declaration.parameters
        case _:
            return ()


def load_module(source: Source, base: Path) -> tuple[Module, tuple[Source, ...]]:
    """Return the module of a source and all the sources read on the way.

    Raises:
        FmlError: syntax errors, duplicate names, imports that fail, in this file or below.
    """
    loader = Loader()
    try:
        module = loader.load(source, base)
    except FmlError as errors:
        raise FmlError([*loader.diagnostics, *errors.diagnostics]) from None
    if loader.diagnostics:
        raise FmlError(loader.diagnostics)
    return module, tuple(loader.sources)


@dataclass(frozen=True, slots=True)
class StdEntry:
    """Where a declaration of `std` stands: its file, and that file's text with only it in it."""

    file: str
    text: str


@cache
def std_index() -> dict[str, StdEntry]:
    """The declarations of `std` by name, found without parsing."""
    index: dict[str, StdEntry] = {}
    for entry in sorted(_STD.glob("*.fml")):
        text = entry.read_text(encoding="utf-8")
        matches = list(_DECLARED.finditer(text))
        ends = [match.start() for match in matches[1:]] + [len(text)]
        for match, end in zip(matches, ends, strict=True):
            # Blank lines stand for all that comes before it, so that it keeps its place.
            above = "\n" * text.count("\n", 0, match.start())
            name = match["called"] or match["bound"]
            index[name] = StdEntry(entry.name, above + text[match.start() : end])
    return index


@cache
def std_module(name: str) -> Module | None:
    """Return a module of the one declaration of `std` of that name.

    A program uses a few of them, and parsing all would take most of the time of checking it.
    """
    entry = std_index().get(name)
    if entry is None:
        return None
    module, _ = load_module(Source(f"std/{entry.file}", entry.text, is_std=True), Path())
    return module
