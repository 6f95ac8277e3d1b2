"""Object code -> addresses that can be called."""

import ctypes
import itertools
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import llvmlite.binding

from fml.engine.kernels.llvm.compiler import ALLOWED, Refused, machine_for
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.symbols import symbols

llvm: Any = llvmlite.binding  # it has no types


@dataclass(frozen=True, slots=True, eq=False)
class Library:
    """Loaded object code, which stays where it is as long as this exists.

    Attributes:
        addresses: where each function that it defines begins.
        loaded: what holds the memory.
    """

    addresses: Mapping[str, int]
    loaded: object

    def address(self, name: str) -> int:
        """Where a function begins.

        Raises:
            KeyError: it defines no such function.
        """
        return self.addresses[name]


def link(image: bytes) -> Library:
    """Load object code for this machine.

    Raises:
        Refused: it wants symbols that are not on the list, or it cannot be loaded.
        ValueError: it is no object code.
    """
    names = symbols(image)
    missing = names.undefined - ALLOWED
    if missing:
        raise Refused(f"unresolved symbols: {', '.join(sorted(missing))}")
    builder = llvm.JITLibraryBuilder().add_object_img(image)
    # Nothing else of the process is in reach.
    for name in names.undefined:
        builder.import_symbol(name, _address(name))
    for name in names.defined:
        builder.export_symbol(name)
    session = _session()
    with _lock:
        name = f"library{next(_numbers)}"  # the session wants each once
    try:
        tracker = builder.link(session, name)
    except RuntimeError as error:
        raise Refused(str(error)) from error
    return Library({name: tracker[name] for name in names.defined}, tracker)


_lock = threading.Lock()
_numbers = itertools.count()


@cache
def _session() -> Any:
    # JITLink puts code and its constants side by side, so that short addresses between them reach.
    return llvm.create_lljit_compiler(
        machine_for(Host.native()), use_jit_link=True, suppress_errors=True
    )


def _address(name: str) -> int:
    """Of a function of the C library; what moves memory also copies it."""
    if name == "sched_yield" and os.name == "nt":
        function = ctypes.CDLL("kernel32").SwitchToThread
    elif name in {"bzero", "sched_yield"}:
        function = getattr(ctypes.CDLL(None), name)
    else:
        function = ctypes.memset if name == "memset" else ctypes.memmove
    return cast(int, ctypes.cast(function, ctypes.c_void_p).value)
