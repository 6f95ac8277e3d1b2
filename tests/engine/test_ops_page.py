"""The page of operations, `docs/ops.md`, is what the records say; `--update-golden` writes it."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from fml.engine.ops.record import Op
from fml.engine.ops.table import FAMILIES, OPS

PAGE = Path(__file__).parent.parent.parent / "docs" / "ops.md"
HEAD = """# Operations of the graph

What the text of a graph is made of; `std` and the primitives of the language are built upon them.
`float` is f16, bf16, f32 or f64; `number` a float, i32, i64 or u8; `index` an integer or a label;
`any` also bool and labels. A name behind the tensors is an attribute. 16-bit floats are computed in
f32 and rounded once for every operation. This page is made from the records in `engine/ops` by
`pytest tests/engine/test_ops_page.py --update-golden`.
"""


def entry(op: Op) -> str:
    gradient = "" if op.gradient else f" No gradient: {op.undifferentiable}."
    return f"- **`{op.name}`**`{op.signature}`<br>{op.doc}{gradient}"


def section(family: ModuleType) -> str:
    title = (family.__doc__ or "").splitlines()[0].rstrip(".")
    return "\n".join([f"## {title}", "", *map(entry, family.OPS), ""])


def test_the_page_of_operations_is_up_to_date(golden: Callable[[Path, str], None]) -> None:
    golden(PAGE, "\n".join([HEAD, *map(section, FAMILIES)]))


def test_every_operation_has_its_place_on_the_page() -> None:
    assert {op.name for family in FAMILIES for op in family.OPS} == set(OPS)
