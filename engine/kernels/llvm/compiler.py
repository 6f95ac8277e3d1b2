"""LLVM IR -> object code for a kind of machine."""

from functools import cache
from typing import Any

import llvmlite.binding

from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.llvm.symbols import symbols

llvm: Any = llvmlite.binding  # it has no types

# What object code may want from elsewhere: LLVM itself writes calls of these for loops and
# intrinsics that copy or fill (`bzero` on Apple's systems), and every C library has them. A worker
# that waits for others lets them have its core by `sched_yield`.
ALLOWED = frozenset({"memset", "memcpy", "memmove", "bzero", "sched_yield"})

# 1: that is as far as the emitter's code gets faster; 2 and 3 take longer for the same machine
# code. SROA, InstCombine and SimplifyCFG alone take half as long as its passes, and cost some speed
# (docs/kernels.md has the figures).
SPEED_LEVEL = 1


class Refused(ValueError):
    """LLVM IR that is wrong, or that wants symbols from outside that it must not have."""


def object_code(text: str, host: Host) -> bytes:
    """Compile the text of an LLVM module.

    LLVM makes no vectors and unrolls nothing here: the emitter has done both, knowing more.

    Raises:
        Refused: it does not parse or verify, or it, or the code made of it, wants a symbol that
            is not `ALLOWED`; the message names it.
    """
    module, machine = _optimized(text, host)
    image = machine.emit_object(module)
    _check(symbols(image).undefined, "the machine code")
    return image


def assembly(text: str, host: Host) -> str:
    """Compile the text of an LLVM module to assembly, for people.

    Raises:
        Refused: as `object_code`, without a look at the machine code's symbols.
    """
    module, machine = _optimized(text, host)
    return machine.emit_assembly(module)


def machine_for(host: Host) -> Any:
    """LLVM's description of a host; code can stand anywhere, its constants beside it."""
    target = llvm.Target.from_triple(_ready(host.triple))
    return target.create_target_machine(
        cpu=host.cpu, features=host.features, opt=2, reloc="pic", codemodel="small"
    )


def _optimized(text: str, host: Host) -> tuple[Any, Any]:
    machine = machine_for(host)
    try:
        # In a context of its own, whose types and constants go away with the module.
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise Refused(str(error)) from error
    declared = [*module.functions, *module.global_variables]
    _check(
        {v.name for v in declared if v.is_declaration and not v.name.startswith("llvm.")},
        "the module",
    )
    options = llvm.create_pipeline_tuning_options(speed_level=SPEED_LEVEL)
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_interleaving = options.loop_unrolling = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module, machine


def _check(wanted: set[str] | frozenset[str], where: str) -> None:
    refused = wanted - ALLOWED
    if refused:
        raise Refused(f"{where} wants symbols from outside: {', '.join(sorted(refused))}")


@cache
def _ready(triple: str) -> str:
    """The triple, when LLVM can make code for it."""
    if triple.split("-", 1)[0] == llvm.get_default_triple().split("-", 1)[0]:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
    else:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
    return triple
