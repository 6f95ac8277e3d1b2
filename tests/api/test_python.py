"""The Python API: what `train` takes and what a run gives back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fml
from fml.picture import GRAPHS
from tests.api.programs import CLASSIFIER, codes, points


@pytest.fixture(scope="module")
def trained() -> fml.Run:
    return fml.loads(CLASSIFIER).train(data={"points": points()}, seed=5, lr=0.3)


def test_everything_public_can_be_reached_and_nothing_else() -> None:
    for name in fml.__all__:
        assert getattr(fml, name) is not None
    assert set(fml.__all__) <= set(dir(fml))
    with pytest.raises(AttributeError, match="no attribute `laod`"):
        fml.laod  # noqa: B018 # pyright: ignore


def test_a_program_says_what_it_has() -> None:
    program = fml.loads(CLASSIFIER)
    assert program.plans == ("main",)
    assert [*program.options] == ["lr", "width", "rounds"]
    option = program.options["lr"]
    assert (option.default, option.allowed, option.doc) == (0.5, "0.001 .. 10", "learning rate")
    assert repr(program) == "<Program <text>: plans main; options lr, width, rounds>"
    assert program.check() == ()


def test_a_trained_line_is_the_line(line: fml.Program) -> None:
    run = line.train()
    assert_allclose(run.model.parameters["net.w"], [3], atol=0.05)
    assert_allclose(run.model(np.array([[0.0], [1.0]])), [-1, 2], atol=0.05)
    assert run.figures["train.J"] < 1e-3
    assert run.evaluate() == dict(run.figures)


def test_metrics_are_series_of_points(trained: fml.Run) -> None:
    loss = trained.metrics["train.loss"]
    assert loss.epochs == [1, 2, 3]
    assert loss.steps == [8, 16, 24]
    assert loss.last == loss.values[-1] == loss[-1].value
    assert loss.last < loss.values[0]
    assert len(loss) == len([*loss]) == 3
    assert repr(loss) == f"<Series train.loss: 3 points, last {loss.last:.6g}>"
    assert repr(trained.metrics).startswith("<Metrics train.")
    assert set(trained.metrics) == {"train.loss"}


def test_a_run_says_how_it_ended(trained: fml.Run) -> None:
    assert (trained.stopped_by, trained.steps, trained.interrupted) == ("after 3 epochs", 24, False)
    assert trained.failure is None
    assert repr(trained).startswith("<Run of <text> plan main: stopped after 3 epochs; train.")


def test_a_model_computes_what_its_parameters_say(trained: fml.Run) -> None:
    p = {name.removeprefix("m."): value for name, value in trained.model.parameters.items()}
    x = points(7)["x"]
    hidden = np.maximum(x @ p["dense_0.W"] + p["dense_0.b"], 0)
    expected = hidden @ p["dense_1.W"] + p["dense_1.b"]
    assert_allclose(trained.model(x), expected, rtol=1e-5, atol=1e-6)
    assert_allclose(trained.model(x=x.tolist()), expected, rtol=1e-5, atol=1e-6)
    assert trained.models["m"] is trained.model
    assert repr(trained.model) == "<Model m(x: f32[N, 2]) -> f32[N, 3]>"


def test_parameters_cannot_be_changed_by_accident(trained: fml.Run) -> None:
    parameters: Any = trained.model.parameters
    with pytest.raises(TypeError):
        parameters["m.dense_0.W"] = 0
    with pytest.raises(ValueError, match="read-only"):
        parameters["m.dense_0.W"][0] = 0


@pytest.mark.parametrize(
    ("arguments", "named", "words"),
    [
        ((np.zeros((3, 5)),), {}, "axis 1 has 5 entries instead of 2"),
        ((np.zeros((2, 5)),), {}, "samples are the first axis: `x.T`"),
        ((np.zeros(2),), {}, "one sample is a batch of one: `x[None]`"),
        ((np.zeros((1, 3, 2)),), {}, "it has 3 axes instead of 2"),
        (([[1, 2], [3]],), {}, "found a list"),
        ((None,), {}, "found None"),
        ((np.zeros((1, 2)),), {"x": np.zeros((1, 2))}, "given twice"),
        ((np.zeros((1, 2), complex),), {}, "complex128"),
        ((np.array([["a", "b"]]),), {}, "`x`"),
        ((), {}, "x: f32[N, 2]"),
        ((np.zeros((1, 2)), np.zeros((1, 2))), {}, "found 2 arguments"),
        ((), {"z": np.zeros((1, 2))}, "z"),
    ],
)
def test_a_wrong_argument_is_named(
    arguments: tuple[Any, ...], named: dict[str, Any], words: str, trained: fml.Run
) -> None:
    with pytest.raises(fml.FmlError) as caught:
        trained.model(*arguments, **named)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "E0720"
    assert words in " ".join([diagnostic.message, *diagnostic.notes, diagnostic.help])


IMAGES = """
data images = given {{ x: f32[8, 8, 1]; y: label[3] }}
model net(x: f32[N, 8, 8, 1]) -> {result} = x |> conv(4, 3) |> batch_norm |> {head}
train {{
  m = net()
  feed x, y from images.train |> batch(4)
  minimize loss = mean(m(x))
  using sgd(0.05)
  stop after 1 step
}}
"""


def of_images(result: str, head: str) -> fml.Run:
    images = {"x": np.ones((4, 8, 8, 1)), "y": np.zeros(4, int)}
    return fml.loads(IMAGES.format(result=result, head=head)).train(data={"images": images})


def test_nothing_makes_nothing() -> None:
    run = of_images("f32[N, 3]", "flatten |> dense(3)")
    empty = run.model(np.zeros((0, 8, 8, 1)))
    assert (empty.shape, empty.dtype) == ((0, 3), np.float32)
    assert run.predict({"x": np.zeros((0, 8, 8, 1))})["prediction"].shape[0] == 0


def test_nothing_has_no_mean() -> None:
    run = of_images("f32", "mean")
    with pytest.raises(fml.FmlError, match="they are empty"):
        run.model(np.zeros((0, 8, 8, 1)))


def test_same_seed_same_bits_and_another_seed_others() -> None:
    program = fml.loads(CLASSIFIER)
    first, again, other = (
        program.train(data={"points": points()}, seed=seed) for seed in (1, 1, 2)
    )
    for name, value in first.variables.items():
        assert_array_equal(value, again.variables[name])
    assert any((v != other.variables[n]).any() for n, v in first.variables.items())


def test_options_by_name_by_mapping_and_as_text() -> None:
    program = fml.loads(CLASSIFIER)
    data = {"points": points()}
    for run in (
        program.train(data=data, rounds="1 epoch", width=7),
        program.train("main", data, options={"rounds": "1 epoch", "width": "7"}),
        program.train(data=data, rounds="8 steps", width=np.int64(7)),
    ):
        assert run.steps == 8
        assert run.model.parameters["m.dense_0.W"].shape == (2, 7)


def test_splits_can_be_handed_over() -> None:
    run = fml.loads(CLASSIFIER).train(
        data={"points": {"train": points(), "valid": points(20)}}, rounds="1 epoch"
    )
    assert {"train.loss", "valid.loss"} <= run.figures.keys()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"lr": 100}, "E0405"),
        ({"rate": 1}, "E0405"),
        ({"plan": "mian"}, "E0602"),
        ({"device": "cuda:0"}, "E0740"),
        ({"device": "abacus"}, "E0740"),
        ({"data": {"pionts": {}}}, "E0741"),
        ({"data": {}}, "E0505"),
        ({"lr": None}, "E0405"),
        ({"lr": [0.1]}, "E0405"),
        ({"lr": np.array([0.1, 0.2])}, "E0405"),
        ({"lr": "abc"}, "E0405"),
        ({"lr": ""}, "E0405"),
        ({"lr": True}, "E0405"),
        ({"sede": 1}, "E0405"),
        ({"trase": "steps.json"}, "E0405"),
        ({"options": {3: 4}}, "E0405"),
        ({"options": 3}, "E0744"),
        ({"data": 3}, "E0744"),
        ({"data": (1, 2)}, "E0744"),
        ({"data": {3: {}}}, "E0741"),
        ({"data": points()}, "E0741"),
        ({"data": {"points": {"trian": points()}}}, "E0505"),
        ({"seed": "a"}, "E0744"),
        ({"seed": 1.5}, "E0744"),
        ({"seed": True}, "E0744"),
        ({"seed": -1}, "E0744"),
        ({"device": 3}, "E0744"),
        ({"plan": {"points": {}}}, "E0744"),
        ({"run": True}, "E0744"),
        ({"on_event": print}, "E0744"),
        ({"data": {"points": {"x": [[0.0, 0.0]], "y": [0]}}}, "E0520"),
    ],
)
def test_what_cannot_be_trained_is_an_error(
    arguments: dict[str, Any], code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fml.FmlError) as caught:
        fml.loads(CLASSIFIER).train(**{"data": {"points": points()}, "run": "r", **arguments})
    assert codes(caught) == [code]
    assert not [*tmp_path.glob("runs/*")]


def test_predictions_begin_with_columns(line: fml.Program) -> None:
    run = line.train()
    predicted = run.predict({"t": np.array([0.0, 1.0])})
    assert [*predicted] == ["prediction"]
    assert_allclose(predicted["prediction"], [-1, 2], atol=0.05)
    with pytest.raises(fml.FmlError) as caught:
        run.predict({"s": np.array([0.0])})
    assert codes(caught) == ["E0502"]


def test_a_plan_with_two_models_asks_which() -> None:
    text = CLASSIFIER.replace("logits = m(x)", "k = net()\n  logits = m(x) + k(x)")
    run = fml.loads(text).train(data={"points": points()}, rounds="1 epoch")
    assert set(run.models) == {"m", "k"}
    with pytest.raises(fml.FmlError) as caught:
        _ = run.model
    assert codes(caught) == ["E0742"]
    assert 'run.models["k"]' in caught.value.diagnostics[0].help


def test_visualize_draws_every_graph(tmp_path: Path) -> None:
    program = fml.loads(CLASSIFIER)
    for graph in GRAPHS:
        program.visualize(tmp_path / f"{graph}.dot", graph=graph, width=9)
        assert "9]" in (tmp_path / f"{graph}.dot").read_text()
    with pytest.raises(fml.FmlError) as caught:
        program.visualize(tmp_path / "x.dot", graph="stepp")  # pyright: ignore
    assert codes(caught) == ["E0734"]
    without = fml.loads("train { state k: f32 ~ zeros\n k <- k + 1\n stop after 3 steps }")
    with pytest.raises(fml.FmlError) as caught:
        without.visualize(tmp_path / "x.dot", graph="model")
    assert codes(caught) == ["E0735"]


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.fml").write_bytes(b"# caf\xe9\noption \xe9 = 1\n")
    for path in (tmp_path, tmp_path / "absent.fml"):
        with pytest.raises(fml.FmlError) as caught:
            fml.load(path)
        assert codes(caught) == ["E0733"]
    with pytest.raises(fml.FmlError) as caught:
        fml.load(tmp_path / "latin.fml")
    assert caught.value.diagnostics[0].code.startswith("E01")


@pytest.mark.parametrize(
    ("function", "argument", "way_out"),
    [
        (fml.load, 3, "fml.loads(text)"),
        (fml.load, CLASSIFIER, "fml.loads(text)"),
        (fml.load, "a\0b", "fml.loads(text)"),
        (fml.loads, 3, "fml.load(path)"),
        (fml.loads, b"train {}", "fml.load(path)"),
        (fml.loads, "model.fml", 'fml.load("model.fml")'),
        (fml.open_run, 3, "fml.open_run("),
        (fml.resume, None, "fml.resume("),
    ],
)
def test_what_is_no_path_or_text_gets_the_way_out(
    function: Any, argument: object, way_out: str
) -> None:
    with pytest.raises(fml.FmlError) as caught:
        function(argument)
    assert codes(caught) == ["E0744"]
    assert way_out in caught.value.diagnostics[0].help


def test_every_way_to_a_plan_checks_what_it_is_handed() -> None:
    program = fml.loads(CLASSIFIER)
    way: Any
    for way in (program.summary, program.dry_run, program.visualize):
        for arguments in ({"plan": 3}, {"options": 3}):
            with pytest.raises(fml.FmlError) as caught:
                way(**arguments)
            assert codes(caught) == ["E0744"]
    with pytest.raises(fml.FmlError, match="`max_depth` must be a whole number of at least 1"):
        program.visualize(max_depth=0)


def test_an_error_as_text_has_its_notes_and_the_way_out() -> None:
    with pytest.raises(fml.FmlError) as caught:
        fml.loads(CLASSIFIER).train(learning_rate=1, lr=None)
    assert str(caught.value) == (
        "E0405: `lr` takes a number in 0.001 .. 10, found None (<text>:1:1)\n"
        "  help: for instance the default, `lr=0.5`\n"
        "E0405: there is no option `learning_rate`\n"
        "  help: the options are lr, width, rounds"
    )


@pytest.mark.parametrize(
    ("method", "argument", "words"),
    [
        ("profile", {"cores": 2}, "`cores` is an argument of `Program.train`"),
        ("train", {"seconds": 2}, "`seconds` is an argument of `Program.profile`"),
    ],
)
def test_the_argument_of_another_method_is_no_option_that_is_nearly_meant(
    method: str, argument: dict[str, int], words: str
) -> None:
    with pytest.raises(fml.FmlError, match=words) as caught:
        getattr(fml.loads(CLASSIFIER), method)(**argument)
    assert codes(caught) == ["E0405"]
    assert "did you mean" not in str(caught.value)


def test_fields_without_their_data_set_are_told_where_they_belong() -> None:
    with pytest.raises(fml.FmlError, match=r'data=."points": ."x": \.\.\., "y"'):
        fml.loads(CLASSIFIER).train(data=points())


def test_names_that_are_not_there_get_near_ones(trained: fml.Run) -> None:
    program = fml.loads(CLASSIFIER)
    for things, wrong, right in (
        (trained.metrics, "trian.loss", "train.loss"),
        (trained.figures, "train.los", "train.loss"),
        (trained.models, "n", "m"),
        (trained.model.parameters, "m.dense_0.w", "m.dense_0.W"),
        (program.options, "lrr", "lr"),
    ):
        assert wrong not in things
        assert things.get(wrong) is None
        with pytest.raises(KeyError, match=right):
            things[wrong]


def test_options_are_printed_as_the_file_has_them() -> None:
    assert repr(fml.loads(CLASSIFIER).options) == (
        "option lr = 0.5 in 0.001 .. 10  ## learning rate\n"
        "option width = 4  ## hidden units\n"
        "option rounds = 3 epochs  ## how long"
    )
    assert repr(fml.loads("train { stop after 1 step }").options) == "no options"


def test_predictions_take_data_frames_and_no_arrays(line: fml.Program) -> None:
    class Frame:
        def keys(self) -> list[str]:
            return ["t"]

        def __getitem__(self, name: str) -> object:
            return {"t": [0.0, 1.0]}[name]

    run = line.train()
    frame: Any = Frame()
    assert_array_equal(run.predict(frame)["prediction"], run.predict({"t": [0, 1]})["prediction"])
    rows: Any
    for rows in (3, np.zeros((2, 1))):
        with pytest.raises(fml.FmlError) as caught:
            run.predict(rows)
        assert codes(caught) == ["E0744"]


def test_a_notebook_shows_the_picture_that_visualize_returns(tmp_path: Path) -> None:
    picture = fml.loads(CLASSIFIER).visualize(graph="model")
    assert picture.dot.startswith("digraph")
    assert repr(picture) == "Picture(title='<text> · plan main · model')"
    assert [*tmp_path.iterdir()] == []
    svg = picture._repr_svg_()  # pyright: ignore[reportPrivateUsage]
    assert svg.startswith("<svg")
    assert "dense_0" in svg
