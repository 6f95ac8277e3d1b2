"""Lark's parse tree -> the syntax tree of `fml.dsl.ast`, with a place on every node."""

import re
from typing import Any, cast

from lark.tree import Meta

from fml.dsl import ast
from fml.dsl.tree_expressions import ToExpressions
from fml.engine.ir.source import Source, Span

_STRING_OR_COMMENT = re.compile(r'"(?:[^"\\\n]|\\.)*"|#[^\n]*')


def doc_comments(source: Source) -> tuple[dict[int, str], dict[int, str]]:
    """Return the `##` comments by line: those alone on their line, those behind something."""
    alone: dict[int, str] = {}
    behind: dict[int, str] = {}
    for number, line in enumerate(source.text.split("\n"), 1):
        for match in _STRING_OR_COMMENT.finditer(line):
            if match[0].startswith("##"):
                kind = behind if line[: match.start()].strip() else alone
                kind[number] = match[0].lstrip("#").strip()
    return alone, behind


class ToSyntax(ToExpressions):
    """Statements and declarations, beside the expressions that they are made of."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self.alone, self.behind = doc_comments(source)

    def doc(self, meta: Meta) -> str:
        """The doc comment before a declaration, or else behind its first line."""
        line = meta.line - 1
        lines: list[str] = []
        while line in self.alone:
            lines.insert(0, self.alone[line])
            line -= 1
        return "\n".join(lines) or self.behind.get(meta.line) or self.behind.get(meta.end_line, "")

    # --- declarations ----------------------------------------------------------------------

    def start(self, meta: Meta, children: list[Any]) -> ast.File:
        """The whole file."""
        return ast.File(tuple(children), span=self.span(meta))

    def option(self, meta: Meta, c: list[Any]) -> ast.Option:
        """`option`."""
        return ast.Option(self.word(c[0]), c[1], c[2], self.doc(meta), span=self.span(meta))

    def constant(self, meta: Meta, c: list[Any]) -> ast.Constant:
        """`name = e`."""
        return ast.Constant(self.word(c[0]), c[1], self.doc(meta), span=self.span(meta))

    def import_as(self, meta: Meta, c: list[Any]) -> ast.Import:
        """`import ... as`."""
        return ast.Import(self.as_string(c[0]), self.word(c[1]), span=self.span(meta))

    def import_from(self, meta: Meta, c: list[Any]) -> ast.ImportFrom:
        """`from ... import`."""
        names = tuple(self.as_name(t) for t in c[1:])
        return ast.ImportFrom(self.as_string(c[0]), names, span=self.span(meta))

    def data(self, meta: Meta, c: list[Any]) -> ast.Data:
        """`data`."""
        fields = tuple(i for i in c[2:] if isinstance(i, ast.DataField))
        splits = tuple(i for i in c[2:] if isinstance(i, ast.SplitBy))
        name = self.word(c[0])
        return ast.Data(name, c[1], fields, splits, self.doc(meta), span=self.span(meta))

    def field(self, meta: Meta, c: list[Any]) -> ast.DataField:
        """A field of a data set."""
        return ast.DataField(self.word(c[0]), c[1], c[2], span=self.span(meta))

    def split(self, meta: Meta, c: list[Any]) -> ast.SplitBy:
        """`split`."""
        *parts, of, by = c
        return ast.SplitBy(tuple(parts), self.word(of) if of else None, by, span=self.span(meta))

    def split_part(self, meta: Meta, c: list[Any]) -> ast.SplitPart:
        """`train 70%`."""
        return ast.SplitPart(self.word(c[0]), c[1], span=self.span(meta))

    def function(self, meta: Meta, c: list[Any]) -> ast.Function:
        """`fn`."""
        name = self.word(c[0])
        return ast.Function(name, c[1], c[2], c[3], self.doc(meta), span=self.span(meta))

    def layer(self, meta: Meta, c: list[Any]) -> ast.Layer:
        """`layer` and `model`: one list of parameters are tensors, two are attributes first."""
        kind, name, first, second, result, body = c
        attributes, parameters = (first, second) if second is not None else ((), first)
        return ast.Layer(
            str(kind), self.word(name), attributes, parameters, result, body, self.doc(meta),
            span=self.span(meta),
        )  # fmt: skip

    def optimizer(self, meta: Meta, c: list[Any]) -> ast.Optimizer:
        """`optimizer`."""
        name = self.word(c[0])
        return ast.Optimizer(name, c[1] or (), c[2], self.doc(meta), span=self.span(meta))

    def strategy(self, meta: Meta, c: list[Any]) -> ast.Strategy:
        """`strategy`."""
        name = self.word(c[0])
        return ast.Strategy(name, c[1] or (), c[2], self.doc(meta), span=self.span(meta))

    def train(self, meta: Meta, c: list[Any]) -> ast.Train:
        """`train`."""
        name = self.word(c[0]) if c[0] else ""
        return ast.Train(name, c[1], self.doc(meta), span=self.span(meta))

    def parameters(self, meta: Meta, c: list[Any]) -> tuple[ast.Parameter, ...]:
        """A list of parameters."""
        return tuple(c)

    def parameter(self, meta: Meta, c: list[Any]) -> ast.Parameter:
        """One parameter."""
        return ast.Parameter(self.word(c[0]), c[1], c[2], c[3], span=self.span(meta))

    # --- bodies ------------------------------------------------------------------------------

    def block(self, meta: Meta, c: list[Any]) -> ast.Block:
        """A body in braces, the last line of which is its value."""
        kinds = (ast.Bind, ast.Assign, ast.Param, ast.State)
        span = self.span(meta)
        if not c or isinstance(c[-1], kinds):
            closing = Span(self.source, span.end_line, span.end_column - 1, *_end(span))
            help = "its last line must be an expression"
            self.wrong("E0104", "this body ends without a value", closing, help)
            c = [*c, ast.Boolean(False, span=closing)]
        for item in c[:-1]:
            if not isinstance(item, kinds):
                help = "bind it with `name = ...`, or take it out"
                self.wrong("E0104", "only the last line of a body is its value", item.span, help)
        return ast.Block(tuple(c[:-1]), c[-1], span=span)

    def bind(self, meta: Meta, c: list[Any]) -> ast.Bind:
        """`name = e`."""
        return ast.Bind(self.word(c[0]), c[1], span=self.span(meta), name_span=self.span(c[0]))

    def assign(self, meta: Meta, c: list[Any]) -> ast.Assign:
        """`place <- e`."""
        return ast.Assign(c[0], c[1], span=self.span(meta))

    def assign_learners(self, meta: Meta, c: list[Any]) -> ast.Assign:
        """`learners.w <- e`."""
        return ast.Assign(self.path(meta, c[:-1]), c[-1], span=self.span(meta))

    def param(self, meta: Meta, c: list[Any]) -> ast.Param:
        """`param`."""
        return ast.Param(self.word(c[0]), c[1], c[2], c[3], span=self.span(meta))

    def state(self, meta: Meta, c: list[Any]) -> ast.State:
        """`state`."""
        return ast.State(self.word(c[0]), c[1], c[2], span=self.span(meta))

    # --- plans -------------------------------------------------------------------------------

    def plan(self, meta: Meta, c: list[Any]) -> tuple[ast.Statement, ...]:
        """The statements of a plan, optimizer or strategy."""
        return tuple(c)

    def feed(self, meta: Meta, c: list[Any]) -> ast.FeedFrom:
        """`feed`."""
        names = tuple(self.as_name(t) for t in c[:-1])
        return ast.FeedFrom(names, c[-1], span=self.span(meta))

    def minimize(self, meta: Meta, c: list[Any]) -> ast.Minimize:
        """`minimize`."""
        name = self.word(c[0]) if c[0] else None
        return ast.Minimize(name, c[1], c[2], span=self.span(meta))

    def using(self, meta: Meta, c: list[Any]) -> ast.Using:
        """`using`."""
        return ast.Using(c[0], span=self.span(meta))

    def descend(self, meta: Meta, c: list[Any]) -> ast.Descend:
        """`descend`."""
        return ast.Descend(c[0], c[1], c[2], span=self.span(meta))

    def measure(self, meta: Meta, c: list[Any]) -> ast.Measure:
        """`measure`."""
        *measured, on, every = c
        return ast.Measure(tuple(measured), on, every, span=self.span(meta))

    def measured(self, meta: Meta, c: list[Any]) -> ast.Measured:
        """One measured expression."""
        name = self.as_string(c[1]).value if c[1] else None
        return ast.Measured(c[0], name, span=self.span(meta))

    def at_end(self, meta: Meta, c: list[Any]) -> str:
        """`at end`."""
        return "end"

    def stop_after(self, meta: Meta, c: list[Any]) -> ast.StopAfter:
        """`stop after`."""
        return ast.StopAfter(c[0], span=self.span(meta))

    def stop_when(self, meta: Meta, c: list[Any]) -> ast.StopWhen:
        """`stop when`."""
        return ast.StopWhen(c[0], span=self.span(meta))

    def stop_stalled(self, meta: Meta, c: list[Any]) -> ast.StopStalled:
        """`stop when e stops falling for D`."""
        return ast.StopStalled(c[0], str(c[1]), c[2], span=self.span(meta))

    def keep(self, meta: Meta, c: list[Any]) -> ast.Keep:
        """`keep`."""
        return ast.Keep(str(c[0]), c[1], span=self.span(meta))

    def log(self, meta: Meta, c: list[Any]) -> ast.Log:
        """`log`."""
        name = self.as_string(c[1]).value if c[1] else None
        return ast.Log(c[0], name, c[2], span=self.span(meta))

    def every(self, meta: Meta, c: list[Any]) -> ast.Every:
        """`every`."""
        return ast.Every(c[0], c[1], span=self.span(meta))

    def when(self, meta: Meta, c: list[Any]) -> ast.When:
        """`when`."""
        return ast.When(c[0], c[1], span=self.span(meta))

    def seed(self, meta: Meta, c: list[Any]) -> ast.Seed:
        """`seed`."""
        return ast.Seed(c[0], span=self.span(meta))

    def precision(self, meta: Meta, c: list[Any]) -> ast.Precision:
        """`precision`."""
        return ast.Precision(self.as_name(c[0]), span=self.span(meta))

    def each(self, meta: Meta, c: list[Any]) -> ast.Each:
        """`each`."""
        return ast.Each(self.as_name(c[0]), self.as_name(c[1]), c[2], c[3], span=self.span(meta))

    def use(self, meta: Meta, c: list[Any]) -> ast.Use:
        """`use`."""
        return ast.Use(c[0], span=self.span(meta))

    def learners(self, meta: Meta, c: list[Any]) -> ast.Learners:
        """`learners`, the block and the one-line form."""
        _, count, on, *settings, last = c
        body: tuple[ast.Statement, ...] | None = None
        by: ast.Expression | None = None
        if isinstance(last, tuple):
            body = cast("tuple[ast.Statement, ...]", last)
        else:
            by = last
        return ast.Learners(count, on, tuple(settings), by, body, span=self.span(meta))

    def setting(self, meta: Meta, c: list[Any]) -> ast.Argument:
        """`staleness = 2`."""
        return ast.Argument(self.word(c[0]), c[1], span=self.span(c[0]).to(c[1].span))


def _end(span: Span) -> tuple[int, int]:
    return span.end_line, span.end_column
