"""The processor for LLVM, and machine code that LLVM itself has to load."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm

from ..target import BUILT_FOR, FOREIGN

# Triple and processor of each of ``target.BUILDS``.
_BUILDS = {
    "x86-64-v3": ("x86_64-unknown-linux-gnu", "x86-64-v3"),
    "aarch64": ("aarch64-unknown-linux-gnu", "generic"),
}


@functools.cache
def target_machines() -> tuple[llvm.TargetMachine, ...]:
    """LLVM's descriptions of the processors to make code for: this one, or a level of which it is
    one, and any others that code is made for."""
    if not BUILT_FOR:
        return (_this_machine(),)
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    triple, cpu = _BUILDS[BUILT_FOR]
    built_for = _machine(triple, cpu, "")
    return (_this_machine(), built_for) if FOREIGN else (built_for,)


@functools.cache
def _this_machine() -> llvm.TargetMachine:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return _machine(llvm.get_process_triple(), llvm.get_host_cpu_name(), _cpu_features())


def _machine(triple: str, cpu: str, features: str) -> llvm.TargetMachine:
    """Describe a processor, for code that may lie anywhere in memory."""
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="small"
    )


def _cpu_features() -> str:
    try:
        return str(llvm.get_host_cpu_features().flatten())
    except RuntimeError:  # LLVM does not know this processor
        return ""


def load_object(code: bytes, function: str) -> int:
    """Have LLVM load an object file; returns the address of a function in it."""
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(function))


@functools.cache
def _engine() -> llvm.ExecutionEngine:
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _this_machine())
