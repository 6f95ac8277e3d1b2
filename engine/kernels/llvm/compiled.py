"""Recipes of kernels -> addresses that can be called, each kernel once: in this process, and
through the user's cache on this machine.
"""

import functools
import hashlib
import json
import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fml.engine.ir.types import Element
from fml.engine.kernels.expr import Buffer
from fml.engine.kernels.llvm.cache import Cache, chosen_folder, user_folder
from fml.engine.kernels.llvm.compiler import object_code
from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.fingerprint import fingerprint
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.linker import Library, link
from fml.engine.kernels.loops import Kernel


@dataclass(frozen=True, slots=True)
class Recipe:
    """A kernel, which is made only where nobody has compiled it yet.

    Attributes:
        key: all that the kernel depends on, but for the host and the sources of the engine.
        make: the kernel of that name for a host.
    """

    key: str
    make: Callable[[str, Host], Kernel]


@dataclass(frozen=True, slots=True)
class Signature:
    """How a kernel is called; the attributes are those of `Kernel`, but the names of sizes."""

    buffers: tuple[Buffer, ...]
    sizes: tuple[str, ...]
    shared: tuple[tuple[int, int], ...]
    scratch: tuple[int, ...]
    parts: int


@dataclass(frozen=True, slots=True, eq=False)
class Compiled:
    """Machine code of a kernel, which stays where it is until the process ends."""

    signature: Signature
    address: int
    library: Library


def compiled(
    recipes: Sequence[Recipe], host: Host | None = None, cache: Cache | None = None
) -> tuple[Compiled, ...]:
    """The machine code of each recipe's kernel; recipes of equal keys have the same.

    What this process has made or loaded is at hand; what any process of this user has made is
    read from `cache` (without one, from the user's); the rest is made and kept there.

    Raises:
        Refused: as `object_code`.
    """
    host = host or Host.native()
    names = [_name(recipe, host) for recipe in recipes]
    with _lock:
        missing = {n: r for n, r in zip(names, recipes, strict=True) if n not in _loaded}
        if missing:
            _load(missing, host, _kept(cache))
        return tuple(_loaded[name] for name in names)


_loaded: dict[str, Compiled] = {}
_lock = threading.Lock()


def _load(recipes: dict[str, Recipe], host: Host, cache: Cache | None) -> None:
    has_kept, has_room = False, True
    for name, recipe in recipes.items():
        found = None if cache is None else _found(name, cache)
        if found is None:
            signature, image = _made(name, recipe, host)
            found = _linked(name, signature, image)
            if cache is not None:
                has_room = cache.put(name, _packed(signature, image))
                has_kept = has_kept or has_room
        _loaded[name] = found
    if cache is not None and has_kept:
        cache.trim()
    if cache is not None and not has_room:
        _warn_of(cache.folder)


@functools.cache
def _warn_of(folder: Path) -> None:
    """Say that a folder is of no use, where the user has chosen it; once."""
    chosen = chosen_folder()
    if chosen is not None and folder.is_relative_to(chosen):
        warnings.warn(
            f"compiled kernels cannot be kept in FML_CACHE={chosen}, and are compiled anew by "
            "every process: it must be a folder that its user alone may write to",
            RuntimeWarning,
            stacklevel=2,
        )


def _kept(cache: Cache | None) -> Cache | None:
    """Where code is kept, if it can be told which sources it is of."""
    if fingerprint() is None:
        return None
    if cache is not None:
        return cache
    folder = user_folder()
    return None if folder is None else Cache(folder / "kernels")


def _name(recipe: Recipe, host: Host) -> str:
    """The name of a kernel's function and of its entry in the cache: all that it depends on."""
    whole = f"{fingerprint()}\n{host!r}\n{recipe.key}"
    return f"kernel_{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def _found(name: str, cache: Cache) -> Compiled | None:
    """What the cache has, if it is what was asked for."""
    content = cache.get(name)
    if content is None:
        return None
    try:
        return _linked(name, *_unpacked(content))
    except (ValueError, TypeError, KeyError):  # `Refused` is a ValueError
        return None


def _made(name: str, recipe: Recipe, host: Host) -> tuple[Signature, bytes]:
    kernel = recipe.make(name, host)
    sizes = tuple(size.name for size in kernel.sizes)
    signature = Signature(kernel.buffers, sizes, kernel.shared, kernel.scratch, kernel.parts)
    return signature, object_code(emit(kernel, host), host)


def _linked(name: str, signature: Signature, image: bytes) -> Compiled:
    library = link(image)
    return Compiled(signature, library.address(name), library)


# --- signatures ----------------------------------------------------------------------------------


def _packed(signature: Signature, image: bytes) -> bytes:
    buffers = [(buffer.name, buffer.element.value) for buffer in signature.buffers]
    rest = signature.sizes, signature.shared, signature.scratch, signature.parts
    return json.dumps((buffers, *rest)).encode() + b"\n" + image


def _unpacked(content: bytes) -> tuple[Signature, bytes]:
    head, _, image = content.partition(b"\n")
    read: Any = json.loads(head)
    buffers, sizes, shared, scratch, parts = read
    return Signature(
        tuple(Buffer(name, Element(element)) for name, element in buffers),
        tuple(sizes),
        tuple((given, made) for given, made in shared),
        tuple(scratch),
        parts,
    ), image
