"""A folder of what is made once and read by later processes.

Nothing that happens to the folder stops a run: what cannot be read, or is not what was written,
is not there; what cannot be written is left out, with a warning where the user chose the folder.
"""

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SEAL = 32  # bytes before each value
_FORMAT = b"fml cache 1"
_ABANDONED = 3600  # seconds after which nobody still writes a file
_PREFIX = "."  # of files that are being written


def chosen_folder() -> Path | None:
    """The folder that the user has chosen with `$FML_CACHE`."""
    own = os.environ.get("FML_CACHE")
    return Path(own) if own else None


def user_folder() -> Path | None:
    """Where fml keeps what it can make again; None where the user has no home.

    `$FML_CACHE`, else `fml` in the folder that the system has for it.
    """
    own = chosen_folder()
    if own is not None:
        return own
    with contextlib.suppress(RuntimeError):  # no home
        if sys.platform == "win32":
            given = os.environ.get("LOCALAPPDATA")
            return (Path(given) if given else Path.home() / "AppData" / "Local") / "fml" / "Cache"
        if sys.platform == "darwin":
            return Path.home() / "Library" / "Caches" / "fml"
        # The XDG Base Directory Specification: a relative path is invalid and ignored.
        given = os.environ.get("XDG_CACHE_HOME", "")
        return (Path(given) if os.path.isabs(given) else Path.home() / ".cache") / "fml"
    return None


@dataclass(frozen=True, slots=True)
class Cache:
    """Values under keys, one file each, for all processes of one user.

    A file is written under another name first and carries a checksum of its key and value, so a
    reader finds a whole value or none. Folders and files that others own or may write to are not
    read.

    Attributes:
        folder: made when something is written, for the user alone.
        limit: bytes of all files; `trim` removes those that were not used for longest.
    """

    folder: Path
    limit: int = 64 << 20  # thousands of kernels

    def get(self, key: str) -> bytes | None:
        """The value of a key, or None."""
        path = self._path(key)
        try:
            if not _is_own(self.folder.stat()):
                return None
            content = _read(path)
        except OSError:
            return None
        value = content[_SEAL:]
        if content[:_SEAL] != _seal(key, value):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # used last now
        return value

    def put(self, key: str, value: bytes) -> bool:
        """Keep a value, in place of an earlier one; return whether that could be done."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not _is_own(self.folder.stat()):
                return False
            number, name = tempfile.mkstemp(prefix=_PREFIX, dir=self.folder)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(_seal(key, value) + value)
                os.replace(name, self._path(key))
            except OSError:
                os.unlink(name)
            else:
                return True
        return False

    def trim(self) -> None:
        """Remove what is above the limit, and what was never written to its end."""
        with contextlib.suppress(OSError):
            if not _is_own(self.folder.stat()):
                return
            files = sorted(self._files(), reverse=True)
            total = 0
            for used, size, path in files:
                total += size
                is_old = used < time.time() - _ABANDONED
                if is_old if path.name.startswith(_PREFIX) else total > self.limit:
                    path.unlink(missing_ok=True)

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was used last, its bytes and its path."""
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # another process was faster
                    found = entry.stat(follow_symlinks=False)
                    if not stat.S_ISDIR(found.st_mode):
                        yield found.st_mtime, found.st_size, Path(entry.path)

    def _path(self, key: str) -> Path:
        return self.folder / hashlib.sha256(key.encode()).hexdigest()


def _read(path: Path) -> bytes:
    """The content of a file of one's own; an OSError where it is anything else."""
    # Windows has neither flag nor owners of this kind: there the folder is the user's own.
    wanted = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    number = os.open(path, wanted | getattr(os, "O_BINARY", 0))
    with os.fdopen(number, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or not _is_own(found):
            raise PermissionError(f"{path} is not this user's")
        return file.read()


def _is_own(found: os.stat_result) -> bool:
    """Whether nobody else may change it."""
    if sys.platform == "win32":
        return True
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _seal(key: str, value: bytes) -> bytes:
    made = hashlib.blake2b(key.encode() + b"\0", digest_size=_SEAL, person=_FORMAT)
    made.update(value)
    return made.digest()
