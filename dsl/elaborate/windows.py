"""Primitives that slide a window over images: convolutions and pooling."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

from fml.dsl import ast
from fml.dsl.elaborate.arithmetic import as_tensor, whole_number
from fml.dsl.elaborate.session import Failed, Session
from fml.dsl.values import Any_, Tensor, Unknown
from fml.engine.ir.dims import Dim
from fml.engine.ir.types import TensorType

if TYPE_CHECKING:
    from fml.dsl.elaborate.builtins import Primitive
    from fml.dsl.elaborate.calls import Given

    Arguments = Mapping[str, Given]

# `same`, `valid`, a whole number, or not known yet.
Pad: TypeAlias = int | str | Unknown
# Zeros before and behind, for height and width.
Padding: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


def conv2d(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`conv2d(x, w, stride, pad, dilation, groups)`, of one stride and dilation for both axes."""
    x, w = _images(s, bound, "x"), _images(s, bound, "w")
    stride, dilation, groups = _numbers(s, bound, "stride", "dilation", "groups")
    pad = _pad(s, bound)
    type = x.type
    if not (stride and dilation and groups and _known(pad, type, w.type.shape[:2])):
        return _some(s, type, pad, stride, w.type.shape[3])
    reaches = _reaches(w.type.shape, dilation)
    return s.op(
        "conv", (x.value, w.value), (bound["x"].at, bound["w"].at),
        stride=(stride, stride), padding=_padding(pad, type.shape[1:3], reaches, stride),
        dilation=(dilation, dilation), groups=groups,
    )  # fmt: skip


def conv2d_transpose(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`conv2d_transpose(x, w, stride, pad, dilation, groups)`: the adjoint of `conv2d`.

    The kernel is that of the convolution back, [k, k, units / groups, channels]. Of H entries it
    makes H * stride with `same`, else (H - 1) * stride + dilation * (k - 1) + 1 - 2 * pad.
    """
    x, w = _images(s, bound, "x"), _images(s, bound, "w")
    stride, dilation, groups = _numbers(s, bound, "stride", "dilation", "groups")
    pad = _pad(s, bound)
    dims = x.type.shape
    if not (stride and dilation and groups) or isinstance(pad, Unknown):
        raise Failed
    if any(dim.size is None for dim in w.type.shape[:2]):
        raise Failed
    reaches = _reaches(w.type.shape, dilation)
    if pad == "same":
        made = [dim * stride for dim in dims[1:3]]
    else:
        ends = 2 * pad if isinstance(pad, int) else 0
        made = [
            (dim - 1) * stride + reach - ends for dim, reach in zip(dims[1:3], reaches, strict=True)
        ]
    # What `same` adds around H * stride entries depends on the kernel alone.
    whole = [Dim.of(stride)] * 2
    return s.op(
        "conv_input_gradient", (x.value, w.value), (bound["x"].at, bound["w"].at),
        stride=(stride, stride), padding=_padding(pad, whole, reaches, stride),
        dilation=(dilation, dilation), groups=groups,
        shape=(dims[0], *made, w.type.shape[2] * groups),
    )  # fmt: skip


def pool(s: Session, p: "Primitive", bound: "Arguments", e: ast.Expression) -> Any_:
    """`max_pool(x, size, stride = size, pad = valid)`: [N, H, W, C] to [N, H', W', C]."""
    x = _images(s, bound, "x")
    (size,) = _numbers(s, bound, "size")
    (stride,) = _numbers(s, bound, "stride") if "stride" in bound else (size,)
    pad = _pad(s, bound) if "pad" in bound else "valid"
    if not (size and stride and _known(pad, x.type, ())):
        return _some(s, x.type, pad, stride, x.type.shape[3])
    if isinstance(pad, int) and pad >= size:
        raise s.report(
            "E0311", f"a window of {size} would lie in the padding of {pad} alone",
            [bound["pad"].at], help="pad by less than the window",
        )  # fmt: skip
    return s.op(
        p.op, (x.value,), (bound["x"].at,), size=(size, size), stride=(stride, stride),
        padding=_padding(pad, x.type.shape[1:3], (size, size), stride),
    )  # fmt: skip


def _images(s: Session, bound: "Arguments", name: str) -> Tensor:
    tensor = as_tensor(s, bound[name].value, bound[name].at)
    if tensor.type.rank != 4:
        what = "images [N, H, W, C]" if name == "x" else "a kernel of 4 axes"
        raise s.report(
            "E0304", f"{what} are needed here, found {s.type_text(tensor.value)}",
            [bound[name].at], notes=s.origin_notes(tensor.value), help="`reshape` it first",
        )  # fmt: skip
    return tensor


def _numbers(s: Session, bound: "Arguments", *names: str) -> list[int]:
    """Whole numbers of at least 1; 0 where one is not known yet."""
    return [whole_number(s, bound[name], name, 1) or 0 for name in names]


def _pad(s: Session, bound: "Arguments") -> Pad:
    value = bound["pad"].value
    if isinstance(value, Unknown | Dim):
        return Unknown()
    if isinstance(value, str) and value in {"same", "valid"}:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise s.report("E0401", "`pad` is `same`, `valid` or a whole number", [bound["pad"].at])


def _known(pad: Pad, x: TensorType, kernel: tuple[Dim, ...]) -> bool:
    """Whether all is known that the padding depends on."""
    if isinstance(pad, Unknown):
        return False
    sizes = (*x.shape[1:3], *kernel) if pad == "same" else kernel
    return all(dim.size is not None for dim in sizes)


def _reaches(kernel: tuple[Dim, ...], dilation: int) -> tuple[int, int]:
    """Entries from the first to the last that a dilated kernel meets."""
    height, width = (dilation * (cast(int, dim.size) - 1) + 1 for dim in kernel[:2])
    return height, width


def _padding(
    pad: Pad,
    sizes: Sequence[Dim],
    reaches: tuple[int, int],
    stride: int,
) -> Padding:
    """`same` makes ceil(H / stride) places, the odd zero behind."""
    if isinstance(pad, int):
        return ((pad, pad), (pad, pad))
    if pad != "same":
        return ((0, 0), (0, 0))
    ends: list[tuple[int, int]] = []
    for dim, reach in zip(sizes, reaches, strict=True):
        length = cast(int, dim.size)
        total = max((-(-length // stride) - 1) * stride + reach - length, 0)
        ends.append((total // 2, total - total // 2))
    return (ends[0], ends[1])


def _some(s: Session, x: TensorType, pad: Pad, stride: int, channels: Dim) -> Tensor:
    """A result whose sizes are names: `same` promises ceil(H / stride); else nothing is known."""
    if pad != "same" or not stride:
        raise Failed
    batch, height, width, _ = x.shape
    axes = (batch, (height / stride).ceil(), (width / stride).ceil(), channels)
    return Tensor(s.builder.add("argument", x.with_shape(axes), (), {"name": "windows"}))
