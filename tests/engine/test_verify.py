"""The verifier finds each kind of fault, all of them at once, and nothing else."""

import pytest

from fml.engine.ir.text import read
from fml.engine.ops.verify import InvalidGraph, verify

RIGHT = """graph "right"
%0 = argument() {name = "x"} : f32[N, 3]
%1 = variable() {name = "w", role = "param"} : f32[3] over learners
%2 = multiply(%0, %1) : f32[N, 3] over learners
%3 = learners_reduce(%2) {kind = "sum"} : f32[N, 3]
%4 = fires() {amount = 1, unit = "steps"} : bool
%5 = exp(%3) : f32[N, 3] when %4
%6 = constant() {value = ((1, 2), (3, 4))} : i32[2, 2]
%7 = constant() {value = 0.5} : f32[N]
%8 = constant() {value = true} : bool
%9 = constant() {value = 2} : label[3][N]
return y = %5
"""

FAULTS = [
    ("%0 = exp(%7) : f32", "%7, which does not exist"),
    ("%0 = exp(%1) : f32\n%1 = constant() {value = 1} : f32", "%1, which does not come before it"),
    ("%0 = exp(%0) : f32", "%0, which does not come before it"),
    ("%0 = constant() {value = 1} : f32 when %9", "%9, which does not exist"),
    ("return y = %5", "output `y` is %5"),
    ("%0 = explode() : f32", "unknown operation"),
    ('%0 = argument() {name = "x"} : f32\n%1 = exp(%0) : f32[1]', "f32 follows"),
    ('%0 = argument() {name = "x"} : f32[N]\n%1 = exp(%0) : f64[N]', "f32[N] follows"),
    ('%0 = argument() {name = "x"} : i32\n%1 = exp(%0) : i32', "takes floating-point"),
    ('%0 = argument() {name = "x"} : f32\n%1 = exp(%0, %0) : f32', "cannot be typed"),
    ('%0 = argument() {name = "x"} : f32\n%1 = sum(%0) : f32', "cannot be typed"),
    ('%0 = argument() {name = "x"} : f32\n%1 = argument(%0) {name = "y"} : f32', "no inputs"),
    ('%0 = argument() {name = "x"} : f32\n%1 = exp(%0) : f32 when %0', "not a boolean scalar"),
    (
        '%0 = argument() {name = "x"} : bool[2]\n%1 = constant() {value = 1} : f32 when %0',
        "not a boolean scalar",
    ),
    (
        '%0 = argument() {name = "x"} : f32 over learners\n%1 = exp(%0) : f32',
        "has no axis `learners`, but its input %0 has",
    ),
    (
        "%0 = fires() {} : bool over learners\n%1 = constant() {value = 1} : f32 when %0",
        "has no axis `learners`, but its guard %0 has",
    ),
    (
        '%0 = argument() {name = "x"} : f32 over learners\n'
        '%1 = learners_reduce(%0) {kind = "sum"} : f32 over learners',
        "still has it",
    ),
    (
        '%0 = argument() {name = "x"} : f32\n%1 = learners_reduce(%0) {kind = "sum"} : f32',
        "of a value without it",
    ),
    (
        '%0 = variable() {name = "w"} : f32\n%1 = variable() {name = "w"} : f32',
        "%1 and %0 both read the variable `w`",
    ),
    ('%0 = constant() {value = "one"} : f32', "is no number"),
    ("%0 = constant() {} : f32", "is no number"),
    ("%0 = constant() {value = (1, 2)} : f32[3]", "has the shape (2,)"),
    ("%0 = constant() {value = (1, 2)} : f32[N]", "has the shape (2,)"),
    ("%0 = constant() {value = 0.5} : i32", "not in i32"),
    ("%0 = constant() {value = 300} : u8", "not in u8"),
    ("%0 = constant() {value = nan} : i64", "not in i64"),
    ("%0 = constant() {value = 2} : bool", "not in bool"),
    ("%0 = constant() {value = (0, 3)} : label[3][2]", "not in label[3]"),
]


def test_a_valid_graph_passes() -> None:
    verify(read(RIGHT))


@pytest.mark.parametrize(("lines", "fault"), FAULTS)
def test_a_planted_fault_is_found(lines: str, fault: str) -> None:
    with pytest.raises(InvalidGraph) as caught:
        verify(read(f'graph "wrong"\n{lines}\n'))
    assert len(caught.value.faults) == 1
    assert fault in caught.value.faults[0]


def test_all_faults_are_listed_together() -> None:
    text = 'graph "g"\n%0 = explode() : f32\n%1 = constant() {value = 0.5} : i32\n'
    with pytest.raises(InvalidGraph, match="invalid") as caught:
        verify(read(text))
    assert len(caught.value.faults) == 2
