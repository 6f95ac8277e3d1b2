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

    A sum of such gifts would be rounded again and again in an element of 16 bits.
    """
    windows = _Windows(inputs, attributes, result)
    size, geometry = windows.size, windows.geometry
    if math.prod(size) > _FEW:
        is_narrow = computed_as(result) is not result.element
        are_apart = geometry.covers == (1, 1)
        return windows.taken() if is_narrow and not are_apart else windows.given_out()
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

    def each(self, *body: Statement, sizes: Sequence[int] = ()) -> Statement:
        """Do something for every window, or for every entry of an image of these sizes."""
        number, y, x, channel = self._at
        samples, height, width, channels = sizes or self._sizes
        inner = loop("c", channels, body, channel, LANES)
        row = loop("y", height, [loop("x", width, [inner], x)], y)
        return loop("n", samples, [row], number)

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

    def taken(self) -> Kernel:
        """What each pixel has of the windows it is in, whose entries are counted for each anew."""
        g, x, y = self._inputs
        back = [Var(name) for name in ("a", "b")]
        place, there_is = self.geometry.covering(y.sizes[1:3], x.sizes[1:3], self._at, back)
        window = (self._at[0], *place, self._at[3])
        top = self._loaded(y(*window, guard=there_is, otherwise=math.nan))
        met = self._loaded(self.geometry.met(x, window, self._tap, -math.inf, there_is))
        total, count = Local("total", top.type), Local("count", top.type)
        hit = _as_number(self._loaded(x(*self._at)).equals(top), top)
        share = self._loaded(g(*window, guard=there_is)) / count * hit
        if there_is is not None:
            share = select(there_is, share, 0)
        one = (
            Declare(count, constant(0, count.element)),
            self.taps(Fold(count, "add", _as_number(met.equals(top), top))),
            Fold(total, "add", share),
        )
        down, beside = self.geometry.covers
        body = (
            Declare(total, constant(0, total.element)),
            loop("a", down, [loop("b", beside, one, back[1])], back[0]),
            Store(self.out, row_major(self._at, x.sizes), total),
        )
        return Kernel("max_pool_gradient", self.buffers, (self.each(*body, sizes=x.sizes),))

    def _read(self, place: int, otherwise: float) -> Read:
        return self.geometry.met(self._inputs[place], self._at, self._tap, otherwise)

    def _loaded(self, read: Read) -> Expr:
        return loads_for_reads(read, self._inputs, self.buffers)
