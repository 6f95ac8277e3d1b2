"""The page of `std`, `docs/std.md`, is what its files say; `--update-golden` writes it anew."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from fml.dsl.elaborate.builtins import BUILTINS
from fml.dsl.modules import std_index

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "std.md"
HEAD = """# What is there without being declared

Layers, losses, optimizers and all else that stands in `dsl/std/*.fml`, written in the language
itself: `fml explain adam` prints a definition. What stands behind `=` in a list of parameters is
the default, and behind `in` what the argument may be: `0 ..` is at least 0, `0 <..` more than 0,
`0 ..< 1` at least 0 and less than 1; `float` is any floating-point element, and a name in a shape
stands for a size. Layers take their attributes first, then their inputs: `conv(32, 5)(x)`, or
`x |> conv(32, 5)`. This page is made from the files by
`pytest tests/dsl/test_std_page.py --update-golden`.
"""
_KIND = re.compile(r"^(?:fn|layer|model|optimizer|strategy)\s+")


def declared(text: str) -> tuple[str, str]:
    """The doc and the signature of a declaration."""
    lines = text.strip().splitlines()
    doc = " ".join(line.removeprefix("##").strip() for line in lines if line.startswith("##"))
    code = _head([line.strip() for line in lines if line and not line.startswith("#")])
    head, _, behind = code.partition("##")
    signature = re.split(r"\s[={](?:\s|$)", _KIND.sub("", head.strip()))[0]
    if " = " in head and not _KIND.match(head):
        signature = head.strip()
    return doc or behind.strip(), _closed(_KIND.sub("", head.strip()), signature)


def _head(lines: list[str]) -> str:
    """The first line of code, and those that its parentheses go on for."""
    head, *more = lines
    while head.count("(") > head.count(")"):
        following = more.pop(0)
        head += ("" if head.endswith("(") or following.startswith(")") else " ") + following
    return head


def _closed(code: str, first: str) -> str:
    """The signature up to where its parentheses are closed."""
    if "(" not in code:
        return first
    depth, end = 0, 0
    for place, sign in enumerate(code):
        depth += (sign == "(") - (sign == ")")
        following = code[place + 1 : place + 2]
        if sign == ")" and not depth and following != "(":
            end = place + 1
            break
    result = re.match(r"\s*->\s*[^={]+", code[end:])
    return code[:end] + (result[0].rstrip() if result else "")


def sections() -> Iterator[str]:
    folder = ROOT / "dsl" / "std"
    for file in sorted(folder.glob("*.fml")):
        title = file.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").rstrip(".,")
        yield f"## {title}\n"
        for entry in std_index().values():
            if entry.file == file.name:
                doc, signature = declared(entry.text)
                yield f"- **`{signature}`**" + (f"<br>{doc}" if doc else "")
        yield ""


def primitives() -> Iterator[str]:
    yield "## Primitives\n"
    yield "What all this is made of; arguments with `?` may be left out. [language.md](language.md)"
    yield "says what they do, and [ops.md](ops.md) how.\n"
    yield ", ".join(f"`{p.name}({', '.join(p.parameters)})`" for p in BUILTINS.values())


def test_the_page_of_std_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(PAGE, "\n".join([HEAD, *sections(), *primitives()]))


def test_everything_of_std_says_what_it_is() -> None:
    bare = [name for name, entry in std_index().items() if not declared(entry.text)[0]]
    assert not bare
