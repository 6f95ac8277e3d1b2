"""Kernels -> LLVM IR text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fml.engine.ir.types import BOOL, Element
from fml.engine.kernels.expr import (
    INDEX,
    NARROWING,
    Apply,
    Const,
    Expr,
    Load,
    Local,
    Var,
    wide,
)
from fml.engine.kernels.llvm.halves import narrowed
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.instructions import (
    BYTES,
    STORED,
    TYPES,
    Value,
    Writer,
    number,
    vector,
)
from fml.engine.kernels.llvm.memory import Memory
from fml.engine.kernels.llvm.primitives import primitive
from fml.engine.kernels.llvm.turning import turn
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

_NARROW = {function: element for element, function in NARROWING.items()}


def emit(kernel: Kernel, host: Host) -> str:
    """Write a kernel as the text of an LLVM module for a host."""
    return _Emitter(kernel, host).module()


class _Emitter:
    """Writes one kernel.

    `_lanes` is how many iterations are done at once where it stands; there, `_varying` are the
    locals that every lane has for itself, and `_shares` those that it folds its share into.
    """

    def __init__(self, kernel: Kernel, host: Host) -> None:
        self.kernel, self.host = kernel, host
        self.w = Writer(host)
        self.memory = Memory(self.w, host)
        self._values: dict[Var, Value] = {v: Value(f"%{v.name}", INDEX) for v in kernel.sizes}
        self._places: dict[Local, Value] = {}
        self._shares: dict[Local, Value] = {}
        self._lanes = 1
        self._mask: Value | None = None
        self._chosen: Value | None = None  # the lanes for which a condition holds

    # --- the module -----------------------------------------------------------------------------

    def module(self) -> str:
        """The whole text."""
        self._body(self.kernel.body)
        self.w.do("ret void")
        shared = {place for pair in self.kernel.shared for place in pair}
        parameters = [
            f"ptr {'' if place in shared else 'noalias '}nocapture %{buffer.name}"
            for place, buffer in enumerate(self.kernel.buffers)
        ]
        parameters += [f"i64 %{size.name}" for size in self.kernel.sizes]
        width = f'"prefer-vector-width"="{8 * self.host.vector_bytes}"'
        legal = f'"min-legal-vector-width"="{8 * self.host.vector_bytes}"'
        return "\n".join(
            (
                f'target triple = "{self.host.triple}"',
                f"define void @{self.kernel.name}({', '.join(parameters)}) #0 {{",
                "entry:",
                *self.w.places,
                "  br label %start",
                "start:",
                *self.w.lines,
                "}",
                *self.w.declared.values(),
                f"attributes #0 = {{ nounwind {width} {legal} }}",
                "",
            )
        )

    # --- statements -----------------------------------------------------------------------------

    def _body(self, statements: Sequence[Statement]) -> None:
        for statement in statements:
            match statement:
                case Let(var, value):
                    self._values[var] = self._eval(value)
                case Declare(local, value):
                    self._declare(local, value)
                case Assign(local, value):
                    self._assign(local, self._eval(value))
                case Fold():
                    self._fold(statement)
                case Store(buffer, index, value, ahead):
                    at = self._eval(index)
                    self.memory.store(buffer, at, self._eval(value), self._lanes, self._mask)
                    if ahead:
                        self.memory.fetch(buffer, at, ahead, to_write=True)
                case Turn(source_at=read, to_at=write):
                    places = self._eval(read), self._eval(write)
                    turn(self.w, self.memory, statement, *places, self._has_masks)
                case For():
                    self._loop(statement)
                case If(condition, body):
                    self._if(condition, body)

    def _declare(self, local: Local, value: Expr) -> None:
        type = vector(TYPES[local.element], self._lanes)
        self._places[local] = Value(self.w.place(type), local.element, self._lanes)
        self._assign(local, self._eval(value))

    def _assign(self, local: Local, value: Value) -> None:
        place = self._places[local]
        stored = self.w.spread(value, place.lanes) if place.lanes > 1 else value
        if self._chosen is not None and place.lanes > 1:
            values = [self._chosen, stored, self._read(place)]
            stored = primitive(self.w, "select", values, value.element)
        if self._mask is not None and place.lanes == 1 != self._lanes:
            raise ValueError(f"{self.kernel.name}: lanes assign the scalar {local.name}")
        self.w.do(f"store {stored.typed}, ptr {place.text}")

    def _fold(self, fold: Fold) -> None:
        place = self._shares.get(fold.local) or self._places[fold.local]
        value = self._eval(fold.value)
        if place.lanes > 1:
            value = self.w.spread(value, place.lanes)
            if self._mask is not None:
                none = number(identity(fold.combine, value.element), value.element)
                whole = self.w.spread(none, place.lanes)
                value = primitive(self.w, "select", [self._mask, value, whole], value.element)
        so_far = self._read(place)
        total = primitive(self.w, fold.combine, [so_far, value], value.element)
        self.w.do(f"store {total.typed}, ptr {place.text}")

    def _read(self, place: Value) -> Value:
        return replace(place, text=self.w.put(f"load {place.type}, ptr {place.text}"))

    def _if(self, condition: Expr, body: Sequence[Statement]) -> None:
        test = self._eval(condition)
        if not test.is_uniform:
            before = self._mask, self._chosen
            self._mask, self._chosen = self._both(test, before[0]), self._both(test, before[1])
            self._body(body)
            self._mask, self._chosen = before
            return
        then, after = self.w.label("then"), self.w.label("after")
        self.w.do(f"br i1 {test.text}, label %{then}, label %{after}")
        self.w.begin(then)
        self._body(body)
        self.w.do(f"br label %{after}")
        self.w.begin(after)

    def _both(self, a: Value, b: Value | None) -> Value:
        return a if b is None else replace(a, text=self.w.put(f"and {a.typed}, {b.text}"))

    # --- loops ----------------------------------------------------------------------------------

    def _loop(self, loop: For) -> None:
        if loop.lanes == 1:
            self._repeat(loop, self._eval(loop.start), self._eval(loop.stop), loop.step)
            return
        if self._lanes != 1:
            raise ValueError(f"{self.kernel.name}: lanes inside of lanes")
        start, stop = self._eval(loop.start), self._eval(loop.stop)
        for lanes, masked in self._widths(loop.lanes, loop.start, loop.stop):
            start = self._with_lanes(loop, start, stop, lanes, masked)

    def _widths(self, lanes: int, start: Expr, stop: Expr) -> list[tuple[int, bool]]:
        """How many lanes at once, one after another, until nothing is left.

        What is known to be left is done at once, if masked: a body may hold a long loop.
        """
        native = self._narrowest(lanes)
        if not isinstance(start, Const) or not isinstance(stop, Const):
            whole = [(width, False) for width in dict.fromkeys((lanes, native))]
            return [*whole, (native, True) if self._has_masks else (1, False)]
        left = max(0, int(stop.value - start.value))
        found = [(lanes, False)] if left >= lanes else []
        left %= lanes
        for width in _halves(lanes, native):
            if left > width and 2 * width <= lanes and self._has_masks:
                return [*found, (2 * width, True)]
            if left >= width:
                found.append((width, False))
                left %= width
        if left:
            found.append((native, True) if self._has_masks else (1, False))
        return found

    @property
    def _has_masks(self) -> bool:
        """Whether lanes can leave out entries of every buffer."""
        narrowest = min(BYTES[STORED[buffer.element]] for buffer in self.kernel.buffers)
        return 0 < self.host.masked_bytes <= narrowest

    def _narrowest(self, lanes: int) -> int:
        """Lanes of one vector register of 32-bit entries, of which most kernels consist."""
        return max(1, min(lanes, self.host.vector_bytes // 4))

    def _with_lanes(self, loop: For, start: Value, stop: Value, lanes: int, masked: bool) -> Value:
        """Repeat with so many lanes as long as all are used, or, masked, for what is left."""
        before = dict(self._shares)
        shares = self._begin_shares(loop, lanes) if lanes > 1 else {}
        self._shares.update(shares)
        self._lanes = lanes
        end = stop if masked or lanes == 1 else self._rounded(start, stop, lanes)
        self._repeat(loop, start, end, lanes, stop if masked else None)
        self._lanes, self._mask = 1, None
        for local, share in shares.items():
            total = self.w.folded(self._read(share), self._combines(loop)[local])
            self._shares = before
            place = before.get(local) or self._places[local]
            joined = primitive(
                self.w, self._combines(loop)[local], [self._read(place), total], total.element
            )
            self.w.do(f"store {joined.typed}, ptr {place.text}")
        self._shares = before
        return end

    def _rounded(self, start: Value, stop: Value, lanes: int) -> Value:
        """The last start of a whole vector, and one vector more."""
        if start.text[0] != "%" and stop.text[0] != "%":
            first, last = int(start.text), int(stop.text)
            return number(first + max(0, last - first) // lanes * lanes, INDEX)
        room = self.w.put(f"sub i64 {stop.text}, {start.text}")
        some = self.w.put(f"icmp sgt i64 {room}, 0")
        room = self.w.put(f"select i1 {some}, i64 {room}, i64 0")
        left = self.w.put(f"urem i64 {room}, {lanes}")
        whole = self.w.put(f"sub i64 {room}, {left}")
        return Value(self.w.put(f"add i64 {start.text}, {whole}"), INDEX)

    def _begin_shares(self, loop: For, lanes: int) -> dict[Local, Value]:
        shares: dict[Local, Value] = {}
        for local, combine in self._combines(loop).items():
            type = vector(TYPES[local.element], lanes)
            share = Value(self.w.place(type), local.element, lanes)
            none = self.w.spread(number(identity(combine, local.element), local.element), lanes)
            self.w.do(f"store {none.typed}, ptr {share.text}")
            shares[local] = share
        return shares

    def _combines(self, loop: For) -> dict[Local, str]:
        """The folds of a loop over lanes into locals from outside of it."""
        found: dict[Local, str] = {}
        inside: set[Local] = set()

        def look(statements: Sequence[Statement]) -> None:
            for statement in statements:
                match statement:
                    case Declare(local, _):
                        inside.add(local)
                    case Fold(local, combine, _) if local not in inside:
                        if found.setdefault(local, combine) != combine:
                            raise ValueError(f"{self.kernel.name}: two folds of {local.name}")
                    case For(body=body) | If(body=body):
                        look(body)
                    case _:
                        pass

        look(loop.body)
        return found

    def _repeat(
        self, loop: For, start: Value, stop: Value, step: int, limit: Value | None = None
    ) -> None:
        """A loop whose condition stands at its end; lanes from `limit` on are masked."""
        w = self.w
        known = start.text[0] != "%" and stop.text[0] != "%"
        if known and int(start.text) >= int(stop.text):
            return
        head, after = w.label("loop"), w.label("done")
        if known:
            w.do(f"br label %{head}")
        else:
            some = w.put(f"icmp slt i64 {start.text}, {stop.text}")
            w.do(f"br i1 {some}, label %{head}, label %{after}")
        before = w.block
        w.begin(head)
        register, following = w.name("i"), w.name("n")
        phi = len(w.lines)
        w.do("")
        self._values[loop.var] = Value(register, INDEX, stride=1 if loop.lanes > 1 < step else 0)
        if limit is not None:
            self._mask = self._first_lanes(register, limit)
        self._body(loop.body)
        w.do(f"{following} = add nuw nsw i64 {register}, {step}")
        again = w.put(f"icmp slt i64 {following}, {stop.text}")
        w.lines[phi] = (
            f"  {register} = phi i64 [ {start.text}, %{before} ], [ {following}, %{w.block} ]"
        )
        w.do(f"br i1 {again}, label %{head}, label %{after}")
        w.begin(after)

    def _first_lanes(self, register: str, limit: Value) -> Value:
        """Which lanes lie below a limit."""
        some = self.w.put(f"sub i64 {limit.text}, {register}")
        left = Value(self.w.put(f"trunc i64 {some} to i32"), Element.I32)
        steps = ", ".join(f"i32 {i}" for i in range(self._lanes))
        type = vector("i32", self._lanes)
        text = self.w.put(f"icmp slt {type} <{steps}>, {self.w.spread(left, self._lanes).text}")
        return Value(text, BOOL, self._lanes)

    # --- expressions ----------------------------------------------------------------------------

    def _eval(self, expression: Expr) -> Value:
        return self._value(expression, {})

    def _value(self, e: Expr, known: dict[int, Value]) -> Value:
        """The value of a part; `known` is keyed by identity: what is used twice is one object."""
        if id(e) not in known:
            known[id(e)] = self._computed(e, known)
        return known[id(e)]

    def _computed(self, e: Expr, known: dict[int, Value]) -> Value:
        match e:
            case Const(value, element):
                return number(value, element)
            case Var():
                return self._values[e]
            case Local():
                return self._read(self._shares.get(e) or self._places[e])
            case Load(buffer, index, guard, otherwise, ahead):
                at = self._value(index, known)
                if ahead:
                    self.memory.fetch(buffer, at, ahead, to_write=False)
                asked = None if guard is None else self._value(guard, known)
                none = number(otherwise, wide(buffer.element))
                return self.memory.load(buffer, at, asked, none, self._lanes, self._mask)
            case Apply(function, operands, element):
                values = [self._value(operand, known) for operand in operands]
                return self._applied(function, values, element)
            case _:
                raise TypeError(f"not an expression: {e!r}")

    def _applied(self, function: str, values: list[Value], element: Element) -> Value:
        strided = _counted(self.w, function, values) if element is INDEX else None
        if strided is not None:
            return strided
        given = self.w.alike(values, self._lanes)
        if function in _NARROW:
            return narrowed(self.w, given[0], _NARROW[function])
        return primitive(self.w, function, given, element)


def _halves(lanes: int, native: int) -> Iterator[int]:
    """Powers of two times a vector, below so many lanes, from the largest on."""
    width = native
    while width < lanes:
        width *= 2
    while width > native:
        width //= 2
        yield width


def _counted(w: Writer, function: str, values: Sequence[Value]) -> Value | None:
    """Count with strides as long as they stay what they are: no vectors of indices are made."""
    if not all(value.lanes == 1 for value in values) or not any(v.stride for v in values):
        return None
    a, b = values[0], values[-1]
    stride: int
    match function:
        case "add":
            stride = a.stride + b.stride
        case "subtract":
            stride = a.stride - b.stride
        case "multiply" if a.text[0] != "%" or b.text[0] != "%":
            factor, other = (a, b) if a.text[0] != "%" else (b, a)
            stride = other.stride * int(factor.text)
        case _:
            return None
    scalars = [replace(value, stride=0) for value in values]
    return replace(primitive(w, function, scalars, INDEX), stride=stride)
