"""Scheduler of streams, in LLVM IR: workers take streams, and run what is not waited for.

Streams are sequences of steps, repeated: a step is an entry of a table as in `walk.py`, and what
it waits for. A worker takes a stream by its lock, does its steps until one has to wait or the
iteration is over, gives it back and goes on with the next. Nobody waits for anything while another
stream can go on. Who finds none is idle, and helps with kernels that have parts.

Events are counters: the number of iterations in which a step has been done. What a step has written
is handed on by them (release, acquire), by the streams' locks, by the one lock of all critical
sections, and by the tickets for shares of a kernel. The words of their records are in `board.py`.
"""

from functools import cache

from fml.engine.kernels.llvm.board import (
    AMONG_ALL,
    LINE,
    SHARES,
    STATE,
    STEP_WORDS,
    Board,
    Offer,
    Step,
    Stream,
)
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.load import load
from fml.engine.kernels.llvm.walk import ABANDON, END, LOOKS, cycles, head, pause

_TAKE = """
; Whether all that a step waits for in iteration `next - 1` is done.
define internal i1 @is_free(ptr %step, i64 %next) alwaysinline {{
  %count.place = getelementptr i64, ptr %step, i64 {step.WAIT_COUNT:d}
  %count = load i64, ptr %count.place
  %waits.place = getelementptr i64, ptr %step, i64 {step.WAITS:d}
  %waits = load ptr, ptr %waits.place
  br label %look
look:
  %n = phi i64 [ 0, %0 ], [ %n.next, %wait ]
  %any = icmp ult i64 %n, %count
  br i1 %any, label %wait, label %done
wait:
  %at = shl i64 %n, 1
  %place = getelementptr i64, ptr %waits, i64 %at
  %event = load ptr, ptr %place
  %before.place = getelementptr i64, ptr %place, i64 1
  %before = load i64, ptr %before.place
  %reached = load atomic i64, ptr %event acquire, align 8
  %enough = add i64 %reached, %before
  %waits.on = icmp ult i64 %enough, %next
  %n.next = add i64 %n, 1
  br i1 %waits.on, label %done, label %look
done:
  %free = phi i1 [ true, %look ], [ false, %wait ]
  ret i1 %free
}}

; The place in a worker's order of a stream that can go on, and is now this worker's; or -1.
define internal i64 @take(ptr %board, ptr %order, i64 %own, i64 %turn) {{
  %count.place = getelementptr i64, ptr %board, i64 {board.STREAMS:d}
  %count = load i64, ptr %count.place
  %critical = getelementptr i64, ptr %board, i64 {board.CRITICAL:d}
  br label %look
look:
  %n = phi i64 [ 0, %0 ], [ %n.next, %next ]
  %any = icmp ult i64 %n, %count
  br i1 %any, label %choose, label %none
choose:
  ; Its own in turns, those of others in their order.
  %turned = add i64 %turn, %n
  %beyond = icmp uge i64 %turned, %own
  %less = sub i64 %turned, %own
  %wrapped = select i1 %beyond, i64 %less, i64 %turned
  %is_own = icmp ult i64 %n, %own
  %which = select i1 %is_own, i64 %wrapped, i64 %n
  %stream.place = getelementptr ptr, ptr %order, i64 %which
  %stream = load ptr, ptr %stream.place
  %taken = load atomic i64, ptr %stream acquire, align 8
  %has_owner = icmp ne i64 %taken, 0
  br i1 %has_owner, label %next, label %peek
peek:
  ; Without its lock, so as to leave it to others where it cannot go on anyway: whoever then takes
  ; it looks again.
  %step.place = getelementptr i64, ptr %stream, i64 {stream.PLACE:d}
  %step = load atomic ptr, ptr %step.place monotonic, align 8
  %i.place = getelementptr i64, ptr %stream, i64 {stream.ITERATION:d}
  %i = load atomic i64, ptr %i.place monotonic, align 8
  %i.next = add i64 %i, 1
  %over = call i1 @is_over(ptr %board, i64 %i)
  br i1 %over, label %try, label %wait
wait:
  %free = call i1 @is_free(ptr %step, i64 %i.next)
  br i1 %free, label %section, label %next
section:
  %opens.place = getelementptr i64, ptr %step, i64 {step.OPENS:d}
  %opens = load i64, ptr %opens.place
  %held = load atomic i64, ptr %critical monotonic, align 8
  %both = and i64 %opens, %held
  %open = icmp eq i64 %both, 0
  br i1 %open, label %try, label %next
try:
  %pair = cmpxchg ptr %stream, i64 0, i64 1 acquire monotonic
  %is_mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %is_mine, label %mine, label %next
next:
  %n.next = add i64 %n, 1
  br label %look
mine:
  ret i64 %which
none:
  ret i64 -1
}}
"""

_RUN = """
declare void @sched_yield()
declare void @{pause_type}
declare i64 @llvm.readcyclecounter()
declare i64 @llvm.read_volatile_register.i64(metadata)
declare void @{order_type}
!0 = !{{!"cntvct_el0"}}

define internal void @pause(i64 %looks) {{
  call void @{pause}
  %long = icmp ugt i64 %looks, {looks}
  br i1 %long, label %yield, label %done
yield:
  call void @sched_yield()
  br label %done
done:
  ret void
}}

; The time, when all that stands before is done.
define internal i64 @now() {{
  call void @{order}
  %now = call i64 {cycles}
  ret i64 %now
}}

; Go on with a stream that is this worker's, and give it back.
define internal void @run(ptr %board, ptr %stream, i64 %worker) {{
  %critical = getelementptr i64, ptr %board, i64 {board.CRITICAL:d}
  %step.place = getelementptr i64, ptr %stream, i64 {stream.PLACE:d}
  %i.place = getelementptr i64, ptr %stream, i64 {stream.ITERATION:d}
  %first.place = getelementptr i64, ptr %stream, i64 {stream.FIRST:d}
  %end.place = getelementptr i64, ptr %stream, i64 {stream.END:d}
  %first = load ptr, ptr %first.place
  %end = load ptr, ptr %end.place
  %begin = load atomic ptr, ptr %step.place monotonic, align 8
  %i = load atomic i64, ptr %i.place monotonic, align 8
  %next = add i64 %i, 1
  %at_first = icmp eq ptr %begin, %first
  br i1 %at_first, label %limit, label %wait
limit:
  %over = call i1 @is_over(ptr %board, i64 %i)
  br i1 %over, label %finish, label %wait
wait:
  %step = phi ptr [ %begin, %0 ], [ %begin, %limit ], [ %behind, %listen ]
  %free = call i1 @is_free(ptr %step, i64 %next)
  br i1 %free, label %count, label %leave
count:
  %is_first = icmp eq ptr %step, %first
  br i1 %is_first, label %start, label %section
start:
  %begins = call i1 @begins(ptr %board, i64 %i)
  br i1 %begins, label %section, label %finish
section:
  %opens.place = getelementptr i64, ptr %step, i64 {step.OPENS:d}
  %opens = load i64, ptr %opens.place
  %is_opening = icmp ne i64 %opens, 0
  br i1 %is_opening, label %enter, label %trace
enter:
  %pair = cmpxchg ptr %critical, i64 0, i64 1 acquire monotonic
  %entered = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %entered, label %trace, label %leave
trace:
  %trace.place = getelementptr i64, ptr %step, i64 {step.TRACE:d}
  %traces = load ptr, ptr %trace.place
  %is_traced = icmp ne ptr %traces, null
  br i1 %is_traced, label %note_begin, label %ask
note_begin:
  %trace.step.place = getelementptr i64, ptr %step, i64 {step.TRACE_STEP:d}
  %trace.step = load i64, ptr %trace.step.place
  %trace.offset = mul i64 %trace.step, %i
  %row = getelementptr i8, ptr %traces, i64 %trace.offset
  %begun = call i64 @now()
  store i64 %begun, ptr %row
  br label %ask
ask:
  %row.known = phi ptr [ null, %trace ], [ %row, %note_begin ]
  %guard.place = getelementptr i64, ptr %step, i64 {step.GUARD:d}
  %guard = load ptr, ptr %guard.place
  %unguarded = icmp eq ptr %guard, null
  br i1 %unguarded, label %do, label %look
look:
  %answer = load i8, ptr %guard
  %yes = icmp ne i8 %answer, 0
  br i1 %yes, label %do, label %done
do:
  %shared.place = getelementptr i64, ptr %step, i64 {step.IS_SHARED:d}
  %shared = load i64, ptr %shared.place
  %is_shared = icmp ne i64 %shared, 0
  br i1 %is_shared, label %together, label %alone
together:
  call void @share_out(ptr %board, ptr %step, i64 %i, i64 %worker, i64 %shared)
  br label %done
alone:
  %function = load ptr, ptr %step
  %ends = call i64 %function(ptr %step, i64 %i, i64 0, i64 1)
  %is_last = icmp ne i64 %ends, 0
  br i1 %is_last, label %last, label %done
last:
  call void @lower(ptr %board)
  br label %done
done:
  br i1 %is_traced, label %note_end, label %tell
note_end:
  %ended.place = getelementptr i64, ptr %row.known, i64 1
  %ended = call i64 @now()
  store i64 %ended, ptr %ended.place
  %worker.place = getelementptr i64, ptr %row.known, i64 2
  store i64 %worker, ptr %worker.place
  br label %tell
tell:
  %event.place = getelementptr i64, ptr %step, i64 {step.EVENT:d}
  %event = load ptr, ptr %event.place
  %is_awaited = icmp ne ptr %event, null
  br i1 %is_awaited, label %count_up, label %close
count_up:
  store atomic i64 %next, ptr %event release, align 8
  br label %close
close:
  %closes.place = getelementptr i64, ptr %step, i64 {step.CLOSES:d}
  %closes = load i64, ptr %closes.place
  %is_closing = icmp ne i64 %closes, 0
  br i1 %is_closing, label %exit, label %go_on
exit:
  store atomic i64 0, ptr %critical release, align 8
  br label %go_on
go_on:
  %behind = getelementptr i64, ptr %step, i64 {step_words}
  %through = icmp eq ptr %behind, %end
  br i1 %through, label %repeat, label %listen
listen:
  %told = load atomic i64, ptr %board monotonic, align 8
  %abandons = icmp eq i64 %told, {abandon}
  br i1 %abandons, label %abandoned, label %wait
repeat:
  store atomic i64 %next, ptr %i.place monotonic, align 8
  br label %leave
leave:
  %place = phi ptr [ %step, %wait ], [ %step, %enter ], [ %first, %repeat ]
  store atomic ptr %place, ptr %step.place monotonic, align 8
  store atomic i64 0, ptr %stream release, align 8
  ret void
finish:
  ; Its lock is kept: nobody need look at it again.
  %finished = getelementptr i64, ptr %board, i64 {board.FINISHED:d}
  %before = atomicrmw add ptr %finished, i64 1 release
  ret void
abandoned:
  ret void
}}
"""

_SERVE = """
define i64 @serve(ptr %board, i64 %worker) {{
  %count.place = getelementptr i64, ptr %board, i64 {board.STREAMS:d}
  %count = load i64, ptr %count.place
  %orders.place = getelementptr i64, ptr %board, i64 {board.ORDERS:d}
  %orders = load ptr, ptr %orders.place
  %order.words = add i64 %count, 1
  %at = mul i64 %worker, %order.words
  %own.place = getelementptr i64, ptr %orders, i64 %at
  %own = load i64, ptr %own.place
  %order = getelementptr i64, ptr %own.place, i64 1
  %finished.place = getelementptr i64, ptr %board, i64 {board.FINISHED:d}
  %idle.place = getelementptr i64, ptr %board, i64 {board.IDLE:d}
  br label %look
look:
  %turn = phi i64 [ 0, %0 ], [ %turn.next, %run ], [ %turn, %help ], [ %turn, %pause ]
  %is_idle = phi i1 [ false, %0 ], [ false, %run ], [ true, %help ], [ true, %pause ]
  %looks = phi i64 [ 0, %0 ], [ 0, %run ], [ 0, %help ], [ %looks.next, %pause ]
  %told = load atomic i64, ptr %board monotonic, align 8
  switch i64 %told, label %take [ i64 {end}, label %end
                                  i64 {abandon}, label %abandoned ]
end:
  call void @lower(ptr %board)
  br label %take
take:
  %which = call i64 @take(ptr %board, ptr %order, i64 %own, i64 %turn)
  %any = icmp sge i64 %which, 0
  br i1 %any, label %taken, label %nothing
taken:
  br i1 %is_idle, label %wake, label %run
wake:
  %idle.before = atomicrmw sub ptr %idle.place, i64 1 monotonic
  br label %run
run:
  %stream.place = getelementptr ptr, ptr %order, i64 %which
  %stream = load ptr, ptr %stream.place
  call void @run(ptr %board, ptr %stream, i64 %worker)
  %is_own = icmp ult i64 %which, %own
  %behind = add i64 %which, 1
  %turn.next = select i1 %is_own, i64 %behind, i64 %turn
  br label %look
nothing:
  %finished = load atomic i64, ptr %finished.place acquire, align 8
  %over = icmp eq i64 %finished, %count
  br i1 %over, label %done, label %rest
rest:
  br i1 %is_idle, label %help, label %sleep
sleep:
  %idle.now = atomicrmw add ptr %idle.place, i64 1 monotonic
  br label %help
help:
  %helped = call i1 @help(ptr %board)
  br i1 %helped, label %look, label %pause
pause:
  call void @pause(i64 %looks)
  %looks.next = add i64 %looks, 1
  br label %look
done:
  %state.place = getelementptr i64, ptr %board, i64 {board.STATE:d}
  %state = load atomic i64, ptr %state.place monotonic, align 8
  %limit = lshr i64 %state, 32
  ret i64 %limit
abandoned:
  ret i64 -1
}}
"""


@cache
def scheduler(host: Host) -> int:
    """Address of `serve(board, worker) -> iterations done`, or -1 where they were abandoned."""
    return load(scheduler_text(host), host).address("serve")


def scheduler_text(host: Host) -> str:
    """The module of `serve`."""
    is_x86 = host.triple.startswith("x86_64")
    return (head(host) + STATE + _TAKE + SHARES + _RUN + _SERVE).format(
        board=Board,
        stream=Stream,
        step=Step,
        offer=Offer,
        step_words=STEP_WORDS,
        line=LINE,
        looks=LOOKS,
        among_all=AMONG_ALL,
        end=END,
        abandon=ABANDON,
        **pause(host),
        cycles=cycles(host),
        order="llvm.x86.sse2.lfence()" if is_x86 else "llvm.aarch64.isb(i32 15)",
        order_type="llvm.x86.sse2.lfence()" if is_x86 else "llvm.aarch64.isb(i32)",
    )
