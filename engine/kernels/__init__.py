"""Kernels: loop nests as data, from which code for CPUs and GPUs is made."""
