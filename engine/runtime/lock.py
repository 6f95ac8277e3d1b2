"""Locks of the operating system on files: one process at a time, and none when it has died."""

import errno
import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

# What file systems answer that have no locks; there nothing keeps a second process out.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
# Windows keeps everybody from the bytes that are locked: one that the file does not have.
_BEYOND = 1 << 30
_held: set[int] = set()


class HeldError(Exception):
    """Another one holds the lock; its text says who, as far as that is known."""


def take(path: Path) -> int:
    """Lock a file, which is made if there is none, and return its descriptor.

    Two that open the file exclude each other in one process as well. The file says who holds the
    lock; that it is there means nothing.

    Raises:
        HeldError: somebody has locked it.
        OSError: it cannot be written.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            _lock(file)
        except BlockingIOError:
            raise HeldError(os.read(file, 300).decode(errors="replace").strip()) from None
        except OSError as fault:
            if fault.errno not in _NO_LOCKS:
                raise
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {platform.node()}\n".encode())
    except BaseException:
        os.close(file)
        raise
    _held.add(file)
    return file


def holder(path: Path) -> str:
    """Say who holds the lock of a file; nothing where nobody does, or where it cannot be told."""
    try:
        file = os.open(path, os.O_RDWR)
    except OSError:
        return ""
    try:
        _lock(file)
    except BlockingIOError:
        return os.read(file, 300).decode(errors="replace").strip() or "another process"
    except OSError:
        return ""
    finally:
        os.close(file)  # and with it goes the lock
    return ""


def release(file: int) -> None:
    """Let go of a lock; a fork of the process that holds it has none."""
    if file not in _held:
        return
    _held.remove(file)
    with suppress(OSError):  # nobody can write there any more
        os.ftruncate(file, 0)
    os.close(file)


def _leave_to_parent() -> None:
    """A fork that outlived the process would hold its lock."""
    while _held:
        os.close(_held.pop())


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, _BEYOND, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except PermissionError as fault:
            raise BlockingIOError(*fault.args) from None
        finally:
            os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    os.register_at_fork(after_in_child=_leave_to_parent)

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
