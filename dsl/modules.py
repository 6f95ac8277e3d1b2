"""Files and their declarations by name: the user's, those imported, and `std` on demand.

Stands between the parser and the elaboration; finds duplicate names, missing imports and
import cycles, and says nothing yet about what the declarations mean.
"""

import re
from collections import Counter
from collections.abc import Sequence
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
    in it (`from ... import`). Nobody knows what the names in `unsure` mean, as their import failed
    or they are declared in two ways: that was reported, and what uses them is not to blame.
    """

    source: Source
    base: Path
    file: ast.File
    names: dict[str, ast.Declaration] = field(default_factory=dict[str, ast.Declaration])
    imports: "dict[str, tuple[Module, str | None]]" = field(
        default_factory=dict[str, "tuple[Module, str | None]"]
    )
    unsure: set[str] = field(default_factory=set[str])

    def knows(self, name: str) -> bool:
        """Whether the file declares or imports a name, be it with a fault."""
        return name in self.names or name in self.imports or name in self.unsure

    @property
    def plans(self) -> tuple[ast.Train, ...]:
        """The `train` blocks."""
        return tuple(d for d in self.file.declarations if isinstance(d, ast.Train))


class Loader:
    """Reads a file and all that it imports, and collects every error on the way."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.sources: list[Source] = []
        self._first: dict[tuple[int, str], ast.Syntax] = {}
        self._modules: dict[Path, Module | None] = {}
        self._open: list[Path] = []

    def load(self, source: Source, base: Path) -> Module:
        """Parse a source and its imports; relative paths are looked for in `base`.

        Raises:
            FmlError: syntax errors of this source.
        """
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
        first = self._first.setdefault((id(module), name), declaration)
        if first is declaration:
            module.names[name] = declaration
        else:
            self._duplicate(name, declaration, first)
            if _to_callers(first) != _to_callers(declaration):
                module.unsure.add(name)
        parameters = parameters_of(declaration)
        for repeats in repeated(parameters):
            earlier, *again = [p for p in parameters if p.name == repeats]
            for parameter in again:
                self._duplicate(repeats, parameter, earlier)
            module.unsure.add(name)

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
        second = wanted or declaration
        first = self._first.setdefault((id(module), name), second)
        if first is not second:
            self._duplicate(name, second, first)
        imported = self._imported(module, declaration)
        if imported is None:
            module.unsure.add(name)
        elif wanted and wanted.name not in imported.names:
            module.unsure.add(name)
            if wanted.name not in imported.unsure:
                self._not_there(declaration.path.value, wanted, imported)
        else:
            meant = (imported, wanted.name if wanted else None)
            if first is not second and module.imports.get(name) != meant:
                module.unsure.add(name)
            module.imports.setdefault(name, meant)

    def _not_there(self, path: str, wanted: ast.Name, imported: Module) -> None:
        message = f"`{path}` has no `{wanted.name}`"
        mark = Mark(wanted.span, "not declared there")
        near = did_you_mean(wanted.name, imported.names)
        self.diagnostics.append(Diagnostic("E0201", message, (mark,), (), near))

    def _imported(self, module: Module, declaration: ast.Import | ast.ImportFrom) -> Module | None:
        path = (module.base / declaration.path.value).resolve()
        if path in self._open:
            chain = " -> ".join(p.name for p in (*self._open[self._open.index(path) :], path))
            self._cannot_import(
                declaration, f"files import each other: {chain}",
                help="move what both need into a third file",
            )  # fmt: skip
            return None
        if path not in self._modules:
            text = self._read(declaration, path)
            if text is None:
                return None
            # Named as seen from where the importing file was named from.
            name = (Path(module.source.name).parent / declaration.path.value).as_posix()
            self._open.append(path)
            try:
                self._modules[path] = self.load(Source(name, text), path.parent)
            except FmlError as errors:
                self.diagnostics.extend(errors.diagnostics)
                self._modules[path] = None
            finally:
                self._open.pop()
        return self._modules[path]

    def _read(self, declaration: ast.Import | ast.ImportFrom, path: Path) -> str | None:
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as reason:
            why = "is not UTF-8 text" if isinstance(reason, UnicodeDecodeError) else "not found"
            near = did_you_mean(path.stem, (p.stem for p in path.parent.glob("*.fml")))
            self._cannot_import(
                declaration, f"cannot import `{declaration.path.value}`: {why}",
                notes=(f"looked for it at {path}",),
                help=near or "paths are relative to this file",
            )  # fmt: skip
            return None

    def _cannot_import(
        self,
        declaration: ast.Import | ast.ImportFrom,
        message: str,
        *,
        notes: tuple[str, ...] = (),
        help: str,
    ) -> None:
        mark = Mark(declaration.path.span)
        self.diagnostics.append(Diagnostic("E0206", message, (mark,), notes, help))


def parameters_of(declaration: ast.Declaration) -> tuple[ast.Parameter, ...]:
    """What a declaration takes, the attributes of a layer first."""
    match declaration:
        case ast.Layer():
            return (*declaration.attributes, *declaration.parameters)
        case ast.Function() | ast.Optimizer() | ast.Strategy():
            return declaration.parameters
        case _:
            return ()


def repeated(parameters: Sequence[ast.Parameter]) -> set[str]:
    """The names that stand more than once among parameters."""
    names = Counter(parameter.name for parameter in parameters)
    return {name for name, count in names.items() if count > 1}


def _to_callers(declared: ast.Syntax) -> object:
    """What those who use a declaration must know of it: two alike in this go for each other."""
    match declared:
        case ast.Constant(value=value) | ast.Option(default=value):
            return type(value)
        case ast.Data(fields=fields):
            return tuple((field.name, field.type) for field in fields)
        case ast.Layer():
            return declared.attributes, declared.parameters, declared.result
        case ast.Function():
            return type(declared), declared.parameters, declared.result
        case ast.Optimizer() | ast.Strategy():
            return type(declared), declared.parameters
        case _:
            return type(declared)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A module, all the sources read on the way, and what is wrong with their names and imports."""

    module: Module
    sources: tuple[Source, ...]
    diagnostics: tuple[Diagnostic, ...]


def load_module(source: Source, base: Path) -> Loaded:
    """Return the module of a source; of a name declared twice, the first counts.

    Raises:
        FmlError: syntax errors of this source; those of imported files are among the diagnostics.
    """
    loader = Loader()
    module = loader.load(source, base)
    return Loaded(module, tuple(loader.sources), tuple(loader.diagnostics))


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
    return load_module(Source(f"std/{entry.file}", entry.text, is_std=True), Path()).module
