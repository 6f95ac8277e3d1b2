"""Syntax trees at random: everything that a text can mean, and nothing that none can."""

from typing import Any

from hypothesis import strategies as st

from fml.dsl import ast
from fml.dsl.explain import DECLARATION_WORDS, STATEMENT_WORDS
from fml.engine.ir.source import Source, Span

NOWHERE = Span(Source("", ""), 1, 1, 1, 1)
WORDS = ("x", "y", "net", "W_1", "η", "ŷ", "steps", "stops", "as", "on", "per", "label", "where")
names = st.sampled_from((*WORDS, *DECLARATION_WORDS, *STATEMENT_WORDS))
BINDABLE = st.sampled_from((*WORDS, *DECLARATION_WORDS))


def node(kind: type, *parts: st.SearchStrategy[Any], **more: st.SearchStrategy[Any]) -> Any:
    return st.builds(kind, *parts, span=st.just(NOWHERE), **more)


def tuples(part: st.SearchStrategy[Any], low: int = 0, high: int = 3) -> Any:
    return st.lists(part, min_size=low, max_size=high).map(tuple)


def maybe(part: st.SearchStrategy[Any]) -> Any:
    return st.none() | part


NUMBERS = {"0": 0, "1": 1, "1_000": 1000, "0.5": 0.5, ".5": 0.5, "1e-4": 1e-4, "10%": 0.1}
number = st.sampled_from(sorted(NUMBERS)).map(
    lambda text: ast.Number(NUMBERS[text], text, span=NOWHERE)
)
name = node(ast.Name, names)
string = node(ast.String, st.text(st.characters(exclude_categories=["Cs"]), max_size=8))
leaves = number | name | string | node(ast.Boolean, st.booleans())
BINARY = ("^", "*", "/", "@", "+", "-", "==", "!=", "<", "<=", ">", ">=", "and", "or")


def larger(e: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    argument = node(ast.Argument, maybe(names), e)
    item = e | node(ast.Slice, maybe(e), maybe(e)) | node(ast.All) | node(ast.Dots)
    return (
        node(ast.Quantity, e, st.sampled_from(ast.UNITS))
        | node(ast.ListOf, tuples(e))
        | node(ast.Range, e, e)
        | node(ast.Call, e, tuples(argument))
        | node(ast.Index, e, tuples(item, low=1))
        | node(ast.Attribute, e, names | st.sampled_from(["*", "**"]))
        | node(ast.Unary, st.sampled_from(["-", "not"]), e)
        | node(ast.Binary, st.sampled_from(BINARY), e, e)
        | node(ast.Pipe, e, e)
        | node(ast.If, e, e, e)
    )


expressions = st.recursive(leaves, larger, max_leaves=12)
e = st.recursive(leaves, larger, max_leaves=3)
axes = tuples(e | node(ast.Dots))
types = (
    node(ast.Type, st.sampled_from(["f32", "dim", "z"]), st.none(), maybe(axes))
    | node(ast.Type, st.just("label"), e, maybe(axes))
    | node(ast.Type, st.just("label"), st.none(), st.none())
)
paths = node(ast.Attribute, name, names) | node(
    ast.Attribute, node(ast.Attribute, name, names), names
)
allowed = (
    e
    | node(ast.Interval, e, st.sampled_from(["..", "<.."]), st.none())
    | node(ast.Interval, e, st.sampled_from(["<..", "..<", "<..<"]), e)
)
parameters = tuples(node(ast.Parameter, names, maybe(types), maybe(e), maybe(allowed)))

bind = node(ast.Bind, BINDABLE, e, name_span=st.just(NOWHERE))
assign = node(ast.Assign, e, e)
state = node(ast.State, names, maybe(types | paths), e)
simple = (
    bind
    | assign
    | state
    | node(ast.FeedFrom, tuples(name, low=1), e)
    | node(ast.Minimize, maybe(names), e, maybe(e))
    | node(ast.Using, e)
    | node(ast.Descend, e, e, e)
    | node(
        ast.Measure,
        tuples(node(ast.Measured, e, maybe(st.text("ab", max_size=2))), low=1),
        e,
        maybe(e | st.just("end")),
    )
    | node(ast.StopAfter, e)
    | node(ast.StopWhen, e)
    | node(ast.StopStalled, e, st.sampled_from(["falling", "rising"]), e)
    | node(ast.Keep, st.sampled_from(["lowest", "highest"]), e)
    | node(ast.Log, e, maybe(st.text("ab", max_size=2)), maybe(e))
    | node(ast.Seed, e)
    | node(ast.Precision, name)
    | node(ast.Use, e)
)
settings = tuples(node(ast.Argument, names, e))


def blocks(statement: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    body = tuples(statement)
    return (
        node(ast.Every, e, body)
        | node(ast.When, e, body)
        | node(ast.Each, name, name, maybe(e), body)
        | node(ast.Learners, e, maybe(e), settings, st.none(), body)
        | node(ast.Learners, e, maybe(e), settings, e, st.none())
    )


statements = st.recursive(simple, blocks, max_leaves=4)
bodies = e | node(
    ast.Block, tuples(bind | assign | state | node(ast.Param, names, types, e, maybe(e))), e
)
split = node(ast.SplitBy, tuples(node(ast.SplitPart, names, e), low=1), maybe(names), maybe(e))
declarations = (
    node(ast.Option, names, e, maybe(allowed))
    | node(ast.Constant, st.sampled_from((*WORDS, *STATEMENT_WORDS)), e)
    | node(ast.Import, string, names)
    | node(ast.ImportFrom, string, tuples(name, low=1))
    | node(
        ast.Data,
        names,
        e,
        tuples(node(ast.DataField, BINDABLE, types, maybe(e))),
        tuples(split),
    )
    | node(ast.Function, names, parameters, maybe(types), bodies)
    | node(
        ast.Layer, st.sampled_from(["layer", "model"]), names, parameters, parameters,
        maybe(types), bodies,
    )
    | node(ast.Optimizer, names, parameters, tuples(statements))
    | node(ast.Strategy, names, parameters, tuples(statements))
    | node(ast.Train, names | st.just(""), tuples(statements))
)  # fmt: skip
files = node(ast.File, tuples(declarations))
