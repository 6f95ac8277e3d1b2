"""A thread's arithmetic without subnormal numbers, in LLVM IR.

What is nearer to 0 than the smallest normal number (1.2e-38 in f32) counts as 0. Those of f16 are
none of these: they are normal numbers of f32, in which f16 is computed.
A momentum that nothing feeds any more would else decay to such a number and stay there, for it is
rounded back up; and each operation with one takes a hundred times as long as any other.
"""

import ctypes
from collections.abc import Callable
from functools import cache

from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.llvm.walk import head

# Of MXCSR, flush-to-zero for results and denormals-are-zero for operands.
_X86 = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)

define void @flush() {
  %place = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %place)
  %before = load i32, ptr %place
  %flushing = or i32 %before, 32832
  store i32 %flushing, ptr %place
  call void @llvm.x86.sse.ldmxcsr(ptr %place)
  ret void
}
"""
# Of FPCR, flush-to-zero, for results and operands alike.
_ARM = """
declare i64 @llvm.aarch64.get.fpcr()
declare void @llvm.aarch64.set.fpcr(i64)

define void @flush() {
  %before = call i64 @llvm.aarch64.get.fpcr()
  %flushing = or i64 %before, 16777216
  call void @llvm.aarch64.set.fpcr(i64 %flushing)
  ret void
}
"""


@cache
def flusher(host: Host) -> Callable[[], None]:
    """What lets the thread that calls it go on without subnormal numbers."""
    return ctypes.CFUNCTYPE(None)(load(flusher_text(host), host).address("flush"))


def flusher_text(host: Host) -> str:
    """The module of `flush`."""
    return head(host) + (_X86 if host.triple.startswith("x86_64") else _ARM)
