"""Graphviz text to a file: by the `dot` program, or by the one that the extra `pictures` brings."""

import shutil
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from fml.engine.files import writing
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
    with writing(path):
        if form == "dot":
            path.write_text(dot, encoding="utf-8")
        else:
            problem = _draw(dot, path, form)
            if problem is not None:
                raise _beside(dot, path, problem)


def svg(dot: str) -> str:
    """Return Graphviz text drawn as SVG, without the lines that only a file begins with.

    Raises:
        FmlError: there is no program to draw with, or it failed (E0731).
    """
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "graph.svg"
        problem = _draw(dot, drawn, "svg")
        if problem is not None:
            raise error("E0731", problem.message, help=problem.way_out)
        text = drawn.read_text(encoding="utf-8")
    return text[text.index("<svg") :]


def drawing_program(form: str) -> str | None:
    """Return the path of a program that draws a format: `dot`, else the extra's."""
    if system := shutil.which("dot"):
        return system
    if form == "pdf":
        return None
    # Beside this Python first: an environment need not be activated to be used.
    folder = sysconfig.get_path("scripts")
    return shutil.which("graphviz-pure", path=folder) or shutil.which("graphviz-pure")


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why there is no picture, and the way out."""

    message: str
    way_out: str


def _draw(dot: str, path: Path, form: str) -> _Problem | None:
    program = drawing_program(form)
    if program is None:
        ways = "install Graphviz (`apt install graphviz`)" if form == "pdf" else _WAYS_OUT
        return _Problem("no program that draws pictures was found", ways)
    command = [program, f"-T{form}", *_PIXELS_PER_INCH.get(form, []), "-o", str(path)]
    # Some releases of Graphviz lose curves; straight lines they always find.
    for retry in ([], ["-Gsplines=line"]):
        done = subprocess.run(
            [*command, *retry], input=dot.encode(), capture_output=True, check=False
        )
        if done.returncode == 0 and path.exists():
            return None
    said = done.stderr.decode(errors="replace").strip().splitlines()
    reason = f": {said[-1]}" if said else ""
    return _Problem(f"`{program}` failed{reason}", "draw the text with another program")


def _beside(dot: str, path: Path, problem: _Problem) -> Exception:
    """Leave the text beside the picture that could not be drawn, and say so."""
    left = path.with_suffix(".dot")
    left.write_text(dot, encoding="utf-8")
    return error(
        "E0731",
        problem.message,
        notes=[f"the graph was written to `{left}` instead"],
        help=problem.way_out,
    )
