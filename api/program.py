"""A file ready to train: the way in from Python."""

import codecs
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fml.checks import (
    as_cores,
    as_data,
    as_device,
    as_devices,
    as_folder,
    as_listener,
    as_on_fault,
    as_options,
    as_path,
    as_plan,
    as_seconds,
    as_seed,
    as_streams,
    as_whole,
)
from fml.dsl import program as language
from fml.dsl.options import OptionInfo
from fml.engine.ir.diagnostics import Diagnostic, did_you_mean, error
from fml.engine.ir.foreign import not_of_kind
from fml.engine.ir.source import Source
from fml.engine.ir.training import Training
from fml.named import Named

if TYPE_CHECKING:
    from fml.engine.profile.outlook import Outlook
    from fml.engine.profile.profile import Profile
    from fml.engine.runtime.dry_run import DryRun
    from fml.engine.runtime.watch import Listener
    from fml.engine.summary import Summary
    from fml.picture import GraphName, Picture
    from fml.run import Run


def load(path: str | Path) -> "Program":
    """Read and check a `.fml` file.

    Raises:
        FmlError: the file cannot be read (E0733), `path` is no path (E0744), or all the errors
            that are in the file.
    """
    path = as_path(path, "the path of a .fml file", "fml.loads(text) takes a text")
    try:
        # Undecodable bytes become characters that the parser reports where they stand.
        content = path.read_bytes()
    except OSError as fault:
        raise _unreadable(path, fault) from None
    text = content.decode("utf-8", errors="surrogateescape")
    if _is_binary(content, text):
        is_utf16 = content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        way_out = "save it as UTF-8" if is_utf16 else "give the path of a .fml file"
        raise error("E0733", f"`{path}` is no UTF-8 text", help=way_out)
    return Program(language.check(Source(str(path), text), path.parent))


def loads(text: str, base: str | Path = ".") -> "Program":
    """Check a text; relative paths in it are looked for in `base` first.

    Raises:
        FmlError: all the errors that are in it, or it is no text (E0744).
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise not_of_kind("text", "the text of a program", text, "fml.load(path) reads a file")
    if text.endswith(".fml") and "\n" not in text:
        raise not_of_kind("text", "the text of a program", text, f'fml.load("{text}") reads a file')
    base = as_path(base, "the folder where relative paths begin", "give a path")
    return Program(language.check(Source("<text>", text), base))


class Program:
    """A checked file: its options and its plans."""

    def __init__(self, checked: language.CheckedProgram, base: Path | None = None) -> None:
        """Wrap what `fml.load` or `fml.loads` has checked; data are looked for in `base` first."""
        self.checked = checked
        self.base = base or checked.base

    @property
    def name(self) -> str:
        """What the file is called, as it was given."""
        return self.checked.source.name

    @property
    def plans(self) -> tuple[str, ...]:
        """The names of the plans, in the order of the text; empty for one without a name."""
        return tuple(plan.name for plan in self.checked.plans)

    @property
    def options(self) -> "Options":
        """What `train` may set: defaults, what is allowed, and their documentation."""
        return Options(self.checked.options)

    def check(self) -> tuple[Diagnostic, ...]:
        """Return the warnings; a file with errors never becomes a `Program`."""
        return (*self.checked.warnings, *self.checked.never_due)

    def lower(self, plan: str | None = None, **options: object) -> Training:
        """Return a plan as graphs, with these options; the first plan without a name.

        Raises:
            FmlError: there is no such plan or option, or a value is not allowed.
        """
        return language.lower(self.checked, as_plan(plan), options)

    def _lowered(self, plan: object, options: object, named: Mapping[str, object]) -> Training:
        settings = as_options(options, named, self.options)
        return language.lower(self.checked, as_plan(plan), settings)

    def train(
        self,
        plan: str | None = None,
        data: Mapping[str, object] | None = None,
        *,
        seed: int | None = None,
        device: str | None = None,
        devices: int = 1,
        cores: int | None = None,
        streams: int = 1,
        run: str | Literal[False] | None = False,
        on_fault: Literal["stop", "restart"] = "stop",
        on_event: "Listener | None" = None,
        trace: str | Path | None = None,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "Run":
        """Train a plan to its end and return what came of it.

        Args:
            plan: its name; without one, the first in the file.
            data: arrays for `given` data, or what numpy makes into arrays (lists, columns of a
                data frame), by data set and field:
                `{"points": {"x": X, "y": y}}`, or by split as well:
                `{"points": {"train": {"x": X, "y": y}, "valid": {...}}}`.
            seed: instead of the plan's own.
            device: where to train, None for where the file says or else the CPU: `cpu`, or
                `numpy`, the slow oracle of its compiled code.
            devices: the CPU as so many devices, groups of cores, each with the plan's learners
                per device.
            cores: how many to use at most, None for all; the bits do not depend on it.
            streams: how many of each learner, and of each device, a step is planned for at most;
                the bits do not depend on it either.
            run: the name of the folder in `runs/` to keep the run in, None for a name made of
                the time, False for none.
            on_fault: what to do when a learner raises or its loss is not finite: end the run, or
                `restart` that learner from the central model; it ends all the same if that does
                not help.
            on_event: is told of what happens, for progress.
            trace: a JSON file for a timeline of the last steps, what was planned beside what was
                done, for https://ui.perfetto.dev.
            options: values for the file's options, as are further arguments by name.

        Raises:
            FmlError: the options, the data or the device do not fit; E0732, a file cannot be
                written; E0744, an argument is not of its kind; E0746, it is for learners, and
                the plan has none.
        """
        from fml.training import Request, train

        listener = as_listener(on_event)
        request = Request(
            as_plan(plan),
            as_options(options, named_options, self.options),
            as_data(data),
            as_seed(seed),
            as_device(device),
            as_folder(run),
            lambda _: listener,
            as_cores(cores),
            as_devices(devices),
            as_on_fault(on_fault),
            None if trace is None else as_path(trace, "a path", 'trace="steps.json"', "trace"),
            as_streams(streams),
        )
        return train(self, request)

    def visualize(
        self,
        path: str | Path | None = None,
        plan: str | None = None,
        graph: "GraphName" = "step",
        *,
        max_depth: int | None = None,
        unroll: bool = False,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "Picture":
        """Draw a graph of a plan; a notebook shows the picture that is returned.

        What every learner has is drawn once, in a frame that says how many they are.

        Args:
            path: a `.svg`, `.png`, `.pdf` or `.dot` file to write it to; without one, none.
            plan: its name; without one, the first in the file.
            graph: one iteration (`step`), the first values (`init`), the model alone, what is
                measured, or the fields of the data.
            max_depth: layers with so many names in their path (1 is the whole model) become a
                box each; without it, a large graph is drawn as deep as can be read on a page.
            unroll: draw every learner of one device.
            options: values for the file's options, as are further arguments by name.

        Raises:
            FmlError: the picture cannot be drawn or written, or as `lower` raises.
        """
        from fml.picture import drawn

        wanted = "a `.svg`, `.png`, `.pdf` or `.dot` file"
        path = None if path is None else as_path(path, wanted, 'program.visualize("graph.svg")')
        max_depth = None if max_depth is None else as_whole("max_depth", max_depth, 1)
        training = self._lowered(plan, options, named_options)
        picture = drawn(training, Path(self.name).name, graph, max_depth, unroll=unroll)
        if path is not None:
            picture.write(path)
        return picture

    def summary(
        self,
        plan: str | None = None,
        *,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "Summary":
        """Return the layers of a plan with their shapes, parameters and costs.

        `options` are values for the file's options, as are further arguments by name.
        The costs are those of one batch; where a batch is a whole split that cannot be read here,
        those of one sample.

        Raises:
            FmlError: as `lower` raises.
        """
        from fml.engine.summary import summarise
        from fml.training import split_sizes

        training = self._lowered(plan, options, named_options)
        return summarise(training, split_sizes(self, training))

    def dry_run(
        self,
        plan: str | None = None,
        data: Mapping[str, object] | None = None,
        *,
        devices: int = 1,
        streams: int = 1,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "DryRun":
        """Compile and plan all graphs of a plan, and walk them once without computing.

        `print(program.dry_run())` says how much there is to do and how much memory it takes when
        the run is kept in a folder, with all its learners. Data that are there are read for their
        sizes, and `data`, `devices` and `streams` are as `train` takes them; of other data it says
        what is not counted.

        Raises:
            FmlError: as `lower` raises; sizes do not fit, or E0746, several devices for a plan
                without learners.
        """
        from fml.engine.runtime.dry_run import dry_run
        from fml.engine.sources.bind import bind
        from fml.training import read_what_is_there, require_learners

        training = self._lowered(plan, options, named_options)
        require_learners(training, as_devices(devices))
        read, missing = read_what_is_there(self, training, as_data(data))
        bound, splits = bind(training, read)
        return dry_run(bound, splits, missing, as_devices(devices), as_streams(streams))

    def outlook(
        self,
        plan: str | None = None,
        data: Mapping[str, object] | None = None,
        *,
        devices: int = 1,
        streams: int = 1,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "Outlook":
        """Return what a plan will do, before it runs: tasks, streams, waits, memory, longest chain.

        `print(program.outlook())` writes tables; `text()` of what is returned is a line a task.
        Nothing is computed, and times are estimates at typical rates. The arguments are those of
        `dry_run`.

        Raises:
            FmlError: as `dry_run` raises.
        """
        from fml.engine.profile.outlook import outlook

        settings = as_options(options, named_options, self.options)
        return outlook(self.dry_run(plan, data, devices=devices, streams=streams, options=settings))

    def profile(
        self,
        plan: str | None = None,
        data: Mapping[str, object] | None = None,
        *,
        seed: int | None = None,
        device: str | None = None,
        seconds: float = 2.0,
        options: Mapping[str, object] | None = None,
        **named_options: object,
    ) -> "Profile":
        """Train some steps of a plan, and return where their time goes.

        `print(program.profile())` writes tables by layer, by operation and by task, beside what a
        core of this machine can do; `json.dump(profile.trace(), file)` makes a timeline for
        Perfetto. Nothing is kept. The arguments are those of `train`; in the place of data that
        are not there, numbers of the declared types are made up, and `notes` says so. Steps are
        measured for about so many `seconds`, and their tasks by themselves for as many again.

        Raises:
            FmlError: as `train` raises.
        """
        from fml.profiling import profile
        from fml.training import Request

        settings = as_options(options, named_options, self.options)
        request = Request(as_plan(plan), settings, as_data(data), as_seed(seed), as_device(device))
        return profile(self, request, as_seconds(seconds))

    def __repr__(self) -> str:
        """Name the file, its plans and its options."""
        plans = ", ".join(name or "unnamed" for name in self.plans) or "none"
        options = ", ".join(self.options) or "none"
        return f"<Program {self.name}: plans {plans}; options {options}>"


class Options(Named[OptionInfo]):
    """The options of a file by name; printed as the file has them, one a line."""

    def __init__(self, options: Iterable[OptionInfo]) -> None:
        """Keep them in the order of the text."""
        super().__init__("option", ((option.name, option) for option in options))

    def __repr__(self) -> str:
        """List them."""
        return "\n".join(map(repr, self.values())) or "no options"


def _is_binary(content: bytes, text: str) -> bool:
    """Say whether a file is none that a person wrote: zeros, or many bytes that are no text."""
    head = text[:4096]
    odd = sum(not c.isprintable() and c not in "\t\n\r\f\ufeff" for c in head)
    return b"\0" in content[:4096] or odd * 10 > len(head)


def _unreadable(path: Path, fault: OSError) -> Exception:
    reason = "is a folder" if isinstance(fault, IsADirectoryError) else fault.strerror or str(fault)
    near = ""
    if isinstance(fault, FileNotFoundError):
        reason = "does not exist"
        near = did_you_mean(path.name, (p.name for p in path.parent.glob("*.fml")))
    return error("E0733", f"`{path}` {reason}", help=near or "give the path of a .fml file")
