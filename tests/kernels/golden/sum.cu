extern "C" __global__ void __launch_bounds__(256) total(const float* __restrict__ in0, float* __restrict__ out) {
  const unsigned entry = blockIdx.x;
  const int rank = threadIdx.x;
  const i64 i0 = i64(entry);
  float total = 0.0f;
  float total_share = 0.0f;
  for (i64 r0 = rank; r0 < 5000; r0 += 256) {
    total_share = total_share + in0[(i0 * 5000) + r0];
  }
  total = total + block_fold<Add>(total_share);
  if (rank == 0) {
    out[i0] = total;
  }
}
// Launch(function='total', grid=300, block=(256, 1))
