"""The Python of README and docs/python.md runs as it stands; plans of docs/learners.md train."""

import re
import shutil
from pathlib import Path

import pytest

import fml

ROOT = Path(__file__).parent.parent.parent


def samples(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"```python\n(import fml\n.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_samples_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    found = samples(page)
    assert found
    for sample in found:
        names: dict[str, object] = {}
        exec(sample, names)
        assert (tmp_path / "iris.safetensors").stat().st_size > 0


def test_the_plans_of_the_page_on_learners_train() -> None:
    page = (ROOT / "docs/learners.md").read_text(encoding="utf-8")
    example = (ROOT / "examples/iris_learners.fml").read_text(encoding="utf-8")
    head = example.partition("train {")[0]
    blocks = re.findall(r"```\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    own = "towards_best(learners.w, z, learners.loss)"
    used = blocks[0].replace("sma(learners.w, z, tau = 2 steps)", own)
    assert used != blocks[0]
    for block in blocks:
        if block.startswith("strategy"):
            plan = block + used
        elif block.startswith("train"):
            plan = block
        else:
            model = "net" if "net = mlp(3)" in block else "z"
            watch = f"measure accuracy({model}(x), y) on iris.valid\n  stop after 30 epochs"
            central = "" if model == "net" else "  z = mlp(3)\n"
            plan = f"train {{\n{central}{block}  {watch}\n}}\n"
        program = fml.loads(head + plan, base=ROOT / "examples")
        assert not program.check()
        figures = program.train(device="numpy").figures
        assert figures["valid.accuracy"] > 0.8  # of three classes that are equally many
