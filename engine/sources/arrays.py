"""`npy("x.npy")` and `npz("digits.npz")`: arrays as numpy saves them, samples on the first axis."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import FmlError, error
from fml.engine.ops.record import Array
from fml.engine.sources.paths import find_file, why
from fml.engine.sources.table import Argument, Arguments, Source, Table, one_behind_the_other

SPLITS = ("train", "valid", "val", "test")
_ALONE = "save arrays of samples alone, numbers or text, an entry of the first axis a sample"


def read_npy(arguments: Arguments, base: Path) -> Table:
    """Read one array, mapped into memory: column `array`, or those of a structured array.

    Raises:
        FmlError: E0501 not found, E0510 no file of numpy, or no samples of numbers or text.
    """
    path = find_file(str(arguments["path"]), base)
    if _begins_with(path, b"PK"):
        raise _foreign(path, "it holds several arrays: `npz` reads them")
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as reason:
        raise _foreign(path, _why(reason)) from None
    return Table(_checked(path, _parts(array)), str(path))


def _parts(array: Array) -> dict[str, Array]:
    names = array.dtype.names
    return {name: array[name] for name in names} if names else {"array": array}


def read_npz(arguments: Arguments, base: Path) -> Table:
    """Read a column for each array, called as it is.

    Where every name begins or ends with the name of a split, as in `x_train` or `test/image`, the
    rest of the name is the column.

    Raises:
        FmlError: E0501 not found, E0510 no file of numpy, or its arrays do not fit together.
    """
    path = find_file(str(arguments["path"]), base)
    if _begins_with(path, b"\x93NUMPY"):
        raise _foreign(path, "it holds one array without a name: `npy` reads it")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays: dict[str, Array] = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as reason:
        raise _foreign(path, _why(reason)) from None
    if not arrays:
        raise _foreign(path, "it holds no arrays")
    named = {name: _split_of(name) for name in arrays}
    by_split: dict[str, dict[str, Array]] = {}
    for name, (split, column) in named.items():
        if split is None:
            return Table(_checked(path, arrays), str(path))
        by_split.setdefault(split, {})[column] = arrays[name]
    return _together(path, by_split)


def _split_of(name: str) -> tuple[str | None, str]:
    """The split and the column in the name of an array; None and the name where there is none."""
    for split in SPLITS:
        for mark in "_/.-":
            if name.startswith(split + mark):
                return split, name.removeprefix(split + mark)
            if name.endswith(mark + split):
                return split, name.removesuffix(mark + split)
    return None, name


def _together(path: Path, by_split: dict[str, dict[str, Array]]) -> Table:
    """The splits in one table, one behind the other."""
    first, wanted = next(iter(by_split.items()))
    for split, arrays in by_split.items():
        _checked(path, arrays)
        for name in wanted.keys() ^ arrays.keys():
            has, lacks = (first, split) if name in wanted else (split, first)
            raise _foreign(path, f"`{has}` has an array `{name}`, and `{lacks}` has none")
        for name, array in arrays.items():
            mine, theirs = array.shape[1:], wanted[name].shape[1:]
            if mine != theirs:
                raise _foreign(
                    path,
                    f"samples of `{name}` are {list(mine)} in `{split}`, and {list(theirs)} in "
                    f"`{first}`",
                )
    parts = by_split.values()
    columns = {name: np.concatenate([arrays[name] for arrays in parts]) for name in wanted}
    counts = {split: len(next(iter(arrays.values()))) for split, arrays in by_split.items()}
    return Table(_checked(path, columns), str(path), splits=one_behind_the_other(counts))


def _checked(path: Path, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays as columns: all of one length, of numbers or of text."""
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    for name, array in arrays.items():
        if not array.ndim:
            raise _foreign(path, f"`{name}` is a single value: samples are the first axis", _ALONE)
        if array.dtype.kind == "S":
            reason = f"`{name}` holds bytes: no numbers and no text"
            raise _foreign(path, reason, f"save `{name}.astype(str)`")
        if array.dtype.kind not in "biufUO":
            raise _foreign(path, f"`{name}` holds {array.dtype}: no numbers and no text", _ALONE)
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in lengths.items())
        raise _foreign(path, f"its arrays differ in length: {listed}", _ALONE)
    if not any(lengths.values()):
        raise _foreign(path, "it has no samples")
    return {n: a.astype(object) if a.dtype.kind == "U" else a for n, a in arrays.items()}


def _begins_with(path: Path, magic: bytes) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(len(magic)) == magic
    except OSError:
        return False  # why it cannot be read is told by whoever reads it


def _why(reason: Exception) -> str:
    if "allow_pickle" in str(reason):
        return "it holds Python objects, or is no file of numpy: nothing of that kind is read"
    return why(reason, "it ends too early")


def _foreign(
    path: Path,
    reason: str,
    help: str = "save it with `numpy.save` or `numpy.savez`, arrays of numbers or text",
) -> FmlError:
    return error("E0510", f"{path} cannot be read as arrays of numpy", notes=[reason], help=help)


NPY = Source("npy", "An array that numpy saved: column array.", (Argument("path", str),), read_npy)
NPZ = Source("npz", "Arrays that numpy saved by name.", (Argument("path", str),), read_npz)
