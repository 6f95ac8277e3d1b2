"""First values of a training's variables: those of the central ones, and of each learner."""

from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from fml.engine.backends.interface import Backend
from fml.engine.ir.graph import Graph, GraphBuilder, Node
from fml.engine.ir.training import DEVICES, LEARNERS, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.section import Moment, Section
from fml.engine.runtime.variables import VariableStore

# What is another value for every learner.
_OWN = {"random_key", "learners_index"}


def new_store(
    training: Training, backend: Backend, seed: int, sizes: Mapping[str, int]
) -> VariableStore:
    """Make the variables of a training and give each its first value."""
    learners, devices = sizes.get(str(LEARNERS), 1), sizes.get(str(DEVICES), 1)
    staleness = training.learners.staleness if training.learners else 0
    store = VariableStore(training.variables, backend, learners, devices, staleness)
    store.restore(first_values(training, backend, store, seed, sizes))
    return store


def first_values(
    training: Training,
    backend: Backend,
    store: VariableStore,
    seed: int,
    sizes: Mapping[str, int],
) -> dict[str, Array]:
    """Compute what each variable begins with, and leave the variables as they are.

    A replica begins with the value of its central variable. Another variable of learners has one
    first value for all of them, unless it is drawn or depends on their number: then each has its
    own, along the first axis.
    """
    variables, init = training.variables, training.init
    drawn = {n for n in init.outputs if variables[n].mapped and _is_own(init, n)}

    def computed(names: Set[str], learners: int) -> list[dict[str, Array]]:
        section = Section(_of_one_learner(init, names), sizes, backend, store)
        found: list[dict[str, Array]] = []
        for learner in range(learners):
            section.provide(Moment(-1, 1, 1, seed, learner))
            section.run()
            found.append({name: section.result(name) for name in section.graph.outputs})
        return found

    (values,) = computed(init.outputs.keys() - drawn, 1)
    if drawn:
        each = computed(drawn, store.learners)
        values |= {name: np.stack([own[name] for own in each]) for name in drawn}
    replicas = {n: v.replica_of for n, v in variables.items() if v.replica_of is not None}
    return values | {name: values[central] for name, central in replicas.items()}


def _is_own(init: Graph, name: str) -> bool:
    return any(init[number].op in _OWN for number in init.ancestors([init.outputs[name]]))


def _of_one_learner(init: Graph, names: Set[str]) -> Graph:
    """The graph of some first values as one learner computes them, without the axis of learners."""
    outputs = {name: number for name, number in init.outputs.items() if name in names}
    wanted = Graph(init.name, init, outputs).restricted_to(outputs.values())

    def kept(node: Node, builder: GraphBuilder) -> int:
        return builder.keep(replace(node, mapped=False))

    return wanted.rewrite(kept)


def restart(
    store: VariableStore, training: Training, first: Mapping[str, Array], learner: int
) -> None:
    """Set a learner's replicas to the central model, and all else that it has to `first` values."""
    for name, variable in training.variables.items():
        if not variable.mapped:
            continue
        value = store[name]
        if variable.replica_of is not None:
            value[learner] = store[variable.replica_of]
        else:
            value[learner] = np.broadcast_to(first[name], value.shape)[learner]
        store[name] = value
