"""Ways to run a plan: numpy, the oracle, and null, for dry runs."""
