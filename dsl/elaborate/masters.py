"""Updates of 16-bit parameters: computed in f32, and kept in f32 beside what the model reads.

A step is often less than half the distance between a 16-bit number and the next, and would be lost
if the parameter alone were kept: Micikevicius et al. 2018, "Mixed precision training", section 3.1.
"""

from fml.dsl import ast
from fml.dsl.elaborate import places
from fml.dsl.elaborate.session import Session
from fml.dsl.elaborate.syntax import assigns
from fml.dsl.values import Master, Place, Tensor
from fml.engine.ir.training import Role, Variable
from fml.engine.ir.types import Element, TensorType

_NARROW = (Element.F16, Element.BF16)


def is_narrow(type: TensorType) -> bool:
    """Whether updates of a parameter of this type are computed in f32."""
    return type.element in _NARROW


def wide(type: TensorType) -> TensorType:
    """The type in which what belongs to a parameter of a type is computed and kept."""
    return TensorType(Element.F32, type.shape) if is_narrow(type) else type


def widened(tensor: Tensor) -> Tensor:
    """Return a 16-bit tensor in f32, any other as it is."""
    if not is_narrow(tensor.type):
        return tensor
    return Tensor(tensor.value.call("cast", element=Element.F32))


def master(s: Session, each: ast.Each, place: Place, path: str) -> Master:
    """What a 16-bit parameter is inside an `each`.

    The slot counts as long as it rounds to the parameter: a constraint, a strategy or another
    optimizer may have changed that since. So it may begin with zeros.
    """
    value = widened(s.read(place))
    if not assigns(each.body, each.parameter.name):
        return Master(value, place, None)
    kept = _slot(s, f"{path}.{place.name}.{each.parameter.name}", place)
    exact = s.read(kept).value
    rounded = exact.call("cast", element=place.variable.type.element)  # pyright: ignore[reportArgumentType]
    is_valid = s.builder.call("equal", rounded, s.read(place).value)
    return Master(Tensor(s.builder.call("select", is_valid, exact, value.value)), place, kept)


def _slot(s: Session, name: str, place: Place) -> Place:
    if name not in s.plan.slots:
        of = place.variable
        variable = Variable(name, wide(of.type), Role.SLOT, mapped=of.mapped, span=of.span)
        s.plan.slots[name] = s.plan.places[name] = Place(variable)
        s.plan.variables[name] = variable
        s.plan.first_values[name] = s.init.builder.constant(0, variable.type)
    return s.plan.slots[name]


def store(s: Session, target: Master, value: Tensor, at: ast.Syntax) -> None:
    """Store a value in a parameter, rounded, and in its slot as it is."""
    type = wide(target.place.variable.type)
    exact = Tensor(places.fitted(s, value, type, at, target.place.name))
    target.value = exact
    if target.kept is not None:
        places.store_in(s, target.kept, exact, at)
    places.store_in(s, target.place, narrowed(exact, target.place), at)


def narrowed(value: Tensor, place: Place) -> Tensor:
    """Return a value rounded to the element of the parameter that it stands for."""
    if not is_narrow(place.variable.type):
        return value
    return Tensor(value.value.call("cast", element=place.variable.type.element))  # pyright: ignore[reportArgumentType]
