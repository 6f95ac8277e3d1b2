"""Where a relative path is looked for."""

import os
from pathlib import Path

from fml.engine.ir.diagnostics import error


def find_file(path: str, base: Path) -> Path:
    """Return the first that exists of: beside the `.fml` file, `$FML_DATA`, the user's cache,
    `/usr/share/datasets`.

    Raises:
        FmlError: E0501, with the places where it was looked for.
    """
    given = Path(path).expanduser()
    places = [given] if given.is_absolute() else [folder / given for folder in _folders(base)]
    for place in places:
        if place.exists():
            return place
    raise error(
        "E0501", f"cannot find the data `{path}`", notes=[f"looked for {p}" for p in places],
        help="put it there, or set FML_DATA to the folder that has it",
    )  # fmt: skip


def _folders(base: Path) -> list[Path]:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    own = os.environ.get("FML_DATA")
    folders = [
        base,
        *([Path(own)] if own else []),
        Path(cache) / "fml",
        Path("/usr/share/datasets"),
    ]
    return [folder.expanduser() for folder in folders]
