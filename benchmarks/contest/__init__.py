"""Those who train the same models beside each other: `benchmarks/training.py` lets them."""
