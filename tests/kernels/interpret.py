"""Carries out kernels one entry at a time, with numpy's scalars: what emitters are held against."""

from collections.abc import Mapping, Sequence

import numpy as np

from fml.engine.ir.types import Element, TensorType
from fml.engine.kernels.expr import Apply, Const, Expr, Load, Local, Var, wide
from fml.engine.kernels.loops import (
    Assign,
    Declare,
    Fold,
    For,
    If,
    Kernel,
    Let,
    Statement,
    Store,
    Turn,
)
from fml.engine.ops.precision import stored
from fml.engine.ops.record import Array

_UNSIGNED = {Element.I32: np.uint32, Element.I64: np.uint64, Element.U8: np.uint8}


def dtype_of(element: Element) -> np.dtype[np.generic]:
    """What numpy keeps entries of an element in."""
    return TensorType(element).dtype


def interpret(kernel: Kernel, buffers: Sequence[Array], sizes: Sequence[int] = ()) -> None:
    """Run a kernel; lanes make no difference here, but for the order of a sum."""
    names = {b.name: array.reshape(-1) for b, array in zip(kernel.buffers, buffers, strict=True)}
    values: dict[Expr, object] = dict(zip(kernel.sizes, map(np.int64, sizes), strict=True))
    with np.errstate(all="ignore"):
        _run(kernel.body, names, values)


def _run(
    body: Sequence[Statement], memory: Mapping[str, Array], values: dict[Expr, object]
) -> None:
    for statement in body:
        match statement:
            case Let(name, e) | Declare(name, e) | Assign(name, e):
                values[name] = _value(e, memory, values)
            case Fold(local, combine, e):
                pair = (values[local], _value(e, memory, values))
                values[local] = _applied(combine, pair, local.element)
            case Store(buffer, index, e):
                made = np.asarray(_value(e, memory, values))
                at = _value(index, memory, values)
                memory[buffer.name][at] = stored(made, TensorType(buffer.element))
            case Turn():
                _run(_one_by_one(statement), memory, values)
            case If(condition, inner):
                if _value(condition, memory, values):
                    _run(inner, memory, values)
            case For(var, start, stop, inner, step):
                low, high = (int(_value(e, memory, values)) for e in (start, stop))
                for i in range(low, high, step):
                    values[var] = np.int64(i)
                    _run(inner, memory, values)


def _one_by_one(block: Turn) -> list[Store]:
    return [
        Store(
            block.to, block.to_at + (c * block.to_step + r),
            Load(block.source, block.source_at + (r * block.source_step + c)),
        )
        for r in range(block.rows) for c in range(block.columns)
    ]  # fmt: skip


def _value(e: Expr, memory: Mapping[str, Array], values: Mapping[Expr, object]) -> object:
    match e:
        case Const(value, element):
            return _scalar(value, element)
        case Var() | Local():
            return values[e]
        case Load(buffer, index, guard, otherwise):
            if guard is not None and not _value(guard, memory, values):
                return _scalar(otherwise, wide(buffer.element))
            place = int(_value(index, memory, values))
            assert 0 <= place < len(memory[buffer.name]), f"{buffer.name}[{place}]"
            return _scalar(memory[buffer.name][place], wide(buffer.element))
        case Apply(function, operands, element):
            return _applied(function, [_value(o, memory, values) for o in operands], element)
        case _:
            raise TypeError(f"not an expression: {e!r}")


def _scalar(value: object, element: Element) -> object:
    return np.asarray(value).astype(dtype_of(element))[()]


def _applied(function: str, operands: Sequence[object], element: Element) -> object:
    dtype = dtype_of(element)
    a, *others = operands
    if function in _DIRECT:
        return np.asarray(_DIRECT[function](*operands)).astype(dtype)[()]
    match function:
        case "quotient":
            return dtype.type(int(abs(int(a)) // abs(int(others[0]))) * _sign(a, others[0]))
        case "remainder":
            left = abs(int(a)) % abs(int(others[0]))
            return dtype.type(-left if int(a) < 0 else left)
        case "shift_right":
            unsigned = _UNSIGNED[element]
            return np.right_shift(a.astype(unsigned), others[0].astype(unsigned)).astype(dtype)
        case "high_word":
            words = [int(x) & 0xFFFFFFFF for x in operands]
            return np.uint32(words[0] * words[1] >> 32).astype(dtype)
        case "fma" | "multiply_add":
            wider = np.longdouble if element is Element.F64 else np.float64
            return np.asarray(wider(a) * wider(others[0]) + wider(others[1])).astype(dtype)[()]
        case "exponent" | "significand":
            m, e = np.frexp(a)
            m, e = (m, e) if abs(m) >= 0.75 else (m * 2, e - 1)
            if function == "significand":
                return dtype.type(m if a > 0 else np.nan)
            return dtype.type(a if not np.isfinite(a) else e if a else -np.inf)
        case "scale":
            return np.ldexp(a, int(others[0])).astype(dtype)
        case "bits":
            return np.asarray(a).view(dtype)[()]
        case "to_f16" | "to_bf16":
            narrow = TensorType(Element(function.removeprefix("to_")))
            return stored(np.asarray(a), narrow).astype(dtype)[()]
        case _:
            raise ValueError(function)


def _sign(a: object, b: object) -> int:
    return -1 if (int(a) < 0) != (int(b) < 0) else 1


_DIRECT = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide,
    "minimum": np.minimum, "maximum": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "shift_left": np.left_shift, "equal": np.equal,
    "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal,
    "greater": np.greater, "greater_equal": np.greater_equal, "negate": np.negative,
    "not": np.invert, "abs": np.absolute, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "truncate": np.trunc, "select": np.where, "convert": np.asarray,
}  # fmt: skip
