"""From a function and the types of its arguments to machine code."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.np import numpy_support

from ..target import CHECKED
from .frontend import Library, dispatcher
from .image import NoImageError, image_of
from .lowering import WORD, StructOfArrays, Vector, load_argument, words_of
from .machine import target_machines


def compile_entry(function: Callable[..., object], key: tuple[Any, ...], name: str) -> list[bytes]:
    """Compile a function for argument types.

    key    types of the arguments, as ``jit.flatten`` returns them
    name   of the machine code's only function

    Returns what is to be kept for each of ``target_machines``: a line of JSON that says how to load
    and call it, and the machine code. Raises TypeError for what compiled functions cannot do.
    """
    with global_compiler_lock, _no_collection():
        args = tuple(map(_numba_type, key))
        target = dispatcher(function)
        try:
            target.compile(args)
        except NotImplementedError as error:
            message = f"{name}: compiled functions cannot use this feature of Numba: {error}"
            raise TypeError(message) from error
        compiled = target.overloads[args]
        context = compiled.target_context
        library = context.codegen().create_library(name)
        library.add_linking_library(compiled.library)
        library.add_ir_module(_entry(context, compiled, args, name))
        objects = [_emit(machine, library, name) for machine in target_machines()]
    head: dict[str, Any] = {"results": _result_names(compiled.signature.return_type)}
    if CHECKED:
        head["checks"] = {
            code: text for part in library.reached() for code, text in part.checks.items()
        }
    return [_kept(head, code, name) for code in objects]


def _kept(head: dict[str, Any], code: bytes, name: str) -> bytes:
    try:
        code, start, imports = image_of(code, name)
        head = {**head, "start": start, "imports": imports}
    except NoImageError:
        head = {**head, "object": name}
    return json.dumps(head).encode() + b"\n" + code


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector off: it takes an eighth of the time and finds little."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _numba_type(key: Any) -> Any:
    """The Numba type of an argument, from what ``jit.flatten`` says of it."""
    if isinstance(key, str):
        if key[0] in "<>|=":
            return Vector(numpy_support.from_dtype(np.dtype(key)), ())
        return getattr(types, key)
    if isinstance(key, tuple):
        dtype, *row = key
        return Vector(numpy_support.from_dtype(np.dtype(dtype)), tuple(row))
    made, parts = key.types
    fields: dict[str, tuple[int, Any]] = {}
    position = 0
    for name, part in zip(made._fields, parts, strict=True):
        numba_type = _numba_type(part)
        fields[name] = position, numba_type
        position += words_of(numba_type)
    return StructOfArrays(made.__qualname__, fields)


def _result_names(numba_type: Any) -> str | list[str] | None:
    if isinstance(numba_type, types.BaseTuple):
        return [_result_name(part) for part in numba_type]
    return None if numba_type == types.none else _result_name(numba_type)


def _result_name(numba_type: Any) -> str:
    if isinstance(numba_type, types.Integer | types.Boolean):
        return str(types.unliteral(numba_type))
    raise TypeError(f"{numba_type} is returned: compiled functions return integers and booleans")


def _entry(context: Any, compiled: Any, args: Any, name: str) -> Any:
    """IR of the function that takes a frame apart, calls the function and stores its results."""
    module = context.create_module(name)
    entry = ir.Function(module, ir.FunctionType(ir.VoidType(), [WORD.as_pointer()]), name)
    builder = ir.IRBuilder(entry.append_basic_block())
    frame = entry.args[0]
    position = 0
    values = []
    for numba_type in args:
        values.append(load_argument(context, builder, frame, position, numba_type))
        position += words_of(numba_type)
    called = ir.Function(
        module,
        context.call_conv.get_function_type(compiled.fndesc.restype, compiled.fndesc.argtypes),
        compiled.fndesc.llvm_func_name,
    )
    status, result = context.call_conv.call_function(
        builder, called, compiled.fndesc.restype, compiled.fndesc.argtypes, values
    )
    result_type = compiled.signature.return_type
    results: list[tuple[Any, Any]] = []
    if isinstance(result_type, types.BaseTuple):
        for i, part in enumerate(result_type):
            results.append((part, builder.extract_value(result, i)))
    elif result_type != types.none:
        results.append((result_type, result))
    for i, (part, item) in enumerate(results):
        if isinstance(part, types.Boolean):
            item = builder.zext(item, WORD)
        else:
            item = context.cast(builder, item, part, types.int64)
        builder.store(item, builder.gep(frame, [WORD(position + i)]))
    if CHECKED:  # two more words: the check that failed, or 0, and the number that was wrong
        at = position + len(results)
        code = builder.zext(status.code, WORD)
        builder.store(code, builder.gep(frame, [WORD(at)]))
        number = builder.ptrtoint(status.excinfoptr, WORD)
        builder.store(number, builder.gep(frame, [WORD(at + 1)]))
    builder.ret_void()
    return module


def _emit(machine: llvm.TargetMachine, library: Library, entry: str) -> bytes:
    """Object code of a library and all that it calls, of which only ``entry`` can be called."""
    linked = llvm.parse_assembly(library.texts[0])
    for part in library.reached():
        for text in part.texts if part is not library else part.texts[1:]:
            linked.link_in(llvm.parse_assembly(text))
    for function in linked.functions:
        if not function.is_declaration and function.name != entry:
            function.linkage = "internal"
    linked.triple, linked.data_layout = machine.triple, str(machine.target_data)
    linked.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(linked, builder)
    return bytes(machine.emit_object(linked))
