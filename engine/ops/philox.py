"""Philox4x32-10, the counter-based generator of Salmon et al., "Parallel Random Numbers: As Easy
as 1, 2, 3" (SC 2011): the same bits on every device, in any order.
"""

import hashlib
from typing import TYPE_CHECKING, Any, TypeAlias

from fml.engine.ops.later import np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words: TypeAlias = NDArray[np.uint32]
else:
    Words = Any  # as `Array` in `scalar.py`

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
ROUNDS = 10


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Scramble counters [..., 4] under a key of two 32-bit words."""
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint32) for i in range(4))
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIERS[0], c0)
        high1, low1 = _multiply(MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + WEYL[0]) & _MASK, (k1 + WEYL[1]) & _MASK
    return np.stack((c0, c1, c2, c3), axis=-1)


def _multiply(a: int, b: Words) -> tuple[Words, Words]:
    product = b.astype(np.uint64) * np.uint64(a)
    return (product >> np.uint64(32)).astype(np.uint32), product.astype(np.uint32)


def path_hash(path: str) -> int:
    """64 bits that tell the places of random draws apart: BLAKE2b of the path."""
    return int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest(), "little")


def random_words(seed: int, learner: int, step: int, path: str, count: int) -> Words:
    """`count` random 32-bit words of a draw.

    The key is the seed, exclusive-or the hash of the path; word i is word i mod 4 of the counter
    (floor(i / 4), step mod 2^32, floor(step / 2^32), learner).
    """
    key = (seed & (2**64 - 1)) ^ path_hash(path)
    counter = np.empty((-(-count // 4), 4), np.uint32)
    counter[:, 0] = np.arange(len(counter), dtype=np.uint32)
    counter[:, 1:] = step & _MASK, (step >> 32) & _MASK, learner & _MASK
    return philox(counter, (key & _MASK, key >> 32)).reshape(-1)[:count]
