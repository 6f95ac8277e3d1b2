"""What a picture says about a node: its words, its shape and its colours.

Colours are Okabe and Ito's, which people with any colour vision tell apart, over light fills.
"""

import html
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import count

from fml.engine.draw.homes import homes
from fml.engine.draw.sides import EACH_LEARNER, Sides, sides
from fml.engine.ir.graph import Attribute, Graph, Node, Phase

_CONSTANTS = frozenset({"constant", "dim_value"})
_LONGEST = 40
# A number with so many readers is written into their labels by name in place of lines, and so
# are the numbers that leave their layers if they are more than that: long lines hide a picture.
_READERS = 5
_LEAVING = 6


@dataclass(frozen=True, slots=True)
class Ink:
    """How a phase is drawn: the word in the legend, the fill, and the line's colour."""

    word: str
    fill: str
    line: str
    text: str = "#101010"
    faded: str = "#505050"


INKS = {
    Phase.DATA: Ink("data", "#FDF0D0", "#B07A00"),
    Phase.FORWARD: Ink("forward", "#DCEBF7", "#0072B2"),
    Phase.BACKWARD: Ink("backward", "#FBE3D6", "#D55E00"),
    Phase.UPDATE: Ink("update", "#D5F0E6", "#00805E"),
    Phase.MEASURE: Ink("measure", "#F5E2ED", "#A8487C"),
}
SYNCHRONISATION_INK = Ink("synchronisation", "#2B2B2B", "#000000", "#FFFFFF", "#D8D8D8")

# What an operation looks like; all others are boxes.
_SHAPES = {
    "variable": "cylinder",
    "feed": "parallelogram",
    "column": "parallelogram",
    "argument": "parallelogram",
    "series": "parallelogram",
    "counter": "ellipse",
    "random_key": "ellipse",
    "fires": "diamond",
}
# Attributes that the title or the type already tells.
_TOLD = frozenset({"shape", "element", "path", "role", "name", "data", "split", "field", "value"})
# Attributes with an entry for each axis, which are mostly alike, and values that say nothing.
_BY_AXIS = frozenset({"stride", "padding", "size", "dilation"})
_USUAL = {"stride": "1", "padding": "0", "dilation": "1", "groups": "1"}
_TOLD_BY_TITLE = frozenset({"fires", "dim_value", "learners_reduce", "learners_roll"})


def markup(text: str) -> str:
    """Return text that may stand in an HTML-like label and in SVG, whatever was in it."""
    # Graphviz would put a node's name for `\N`, and refuses empty bold text.
    return html.escape(_printable(text)).replace("\\", "\\\\") or " "


def quoted(text: str) -> str:
    """Return a Graphviz string; backslashes stand for themselves."""
    return '"' + _printable(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def tooltip(node: Node) -> str:
    """Return what is shown under the pointer: node, operation, type, scope, place in the text."""
    words = f"%{node.id} {node.op}: {node.type}"
    if node.scope:
        words += f" in {node.scope}"
    if node.span is not None:
        words += f" at {node.span.place}"
    return quoted(words)


def small_print(title: str, small: Iterable[str], colour: str = "#505050") -> str:
    """Return the HTML-like label of a bold title with small lines below, without empty ones."""
    font = f'<font point-size="9" color="{colour}">'
    lines = [f"<b>{markup(title)}</b>", *(f"{font}{markup(w)}</font>" for w in small if w)]
    return "<" + "<br/>".join(lines) + ">"


@dataclass(frozen=True, slots=True)
class Captions:
    """The words of a graph's nodes.

    `results` are the names under which a node's value leaves the graph. `mentions` are values
    written into the labels of their readers in place of a line: constants by their value, and
    numbers with many readers (a learning rate), or many numbers of layers, by a name. `homes`
    are the scopes that nodes are drawn in, `sides` the frames of learners around these. `told` are
    nodes that have no box, since labels and headings say what they are.
    """

    graph: Graph
    results: Mapping[int, tuple[str, ...]]
    mentions: Mapping[int, str]
    homes: Mapping[int, str]
    sides: Sides
    told: frozenset[int]

    @staticmethod
    def of(
        graph: Graph, learners: str = EACH_LEARNER, learner_of: Mapping[int, str] | None = None
    ) -> "Captions":
        """Read the captions off a graph; the last two are those of `sides`."""
        places, results = homes(graph), _results(graph)
        return Captions(
            graph,
            results,
            _mentions(graph, places),
            places,
            sides(graph, learners, learner_of or {}),
            frozenset(n.id for n in graph if n.id not in results and _is_told(graph, n)),
        )

    def is_drawn(self, node: Node) -> bool:
        """Say whether a node has a box of its own."""
        return node.id not in self.told

    def ink(self, node: Node) -> Ink:
        """Return the colours of a node."""
        return SYNCHRONISATION_INK if self.sides.is_synchronisation(node) else INKS[node.phase]

    def shape(self, node: Node) -> str:
        """Return the Graphviz shape of a node."""
        if self.sides.is_synchronisation(node):
            return "doubleoctagon"
        return _SHAPES.get(node.op, "box")

    def kind(self, node: Node) -> str:
        """Return the word for what a node does, without what it is about."""
        return "push" if node.id in self.sides.pushes else node.op

    def label(self, node: Node) -> str:
        """Return the HTML-like label of a node: names, operation, details, type."""
        names = list(self.results.get(node.id, ()))
        if node.op not in _CONSTANTS | {"counter"} and node.id in self.mentions:
            names.append(self.mentions[node.id])
        title = self.title(node)
        if names:
            title = f"{_shortened(', '.join(names))} = {title}"
        return small_print(title, (_details(node), str(node.type)), self.ink(node).faded)

    def heading(self, guard: int, side: str) -> str:
        """Return the words over a frame: `every 4 steps: correction`."""
        purpose = self.sides.purpose(guard, side)
        return self.condition(guard) + (f": {purpose}" if purpose else "")

    def condition(self, guard: int) -> str:
        """Return the words for a guard: `every 4 steps`, or `when` and the condition's text."""
        node = self.graph[guard]
        if node.op == "fires":
            return self.title(node)
        words = " ".join(node.span.text.split()) if node.span else self.title(node)
        return "when " + _shortened(words)

    def title(self, node: Node) -> str:
        """Return what a node is: its operation, or the name of what it reads or writes."""
        get = node.attributes.get
        match node.op:
            case "variable":
                return _within(self.homes[node.id], str(get("name")))
            case "assign":
                push = "push " if node.id in self.sides.pushes else ""
                return f"{push}{_within(self.homes[node.id], str(get('name')))} ←"
            case "feed":
                return f"{get('data')}.{get('split')} {get('field')}"
            case "column" | "argument" | "series" | "counter":
                return f"{node.op} {get('name')}"
            case "fires":
                amount, unit = _words(get("amount")), str(get("unit"))
                return (
                    f"every {unit.removesuffix('s')}" if amount == "1" else f"every {amount} {unit}"
                )
            case "learners_reduce":
                return f"{get('kind')} over learners"
            case "learners_roll":
                return f"roll by {get('shift')} over learners"
            case "learners_index":
                return "learners.index"
            case "constant" | "dim_value":
                return _constant(node)
            case _:
                return self._call(node)

    def _call(self, node: Node) -> str:
        """Return `multiply(0.1, ·)`: what is mentioned stands there, what has a line is a dot."""
        if not any(number in self.mentions for number in node.inputs):
            return node.op
        return f"{node.op}({', '.join(self.mentions.get(n, '·') for n in node.inputs)})"


def _is_told(graph: Graph, node: Node) -> bool:
    """Say whether labels tell a node (a constant), or the headings of frames (a rhythm)."""
    if node.op == "fires":
        return all(graph[user].guard == node.id for user in graph.users(node.id))
    return node.op in _CONSTANTS


def _results(graph: Graph) -> Mapping[int, tuple[str, ...]]:
    """Names of the results by node; a variable's own name is not repeated at its nodes."""
    results: dict[int, tuple[str, ...]] = {}
    for name, number in sorted(graph.outputs.items()):
        if graph[number].attributes.get("name") != name:
            results[number] = (*results.get(number, ()), name)
    return results


def _mentions(graph: Graph, homes: Mapping[int, str]) -> Mapping[int, str]:
    mentions: dict[int, str] = {}
    readers = Counter(source for node in graph for source in node.inputs)
    leaving = {node.id for node in graph if _leaves_layer(graph, node, homes)}
    fixed: set[int] = set()  # depends on nothing but constants
    names = (f"s{number}" for number in count(1))
    for node in graph:
        if node.op in _CONSTANTS or (node.inputs and fixed.issuperset(node.inputs)):
            fixed.add(node.id)
        is_shared = readers[node.id] >= _READERS and (_is_number(node) or node.id in fixed)
        if node.op in _CONSTANTS:
            mentions[node.id] = _constant(node)
        elif is_shared or (node.id in leaving and len(leaving) > _LEAVING):
            is_counter = node.op == "counter"
            mentions[node.id] = str(node.attributes["name"]) if is_counter else next(names)
    return mentions


def _leaves_layer(graph: Graph, node: Node, homes: Mapping[int, str]) -> bool:
    """Say whether a number of one layer, such as a penalty, is read outside it."""
    here = homes[node.id]
    return (
        bool(here) and not node.type.shape and any(homes[u] != here for u in graph.users(node.id))
    )


def _is_number(node: Node) -> bool:
    return all(dim.size == 1 for dim in node.type.shape)


def _details(node: Node) -> str:
    """Return the attributes that title and type do not tell: `axes (0, 1), keep`."""
    if node.op in _TOLD_BY_TITLE:
        return ""
    told = {k: v for k, v in node.attributes.items() if k not in _TOLD}
    written = {k: _words(_once(v) if k in _BY_AXIS else v) for k, v in told.items()}
    kept = {k: v for k, v in told.items() if not _is_off(v) and written[k] != _USUAL.get(k)}
    words = (k if v is True else f"{k} {written[k]}" for k, v in kept.items())
    return _shortened(", ".join(words))


def _once(value: Attribute) -> Attribute:
    """Return what is the same along all axes, `padding ((2, 2), (2, 2))`, as one: `padding 2`."""
    if not isinstance(value, tuple) or not value:
        return value
    parts = [_once(part) for part in value]
    return parts[0] if all(part == parts[0] for part in parts) else value


def _is_off(value: Attribute) -> bool:
    return value is None or value is False


def _constant(node: Node) -> str:
    """Return a constant as it stands in a label: its value, or its type where that is long."""
    text = _words(node.attributes.get("dim" if node.op == "dim_value" else "value"))
    return text if len(text) <= 16 else str(node.type)


def _words(value: Attribute) -> str:
    """Return an attribute as people write it."""
    if isinstance(value, tuple):
        return "(" + ", ".join(_words(part) for part in value) + ")"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _within(scope: str, name: str) -> str:
    """Return a path without the scope it stands in: `net.head.W` is `W` in `net.head`."""
    return name.replace(scope + ".", "", 1) if scope else name


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _printable(text: str) -> str:
    return "".join(" " if unicodedata.category(c) in {"Cc", "Cs", "Cn"} else c for c in text)
