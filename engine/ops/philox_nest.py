"""The loop of `random_uniform`: a block of four words of Philox4x32-10 at a time."""

from collections.abc import Sequence
from math import prod

from fml.engine.ir.types import Element, TensorType
from fml.engine.kernels.along import LANES
from fml.engine.kernels.expr import INDEX, Apply, Buffer, Expr, Load, Var, constant, convert, index
from fml.engine.kernels.loops import Kernel, Let, Statement, Store, loop
from fml.engine.kernels.nest import buffers_for, computed_as
from fml.engine.ops.philox import MULTIPLIERS, ROUNDS, WEYL, path_hash
from fml.engine.ops.random import KEY

_WORD = Element.I32


def uniform(path: str, kept: int, result: TensorType) -> Kernel:
    """Write numbers in [0, 1) of `kept` bits of a word each; of an f64, of 53 bits of two."""
    given, out = buffers_for([KEY], result)
    count, element = prod(result.sizes), computed_as(result)
    each = 2 if element is Element.F64 else 4
    block = Var("block")

    def numbers(at: Expr, lets: list[Statement]) -> list[Expr]:
        words = _words(given, path, at, lets)
        if element is not Element.F64:
            return [_fraction(word, kept, element) for word in words]
        # 27 bits of one word above 26 of the next.
        return [
            convert(high >> 5, element) * 2.0**-27 + convert(low >> 6, element) * 2.0**-53
            for high, low in zip(words[::2], words[1::2], strict=True)
        ]

    def filled(at: Expr, several: int) -> list[Statement]:
        lets: list[Statement] = []
        made = numbers(at, lets)[:several]
        return lets + [Store(out, at * each + place, e) for place, e in enumerate(made)]

    whole, rest = divmod(count, each)
    body = [loop("block", whole, filled(block, each), block, LANES)]
    end = filled(index(whole), rest) if rest else []
    return Kernel("random_uniform", (given, out), (*body, *end))


def _fraction(word: Expr, kept: int, element: Element) -> Expr:
    """The first bits of a word as a number below 1."""
    return convert(word >> (32 - kept), element) * 2.0**-kept


def _words(given: Buffer, path: str, block: Expr, lets: list[Statement]) -> Sequence[Expr]:
    """The four words of a block, as `philox.random_words` has them."""
    seed, learner, step = (Load(given, index(place)) for place in range(3))
    key = seed ^ _signed(path_hash(path), INDEX)
    k0, k1 = _halves(key)
    c1, c2 = _halves(step)
    c0, c3 = convert(block, _WORD), convert(learner, _WORD)
    for number in range(ROUNDS):
        high0, low0 = _product(MULTIPLIERS[0], c0)
        high1, low1 = _product(MULTIPLIERS[1], c2)
        by0, by1 = (_signed(number * weyl, _WORD) for weyl in WEYL)
        made = high1 ^ c1 ^ (k0 + by0), low1, high0 ^ c3 ^ (k1 + by1), low0
        names = [Var(f"word{number}_{place}", _WORD) for place in range(4)]
        lets += [Let(name, word) for name, word in zip(names, made, strict=True)]
        c0, c1, c2, c3 = names
    return [c0, c1, c2, c3]


def _product(by: int, word: Expr) -> tuple[Expr, Expr]:
    """The high and the low word of a product."""
    factor = _signed(by, _WORD)
    return Apply("high_word", (word, factor), _WORD), word * factor


def _halves(long: Expr) -> tuple[Expr, Expr]:
    return convert(long, _WORD), convert(long >> 32, _WORD)


def _signed(bits: int, element: Element) -> Expr:
    """A constant of these bits."""
    width = 64 if element is INDEX else 32
    low = bits % (1 << width)
    return constant(low - (1 << width) if low >> (width - 1) else low, element)
