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
  __syncwarp();
  float total5_share = 0.0f;
  for (i64 i0 = rank; i0 < 100; i0 += 32) {
    const float v3 = in0[(o0 * 100) + i0] - v2;
    const float t = minimum(89.0f, maximum(-104.0f, v3));
    const float t_2 = fmaf(t, 1.442695f, 12583039.0f);
    const float t_3 = t_2 - 12583039.0f;
    const float t_4 = fmaf(t_3, -1.4286068e-06f, fmaf(t_3, -0.69314575f, t));
    const float v4 = scale(fmaf(fmaf(fmaf(fmaf(fmaf(fmaf(0.0013819608f, t_4, 0.008368694f), t_4, 0.04166828f), t_4, 0.16666521f), t_4, 0.49999994f), t_4, 1.0f), t_4, 1.0f), t_2 - 12583039.0f);
    out0[(o0 * 100) + i0] = v4;
    total5_share = total5_share + v4;
  }
  total5 = total5 + warp_fold<Add>(total5_share);
  __syncwarp();
  const float v6 = total5;
  __syncwarp();
  for (i64 i0 = rank; i0 < 100; i0 += 32) {
    const float v7 = out0[(o0 * 100) + i0];
    const float v8 = v7 / v6;
    out0[(o0 * 100) + i0] = v8;
  }
  __syncwarp();
  if (rank == 0) {
    out1[o0] = v6;
  }
}
// Launch(function='softmax', grid=8, block=(32, 8))
