"""How many steps are taken before Python looks up: as many as fit into a short time."""

# A request to stop is heard, and progress is shown, so often.
SECONDS_AT_ONCE = 0.05
# One stretch may be so many times as long as the one before it.
GROWTH = 8


class Pace:
    """The number of steps to be taken at once.

    Attributes:
        steps: how many steps are taken next.
    """

    def __init__(self) -> None:
        self.steps = 1

    def took(self, steps: int, seconds: float) -> None:
        """So many steps have taken so long."""
        fitting = int(SECONDS_AT_ONCE * steps / max(seconds, 1e-9))
        self.steps = max(1, min(fitting, GROWTH * self.steps))
