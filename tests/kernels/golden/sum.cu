extern "C" __global__ void __launch_bounds__(256) total(const float* __restrict__ in0, float* __restrict__ out0) {
  const unsigned entry = blockIdx.x;
  const int rank = threadIdx.x;
  const i64 o0 = i64(entry);
  float total1 = 0.0f;
  float total1_share = 0.0f;
  for (i64 i0 = rank; i0 < 5000; i0 += 256) {
    total1_share = total1_share + in0[(o0 * 5000) + i0];
  }
  total1 = total1 + block_fold<Add>(total1_share);
  const float v2 = total1;
  if (rank == 0) {
    out0[o0] = v2;
  }
}
// Launch(function='total', grid=300, block=(256, 1))
