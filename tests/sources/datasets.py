"""Data sets from text, for the tests."""

from pathlib import Path

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.modules import load_module
from fml.dsl.program import lower_dataset
from fml.dsl.values import DataValue
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.source import Source
from fml.engine.ir.training import Dataset
from fml.engine.ops.record import Array
from fml.engine.runtime.section import Section
from fml.engine.runtime.variables import VariableStore
from fml.engine.sources.load import LoadedData, load

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def dataset(text: str) -> Dataset:
    """Lower the first data set of a text."""
    module = load_module(Source("test.fml", text), Path()).module
    declaration = next(d for d in module.file.declarations if isinstance(d, ast.Data))
    session = Session(module, {})
    made = lower_dataset(session, DataValue(declaration, module))
    assert not session.diagnostics
    return made


def loaded(text: str, given: object = None, base: Path = EXAMPLES) -> LoadedData:
    """Read the data set of a text."""
    return load(dataset(text), given, base)


def fields_of(data: LoadedData, split: str = "train") -> dict[str, Array]:
    """All fields of a split, those that are computed batch by batch too."""
    samples = {name: values[:] for name, values in data.splits[split].items()}
    if data.late is None:
        return samples
    count = len(next(iter(samples.values())))
    backend = NumpyBackend()
    section = Section(data.late, {"N": count}, backend, VariableStore({}, backend))
    section.feed({(source, field): samples.pop(field) for _, source, field in section.fed})
    section.run()
    return {**samples, **{name: section.result(name) for name in data.late.outputs}}


def fault(text: str, given: object = None, base: Path = EXAMPLES) -> Diagnostic:
    """Return what reading the data set of a text complains about."""
    try:
        loaded(text, given, base)
    except FmlError as found:
        (diagnostic,) = found.diagnostics
        return diagnostic
    raise AssertionError("nothing was found")


def words(diagnostic: Diagnostic) -> str:
    """All that a diagnostic says."""
    return "\n".join([diagnostic.message, *diagnostic.notes, diagnostic.help])
