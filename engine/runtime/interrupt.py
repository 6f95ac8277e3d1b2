"""Being told to stop between steps: a step is finished, then the run ends as if by a rule."""

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType, TracebackType

# Ctrl-C; what `kill`, job schedulers and containers send; the closing of a terminal.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupt:
    """Takes the first signal as a request, and the next one is a `KeyboardInterrupt`.

    Only one: several that come at once must not cut short what puts things in order behind the
    first of them. Where that is done, or may be left, it is `released`.

    Attributes:
        requested: a signal came, or somebody else asked.
        is_urgent: another one came.
    """

    def __init__(self, told: Callable[[], None] = lambda: None) -> None:
        """`told` is called at the first signal, wherever the main thread stands."""
        self.requested = self.is_urgent = False
        self._told = told
        self._waits = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interrupt":
        """Begin to listen; signals reach the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                # Ignored on purpose (nohup, a shell's background job) stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._take)
        return self

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._told()
            return
        self.is_urgent = True
        if not self._waits:
            self._waits = True
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Let what is done from here on come to its end: a further signal is only noted."""
        self._waits = True

    @contextmanager
    def held(self) -> Generator[None]:
        """Let what is done inside the `with` come to its end, and no more."""
        before, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = before

    @contextmanager
    def released(self) -> Generator[None]:
        """Let a further signal cut short what is done inside the `with`."""
        self._waits = False
        try:
            yield
        finally:
            self._waits = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)  # pyright: ignore[reportArgumentType]
