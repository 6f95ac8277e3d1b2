"""Where a relative path is looked for, and the text of a file."""

import codecs
import gzip
import os
import zlib
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from fml.engine.ir.diagnostics import did_you_mean, error

_GZIP = b"\x1f\x8b"


def find_file(path: str, base: Path, remedy: str = "") -> Path:
    """Return the first that exists of the places where a path may be.

    These are the folder of the `.fml` file, `$FML_DATA`, the user's cache, and
    `/usr/share/datasets`, in this order. `remedy` says where to get what has a name of its own.

    Raises:
        FmlError: E0501, there is none; it lists the places.
    """
    places = [folder / path for folder in _folders(base)]  # an absolute path stays as it is
    for place in places:
        if _exists(place):
            return place
    looked = [f"looked for {place}" for place in dict.fromkeys(places)]
    near = _near(places[0])
    raise error(
        "E0501", f"cannot find the data `{path}`", notes=looked,
        help=near or remedy or "put it there, or set FML_DATA to the folder that it is in",
    )  # fmt: skip


def read_text(path: Path, nbytes: int = -1) -> str:
    """Return a UTF-8 text, or about so many bytes that it begins with.

    It may be compressed with gzip, and begin with a byte order mark.

    Raises:
        FmlError: E0503, the file cannot be read, or is not UTF-8.
    """
    if path.is_dir():
        raise error(
            "E0503",
            f"{path} is a folder",
            help="name the file in it; `images` and `idx` read folders",
        )
    try:
        with unpacked(path) as file:
            content = file.read(nbytes)
        # A letter may have been cut in two.
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        return decoder.decode(content, final=nbytes < 0)
    except UnicodeDecodeError as reason:
        notes, help = [f"at byte {reason.start}"], _remade(bytes(reason.object))
        raise error("E0503", f"{path} is not UTF-8 text", notes=notes, help=help) from None
    except (OSError, EOFError, zlib.error) as reason:
        raise error(
            "E0503", f"{path} cannot be read", notes=[why(reason)],
            help="a damaged file must be fetched again",
        ) from None  # fmt: skip


def _remade(content: bytes) -> str:
    """How a file that is no UTF-8 becomes text, told by how it begins."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "convert it: iconv -f utf-16 -t utf-8"
    if content.startswith((b"PK", b"\xd0\xcf\x11\xe0")):
        return "it is an archive or a spreadsheet: take the file out of it, or save it as CSV"
    if content.startswith(b"PAR1"):
        return "`parquet` reads it"
    return "convert it: iconv -f latin1 -t utf-8"


@contextmanager
def unpacked(path: Path) -> Generator[IO[bytes]]:
    """Open a file, uncompressed if it is compressed with gzip."""
    with path.open("rb") as file:
        is_packed = file.read(2) == _GZIP
        file.seek(0)
        with gzip.open(file) if is_packed else file as opened:
            yield opened  # pyright: ignore[reportReturnType]


def why(reason: Exception, otherwise: str = "") -> str:
    """Why a file cannot be read: in the system's words, else in those of who reads it."""
    code = reason.errno if isinstance(reason, OSError) else None
    return os.strerror(code) if code else str(reason) or otherwise


def _folders(base: Path) -> list[Path]:
    own = os.environ.get("FML_DATA")
    cache = os.environ.get("XDG_CACHE_HOME")
    folders = [base, *([Path(own)] if own else [])]
    with suppress(RuntimeError):  # a user without a home, as in a container
        folders.append((Path(cache) if cache else Path.home() / ".cache") / "fml")
    return [*folders, Path("/usr/share/datasets")]


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a folder on the way may not be looked into
        return False


def _near(place: Path) -> str:
    """Name the neighbours whose name is near before its endings too, which are often the same."""
    neighbours = _neighbours(place)
    stem = place.name.split(".")[0]
    close = [n for n in neighbours if n == stem or did_you_mean(stem, [n.split(".")[0]])]
    return did_you_mean(place.name, close)


def _neighbours(place: Path) -> list[str]:
    try:
        return [other.name for other in place.parent.iterdir() if other.suffix != ".fml"]
    except OSError:
        return []
