"""New samples for a trained model, from any file that the run's own source, or its like, reads."""

from dataclasses import replace
from pathlib import Path

from fml.engine.ir.diagnostics import Diagnostic, FmlError, did_you_mean, error
from fml.engine.ir.training import Dataset
from fml.engine.sources.idx import image_files
from fml.engine.sources.paths import find_file
from fml.engine.sources.read import SOURCES, arguments_of
from fml.engine.sources.table import Arguments, Source, Table

# What a name says of a file's kind; columns are columns, whichever of these they were read from.
_ENDINGS = {
    ".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".npz": "npz", ".npy": "npy",
}  # fmt: skip
_WAYS_OUT = {
    "images": "give an image, or a folder with images",
    "idx": "give a folder of IDX files, or one file of images",
    "text": "give a file of text",
}
_OF_FOLDERS = ("images", "idx")


def read_new(dataset: Dataset, path: Path) -> Table:
    """Read columns of new samples from a file or folder, which need not have their answers.

    It is read as the data set's own source is, or as its ending says: CSV, Parquet or arrays of
    numpy. Where neither tells, it is CSV.

    Raises:
        FmlError: E0501 there is no such file, E0503 it is a folder, or as its source raises.
    """
    source, arguments = _source(dataset, path)
    way_out = _WAYS_OUT.get(source.name, "give the file that the rows are in")
    if not path.exists():
        near = did_you_mean(path.name, (file.name for file in path.parent.glob("*")))
        raise error("E0501", f"`{path}` does not exist", help=near or way_out)
    if path.is_dir() and source.name not in _OF_FOLDERS:
        raise error("E0503", f"`{path}` is a folder", help=way_out)
    try:
        return (source.new or source.read)({**arguments, "path": str(path.absolute())}, path.parent)
    except FmlError as fault:
        raise FmlError(map(_for_new, fault.diagnostics)) from None


def example_of(dataset: Dataset, base: Path) -> Path | None:
    """A file or folder that `read_new` takes: the data of the run; None where there is none.

    Of an IDX folder it is the file of images that the run was not trained on, if there is one.
    """
    path = dataset.arguments.get("path", dataset.arguments.get(0))
    if not isinstance(path, str):
        return None
    try:
        found = find_file(path, base)
    except FmlError:
        return None
    return image_files(found)[-1] if dataset.source == "idx" else found


def _source(dataset: Dataset, path: Path) -> tuple[Source, Arguments]:
    own = SOURCES.get(dataset.source)
    if own is None or all(argument.name != "path" for argument in own.arguments):
        own = SOURCES["csv"]  # samples were made up, or came from Python
    by_ending = next((kind for end, kind in _ENDINGS.items() if path.name.endswith(end)), own.name)
    if own.name == "text" or by_ending == own.name == dataset.source:
        return own, arguments_of(dataset)
    source = SOURCES[by_ending]
    return source, {"header": True} if source.name == "csv" else {}


def _for_new(fault: Diagnostic) -> Diagnostic:
    """A run's declaration is as it is: only the file can be changed."""
    if fault.code != "E0513":
        return fault
    return replace(fault, help="write the names of the columns above the samples")
