"""What several stages over a row need and takes long to compute: it is kept in the cache.

Room for it is where a result of the last stage will be. So the exponentials of a softmax, which
are summed first and divided then, are computed once.
"""

from collections.abc import Callable, Iterator
from math import prod

from fml.engine.kernels.expr import Apply
from fml.engine.kernels.fusion import Fusion
from fml.engine.kernels.nest import parts_of
from fml.engine.kernels.spaces import Space

# Rows of so many entries stay in the first cache.
_ROW = 4096
# Computing so many operations takes longer than writing and reading.
_COSTLY = 8


def kept_in_rows(fusion: Fusion, space: Space, level: Callable[[int], int]) -> dict[int, int]:
    """Values that are needed again, and for each the result in whose place it is kept.

    `level` is how many folds stand before a value.
    """
    if space.by_columns or not 1 < space.inner_count <= _ROW:
        return {}

    def is_inner(value: int) -> bool:
        whole = space.outer_count * space.inner_count
        return not fusion.nest(value).over and prod(fusion.nest(value).sizes) == whole

    uses: dict[int, set[int]] = {}
    folds = [value for value in fusion.values if fusion.nest(value).over]
    for value in (*filter(is_inner, fusion.results), *folds):
        for read in set(_reached(fusion, value, is_inner)):
            uses.setdefault(read, set()).add(level(value) - bool(fusion.nest(value).over))
    last = max((level for levels in uses.values() for level in levels), default=0)
    shared = {fusion.results[made] for _, made in fusion.shared}
    rooms = [
        v for v in fusion.results
        if is_inner(v) and level(v) == last and v not in shared and _is_room(fusion, v)
    ]  # fmt: skip
    found: dict[int, int] = {}
    for value, levels in sorted(uses.items()):
        fitting = (r for r in rooms if fusion.nest(r).element is fusion.nest(value).value.type)
        room = next(fitting, None)
        if len(levels) > 1 and value not in fusion.results and _is_costly(fusion, value) and room:
            found[value] = room
            rooms.remove(room)
    return found


def _reached(fusion: Fusion, value: int, is_inner: Callable[[int], bool]) -> Iterator[int]:
    """The values of the same row that a value is computed of, itself among them if it is a map."""
    if not fusion.nest(value).over:
        yield value
    for read in fusion.reads(value):
        if not fusion.is_input(read) and is_inner(read):
            yield from _reached(fusion, read, is_inner)


def _is_room(fusion: Fusion, value: int) -> bool:
    """Whether the result has what is computed as it is, not rounded."""
    return fusion.nest(value).element is fusion.nest(value).value.type


def _is_costly(fusion: Fusion, value: int) -> bool:
    parts = parts_of(fusion.nest(value).value)
    return sum(isinstance(part, Apply) for part in parts) >= _COSTLY
