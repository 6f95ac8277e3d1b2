"""A trained model as something to call."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from fml.engine.backends.processor import processor
from fml.engine.ir.diagnostics import error
from fml.engine.ir.training import Model as LoweredModel
from fml.engine.ir.training import Role, Training
from fml.engine.ops.record import Array
from fml.engine.runtime.evaluate import predict
from fml.named import Named


class Model:
    """A trained instance of a `model`: call it on arrays.

    The arguments are what the plan gives the model, fields of the data set as they are after
    `standardize` and the like; `Run.predict` begins with the columns of the source instead.
    """

    def __init__(
        self, lowered: LoweredModel, training: Training, values: Mapping[str, Array]
    ) -> None:
        """Take the model's own among the variables of a run."""
        self._lowered, self._training, self._values = lowered, training, values

    @property
    def name(self) -> str:
        """The name it is bound to in the plan."""
        return self._lowered.name

    @property
    def inputs(self) -> Mapping[str, str]:
        """The types of its arguments by name, as in `.fml`: `f32[N, 4]`."""
        return Named("argument", ((name, str(t)) for name, t in self._lowered.inputs.items()))

    @property
    def parameters(self) -> Mapping[str, Array]:
        """The parameters by path (`net.dense_0.W`), read-only."""
        variables = self._training.variables
        own = (n for n in self._lowered.variables if variables[n].role is Role.PARAM)
        return Named("parameter", ((name, read_only(self._values[name])) for name in own))

    def __call__(self, *arrays: ArrayLike, **named: ArrayLike) -> Array:
        """Apply the model to arrays, one row a sample, and return the array of its results.

        Raises:
            FmlError: E0720, an argument is missing, unknown, or not of its type.
        """
        names = list(self._lowered.inputs)
        if len(arrays) > len(names):
            wanted = ", ".join(f"`{name}: {kind}`" for name, kind in self.inputs.items())
            raise error("E0720", f"`{self.name}` takes {wanted}, found {len(arrays)} arguments")
        by_place = dict(zip(names, arrays, strict=False))
        for name in by_place.keys() & named.keys():
            raise error("E0720", f"`{name}` of `{self.name}` is given twice")
        arguments = {**by_place, **named}
        return predict(self._training, self._lowered, self._values, arguments, processor())

    def __repr__(self) -> str:
        """Give the signature."""
        inputs = ", ".join(f"{name}: {kind}" for name, kind in self.inputs.items())
        return f"<Model {self.name}({inputs}) -> {self._lowered.result}>"


def read_only(array: Array) -> Array:
    """Return a view of an array that cannot be written to."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view
