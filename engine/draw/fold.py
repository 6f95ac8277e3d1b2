"""What a picture of a deep network draws as one box: layers, layers alike, and long chains."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fml.engine.draw.label import Captions
from fml.engine.ir.graph import Graph, Node, Phase

# A picture with more boxes than this cannot be read at one glance, nor on one page.
_MOST = 150
# So many layers alike, or operations in a chain or side by side, are drawn as one; fewer of those
# across learners, which stay outside the boxes of their layers.
_ALIKE, _CHAIN, _ROW, _ROW_ACROSS = 3, 4, 10, 2


@dataclass(frozen=True, slots=True)
class Box:
    """Nodes that are drawn as one: a heading, and what it holds in a few lines.

    They are a layer, or several alike, or else one operation many times.
    """

    title: str
    lines: tuple[str, ...]
    members: tuple[int, ...]
    is_layer: bool = True


@dataclass(frozen=True, slots=True)
class Folding:
    """The boxes of a picture by their first nodes, and for each node what stands for it.

    `captions` are those of the picture: a box stands in the cluster around its layer, and no
    label names a value that is inside a box.
    """

    captions: Captions
    boxes: Mapping[int, Box]
    places: Mapping[int, int]

    def is_drawn(self, node: Node) -> bool:
        """Say whether a node is drawn, as itself or as the box that it begins."""
        return self.captions.is_drawn(node) and self.places[node.id] == node.id


@dataclass(frozen=True, slots=True)
class _Layer:
    """The nodes of one layer on one side, under one guard: `home` is its path."""

    side: str
    home: tuple[str, ...]
    nodes: list[Node]


def fold(captions: Captions, shown: Sequence[Node], depth: int | None) -> Folding:
    """Draw layers that are `depth` names deep as boxes; without it, as few as a page needs."""
    if depth is not None:
        return _folded(captions, shown, depth)
    folding = Folding(captions, {}, {node.id: node.id for node in captions.graph})
    deepest = max((captions.homes[node.id].count(".") + 1 for node in shown), default=0)
    for limit in range(deepest, 0, -1):
        if sum(map(folding.is_drawn, shown)) <= _MOST:
            break
        folding = _folded(captions, shown, limit)
    return folding


def _folded(captions: Captions, shown: Sequence[Node], depth: int) -> Folding:
    layers = _layers(captions, shown, depth)
    _take_in(captions, shown, layers)
    homes = {n: ".".join(home.split(".")[: depth - 1]) for n, home in captions.homes.items()}
    homes |= {node.id: ".".join(layer.home[:-1]) for layer in layers for node in layer.nodes}
    captions = replace(captions, homes=homes)
    groups = [_layer_box(captions, alike) for alike in _alike(layers)]
    groups += _chains(captions, _outside(shown, groups))
    groups += _rows(captions, _outside(shown, groups), _places(groups))
    boxes = {box.members[0]: box for box in groups}
    places = {node.id: node.id for node in captions.graph} | _places(groups)
    mentions = {
        number: words
        for number, words in captions.mentions.items()
        if not captions.is_drawn(captions.graph[number]) or places[number] not in boxes
    }
    return Folding(replace(captions, mentions=mentions), boxes, places)


def _places(groups: Iterable[Box]) -> dict[int, int]:
    return {number: box.members[0] for box in groups for number in box.members}


def _outside(shown: Iterable[Node], groups: Iterable[Box]) -> list[Node]:
    inside = _places(groups)
    return [node for node in shown if node.id not in inside]


def _layers(captions: Captions, shown: Iterable[Node], depth: int) -> list[_Layer]:
    found: dict[object, _Layer] = {}
    for node in shown:
        home = tuple(captions.homes[node.id].split("."))[:depth]
        # Where learners wait for one another is to be seen at any depth.
        if len(home) == depth and all(home) and not captions.sides.is_synchronisation(node):
            side = captions.sides.of[node.id]
            layer = _Layer(side, home, [])
            found.setdefault((node.guard, side, home), layer).nodes.append(node)
    return [*found.values()]


def _take_in(captions: Captions, shown: Iterable[Node], layers: Iterable[_Layer]) -> None:
    """Add to layers what stands outside and serves one of them only: parts of its gradients."""
    homes = {node.id: layer for layer in layers for node in layer.nodes}
    loose = {
        node.id: node
        for node in shown
        if node.id not in homes
        and node.phase in {Phase.BACKWARD, Phase.UPDATE}
        and node.id not in captions.results
        and node.id not in captions.mentions
    }
    while loose:
        group, around = _joined(captions, loose, next(iter(loose)))
        served = {id(homes.get(number)): homes.get(number) for number in around}
        layer = next(iter(served.values())) if len(served) == 1 else None
        if layer is not None and _stand_together(captions, [layer.nodes[0], *group]):
            layer.nodes.extend(group)


def _joined(captions: Captions, loose: dict[int, Node], start: int) -> tuple[list[Node], set[int]]:
    """Take all that is joined to a loose node out of `loose`; what else do they read and serve?"""
    group: list[Node] = []
    around: set[int] = set()
    edge = [start]
    while edge:
        number = edge.pop()
        if number in loose:
            group.append(node := loose.pop(number))
            edge += [*node.inputs, *captions.graph.users(number)]
        elif number not in captions.mentions:
            around.add(number)
    return group, around - {node.id for node in group}


def _stand_together(captions: Captions, nodes: Iterable[Node]) -> bool:
    return len({(node.guard, captions.sides.of[node.id]) for node in nodes}) == 1


def _alike(layers: Iterable[_Layer]) -> list[list[_Layer]]:
    """Put numbered neighbours of the same operations and types together, if they are several."""
    runs: list[list[_Layer]] = []
    for layer in sorted(layers, key=_order):
        last = runs[-1][-1] if runs else None
        if last is not None and _follows(last, layer):
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return [part for run in runs for part in ([run] if len(run) >= _ALIKE else [[x] for x in run])]


def _order(layer: _Layer) -> tuple[object, ...]:
    stem, number = _numbered(layer.home[-1])
    node = layer.nodes[0]
    return (node.guard or -1, layer.side, layer.home[:-1], stem, number)


def _numbered(name: str) -> tuple[str, int]:
    """`block_12` is the 12th `block`."""
    found = re.fullmatch(r"(.*)_(\d+)", name)
    return (found[1], int(found[2])) if found else (name, -1)


def _follows(one: _Layer, other: _Layer) -> bool:
    *place, number = _order(one)
    *other_place, other_number = _order(other)
    return (
        place == other_place
        and other_number == int(str(number)) + 1
        and _contents(one) == _contents(other)
    )


def _contents(layer: _Layer) -> Counter[tuple[str, Phase, str]]:
    return Counter((node.op, node.phase, str(node.type)) for node in layer.nodes)


def _layer_box(captions: Captions, alike: Sequence[_Layer]) -> Box:
    members = tuple(node.id for layer in alike for node in layer.nodes)
    nodes = alike[0].nodes
    title = alike[0].home[-1]
    lines: list[str] = []
    if len(alike) > 1:
        title += f" … {alike[-1].home[-1]}"
        lines.append(f"{len(alike)} layers alike, each with")
    parameters = sum(map(_entries, nodes))
    if parameters:
        lines.append(f"{parameters:,} parameters")
    phases = Counter(node.phase for node in nodes if node.op != "variable")
    counts = [f"{phases[phase]} {phase.value}" for phase in Phase if phase in phases]
    lines.append(" · ".join(counts))
    if output := _output(captions.graph, members):
        lines.append(f"→ {output}")
    return Box(title, tuple(lines), members)


def _entries(node: Node) -> int:
    if node.op != "variable" or node.attributes.get("role") != "param":
        return 0
    entries = 1
    for size in node.type.sizes:
        entries *= size
    return entries


def _output(graph: Graph, members: Sequence[int]) -> str:
    """The type of the last forward value that leaves a box; a penalty is none beside others."""
    inside = set(members)
    leaving = [
        graph[number].type
        for number in sorted(members)
        if graph[number].phase is Phase.FORWARD
        and any(graph[u].phase is Phase.FORWARD for u in graph.users(number) if u not in inside)
    ]
    return str(max(reversed(leaving), key=lambda t: t.rank)) if leaving else ""


def _chains(captions: Captions, shown: Sequence[Node]) -> list[Box]:
    """Long chains of one operation, such as the sum of all layers' penalties."""
    graph, free = captions.graph, {node.id for node in shown}
    chains: dict[int, list[int]] = {}
    for node in shown:
        before = [n for n in node.inputs if n in free and _links(captions, graph[n], node)]
        chain = chains.pop(before[0], []) if len(before) == 1 else []
        chains[node.id] = [*chain, node.id]
    return [
        _times(captions, f"{len(chain)} times in a chain", chain)
        for chain in chains.values()
        if len(chain) >= _CHAIN
    ]


def _rows(captions: Captions, shown: Sequence[Node], inside: Mapping[int, int]) -> list[Box]:
    """One operation many times side by side, such as an average of each parameter."""
    graph = captions.graph

    def kind(number: int) -> object:
        node = graph[number]
        like = (node.op, node.phase, node.guard, captions.sides.of[number], captions.homes[number])
        return inside.get(number) or captions.mentions.get(number) or like

    def across(row: Sequence[int]) -> bool:
        return captions.sides.is_synchronisation(graph[row[0]])

    rows: dict[object, list[int]] = {}
    for node in shown:
        if node.id not in captions.results and node.id not in captions.mentions:
            near = (*map(kind, node.inputs), None, *map(kind, graph.users(node.id)))
            rows.setdefault((kind(node.id), frozenset(near)), []).append(node.id)
    return [
        _times(captions, f"{len(row)} times side by side", row)
        for row in rows.values()
        if len(row) >= (_ROW_ACROSS if across(row) else _ROW)
    ]


def _times(captions: Captions, words: str, members: Sequence[int]) -> Box:
    nodes = [captions.graph[number] for number in members]
    types, titles = {str(node.type) for node in nodes}, {captions.title(node) for node in nodes}
    lines = (words, *(types if len(types) == 1 else ()))
    title = titles.pop() if len(titles) == 1 else captions.kind(nodes[0])
    return Box(title, lines, tuple(members), is_layer=False)


def _links(captions: Captions, one: Node, other: Node) -> bool:
    same = (one.op, one.phase, one.guard, one.type) == (
        other.op, other.phase, other.guard, other.type,
    )  # fmt: skip
    here = (captions.homes[one.id], captions.sides.of[one.id]) == (
        captions.homes[other.id], captions.sides.of[other.id],
    )  # fmt: skip
    named = one.id in captions.results or other.id in captions.results
    return same and here and not named and [*captions.graph.users(one.id)] == [other.id]
