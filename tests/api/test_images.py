"""A run on images, from the folders to predictions for new ones."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fml as package
from tests.api.test_cli import fml

TEXT = """
data shades = images("shades") {
  x: f32[4, 4, 1] = image / 255
  y: label[2]     = label
}
model net(x: f32[N, 4, 4, 1]) -> f32[N, 2] = x |> reshape([N, 16]) |> dense(2)
train {
  net = net()
  feed x, y from shades.train |> batch(8)
  minimize cross_entropy(net(x), y)
  using momentum(0.5)
  measure accuracy(net(x), y) on shades.valid
  stop after 40 epochs
}
"""


def write(file: Path, low: int, random: np.random.Generator) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random.integers(low, low + 56, (4, 4), np.uint8)).save(file)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Dark and light images, far apart, and new ones without a class."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for split, count in {"train": 16, "valid": 4}.items():
        for kind, low in {"dark": 0, "light": 200}.items():
            for number in range(count):
                write(Path(f"shades/{split}/{kind}/{number}.png"), low, random)
    for name, low in {"b": 200, "a": 0, "c": 0}.items():
        write(Path(f"new/{name}.png"), low, random)
    Path("shades.fml").write_text(TEXT)
    return tmp_path


def test_a_run_predicts_new_images_by_the_names_of_folders(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    ran = fml(capfd, "train", "shades.fml", "--run", "s")
    assert ran.status == 0, ran.err
    Path("shades").rename("gone")  # a run needs nothing but its folder
    rows = [*csv.DictReader(fml(capfd, "predict", "runs/s", "new").out.splitlines())]
    assert [[*row.values()][:2] for row in rows] == [
        ["a.png", "dark"], ["b.png", "light"], ["c.png", "dark"],
    ]  # fmt: skip
    one = [*csv.DictReader(fml(capfd, "predict", "runs/s", "new/b.png").out.splitlines())]
    assert [[*row.values()][:2] for row in one] == [["b.png", "light"]]
    arrays = np.stack([np.asarray(Image.open(f"new/{name}.png"))[..., None] for name in "abc"])
    predicted = package.open_run("runs/s").predict({"image": arrays})
    assert predicted["prediction"].tolist() == ["dark", "light", "dark"]


def test_new_images_that_do_not_fit_are_told(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert fml(capfd, "train", "shades.fml", "--run", "s").status == 0
    Image.new("L", (5, 4)).save("large.png")
    for path, code in (
        ("large.png", "E0511"), ("shades.fml", "E0510"), ("runs", "E0510"), ("newer", "E0501"),
    ):  # fmt: skip
        ran = fml(capfd, "predict", "runs/s", path)
        assert ran.status == 2
        assert f"error[{code}]" in ran.err
