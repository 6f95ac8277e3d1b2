"""Data sets from text, for the tests."""

from pathlib import Path

from fml.dsl import ast
from fml.dsl.elaborate.session import Session
from fml.dsl.modules import load_module
from fml.dsl.program import lower_dataset
from fml.dsl.values import DataValue
from fml.engine.ir.diagnostics import Diagnostic, FmlError
from fml.engine.ir.source import Source
from fml.engine.ir.training import Dataset
from fml.engine.sources.load import LoadedData, load

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def dataset(text: str) -> Dataset:
    """Lower the first data set of a text."""
    module, _ = load_module(Source("test.fml", text), Path())
    declaration = next(d for d in module.file.declarations if isinstance(d, ast.Data))
    session = Session(module, {})
    made = lower_dataset(session, DataValue(declaration, module))
    assert not session.diagnostics
    return made


def loaded(text: str, given: object = None, base: Path = EXAMPLES) -> LoadedData:
    """Read the data set of a text."""
    return load(dataset(text), given, base)


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
