"""How the window of a convolution slides over images, forward and back."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import gcd

from fml.engine.ir.types import Element

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Convolution:
    """Sizes of a convolution of images [n, *size, channels] with a kernel [*window, c, units].

    Attributes:
        padding: zeros before and after, along height and width.
    """

    element: Element
    batch: int
    size: Pair
    channels: int
    window: Pair
    units: int
    stride: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def padded(self) -> Pair:
        """Size of an image with its padding."""
        return _pair(self.size[k] + sum(self.padding[k]) for k in (0, 1))

    @property
    def places(self) -> Pair:
        """Size of the result."""
        return _pair(
            (self.padded[k] - (self.window[k] - 1) * self.dilation[k] - 1) // self.stride[k] + 1
            for k in (0, 1)
        )


def _pair(values: Iterable[int]) -> Pair:
    first, second = values
    return first, second


@dataclass(frozen=True, slots=True)
class Slide:
    """How taps meet entries along one spatial axis: at offset + step * place + spread * tap.

    Attributes:
        places: places of the result.
        taps: taps of the kernel, `tap_step` of them apart, the first one `tap`.
        limit: entries of the source; what lies outside of it is zero.
        out: the first place in the result, `out_step` apart.
    """

    places: int
    taps: int
    step: int
    spread: int
    offset: int
    limit: int
    tap: int = 0
    tap_step: int = 1
    out: int = 0
    out_step: int = 1

    @property
    def room(self) -> Pair:
        """Zeros that are needed before and after the source."""
        last = self.offset + self.step * (self.places - 1) + self.spread * (self.taps - 1)
        return max(0, -self.offset), max(0, last - self.limit + 1)

    @property
    def met(self) -> float:
        """The share of places and taps that meet an entry."""
        if not self.taps:
            return 1.0
        meets = sum(
            0 <= self.offset + self.step * i + self.spread * t < self.limit
            for i in range(self.places) for t in range(self.taps)
        )  # fmt: skip
        return meets / (self.places * self.taps)


def forward_slide(conv: Convolution, k: int) -> Slide:
    """How a convolution slides along one spatial axis."""
    return Slide(
        conv.places[k], conv.window[k], conv.stride[k], conv.dilation[k], -conv.padding[k][0],
        conv.size[k],
    )  # fmt: skip


def backward_slides(conv: Convolution, k: int) -> list[Slide]:
    """How the gradient slides to that of the images: one slide for each phase of the stride.

    Image entry y = y' stride + phase gets what tap u gave to place (y + padding - u dilation) /
    stride, for those u for which that is whole. The taps are taken from the last to the first, so
    that the places ascend.
    """
    stride, dilation = conv.stride[k], conv.dilation[k]
    apart = stride // gcd(dilation, stride)
    found: list[Slide] = []
    for phase in range(min(stride, conv.size[k])):
        begin = phase + conv.padding[k][0]
        taps = [u for u in range(conv.window[k]) if (begin - u * dilation) % stride == 0]
        last = taps[-1] if taps else 0
        found.append(
            Slide(
                -(-(conv.size[k] - phase) // stride), len(taps), 1, dilation * apart // stride,
                (begin - last * dilation) // stride, conv.places[k], last, -apart, phase, stride,
            )
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Weights:
    """Steps through a kernel, as it is or turned round: [kh, kw, units, c], the taps of a row last
    to first.
    """

    row: int
    tap: int
    summed: int
    made: int
    group: int
    start: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """What forward and back have in common: a source that a window slides over, and a result.

    Attributes:
        slides: one pair for each phase, along height and width.
        summed, made: channels of a group in the source and in the result.
    """

    conv: Convolution
    source: Pair
    result: Pair
    summed: int
    made: int
    slides: tuple[tuple[Slide, Slide], ...]
    is_back: bool

    @property
    def is_by_channel(self) -> bool:
        """Every channel makes one channel."""
        return self.summed == self.made == 1 and self.conv.groups > 1

    @property
    def channels(self) -> Pair:
        """Channels of the source and of the result, in all groups."""
        return self.summed * self.conv.groups, self.made * self.conv.groups

    @property
    def entries(self) -> int:
        """Of the kernel."""
        conv = self.conv
        return conv.window[0] * conv.window[1] * conv.channels // conv.groups * conv.units

    @property
    def room(self) -> tuple[Pair, Pair]:
        """Zeros before and after, along height and width, that serve every phase."""
        rooms = [
            [pair[k].room for pair in self.slides if pair[0].taps and pair[1].taps] for k in (0, 1)
        ]
        before, after = (
            [max((r[side] for r in room), default=0) for room in rooms] for side in (0, 1)
        )
        return (before[0], after[0]), (before[1], after[1])

    def weights(self, turned: bool) -> Weights:
        """Steps through the kernel."""
        conv = self.conv
        c, f = conv.channels // conv.groups, conv.units // conv.groups
        tap = c * conv.units
        if turned:
            of_c, of_f, group = 1, c, f * c
        else:
            of_c, of_f, group = conv.units, 1, f
        summed, made = (of_f, of_c) if self.is_back else (of_c, of_f)
        row = tap * conv.window[1]
        if turned:
            return Weights(row, -tap, summed, made, group, row - tap)
        return Weights(row, tap, summed, made, group, 0)


def forward_sweep(conv: Convolution) -> Sweep:
    """From images to the result."""
    slides = ((forward_slide(conv, 0), forward_slide(conv, 1)),)
    c, f = conv.channels // conv.groups, conv.units // conv.groups
    return Sweep(conv, conv.size, conv.places, c, f, slides, False)


def backward_sweep(conv: Convolution) -> Sweep:
    """From the gradient of the result to that of the images."""
    slides = tuple(
        (rows, columns)
        for rows in backward_slides(conv, 0) for columns in backward_slides(conv, 1)
    )  # fmt: skip
    c, f = conv.channels // conv.groups, conv.units // conv.groups
    return Sweep(conv, conv.places, conv.size, f, c, slides, True)
