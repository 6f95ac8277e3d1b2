"""A graph as text that parses back, one node a line: for golden tests, `fml graph` and people.

`%3 = matmul(%1, %2) {k = 1} : f32[N, 3] in "net" [backward] over learners when %7`
"""

import json
from typing import cast

from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Attribute, Graph, Node, Phase
from fml.engine.ir.reader import Reader
from fml.engine.ir.types import Element, TensorType


def dump(graph: Graph, types: bool = True) -> str:
    """Write a graph; without types it is shorter, and cannot be read back.

    What is left out is the default: no attributes, no scope, forward, not over learners, no
    guard. Places in the source text are not written.
    """
    lines = [f"graph {json.dumps(graph.name, ensure_ascii=False)}"]
    lines += [_node_line(node, types) for node in graph]
    if graph.outputs:
        results = (f"{_name(name)} = %{number}" for name, number in graph.outputs.items())
        lines.append(f"return {', '.join(results)}")
    return "\n".join(lines) + "\n"


def read(text: str) -> Graph:
    """Read what `dump` wrote; empty lines and lines that begin with `#` are skipped.

    Raises:
        ValueError: the text is no graph; says the line.
    """
    name, nodes, outputs = "", list[Node](), dict[str, int]()
    # Not `splitlines`: names may hold other separators, which JSON leaves as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        reader = Reader(line, number)
        if reader.accept("graph"):
            name = reader.string()
        elif reader.accept("return"):
            outputs = reader.outputs()
        else:
            nodes.append(reader.node())
        reader.end()
    return Graph(name, nodes, outputs)


def attribute_text(value: Attribute) -> str:
    """Write an attribute so that its kind can be told: `dim(3)` is a dimension, `3` a number."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Dim():
            return f"dim({value})"
        case TensorType():
            return str(value) if value.shape else f"{value}[]"
        case Element():
            return str(value)
        case tuple():
            return _tuple_text(cast("tuple[Attribute, ...]", value))
        case _:
            return repr(value)


def _tuple_text(parts: tuple[Attribute, ...]) -> str:
    if parts and all(isinstance(part, Dim) for part in parts):
        return f"[{', '.join(map(str, parts))}]"
    inside = ", ".join(map(attribute_text, parts))
    return f"({inside},)" if len(parts) == 1 else f"({inside})"


def _node_line(node: Node, types: bool) -> str:
    text = f"%{node.id} = {node.op}({', '.join(f'%{i}' for i in node.inputs)})"
    if node.attributes:
        pairs = (f"{name} = {attribute_text(value)}" for name, value in node.attributes.items())
        text += f" {{{', '.join(pairs)}}}"
    if types:
        text += f" : {node.type}"
    if node.scope:
        text += f" in {json.dumps(node.scope, ensure_ascii=False)}"
    if node.phase is not Phase.FORWARD:
        text += f" [{node.phase.value}]"
    if node.mapped:
        text += " over learners"
    if node.guard is not None:
        text += f" when %{node.guard}"
    return text


def _name(name: str) -> str:
    return name if name.isidentifier() else json.dumps(name, ensure_ascii=False)
