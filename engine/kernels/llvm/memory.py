"""Entries of buffers as LLVM instructions: vectors of neighbours, masked ones, gathered ones."""

from dataclasses import replace

from fml.engine.ir.types import BOOL, F32, Element
from fml.engine.kernels.expr import Buffer, wide
from fml.engine.kernels.llvm.halves import rounded_to_bf16, to_half_bits, widened_half_bits
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.instructions import (
    BYTES,
    STORED,
    Value,
    Writer,
    number,
    vector,
)

# Offsets up to here can be multiplied by the size of an entry in 32 bits.
_FAR = 1 << 27


class Memory:
    """Reads and writes entries for a host."""

    def __init__(self, writer: Writer, host: Host) -> None:
        self.w, self.host = writer, host

    # --- reading --------------------------------------------------------------------------------

    def load(
        self,
        buffer: Buffer,
        at: Value,
        guard: Value | None,
        otherwise: Value,
        lanes: int,
        mask: Value | None,
    ) -> Value:
        """The entry at an index, or those of all lanes; `otherwise` where the guard is false."""
        if at.is_uniform and (guard is None or guard.is_uniform):
            if guard is None:
                return self._widened(buffer, self._one(buffer, at))
            return self._asked(buffer, at, guard, otherwise)
        asked = mask
        if guard is not None:
            asked = self._both(self.w.spread(guard, lanes), mask)
        if at.stride == 1:
            return self._settled(
                self._neighbours(buffer, at, lanes, asked), guard, otherwise, buffer
            )
        found = self._gathered(buffer, at, lanes, asked)
        return self._settled(found, guard, otherwise, buffer)

    def _settled(self, raw: str, guard: Value | None, otherwise: Value, buffer: Buffer) -> Value:
        """Entries widened, and those that were not read replaced."""
        lanes = int(raw.partition(" ")[0])
        found = self._widened(buffer, Value(raw.partition(" ")[2], buffer.element, lanes))
        if guard is None:
            return found
        none = self.w.spread(otherwise, lanes)
        asked = self.w.spread(guard, lanes)
        text = self.w.put(f"select {asked.typed}, {found.typed}, {none.typed}")
        return replace(found, text=text)

    def _one(self, buffer: Buffer, at: Value) -> Value:
        type = self._stored(buffer.element)
        text = self.w.put(f"load {type}, ptr {self._place(buffer, at)}, align {_nbytes(type)}")
        return Value(text, buffer.element)

    def _asked(self, buffer: Buffer, at: Value, guard: Value, otherwise: Value) -> Value:
        """Branch: what is not asked for is not touched."""
        w = self.w
        read, after, before = w.label("read"), w.label("on"), w.block
        w.do(f"br i1 {guard.text}, label %{read}, label %{after}")
        w.begin(read)
        found = self._widened(buffer, self._one(buffer, at))
        end = w.block
        w.do(f"br label %{after}")
        w.begin(after)
        text = w.put(f"phi {found.type} [ {found.text}, %{end} ], [ {otherwise.text}, %{before} ]")
        return replace(found, text=text)

    def _neighbours(self, buffer: Buffer, at: Value, lanes: int, mask: Value | None) -> str:
        type = self._stored(buffer.element)
        many = vector(type, lanes)
        place = self._place(buffer, at)
        if mask is None:
            return f"{lanes} " + self.w.put(f"load {many}, ptr {place}, align {_nbytes(type)}")
        return f"{lanes} " + self.w.call(
            many,
            f"llvm.masked.load.v{lanes}{_suffix(type)}.p0",
            f"ptr align {_nbytes(type)} {place}",
            mask.typed,
            f"{many} zeroinitializer",
        )

    def _gathered(self, buffer: Buffer, at: Value, lanes: int, mask: Value | None) -> str:
        type = self._stored(buffer.element)
        many = vector(type, lanes)
        asked = mask or self.w.spread(number(True, BOOL), lanes)
        places = self._places(buffer, at, lanes)
        return f"{lanes} " + self.w.call(
            many,
            f"llvm.masked.gather.v{lanes}{_suffix(type)}.v{lanes}p0",
            f"<{lanes} x ptr> align {_nbytes(type)} {places}",
            asked.typed,
            f"{many} zeroinitializer",
        )

    # --- writing --------------------------------------------------------------------------------

    def store(
        self, buffer: Buffer, at: Value, value: Value, lanes: int, mask: Value | None
    ) -> None:
        """Write an entry, or those of all lanes."""
        if at.is_uniform and lanes > 1:
            raise ValueError(f"all lanes write one entry of {buffer.name}")
        made = self._narrowed(buffer, value if at.is_uniform else self.w.spread(value, lanes))
        type = self._stored(buffer.element)
        if at.is_uniform or (at.stride == 1 and mask is None):
            place = self._place(buffer, at)
            self.w.do(f"store {made}, ptr {place}, align {_nbytes(type)}")
        elif at.stride == 1:
            assert mask is not None
            self.w.run(
                f"llvm.masked.store.v{lanes}{_suffix(type)}.p0",
                made, f"ptr align {_nbytes(type)} {self._place(buffer, at)}", mask.typed,
            )  # fmt: skip
        else:
            asked = mask or self.w.spread(number(True, BOOL), lanes)
            places = self._places(buffer, at, lanes)
            self.w.run(
                f"llvm.masked.scatter.v{lanes}{_suffix(type)}.v{lanes}p0",
                made, f"<{lanes} x ptr> align {_nbytes(type)} {places}", asked.typed,
            )  # fmt: skip

    def fetch(self, buffer: Buffer, at: Value, ahead: int, to_write: bool) -> None:
        """Ask for the line of what lies so many entries behind one, to be read or written.

        What is to be read once does not go into the first cache, where there is no room for it.
        """
        nbytes = ahead * _nbytes(self._stored(buffer.element))
        place = self.w.put(f"getelementptr i8, ptr {self._place(buffer, at)}, i64 {nbytes}")
        how = ("i32 1", "i32 3", "i32 1") if to_write else ("i32 0", "i32 1", "i32 1")
        self.w.run("llvm.prefetch.p0", f"ptr {place}", *how)

    # --- elements -------------------------------------------------------------------------------

    def _stored(self, element: Element) -> str:
        """What is read and written; the bits of f16 where the machine does not know it."""
        return (
            "i16" if element is Element.F16 and not self.host.converts_halves else STORED[element]
        )

    def _widened(self, buffer: Buffer, value: Value) -> Value:
        """What was read, as the element that is computed in."""
        element, lanes = buffer.element, value.lanes
        if element is BOOL:
            zero = "zeroinitializer" if lanes > 1 else "0"
            text = self.w.put(f"icmp ne {vector('i8', lanes)} {value.text}, {zero}")
            return replace(value, text=text)
        if element is not Element.F16:
            return replace(value, element=wide(element))
        if self.host.converts_halves:
            half, single = vector("half", lanes), vector("float", lanes)
            return Value(self.w.put(f"fpext {half} {value.text} to {single}"), F32, lanes)
        short, long = vector("i16", lanes), vector("i32", lanes)
        bits = self.w.put(f"zext {short} {value.text} to {long}")
        return widened_half_bits(self.w, Value(bits, Element.I32, lanes))

    def _narrowed(self, buffer: Buffer, value: Value) -> str:
        """What is written, typed."""
        element, lanes = buffer.element, value.lanes
        if element is BOOL:
            byte = vector("i8", lanes)
            return f"{byte} " + self.w.put(f"zext {value.typed} to {byte}")
        if element is Element.BF16:
            return rounded_to_bf16(self.w, value).typed
        if element is not Element.F16:
            return value.typed
        if self.host.converts_halves:
            half = vector("half", lanes)
            return f"{half} " + self.w.put(f"fptrunc {value.typed} to {half}")
        bits = to_half_bits(self.w, value)
        short = vector("i16", lanes)
        return f"{short} " + self.w.put(f"trunc {bits.typed} to {short}")

    def _place(self, buffer: Buffer, at: Value) -> str:
        type = self._stored(buffer.element)
        return self.w.put(f"getelementptr inbounds {type}, ptr %{buffer.name}, i64 {at.text}")

    def _places(self, buffer: Buffer, at: Value, lanes: int) -> str:
        """The addresses of all lanes; a stride becomes constant offsets, which are short."""
        type = self._stored(buffer.element)
        if at.lanes > 1 or not -_FAR < at.stride * lanes < _FAR:
            index = self.w.spread(at, lanes)
            return self.w.put(f"getelementptr inbounds {type}, ptr %{buffer.name}, {index.typed}")
        first = self._place(buffer, replace(at, stride=0))
        steps = ", ".join(f"i32 {i * at.stride}" for i in range(lanes))
        return self.w.put(f"getelementptr {type}, ptr {first}, <{lanes} x i32> <{steps}>")

    def _both(self, a: Value, b: Value | None) -> Value:
        return a if b is None else replace(a, text=self.w.put(f"and {a.typed}, {b.text}"))


def _nbytes(type: str) -> int:
    return 2 if type == "i16" else BYTES[type]


def _suffix(type: str) -> str:
    return {"half": "f16", "float": "f32", "double": "f64"}.get(type, type)
