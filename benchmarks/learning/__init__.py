"""The parts of `benchmarks/learners.py`."""
