"""A figure of parameters that nothing trains: most often a model that was made twice."""

from typing import TYPE_CHECKING

from fml.dsl.elaborate import replicas
from fml.dsl.elaborate.session import Session
from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fml.dsl.elaborate.measuring import Watched
    from fml.dsl.elaborate.plan import PlanWork


_MADE_TWICE = (
    "a layer's bare name makes a fresh copy wherever it is applied",
    "make it once, `net = m()`, and apply `net` in both places",
)
_UNUSED_REPLICAS = (
    "its replicas are trained, and nothing brings them together",
    "put a strategy behind the block, such as `use sma(learners.w, z)`",
)


def warn(s: Session, work: "PlanWork", graph: Graph, measured: "Sequence[Watched]") -> None:
    """Report W0601 for a measured expression whose parameters the step never assigns.

    Applying a layer's bare name makes a fresh instance at every place, so `measure accuracy(m(x),
    y)` measures another one than `minimize ... m(x)` trains. Plans that assign no parameter at all
    are left alone, and so are frozen parameters.
    """
    step = work.step.builder.nodes.nodes
    assigned = {str(node.attributes["name"]) for node in step if node.op == "assign"}
    trained = {n for n, v in s.plan.variables.items() if v.role is Role.PARAM and v.trained}
    if not trained & assigned or work.has_lost_update:
        return
    for one in measured:
        if one.name not in graph.outputs:
            continue
        behind = graph.ancestors([graph.outputs[one.name]])
        read = {str(n.attributes["name"]) for n in graph.of_op("variable") if n.id in behind}
        stale = sorted(read & trained - assigned)
        if stale and not read & trained & assigned:
            layer = stale[0].partition(".")[0]
            copies = {v.name for v in s.plan.variables.values() if v.replica_of in stale}
            note, way = _UNUSED_REPLICAS if copies & assigned else _MADE_TWICE
            if (meant := replicas.meant(s, stale)) is not None:
                note = f"`{meant.replica}`, which learners train, is not its replica"
                way = f"write `{meant.replica} = replica({meant.central})`, and a strategy behind "
                way += f"the block, such as `use sma(learners.{meant.replica}, {meant.central})`"
            s.report(
                "W0601",
                f"nothing trains the parameters of `{layer}`, which is measured here",
                [one.value],
                notes=[note],
                help=way,
            )
