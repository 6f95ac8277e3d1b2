"""How long a loop takes, on a machine that others use as well."""

from dataclasses import dataclass

import pytest

from fml.engine.profile import timing


@dataclass
class Clocks:
    """The time that passes, and what of it this process had a core."""

    passed: float = 0.0
    own: float = 0.0


@dataclass
class Shared:
    """A loop of a microsecond an iteration, in which others have the core for `others` seconds."""

    clocks: Clocks
    others: float

    def run(self, repeats: int) -> None:
        self.clocks.own += repeats * 1e-6
        self.clocks.passed += repeats * 1e-6 + self.others


@pytest.mark.parametrize("others", [0.0, 1e-4, 0.05])
def test_the_least_time_leaves_out_what_others_take(
    others: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(timing, "perf_counter", lambda: clocks.passed)
    monkeypatch.setattr(timing, "cpu_clock", lambda: clocks.own)
    assert timing.least_seconds_of(Shared(clocks, others), 0.04) == pytest.approx(1e-6)


def test_the_least_time_of_what_several_threads_do_is_what_passes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(timing, "perf_counter", lambda: clocks.own)
    monkeypatch.setattr(timing, "cpu_clock", lambda: 2 * clocks.own)
    assert timing.least_seconds_of(Shared(clocks, 0.0), 0.04) == pytest.approx(1e-6)
