extern "C" __global__ void __launch_bounds__(512) total(const float* __restrict__ in0, float* __restrict__ out0) {
  const unsigned place = unsigned(blockIdx.x) * 32 + threadIdx.x;
  const bool here = place < 50;
  const unsigned entry = here ? place : 49;
  const int rank = threadIdx.y;
  const i64 o0 = i64(entry);
  float total1 = 0.0f;
  for (i64 chunk = 0; chunk < 2; ++chunk) {
    float total1p = 0.0f;
    float total1p_share = 0.0f;
    const i64 i0_stop = minimum(400LL, (chunk * 256) + 256);
    for (i64 i0 = chunk * 256 + rank; i0 < i0_stop; i0 += 16) {
      total1p_share = total1p_share + in0[(i0 * 50) + o0];
    }
    total1p = total1p + column_fold<Add>(total1p_share);
    total1 = total1 + total1p;
  }
  const float v2 = total1;
  if (here && rank == 0) {
    out0[o0] = v2;
  }
}
// Launch(function='total', grid=2, block=(32, 16))
