"""Ctrl-C outside of a run's steps: a line, the exit status of an interruption, and no traceback."""

import _thread
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
_WORDS = b"\nfml: interrupted\n"


def leave_at_once() -> None:
    """Let Ctrl-C end the process wherever it stands; where it is ignored, it stays so.

    An exception instead would come out of half an import as a traceback, or as another exception.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, _WORDS)  # past Python's streams, to one of which something may be being written
    os._exit(INTERRUPTED)


def _press_again() -> None:
    """Let Ctrl-C be heard once more, where the main thread will have come by then."""
    time.sleep(0.01)
    _thread.interrupt_main()


@contextmanager
def undoing() -> Generator[None]:
    """Let Ctrl-C be a `KeyboardInterrupt` inside the `with`, so that what was begun is undone."""
    if signal.getsignal(signal.SIGINT) is not _leave:
        yield
        return
    print_exception = sys.unraisablehook

    def raise_again(fault: "sys.UnraisableHookArgs") -> None:
        # Out of a destructor or a callback of C, Python prints an exception and goes on.
        if issubclass(fault.exc_type, KeyboardInterrupt):
            _thread.start_new_thread(_press_again, ())
        else:
            print_exception(fault)

    sys.unraisablehook = raise_again
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _leave)
        sys.unraisablehook = print_exception
