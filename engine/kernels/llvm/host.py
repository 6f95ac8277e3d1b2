from dataclasses import dataclass

import llvmlite.binding as b


@dataclass(frozen=True, slots=True)
class Host:
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    has_masks: bool = True
    rounds: bool = True
    fuses: bool = True
    converts_halves: bool = True
    vector_registers: int = 32

    @staticmethod
    def native():
        return Host(
            b.get_default_triple(), b.get_host_cpu_name(), b.get_host_cpu_features().flatten(), 64
        )

    @staticmethod
    def forced(name):
        if name == "avx2":
            return Host(b.get_default_triple(), "haswell", "", 32, False, vector_registers=16)
        return Host(b.get_default_triple(), "x86-64", "", 16, False, False, False, False, 16)
