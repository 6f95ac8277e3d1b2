"""Names in CUDA C: those of the kernel's form as far as they are free."""

import re

from fml.engine.kernels.cuda.prelude import HALVES, PRIMITIVES

# What an identifier must not be: words of C++, functions of CUDA, what the text before the kernels
# defines, and what the emitter uses itself.
_RESERVED = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const
constexpr continue decltype default delete do double else enum explicit export extern false float
for friend goto if inline int long mutable namespace new not not_eq nullptr operator or or_eq
private protected public register return short signed sizeof static struct switch template this
throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor
xor_eq blockIdx blockDim gridDim threadIdx entry here place rank sqrt floor ceil rint trunc fabs fma
sqrtf floorf ceilf rintf truncf fabsf fmaf u8 i64 u64 FML
"""
_DEFINED = re.compile(r"(?:struct |\b)(\w+)(?=\(| \{)")
_TAKEN = frozenset((*_RESERVED.split(), *_DEFINED.findall(HALVES + PRIMITIVES)))


class Names:
    """Gives everything in a function a name of its own."""

    def __init__(self) -> None:
        self._given: dict[int, str] = {}
        self._kept: list[object] = []  # an identity is one as long as its object lives
        self._used: set[str] = set()

    def of(self, what: object, hint: str) -> str:
        """The name of an object, by identity: the hint, with a number where it is taken."""
        if id(what) not in self._given:
            self._kept.append(what)
            self._given[id(what)] = self.new(hint)
        return self._given[id(what)]

    def bound(self, what: object, hint: str) -> str:
        """The name of an object from here on, which is another one where it had one already."""
        self._given.pop(id(what), None)
        return self.of(what, hint)

    def new(self, hint: str) -> str:
        """A name that nothing has."""
        name, number = hint, 1
        while name in self._used or name in _TAKEN:
            number += 1
            name = f"{hint}_{number}"
        self._used.add(name)
        return name
