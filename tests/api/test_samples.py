"""Samples that need data of their own: images of `resnet.fml`'s shape, made at random."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import fml

EXAMPLES = Path(__file__).parents[2] / "examples"


def make_images(file: Path) -> None:
    """Run the generator that users are given."""
    place = EXAMPLES / "data" / "make_images.py"
    spec = importlib.util.spec_from_file_location("make_images", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(file, train=60, test=10)


@pytest.mark.parametrize("plan", ["sma_by_hand", "parameter_server"])
def test_resnet_trains_on_images_made_at_random(tmp_path: Path, plan: str) -> None:
    make_images(tmp_path / "cifar10.npz")
    text = (EXAMPLES / "resnet.fml").read_text(encoding="utf-8")
    for old, new in (("45_000", "40"), ("5_000 from", "20 from"),
                     ("160 epochs", "2 steps"), ("100 epochs", "2 steps")):  # fmt: skip
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "resnet.fml"
    path.write_text(text, encoding="utf-8")
    run = fml.load(path).train(plan=plan, device="cpu", options={"m": 2, "b": 2})
    assert run.stopped_by == "after 2 steps"
    assert all(np.isfinite(values).all() for values in run.variables.values())
