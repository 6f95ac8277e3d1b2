"""What stands before the functions of kernels: the primitives that C has not, and folds of teams.

No header is included, so that NVRTC needs nothing but its own library.
"""

# Nothing may be rounded otherwise than on the CPU: a product and a sum become one only where the
# form of a kernel says so; quotients, roots and numbers below the normal ones are exact anyway.
OPTIONS = ("--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true", "--ftz=false")

# Floats of 16 bits are whole numbers to C++ and floats to the instructions of sm_80 and later.
HALVES = """\
__device__ __forceinline__ float f32_of_f16(unsigned short x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}
__device__ __forceinline__ unsigned short f16_of_f32(float x) {
  unsigned short y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ unsigned short bf16_of_f32(float x) {
  unsigned short y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}
"""

# Whole numbers wrap, which C++ promises of unsigned ones alone.
PRIMITIVES = """\
#define FML __device__ __forceinline__
typedef unsigned char u8;
typedef long long i64;
typedef unsigned long long u64;
FML float f32_of_bf16(unsigned short x) { return __int_as_float(int((unsigned)x << 16)); }
FML int plus(int a, int b) { return int((unsigned)a + (unsigned)b); }
FML i64 plus(i64 a, i64 b) { return i64((u64)a + (u64)b); }
FML u8 plus(u8 a, u8 b) { return u8(a + b); }
FML int minus(int a, int b) { return int((unsigned)a - (unsigned)b); }
FML i64 minus(i64 a, i64 b) { return i64((u64)a - (u64)b); }
FML u8 minus(u8 a, u8 b) { return u8(a - b); }
FML int times(int a, int b) { return int((unsigned)a * (unsigned)b); }
FML i64 times(i64 a, i64 b) { return i64((u64)a * (u64)b); }
FML u8 times(u8 a, u8 b) { return u8(a * b); }
FML int shift_left(int a, int b) { return int((unsigned)a << b); }
FML i64 shift_left(i64 a, i64 b) { return i64((u64)a << b); }
FML u8 shift_left(u8 a, u8 b) { return u8(a << b); }
FML int shift_right(int a, int b) { return int((unsigned)a >> b); }
FML i64 shift_right(i64 a, i64 b) { return i64((u64)a >> b); }
FML u8 shift_right(u8 a, u8 b) { return u8(a >> b); }
FML int high_word(int a, int b) { return int(__umulhi((unsigned)a, (unsigned)b)); }
template <class T> FML T maximum(T a, T b) { return a > b || a != a ? a : b; }
template <class T> FML T minimum(T a, T b) { return a < b || a != a ? a : b; }
FML int magnitude(int a) { return a < 0 ? minus(0, a) : a; }
FML i64 magnitude(i64 a) { return a < 0 ? minus(0LL, a) : a; }

// The bits of floats. Beside `unit()`, whose last place counts ones, a whole number that is added
// stands in the last bits.
template <class T> struct Form;
template <> struct Form<float> {
  typedef int Whole;
  static const Whole fraction = 23, bias = 127;
  static FML Whole bits(float x) { return __float_as_int(x); }
  static FML float number(Whole x) { return __int_as_float(x); }
  static FML float unit() { return 12582912.0f; }
};
template <> struct Form<double> {
  typedef i64 Whole;
  static const Whole fraction = 52, bias = 1023;
  static FML Whole bits(double x) { return __double_as_longlong(x); }
  static FML double number(Whole x) { return __longlong_as_double(x); }
  static FML double unit() { return 6755399441055744.0; }
};
template <class T> FML T power_of_two(T n) {
  typedef Form<T> F;
  return F::number(shift_left(F::bits(n + (F::unit() + F::bias)), F::fraction));
}
// By 2^(n / 2) and by what is left, so that only the second product may be rounded.
template <class T> FML T scale(T x, T n) {
  const T half = (n * T(0.5) + Form<T>::unit()) - Form<T>::unit();
  return x * power_of_two(half) * power_of_two(n - half);
}
// How far numbers below the normal ones are moved to be normal.
template <class T> FML int lift(T x) {
  typedef Form<T> F;
  return x < F::number(typename F::Whole(1) << F::fraction) ? F::fraction + 1 : 0;
}
// The bits of such a normal number without those of 3/4, so that the exponent changes there.
template <class T> FML typename Form<T>::Whole from_three_quarters(T x) {
  const T normal = lift(x) ? x * power_of_two(T(lift(x))) : x;
  return minus(Form<T>::bits(normal), Form<T>::bits(T(0.75)));
}
template <class T> FML T exponent(T x) {
  typedef Form<T> F;
  const T last_bits = F::number((from_three_quarters(x) >> F::fraction) + F::bits(F::unit()));
  const T found = last_bits - (F::unit() + lift(x));
  const T infinity = F::number(typename F::Whole(2 * F::bias + 1) << F::fraction);
  return x == 0 ? -infinity : x < infinity ? found : x;
}
template <class T> FML T significand(T x) {
  typedef Form<T> F;
  typedef typename F::Whole Whole;
  const Whole rest = from_three_quarters(x) & ((Whole(1) << F::fraction) - 1);
  return x >= 0 ? F::number(rest + F::bits(T(0.75))) : F::number(-1);
}

struct Add {
  static FML float of(float a, float b) { return a + b; }
  static FML double of(double a, double b) { return a + b; }
  template <class T> static FML T of(T a, T b) { return plus(a, b); }
};
struct Multiply {
  static FML float of(float a, float b) { return a * b; }
  static FML double of(double a, double b) { return a * b; }
  template <class T> static FML T of(T a, T b) { return times(a, b); }
};
struct Maximum { template <class T> static FML T of(T a, T b) { return maximum(a, b); } };
struct Minimum { template <class T> static FML T of(T a, T b) { return minimum(a, b); } };
struct And { template <class T> static FML T of(T a, T b) { return T(a & b); } };
struct Or { template <class T> static FML T of(T a, T b) { return T(a | b); } };

// What the shares of all threads of a warp come to, halves put together until one is left.
template <class Combine, class T> FML T warp_fold(T share) {
  for (int step = 16; step > 0; step >>= 1)
    share = Combine::of(share, T(__shfl_down_sync(0xffffffffu, share, step)));
  return T(__shfl_sync(0xffffffffu, share, 0));
}
// The same of a block of 256 threads, and in it of its warps, in their order.
template <class Combine, class T> FML T block_fold(T share) {
  __shared__ T warps[8];
  share = warp_fold<Combine>(share);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = share;
  __syncthreads();
  T total = warps[0];
  for (int warp = 1; warp < 8; ++warp) total = Combine::of(total, warps[warp]);
  __syncthreads();
  return total;
}
// Of the 16 threads of each of a block's 32 columns, in their order.
template <class Combine, class T> FML T column_fold(T share) {
  __shared__ T shares[16][32];
  shares[threadIdx.y][threadIdx.x] = share;
  __syncthreads();
  T total = shares[0][threadIdx.x];
  for (int row = 1; row < 16; ++row) total = Combine::of(total, shares[row][threadIdx.x]);
  __syncthreads();
  return total;
}
"""
