extern "C" __global__ void __launch_bounds__(512) total(const float* __restrict__ in0, float* __restrict__ out) {
  const unsigned place = unsigned(blockIdx.x) * 32 + threadIdx.x;
  const bool here = place < 50;
  const unsigned entry = here ? place : 49;
  const int rank = threadIdx.y;
  const i64 i0 = i64(entry);
  float total = 0.0f;
  for (i64 chunk = 0; chunk < 2; ++chunk) {
    float totalp = 0.0f;
    float totalp_share = 0.0f;
    const i64 r0_stop = minimum(400LL, (chunk * 256) + 256);
    for (i64 r0 = chunk * 256 + rank; r0 < r0_stop; r0 += 16) {
      totalp_share = totalp_share + in0[(r0 * 50) + i0];
    }
    totalp = totalp + column_fold<Add>(totalp_share);
    total = total + totalp;
  }
  if (here && rank == 0) {
    out[i0] = total;
  }
}
// Launch(function='total', grid=2, block=(32, 16))
