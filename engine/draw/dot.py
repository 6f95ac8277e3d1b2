"""A graph as Graphviz text, with nothing but the graph needed to draw it.

Layers are nested clusters, one below another; phases are colours; gradients run back up beside
the forward operations that they belong to.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from fml.engine.draw.fold import Folding, fold
from fml.engine.draw.label import (
    INKS,
    SYNCHRONISATION_INK,
    Captions,
    markup,
    quoted,
    small_print,
    tooltip,
)
from fml.engine.draw.sides import CENTRAL, EACH_LEARNER
from fml.engine.draw.stack import stacking_lines
from fml.engine.ir.graph import Graph, Node, Phase

# newrank lets clusters share one ranking, without which they could not be put one below another.
_HEADER = """\
  graph [newrank=true, nslimit=0.5, mclimit=0.5, fontname=Helvetica, fontsize=11,
         fontcolor="#303030", labelloc=t, nodesep=0.18, ranksep=0.32, pad=0.2, bgcolor=white]
  node [shape=box, style=filled, fontname=Helvetica, fontsize=11, height=0.3, width=0.5,
        margin="0.09,0.04", penwidth=1.1]
  edge [color="#707070", arrowsize=0.55, penwidth=0.9]"""
# Borders of clusters; each says everything, since a cluster inherits from the one around it.
_SCOPE = 'style="rounded,filled", color="#BDBDBD", fillcolor="#00000009", penwidth=1'
_PER_LEARNER = 'style=solid, color="#303030", penwidth=2.2'
_OF_ALL = 'style=filled, fillcolor="#F7F4EE", color="#303030", penwidth=1.2'
_BOX = 'style="rounded,filled", fillcolor="#EDEDED", color="#606060", penwidth=1.4'
_GUARDED = 'style="dashed,rounded", color="#404040", penwidth=1.6'

_Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Cluster:
    """A box around nodes: its heading, how its border looks, and what stands in it."""

    title: str = ""
    border: str = ""
    nodes: list[Node] = field(default_factory=list[Node])
    inner: "dict[_Key, _Cluster]" = field(default_factory=dict[_Key, "_Cluster"])


def to_dot(
    graph: Graph,
    title: str = "",
    depth: int | None = None,
    *,
    learners: str = EACH_LEARNER,
    learner_of: Mapping[int, str] | None = None,
) -> str:
    """Return the Graphviz text of a graph, the same for equal graphs.

    Layers that are `depth` names deep (`net.block_0` is 2) are a box each, and neighbours alike one
    box together; without `depth`, this is done only as far as a large graph needs it.

    What every learner has stands in a frame with the heading `learners`, or each in a frame of its
    own where the graph was unrolled and `learner_of` has their headings; what depends on central
    variables stands in another. Nodes with a guard are in a dashed cluster named by its condition;
    a scope (`net.block_0`) is a cluster inside that of `net`. Constants are written into the
    operations that read them.
    """
    captions = Captions.of(_without_turns(graph), learners, learner_of)
    graph = captions.graph
    drawn = [node for node in graph if captions.is_drawn(node)]
    folding = fold(captions, drawn, depth)
    shown = [node for node in drawn if folding.is_drawn(node)]
    lines = [f"digraph {quoted(graph.name)} {{", _HEADER]
    lines.append(f"  label={_heading(captions, title or graph.name, drawn)}")
    lines.extend(_cluster_lines(folding, _clusters(folding.captions, shown)))
    lines.extend(_edge_lines(folding, drawn))
    lines.extend(_stacking(folding, drawn))
    return "\n".join([*lines, "}", ""])


def _without_turns(graph: Graph) -> Graph:
    """The graph in which a turn reads the variable itself, and the push is what others read."""
    stands_for: dict[int, int] = {}
    nodes: list[Node] = []
    for node in graph:
        inputs = tuple(stands_for.get(value, value) for value in node.inputs)
        if node.op in {"learners_turn", "learners_pushed"}:
            (stands_for[node.id],) = inputs
            continue
        guard = None if node.guard is None else stands_for.get(node.guard, node.guard)
        nodes.append(node.placed(node.id, inputs, guard))
    outputs = {name: stands_for.get(value, value) for name, value in graph.outputs.items()}
    return Graph(graph.name, nodes, outputs)


def _clusters(captions: Captions, shown: list[Node]) -> _Cluster:
    root = _Cluster()
    for node in shown:
        cluster = root
        for key, title, border in _surroundings(captions, node):
            cluster = cluster.inner.setdefault(key, _Cluster(title, border))
        cluster.nodes.append(node)
    return root


def _surroundings(captions: Captions, node: Node) -> Iterator[tuple[_Key, str, str]]:
    """Key, heading and border of each cluster around a node, from the outside in."""
    if side := captions.sides.of[node.id]:
        yield ("side", side), side, _PER_LEARNER if node.mapped else _OF_ALL
    for guard in _guards(captions.graph, node):
        yield ("guard", str(guard)), captions.heading(guard, side), _GUARDED
    for part in filter(None, captions.homes[node.id].split(".")):
        yield ("scope", part), part, _SCOPE


def _guards(graph: Graph, node: Node) -> list[int]:
    found: list[int] = []
    guard = node.guard
    while guard is not None:
        found.append(guard)
        guard = graph[guard].guard
    return found[::-1]


def _cluster_lines(
    folding: Folding, cluster: _Cluster, name: str = "cluster", indent: str = "  "
) -> Iterator[str]:
    for node in cluster.nodes:
        yield indent + _node_line(folding, node)
    for number, inner in enumerate(map(_joined, cluster.inner.values())):
        yield f"{indent}subgraph {name}_{number} {{"
        yield f"{indent}  graph [label=<<b>{markup(inner.title)}</b>>, {inner.border}]"
        yield from _cluster_lines(folding, inner, f"{name}_{number}", indent + "  ")
        yield indent + "}"


def _joined(cluster: _Cluster) -> _Cluster:
    """Draw a scope that holds nothing but another scope as one, `momentum.net`."""
    while not cluster.nodes and len(cluster.inner) == 1 and cluster.border == _SCOPE:
        (inner,) = cluster.inner.values()
        cluster = replace(inner, title=f"{cluster.title}.{inner.title}")
    return cluster


def _node_line(folding: Folding, node: Node) -> str:
    captions = folding.captions
    if box := folding.boxes.get(node.id):
        border = _BOX if box.is_layer else _drawn(captions, node)
        label = small_print(box.title, box.lines, captions.ink(node).faded)
        return f"n{node.id} [label={label}, tooltip={quoted(box.title)}, {border}]"
    label, border = captions.label(node), _drawn(captions, node)
    return f"n{node.id} [label={label}, tooltip={tooltip(node)}, {border}]"


def _drawn(captions: Captions, node: Node) -> str:
    colours = captions.ink(node)
    drawn = f'fillcolor="{colours.fill}", color="{colours.line}", fontcolor="{colours.text}"'
    if (shape := captions.shape(node)) != "box":
        drawn += f", shape={shape}"
    return drawn


def _edge_lines(folding: Folding, drawn: list[Node]) -> Iterator[str]:
    graph, places = folding.captions.graph, folding.places
    lines = (_edge_line(folding, graph[a], graph[b]) for a, b in _links(folding, drawn))
    yield from _once_between_boxes(lines)
    yield from _back_edges(folding, drawn)
    # One line from a guard to the first of each group: the cluster shows the others.
    sides = folding.captions.sides
    first = {(n.guard, sides.of[n.id]): n for n in reversed(drawn) if n.guard is not None}
    for (guard, _), entry in first.items():
        if folding.captions.is_drawn(graph[guard]):
            colour = ', color="#000000"' if sides.crosses(graph[guard], entry) else ""
            yield f"  n{places[guard]} -> n{places[entry.id]} [style=dotted, penwidth=1.6{colour}]"


def _back_edges(folding: Folding, drawn: list[Node]) -> Iterable[str]:
    """Lines from the last assignment of each variable back to it."""
    captions, places = folding.captions, folding.places

    def key(node: Node, side: str) -> tuple[object, str]:
        return node.attributes.get("name"), side

    of = captions.sides.of
    variables = {key(n, of[n.id]): n for n in drawn if n.op == "variable"}
    replaced = {n.inputs[0] for n in drawn if n.op == "assign"}
    back: dict[str, None] = {}
    for node in drawn:
        if node.op != "assign" or node.id in replaced:
            continue
        is_push = node.id in captions.sides.pushes
        variable = variables.get(key(node, CENTRAL if is_push else of[node.id]))
        if variable is not None and places[node.id] != places[variable.id]:
            colour = SYNCHRONISATION_INK.line if is_push else INKS[Phase.UPDATE].line
            line = f'style=dashed, constraint=false, color="{colour}"'
            back[f"  n{places[node.id]} -> n{places[variable.id]} [{line}]"] = None
    return back


def _once_between_boxes(lines: Iterable[tuple[str, bool]]) -> Iterator[str]:
    seen: set[str] = set()
    for line, of_box in lines:
        if not of_box or line not in seen:
            yield line
        seen.add(line)


def _links(folding: Folding, drawn: list[Node]) -> Iterator[tuple[int, int]]:
    """All uses that are drawn as lines: not those inside a box, nor what labels mention.

    What `assign` replaces is none either.
    """
    captions, places = folding.captions, folding.places
    for node in drawn:
        for place, source in enumerate(node.inputs):
            replaced = (node.op, place, captions.graph[source].op) == ("assign", 0, "variable")
            inside = places[source] == places[node.id]
            if source not in captions.mentions and not replaced and not inside:
                yield source, node.id


def _edge_line(folding: Folding, source: Node, target: Node) -> tuple[str, bool]:
    """Draw a use, and say whether a box is at one of its ends.

    Towards a gradient it is drawn upside down, so that gradients run upwards.
    """
    drawn: list[str] = []
    if folding.captions.sides.crosses(source, target):
        drawn.append(f'penwidth=2.2, color="{SYNCHRONISATION_INK.line}"')
    elif target.phase != Phase.FORWARD:
        drawn.append(f'color="{INKS[target.phase].line}90"')
    upper, lower = source, target
    if target.phase == Phase.BACKWARD:
        upper, lower = target, source
        drawn.append("dir=back")
    if not _ranks(folding, source, target):
        drawn.append("constraint=false")
    elif target.phase == Phase.BACKWARD != source.phase:
        drawn.append("minlen=0")
    places = folding.places
    line = f"  n{places[upper.id]} -> n{places[lower.id]}"
    of_box = not folding.boxes.keys().isdisjoint({places[source.id], places[target.id]})
    return line + (f" [{', '.join(drawn)}]" if drawn else ""), of_box


def _ranks(folding: Folding, source: Node, target: Node) -> bool:
    """Say whether a use decides which node is higher.

    A gradient that reads a forward value stands beside it only in its own layer: in another,
    it would be torn out of its own. Boxes are ranked by what runs forward through them.
    """
    captions, ends = folding.captions, {folding.places[source.id], folding.places[target.id]}
    if target.phase == Phase.BACKWARD and not folding.boxes.keys().isdisjoint(ends):
        return False
    crosses = target.phase == Phase.BACKWARD != source.phase
    return not crosses or captions.homes[source.id] == captions.homes[target.id]


def _stacking(folding: Folding, drawn: list[Node]) -> Iterator[str]:
    graph, at = folding.captions.graph, folding.places
    paths = {
        node.id: tuple(key for key, _, _ in _surroundings(folding.captions, node))
        for node in drawn
        if folding.is_drawn(node)
    }
    links = [(graph[source], graph[target]) for source, target in _links(folding, drawn)]
    flow = [(at[a.id], at[b.id]) for a, b in links if a.phase == b.phase == Phase.FORWARD]
    layout = [
        (at[b.id], at[a.id]) if b.phase == Phase.BACKWARD else (at[a.id], at[b.id])
        for a, b in links
        if _ranks(folding, a, b)
    ]
    return stacking_lines(paths, flow, layout)


def _heading(captions: Captions, title: str, shown: list[Node]) -> str:
    """Title and legend of the phases that occur, as the picture's own label."""
    inks = [INKS[phase] for phase in Phase if any(node.phase == phase for node in shown)]
    if any(captions.sides.is_synchronisation(node) for node in shown):
        inks.append(SYNCHRONISATION_INK)
    cells = "".join(
        f'<td bgcolor="{i.fill}" color="{i.line}" border="1">'
        f'<font point-size="10" color="{i.text}"> {i.word} </font></td>'
        for i in inks
    )
    table = '<table border="0" cellborder="0" cellspacing="4" cellpadding="3">'
    first = f'<td><font point-size="14"><b>{markup(title)}</b></font></td>'
    return f"<{table}<tr>{first}{cells}</tr></table>>"
