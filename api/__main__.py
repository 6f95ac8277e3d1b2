"""The program `fml`, and `python -m fml`: first of all, Ctrl-C is seen to.

Nothing is imported before that but what Python has at hand; even `signal` takes a while.
"""

import os
import sys

_WORDS = b"\nfml: interrupted\n"


def _quietly(kind: type[BaseException], fault: BaseException, traceback: object) -> None:
    """Print an exception that ends the program as Python does, unless it is Ctrl-C."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, fault, fault.__traceback__)
        return
    os.write(2, _WORDS)
    os._exit(130)


sys.excepthook = _quietly


def run() -> None:
    """What `fml` calls."""
    from fml.leaving import leave_at_once

    leave_at_once()
    from fml.cli import run

    run()


if __name__ == "__main__":
    run()
