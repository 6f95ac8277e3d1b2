"""A plan computes what its graph computes, and no byte is overwritten before its last reader."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from fml.engine.backends.null import NullBackend
from fml.engine.ir.graph import Graph
from fml.engine.ir.text import read
from fml.engine.ir.training import Role, Variable
from fml.engine.ops.record import Array
from fml.engine.ops.table import OPS
from fml.engine.passes.specialise import Specialise
from fml.engine.plan.memory import ALIGNMENT
from fml.engine.plan.planner import lay_out, make_plan
from fml.engine.plan.task import Plan, Region, Space
from fml.engine.runtime.executor import Executable
from fml.engine.runtime.variables import VariableStore
from tests.backends import current_backend, on_each_backend
from tests.engine.evaluate import evaluate
from tests.passes.graphs import SIZES, RandomGraph

Content = object  # what a byte holds: a node's number, or (number, "old") for what is put aside


def variables_of(graph: Graph) -> dict[str, Variable]:
    types = {str(node.attributes["name"]): node.type for node in graph.of_op("variable")}
    return {name: Variable(name, one, Role.PARAM) for name, one in types.items()}


def planned(seed: int) -> tuple[RandomGraph, Graph, Plan]:
    made = RandomGraph(seed, nodes=40)
    graph = Specialise(SIZES).run(made.graph)
    works = current_backend().compile(graph).works
    return made, graph, make_plan(graph, lay_out(variables_of(graph).values()), works)


# --- memory, byte by byte ------------------------------------------------------------------------


class Bytes:
    """Which value each byte holds, told by following the tasks; knows nothing of live ranges."""

    def __init__(self) -> None:
        self.held: dict[tuple[Space, int], Content] = {}

    def write(self, region: Region, content: Content) -> None:
        for byte in range(region.offset, region.offset + region.nbytes):
            self.held[region.space, byte] = content

    def lost(self, region: Region, content: Content) -> bool:
        """Whether a region does not hold a value whole."""
        held = (self.held.get((region.space, region.offset + n)) for n in range(region.nbytes))
        return any(one != content for one in held)


def faults(plan: Plan) -> list[str]:
    """Follow a plan; every value that a reader, or the end, does not find."""
    graph, memory, found = plan.graph, Bytes(), []
    for number, region in {**plan.inputs, **plan.constants}.items():
        memory.write(region, number)
    for task in plan.tasks:
        if task.work is None:
            if is_lost(graph, memory, task.value, task.reads[0]):
                found.append(f"%{task.value} is put aside too late")
            memory.write(task.writes[0], (task.value, "old"))
            continue
        guard = () if task.work.guard is None else (task.work.guard,)
        for value, region in zip((*task.work.inputs, *guard), task.touched, strict=True):
            if is_lost(graph, memory, value, region):
                found.append(f"%{task.value} does not find %{value}")
        for region in task.scratch:
            memory.write(region, "nothing")
        for value, region in zip(task.work.results, task.writes, strict=True):
            memory.write(region, value)
    for name, value in graph.outputs.items():
        if is_lost(graph, memory, value, plan.outputs[name]):
            found.append(f"output {name} does not find %{value}")
    return found


def is_lost(graph: Graph, memory: Bytes, value: int, region: Region) -> bool:
    # The first value of a variable is in its place as long as nothing was written there.
    own = None if graph[value].op == "variable" else value
    return memory.lost(region, own) and memory.lost(region, (value, "old"))


@on_each_backend
@pytest.mark.parametrize("seed", range(60))
def test_every_reader_finds_what_was_written_for_it(seed: int) -> None:
    _, _, plan = planned(seed)
    assert faults(plan) == []
    for region in [
        *plan.inputs.values(),
        *(region for task in plan.tasks for region in task.changed),
    ]:
        assert region.offset % ALIGNMENT == 0
        if region.space is Space.ARENA:
            assert region.offset + region.nbytes <= plan.arena


def test_the_arena_is_much_smaller_than_all_values_together() -> None:
    for seed in range(20):
        _, graph, plan = planned(seed)
        places = {
            *plan.inputs.values(),
            *(region for task in plan.tasks for region in task.changed),
        }
        values = len(graph) - len(plan.constants) - 2  # the variable and its assignment
        assert plan.peak <= plan.arena < 0.7 * values * ALIGNMENT
        assert len(places) < 0.7 * values


def test_a_value_moved_onto_another_is_noticed() -> None:
    """The check above can fail: most misplaced values are found."""
    rng, noticed = random.Random(0), 0
    for seed in range(60):
        _, _, plan = planned(seed)
        moved = [n for n, t in enumerate(plan.tasks) if t.writes[0].space is Space.ARENA]
        n = rng.choice(moved)
        elsewhere = plan.tasks[rng.choice(moved)].writes[0].offset
        write = replace(plan.tasks[n].writes[0], offset=elsewhere)
        tasks = (*plan.tasks[:n], replace(plan.tasks[n], writes=(write,)), *plan.tasks[n + 1 :])
        noticed += bool(faults(replace(plan, tasks=tasks)))
    assert noticed > 30


@pytest.mark.parametrize("seed", range(30))
def test_results_take_over_inputs_only_where_the_operation_allows_it(seed: int) -> None:
    _, graph, plan = planned(seed)
    for task in plan.tasks:
        node, (write,) = graph[task.value], task.writes
        for place, region in enumerate(task.reads):
            if region.overlaps(write) and node.op != "assign":
                assert place in OPS[node.op].in_place, node
                assert region == write


def test_in_place_does_happen() -> None:
    shared = [t for seed in range(30) for t in planned(seed)[2].tasks if t.writes[0] in t.reads]
    assert len(shared) > 30


# --- execution -----------------------------------------------------------------------------------


def execute(
    graph: Graph, given: Mapping[str, Array], times: int = 1
) -> tuple[dict[str, Array], VariableStore]:
    backend = current_backend()
    store = VariableStore(variables_of(graph), backend)
    run = Executable(graph, backend, store)
    for _ in range(times):
        store.restore({name: given[name] for name in store.snapshot()})
        for number in run.inputs:
            run.upload(number, np.asarray(given[str(graph[number].attributes["name"])]))
        run.run()
    return {name: run.output(name) for name in graph.outputs}, store


@on_each_backend
@pytest.mark.parametrize("seed", range(60))
def test_a_plan_computes_what_its_graph_computes(seed: int) -> None:
    made, graph, _ = planned(seed)
    results, store = execute(graph, made.given)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, made.given)
    for name, value in expected.items():
        assert_agrees(results[name], value)
    assert_agrees(store["w"], expected["w"])


def assert_agrees(found: Array, expected: Array) -> None:
    """Bit by bit, or for a backend with exponentials and sums of its own up to rounding."""
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    rounding = 0.0 if current_backend().name == "numpy" else 2e-6
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=rounding)


@on_each_backend
@pytest.mark.parametrize("seed", range(10))
def test_a_second_run_finds_nothing_of_the_first(seed: int) -> None:
    made, graph, _ = planned(seed)
    once, _ = execute(graph, made.given)
    again, _ = execute(graph, made.given, times=2)
    for name, value in once.items():
        np.testing.assert_array_equal(again[name], value)


# --- variables: reads are of the value at the start ----------------------------------------------

HEAD = """graph "step"
%0 = variable() {name = "a", role = "param"} : f32
%1 = variable() {name = "b", role = "param"} : f32
%2 = argument() {name = "yes"} : bool
"""
A, B = 2.0, 5.0
VARIABLES = [
    (
        "two variables change places",
        '%3 = assign(%0, %1) {name = "a"} : f32\n%4 = assign(%1, %0) {name = "b"} : f32\n'
        "return first = %3, second = %4",
        {"first": B, "second": A}, (B, A),
    ),
    (
        "an old value is read, and returned, after it was overwritten",
        '%3 = add(%0, %1) : f32\n%4 = assign(%0, %3) {name = "a"} : f32\n'
        "%5 = multiply(%0, %4) : f32\nreturn old = %0, new = %4, product = %5",
        {"old": A, "new": A + B, "product": A * (A + B)}, (A + B, B),
    ),
    (
        "an old value is returned, and much is computed after it was put aside",
        '%3 = negate(%1) : f32\n%4 = assign(%0, %3) {name = "a"} : f32\n'
        "%5 = multiply(%4, %4) : f32\n%6 = add(%5, %1) : f32\n%7 = subtract(%6, %5) : f32\n"
        "return old = %0, square = %5, sum = %6, again = %7",
        {"old": A, "square": B * B, "sum": B * B + B, "again": B}, (-B, B),
    ),
    (
        "assignments one after another",
        '%3 = assign(%0, %1) {name = "a"} : f32\n%4 = add(%3, %0) : f32\n'
        '%5 = assign(%3, %4) {name = "a"} : f32\n%6 = subtract(%5, %3) : f32\n'
        "return first = %3, last = %5, between = %6",
        {"first": B, "last": A + B, "between": A}, (A + B, B),
    ),
    (
        "an assignment whose guard is true",
        '%3 = negate(%0) : f32 when %2\n%4 = assign(%0, %3) {name = "a"} : f32 when %2\n'
        "%5 = add(%4, %0) : f32\nreturn new = %4, sum = %5",
        {"new": -A, "sum": 0.0}, (-A, B),
    ),
    (
        "an assignment whose guard is false",
        '%3 = logical_not(%2) : bool\n%4 = negate(%0) : f32 when %3\n'
        '%5 = assign(%0, %4) {name = "a"} : f32 when %3\n%6 = add(%5, %0) : f32\n'
        "return new = %5, sum = %6",
        {"new": A, "sum": 2 * A}, (A, B),
    ),
    (
        "the second of two is left out",
        '%3 = assign(%0, %1) {name = "a"} : f32\n%4 = logical_not(%2) : bool\n'
        '%5 = exp(%3) : f32 when %4\n%6 = assign(%3, %5) {name = "a"} : f32 when %4\n'
        "%7 = add(%6, %0) : f32\nreturn new = %6, sum = %7",
        {"new": B, "sum": A + B}, (B, B),
    ),
]  # fmt: skip


@on_each_backend
@pytest.mark.parametrize(("what", "text", "results", "after"), VARIABLES)
def test_variables(
    what: str, text: str, results: dict[str, float], after: tuple[float, float]
) -> None:
    given = {"a": np.float32(A), "b": np.float32(B), "yes": np.bool_(True)}
    found, store = execute(read(HEAD + text), given)
    assert {name: float(value) for name, value in found.items()} == results, what
    assert (float(store["a"]), float(store["b"])) == after, what


def test_a_dry_run_does_everything_but_compute() -> None:
    made, graph, _ = planned(3)
    backend = NullBackend()
    store = VariableStore(variables_of(graph), backend)
    store.restore({"w": made.given["w"]})
    Executable(graph, backend, store).run()
    np.testing.assert_array_equal(store["w"], made.given["w"])
