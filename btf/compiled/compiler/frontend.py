"""The part of Numba's compiler that compiled functions go through, and how.

A function is typed, and its IR is kept as text: nothing is optimised or loaded here.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir
from numba.core import (
    cgutils,
    codegen,
    compiler,
    compiler_machinery,
    cpu,
    externals,
    ir_utils,
    ssa,
    transforms,
    typed_passes,
    types,
    typing,
    untyped_passes,
)
from numba.core import (
    dispatcher as dispatchers,
)
from numba.core import (
    ir as numba_ir,
)
from numba.core.registry import CPUTarget
from numba.core.typing import templates

from ..target import CHECKED
from . import checks, lowering
from .machine import target_machines


class Library(codegen.CodeLibrary):
    """The IR of one function, and the libraries of those that it calls. Nothing is optimised."""

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner, name)
        self.texts: list[str] = []
        self.checks: dict[int, str] = {}  # see ``checks``
        self.called: list[Library] = []

    def add_linking_library(self, library: Library) -> None:
        self.called.append(library)

    def add_ir_module(self, ir_module: Any) -> None:
        self.texts.append(cgutils.normalize_ir_text(str(ir_module)))

    def finalize(self) -> None:
        self._finalized = True

    def get_function(self, name: str) -> Any:
        raise NotImplementedError

    def get_llvm_str(self) -> str:
        return "\n".join(self.texts)

    def get_asm_str(self) -> str:
        raise NotImplementedError

    def reached(self) -> Iterator[Library]:
        """This library and all that it calls, each once."""
        seen: dict[Library, None] = {}
        waiting = [self]
        while waiting:
            library = waiting.pop()
            if library not in seen:
                seen[library] = None
                waiting += library.called
        return iter(seen)


class _Codegen(codegen.Codegen):
    _library_class = Library

    def __init__(self) -> None:
        self._machine = target_machines()[0]
        self._target_data = self._machine.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> Any:
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = self._machine.triple
        module.data_layout = self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        raise NotImplementedError


class _Context(cpu.CPUContext):
    """Numba's context for this processor, where a function's result is its IR."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen()
        externals.c_math_functions.install(self)

    def load_additional_registries(self) -> None:
        # Numbers, ranges, tuples, slices and arrays: no run-time that counts references.
        from numba.cpython import builtins, numbers, rangeobj, slicing, tupleobj  # noqa: F401
        from numba.np import npyimpl

        self.install_registry(npyimpl.registry)
        self.install_registry(lowering.registry)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Numba links its run-time here."""

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        return fndesc.llvm_func_name


class _Typing(typing.Context):
    """Numba's rules for types, where what an operation gives for some types is worked out once."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[Any, Any] = {}
        self.insert_attributes(lowering.StructAttribute(self))

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        if func is operator.getitem and lowering.is_slice(*args):
            return typing.signature(args[0], *args)
        if isinstance(func, types.Dispatcher):
            # Compile once for any number, not once more for each literal.
            args = tuple(map(types.unliteral, args))
            return super().resolve_function_type(func, args, kws)
        if kws:
            return super().resolve_function_type(func, args, kws)
        key = (func, tuple(args))
        if key not in self._known:
            self._known[key] = super().resolve_function_type(func, args, kws)
        return self._known[key]


class _Target(CPUTarget):
    @functools.cached_property
    def _toplevel_target_context(self) -> Any:
        return _Context(self.typing_context, self._target_name)

    @functools.cached_property
    def _toplevel_typing_context(self) -> Any:
        return _Typing()


def _smaller(a, b):  # type: ignore[no-untyped-def]
    return a if a < b else b


def _larger(a, b):  # type: ignore[no-untyped-def]
    return a if a > b else b


@compiler_machinery.register_pass(mutates_CFG=False, analysis_only=False)
class _SubstituteBuiltins(compiler_machinery.FunctionPass):
    """``min`` and ``max`` of two numbers: Numba's own are for any number of any type."""

    _name = "substitute_builtins"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            for statement in block.find_insts(numba_ir.Assign):
                named = statement.value
                if isinstance(named, numba_ir.Global):
                    if named.value is min:
                        named.value = dispatcher(_smaller)
                    elif named.value is max:
                        named.value = dispatcher(_larger)
        return True


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Canonicalize(compiler_machinery.FunctionPass):
    """What is needed of Numba's post-processing, which else works out how long each variable
    lives, five times a function: only counted references need to know."""

    _name = "canonicalize"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.func_ir.blocks = transforms.canonicalize_cfg(state.func_ir.blocks)
        state.func_ir.generator_info = None
        return True


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _ReconstructSSA(compiler_machinery.FunctionPass):
    _name = "reconstruct_ssa_only"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.func_ir = ssa.reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        return True


@compiler_machinery.register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(typed_passes.NativeLowering):
    _name = "plain_lowering"

    @property
    def lowering_class(self) -> Any:
        return checks.CheckedLower if CHECKED else lowering.Lower


class _Compiler(compiler.CompilerBase):
    """The passes that compiled functions need, of Numba's thirty."""

    def define_pipelines(self) -> list[Any]:
        passes = compiler_machinery.PassManager("compiled")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            _Canonicalize,
            _SubstituteBuiltins,
            untyped_passes.RewriteSemanticConstants,
            untyped_passes.DeadBranchPrune,
            _ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            _Lowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class _Dispatcher(dispatchers.Dispatcher):
    targetdescr = _Target("cpu")

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres


@functools.cache
def dispatcher(function: Callable[..., object]) -> _Dispatcher:
    return _Dispatcher(
        function,
        targetoptions={
            "nopython": True,
            "error_model": "numpy",
            "no_cpython_wrapper": True,
            "no_cfunc_wrapper": True,
            "_nrt": False,
        },
        pipeline_class=_Compiler,
    )


def dispatcher_type(function: Callable[..., object]) -> Any:
    """The Numba type of a compiled function, for others that call it."""
    return types.Dispatcher(dispatcher(function))


def instruction_type(definition: Callable[..., Any]) -> Any:
    """The Numba type of a ``instructions.Instruction``: typed and lowered by its definition."""

    class Template(templates.AbstractTemplate):
        key = definition

        def generic(self, args: Any, kws: Any) -> Any:
            signature, codegen = definition(self.context, *args)
            context = _Dispatcher.targetdescr.target_context
            context.insert_func_defn([(codegen, definition, signature.args)])
            return signature

    return types.Function(Template)
