// CUDA C as C++ for the CPU: what a kernel is given by the GPU, with a context for every thread of
// a block, so that threads wait for each other as they do there. Blocks go one after another.
//
// Threads run one at a time, each until it waits, forwards or backwards, and a warp as far ahead of
// the others as it can: what has a result that depends on who comes first has another one. Waiting
// for what others never come to is an error.
#include <cstdio>
#include <cstdlib>
#include <setjmp.h>
#include <ucontext.h>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(threads)
#define __restrict__ __restrict

struct Place { unsigned x, y; };
static Place blockIdx, threadIdx;

namespace host {
enum State { READY, IN_WARP, IN_BLOCK, DONE };
const int MOST = 512, STACK = 64 * 1024;
static State state[MOST];
static jmp_buf places[MOST], scheduler;
static bool begun[MOST];
static unsigned long long handed[MOST];
static int current, threads, width;
static void (*body)(void **), **arguments;

[[noreturn]] static void fail(const char *what) {
  std::fprintf(stderr, "block %u, thread %d: %s\n", blockIdx.x, current, what);
  std::abort();
}
static void stand_at(int thread) {
  current = thread;
  threadIdx = {unsigned(thread % width), unsigned(thread / width)};
}
// Contexts are begun by `ucontext`, and changed by jumps, which ask nothing of the system.
static __attribute__((noinline)) void wait(State where) {
  state[current] = where;
  if (!_setjmp(places[current])) _longjmp(scheduler, 1);
}
static void blocks_of_one_thread() {
  for (;;) {
    body(arguments);
    wait(DONE);
  }
}
static __attribute__((noinline)) void resume(int thread) {
  if (_setjmp(scheduler)) return;
  if (begun[thread]) _longjmp(places[thread], 1);
  begun[thread] = true;
  static ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = std::malloc(STACK);
  context.uc_stack.ss_size = STACK;
  makecontext(&context, blocks_of_one_thread, 0);
  setcontext(&context);
}
static int count(State what, int from, int to) {
  int found = 0;
  for (int thread = from; thread < to; ++thread) found += state[thread] == what;
  return found;
}
// Lets those go on who have all arrived; whether there are some.
static bool release(State where, int from, int to, const char *error) {
  const int waiting = count(where, from, to);
  if (waiting && waiting < to - from) fail(error);
  for (int thread = from; waiting && thread < to; ++thread) state[thread] = READY;
  return waiting > 0;
}
// Each warp goes as far as it can on its own.
static void warp(int number, bool backwards) {
  const int from = number * 32, to = from + 32;
  do {
    for (int n = 0; n < 32; ++n) {
      const int thread = backwards ? to - 1 - n : from + n;
      if (state[thread] != READY) continue;
      stand_at(thread);
      resume(thread);
    }
  } while (release(IN_WARP, from, to, "the threads of a warp part before they meet"));
}
static void block(bool backwards) {
  const int warps = threads / 32;
  for (int thread = 0; thread < threads; ++thread) state[thread] = READY;
  do {
    for (int n = 0; n < warps; ++n) warp(backwards ? warps - 1 - n : n, backwards);
  } while (release(IN_BLOCK, 0, threads, "the threads of a block part before they meet"));
}
// Launches a function: its blocks and threads in order, or all the other way round.
static void launch(void (*function)(void **), void **given, unsigned grid, int x, int y,
                   bool waits, bool backwards) {
  body = function, arguments = given, threads = x * y, width = x;
  for (unsigned n = 0; n < grid; ++n) {
    blockIdx = {backwards ? grid - 1 - n : n, 0};
    if (waits) {
      block(backwards);
      continue;
    }
    for (int thread = 0; thread < threads; ++thread) {
      stand_at(backwards ? threads - 1 - thread : thread);
      function(given);
    }
  }
}
// Calls a function with its parameters from where their values stand, pointers and sizes alike.
template <class... P, std::size_t... N>
static void spread(void (*function)(P...), void **given, std::index_sequence<N...>) {
  function((P)given[N]...);
}
template <class... P> static void call(void (*function)(P...), void **given) {
  spread(function, given, std::make_index_sequence<sizeof...(P)>());
}
template <class To, class From> static To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}
template <class T> static T from_lane(T value, unsigned mask, int lane) {
  if (mask != 0xffffffffu) fail("not all of a warp are asked");
  const int self = current;
  handed[self] = 0;
  __builtin_memcpy(&handed[self], &value, sizeof value);
  wait(IN_WARP);
  const int other = self / 32 * 32 + (lane < 32 ? lane : self % 32);
  T found;
  __builtin_memcpy(&found, &handed[other], sizeof found);
  wait(IN_WARP);
  return found;
}
} // namespace host

static inline void __syncthreads() { host::wait(host::IN_BLOCK); }
static inline void __syncwarp() { host::wait(host::IN_WARP); }
template <class T> static T __shfl_sync(unsigned mask, T value, int lane) {
  return host::from_lane(value, mask, lane);
}
template <class T> static T __shfl_down_sync(unsigned mask, T value, int step) {
  return host::from_lane(value, mask, host::current % 32 + step);
}
static inline int __float_as_int(float x) { return host::bits<int>(x); }
static inline float __int_as_float(int x) { return host::bits<float>(x); }
static inline long long __double_as_longlong(double x) { return host::bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return host::bits<double>(x); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return unsigned((unsigned long long)a * b >> 32);
}
extern "C" {
float sqrtf(float), floorf(float), ceilf(float), rintf(float), truncf(float), fabsf(float);
float fmaf(float, float, float);
double sqrt(double), floor(double), ceil(double), rint(double), trunc(double), fabs(double);
double fma(double, double, double);
}

// What `HALVES` of prelude.py has as instructions of a GPU, to nearest, ties to even.
static inline float f32_of_f16(unsigned short half) {
  const unsigned sign = (half & 0x8000u) << 16, size = half & 0x7fffu;
  if (size >= 0x7c00u) return host::bits<float>(sign | 0x7f800000u | size << 13);
  return host::bits<float>(sign | host::bits<unsigned>(host::bits<float>(size << 13) * 0x1p112f));
}
static inline unsigned short f16_of_f32(float x) {
  const unsigned word = host::bits<unsigned>(x), size = word & 0x7fffffffu;
  const unsigned short sign = word >> 16 & 0x8000u;
  if (size > 0x7f800000u) return 0x7fffu;
  if (size >= 0x477ff000u) return sign | 0x7c00u;
  if (size < 0x38800000u) {
    // Below 2^-14 an f16 counts in 2^-24, as an f32 does above 0.5: adding 0.5 rounds.
    return sign | (host::bits<unsigned>(host::bits<float>(size) + 0.5f) - 0x3f000000u);
  }
  return sign | (size - 0x38000000u + 0xfffu + (size >> 13 & 1)) >> 13;
}
static inline unsigned short bf16_of_f32(float x) {
  const unsigned word = host::bits<unsigned>(x);
  if (x != x) return 0x7fffu;
  return (word + 0x7fffu + (word >> 16 & 1)) >> 16;
}
