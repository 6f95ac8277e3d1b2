"""Where in a picture each node stands: in its own scope, or with the layer that it serves."""

from collections.abc import Mapping

from fml.engine.ir.graph import Graph, Node, Phase


def homes(graph: Graph) -> Mapping[int, str]:
    """Return the scope under which each node is drawn.

    What an optimizer keeps for a parameter stands with that parameter, and so does a part of an
    update that serves one layer only. Feeds name their data set and need no cluster.
    """
    parameters = {
        str(node.attributes.get("name")): node.scope
        for node in graph
        if node.op == "variable" and node.attributes.get("role") == "param"
    }
    found: dict[int, str] = {}
    for node in reversed([*graph]):
        found[node.id] = _home(graph, node, parameters, found)
    return found


def _home(graph: Graph, node: Node, parameters: Mapping[str, str], found: Mapping[int, str]) -> str:
    if node.op == "feed":
        return ""
    if node.phase is not Phase.UPDATE:
        return node.scope
    if node.op in {"variable", "assign"}:
        return _served(node, parameters)
    served = {found[user] for user in graph.users(node.id)}
    return served.pop() if not node.scope and len(served) == 1 else node.scope


def _served(node: Node, parameters: Mapping[str, str]) -> str:
    """Return the scope of the parameter whose path ends this node's: `net` of `momentum.net.W`."""
    rest = node.scope
    while rest:
        if rest in parameters:
            return parameters[rest]
        rest = rest.partition(".")[2]
    return node.scope
