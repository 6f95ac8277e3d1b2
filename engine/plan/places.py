"""The region of every value.

The arena has a part for each device, then what tasks in several places touch, which is never used
again for something else, then a part for each learner, all alike.
"""

from dataclasses import dataclass, replace

from fml.engine.ir.graph import Graph
from fml.engine.ops import rules
from fml.engine.ops.table import OPS
from fml.engine.plan.buffers import Buffers, Key, aside, of_value
from fml.engine.plan.memory import Buffer, Clash, aligned, plan_arena
from fml.engine.plan.order import variable_of
from fml.engine.plan.task import Layout, Region, Space
from fml.engine.plan.where import Where

LEARNER = Where(mapped=True)


@dataclass(frozen=True, slots=True)
class Arena:
    """Where buffers lie: `nbytes` in all, of which `peak` are in use at once; `own` per learner."""

    offsets: dict[Key, int]
    strides: dict[Key, int]
    nbytes: int
    peak: int
    own: int


def arena_of(buffers: Buffers, learners: int, clash: Clash = Buffer.lives_with) -> Arena:
    """Place all buffers; those of learners `learners` times."""
    offsets: dict[Key, int] = {}
    strides: dict[Key, int] = {}
    end = peak = 0
    for place in sorted(buffers.alone):
        if place != LEARNER:
            part = plan_arena(buffers.alone[place], clash)
            offsets |= {key: end + offset for key, offset in part.offsets.items()}
            end, peak = end + part.nbytes, peak + part.peak
    for key in buffers.met:
        count = learners if key in buffers.mapped else 1
        offsets[key] = end
        strides[key] = buffers.nbytes[key] if key in buffers.mapped else 0
        end, peak = (now + aligned(count * buffers.nbytes[key]) for now in (end, peak))
    part = plan_arena(buffers.alone.get(LEARNER, []), clash)
    offsets |= {key: end + offset for key, offset in part.offsets.items()}
    strides |= dict.fromkeys(part.offsets, part.nbytes)
    total = end + learners * part.nbytes
    return Arena(offsets, strides, total, peak + learners * part.peak, part.nbytes)


def constants_of(graph: Graph) -> dict[int, Region]:
    """The constants, one behind the other."""
    regions: dict[int, Region] = {}
    offset = 0
    for node in graph.of_op("constant"):
        regions[node.id] = Region(Space.CONSTANTS, offset, node.type.nbytes)
        offset += aligned(node.type.nbytes)
    return regions


@dataclass(frozen=True, slots=True)
class Places:
    """Finds regions."""

    graph: Graph
    layout: Layout
    arena: Arena
    buffers: Buffers
    constants: dict[int, Region]

    def of(self, value: int, *, is_aside: bool = False) -> Region:
        """Where a value lives, or what was put aside of it, or of what it is a view of."""
        node = self.graph[value]
        if OPS[node.op].view:
            return self._viewed(value, self.of(node.inputs[0], is_aside=is_aside))
        if is_aside:
            return self.in_arena(aside(value))
        if value in self.constants:
            return self.constants[value]
        name = variable_of(node)
        return self.in_arena(of_value(value)) if name is None else self.layout.regions[name]

    def in_arena(self, key: Key) -> Region:
        """Where a buffer lies."""
        owner = self.buffers.owner.get(key, key)
        offset, stride = self.arena.offsets[owner], self.arena.strides.get(owner, 0)
        return Region(Space.ARENA, offset, self.buffers.nbytes[key], stride)

    def _viewed(self, view: int, region: Region) -> Region:
        node = self.graph[view]
        if node.op in {"learners_turn", "learners_pushed"}:
            return region  # the same memory, at another time
        if node.op == "each_learner":
            return replace(region, nbytes=node.type.nbytes, stride=node.type.nbytes)
        first = rules.as_int(node.attributes["first"])
        start = region.offset + first * region.stride
        return Region(region.space, start, node.type.nbytes)
