"""Three machine instructions that compiled functions need and Numba has no name for.

They work on little-endian machines only. On others, and where compiled functions run interpreted,
``WIDE`` is false, and ``format.strings`` goes byte by byte.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from .target import INTERPRETED

WIDE = sys.byteorder == "little" and not INTERPRETED


class Instruction:
    """A function that is a few LLVM instructions where a compiled function calls it."""

    def __init__(self, definition: Callable[..., Any]) -> None:
        self._definition = definition

    def __call__(self, *args: Any) -> Any:
        raise TypeError("an instruction can be used in compiled functions only")

    @functools.cached_property
    def _numba_type_(self) -> Any:
        from .compiler import instruction_type

        return instruction_type(self._definition)


@Instruction
def load64(typingctx: Any, array: Any, position: Any) -> Any:
    """Eight bytes of a uint8 array from ``position`` on, as uint64, aligned or not. Unchecked."""
    from llvmlite import ir
    from numba import types

    from .compiler.lowering import data_of

    signature = types.uint64(array, types.int64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(builder, sig.args[0], args[0])
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer())
        return builder.load(pointer, align=1)

    return signature, codegen


@Instruction
def store64(typingctx: Any, array: Any, position: Any, word: Any) -> Any:
    """Write a uint64 as eight bytes of a uint8 array from ``position`` on. Unchecked."""
    from llvmlite import ir
    from numba import types

    from .compiler.lowering import data_of

    signature = types.void(array, types.int64, types.uint64)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = data_of(builder, sig.args[0], args[0])
        pointer = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer())
        builder.store(args[2], pointer, align=1)
        return context.get_dummy_value()

    return signature, codegen


@Instruction
def trailing_zeros(typingctx: Any, value: Any) -> Any:
    """Number of zero bits below the lowest one bit of a uint64 that is not 0, as int64."""
    from llvmlite import ir
    from numba import types

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen
