"""Kernels -> CUDA C: a `__global__` function for every phase, and how it is launched."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

from fml.engine.ir.types import Element
from fml.engine.kernels.cuda.expressions import STORED, TYPES, Expressions, applied, bare, constant
from fml.engine.kernels.cuda.geometry import Launch, Phase, Team, memory_of, phases
from fml.engine.kernels.cuda.names import Names
from fml.engine.kernels.cuda.prelude import HALVES, PRIMITIVES
from fml.engine.kernels.expr import Const, Expr, Load, Local, Var
from fml.engine.kernels.independence import all_of, expressions, size_of
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
    identity,
)
from fml.engine.kernels.nest import parts_of

_COMBINES = {
    "add": "Add", "multiply": "Multiply", "maximum": "Maximum", "minimum": "Minimum", "and": "And",
    "or": "Or",
}  # fmt: skip


class NotPrinted(ValueError):
    """A kernel in parts: its loops are those of a CPU's registers and caches."""


@dataclass(frozen=True, slots=True)
class Printed:
    """The functions of a kernel.

    Attributes:
        text: them, without what `program` puts before them.
        launches: to be done one after another, each with all arguments of the kernel: addresses of
            its buffers, then its sizes as 64-bit integers.
    """

    text: str
    launches: tuple[Launch, ...]


def program(kernels: Sequence[Printed]) -> str:
    """The text that a compiler takes, of kernels with different names."""
    return "\n".join((HALVES + PRIMITIVES, *(kernel.text for kernel in kernels)))


def emit(kernel: Kernel) -> Printed:
    """Write a kernel.

    Raises:
        NotPrinted: it is in parts.
    """
    if kernel.parts:
        raise NotPrinted(f"{kernel.name} is in parts; make it of its nest")
    found = list(phases(kernel))
    names = [f"{kernel.name}_{n}" if len(found) > 1 else kernel.name for n in range(len(found))]
    texts = [_Writer(kernel, p).function(n) for p, n in zip(found, names, strict=True)]
    launches = (phase.launch(name) for phase, name in zip(found, names, strict=True))
    return Printed("\n".join(texts), tuple(launches))


class _Writer:
    """Writes the function of one phase."""

    def __init__(self, kernel: Kernel, phase: Phase) -> None:
        self.kernel, self.phase, self.team = kernel, phase, phase.team
        self.names = Names()
        self.lines: list[str] = []
        self._indent = "  "
        self._is_shared = False  # within a loop that the team shares
        self._shares: dict[Local, str] = {}
        self._memory = memory_of(kernel)
        self._meeting = self._stored_and_read()

    def function(self, name: str) -> str:
        """All of it."""
        parameters = ", ".join(self._parameters())
        threads = prod(self.phase.launch(name).block)
        self._begin()
        self._body(self.phase.body)
        head = f'extern "C" __global__ void __launch_bounds__({threads}) {name}({parameters}) {{'
        return "\n".join((head, *self.lines, "}", ""))

    def _parameters(self) -> Iterator[str]:
        stored = {s.buffer.name for s in all_of(self.kernel.body) if isinstance(s, Store)}
        shared = {self.kernel.buffers[place].name for pair in self.kernel.shared for place in pair}
        for buffer in self.kernel.buffers:
            self.names.new(buffer.name)
            constant = "" if buffer.name in stored else "const "
            alone = "" if buffer.name in shared else " __restrict__"
            yield f"{constant}{STORED[buffer.element]}*{alone} {buffer.name}"
        for size in self.kernel.sizes:
            yield f"i64 {self.names.of(size, size.name)}"

    def _stored_and_read(self) -> frozenset[str]:
        """The memory that the phase both reads and writes."""
        stored: set[str] = set()
        read: set[str] = set()
        for statement in all_of((*self.phase.lets, *self.phase.body)):
            if isinstance(statement, Store):
                stored.add(self._memory_of(statement.buffer.name))
            for e in expressions(statement):
                loads = (part for part in parts_of(e) if isinstance(part, Load))
                read.update(self._memory_of(load.buffer.name) for load in loads)
        return frozenset(stored & read)

    def _memory_of(self, name: str) -> str:
        return self._memory.get(name, name)

    # --- the entry ------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Which entry the thread does, and which of its team it is."""
        count = self.phase.count
        word = "unsigned" if count <= 1 << 31 else "u64"
        match self.team:
            case Team.THREAD:
                self._do(f"const {word} entry = {word}(blockIdx.x) * 256 + threadIdx.x;")
                self._do(f"if (entry >= {count}) return;")
            case Team.WARP:
                self._do(f"const {word} entry = {word}(blockIdx.x) * 8 + threadIdx.y;")
                self._do(f"if (entry >= {count}) return;")
            case Team.BLOCK:
                if self.phase.axes:
                    self._do(f"const {word} entry = blockIdx.x;")
            case Team.COLUMN:
                # Threads without an entry do what the last one does, and write nothing.
                self._do(f"const {word} place = {word}(blockIdx.x) * 32 + threadIdx.x;")
                self._do(f"const bool here = place < {count};")
                self._do(f"const {word} entry = here ? place : {count - 1};")
        if self.team is not Team.THREAD:
            self._do(f"const int rank = threadIdx.{'y' if self.team is Team.COLUMN else 'x'};")
        for let in self.phase.lets:
            self._statement(let)
        self._unravel(self.phase.axes, "entry")

    def _unravel(self, loops: Sequence[For], number: str) -> None:
        """Give loops their variables by the number of an entry; the last one runs fastest."""
        stride = prod(size_of(loop) or 0 for loop in loops)
        for place, loop in enumerate(loops):
            size = size_of(loop) or 0
            stride //= size
            at = number if stride == 1 else f"{number} / {stride}"
            if place:
                at = f"({at}) % {size}" if stride > 1 else f"{at} % {size}"
            start = int(loop.start.value) if isinstance(loop.start, Const) else 0
            step = f" * {loop.step}" if loop.step > 1 else ""
            text = f"i64({at}){step}" + (f" + {start}" if start else "")
            self._do(f"const i64 {self.names.of(loop.var, loop.var.name)} = {text};")

    # --- statements -----------------------------------------------------------------------------

    def _body(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        match statement:
            case Let(var, value):
                text = self._value(value)
                self._do(f"const {TYPES[var.type]} {self.names.bound(var, var.name)} = {text};")
            case Declare(local, value):
                text = self._value(value)
                self._do(f"{TYPES[local.element]} {self.names.bound(local, local.name)} = {text};")
            case Assign(local, value):
                self._do(f"{self.names.of(local, local.name)} = {self._value(value)};")
            case Fold(local, combine, value):
                self._fold(local, combine, value)
            case Store():
                self._store(statement)
            case If(condition, body):
                self._within(f"if ({self._value(condition)})", body)
            case For():
                self._for(statement)
            case Turn():
                raise TypeError("blocks of registers are turned round on CPUs only")

    def _fold(self, local: Local, combine: str, value: Expr) -> None:
        total = self._shares.get(local) or self.names.of(local, local.name)
        self._join(total, combine, self._operand(value), local.element)

    def _join(self, total: str, combine: str, value: str, element: Element) -> None:
        self._do(f"{total} = {bare(applied(combine, [total, value], element, element))};")

    def _store(self, store: Store) -> None:
        alone = self.team is not Team.THREAD and not self._is_shared
        conditions = ["here"] * (self.team is Team.COLUMN) + ["rank == 0"] * alone
        meets = alone and self._memory_of(store.buffer.name) in self._meeting
        if meets:
            self._meet()
        if conditions:
            self._do(f"if ({' && '.join(conditions)}) {{")
            self._indent += "  "
        at = self._place(store.index)
        value = self._value(store.value)
        if store.buffer.element in {Element.F16, Element.BF16}:
            value = f"{store.buffer.element}_of_f32({value})"
        self._do(f"{store.buffer.name}[{at}] = {value};")
        if conditions:
            self._indent = self._indent[2:]
            self._do("}")
        if meets:
            self._meet()

    def _meet(self) -> None:
        """Wait for the team, whose writes are then seen by all of it."""
        self._do("__syncwarp();" if self.team is Team.WARP else "__syncthreads();")

    def _within(self, head: str, body: Sequence[Statement]) -> None:
        self._do(head + " {")
        self._indent += "  "
        self._body(body)
        self._indent = self._indent[2:]
        self._do("}")

    # --- loops ----------------------------------------------------------------------------------

    def _for(self, loop: For) -> None:
        if id(loop) in self.phase.shared and not self._is_shared:
            self._shared_loop(loop, self.phase.shared[id(loop)])
            return
        start, stop = self._bounds(loop)
        name = self.names.of(loop.var, loop.var.name)
        step = f"++{name}" if loop.step == 1 else f"{name} += {loop.step}"
        self._within(f"for (i64 {name} = {start}; {name} < {stop}; {step})", loop.body)

    def _bounds(self, loop: For) -> tuple[str, str]:
        """The ends of a loop, computed once."""
        start, stop = (self._place(e) for e in (loop.start, loop.stop))
        if not isinstance(loop.stop, Const | Var):
            name = self.names.new(f"{loop.var.name}_stop")
            self._do(f"const i64 {name} = {stop};")
            stop = name
        return start, stop

    def _shared_loop(self, loop: For, chain: tuple[For, ...]) -> None:
        """Each thread takes every so manieth iteration; shares of folds meet behind the loop."""
        writes = any(
            isinstance(s, Store) and self._memory_of(s.buffer.name) in self._meeting
            for s in all_of(loop.body)
        )
        if writes:
            self._meet()
        combines = _folds_outside(loop.body)
        for local, combine in combines.items():
            share = self.names.new(f"{local.name}_share")
            none = constant(identity(combine, local.element), local.element)
            self._do(f"{TYPES[local.element]} {share} = {none};")
            self._shares[local] = share
        self._is_shared = True
        self._iterations(loop, chain)
        self._is_shared = False
        for local, combine in combines.items():
            share = self._shares.pop(local)
            whole = f"{self.team.value}_fold<{_COMBINES[combine]}>({share})"
            self._join(self.names.of(local, local.name), combine, whole, local.element)
        if writes:
            self._meet()

    def _iterations(self, loop: For, chain: tuple[For, ...]) -> None:
        size = self.team.size
        if len(chain) == 1:
            start, stop = self._bounds(loop)
            name = self.names.of(loop.var, loop.var.name)
            first = "rank" if loop.step == 1 else f"rank * {loop.step}"
            first = first if start == "0" else f"{start} + {first}"
            head = f"for (i64 {name} = {first}; {name} < {stop}; {name} += {size * loop.step})"
            self._within(head, loop.body)
            return
        count, number = prod(size_of(each) or 0 for each in chain), self.names.new("q")
        if not count:
            return
        word = "int" if count < 1 << 30 else "i64"
        self._do(f"for ({word} {number} = rank; {number} < {count}; {number} += {size}) {{")
        self._indent += "  "
        self._unravel(chain, number)
        self._body(chain[-1].body)
        self._indent = self._indent[2:]
        self._do("}")

    # --- expressions ----------------------------------------------------------------------------

    def _value(self, e: Expr) -> str:
        """The text of an expression, behind lines with its parts that are used again."""
        return bare(self._operand(e))

    def _place(self, e: Expr) -> str:
        """The same of a place in memory or an end of a loop."""
        return bare(self._operand(e, is_place=True)).removesuffix("LL")

    def _operand(self, e: Expr, is_place: bool = False) -> str:
        writer = Expressions(self.names)
        text = writer.operand(e, is_place)
        for line in writer.lines:
            self._do(line)
        return text

    def _do(self, line: str) -> None:
        self.lines.append(self._indent + line)


def _folds_outside(body: Sequence[Statement]) -> dict[Local, str]:
    """The locals from outside that are folded into, and how."""
    own = {s.local for s in all_of(body) if isinstance(s, Declare)}
    return {s.local: s.combine for s in all_of(body) if isinstance(s, Fold) and s.local not in own}
