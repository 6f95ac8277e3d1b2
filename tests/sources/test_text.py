"""Texts: windows without overlap, the next of every character, and one alphabet for both."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fml.engine.sources.text import read_windows
from tests.sources.datasets import fault, fields_of, loaded, words

POEM = "to be, or\nnot to be. ñ"
K = len(set(POEM))
TEXT = f"""
data poem = text("poem.txt", window = 4) {{
  x: label[{K}][4] = text
  y: label[{K}][4] = next
  split train 80%, valid 20%
}}"""


@pytest.mark.parametrize("packed", [False, True])
def test_what_comes_next_is_one_place_on(tmp_path: Path, packed: bool) -> None:
    raw = POEM.encode()
    (tmp_path / "poem.txt").write_bytes(gzip.compress(raw) if packed else raw)
    data = loaded(TEXT, base=tmp_path)
    assert data.classes["x"] == data.classes["y"] == tuple(sorted(set(POEM)))
    both = {
        field: "".join(
            data.classes[field][number]
            for split in ("train", "valid")
            for number in fields_of(data, split)[field].reshape(-1)
        )
        for field in ("x", "y")
    }
    assert both == {"x": POEM[:20], "y": POEM[1:21]}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(codec="utf-8"), min_size=2, max_size=60), st.integers(1, 9))
def test_windows_are_all_of_a_text_but_its_end(tmp_path: Path, content: str, window: int) -> None:
    (tmp_path / "t.txt").write_bytes(content.encode())
    content = content.removeprefix("\ufeff")
    for unit, wanted in {
        "characters": [ord(c) for c in content], "bytes": list(content.encode()),
    }.items():  # fmt: skip
        if (len(wanted) - 1) // window < 1:
            continue
        table = read_windows({"path": "t.txt", "window": window, "unit": unit}, tmp_path)
        known = [ord(c) for c in table.classes.get("text", map(chr, range(256)))]
        here = np.array(known)[table.columns["text"]].reshape(-1).tolist()
        following = np.array(known)[table.columns["next"]].reshape(-1).tolist()
        assert here == wanted[: len(here)]
        assert following == wanted[1 : 1 + len(here)]
        assert len(wanted) - 1 - len(here) < window


def test_bytes_are_256_classes(tmp_path: Path) -> None:
    (tmp_path / "poem.txt").write_text(POEM, encoding="utf-8")
    text = 'data d = text("poem.txt", window = 3, unit = "bytes") { x: label[256][3] = text }'
    data = loaded(text, base=tmp_path)
    assert fields_of(data)["x"].reshape(-1).tolist() == list(POEM.encode())[:21]


@pytest.mark.parametrize(
    ("content", "change", "code", "said"),
    [
        (POEM, (f"label[{K}][4] = next", "label[7][4] = next"), "E0508", f"declare `label[{K}]`"),
        (POEM, (f"label[{K}][4] = next", "label[7][4] = next"), "E0508", r"'\n', ' '"),
        (POEM, ("[4] = text", "[5] = text"), "E0511", "is 4, and 5 is needed"),
        (POEM, ("window = 4", "window = 40"), "E0510", "22 characters, too few"),
        (POEM, ("window = 4", "window = 0"), "E0507", "use 1 or more"),
        (POEM, ("window = 4", 'unit = "words"'), "E0507", "found `words`"),
        (POEM, ("= next", "= following"), "E0502", "its columns are text, next"),
        ("", ("", ""), "E0510", "0 characters"),
    ],
)
def test_faults(
    tmp_path: Path, content: str, change: tuple[str, str], code: str, said: str
) -> None:
    (tmp_path / "poem.txt").write_text(content, encoding="utf-8")
    found = fault(TEXT.replace(*change), base=tmp_path)
    assert found.code == code
    assert said in words(found), words(found)
