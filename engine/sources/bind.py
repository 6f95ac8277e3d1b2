"""A plan meets its data: fields that are computed batch by batch become nodes of its graphs."""

from collections.abc import Mapping
from dataclasses import replace

from fml.engine.ir.graph import Graph
from fml.engine.ir.training import Feed, Training
from fml.engine.passes.read_fields import ReadFields
from fml.engine.runtime.feeding import Data
from fml.engine.sources.load import LoadedData


def bind(training: Training, data: Mapping[str, LoadedData]) -> tuple[Training, Data]:
    """Return the plan as it reads these data in the form they are held in, and their splits."""
    splits = {name: loaded.splits for name, loaded in data.items()}
    graphs = {name: loaded.late for name, loaded in data.items() if loaded.late is not None}
    if not graphs:
        return training, splits
    read = ReadFields(graphs)
    return replace(
        training,
        step=read.run(training.step),
        measures=tuple(replace(m, graph=read.run(m.graph)) for m in training.measures),
        feeds=tuple(_fed(feed, graphs.get(feed.data)) for feed in training.feeds),
    ), splits


def _fed(feed: Feed, late: Graph | None) -> Feed:
    """The feed with the columns in the place of fields that are computed from them."""
    if late is None:
        return feed
    fields = [name for name in feed.fields if name not in late.outputs]
    behind = late.ancestors(late.outputs[name] for name in feed.fields if name in late.outputs)
    columns = [str(n.attributes["field"]) for n in late.of_op("feed") if n.id in behind]
    return replace(feed, fields=tuple(dict.fromkeys([*fields, *columns])))
