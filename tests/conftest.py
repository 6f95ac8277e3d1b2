"""What all tests share: golden text, the backends, and a folder of kernels of their own."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ("tests.backends", "tests.dsl.trainers")

# The same examples in every run, so that the gate says the same of the same code, and no clock: a
# busy machine is no fault. HYPOTHESIS_PROFILE=default looks for new ones.
settings.register_profile("gate", derandomize=True, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "gate"))


def pytest_configure(config: pytest.Config) -> None:
    """Listen to signals, and keep kernels in pytest's own cache."""
    _listen_to_signals()
    # One folder for all workers, for the programs that tests start, and for the next run of this
    # checkout; `--cache-clear` removes it, and the user's own is left alone.
    os.environ["FML_CACHE"] = str(config.rootpath / ".pytest_cache" / "d" / "fml")


def _listen_to_signals() -> None:
    """Hear the signals that tests send, even where the shell started pytest deaf to them.

    A job in the background ignores SIGINT, one under nohup SIGHUP, and children inherit that.
    """
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Path, str], None]:
    """Compare text with a file; with `--update-golden`, write the file."""

    def compare(path: Path, text: str) -> None:
        text = text.rstrip("\n") + "\n"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: write it with --update-golden, and read it"
        assert text == path.read_text(encoding="utf-8")

    return compare
