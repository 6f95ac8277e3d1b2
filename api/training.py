"""A program's plan, trained: data read, the loop run, the run kept in its folder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fml import keeping, tracing
from fml.dsl import program as language
from fml.engine.backends.interface import Backend
from fml.engine.backends.numpy import NumpyBackend
from fml.engine.backends.processor import processor
from fml.engine.ir.diagnostics import Diagnostic, FmlError, Mark, did_you_mean, error
from fml.engine.ir.foreign import as_mapping
from fml.engine.ir.training import Dataset, Training
from fml.engine.runtime import trainer
from fml.engine.runtime.checkpoint import GO_ON
from fml.engine.runtime.run_folder import RunFolder
from fml.engine.runtime.watch import Listener, Silent
from fml.engine.sources.bind import bind
from fml.engine.sources.given import splits_of
from fml.engine.sources.load import LoadedData, load
from fml.run import Run

if TYPE_CHECKING:
    from fml.program import Program


def _oracle(cores: int | None = None, streams: int = 1) -> Backend:
    """Make the numpy backend, slow and simple, whose work is one core's."""
    return NumpyBackend(streams)


BACKENDS: Mapping[str, Callable[..., Backend]] = {"cpu": processor, "numpy": _oracle}


@dataclass(frozen=True, slots=True)
class Request:
    """What `Program.train` was asked for; see there. `watch` makes a listener for the plan."""

    plan: str | None = None
    options: Mapping[str, object] = field(default_factory=dict[str, object])
    data: Mapping[str, object] = field(default_factory=dict[str, object])
    seed: int | None = None
    device: str | None = None
    folder: str | Literal[False] | None = False
    watch: Callable[[Training], Listener | None] = lambda training: None
    cores: int | None = None
    devices: int = 1
    on_fault: trainer.OnFault = "stop"
    trace: Path | None = None
    streams: int = 1


def train(program: "Program", request: Request) -> Run:
    """Train a plan to its end.

    Raises:
        FmlError: the options, the data or the device do not fit, or a file cannot be written;
            E0746, what is asked for is for learners, and the plan has none.
    """
    training = language.lower(program.checked, request.plan, request.options)
    require_learners(training, request.devices, request.on_fault)
    device = device_of(training, request.device)
    backend = backend_of(device, request.cores, request.streams)
    data = read_data(program, training, request.data)
    bound, splits = bind(training, data)
    listener = request.watch(training) or Silent()
    tracer = tracing.begin(request.trace)
    run = partial(
        trainer.train,
        bound,
        splits,
        backend,
        seed=request.seed,
        devices=request.devices,
        on_fault=request.on_fault,
        tracer=tracer,
    )
    if request.folder is False:
        outcome = run(listener=listener)
        tracing.write(tracer, request.trace, training, backend)
        return Run(program, training, data, outcome)
    folder = keeping.create(program, training, request)
    try:
        with folder.locked():
            keeping.begin(folder, program, training, data, request, device)
            recorder = keeping.Recorder(folder, listener)
            outcome = run(listener=recorder, checkpoint=folder.checkpoint)
            keeping.finish(folder, training, outcome)
            tracing.write(tracer, request.trace, training, backend)
    except (FmlError, MemoryError, KeyboardInterrupt) as fault:
        if folder.checkpoint.exists():
            raise
        folder.discard()  # it could not begin
        raise _not_begun(fault) from None
    return Run(program, training, data, outcome, folder.path)


def _not_begun(fault: BaseException) -> BaseException:
    """What kept a run from beginning, without the advice to go on with it."""
    if not isinstance(fault, FmlError):
        return fault
    anew = "once it can be written, train again: the run had not begun, and its folder is removed"
    return FmlError(replace(d, help=anew) if d.help == GO_ON else d for d in fault.diagnostics)


def resume(
    path: Path,
    data: Mapping[str, object],
    watch: Callable[[Training], Listener | None],
    cores: int | None = None,
    streams: int | None = None,
) -> Run:
    """Go on with a run that was interrupted or killed, from its last checkpoint.

    `cores` and `streams` are those of the run if they are None: the result does not depend on them.

    Raises:
        FmlError: E0706, E0707 and E0710, the folder is not that of a run, or is damaged; E0708,
            another process trains it; E0711, the data have changed; E0712, the run has ended.
    """
    folder = RunFolder.find(path)
    with folder.locked():
        folder.require_begun()
        kept = keeping.reopen(folder)
        training = kept.training
        origin = kept.origin
        backend = backend_of(origin.device, cores or origin.cores, streams or origin.streams)
        loaded = read_data(kept.program, training, data)
        checkpoint, earlier = keeping.place_to_go_on(folder)
        bound, splits = bind(training, loaded)
        if checkpoint is None:
            keeping.begin_anew(folder, loaded)
        outcome = trainer.train(
            bound,
            splits,
            backend,
            seed=origin.seed,
            listener=keeping.Recorder(folder, watch(training) or Silent(), earlier),
            checkpoint=folder.checkpoint,
            resume=checkpoint,
            devices=origin.devices,
            on_fault="restart" if origin.on_fault == "restart" else "stop",
        )
        outcome = replace(outcome, history=(*earlier, *outcome.history))
        keeping.finish(folder, training, outcome)
    return Run(kept.program, training, loaded, outcome, folder.path)


_BY_LEARNERS = "let learners train the plan, by a line such as `learners 2 per device by sma()`"


def require_learners(training: Training, devices: int, on_fault: trainer.OnFault = "stop") -> None:
    """Refuse, for a plan without learners, what is for learners alone.

    Raises:
        FmlError: E0746.
    """
    if training.learners is not None:
        return
    if devices > 1:
        raise error(
            "E0746", f"{devices} devices for a plan without learners, which trains on one",
            help=f"leave `--devices {devices}` (in Python, `devices={devices}`) out: its kernels "
            f"are shared by all cores; or {_BY_LEARNERS}",
        )  # fmt: skip
    if on_fault == "restart":
        raise error(
            "E0746", "a plan without learners has none to restart",
            help='leave `--on-fault restart` (in Python, `on_fault="restart"`) out; or '
            f"{_BY_LEARNERS}",
        )  # fmt: skip


def device_of(training: Training, asked: str | None) -> str:
    """Return where a plan is trained: where it was `asked` for, or else where the file says.

    Raises:
        FmlError: E0740, the file says `on` a device that cannot be used.
    """
    learners = training.learners
    if asked is not None or learners is None or learners.devices is None:
        return asked or "cpu"
    if learners.devices == "cpu":
        return "cpu"
    raise FmlError([Diagnostic(
        "E0740",
        f"the device `{learners.devices}` cannot be used yet",
        (Mark(learners.span),) if learners.span else (),
        (),
        "leave `on` out, or write `on cpu`; `--device cpu` (in Python, `device=\"cpu\"`) goes "
        "before what the file says",
    )])  # fmt: skip


def backend_of(device: str, cores: int | None = None, streams: int = 1) -> Backend:
    """Return the backend of a device, for so many cores of a CPU or all, and so many streams.

    Raises:
        FmlError: E0740, it cannot be used, or not yet.
    """
    made = BACKENDS.get(device)
    if made is None:
        known = {"gpu", "cuda"} & {device.partition(":")[0]}
        message = "cannot be used yet" if known else "is not known"
        raise error(
            "E0740", f"the device `{device}` {message}", help="use `cpu`, or `numpy`, its oracle"
        )
    return made(cores, streams)


def read_data(
    program: "Program", training: Training, given: Mapping[str, object]
) -> dict[str, LoadedData]:
    """Read the data sets of a plan; those that are `given` come from Python.

    Raises:
        FmlError: E0741, arrays for a data set that takes none, or E05xx as the sources raise.
    """
    _require_takers(training, given)
    return {name: load(d, given.get(name), program.base) for name, d in training.datasets.items()}


def _require_takers(training: Training, given: Mapping[str, object]) -> None:
    """Arrays are for `given` data of the plan, and for splits that it uses."""
    takers = {d.name: d for d in training.datasets.values() if d.source == "given"}
    for name in given:
        if name not in takers:
            raise error(
                "E0741",
                f"`{name}` is not `given` data of this plan",
                help=_meant(str(name), given, takers.values()),
            )
    for name, arrays in given.items():
        _require_known_splits(training, takers[name], arrays)


def _meant(name: str, given: Mapping[str, object], takers: Iterable[Dataset]) -> str:
    """What to write instead of arrays for a data set that takes none."""
    names = [taker.name for taker in takers]
    for taker in takers:
        if {field.name for field in taker.fields} >= given.keys():
            fields = ", ".join(f'"{field}": ...' for field in given)
            return f'those are fields: data={{"{taker.name}": {{{fields}}}}}'
    listed = f"those are {', '.join(names)}" if names else "this plan uses none"
    return did_you_mean(name, names) or listed


def _require_known_splits(training: Training, dataset: Dataset, arrays: object) -> None:
    """A split from Python that the plan does not use may be there, but not for one that it does.

    Raises:
        FmlError: E0505, its name is nearly that of a split that is missing.
    """
    splits = splits_of(dataset, as_mapping(arrays) or {})
    used = [feed.split for feed in training.feeds if feed.data == dataset.name]
    used += [m.split for m in training.measures if m.data == dataset.name]
    missing = [split for split in used if split not in splits]
    for name in splits:
        near = did_you_mean(str(name), missing)
        if near and name not in used:
            raise error("E0505", f"the plan uses no split `{name}` of `{dataset.name}`", help=near)


def read_what_is_there(
    program: "Program", training: Training, given: Mapping[str, object]
) -> tuple[dict[str, LoadedData], dict[str, str]]:
    """Read the data sets of a plan as far as they can be; of the others, say why not.

    Raises:
        FmlError: E0741 and E05xx, the arrays that are `given` do not fit.
    """
    _require_takers(training, given)
    read: dict[str, LoadedData] = {}
    missing: dict[str, str] = {}
    for name, dataset in training.datasets.items():
        if dataset.source == "given" and name not in given:
            missing[name] = "its arrays are given when it is trained"
            continue
        try:
            read[name] = load(dataset, given.get(name), program.base)
        except FmlError as fault:
            if name in given:
                raise
            missing[name] = _in_a_line(fault.diagnostics[0])
    return read, missing


def _in_a_line(diagnostic: Diagnostic) -> str:
    """Why data were not read, and unless they are just not there, the way out."""
    if diagnostic.code == "E0501":
        return diagnostic.message
    notes = f" ({'; '.join(diagnostic.notes)})" if diagnostic.notes else ""
    help = f" ({diagnostic.help})" if diagnostic.help else ""
    return f"{diagnostic.message}{notes}{help}"


def split_sizes(program: "Program", training: Training) -> dict[tuple[str, str], int]:
    """Count the samples of the splits that a plan feeds whole, as far as they can be read."""
    sizes: dict[tuple[str, str], int] = {}
    for feed in training.feeds:
        dataset = training.datasets[feed.data]
        if feed.batch is not None or dataset.source == "given":
            continue
        try:
            split = load(dataset, None, program.base).splits.get(feed.split)
        except FmlError:
            continue
        if split:
            sizes[feed.data, feed.split] = len(next(iter(split.values())))
    return sizes
