"""This processor for LLVM, and machine code that LLVM itself has to load."""

from __future__ import annotations

import functools

import llvmlite.binding as llvm

from ..target import BUILT_FOR


def target_machine() -> llvm.TargetMachine:
    """LLVM's description of this processor, for code that may lie anywhere in memory."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=BUILT_FOR or llvm.get_host_cpu_name(),
        features="" if BUILT_FOR else _cpu_features(),
        opt=3,
        reloc="pic",
        codemodel="small",
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
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), target_machine())
