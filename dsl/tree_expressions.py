"""Lark's parse tree -> syntax tree, the first half: places, words, types and expressions.

`fml.dsl.tree` has the other half, statements and declarations.
"""

import re
import unicodedata
from typing import Any, cast

from lark import Token, Tree
from lark.tree import Meta

from fml.dsl import ast
from fml.engine.ir.diagnostics import Diagnostic, Mark
from fml.engine.ir.source import Source, Span

MAX_DIGITS = 300
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}


class ToExpressions:
    """One method per rule of the grammar; children that are left out are None.

    `found` are the faults that the grammar does not see.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.found: list[Diagnostic] = []

    def build(self, tree: Tree[Token]) -> Any:
        """Return what a tree stands for; without recursion, however deep it is."""
        waiting: list[Any] = [tree]
        outside_in: list[Any] = []
        while waiting:
            part = waiting.pop()
            outside_in.append(part)
            if isinstance(part, Tree):
                waiting += cast("Tree[Token]", part).children
        built: list[Any] = []
        for part in reversed(outside_in):
            if isinstance(part, Tree):
                part = cast("Tree[Token]", part)
                first = len(built) - len(part.children)
                children = built[first:]
                del built[first:]
                built.append(getattr(self, part.data)(part.meta, children))
            else:
                built.append(part)
        return built[0]

    def wrong(self, code: str, message: str, span: Span, help: str) -> None:
        """Note a fault; the tree goes on, but is shown to nobody."""
        self.found.append(Diagnostic(code, message, (Mark(span),), (), help))

    # --- places and words ------------------------------------------------------------------------

    def span(self, meta: Meta | Token) -> Span:
        """The place of a rule or token; an empty rule stands at the file's beginning."""
        if isinstance(meta, Meta) and meta.empty:
            return Span(self.source, 1, 1, 1, 1)
        return Span(
            self.source,
            cast(int, meta.line),
            cast(int, meta.column),
            cast(int, meta.end_line),
            cast(int, meta.end_column),
        )

    def word(self, token: Token) -> str:
        """A name, in Unicode's NFKC form."""
        return unicodedata.normalize("NFKC", str(token))

    def as_name(self, token: Token) -> ast.Name:
        """A token as a name with its place."""
        return ast.Name(self.word(token), span=self.span(token))

    def as_string(self, token: Token) -> ast.String:
        """A token as a string, unescaped."""
        text = re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[0]), token[1:-1])
        return ast.String(text, span=self.span(token))

    # --- types -----------------------------------------------------------------------------------

    def type(self, meta: Meta, c: list[Any]) -> ast.Type:
        """A type: the first brackets behind `label` hold its classes."""
        name, groups = self.word(c[0]), list(c[1:])
        classes: Any = None
        if name == "label" and groups and len(groups[0]) == 1:
            classes = groups.pop(0)[0]
        if len(groups) > 1 or isinstance(classes, ast.Dots):
            help = "write `f32[N, 4]`, or `label[K][N]` for labels of K classes"
            self.wrong("E0106", "a type has one list of axes", self.span(meta), help)
        axes: Any = groups[0] if groups else None
        return ast.Type(name, cast(Any, classes), axes, span=self.span(meta))

    def axes(self, meta: Meta, c: list[Any]) -> tuple[Any, ...]:
        """The axes of a type."""
        return tuple(c)

    def dots(self, meta: Meta, c: list[Any]) -> ast.Dots:
        """`...`."""
        return ast.Dots(span=self.span(meta))

    # --- expressions -----------------------------------------------------------------------

    def if_(self, meta: Meta, c: list[Any]) -> ast.If:
        """`if c then a else b`."""
        return ast.If(c[0], c[1], c[2], span=self.span(meta))

    def pipe(self, meta: Meta, c: list[Any]) -> ast.Pipe:
        """`x |> f`."""
        return ast.Pipe(c[0], c[1], span=self.span(meta))

    def binary(self, meta: Meta, c: list[Any]) -> ast.Binary:
        """Two operands and what stands between them."""
        return ast.Binary(str(c[1]), c[0], c[2], span=self.span(meta))

    def compare(self, meta: Meta, c: list[Any]) -> ast.Binary:
        """A comparison, which does not chain."""
        if len(c) > 3:
            help = f"write `a {c[1]} b and b {c[3]} c`"
            self.wrong("E0105", "comparisons do not chain", self.span(meta), help)
        return self.binary(meta, c)

    def unary(self, meta: Meta, c: list[Any]) -> ast.Unary:
        """`-x`, `not x`."""
        return ast.Unary(str(c[0]), c[1], span=self.span(meta))

    def range(self, meta: Meta, c: list[Any]) -> ast.Range:
        """`a .. b`."""
        return ast.Range(c[0], c[1], span=self.span(meta))

    def at_least(self, meta: Meta, c: list[Any]) -> ast.Interval:
        """`a ..`, behind `in`."""
        return ast.Interval(c[0], "..", None, span=self.span(meta))

    def above(self, meta: Meta, c: list[Any]) -> ast.Interval:
        """`a <..`, behind `in`."""
        return ast.Interval(c[0], str(c[1]), None, span=self.span(meta))

    def interval(self, meta: Meta, c: list[Any]) -> ast.Interval:
        """`a <.. b`, `a ..< b` and `a <..< b`, behind `in`."""
        return ast.Interval(c[0], str(c[1]), c[2], span=self.span(meta))

    def call(self, meta: Meta, c: list[Any]) -> ast.Call:
        """`f(a, b = c)`."""
        return ast.Call(c[0], tuple(c[1:]), span=self.span(meta))

    def argument(self, meta: Meta, c: list[Any]) -> ast.Argument:
        """An argument by place."""
        return ast.Argument(None, c[0], span=self.span(meta))

    def named(self, meta: Meta, c: list[Any]) -> ast.Argument:
        """An argument by name."""
        return ast.Argument(self.word(c[0]), c[1], span=self.span(meta))

    def index(self, meta: Meta, c: list[Any]) -> ast.Index:
        """`x[i]`."""
        return ast.Index(c[0], tuple(c[1:]), span=self.span(meta))

    def slice(self, meta: Meta, c: list[Any]) -> ast.Slice:
        """`a:b`."""
        return ast.Slice(c[0], c[1], span=self.span(meta))

    def all(self, meta: Meta, c: list[Any]) -> ast.All:
        """`*`."""
        return ast.All(span=self.span(meta))

    def attribute(self, meta: Meta, c: list[Any]) -> ast.Attribute:
        """`x.name`."""
        return ast.Attribute(c[0], self.word(c[1]), span=self.span(meta))

    def quantity(self, meta: Meta, c: list[Any]) -> ast.Quantity:
        """`5 epochs`."""
        unit = str(c[1])
        return ast.Quantity(c[0], unit if unit.endswith("s") else unit + "s", span=self.span(meta))

    def number(self, meta: Meta, c: list[Any]) -> ast.Number:
        """A number; a percentage is its hundredth."""
        text = str(c[0])
        plain = text.rstrip("%").replace("_", "")
        value: int | float = 0
        if len(plain) <= MAX_DIGITS:
            value = int(plain) if plain.isdecimal() else float(plain)
        if len(plain) > MAX_DIGITS or value == float("inf"):
            help = "the largest is about 1.8e308"
            self.wrong("E0108", "this number is too large", self.span(meta), help)
        return ast.Number(value / 100 if text.endswith("%") else value, text, span=self.span(meta))

    def path(self, meta: Meta, c: list[Any]) -> ast.Expression:
        """`net.head` where a type could stand."""
        path: ast.Expression = self.as_name(c[0])
        for part in c[1:]:
            path = ast.Attribute(path, self.word(part), span=path.span.to(self.span(part)))
        return path

    def string(self, meta: Meta, c: list[Any]) -> ast.String:
        """A string."""
        return self.as_string(c[0])

    def boolean(self, meta: Meta, c: list[Any]) -> ast.Boolean:
        """`true` or `false`."""
        return ast.Boolean(c[0] == "true", span=self.span(meta))

    def name(self, meta: Meta, c: list[Any]) -> ast.Name:
        """A name."""
        return self.as_name(c[0])

    def group(self, meta: Meta, c: list[Any]) -> Any:
        """Parentheses leave nothing behind."""
        return c[0]

    def list(self, meta: Meta, c: list[Any]) -> ast.ListOf:
        """`[a, b]`."""
        return ast.ListOf(tuple(c), span=self.span(meta))
