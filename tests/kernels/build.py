"""Compiles kernels for the tests, and calls them with arrays."""

import ctypes
from collections.abc import Callable, Sequence

from llvmlite import binding

from fml.engine.kernels.llvm.emit import emit
from fml.engine.kernels.llvm.host import Host
from fml.engine.kernels.loops import Kernel
from fml.engine.ops.record import Array

HOSTS = {name: Host.forced(name) for name in ("avx2", "baseline")} | {"native": Host.native()}
_kept: list[object] = []

Called = Callable[[Sequence[Array], Sequence[int]], None]


def built(kernel: Kernel, host: Host) -> Called:
    """A function of arrays and sizes."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly(emit(kernel, host))
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=host.cpu, features=host.features, opt=2
    )
    options = binding.create_pipeline_tuning_options(speed_level=2)
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    jit = binding.create_lljit_compiler(machine)
    image = machine.emit_object(module)
    library = binding.JITLibraryBuilder().add_object_img(image).add_current_process()
    tracker = library.export_symbol(kernel.name).link(jit, kernel.name)
    _kept.append((jit, tracker))
    arguments = [ctypes.c_void_p] * len(kernel.buffers) + [ctypes.c_int64] * len(kernel.sizes)
    function = ctypes.CFUNCTYPE(None, *arguments)(tracker[kernel.name])

    def call(buffers: Sequence[Array], sizes: Sequence[int] = ()) -> None:
        assert all(b.flags.c_contiguous for b in buffers)
        function(*(b.ctypes.data for b in buffers), *sizes)

    return call
