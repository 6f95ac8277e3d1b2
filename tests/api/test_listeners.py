"""What a listener hears of a run."""

import signal
from typing import Any

import fml
from tests.api.programs import CLASSIFIER, points


def test_events_reach_a_listener() -> None:
    events: list[str] = []

    class Listener:
        def started(self, start: Any) -> None:
            events.append(f"started {start.steps_per_epoch}")

        def stepped(self, progress: Any) -> None:
            events.append(f"step {progress.step}")

        def measured(self, points: Any) -> None:
            events.append("measured " + " ".join(sorted(p.series for p in points)))

            if "interrupted" not in events:
                signal.raise_signal(signal.SIGINT)

        def interrupted(self) -> None:
            events.append("interrupted")

        def stopped(self, progress: Any, why: str) -> None:
            events.append(f"stopped {why}")

    fml.loads(CLASSIFIER).train(data={"points": points(16)}, rounds="1 epoch", on_event=Listener())
    assert events == [
        "started 2", "step 1", "step 2", "measured train.loss", "interrupted",
        "stopped after 1 epoch",
    ]  # fmt: skip


def test_a_listener_may_hear_how_far_the_figures_are_and_the_end() -> None:
    class Listener:
        def __init__(self) -> None:
            self.events: list[str] = []

        def started(self, start: Any) -> None: ...

        def stepped(self, progress: Any) -> None: ...

        def measured(self, points: Any) -> None: ...

        def stopped(self, progress: Any, why: str) -> None:
            self.events.append("stopped")

        def measuring(self, split: str, done: int, samples: int) -> None:
            self.events.append(f"{split} {done}/{samples}")

        def finished(self) -> None:
            self.events.append("finished")

    listener = Listener()
    fml.loads(CLASSIFIER).train(data={"points": points(16)}, rounds="1 epoch", on_event=listener)
    assert listener.events == ["stopped", "train 16/16", "finished"]
