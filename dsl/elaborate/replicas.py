"""Models that learners make for themselves, `w = mlp(3)`, where `w = replica(z)` was meant."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from fml.dsl.elaborate.session import Session
from fml.dsl.scope import Bound, Scope
from fml.dsl.values import Instance
from fml.engine.ir.source import Span


@dataclass(frozen=True, slots=True)
class Meant:
    """A model of the block, made at `span`, and one of the same layer outside."""

    replica: str
    central: str
    span: Span


def meant(s: Session, stale: Collection[str] = ()) -> Meant | None:
    """Find a model of learners that should have been a replica.

    The one outside has no parameters yet, or none but those that are `stale`.
    """
    inside = s.plan.learners
    if inside is None:
        return None
    for replica, own in _models(inside):
        if own.central is not None or own.span is None or not any(own.all_places()):
            continue
        outside = inside.parent
        while outside is not None:
            for central, model in _models(outside):
                if _is_like(own, model) and all(p.name in stale for p in model.trained()):
                    return Meant(replica, central, own.span)
            outside = outside.parent
    return None


def _models(scope: Scope) -> Iterator[tuple[str, Instance]]:
    for name, entry in scope.names.items():
        value = entry.value if isinstance(entry, Bound) else entry
        if isinstance(value, Instance):
            yield name, value


def _is_like(a: Instance, b: Instance) -> bool:
    return a.layer is not None and a.layer == b.layer and a.attributes == b.attributes
