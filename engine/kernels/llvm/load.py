"""LLVM IR -> addresses that can be called, each text once."""

import threading

from fml.engine.kernels.llvm.compiler import object_code
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.linker import Library, link

_loaded: dict[tuple[str, Host], Library] = {}
_lock = threading.Lock()


def load(text: str, host: Host | None = None) -> Library:
    """Compile and load the text of an LLVM module; the same text again costs nothing.

    A library stays loaded until the process ends, so that its addresses stay good.

    Raises:
        Refused: as `object_code`.
    """
    key = (text, host or Host.native())
    with _lock:
        if key not in _loaded:
            _loaded[key] = link(object_code(*key))
        return _loaded[key]
