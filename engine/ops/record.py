"""What an operation is: one frozen record that says everything about it.

A family of operations is a file of this folder; `table.py` puts the families together. The
suite in `tests/engine/test_ops.py` is driven by that table, and a record with a field missing
fails it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from fml.engine.ir.graph import Attributes
from fml.engine.ir.types import TensorType
from fml.engine.ops.scalar import Array, Generator, Scalar

if TYPE_CHECKING:
    from fml.engine.kernels.blocks import Block
    from fml.engine.kernels.loops import Kernel
    from fml.engine.kernels.nest import Nest
    from fml.engine.ops.build import Value


@dataclass(frozen=True, slots=True)
class Call:
    """One use of an operation, as its gradient rule sees it: what went in and what came out."""

    inputs: tuple["Value", ...]
    output: "Value"
    attributes: Attributes


Infer: TypeAlias = Callable[[Sequence[TensorType], Attributes], TensorType]
Gradient: TypeAlias = Callable[["Value", Call], Sequence["Value | None"]]
Compute: TypeAlias = Callable[[Sequence[Array], Attributes, TensorType], Array]
BySample: TypeAlias = Callable[[Sequence[TensorType], Attributes, TensorType, frozenset[int]], bool]
NestOf: TypeAlias = Callable[[Sequence[TensorType], Attributes, TensorType], "Nest | Kernel"]
BlockOf: TypeAlias = Callable[[Sequence[TensorType], Attributes, TensorType], "Block"]
Flops: TypeAlias = Callable[[Sequence[TensorType], Attributes, TensorType], int]


@dataclass(frozen=True, slots=True)
class Sample:
    """Valid inputs for an operation, made by its record for the suite.

    `arrays` are float64 where the inputs are floats; the suite casts them. `differentiable`
    lists the inputs whose gradient is compared with differences.
    """

    arrays: tuple[Array, ...]
    types: tuple[TensorType, ...]
    attributes: Attributes
    differentiable: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """An operation.

    Attributes:
        name: how the graph's text calls it; lower case, words joined by `_`.
        doc: one line for its page.
        signature: its types in `.fml` syntax; `float[...]` means any float element.
        infer: the result's type from the inputs' types; raises `OpTypeError`. `given_type`
            where who adds the node gives its type.
        gradient: given the gradient of the output, one value per input (None where an input
            has none); builds graph, so that higher gradients follow. None for an operation
            that is not differentiated at all, which `undifferentiable` must explain.
        undifferentiable: why there is no gradient (`its result is a class number`).
        compute: the numpy implementation, the oracle of every backend, for elements of 32 bits
            and more: `precision.computed` calls it and rounds. Must not write to its inputs; its
            result may be a view of one.
        scalar: what an elementwise operation does to one entry.
        nest: given definite types, what one entry of the result is, from which kernels are made;
            or, where entries cannot be told one by one, the kernel (buffers `in0`, ..., `out`).
        block: for what CPUs compute in blocks of registers and caches, given definite types, its
            sizes; its operands are the inputs, in order.
        reference: dotted name of an independent function of the inputs (`scipy.special.expit`),
            imported by the tests only.
        flops: floating-point operations of one call with definite types.
        by_sample: given the types of the inputs and of the result, and the places of the inputs
            whose first axis counts samples (no other input depends on them), whether entry i of
            the result depends on their entries i alone. None for never, and where `scalar` tells.
        in_place: inputs whose buffer the result may take over when nobody reads it later.
        samples: valid inputs for the tests, from a seeded generator; odd sizes, broadcasting.
        runtime: the value is provided by the runtime (feeds, counters, variables), not computed.
        effect: the node is kept although nothing reads it.
        across_learners: `compute` sees the values of all learners stacked on a new first axis,
            not those of one; so is its result, unless it reduces that axis.
        reduces_learners: the result is not mapped over learners although the input is.
        placeholder: a pass replaces it before anything runs.
        view: its value is a part of its input's memory, and nothing is computed.
    """

    name: str
    doc: str
    signature: str
    infer: Infer
    compute: Compute | None
    samples: Callable[[Generator], Sequence[Sample]]
    gradient: Gradient | None = None
    undifferentiable: str = ""
    scalar: Scalar | None = None
    nest: NestOf | None = None
    block: BlockOf | None = None
    reference: str = ""
    flops: Flops = lambda inputs, attributes, result: 0
    by_sample: BySample | None = None
    in_place: tuple[int, ...] = ()
    runtime: bool = False
    effect: bool = False
    across_learners: bool = False
    reduces_learners: bool = False
    placeholder: bool = False
    view: bool = False

    @property
    def has_given_type(self) -> bool:
        """Whether who adds the node gives its type."""
        return self.infer is given_type


def given_type(inputs: Sequence[TensorType], attributes: Attributes) -> TensorType:
    """Stand for `infer` where the type cannot be told from inputs and attributes.

    Raises:
        TypeError: always; such nodes are added with `Builder.add`.
    """
    raise TypeError("the type of this operation is given by who adds it: use `Builder.add`")


class OpTypeError(Exception):
    """Inputs that do not fit together.

    `operands` are the places of the inputs to be marked, the clashing ones; the language turns
    it into a diagnostic with their origins.
    """

    def __init__(
        self, code: str, message: str, operands: tuple[int, ...] = (), help: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.operands = operands
        self.help = help
