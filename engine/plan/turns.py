"""Turns: what learners assign to a variable that they share, one whole learner after another."""

from collections.abc import Iterable

from fml.engine.ir.graph import Graph
from fml.engine.plan.order import needs
from fml.engine.plan.task import Work
from fml.engine.plan.where import base_of


def turns_of(graph: Graph) -> dict[int, int]:
    """Return which turn each node belongs to that lies between the variable and its assignment."""
    if not graph.of_op("learners_turn"):
        return {}
    begun: dict[int, set[int]] = {}  # node -> the turns whose variables it depends on
    for node in graph:
        if node.op == "learners_turn":
            push = node.attributes["push"]
            assert isinstance(push, int)
            begun[node.id] = {push}
        elif node.op != "learners_pushed":
            begun[node.id] = set[int]().union(*(begun.get(v, ()) for v in node.needs))
    ended: dict[int, set[int]] = {}  # node -> the turns whose assignments depend on it
    for node in reversed([*graph]):
        own = ended.setdefault(node.id, set())
        if node.op == "assign":
            own |= begun.get(node.inputs[0], set())
        for value in node.needs:
            ended.setdefault(value, set()).update(own)
    found: dict[int, int] = {}
    for node in graph:
        both = begun.get(node.id, set()) & ended[node.id]
        if both and node.op != "learners_turn":
            (found[node.id],) = both
    return found


def in_turns(graph: Graph, works: Iterable[Work]) -> tuple[Work, ...]:
    """Make one work of all that is done in a turn; what depends on it comes behind it."""
    works, turns = tuple(works), turns_of(graph)
    for push in dict.fromkeys(turns.values()):
        works = _gathered(graph, works, {n for n, turn in turns.items() if turn == push})
    return works


def _gathered(graph: Graph, works: tuple[Work, ...], members: set[int]) -> tuple[Work, ...]:
    parts = [work for work in works if members.intersection(work.results)]
    first, last = works.index(parts[0]), works.index(parts[-1])
    behind = _behind(graph, members)
    between = [work for work in works[first:last] if work not in parts]
    sooner = [work for work in between if behind.isdisjoint(work.nodes)]
    later = [work for work in between if not behind.isdisjoint(work.nodes)]
    return (*works[:first], *sooner, _joined(graph, parts), *later, *works[last + 1 :])


def _behind(graph: Graph, members: set[int]) -> set[int]:
    found: set[int] = set()
    for node in graph:
        if node.id in members or not found.isdisjoint(node.needs):
            found.add(node.id)
    return found


def _joined(graph: Graph, parts: list[Work]) -> Work:
    """Works that are done one behind the other, whatever guards they have."""
    made = [value for part in parts for value in part.results]
    read = (v for part in parts for v in needs(part) if base_of(graph, v) not in made)
    return Work(
        tuple(node for part in parts for node in part.nodes),
        tuple(dict.fromkeys(read)),
        tuple(made),
        scratch=tuple(nbytes for part in parts for nbytes in part.scratch),
        parts=tuple(parts),
    )


def shared_by_learners(graph: Graph) -> frozenset[str]:
    """Return the names of the variables that learners assign to in turns."""
    assigned = (graph[number] for number in turns_of(graph) if graph[number].op == "assign")
    return frozenset(str(node.attributes["name"]) for node in assigned)
