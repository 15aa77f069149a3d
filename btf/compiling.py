"""Compiling kernels with Numba: only imported when machine code is missing.

Numba compiles each function that another one calls to machine code of its own, linked with and
optimised together with all that it calls in turn, and wraps it twice for callers in Python and C.
Of a hundred small functions that call each other, that is most of the time (57 s for the kernels
of dedup). Here Numba's front end types a function and writes its LLVM IR, once; what one call
from Python reaches is linked once, optimised once and written as one object file, whose only
entry takes the address of a frame with all arguments (see ``jit``).

No reference counts are kept, and no index is taken for a negative one that counts from the end:
without these checks kernels run in half the time.

This builds on parts of Numba that are not its public interface; its version is pinned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import (
    cgutils,
    codegen,
    compiler,
    compiler_machinery,
    cpu,
    dispatcher,
    externals,
    typed_passes,
    types,
    untyped_passes,
)
from numba.core import (
    ir as numba_ir,
)
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUTarget, cpu_target
from numba.core.typing import templates
from numba.np import arrayobj, numpy_support

from . import jit

_WORD = ir.IntType(64)


class _Library(codegen.CodeLibrary):
    """The IR of one function, and the libraries of those that it calls. Nothing is optimised."""

    def __init__(self, owner: Any, name: str) -> None:
        super().__init__(owner, name)
        self.texts: list[str] = []
        self.called: list[_Library] = []

    def add_linking_library(self, library: _Library) -> None:
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

    def reached(self) -> Iterator[_Library]:
        """This library and all that it calls, each once."""
        seen: dict[_Library, None] = {}
        waiting = [self]
        while waiting:
            library = waiting.pop()
            if library not in seen:
                seen[library] = None
                waiting += library.called
        return iter(seen)


class _Codegen(codegen.Codegen):
    _library_class = _Library

    def __init__(self) -> None:
        self.machine = jit.target_machine()
        self._target_data = self.machine.target_data
        self._data_layout = str(self._target_data)

    def _create_empty_module(self, name: str) -> Any:
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = llvm.get_process_triple()
        module.data_layout = self._data_layout
        return module

    def _add_module(self, module: Any) -> None:
        raise NotImplementedError

    def emit(self, library: _Library, entry: str) -> bytes:
        """Object code of a library and all that it calls, of which ``entry`` can be called."""
        linked = llvm.parse_assembly(str(self._create_empty_module(entry)))
        for part in library.reached():
            for text in part.texts:
                linked.link_in(llvm.parse_assembly(text))
        for function in linked.functions:
            if not function.is_declaration and function.name != entry:
                function.linkage = "internal"
        linked.verify()
        builder = llvm.create_pass_builder(
            self.machine, llvm.create_pipeline_tuning_options(speed_level=3)
        )
        builder.getModulePassManager().run(linked, builder)
        return bytes(self.machine.emit_object(linked))


class _Context(cpu.CPUContext):
    """Numba's context for this processor, where a function's result is its IR."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen()
        externals.c_math_functions.install(self)

    def load_additional_registries(self) -> None:
        # What kernels use: numbers, ranges, tuples, slices and arrays. No run-time for counting.
        from numba.cpython import builtins, numbers, rangeobj, slicing, tupleobj  # noqa: F401
        from numba.np import npyimpl

        self.install_registry(npyimpl.registry)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Numba links its run-time here."""

    def get_executable(self, library: Any, fndesc: Any, env: Any) -> Any:
        return fndesc.llvm_func_name


class _Target(CPUTarget):
    @functools.cached_property
    def _toplevel_target_context(self) -> Any:
        return _Context(self.typing_context, self._target_name)

    @functools.cached_property
    def _toplevel_typing_context(self) -> Any:
        return cpu_target.typing_context


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
                        named.value = _dispatcher(_smaller)
                    elif named.value is max:
                        named.value = _dispatcher(_larger)
        return True


class _Compiler(compiler.CompilerBase):
    """The passes that kernels need, of Numba's thirty."""

    def define_pipelines(self) -> list[Any]:
        passes = compiler_machinery.PassManager("kernel")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            _SubstituteBuiltins,
            untyped_passes.RewriteSemanticConstants,
            untyped_passes.DeadBranchPrune,
            untyped_passes.GenericRewrites,
            untyped_passes.ReconstructSSA,
            untyped_passes.DeadBranchPrune,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.NoPythonSupportedFeatureValidation,
            typed_passes.IRLegalization,
            typed_passes.NativeLowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class _Dispatcher(dispatcher.Dispatcher):
    targetdescr = _Target("cpu")

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres


@functools.cache
def _dispatcher(function: Callable[..., object]) -> _Dispatcher:
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
    """The Numba type of a kernel as another one sees it."""
    return types.Dispatcher(_dispatcher(function))


def instruction_type(definition: Callable[..., Any]) -> Any:
    """The Numba type of a ``bits.Instruction``: typed and lowered by its definition."""

    class Template(templates.AbstractTemplate):
        key = definition

        def generic(self, args: Any, kws: Any) -> Any:
            signature, codegen = definition(self.context, *args)
            context = _Dispatcher.targetdescr.target_context
            context.insert_func_defn([(codegen, definition, signature.args)])
            return signature

    return types.Function(Template)


def _numba_type(key: Any) -> Any:
    """Numba's type for what ``jit._flatten`` says of an argument."""
    if isinstance(key, str):
        if key[0] in "<>|=":
            return types.Array(numpy_support.from_dtype(np.dtype(key)), 1, "C")
        return getattr(types, key)
    if isinstance(key, tuple):
        dtype, *row = key
        return types.Array(numpy_support.from_dtype(np.dtype(dtype)), 1 + len(row), "C")
    made, fields = key.types
    return types.BaseTuple.from_types(tuple(map(_numba_type, fields)), made)


@contextmanager
def _plain_indices() -> Iterator[None]:
    """Have Numba take every index as it is: kernels use none that counts from the end."""
    before = arrayobj.fix_integer_index

    def take(context: Any, builder: Any, idxty: Any, index: Any, size: Any) -> Any:
        return context.cast(builder, index, idxty, types.intp if idxty.signed else types.uintp)

    arrayobj.fix_integer_index = take
    try:
        yield
    finally:
        arrayobj.fix_integer_index = before


def compile_entry(
    owner: jit.Kernel, key: tuple[Any, ...], name: str
) -> tuple[bytes, str | list[str] | None]:
    """Compile a kernel for argument types: (object code with function ``name``, result types)."""
    with global_compiler_lock, _plain_indices():
        args = tuple(map(_numba_type, key))
        target = _dispatcher(owner.function)
        try:
            target.compile(args)
        except NotImplementedError as error:
            raise TypeError(f"{name}: kernels cannot use this feature of Numba: {error}") from error
        compiled = target.overloads[args]
        context = compiled.target_context
        library = context.codegen().create_library(name)
        library.add_linking_library(compiled.library)
        library.add_ir_module(_entry(context, compiled, key, args, name))
        code = context.codegen().emit(library, name)
    result = compiled.signature.return_type
    if isinstance(result, types.BaseTuple):
        return code, [_result_name(part) for part in result]
    return code, None if result == types.none else _result_name(result)


def _result_name(numba_type: Any) -> str:
    if isinstance(numba_type, types.Integer | types.Boolean):
        return str(types.unliteral(numba_type))
    raise TypeError(f"a kernel returns {numba_type}: only integers and booleans can be returned")


def _entry(context: Any, compiled: Any, key: Any, args: Any, name: str) -> Any:
    """IR of the function that takes a frame apart, calls the kernel and stores its results."""
    module = context.create_module(name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [_WORD.as_pointer()]), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    position = 0

    def word() -> Any:
        nonlocal position
        position += 1
        return builder.load(builder.gep(entry.args[0], [_WORD(position - 1)]))

    def value(numba_type: Any, key: Any) -> Any:
        if isinstance(numba_type, types.Array):
            address, length = word(), word()
            made = context.make_array(numba_type)(context, builder)
            item = context.get_abi_sizeof(context.get_data_type(numba_type.dtype))
            shape = [length, *map(_WORD, key[1:] if isinstance(key, tuple) else ())]
            strides = [_WORD(item)]
            for extent in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], extent))
            arrayobj.populate_array(
                made,
                data=builder.inttoptr(address, made.data.type),
                shape=shape,
                strides=strides,
                itemsize=_WORD(item),
                meminfo=None,
            )
            return made._getvalue()
        if isinstance(numba_type, types.BaseTuple):
            fields = [
                value(part, part_key)
                for part, part_key in zip(numba_type, key.types[1], strict=True)
            ]
            return context.make_tuple(builder, numba_type, fields)
        if isinstance(numba_type, types.Boolean):
            return builder.icmp_signed("!=", word(), _WORD(0))
        return context.cast(builder, word(), types.int64, numba_type)

    values = [value(numba_type, part) for numba_type, part in zip(args, key, strict=True)]
    result_type = compiled.signature.return_type
    called = ir.Function(
        module,
        context.call_conv.get_function_type(compiled.fndesc.restype, compiled.fndesc.argtypes),
        compiled.fndesc.llvm_func_name,
    )
    _, result = context.call_conv.call_function(
        builder, called, compiled.fndesc.restype, compiled.fndesc.argtypes, values
    )
    results: list[tuple[Any, Any]] = []
    if isinstance(result_type, types.BaseTuple):
        for i, part in enumerate(result_type):
            results.append((part, builder.extract_value(result, i)))
    elif result_type != types.none:
        results.append((result_type, result))
    for i, (part, item) in enumerate(results):
        if isinstance(part, types.Boolean):
            item = builder.zext(item, _WORD)
        else:
            item = context.cast(builder, item, part, types.int64)
        builder.store(item, builder.gep(entry.args[0], [_WORD(position + i)]))
    builder.ret_void()
    return module
