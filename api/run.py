"""What training leaves: models to apply, figures, and a folder if it was kept."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from fml.checks import as_cores, as_data, as_listener, as_path, as_streams
from fml.engine.ir.diagnostics import Diagnostic, error
from fml.engine.ir.foreign import as_mapping
from fml.engine.ir.training import Training
from fml.engine.ops.record import Array
from fml.engine.runtime.outcome import Outcome
from fml.engine.sources.load import LoadedData
from fml.metrics import Metrics, metrics_of
from fml.model import Model, read_only
from fml.named import Named

if TYPE_CHECKING:
    from fml.engine.runtime.watch import Listener
    from fml.program import Program


def open_run(path: str | Path) -> "Run":
    """Open the folder of a run, `runs/...`.

    A run that was killed has the parameters of its last checkpoint, and no final figures.

    Raises:
        FmlError: E0706, E0707 and E0710, it is not the folder of a run, or is damaged.
    """
    from fml.engine.runtime.run_folder import RunFolder
    from fml.keeping import encodings_of, outcome_of, reopen

    found = as_path(path, "the folder of a run", 'fml.open_run("runs/...")')
    kept = reopen(RunFolder.open(found))
    data, outcome = encodings_of(kept), outcome_of(kept.folder)
    return Run(kept.program, kept.training, data, outcome, kept.folder.path)


def resume(
    path: str | Path,
    data: Mapping[str, object] | None = None,
    *,
    on_event: "Listener | None" = None,
    cores: int | None = None,
    streams: int | None = None,
) -> "Run":
    """Go on with a run that was interrupted or killed, from its last checkpoint, to its end.

    What comes of it has the bits of a run that was never stopped; one that was killed before its
    first checkpoint is begun again. `data` are arrays for `given` data, as `Program.train` takes
    them, and the same as before; `cores` and `streams` need not be.

    Raises:
        FmlError: E0706, E0707 and E0710, the folder is not that of a run, or is damaged; E0708,
            another process trains it; E0711, the data have changed; E0712, the run has ended.
    """
    from fml import training

    folder = as_path(path, "the folder of a run", 'fml.resume("runs/...")')
    listener = as_listener(on_event)
    return training.resume(
        folder,
        as_data(data),
        lambda _: listener,
        as_cores(cores),
        None if streams is None else as_streams(streams),
    )


class Run:
    """What training came to: `run.model(x)`, `run.metrics`, `run.figures`, `run.save(path)`."""

    def __init__(
        self,
        program: "Program",
        training: Training,
        data: Mapping[str, LoadedData],
        outcome: Outcome,
        folder: Path | None = None,
    ) -> None:
        """Made by `Program.train` and `fml.open_run`; `data` may come without its splits."""
        self.program = program
        self.training = training
        self.data = data
        self.folder = folder
        self._outcome = outcome

    @cached_property
    def models(self) -> Mapping[str, Model]:
        """The models of the plan by name."""
        values = self._outcome.variables
        made = (Model(lowered, self.training, values) for lowered in self.training.models)
        return Named("model", ((model.name, model) for model in made))

    @property
    def model(self) -> Model:
        """The only model of the plan.

        Raises:
            FmlError: E0742, the plan has none, or several.
        """
        if len(self.models) != 1:
            choices = ", ".join(f'`run.models["{name}"]`' for name in self.models)
            message = "has several models" if self.models else "has no model"
            none = "declare a `model`, and make it in the plan: `net = mlp(3)`"
            raise error(
                "E0742", f"this plan {message}", help=f"take {choices}" if choices else none
            )
        return next(iter(self.models.values()))

    @property
    def variables(self) -> Mapping[str, Array]:
        """All that the plan's graphs remember, by path, read-only: optimizers' slots as well."""
        values = self._outcome.variables
        return Named("variable", ((name, read_only(value)) for name, value in values.items()))

    @cached_property
    def metrics(self) -> Metrics:
        """The figures that were recorded, by series: `run.metrics["valid.loss"].values`."""
        return metrics_of(self._outcome.history)

    @property
    def figures(self) -> Mapping[str, float]:
        """The final figures of the parameters that were kept, on whole splits: `valid.accuracy`."""
        return Named("figure", self._outcome.figures)

    @property
    def stopped_by(self) -> str:
        """Why the run ended, in words."""
        return self._outcome.stopped_by

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return self._outcome.progress.step

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self._outcome.progress.seconds

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a signal ended it, or it was killed, so that it can go on."""
        return self._outcome.interrupted

    @property
    def failure(self) -> Diagnostic | None:
        """What made it end early: a loss that is not finite, or an operation that raised."""
        return self._outcome.failure

    def evaluate(
        self,
        data: Mapping[str, object] | None = None,
        *,
        on_event: "Listener | None" = None,
    ) -> dict[str, float]:
        """Measure again, on the data of the run or on other arrays for `given` data.

        `on_event` is told how far large splits are: its method `measuring`.

        Raises:
            FmlError: the data are gone, or do not fit.
        """
        from fml.engine.backends.processor import processor
        from fml.engine.runtime.evaluate import evaluate
        from fml.engine.runtime.watch import Silent
        from fml.engine.sources.bind import bind
        from fml.training import read_data

        listener = as_listener(on_event) or Silent()
        sets = self.data
        if data is not None or not all(loaded.splits for loaded in sets.values()):
            sets = read_data(self.program, self.training, as_data(data))
        training, splits = bind(self.training, sets)
        return evaluate(training, splits, self._outcome, processor(), listener.measuring)

    def predict(self, rows: str | Path | Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return predictions for new rows, beginning with the columns of the data set's source.

        `rows` is a file or folder as `fml predict` takes, or arrays by column name (a dict, a data
        frame). The result has a column `prediction`, and for a classifier of one label a sample
        `score_CLASS` for each class.

        Raises:
            FmlError: E0742 and E0743, the model is not one for rows; E05xx, the rows do not fit.
        """
        from fml.predictions import predictions

        columns = as_mapping(rows)
        if columns is None:
            help = 'run.predict("new.csv"), or run.predict({"column": [...]})'
            wanted = "a file or a folder, or columns by name"
            return predictions(self, as_path(rows, wanted, help, name="rows"))
        return predictions(self, columns)

    def save(self, path: str | Path) -> None:
        """Write parameters and states of layers, by path, to a safetensors file.

        Raises:
            FmlError: E0732, it cannot be written; E0745, its name does not end in `.safetensors`.
        """
        from safetensors.numpy import save

        from fml.engine.files import write_atomically, writing

        path = as_path(path, "the path of a file", 'run.save("model.safetensors")')
        if path.suffix != ".safetensors":
            raise error(
                "E0745",
                f"`{path}` does not end in `.safetensors`, the format that parameters are saved in",
                help=f'run.save("{path.with_suffix(".safetensors")}")',
            )
        variables = self.training.variables
        kept = {n: v for n, v in self._outcome.variables.items() if variables[n].is_of_model}
        content = save(kept, {"format": "fml", "plan": self.training.name})
        with writing(path):
            if not path.parent.is_dir():
                raise FileNotFoundError(2, f"the folder {path.parent} does not exist")
            write_atomically(path, content)

    def __repr__(self) -> str:
        """Say what was trained, why it ended and the final figures."""
        plan = f" plan {self.training.name}" if self.training.name else ""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in self.figures.items())
        return f"<Run of {self.program.name}{plan}: stopped {self.stopped_by}; {figures}>"
