"""`idx("fashion-mnist")`: a folder of images and labels in the format of the MNIST files.

A file is two bytes of 0, one that names the element, one that counts the axes, the size of each
axis in four bytes, and the entries in row-major order, all big-endian (Y. LeCun, C. Cortes and
C. J. C. Burges, "The MNIST database of handwritten digits", "File formats").
"""

import math
import platform
import struct
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ops.record import Array
from fml.engine.sources.paths import find_file, unpacked, why
from fml.engine.sources.table import Argument, Arguments, Source, Table, one_behind_the_other

_ELEMENTS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_PREFIXES = {"train": "train", "test": "t10k"}
_KINDS = {"image": "images{}idx3-ubyte", "label": "labels{}idx1-ubyte"}
_AT_ONCE = 1 << 20


def read_idx(arguments: Arguments, base: Path) -> Table:
    """Read columns image, [samples, height, width], and label, in the elements of the files.

    The splits are train and, where the folder has its files, test. Files may be compressed.

    Raises:
        FmlError: E0501 a file is not there, E0510 one is damaged or no IDX file.
    """
    path = str(arguments["path"])
    folder = find_file(path, base, _remedy(path))
    files: dict[str, dict[str, Path]] = {}
    for split in _PREFIXES:
        found = {kind: _file_of(folder, split, kind) for kind in _KINDS}
        if split == "train" or any(found.values()):
            files[split] = {k: f or _missing(folder, path, split, k) for k, f in found.items()}
    columns: dict[str, Array] = {}
    counts: dict[str, list[int]] = {}
    for kind in _KINDS:
        columns[kind], counts[kind] = _joined([files[split][kind] for split in files])
    for place, split in enumerate(files):
        images, labels = (counts[kind][place] for kind in _KINDS)
        if images != labels:
            raise error(
                "E0510", f"{files[split]['image']} has {images} images, its labels are {labels}",
                notes=[f"these are in {files[split]['label']}"],
                help="fetch both files again from one place",
            )  # fmt: skip
    splits = one_behind_the_other(dict(zip(files, counts["image"], strict=True)))
    return Table(columns, str(folder), splits=splits)


def read_new(arguments: Arguments, base: Path) -> Table:
    """Read a column image from one file, or from those of a folder, train before test.

    Raises:
        FmlError: as `read_idx`.
    """
    path = find_file(str(arguments["path"]), base)
    if not path.is_dir():
        return Table({"image": _joined([path])[0]}, str(path))
    files = image_files(path) or [_missing(path, str(path), "train", "image")]
    return Table({"image": _joined(files)[0]}, str(path))


def image_files(folder: Path) -> list[Path]:
    """The files of images in a folder, train before test."""
    found = (_file_of(folder, split, "image") for split in _PREFIXES)
    return [file for file in found if file is not None]


def _file_of(folder: Path, split: str, kind: str) -> Path | None:
    """The file of a split's images or labels under one of the names in use, if it is there."""
    for dash in "-.":
        for ending in ("", ".gz"):
            file = folder / f"{_PREFIXES[split]}-{_KINDS[kind].format(dash)}{ending}"
            if file.exists():
                return file
    return None


def _missing(folder: Path, path: str, split: str, kind: str) -> Path:
    name = f"{_PREFIXES[split]}-{_KINDS[kind].format('-')}"
    if not folder.is_dir():
        raise error("E0501", f"{folder} is a file", help="`idx` reads the folder that it is in")
    raise error(
        "E0501", f"{folder} has no file {name} or {name}.gz",
        help=_remedy(path) or "name the folder that the four files are in",
    )  # fmt: skip


def _remedy(path: str) -> str:
    """Where the data come from that people know by the name of their folder."""
    if Path(path).name != "fashion-mnist":
        return ""
    if _is_debian():
        return (
            "`apt install dataset-fashion-mnist` puts them into /usr/share/datasets/fashion-mnist"
        )
    names = ", ".join(
        f"{prefix}-{kind.format('-')}.gz"
        for prefix in _PREFIXES.values()
        for kind in _KINDS.values()
    )
    return (
        f"download {names} from data/fashion of https://github.com/zalandoresearch/fashion-mnist "
        "into a folder fashion-mnist beside the .fml file or in $FML_DATA"
    )


def _is_debian() -> bool:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return False
    return "debian" in {release.get("ID"), *release.get("ID_LIKE", "").split()}


# --- one file ------------------------------------------------------------------------------------


def _joined(files: list[Path]) -> tuple[Array, list[int]]:
    """The samples of all files in one array, and how many are in each; they are in memory once."""
    types = [_header(file) for file in files]
    (first, shape), counts = types[0], [shape[0] for _, shape in types]
    for file, (dtype, other) in zip(files, types, strict=True):
        if (dtype, other[1:]) != (first, shape[1:]):
            raise _foreign(
                file, f"it holds {_shown(dtype, other[1:])} and {files[0].name} "
                f"{_shown(first, shape[1:])}",
            )  # fmt: skip
    joined = np.empty((sum(counts), *shape[1:]), first)
    start = 0
    for file, count in zip(files, counts, strict=True):
        _fill(file, joined[start : start + count])
        start += count
    return joined.astype(first.newbyteorder("="), copy=False), counts


def _shown(dtype: "np.dtype[np.generic]", shape: tuple[int, ...]) -> str:
    return f"{'x'.join(map(str, shape)) or 'single'} entries of {dtype.name}"


def _header(file: Path) -> tuple["np.dtype[np.generic]", tuple[int, ...]]:
    """Element type and shape of a file."""
    with _opened(file) as stream:
        dtype, shape = _read_header(file, stream)
    nbytes = math.prod(shape) * dtype.itemsize
    # Damaged sizes must not ask for more memory than there is: gzip saves at most 1 : 1032.
    if nbytes > 1032 * file.stat().st_size:
        raise _foreign(file, f"its sizes promise {nbytes} bytes, which it cannot hold")
    return dtype, shape


def _read_header(file: Path, stream: IO[bytes]) -> tuple["np.dtype[np.generic]", tuple[int, ...]]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _ELEMENTS or not start[3]:
        raise _foreign(file, f"it begins with {start.hex(' ') or 'nothing'}, not with 00 00 08")
    sizes = stream.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise _foreign(file, "it ends within its sizes")
    return np.dtype(_ELEMENTS[start[2]]), struct.unpack(f">{start[3]}I", sizes)


def _fill(file: Path, target: Array) -> None:
    """Read the entries of a file into an array."""
    place = target.reshape(-1).view(np.uint8).data if target.size else memoryview(b"")
    with _opened(file) as stream:
        _read_header(file, stream)
        found = 0
        while found < len(place):
            piece = stream.read(min(_AT_ONCE, len(place) - found))
            if not piece:
                raise _foreign(file, f"its sizes promise {len(place)} bytes, and {found} are there")
            place[found : found + len(piece)] = piece
            found += len(piece)
        if stream.read(1):
            raise _foreign(file, f"more bytes follow the {len(place)} that its sizes promise")


@contextmanager
def _opened(file: Path) -> Generator[IO[bytes]]:
    """A file's content, uncompressed; what cannot be read is E0510."""
    try:
        with unpacked(file) as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as reason:
        raise _foreign(file, why(reason)) from None


def _foreign(file: Path, reason: str) -> FmlError:
    return error(
        "E0510", f"{file} cannot be read as IDX", notes=[reason],
        help="a damaged file must be fetched again",
    )  # fmt: skip


IDX = Source(
    "idx",
    "A folder of images and labels in the format of the MNIST files: columns image, label.",
    (Argument("path", str),),
    read_idx,
    new=read_new,
)
