"""The loops of the gradients of max pooling: which entries are largest, and how many share it."""

import math
from collections.abc import Sequence
from itertools import product

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.kernels.along import LANES
from fml.engine.kernels.expr import Expr, Load, Local, Var, constant, index, select
from fml.engine.kernels.loops import Declare, Fold, If, Kernel, Let, Statement, Store, loop
from fml.engine.kernels.nest import (
    Indices,
    Nest,
    Read,
    buffers_for,
    computed_as,
    fold,
    inputs_of,
    loads_for_reads,
    row_major,
)
from fml.engine.ops import rules
from fml.engine.ops.geometry import Geometry

# Windows of so many entries are written out where a pixel looks at those that it is in.
_FEW = 16


def gradient(
    inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
) -> Nest | Kernel:
    """Each pixel takes its share of the windows it is in; where these are large, each window gives.

    A sum of more than one such gift is rounded again and again in an element of 16 bits.
    """
    windows = _Windows(inputs, attributes, result)
    size, geometry = windows.size, windows.geometry
    if math.prod(size) > _FEW:
        return windows.given_out()
    places = inputs[0].sizes[1:3]

    g, x, y = inputs_of(inputs)

    def value(at: Indices, number: Indices) -> Expr:
        place, there_is = geometry.covering(places, x.sizes[1:3], at, number)
        window = (at[0], *place, at[3])
        top = y(*window, guard=there_is, otherwise=math.nan)
        count: Expr = constant(0, top.type)
        for tap in product(*map(range, size)):
            met = geometry.met(x, window, [index(i) for i in tap], -math.inf, there_is)
            count = count + _as_number(met.equals(top), top)
        share = g(*window, guard=there_is) / count * _as_number(x(*at).equals(top), top)
        return share if there_is is None else select(there_is, share, 0)

    return fold(inputs, result, geometry.covers, value)


def pick(inputs: Sequence[TensorType], attributes: Attributes, result: TensorType) -> Kernel:
    """For every window, the mean of what h has where x is the largest."""
    windows = _Windows(inputs, attributes, result)
    element = computed_as(result)
    total, count = Local("total", element), Local("count", element)
    none = constant(0, element)
    taps = windows.taps(
        Fold(count, "add", windows.hit), Fold(total, "add", windows.met(0, 0.0) * windows.hit)
    )
    mean = Store(windows.out, windows.place, total / count)
    body = (Declare(total, none), Declare(count, none), taps, mean)
    return Kernel("max_pool_pick", windows.buffers, (windows.each(*body),))


def _as_number(condition: Expr, like: Expr) -> Expr:
    return select(condition, constant(1, like.type), 0)


class _Windows:
    """Loops over the windows of x and over the entries of each, for inputs (g or h, x, y)."""

    def __init__(
        self, inputs: Sequence[TensorType], attributes: Attributes, result: TensorType
    ) -> None:
        self.size = rules.as_ints(attributes["size"])
        self.geometry = Geometry.of(attributes, self.size)
        self.buffers, self._inputs = buffers_for(inputs, result), inputs_of(inputs)
        self.out = self.buffers[-1]
        self._sizes = inputs[2].sizes
        self._at = [Var(name) for name in ("n", "y", "x", "c")]
        self._tap = [Var(name) for name in ("i", "j")]

    @property
    def place(self) -> Expr:
        """Where the window's result is."""
        return row_major(self._at, self._sizes)

    def of(self, place: int) -> Expr:
        """The window's entry of an input."""
        return self._loaded(self._inputs[place](*self._at))

    def met(self, place: int, otherwise: float) -> Expr:
        """What the entry of the window meets of an input."""
        return self._loaded(self._read(place, otherwise))

    @property
    def hit(self) -> Expr:
        """1 where the entry is the largest of its window, else 0."""
        top = self.of(2)
        return _as_number(self.met(1, -math.inf).equals(top), top)

    def each(self, *body: Statement) -> Statement:
        """Do something for every window."""
        number, y, x, channel = self._at
        inner = loop("c", self._sizes[3], body, channel, LANES)
        row = loop("y", self._sizes[1], [loop("x", self._sizes[2], [inner], x)], y)
        return loop("n", self._sizes[0], [row], number)

    def taps(self, *body: Statement) -> Statement:
        """Do something for every entry of the window."""
        i, j = self._tap
        return loop("i", self.size[0], [loop("j", self.size[1], body, j)], i)

    def given_out(self) -> Kernel:
        """Zeros, to which each window adds its shares."""
        pixels = math.prod(self._inputs[1].sizes)
        i, count = Var("i"), Local("count", self.of(2).type)
        none, share = constant(0, count.element), Var("share", count.element)
        met = self._read(1, 0.0)
        pixel = row_major(met.indices, self._inputs[1].sizes)
        give = Store(self.out, pixel, Load(self.out, pixel) + share * self.hit)
        there = (give,) if met.guard is None else (If(met.guard, (give,)),)
        body = (
            Declare(count, none),
            self.taps(Fold(count, "add", self.hit)),
            Let(share, self.of(0) / count),
            self.taps(*there),
        )
        zeros = loop("i", pixels, [Store(self.out, i, none)], i, LANES)
        return Kernel("max_pool_gradient", self.buffers, (zeros, self.each(*body)))

    def _read(self, place: int, otherwise: float) -> Read:
        return self.geometry.met(self._inputs[place], self._at, self._tap, otherwise)

    def _loaded(self, read: Read) -> Expr:
        return loads_for_reads(read, self._inputs, self.buffers)
