"""`text("poems.txt", window = 64)`: windows of a text, and what comes next at every place."""

from pathlib import Path

import numpy as np

from fml.engine.ir.diagnostics import error
from fml.engine.ops.record import Array
from fml.engine.sources.paths import find_file, read_text
from fml.engine.sources.table import Argument, Arguments, Source, Table

UNITS = ("characters", "bytes")


def read_windows(arguments: Arguments, base: Path) -> Table:
    """Read columns text and next, [windows, window]: class numbers, and those one place on.

    Windows follow each other without overlap, and what does not fill one at the end is left out.
    The classes of characters are those that occur, in the order of Unicode; of bytes, 256.

    Raises:
        FmlError: E0501 not found, E0503 no UTF-8 text, E0507 an unknown unit, E0510 too short.
    """
    unit, window = str(arguments["unit"]), int(arguments["window"])
    if unit not in UNITS:
        raise error("E0507", f"the `unit` of `text` is {' or '.join(UNITS)}, found `{unit}`")
    path = find_file(str(arguments["path"]), base)
    content = read_text(path)
    numbers, classes = _characters(content) if unit == "characters" else _bytes(content)
    count = (len(numbers) - 1) // window
    if count < 1:
        raise error(
            "E0510", f"{path} has {len(numbers)} {unit}, too few for a window of {window}",
            notes=["a sample is a window and what comes next"], help="use a smaller `window`",
        )  # fmt: skip
    # Views of the same numbers: both columns together take no more than one.
    here, following = (
        numbers[start : start + count * window].reshape(count, window) for start in (0, 1)
    )
    texts = {} if classes is None else {"text": classes, "next": classes}
    return Table({"text": here, "next": following}, str(path), classes=texts)


def read_new(arguments: Arguments, base: Path) -> Table:
    """Read a column text of windows, with the characters themselves: classes are the run's.

    Raises:
        FmlError: as `read_windows`; nothing need follow the last window.
    """
    window = int(arguments["window"])
    path = find_file(str(arguments["path"]), base)
    content = read_text(path)
    is_characters = arguments["unit"] == "characters"
    entries: Array = np.array([*content], object) if is_characters else _bytes(content)[0]
    count = len(entries) // window
    if not count:
        raise error(
            "E0510", f"{path} has {len(entries)} {arguments['unit']}, and a window has {window}",
            help="give a longer text",
        )  # fmt: skip
    return Table({"text": entries[: count * window].reshape(count, window)}, str(path))


def _characters(content: str) -> tuple[Array, tuple[str, ...]]:
    points = np.frombuffer(content.encode("utf-32-le"), "<u4")
    known, numbers = np.unique(points, return_inverse=True)
    width = np.min_scalar_type(max(len(known) - 1, 0))
    return numbers.reshape(-1).astype(width), tuple(map(chr, known.tolist()))


def _bytes(content: str) -> tuple[Array, None]:
    return np.frombuffer(content.encode(), np.uint8), None


TEXT = Source(
    "text",
    "Windows of a text: columns text, next.",
    (
        Argument("path", str),
        Argument("window", int, 64, least=1),
        Argument("unit", str, "characters"),
    ),
    read_windows,
    new=read_new,
)
