"""Pushes: what a learner assigns, inside the block, to a variable that all share.

A push is one turn of one learner: `learners_turn` reads a variable when the turn comes, `assign`
ends it, and whoever reads the variable later in the text sees what all learners have made of it
(`learners_pushed`). All that one statement assigns belongs to one turn.
"""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from fml.dsl.elaborate.region import Push
from fml.dsl.elaborate.session import Session
from fml.dsl.values import Place


@contextmanager
def push(s: Session, targets: Iterable[Place]) -> Generator[None]:
    """Let the statements inside the `with` be a push where they assign what all learners share.

    Outside the block `learners` nothing is one, nor where nothing is assigned.
    """
    shared = {place.name for place in targets if not place.variable.mapped}
    region = s.region
    is_inside = s.builder.context.mapped and not region.after_step and not region.read_only
    if not (shared and is_inside) or region.push is not None:
        yield
        return
    region.push = made = Push(s.plan.pushes, frozenset(shared))
    s.plan.pushes += 1
    try:
        yield
    finally:
        region.push = None
        for name, old in made.before.items():
            if name not in made.assigned:
                region.current[name] = old
                continue
            with s.marked(mapped=False, guard=None):
                region.current[name] = region.current[name].call("learners_pushed")
