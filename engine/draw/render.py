"""Graphviz text to a file: by the `dot` program, or by the one that the extra `pictures` brings."""

import shutil
import subprocess
import sysconfig
from pathlib import Path

from fml.engine.ir.diagnostics import error

FORMATS = ("dot", "svg", "png", "pdf")
# Drawn at twice the usual resolution, so that small type can be read.
_PIXELS_PER_INCH = {"png": ["-Gdpi=144"]}
_WAYS_OUT = "install Graphviz (`apt install graphviz`) or `pip install 'fml-lang[pictures]'`"


def render(dot: str, path: Path) -> None:
    """Write Graphviz text to `path` in the format that its ending names.

    Raises:
        FmlError: the ending is none of `FORMATS` (E0730), there is no program to draw with, or
            it failed (E0731; the text is then left beside, as `.dot`), or the file cannot be
            written (E0732).
    """
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMATS:
        endings = ", ".join(f"`.{name}`" for name in FORMATS)
        raise error("E0730", f"`{path}` has no ending of a picture", help=f"use one of {endings}")
    try:
        if form == "dot":
            path.write_text(dot, encoding="utf-8")
        else:
            _draw(dot, path, form)
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise error("E0732", f"`{path}` cannot be written: {reason}") from None


def drawing_program(form: str) -> str | None:
    """Return the path of a program that draws a format: `dot`, else the extra's."""
    if system := shutil.which("dot"):
        return system
    if form == "pdf":
        return None
    # Beside this Python first: an environment need not be activated to be used.
    folder = sysconfig.get_path("scripts")
    return shutil.which("graphviz-pure", path=folder) or shutil.which("graphviz-pure")


def _draw(dot: str, path: Path, form: str) -> None:
    program = drawing_program(form)
    if program is None:
        ways = "install Graphviz (`apt install graphviz`)" if form == "pdf" else _WAYS_OUT
        raise _beside(dot, path, "no program that draws pictures was found", ways)
    command = [program, f"-T{form}", *_PIXELS_PER_INCH.get(form, []), "-o", str(path)]
    # Some releases of Graphviz lose curves; straight lines they always find.
    for retry in ([], ["-Gsplines=line"]):
        done = subprocess.run(
            [*command, *retry], input=dot.encode(), capture_output=True, check=False
        )
        if done.returncode == 0 and path.exists():
            return
    said = done.stderr.decode(errors="replace").strip().splitlines()
    reason = f": {said[-1]}" if said else ""
    message = f"`{program}` failed{reason}"
    raise _beside(dot, path, message, "draw the text with another program")


def _beside(dot: str, path: Path, message: str, way_out: str) -> Exception:
    """Leave the text beside the picture that could not be drawn, and say so."""
    left = path.with_suffix(".dot")
    left.write_text(dot, encoding="utf-8")
    return error(
        "E0731", message, notes=[f"the graph was written to `{left}` instead"], help=way_out
    )
