"""What follows a fault: the run ends, or goes on with the learners restarted whose it is."""

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

from fml.engine.ir.training import Training
from fml.engine.ops.record import Array
from fml.engine.runtime.central import CentralModels
from fml.engine.runtime.faults import in_words
from fml.engine.runtime.first_values import restart
from fml.engine.runtime.trail import Found
from fml.engine.runtime.variables import VariableStore

# What to do when a learner raises or its loss is not finite: end the run, or begin again with it.
OnFault: TypeAlias = Literal["stop", "restart"]
# A learner that was restarted in so many steps in a row is past help.
TRIES = 3


class Recovery:
    """Restarts learners from the central model, unless that has just been in vain.

    Attributes:
        on_fault: `stop` for a run that ends at its first fault.
    """

    def __init__(
        self,
        training: Training,
        store: VariableStore,
        central: CentralModels,
        first_values: Callable[[], Mapping[str, Array]],
    ) -> None:
        """`first_values` computes what the variables begin with."""
        self.on_fault: OnFault = "stop"
        self._training, self._store, self._central = training, store, central
        self._first_values = first_values
        # Of the learners that were restarted, the latest step, and in how many in a row.
        self._restarted: dict[int, tuple[int, int]] = {}

    def can_mend(self, found: Found) -> bool:
        """Whether learners may be restarted: not in the step in which they just were.

        Nor behind `TRIES` steps in each of which they were.
        """
        step = found.moment.step
        last = [self._restarted[n] for n in found.learners if n in self._restarted]
        in_vain = any(at == step or (at + 1 == step and tries == TRIES) for at, tries in last)
        return self.on_fault == "restart" and bool(found.learners) and not in_vain

    def restart(self, found: Found) -> str:
        """Restart the learners of a fault, and say so; all variables stand where it was found."""
        first, step = self._first_values(), found.moment.step
        with self._central.averaged(found.moment):
            for learner in found.learners:
                restart(self._store, self._training, first, learner)
                self._restarted[learner] = (step, self._tries(learner, step) + 1)
        who = in_words(found.learners).removeprefix(" of ")
        return f"{found.diagnostic.message}: {who} restarted from the central model at step {step}"

    def _tries(self, learner: int, step: int) -> int:
        """In how many steps in a row before this one a learner was restarted."""
        at, tries = self._restarted.get(learner, (0, 0))
        return tries if at + 1 == step else 0
