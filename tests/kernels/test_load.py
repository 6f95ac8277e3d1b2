"""LLVM IR becomes addresses that can be called, or an error that says what is wrong."""

import contextlib
import ctypes

import pytest
from compiled import HOSTS
from llvmlite import binding

from fml.engine.kernels.llvm.compiler import Refused, assembly, object_code
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.linker import link
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.llvm.symbols import symbols

HOST = pytest.mark.parametrize("host", HOSTS.values(), ids=list(HOSTS))
DOUBLED = """
define i64 @doubled(i64 %x) nounwind {
  %y = shl i64 %x, 1
  ret i64 %y
}
"""
CLEARED = """
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
define void @cleared(ptr %p, i64 %n) nounwind {
  call void @llvm.memset.p0.i64(ptr %p, i8 0, i64 %n, i1 false)
  ret void
}
"""
HALVES = """
define void @grown(ptr %p) nounwind {
  %x = load KIND, ptr %p
  %y = fpext KIND %x to float
  %z = fadd float %y, 1.0
  %out = fptrunc float %z to KIND
  store KIND %out, ptr %p
  ret void
}
"""
ADDED = """
define void @added(ptr %p) nounwind "prefer-vector-width"="WIDTH" {
  %x = load <16 x float>, ptr %p, align 4
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, ptr %p, align 4
  ret void
}
"""


@HOST
def test_an_address_is_called(host: Host) -> None:
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    assert function(load(DOUBLED, host).address("doubled"))(21) == 42


@HOST
def test_memory_is_filled_by_the_c_library(host: Host) -> None:
    assert symbols(object_code(CLEARED, host)).undefined == {"memset"}
    held = ctypes.create_string_buffer(b"x" * 8)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)
    function(load(CLEARED, host).address("cleared"))(held, 5)
    assert held.raw == b"\0" * 5 + b"xxx\0"


def test_the_same_text_is_one_library() -> None:
    assert load(DOUBLED) is load(DOUBLED, Host.native())
    assert load(DOUBLED) is not load(DOUBLED, Host.forced("baseline"))


def test_libraries_may_define_the_same_name() -> None:
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)
    tripled = load(DOUBLED.replace("shl i64 %x, 1", "mul i64 %x, 3"))
    assert function(tripled.address("doubled"))(21) == 63
    assert function(load(DOUBLED).address("doubled"))(21) == 42


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("define void @f() { ret", "expected type"),
        ("define i32 @f() {\n%x = add i32 %x, 1\nret i32 %x\n}", "%x"),
        ("declare void @puts()\ndefine void @f() {\ncall void @puts()\nret void\n}", "puts"),
        ("@there = external global i32\ndefine ptr @f() {\nret ptr @there\n}", "there"),
    ],
)
def test_wrong_text_is_refused(text: str, says: str) -> None:
    with pytest.raises(Refused, match=says):
        load(text)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [("half", "__extendhfsf2, __truncsfhf2"), ("bfloat", "__truncsfbf2")],
)
def test_a_call_that_llvm_put_in_is_named(kind: str, wanted: str) -> None:
    """Only the machine code shows it, and only for machines without the instruction."""
    text = HALVES.replace("KIND", kind)
    with pytest.raises(Refused, match=f"the machine code .*: {wanted}"):
        object_code(text, Host.forced("baseline"))


def test_a_library_names_what_it_lacks() -> None:
    """Object code from elsewhere, which nobody looked at."""
    text = "declare void @abort()\ndefine void @f() {\ncall void @abort()\nret void\n}"
    image = unchecked(text)
    with pytest.raises(Refused, match="unresolved symbols: abort"):
        link(image)


@pytest.mark.parametrize(
    ("level", "widest"), [("avx512", "zmm"), ("avx2", "ymm"), ("baseline", "xmm")]
)
def test_the_widest_vectors_of_a_host_are_used(level: str, widest: str) -> None:
    host = Host.forced(level)
    made = assembly(ADDED.replace("WIDTH", str(8 * host.vector_bytes)), host)
    assert {v for v in ("xmm", "ymm", "zmm") if v in made} == {widest}


def unchecked(text: str, triple: str | None = None) -> bytes:
    """Object code of a module as LLVM makes it."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    target = binding.Target.from_triple(triple or binding.get_default_triple())
    machine = target.create_target_machine(reloc="pic", codemodel="small")
    return machine.emit_object(binding.parse_assembly(text, binding.create_context()))


@pytest.mark.parametrize(
    "triple",
    ["x86_64-linux-gnu", "x86_64-apple-macosx", "x86_64-pc-windows-msvc", "x86_64-pc-windows-elf",
     "aarch64-linux-gnu", "aarch64-apple-darwin", "aarch64-pc-windows-msvc"],
)  # fmt: skip
def test_symbols_of_every_object_format(triple: str) -> None:
    text = """
    @kept = global float 2.0
    declare void @other_with_a_long_name(ptr)
    declare void @short()
    define internal void @hidden() noinline {
      call void @short()
      ret void
    }
    define void @f() {
      call void @hidden()
      call void @other_with_a_long_name(ptr @kept)
      ret void
    }
    define void @function_with_a_long_name() {
      ret void
    }
    """
    image = unchecked(text, triple)
    found = symbols(image)
    assert found.defined == {"f", "function_with_a_long_name", "kept"}
    assert found.undefined == {"short", "other_with_a_long_name"}
    for end in range(0, len(image), 7):
        # What is cut off is an error or, where padding is lost, the same.
        with contextlib.suppress(ValueError):
            assert symbols(image[:end]) == found
