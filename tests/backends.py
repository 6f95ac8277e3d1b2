"""The backends that results are held to, in one place: a test `on_each_backend` runs on all.

What computes in such a test asks `current_backend()`, at whatever depth. Elsewhere that is numpy:
what a text means does not depend on who computes it, and a kernel costs a compilation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

import pytest

from fml.engine.backends.interface import Backend
from fml.engine.backends.llvm import LlvmBackend
from fml.engine.backends.numpy import NumpyBackend

BACKENDS: Mapping[str, Callable[[], Backend]] = {"numpy": NumpyBackend, "llvm": LlvmBackend}
_chosen: ContextVar[str] = ContextVar("backend", default="numpy")


def current_backend() -> Backend:
    """Make the backend that the running test is about."""
    return BACKENDS[_chosen.get()]()


@contextmanager
def using(name: str) -> Iterator[None]:
    """Make another backend the current one."""
    token = _chosen.set(name)
    try:
        yield
    finally:
        _chosen.reset(token)


@pytest.fixture(params=list(BACKENDS))
def each_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test once for each backend, which is the current one meanwhile."""
    with using(request.param):
        yield request.param


on_each_backend = pytest.mark.usefixtures("each_backend")
