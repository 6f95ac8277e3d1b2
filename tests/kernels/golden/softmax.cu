extern "C" __global__ void __launch_bounds__(256) softmax(const float* __restrict__ in0, float* __restrict__ out0, float* __restrict__ out1) {
  const unsigned entry = unsigned(blockIdx.x) * 8 + threadIdx.y;
  if (entry >= 64) return;
  const int rank = threadIdx.x;
  const i64 o0 = i64(entry);
  float total1 = __int_as_float(0xff800000);
  float total1_share = __int_as_float(0xff800000);
  for (i64 i0 = rank; i0 < 100; i0 += 32) {
    total1_share = maximum(total1_share, in0[(o0 * 100) + i0]);
  }
  total1 = maximum(total1, warp_fold<Maximum>(total1_share));
  const float v2 = total1;
  float total5 = 0.0f;
  float total5_share = 0.0f;
  for (i64 i0 = rank; i0 < 100; i0 += 32) {
    const float v3 = in0[(o0 * 100) + i0] - v2;
    const float t = minimum(89.0f, maximum(-104.0f, v3));
    const float t_2 = (t * 1.442695f) + 12582912.0f;
    const float t_3 = t_2 - 12582912.0f;
    const float t_4 = fmaf(-t_3, 0.69314575f, t);
    const float t_5 = fmaf(-t_3, 1.4286068e-06f, t_4);
    const int t_6 = minus(__float_as_int(t_2), 1262485504);
    const int t_7 = minus(shift_right(plus(t_6, 508), 1), 254);
    const float v4 = (((t_5 + fmaf(t_5 * t_5, fmaf(fmaf(fmaf(fmaf(fmaf(0.0001984127f, t_5, 0.0013888889f), t_5, 0.008333334f), t_5, 0.041666668f), t_5, 0.16666667f), t_5, 0.5f), fmaf(-t_3, 1.4286068e-06f, t_4 - t_5))) + 1.0f) * __int_as_float(shift_left(plus(t_7, 127), 23))) * __int_as_float(shift_left(plus(minus(t_6, t_7), 127), 23));
    total5_share = total5_share + v4;
  }
  total5 = total5 + warp_fold<Add>(total5_share);
  const float v6 = total5;
  for (i64 i0 = rank; i0 < 100; i0 += 32) {
    const float v7 = in0[(o0 * 100) + i0] - v2;
    const float t_8 = minimum(89.0f, maximum(-104.0f, v7));
    const float t_9 = (t_8 * 1.442695f) + 12582912.0f;
    const float t_10 = t_9 - 12582912.0f;
    const float t_11 = fmaf(-t_10, 0.69314575f, t_8);
    const float t_12 = fmaf(-t_10, 1.4286068e-06f, t_11);
    const int t_13 = minus(__float_as_int(t_9), 1262485504);
    const int t_14 = minus(shift_right(plus(t_13, 508), 1), 254);
    const float v8 = (((t_12 + fmaf(t_12 * t_12, fmaf(fmaf(fmaf(fmaf(fmaf(0.0001984127f, t_12, 0.0013888889f), t_12, 0.008333334f), t_12, 0.041666668f), t_12, 0.16666667f), t_12, 0.5f), fmaf(-t_10, 1.4286068e-06f, t_11 - t_12))) + 1.0f) * __int_as_float(shift_left(plus(t_14, 127), 23))) * __int_as_float(shift_left(plus(minus(t_13, t_14), 127), 23));
    const float v9 = v8 / v6;
    out0[(o0 * 100) + i0] = v9;
  }
  if (rank == 0) {
    out1[o0] = v6;
  }
}
// Launch(function='softmax', grid=8, block=(32, 8))
