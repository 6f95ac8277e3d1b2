"""Layers one below another: invisible lines that keep a picture's clusters from a staircase.

Graphviz ranks single nodes, so a layer's updates would hang beside the next layer, and each
layer one step to the right of the one before it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

Path: TypeAlias = tuple[object, ...]
Link: TypeAlias = tuple[int, int]
Unit: TypeAlias = Path | int
Pairs: TypeAlias = dict[tuple[Unit, Unit], None]


def stacking_lines(
    paths: Mapping[int, Path], flow: Iterable[Link], layout: Iterable[Link]
) -> Iterator[str]:
    """Return lines of Graphviz text that put all of a cluster above those that it flows into.

    `paths` says which clusters each node stands in, from the outside in. `flow` are the forward
    links between nodes; `layout` are all links (upper, lower) that Graphviz ranks by. Of two
    clusters that flow into each other neither is put above.
    """
    # How deep inside the clusters each node has something below it, and above it.
    below: dict[int, int] = {}
    above: dict[int, int] = {}
    for upper, lower in layout:
        depth = _shared(paths[upper], paths[lower])
        _deepen(below, upper, depth)
        _deepen(above, lower, depth)
    anchors = 0
    # The innermost come first: what they hold together need not be held again further out.
    for depth, pairs in sorted(_pairs(paths, flow).items(), reverse=True):
        lowest, highest = _ends(paths, below), _ends(paths, above)
        for upper, units in _one_way(pairs).items():
            anchor = f"below_{anchors}"
            anchors += 1
            yield f"  {anchor} [shape=point, style=invis, width=0, height=0]"
            for node in _members(upper, lowest):
                _deepen(below, node, depth)
                yield _line(f"n{node}", anchor)
            for node in (node for unit in units for node in _members(unit, highest)):
                _deepen(above, node, depth)
                yield _line(anchor, f"n{node}")


def _shared(a: Path, b: Path) -> int:
    """Count the clusters that two nodes are both in."""
    depth = 0
    while depth < min(len(a), len(b)) and a[depth] == b[depth]:
        depth += 1
    return depth


def _deepen(linked: dict[int, int], node: int, depth: int) -> None:
    linked[node] = max(linked.get(node, -1), depth)


def _pairs(paths: Mapping[int, Path], flow: Iterable[Link]) -> Mapping[int, Pairs]:
    """Which cluster or node flows into which, by the number of clusters around both."""
    found: dict[int, Pairs] = {}
    for source, target in flow:
        a, b = paths[source], paths[target]
        depth = _shared(a, b)
        upper = a[: depth + 1] if len(a) > depth else source
        lower = b[: depth + 1] if len(b) > depth else target
        if not (isinstance(upper, int) and isinstance(lower, int)):
            found.setdefault(depth, {})[upper, lower] = None
    return found


def _one_way(pairs: Pairs) -> Mapping[Unit, list[Unit]]:
    """What each unit flows into and gets nothing back from."""
    found: dict[Unit, list[Unit]] = {}
    for upper, lower in pairs:
        if (lower, upper) not in pairs:
            found.setdefault(upper, []).append(lower)
    return found


def _ends(paths: Mapping[int, Path], linked: Mapping[int, int]) -> Mapping[Path, list[int]]:
    """For each cluster, the nodes that are not linked to another inside it."""
    found: dict[Path, list[int]] = {}
    for node, path in paths.items():
        for depth in range(linked.get(node, -1) + 1, len(path) + 1):
            found.setdefault(path[:depth], []).append(node)
    return found


def _members(unit: Unit, ends: Mapping[Path, list[int]]) -> Sequence[int]:
    return (unit,) if isinstance(unit, int) else ends.get(unit, ())


def _line(upper: str, lower: str) -> str:
    return f"  {upper} -> {lower} [style=invis, weight=0]"
