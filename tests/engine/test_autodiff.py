"""Gradients as graph: against jax on whole functions, higher ones, where they stop, learners."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from evaluate import evaluate

from fml.engine.autodiff import expand_gradients
from fml.engine.ir.dims import Dim
from fml.engine.ir.graph import Graph, Phase
from fml.engine.ir.source import Source, Span
from fml.engine.ir.types import BOOL, F32, Element, Label, tensor
from fml.engine.ops.build import Builder, Context, Value
from fml.engine.ops.record import Array
from fml.engine.ops.verify import verify

PLAIN = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
Values = Mapping[str, Value]


def argument(builder: Builder, name: str, *shape: int, mapped: bool = False) -> Value:
    with builder.under(Context(mapped=mapped)):
        return builder.add("argument", tensor(F32, *shape), (), {"name": name})


def total(x: Value) -> Value:
    return x.call("sum", axes=tuple(range(x.type.rank)), keep=False)


def mean_over(x: Value, axis: int) -> Value:
    return x.call("sum", axes=(axis,), keep=True) / float(x.type.sizes[axis])


def cross_entropy(logits: Value, y: Array) -> Value:
    shifted = logits - logits.call("max", axes=(1,), keep=True)
    log_sum = shifted.call("exp").call("sum", axes=(1,), keep=True).call("log")
    with logits.builder.under(Context()):
        kind = tensor(Label(Dim.of(3)), len(y))
        labels = logits.builder.constant(tuple(y.tolist()), kind)
    return -total(labels.call("one_hot", element=F32) * (shifted - log_sum))


LABELS = np.array([0, 2, 1, 2])


def perceptrons(v: Values) -> Value:
    hidden = (v["x"] @ v["w"] + v["b"]).call("tanh")
    return cross_entropy(hidden @ v["u"], LABELS)


def jax_perceptrons(v: Mapping[str, jax.Array]) -> jax.Array:
    logits = jnp.tanh(v["x"] @ v["w"] + v["b"]) @ v["u"]
    return -jnp.sum(jax.nn.one_hot(LABELS, 3) * jax.nn.log_softmax(logits))


def images(v: Values) -> Value:
    features = v["x"].call("conv", v["w"], **PLAIN).call("maximum", 0.0)
    pooled = features.call("max_pool", size=(2, 2), stride=(2, 2), padding=((0, 0), (0, 0)))
    return total(pooled * pooled)


def jax_images(v: Mapping[str, jax.Array]) -> jax.Array:
    features = jax.nn.relu(
        jax.lax.conv_general_dilated(
            v["x"], v["w"], (1, 1), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
    )
    pooled = jax.lax.reduce_window(
        features, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    )
    return jnp.sum(pooled**2)


def normalised(v: Values) -> Value:
    centred = v["x"] - mean_over(v["x"], 1)
    scale = (mean_over(centred * centred, 1) + 1e-5).call("rsqrt")
    return total((centred * scale * v["g"] + v["b"]).call("sigmoid"))


def jax_normalised(v: Mapping[str, jax.Array]) -> jax.Array:
    centred = v["x"] - v["x"].mean(1, keepdims=True)
    scale = jax.lax.rsqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return jax.nn.sigmoid(centred * scale * v["g"] + v["b"]).sum()


FUNCTIONS = [
    pytest.param(
        perceptrons, jax_perceptrons, {"x": (4, 5), "w": (5, 6), "b": (6,), "u": (6, 3)},
        id="perceptrons",
    ),
    pytest.param(images, jax_images, {"x": (2, 4, 6, 2), "w": (3, 3, 2, 3)}, id="images"),
    pytest.param(
        normalised, jax_normalised, {"x": (3, 7), "g": (7,), "b": (7,)}, id="normalised"
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ours", "peer", "sizes"), FUNCTIONS)
def test_gradients_agree_with_jax(
    ours: Callable[[Values], Value],
    peer: Callable[[Mapping[str, jax.Array]], jax.Array],
    sizes: Mapping[str, tuple[int, ...]],
) -> None:
    rng = np.random.default_rng(2)
    arrays = {n: rng.normal(size=s).astype(np.float32) for n, s in sizes.items()}
    builder = Builder("function")
    values = {n: argument(builder, n, *s) for n, s in sizes.items()}
    y = ours(values)
    first = {n: y.call("gradient", v) for n, v in values.items()}
    # The gradient of the squared length of the gradient needs every second derivative.
    length = sum((total(g * g) for g in first.values()), start=builder.constant(0.0, y.type))
    second = {f"{n} again": length.call("gradient", v) for n, v in values.items()}
    graph = expand_gradients(builder.finish({**first, **second}))
    verify(graph)
    got = evaluate(graph, arrays)

    def peer_length(v: Mapping[str, jax.Array]) -> jax.Array:
        return sum(jnp.sum(g**2) for g in jax.grad(peer)(v).values())

    wanted = jax.jit(jax.grad(peer))(arrays)
    wanted |= {f"{n} again": g for n, g in jax.jit(jax.grad(peer_length))(arrays).items()}
    assert got.keys() == wanted.keys()
    for name, gradient in wanted.items():
        np.testing.assert_allclose(got[name], gradient, rtol=2e-3, atol=1e-4, err_msg=name)


def run(builder: Builder, outputs: Mapping[str, Value], **given: object) -> dict[str, Array]:
    graph = expand_gradients(builder.finish(outputs))
    verify(graph)
    assert not graph.of_op("gradient")
    learners = int(str(given.pop("learners", 1)))
    return evaluate(graph, {n: np.asarray(a) for n, a in given.items()}, learners=learners)


def test_a_value_used_twice_gets_both_gradients() -> None:
    builder = Builder("shared")
    x = argument(builder, "x")
    square = x * x
    y = square * square + square
    assert float(run(builder, {"g": y.call("gradient", x)}, x=3.0)["g"]) == 4 * 27 + 6


def test_gradients_stop_where_they_must() -> None:
    builder = Builder("stops")
    x = argument(builder, "x")
    w = builder.add("variable", tensor(F32), (), {"name": "w", "role": "state"})
    assigned = w.call("assign", x * 2.0, name="w")
    whole = x.call("cast", element=Element.I32).call("cast", element=F32)
    cases = {
        "stop_gradient": x.call("stop_gradient") * x,
        "assign": assigned * x,
        "integer": whole * x,
        "boolean": x.call("greater", 0.0).call("select", x, x.beside(0.0)),
    }
    slopes = {n: y.call("gradient", x) for n, y in cases.items()}
    got = run(builder, slopes, x=3.0, w=5.0)
    assert {n: float(g) for n, g in got.items()} == {
        "stop_gradient": 3, "assign": 6, "integer": 3, "boolean": 1,
    }  # fmt: skip


def test_what_is_not_reached_has_gradient_0() -> None:
    builder = Builder("unreached")
    x, z = argument(builder, "x"), argument(builder, "z", 2)
    y = x * x
    later = argument(builder, "later", 3)
    outputs = {"z": y.call("gradient", z), "later": y.call("gradient", later)}
    got = run(builder, outputs, x=1.0, z=[1, 2], later=[1, 2, 3])
    assert {n: g.tolist() for n, g in got.items()} == {"z": [0, 0], "later": [0, 0, 0]}


def test_the_gradient_of_a_scalar_for_itself_is_1() -> None:
    builder = Builder("itself")
    x = argument(builder, "x")
    assert float(run(builder, {"g": x.call("gradient", x)}, x=4.0)["g"]) == 1


def test_a_value_between_has_a_gradient_and_lets_it_through() -> None:
    builder = Builder("between")
    x = argument(builder, "x")
    middle = x * 3.0
    y = middle * middle
    got = run(builder, {"x": y.call("gradient", x), "m": y.call("gradient", middle)}, x=2.0)
    assert (float(got["x"]), float(got["m"])) == (36, 12)


def count(graph: Graph, op: str) -> int:
    return len(graph.of_op(op))


def test_gradients_of_one_scalar_share_one_sweep() -> None:
    builder = Builder("sweep")
    x, w = argument(builder, "x", 2, 2), argument(builder, "w", 2, 2)
    y = total((x @ w).call("exp"))
    both = builder.finish({"x": y.call("gradient", x), "w": y.call("gradient", w)})
    # One seed, and one matrix product each besides the one that is there.
    assert count(expand_gradients(both), "matmul") == 3
    assert count(expand_gradients(both), "broadcast") == 1


def test_no_node_is_left_that_nothing_reads() -> None:
    builder = Builder("dead")
    x, w = argument(builder, "x", 2, 2), argument(builder, "w", 2, 2)
    graph = expand_gradients(builder.finish({"w": total(x @ w).call("gradient", w)}))
    backward = [node for node in graph if node.phase is Phase.BACKWARD]
    assert all(graph.users(n.id) or n.id in graph.outputs.values() for n in backward)


def test_backward_nodes_belong_where_the_forward_node_does() -> None:
    builder = Builder("marks")
    span = Span(Source("m.fml", "exp(x)"), 1, 1, 1, 7)
    x = argument(builder, "x")
    due = builder.add("fires", tensor(BOOL), (), {"name": "due"})
    for phase in (Phase.FORWARD, Phase.UPDATE):
        with builder.under(Context(scope="net.a", phase=phase, guard=due.id), span):
            y = x.call("exp")
            slope = y.call("gradient", x)
        graph = expand_gradients(builder.finish({"g": slope}))
        product = graph[graph.outputs["g"]]
        wanted = Phase.BACKWARD if phase is Phase.FORWARD else phase
        assert product.op == "multiply"
        assert (product.scope, product.phase, product.span) == ("net.a", wanted, span)
        assert product.guard is not None
        assert graph[product.guard].op == "fires"


def test_a_graph_without_gradients_is_left_alone() -> None:
    builder = Builder("plain")
    graph = builder.finish({"y": argument(builder, "x").call("exp")})
    assert expand_gradients(graph) is graph


K, RNG = 3, np.random.default_rng(9)


def test_learners_gradients_for_what_they_share_add_up() -> None:
    """Data parallelism: the mean of the learners' losses has the mean of their gradients."""
    builder = Builder("parallel")
    w = argument(builder, "w", 2)
    x = argument(builder, "x", 2, mapped=True)
    loss = total((w * x).call("tanh")).call("learners_reduce", kind="mean")
    inputs = {"w": RNG.normal(size=2), "x": RNG.normal(size=(K, 2))}
    got = run(builder, {"g": loss.call("gradient", w)}, **inputs, learners=K)["g"]
    each = inputs["x"] / np.cosh(inputs["w"] * inputs["x"]) ** 2
    np.testing.assert_allclose(got, each.mean(0), rtol=1e-5)


def test_a_penalty_of_what_learners_share_is_added_once() -> None:
    builder = Builder("penalised")
    w, x = argument(builder, "w"), argument(builder, "x", mapped=True)
    loss = (w * x).call("learners_reduce", kind="mean") + w * w
    got = run(builder, {"g": loss.call("gradient", w)}, w=3.0, x=np.arange(3.0), learners=K)["g"]
    assert got.shape == ()
    np.testing.assert_allclose(got, 1 + 6)


def test_each_learner_has_the_gradient_of_its_own_loss() -> None:
    builder = Builder("own")
    w = argument(builder, "w", 2, mapped=True)
    slope = total(w * w).call("gradient", w)
    inputs = RNG.normal(size=(K, 2))
    np.testing.assert_allclose(
        run(builder, {"g": slope}, w=inputs, learners=K)["g"], 2 * inputs, rtol=1e-6
    )


def test_a_shared_value_counts_once_for_every_learner() -> None:
    """The sum over k learners of z - w has the slope k for z and -1 for each w."""
    builder = Builder("corrections")
    z, w = argument(builder, "z"), argument(builder, "w", mapped=True)
    corrections = (z - w).call("learners_reduce", kind="sum")
    outputs = {"z": corrections.call("gradient", z), "w": corrections.call("gradient", w)}
    got = run(builder, outputs, z=1.0, w=np.arange(3.0), learners=K)
    assert float(got["z"]) == K
    np.testing.assert_array_equal(got["w"], [-1, -1, -1])


def test_each_learner_has_its_own_gradient_for_what_they_share() -> None:
    """Its own loss knows nothing of the others; what joins them is the mean of the losses."""
    builder = Builder("own slopes")
    w, x = argument(builder, "w"), argument(builder, "x", mapped=True)
    loss = (w * w) * x
    got = run(builder, {"g": loss.call("gradient", w)}, w=2.0, x=np.arange(3.0), learners=K)
    np.testing.assert_array_equal(got["g"], [0, 4, 8])


def test_a_learners_own_gradient_does_not_reach_through_the_others() -> None:
    builder = Builder("joined")
    w = argument(builder, "w", mapped=True)
    loss = w - w.call("learners_reduce", kind="mean")
    with pytest.raises(TypeError, match="other learners"):
        run(builder, {"g": loss.call("gradient", w)}, w=np.arange(3.0), learners=K)


def test_a_learners_loss_that_reads_only_shared_values_counts_for_each() -> None:
    builder = Builder("shared loss")
    w = argument(builder, "w")
    with builder.under(Context(mapped=True)):
        loss = (w * 3.0).call("learners_reduce", kind="sum")
    assert float(run(builder, {"g": loss.call("gradient", w)}, w=1.0, learners=K)["g"]) == 3 * K
