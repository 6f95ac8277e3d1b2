"""What `fml summary` says, against numbers worked out by hand."""

from pathlib import Path

import pytest

import fml
from fml.engine.summary import quantity
from tests.api.programs import CLASSIFIER, LINE, line_csv


def test_a_dense_network_by_hand() -> None:
    summary = fml.loads(CLASSIFIER).summary(width=16)
    layers = {layer.scope: layer for layer in summary.layers}
    first, last = layers["m.dense_0"], layers["m.dense_1"]
    assert summary.sizes == {"N": 8}
    assert (first.parameters, last.parameters) == (2 * 16 + 16, 16 * 3 + 3)
    # A product of [8, k] and [k, u] takes 2 * 8 * k * u operations, and its bias 8 * u.
    assert first.flops == 2 * 8 * 2 * 16 + 8 * 16
    assert last.flops == 2 * 8 * 16 * 3 + 8 * 3
    # Both the product and the sum with the bias are values of 4 bytes an entry.
    assert first.nbytes == 2 * 8 * 16 * 4
    assert str(first.output) == "f32[N, 16]"
    assert str(last.output) == "f32[N, 3]"
    assert summary.parameters == summary.trained == 48 + 51
    assert summary.forward_flops == sum(layer.flops for layer in summary.layers)
    # Behind the forward pass come two products for each layer's gradients, the first one's input
    # left out.
    products = 2 * 8 * (2 * 16 * 2 + 16 * 3 * 3)
    assert summary.step_flops > products
    assert summary.variables_nbytes >= 4 * summary.parameters


def test_a_gradient_that_is_taken_elsewhere_is_no_forward_pass() -> None:
    text = """
        data d = given {{ x: f32[4]; y: f32[3] }}
        model linear(x: f32[N, D]) -> f32[N, 3] {{ param W: f32[D, 3] ~ zeros; x @ W }}
        train {{ net = linear(); feed x, y from d.train |> batch(2)
          minimize loss = sum((net(x) - y)^2); using {}(0.1); stop after 1 epoch }}
    """
    plain = fml.loads(text.format("momentum")).summary()
    ahead = fml.loads(text.format("nesterov")).summary()
    # A product of [2, 4] and [4, 3]; then differences, squares and their sum, 6 of each.
    assert ahead.layers == plain.layers
    assert [layer.flops for layer in ahead.layers] == [2 * 2 * 4 * 3, 6 + 6 + 6]
    assert [layer.nbytes for layer in ahead.layers] == [4 * 6, 4 * (6 + 6 + 1)]
    assert ahead.parameters == 4 * 3
    assert ahead.forward_flops == plain.forward_flops == 48 + 18
    # Ahead, at w - βm, which is 12 more differences, the product and the differences come again.
    assert ahead.step_flops == plain.step_flops + 12 + 48 + 6
    assert ahead.operations == plain.operations + 3


def test_a_step_by_hand() -> None:
    text = """
        data d = given { x: f32[4]; y: f32[3] }
        model linear(x: f32[N, D]) -> f32[N, 3] { param W: f32[D, 3] ~ zeros; x @ W }
        train { net = linear(); feed x, y from d.train |> batch(2)
          minimize loss = sum((net(x) - y) * stop_gradient(y)); using sgd(0.1); stop after 1 epoch }
    """
    summary = fml.loads(text).summary()
    # Forward: a product of [2, 4] and [4, 3], differences, products, their sum. Backward: 1 at
    # every place times y, and the product with x transposed, [4, 2] and [2, 3]. Update: rate * g,
    # and W less it, which is assigned.
    assert summary.step_flops == (48 + 6 + 6 + 6) + (6 + 2 * 4 * 2 * 3) + (12 + 12)
    assert summary.operations == 4 + 4 + 3


def test_shared_parameters_count_once_and_their_work_twice() -> None:
    text = """
        data d = given { x: f32[4]; y: f32[4] }
        model twice(x: f32[N, 4]) -> f32[N, 4] {
          shared = dense(4)
          x |> shared |> shared
        }
        train { m = twice(); feed x, y from d.train |> batch(2)
          minimize loss = mean((m(x) - y)^2); using sgd(0.1); stop after 1 epoch }
    """
    summary = fml.loads(text).summary()
    (layer,) = (layer for layer in summary.layers if layer.scope.endswith("shared"))
    assert layer.parameters == summary.parameters == 4 * 4 + 4
    assert layer.flops == 2 * (2 * 2 * 4 * 4 + 2 * 4)


def test_a_whole_split_is_counted_where_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Path("line.fml").write_text(LINE)
    program = fml.load("line.fml")
    assert program.summary().sizes == {"N": 1}
    Path("line.csv").write_text(line_csv(30))
    assert program.summary().sizes == {"N": 30}


def test_frozen_parameters_are_told_apart() -> None:
    text = """
        data d = given { x: f32[2]; y: f32 }
        model m(x: f32[N, D]) -> f32[N] {
          param w: f32[D] ~ ones where frozen
          param b: f32 ~ zeros
          x @ w + b
        }
        train { n = m(); feed x, y from d.train |> batch(2)
          minimize loss = mean((n(x) - y)^2); using sgd(0.1); stop after 1 epoch }
    """
    summary = fml.loads(text).summary()
    assert (summary.parameters, summary.trained) == (3, 1)


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (8, "layer"),
        (34, "layer output"),
        (48, "layer output parameters"),
        (80, "layer output parameters flops activations"),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_and_whole_names(columns: int, headings: str) -> None:
    head, _, *rows = fml.loads(CLASSIFIER).summary().text(columns).splitlines()
    assert head.split() == headings.split()
    assert [row.split()[0] for row in rows[:2]] == ["m.dense_0", "m"]


def test_a_summary_is_printed_as_the_command_prints_it() -> None:
    summary = fml.loads(CLASSIFIER).summary()
    assert repr(summary) == str(summary) == summary.text()
    assert "27 parameters" in repr(summary)


def test_a_gradient_penalty_has_a_summary_though_its_batch_has_no_size_yet() -> None:
    text = """
        data d = given { x: f32[2]; y: f32 }
        model m(x: f32[N, D]) -> f32[N] = x |> dense(1) |> flatten |> sum(over = 1)
        train { n = m(); feed x, y from d.train |> batch(2)
          minimize loss = mse(n(x), y) + mean(grad(sum(n(x)), x)^2)
          using sgd(0.1); stop after 1 epoch }
    """
    assert fml.loads(text).summary().parameters == 3


@pytest.mark.parametrize(
    ("number", "base", "unit", "words"),
    [
        (0, 1000, "flop", "0 flop"),
        (999, 1000, "flop", "999 flop"),
        (1000, 1000, "flop", "1 kflop"),
        (1_234_567, 1000, "", "1.23 M"),
        (1023, 1024, "B", "1,023 B"),
        (1536, 1024, "B", "1.5 KiB"),
        (5 * 1024**3, 1024, "B", "5 GiB"),
    ],
)
def test_quantities_have_three_digits_and_a_prefix(
    number: int, base: int, unit: str, words: str
) -> None:
    assert quantity(number, base, unit) == words


def test_a_narrow_table_without_costs_is_not_said_to_add_them_up() -> None:
    summary = fml.loads(CLASSIFIER).summary()
    assert "one forward pass (the table): " in summary.text()
    narrow = summary.text(40)
    assert "flops" not in narrow
    assert "one forward pass: " in narrow


def test_a_plan_with_learners_is_told_to_be_counted_with_one() -> None:
    alone = fml.loads(CLASSIFIER).summary()
    feed = "  feed x, y"
    learners = f"  learners 3 per device by sync_sgd()\n{feed}"
    together = fml.loads(CLASSIFIER.replace(feed, learners)).summary()
    assert together.parameters == alone.parameters
    assert together.layers[:-1] == alone.layers[:-1]  # behind them comes the mean over learners
    assert "with one learner: `fml plan`" in repr(together)
    assert "learner" not in repr(alone)
