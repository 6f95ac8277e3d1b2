"""Where a relative path is looked for."""

import os
from pathlib import Path

from fml.engine.ir.diagnostics import did_you_mean, error


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
    near = did_you_mean(places[0].name, _neighbours(places[0]))
    raise error(
        "E0501", f"cannot find the data `{path}`", notes=looked,
        help=near or remedy or "put it there, or set FML_DATA to the folder that it is in",
    )  # fmt: skip


def _folders(base: Path) -> list[Path]:
    own = os.environ.get("FML_DATA")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [base, *([Path(own)] if own else []), cache / "fml", Path("/usr/share/datasets")]


def _exists(place: Path) -> bool:
    try:
        return place.exists()
    except OSError:  # a folder on the way may not be looked into
        return False


def _neighbours(place: Path) -> list[str]:
    try:
        return [other.name for other in place.parent.iterdir() if other.suffix != ".fml"]
    except OSError:
        return []
