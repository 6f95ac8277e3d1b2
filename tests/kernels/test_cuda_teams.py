"""Teams of threads in CUDA C: who folds what, and what the shim would notice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import on_host
import pytest
from interpret import dtype_of
from test_fusion import batch_norm_of, folded, mapped, reshaped

from fml.engine.ir.types import F32, Element, TensorType, tensor
from fml.engine.kernels.composing import compose
from fml.engine.kernels.cuda.geometry import VECTOR_BYTES, Team, phases
from fml.engine.kernels.cuda.prelude import PRIMITIVES
from fml.engine.kernels.expr import (
    INDEX,
    Buffer,
    Load,
    Local,
    Var,
    constant,
)
from fml.engine.kernels.fusion import Fusion, Member
from fml.engine.kernels.loops import Declare, Fold, Kernel, Store, loop
from fml.engine.kernels.nest import inputs_of

AT = Var("at")


def f32(*sizes: int) -> TensorType:
    return tensor(F32, *sizes)


def line_fold(name: str, combine: str, element: Element, sizes: tuple[int, int, bool]) -> Kernel:
    """Lines of a number of terms, which stand in rows or in columns, folded onto a 2."""
    rows, count, by_columns = sizes
    x, out, row = Buffer("x", element), Buffer("out", element), Var("row")
    place = AT * rows + row if by_columns else row * count + AT
    so_far = Local("so_far", element)
    entry = (
        Declare(so_far, constant(2, element)),
        loop("at", count, [Fold(so_far, combine, Load(x, place))], AT),
        Store(out, row, so_far),
    )
    return Kernel(name, (x, out), (loop("row", rows, entry, row),))


@on_host.NEEDED
@pytest.mark.parametrize("element", [F32, Element.F64, Element.I32, INDEX, Element.U8], ids=str)
def test_teams_fold_every_term_once(element: Element, tmp_path: Path) -> None:
    """Whole numbers, so that the order makes no difference, in all teams."""
    functions = {
        "add": np.add, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum
    }  # fmt: skip
    sizes = [(*s, by) for s in ((1, 5000), (5, 100), (3, 3000), (50, 20)) for by in (False, True)]
    cases = [(combine, of) for combine in functions for of in sizes]
    kernels = [line_fold(f"fold{n}", c, element, of) for n, (c, of) in enumerate(cases)]
    for begin in range(0, len(kernels), len(sizes)):
        of_one = kernels[begin : begin + len(sizes)]
        assert {phase.team for kernel in of_one for phase in phases(kernel)} == set(Team)
    calls = on_host.built(kernels, tmp_path)
    for kernel, call, (combine, (rows, count, by_columns)) in zip(
        kernels, calls, cases, strict=True
    ):
        shape = (count, rows) if by_columns else (rows, count)
        values = np.random.default_rng(count).integers(1, 3, shape).astype(dtype_of(element))
        if combine == "multiply":
            values[values.shape[0] // 2 :] = 1
            values[:, 6:] = 1
        lines = values.T if by_columns else values
        with np.errstate(all="ignore"):
            two = values.dtype.type(2)
            wanted = functions[combine].reduce(lines, axis=1, dtype=values.dtype, initial=two)
        have = np.zeros_like(wanted)
        on_host.both_ways(kernel, call, [values], [have])
        np.testing.assert_array_equal(have, wanted)


WAIT = "  __syncthreads();\n"
MUTANTS = {
    "nobody waits before the sums of warps are read": (WAIT + "  T total = w", "  T total = w"),
    "nobody waits before the next fold": (WAIT + "  return total;", "  return total;"),
    "some do not wait": (WAIT + "  T total", "  if (threadIdx.x) __syncthreads();\n  T total"),
    "not all of a warp hand on": ("0xffffffffu, share, step", "0xffffu, share, step"),
}
RUN = """
import sys
from pathlib import Path
import numpy as np
import on_host
from test_cuda_teams import PRIMITIVES, two_sums
text = PRIMITIVES.replace(sys.argv[2], sys.argv[3])
kernel = two_sums()
(call,) = on_host.built([kernel], Path(sys.argv[1]), text)
x = np.random.default_rng(0).standard_normal((3, 4000)).astype(np.float32)
on_host.both_ways(kernel, call, [x], [np.zeros(3, np.float32), np.zeros(3, np.float32)])
"""


def two_sums() -> Kernel:
    """Two folds one after the other, of a whole block: the mean, and the variance with it."""
    whole, column = f32(3, 4000), f32(3, 1)
    members = (
        Member(folded(whole, [1], "add", lambda total: total / 4000.0), (0,)),
        Member(reshaped(f32(3), (3, 1)), (1,)),
        Member(mapped(lambda x, m: (x - m) * (x - m), (3, 4000), whole, column), (0, 2)),
        Member(folded(whole, [1], "add"), (3,)),
    )
    return compose(Fusion(inputs_of([whole]), members, (1, 4)), "two_sums", VECTOR_BYTES)


@on_host.NEEDED
@pytest.mark.parametrize("what", [None, *MUTANTS])
def test_the_shim_notices(what: str | None, tmp_path: Path) -> None:
    before, after = MUTANTS[what] if what else ("", "")
    assert before in PRIMITIVES
    done = subprocess.run(
        [sys.executable, "-c", RUN, tmp_path, before or "no such text", after],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    noticed = ("depends on which thread", "part before they meet", "not all of a warp")
    if what is None:
        assert done.returncode == 0, done.stderr
    else:
        assert done.returncode != 0
        assert any(words in done.stderr for words in noticed), done.stderr


# --- normalisations -------------------------------------------------------------------------------


@on_host.NEEDED
@pytest.mark.parametrize("sizes", [(2, 5, 7, 16), (400, 33)])
def test_a_normalisation_of_columns(sizes: tuple[int, ...], tmp_path: Path) -> None:
    """Columns in teams, of which the last block has threads without a column."""
    kernel = compose(batch_norm_of(sizes), "norm", VECTOR_BYTES)
    assert [phase.team for phase in phases(kernel)] == [Team.COLUMN]
    rng, channels = np.random.default_rng(2), sizes[-1]
    x, gamma, beta = (
        rng.standard_normal(s).astype(np.float32) for s in (sizes, channels, channels)
    )
    found, mean, variance = np.zeros_like(x), *np.zeros((2, channels), np.float32)
    (call,) = on_host.built([kernel], tmp_path)
    on_host.both_ways(kernel, call, [x, gamma, beta], [found, mean, variance])
    axes, exact = tuple(range(len(sizes) - 1)), x.astype(np.float64)
    np.testing.assert_allclose(mean, exact.mean(axes), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, exact.var(axes), rtol=1e-5)
    wanted = (exact - exact.mean(axes)) / np.sqrt(exact.var(axes) + 1e-5) * gamma + beta
    np.testing.assert_allclose(found, np.maximum(wanted, 0), rtol=1e-4, atol=1e-5)
