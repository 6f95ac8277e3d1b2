"""What workers of streams know of each other, and how they agree on it without a lock, in LLVM IR.

They agree on the iteration after which all streams end, and on who does which share of a kernel.
Each of the enumerations names the words, of 64 bits, of one kind of record.
"""

from enum import IntEnum

from fml.engine.kernels.llvm.walk import WORDS

AMONG_IDLE, AMONG_ALL = 1, 2
# Records that different workers write are so many words apart, a cache line.
LINE = 8


class Step(IntEnum):
    """A step: behind the words of its entry, whose third says who may share it.

    0 is nobody, `AMONG_IDLE` those who have nothing to do when it begins, and `AMONG_ALL` whoever
    has nothing to do before it is over.
    """

    FUNCTION = 0
    GUARD = 1
    IS_SHARED = 2
    WAITS = WORDS  # address of pairs: an event's address, and how many iterations before
    WAIT_COUNT = WORDS + 1
    EVENT = WORDS + 2  # address of its counter, or 0
    OPENS = WORDS + 3  # 1 for the first of a critical section: its waits are those of all of it
    CLOSES = WORDS + 4  # 1 for the last
    TRACE = WORDS + 5  # where its times and its worker go in the first iteration, or 0
    TRACE_STEP = WORDS + 6  # in bytes an iteration


class Stream(IntEnum):
    """A stream: whether somebody has it, and the step and iteration where it goes on."""

    LOCK = 0
    PLACE = 1
    ITERATION = 2
    FIRST = 3  # address of its first step
    END = 4  # and of what is behind its last


class Offer(IntEnum):
    """Shares of a kernel that a worker offers to others.

    The ticket's low 16 bits are the number of shares that nobody has claimed; the rest counts the
    offers, so that who has read one that is over claims nothing.
    """

    TICKET = 0
    PENDING = 1  # shares that are not done
    STEP = 2
    ITERATION = 3
    SHARES = 4


class Board(IntEnum):
    """What all workers see.

    The low half of `STATE` is how many iterations any stream has begun, and the high half the
    limit, after which they end: no stream begins one while the limit is lowered to the others'.
    """

    TOLD = 0  # what Python asks for, as in `walk.py`
    STREAMS = 1  # how many there are
    WORKERS = 2
    OFFERS = 3  # address of one for each worker
    ORDERS = 4  # of each worker's row: how many streams are its own; all streams, its own first
    STATE = LINE
    FINISHED = 2 * LINE  # streams that are through
    CRITICAL = 3 * LINE  # the lock of critical sections
    IDLE = 4 * LINE  # workers that find nothing to do


STEP_WORDS = 2 * LINE
BOARD_WORDS = 5 * LINE

STATE = """
define internal i1 @is_over(ptr %board, i64 %i) alwaysinline {{
  %place = getelementptr i64, ptr %board, i64 {board.STATE:d}
  %state = load atomic i64, ptr %place monotonic, align 8
  %limit = lshr i64 %state, 32
  %over = icmp uge i64 %i, %limit
  ret i1 %over
}}

; Whether a stream may begin an iteration; then it counts as begun.
define internal i1 @begins(ptr %board, i64 %i) alwaysinline {{
  %place = getelementptr i64, ptr %board, i64 {board.STATE:d}
  %first = load atomic i64, ptr %place monotonic, align 8
  br label %look
look:
  %state = phi i64 [ %first, %0 ], [ %found, %exchange ]
  %limit = lshr i64 %state, 32
  %over = icmp uge i64 %i, %limit
  br i1 %over, label %no, label %compare
compare:
  %begun = and i64 %state, 4294967295
  %is_begun = icmp ult i64 %i, %begun
  br i1 %is_begun, label %yes, label %exchange
exchange:
  ; This stream has begun all those before: i of them, and nobody more.
  %more = add i64 %state, 1
  %pair = cmpxchg ptr %place, i64 %state, i64 %more monotonic monotonic
  %found = extractvalue {{ i64, i1 }} %pair, 0
  %done = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %done, label %yes, label %look
yes:
  ret i1 true
no:
  ret i1 false
}}

; Let the highest iteration begun be the last, or the first one where there is none.
define internal void @lower(ptr %board) {{
  %place = getelementptr i64, ptr %board, i64 {board.STATE:d}
  %first = load atomic i64, ptr %place monotonic, align 8
  br label %look
look:
  %state = phi i64 [ %first, %0 ], [ %found, %exchange ]
  %begun = and i64 %state, 4294967295
  %none = icmp eq i64 %begun, 0
  %last = select i1 %none, i64 1, i64 %begun
  %limit = lshr i64 %state, 32
  %is_lower = icmp ult i64 %last, %limit
  br i1 %is_lower, label %exchange, label %done
exchange:
  %high = shl i64 %last, 32
  %lowered = or i64 %high, %begun
  %pair = cmpxchg ptr %place, i64 %state, i64 %lowered monotonic monotonic
  %found = extractvalue {{ i64, i1 }} %pair, 0
  %is_done = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %is_done, label %done, label %look
done:
  ret void
}}
"""

SHARES = """
; Do a share of what is offered, if there is one left.
define internal i1 @share(ptr %offer) {{
  %pending = getelementptr i64, ptr %offer, i64 {offer.PENDING:d}
  %step.place = getelementptr i64, ptr %offer, i64 {offer.STEP:d}
  %i.place = getelementptr i64, ptr %offer, i64 {offer.ITERATION:d}
  %shares.place = getelementptr i64, ptr %offer, i64 {offer.SHARES:d}
  br label %look
look:
  %ticket = load atomic i64, ptr %offer acquire, align 8
  %left = and i64 %ticket, 65535
  %none = icmp eq i64 %left, 0
  br i1 %none, label %no, label %claim
claim:
  ; These are of the offer whose ticket it is if that is still the same behind them.
  %step = load atomic ptr, ptr %step.place monotonic, align 8
  %i = load atomic i64, ptr %i.place monotonic, align 8
  %shares = load atomic i64, ptr %shares.place monotonic, align 8
  %less = sub i64 %ticket, 1
  %pair = cmpxchg ptr %offer, i64 %ticket, i64 %less acq_rel monotonic
  %is_mine = extractvalue {{ i64, i1 }} %pair, 1
  br i1 %is_mine, label %do, label %look
do:
  %number = sub i64 %left, 1
  %function = load ptr, ptr %step
  %ends = call i64 %function(ptr %step, i64 %i, i64 %number, i64 %shares)
  %before = atomicrmw sub ptr %pending, i64 1 release
  ret i1 true
no:
  ret i1 false
}}

; A kernel with parts: as many shares as there are workers who can help, and one's own.
define internal void @share_out(ptr %board, ptr %step, i64 %i, i64 %worker, i64 %among) {{
  %idle.place = getelementptr i64, ptr %board, i64 {board.IDLE:d}
  %idle = load atomic i64, ptr %idle.place monotonic, align 8
  %idle.and_own = add i64 %idle, 1
  %workers.place = getelementptr i64, ptr %board, i64 {board.WORKERS:d}
  %workers = load i64, ptr %workers.place
  %is_for_all = icmp eq i64 %among, {among_all}
  %shares = select i1 %is_for_all, i64 %workers, i64 %idle.and_own
  %alone = icmp eq i64 %shares, 1
  br i1 %alone, label %whole, label %offer
whole:
  %function = load ptr, ptr %step
  %ends = call i64 %function(ptr %step, i64 %i, i64 0, i64 1)
  ret void
offer:
  %offers.place = getelementptr i64, ptr %board, i64 {board.OFFERS:d}
  %offers = load ptr, ptr %offers.place
  %at = mul i64 %worker, {line}
  %own = getelementptr i64, ptr %offers, i64 %at
  %pending = getelementptr i64, ptr %own, i64 {offer.PENDING:d}
  %step.place = getelementptr i64, ptr %own, i64 {offer.STEP:d}
  %i.place = getelementptr i64, ptr %own, i64 {offer.ITERATION:d}
  %shares.place = getelementptr i64, ptr %own, i64 {offer.SHARES:d}
  store atomic i64 %shares, ptr %pending monotonic, align 8
  store atomic ptr %step, ptr %step.place monotonic, align 8
  store atomic i64 %i, ptr %i.place monotonic, align 8
  store atomic i64 %shares, ptr %shares.place monotonic, align 8
  %last = load atomic i64, ptr %own monotonic, align 8
  %later = add i64 %last, 65536
  %ticket = or i64 %later, %shares
  store atomic i64 %ticket, ptr %own release, align 8
  br label %help
help:
  %helped = call i1 @share(ptr %own)
  br i1 %helped, label %help, label %look
look:
  %looks = phi i64 [ 0, %help ], [ %more, %pause ]
  %left = load atomic i64, ptr %pending acquire, align 8
  %done = icmp eq i64 %left, 0
  br i1 %done, label %over, label %pause
pause:
  call void @pause(i64 %looks)
  %more = add i64 %looks, 1
  br label %look
over:
  ret void
}}

; Do a share of what any worker offers; who does is not idle meanwhile.
define internal i1 @help(ptr %board) {{
  %idle = getelementptr i64, ptr %board, i64 {board.IDLE:d}
  %workers.place = getelementptr i64, ptr %board, i64 {board.WORKERS:d}
  %workers = load i64, ptr %workers.place
  %offers.place = getelementptr i64, ptr %board, i64 {board.OFFERS:d}
  %offers = load ptr, ptr %offers.place
  br label %look
look:
  %w = phi i64 [ 0, %0 ], [ %w.next, %next ]
  %any = icmp ult i64 %w, %workers
  br i1 %any, label %peek, label %no
peek:
  %at = mul i64 %w, {line}
  %offer = getelementptr i64, ptr %offers, i64 %at
  %ticket = load atomic i64, ptr %offer monotonic, align 8
  %left = and i64 %ticket, 65535
  %none = icmp eq i64 %left, 0
  br i1 %none, label %next, label %do
do:
  %was = atomicrmw sub ptr %idle, i64 1 monotonic
  %helped = call i1 @share(ptr %offer)
  %is = atomicrmw add ptr %idle, i64 1 monotonic
  br i1 %helped, label %yes, label %next
next:
  %w.next = add i64 %w, 1
  br label %look
yes:
  ret i1 true
no:
  ret i1 false
}}
"""
