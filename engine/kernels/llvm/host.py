"""What machine code is made for."""

from dataclasses import dataclass
from functools import cache

from llvmlite import binding

# What the widest vectors need beside their own name, so that every kernel can use them.
_AVX512 = frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq"})
_AVX2 = frozenset({"avx2", "fma", "f16c"})


@dataclass(frozen=True, slots=True)
class Host:
    """A kind of machine.

    Attributes:
        triple: architecture, vendor and system, as LLVM calls them.
        cpu: the processor, as LLVM calls it.
        features: what it has, as LLVM lists it: `+avx2,-sse4a`.
        vector_bytes: width of a vector register.
        vector_registers: how many there are.
        masked_bytes: size of the narrowest entries that lanes can leave out when they read and
            write; 0 where they cannot.
        rounds: it rounds floats to whole ones.
        fuses: it multiplies and adds with one rounding.
        converts_halves: it converts between f16 and f32.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    masked_bytes: int
    rounds: bool
    fuses: bool
    converts_halves: bool

    @staticmethod
    @cache
    def native() -> "Host":
        """The machine that this runs on."""
        features: str = binding.get_host_cpu_features().flatten()
        has = frozenset(name[1:] for name in features.split(",") if name.startswith("+"))
        return _of(binding.get_host_cpu_name(), features, has)

    @staticmethod
    def forced(level: str) -> "Host":
        """An x86-64 machine of a level: `baseline`, `avx2` or `avx512`.

        Raises:
            KeyError: there is no such level.
        """
        given = {"baseline": frozenset[str](), "avx2": _AVX2, "avx512": _AVX2 | _AVX512}[level]
        cpu = {"baseline": "x86-64", "avx2": "haswell", "avx512": "skylake-avx512"}[level]
        return _of(cpu, "", given | {"sse4.1"} if given else given)


def _of(cpu: str, features: str, has: frozenset[str]) -> Host:
    triple = binding.get_default_triple()
    is_arm = triple.startswith(("aarch64", "arm64"))
    avx512, avx2 = has >= _AVX512, has >= _AVX2
    return Host(
        triple=triple,
        cpu=cpu,
        features=features,
        vector_bytes=64 if avx512 else 32 if avx2 else 16,
        vector_registers=32 if avx512 or is_arm else 16,
        masked_bytes=1 if avx512 else 4 if avx2 else 0,
        rounds=is_arm or "sse4.1" in has,
        fuses=is_arm or avx2,
        converts_halves=is_arm or avx2,
    )
