"""What goes through a table of kernels, in LLVM IR: a step without Python.

A table is an array of entries of `WORDS` words of 64 bits:

    word 0   address of what does the entry: `kernel`, `copy`, `gather`, `watch` or `clock`
    word 1   address of a bool without which nothing is done, or 0
    word 2   1 where all workers must have come so far before any goes on, else 0; there they
             hear what Python asks for
    word 3.. its operands, in the order of the functions' arguments below

What does an entry is called with the entry, the iteration, the worker and the number of workers,
and returns 1 if the iteration is to be the last. Several workers go through one table together:
kernels with parts share them out, and everything else is done by worker 0.
"""

from functools import cache

from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load

WORDS = 9
# Words of the control block: what Python asks for, two words of the barrier, the number of
# iterations after which the loop ends, and what was asked for when all met last.
CONTROL_WORDS = 8
# What Python may ask for while workers walk: to end behind the iteration, or at once.
END, ABANDON = 1, 2
# A worker that waits looks so many times before it lets others have its core.
LOOKS = 20000

_WALK = """
declare void @sched_yield()
declare void @{pause_type}

define internal void @barrier(ptr %control, i64 %workers) {{
  %arrived = getelementptr i64, ptr %control, i64 1
  %round = getelementptr i64, ptr %control, i64 2
  %now = load atomic i64, ptr %round acquire, align 8
  %before = atomicrmw add ptr %arrived, i64 1 acq_rel
  %others = add i64 %before, 1
  %last = icmp eq i64 %others, %workers
  br i1 %last, label %open, label %look
open:
  store atomic i64 0, ptr %arrived monotonic, align 8
  %told = load atomic i64, ptr %control monotonic, align 8
  %agreed = getelementptr i64, ptr %control, i64 4
  store atomic i64 %told, ptr %agreed monotonic, align 8
  %next = add i64 %now, 1
  store atomic i64 %next, ptr %round release, align 8
  ret void
look:
  %looks = phi i64 [ 0, %0 ], [ %more, %again ]
  %seen = load atomic i64, ptr %round acquire, align 8
  %waits = icmp eq i64 %seen, %now
  br i1 %waits, label %pause, label %done
pause:
  call void @{pause}
  %more = add i64 %looks, 1
  %long = icmp ugt i64 %more, {looks}
  br i1 %long, label %yield, label %again
yield:
  call void @sched_yield()
  br label %again
again:
  br label %look
done:
  ret void
}}

define i64 @walk(
    ptr %table, i64 %count, i64 %iterations, ptr %control, i64 %worker, i64 %workers) {{
  %alone = icmp eq i64 %workers, 1
  %first = icmp eq i64 %worker, 0
  %end = getelementptr i64, ptr %control, i64 3
  %agreed = getelementptr i64, ptr %control, i64 4
  br label %iteration
iteration:
  %i = phi i64 [ 0, %0 ], [ %i.next, %go_on ]
  %any = icmp ult i64 %i, %iterations
  br i1 %any, label %entry, label %over
entry:
  %e = phi i64 [ 0, %iteration ], [ %e.next, %behind ]
  %more = icmp ult i64 %e, %count
  br i1 %more, label %look, label %end_of_iteration
look:
  %at = mul i64 %e, {words}
  %place = getelementptr i64, ptr %table, i64 %at
  %guard.place = getelementptr i64, ptr %place, i64 1
  %guard = load ptr, ptr %guard.place
  %free = icmp eq ptr %guard, null
  br i1 %free, label %do, label %ask
ask:
  %answer = load i8, ptr %guard
  %yes = icmp ne i8 %answer, 0
  br i1 %yes, label %do, label %meet
do:
  %function = load ptr, ptr %place
  %ends = call i64 %function(ptr %place, i64 %i, i64 %worker, i64 %workers)
  %is_last = icmp ne i64 %ends, 0
  br i1 %is_last, label %note, label %meet
note:
  %after = add i64 %i, 1
  store atomic i64 %after, ptr %end monotonic, align 8
  br label %meet
meet:
  %meets.place = getelementptr i64, ptr %place, i64 2
  %meets = load i64, ptr %meets.place
  %meet.now = icmp ne i64 %meets, 0
  br i1 %meet.now, label %how, label %behind
how:
  br i1 %alone, label %hear, label %wait
wait:
  call void @barrier(ptr %control, i64 %workers)
  br label %hear
hear:
  ; All workers do what was agreed on when they met, and not what was asked for since.
  %heard.place = select i1 %alone, ptr %control, ptr %agreed
  %heard = load atomic i64, ptr %heard.place monotonic, align 8
  %abandons = icmp eq i64 %heard, {abandon}
  br i1 %abandons, label %abandoned, label %behind
behind:
  %e.next = add i64 %e, 1
  br label %entry
end_of_iteration:
  %i.next = add i64 %i, 1
  br i1 %first, label %listen, label %join
listen:
  %told = load atomic i64, ptr %control monotonic, align 8
  %stop = icmp ne i64 %told, 0
  br i1 %stop, label %obey, label %join
obey:
  store atomic i64 %i.next, ptr %end monotonic, align 8
  br label %join
join:
  br i1 %alone, label %compare, label %wait_all
wait_all:
  call void @barrier(ptr %control, i64 %workers)
  br label %compare
compare:
  ; Told by number: a fast worker may have noted the end of the next iteration already.
  %ended = load atomic i64, ptr %end monotonic, align 8
  %stops = icmp eq i64 %ended, %i.next
  br i1 %stops, label %last, label %go_on
go_on:
  br label %iteration
last:
  ret i64 %i.next
abandoned:
  ret i64 -1
over:
  ret i64 %iterations
}}
"""

_OPERAND = """
  %{name}.place = getelementptr i64, ptr %entry, i64 {word}
  %{name} = load {type}, ptr %{name}.place"""

# What a worker does of so many things that all share out: those from `begin` to below `end`.
_SHARE = """
  %begin.times = mul i64 %{count}, %worker
  %begin = udiv i64 %begin.times, %workers
  %next = add i64 %worker, 1
  %end.times = mul i64 %{count}, %next
  %end = udiv i64 %end.times, %workers"""

_MOVES = """
define i64 @copy(ptr %entry, i64 %i, i64 %worker, i64 %workers) {{
  %first = icmp eq i64 %worker, 0
  br i1 %first, label %do, label %done
do:
  {copy}
  %to.offset = mul i64 %i, %to.step
  %to.now = getelementptr i8, ptr %to, i64 %to.offset
  %from.offset = mul i64 %i, %from.step
  %from.now = getelementptr i8, ptr %from, i64 %from.offset
  call void @llvm.memcpy.p0.p0.i64(ptr %to.now, ptr %from.now, i64 %nbytes, i1 false)
  br label %done
done:
  ret i64 0
}}

define i64 @gather(ptr %entry, i64 %i, i64 %worker, i64 %workers) {{
  {gather}
  {share_of_rows}
  %order.offset = mul i64 %i, %rows
  %own = getelementptr i64, ptr %order, i64 %order.offset
  br label %row
row:
  %r = phi i64 [ %begin, %0 ], [ %r.next, %move ]
  %more = icmp ult i64 %r, %end
  br i1 %more, label %move, label %done
move:
  %which.place = getelementptr i64, ptr %own, i64 %r
  %which = load i64, ptr %which.place
  %from.offset = mul i64 %which, %nbytes
  %from.now = getelementptr i8, ptr %from, i64 %from.offset
  %to.offset = mul i64 %r, %nbytes
  %to.now = getelementptr i8, ptr %to, i64 %to.offset
  call void @llvm.memcpy.p0.p0.i64(ptr %to.now, ptr %from.now, i64 %nbytes, i1 false)
  %r.next = add i64 %r, 1
  br label %row
done:
  ret i64 0
}}

define i64 @watch(ptr %entry, i64 %i, i64 %worker, i64 %workers) {{
  %first = icmp eq i64 %worker, 0
  br i1 %first, label %do, label %done
do:
  {watch}
  %to.offset = mul i64 %i, %nbytes
  %to.now = getelementptr i8, ptr %to, i64 %to.offset
  call void @llvm.memcpy.p0.p0.i64(ptr %to.now, ptr %number, i64 %nbytes, i1 false)
  ; Little-endian: the bits that matter are in the last bytes of the number.
  %end = getelementptr i8, ptr %number, i64 %nbytes
  %bits.place = getelementptr i8, ptr %end, i64 -2
  %bits = load i16, ptr %bits.place
  %wide = zext i16 %bits to i64
  %exponent = and i64 %wide, %mask
  %none = icmp eq i64 %exponent, %mask
  %ends = zext i1 %none to i64
  ret i64 %ends
done:
  ret i64 0
}}

define i64 @clock(ptr %entry, i64 %i, i64 %worker, i64 %workers) {{
  %first = icmp eq i64 %worker, 0
  br i1 %first, label %do, label %done
do:
  {clock}
  %to.offset = mul i64 %i, %to.step
  %to.now = getelementptr i8, ptr %to, i64 %to.offset
  %now = call i64 {counter}
  store i64 %now, ptr %to.now
  br label %done
done:
  ret i64 0
}}

declare i64 @llvm.readcyclecounter()
declare i64 @llvm.read_volatile_register.i64(metadata)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

!0 = !{{!"cntvct_el0"}}
"""


def head(host: Host) -> str:
    """How each module begins."""
    return f'target triple = "{host.triple}"\n'


def pause(host: Host) -> dict[str, str]:
    """The call by which a core lets the other half of it work, and what declares it."""
    if host.triple.startswith("x86_64"):
        return {"pause": "llvm.x86.sse2.pause()", "pause_type": "llvm.x86.sse2.pause()"}
    return {"pause": "llvm.aarch64.hint(i32 1)", "pause_type": "llvm.aarch64.hint(i32)"}


def cycles(host: Host) -> str:
    """The call that reads the machine's time; `!0` is ARM's `cntvct_el0`."""
    # LLVM's counter of cycles is 0 on ARM; programs may read the timer's, which is a register.
    is_arm = host.triple.startswith(("aarch64", "arm64"))
    arm, others = "@llvm.read_volatile_register.i64(metadata !0)", "@llvm.readcyclecounter()"
    return arm if is_arm else others


@cache
def walker(host: Host) -> int:
    """Address of `walk(table, count, iterations, control, worker, workers) -> iterations done`.

    The result is -1 where the last one was abandoned.
    """
    text = (head(host) + _WALK).format(words=WORDS, abandon=ABANDON, looks=LOOKS, **pause(host))
    return load(text, host).address("walk")


@cache
def moves(host: Host) -> dict[str, int]:
    """Addresses of what does entries that are no kernels, by name.

    `copy(to, from, bytes, to's bytes an iteration, from's)`; `gather(to, from, bytes of a row,
    rows, order)`; `watch(to, from, bytes, its exponent's bits in the last two)` copies a float to
    the next place in each iteration, and ends the loop if it is not finite;
    `clock(to, to's bytes an iteration)` writes the time, in a unit of the machine's own.
    """
    text = (head(host) + _MOVES).format(
        copy=_operands("to:ptr from:ptr nbytes:i64 to.step:i64 from.step:i64"),
        share_of_rows=_SHARE.format(count="rows"),
        gather=_operands("to:ptr from:ptr nbytes:i64 rows:i64 order:ptr"),
        watch=_operands("to:ptr number:ptr nbytes:i64 mask:i64"),
        clock=_operands("to:ptr to.step:i64"),
        counter=cycles(host),
    )
    library = load(text, host)
    return {name: library.address(name) for name in ("copy", "gather", "watch", "clock")}


@cache
def caller(buffers: int, has_parts: bool, host: Host) -> int:
    """Address of what calls a kernel: `(function, addresses of its buffers)`.

    One with parts takes their number as well, and a row of addresses for each worker: scratch is
    each one's own.
    """
    words = "function:ptr rows:ptr" + (" parts:i64" if has_parts else "")
    lines = ["define i64 @kernel(ptr %entry, i64 %i, i64 %worker, i64 %workers) {"]
    lines += [_operands(words)]
    if has_parts:
        lines += [_SHARE.format(count="parts"), "%any = icmp ult i64 %begin, %end"]
    else:
        lines += ["%any = icmp eq i64 %worker, 0"]
    lines += [f"%skipped = mul i64 %worker, {buffers}"]
    lines += ["%buffers = getelementptr ptr, ptr %rows, i64 %skipped"]
    lines += ["br i1 %any, label %do, label %done", "do:"]
    arguments: list[str] = []
    for number in range(buffers):
        lines += [
            f"%place{number} = getelementptr ptr, ptr %buffers, i64 {number}",
            f"%buffer{number} = load ptr, ptr %place{number}",
        ]
        arguments.append(f"ptr %buffer{number}")
    arguments += ["i64 %begin", "i64 %end"] if has_parts else []
    lines += [f"call void %function({', '.join(arguments)})", "br label %done"]
    lines += ["done:", "ret i64 0", "}", ""]
    text = head(host) + "\n".join(lines)
    return load(text, host).address("kernel")


def _operands(words: str) -> str:
    """Load operands, each written as `name:type`, from word 3 on."""
    pairs = (word.split(":") for word in words.split())
    return "".join(
        _OPERAND.format(name=name, type=type, word=3 + number)
        for number, (name, type) in enumerate(pairs)
    )
