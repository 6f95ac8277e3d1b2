"""How many steps are taken before Python looks up: as many as fit into a short time."""

# Progress is shown so often; a request to stop is heard at the end of any step.
SECONDS_AT_ONCE = 0.25
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
