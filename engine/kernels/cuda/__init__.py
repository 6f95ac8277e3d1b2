"""The second emitter of kernels: CUDA C, with the grids that it is launched with."""
