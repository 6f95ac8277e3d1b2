"""Where in a picture each node stands: in its own scope, or with the layer that it serves."""

from collections.abc import Mapping

from fml.engine.ir.graph import Graph, Node, Phase

# Depends on nothing but constants; on several layers or on data.
_FREE, _MIXED = object(), object()


def homes(graph: Graph) -> Mapping[int, str]:
    """Return the scope under which each node is drawn.

    What an optimizer keeps for a parameter stands with that parameter, and so does what is
    computed of one layer's parameters alone (a penalty), and a part of an update that serves one
    layer only. Feeds name their data set and need no cluster.
    """
    parameters = {
        str(node.attributes.get("name")): node.scope
        for node in graph
        if node.op == "variable" and node.attributes.get("role") == "param"
    }
    owners = _owners(graph, parameters)
    found: dict[int, str] = {}
    for node in reversed([*graph]):
        owner = owners[node.id]
        if node.op == "feed":
            found[node.id] = ""
        elif node.phase is Phase.UPDATE:
            found[node.id] = _home_of_update(graph, node, parameters, found)
        else:
            found[node.id] = node.scope or (owner if isinstance(owner, str) else "")
    return found


def _owners(graph: Graph, parameters: Mapping[str, str]) -> Mapping[int, object]:
    """For each node, the scope of the parameters that it depends on, if it is one and no more."""
    owners: dict[int, object] = {}
    for node in graph:
        if node.op == "variable":
            owners[node.id] = parameters.get(str(node.attributes.get("name")), _MIXED)
        elif not node.inputs:
            owners[node.id] = _FREE if node.op in {"constant", "dim_value"} else _MIXED
        else:
            bound = {owners[source] for source in node.inputs} - {_FREE}
            owners[node.id] = bound.pop() if len(bound) == 1 else _MIXED if bound else _FREE
    return owners


def _home_of_update(
    graph: Graph, node: Node, parameters: Mapping[str, str], found: Mapping[int, str]
) -> str:
    if node.op in {"variable", "assign"}:
        return _served(node, parameters)
    users = [graph[user] for user in graph.users(node.id)]
    # A learner's correction stands with the learner, though the central model reads it too.
    served = {found[user.id] for user in users if user.mapped == node.mapped}
    return served.pop() if not node.scope and len(served) == 1 else node.scope


def _served(node: Node, parameters: Mapping[str, str]) -> str:
    """Return the scope of the parameter whose path ends this node's: `net` of `momentum.net.W`."""
    scope = str(node.attributes["name"]).rpartition(".")[0]
    rest = node.scope or scope
    while rest:
        if rest in parameters:
            return parameters[rest]
        rest = rest.partition(".")[2]
    return node.scope or scope
