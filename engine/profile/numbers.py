"""A profile as what JSON has: all times in seconds, sizes in bytes, rates a second."""

from fml.engine.profile.profile import Cost, MeasureCost, Profile, TaskCost

Numbers = dict[str, object]


def as_dict(profile: Profile) -> Numbers:
    """Return all but the timeline."""
    machine = profile.machine
    return {
        "plan": profile.plan,
        "device": profile.device,
        "samples": profile.samples,
        "seconds": profile.seconds,
        "kernels": profile.kernels,
        "given": [
            {"name": g.name, "seconds": g.seconds, "nbytes": g.nbytes} for g in profile.given
        ],
        "figures": profile.figures,
        "between": profile.between,
        "python": profile.python,
        "steps_at_once": profile.at_once,
        "steps_measured": profile.steps,
        "preparing": profile.preparing,
        "machine": {
            "flops": {str(element): rate for element, rate in machine.flops.items()},
            "copies": {str(nbytes): rate for nbytes, rate in machine.copies.items()},
            "measured_with": machine.by,
        },
        "total": _row(profile.total),
        "phases": {phase.value: _row(cost) for phase, cost in profile.phases.items()},
        "layers": {name: _row(cost) for name, cost in profile.layers.items()},
        "operations": {name: _row(cost) for name, cost in profile.operations.items()},
        "tasks": [_task(profile, task) for task in profile.tasks],
        "measures": [_measure(measure) for measure in profile.measures],
        "notes": list(profile.notes),
    }


def _row(cost: Cost) -> Numbers:
    return {
        "seconds": cost.seconds,
        "flops": cost.flops,
        "nbytes": cost.nbytes,
        "bound": "compute" if cost.is_compute_bound else "memory",
        "of_peak": cost.of_peak,
        "phases": {phase.value: seconds for phase, seconds in cost.phases.items()},
    }


def _task(profile: Profile, task: TaskCost) -> Numbers:
    row = _row(profile.cost(task))
    parts = [
        {
            "layer": p.layer,
            "op": p.op,
            "phase": p.phase.value,
            "share": p.share,
            "flops": p.flops,
            "nbytes": p.nbytes,
        }
        for p in task.parts
    ]
    return {
        "name": task.name,
        "nodes": list(task.nodes),
        **{name: row[name] for name in row if name != "phases"},
        "alone": task.alone,
        "element": str(task.element),
        "parts": parts,
        "runs_in": "kernel" if task.is_native else "numpy",
        "is_conditional": task.is_conditional,
    }


def _measure(measure: MeasureCost) -> Numbers:
    return {
        "split": measure.name,
        "series": list(measure.series),
        "seconds": measure.seconds,
        "samples": measure.samples,
        "of": measure.of,
    }
