"""Ctrl-C between steps: a step is finished, then the run ends as if it had been told to."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Takes the first SIGINT as a request; the second one is a `KeyboardInterrupt` as ever."""

    def __init__(self) -> None:
        self.requested = False
        self._before: object = None
        self._installed = False

    def __enter__(self) -> "Interrupt":
        """Begin to listen; signals reach the main thread only."""
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._take)
            self._installed = True
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signal back."""
        if self._installed:
            signal.signal(signal.SIGINT, self._before)  # pyright: ignore[reportArgumentType]
