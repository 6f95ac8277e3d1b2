"""An order in which learners and the centre wait for each other as late and as little as can be.

Streams keep the order of their tasks, so one that has to wait holds up all behind it. Hence what is
central comes as soon as all is there that it needs: the centre goes through parameters in the order
in which learners are done with them, and is through with each when they come to it again, a step
later. What a learner does with what the centre has made of this step comes behind all that it can
do without, in the order in which the centre makes it.
"""

from collections.abc import Collection, Iterator, Mapping
from heapq import heapify, heappop, heappush


def by_readiness(behind: Mapping[int, Collection[int]], mapped: Collection[int]) -> Iterator[int]:
    """Yield places in an order in which none comes before what it has to come behind.

    `behind` says of each place which ones come behind it; `mapped` are those of learners. Without
    learners it is the order of the numbers, as far as can be.
    """
    before: dict[int, list[int]] = {place: [] for place in behind}
    for place, later in behind.items():
        for other in later:
            before[other].append(place)
    left = {place: len(those) for place, those in before.items()}
    given: dict[int, int] = {}  # when the centre made the last of what a place depends on
    made: dict[int, int] = {}  # when what learners have made in this step was put together

    def ready(place: int) -> tuple[int, int]:
        if place not in mapped:
            return -1, place
        given[place] = max((given[p] if p in mapped else made[p] for p in before[place]), default=0)
        return given[place], place

    heap = [ready(place) for place, count in left.items() if not count]
    heapify(heap)
    for now in range(1, len(behind) + 1):
        _, place = heappop(heap)
        if place not in mapped:
            depends = any(p in mapped or made[p] for p in before[place])
            made[place] = now if depends else 0
        yield place
        for other in behind[place]:
            left[other] -= 1
            if not left[other]:
                heappush(heap, ready(other))
