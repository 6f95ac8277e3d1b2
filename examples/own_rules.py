"""Train own_rules.fml on arrays: rules of one's own, data from Python, figures back in Python.

    python examples/own_rules.py

The plan `alone` has one learner; `plan="together"` trains two, averaged by a strategy of its own.
"""

from pathlib import Path

import numpy as np

import fml


def points(samples: int, seed: int) -> dict[str, np.ndarray]:
    """Return a smooth function of eight numbers, with a few outliers that log cosh forgives."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, 8)).astype(np.float32)
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] + 0.05 * random.normal(size=samples)
    y[:: samples // 10] += 10
    return {"x": x, "y": y.astype(np.float32)}


def main() -> None:
    """Train the plan `alone`, and look at what came of it."""
    program = fml.load(Path(__file__).with_name("own_rules.fml"))
    data = {"points": {"train": points(2000, seed=0), "valid": points(500, seed=1)}}
    run = program.train(plan="alone", data=data)
    print(run)
    for point in list(run.metrics["valid.mae"])[::10]:
        print(f"epoch {point.epoch:2.0f}: mean absolute error {point.value:.3f}")
    # What a rule of one's own remembers is there by its path, as any parameter is.
    slots = [name for name in run.variables if name.startswith("signum")]
    print("slots of signum:", ", ".join(slots))


if __name__ == "__main__":
    main()
