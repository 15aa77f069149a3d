"""Arrays and named tuples in LLVM.

Numba passes a named tuple of arrays as all fields of all its arrays: 300 arguments in each call
that hands on deduplication's tables. Here it is one argument, the address of its words in the frame
(``StructOfArrays``); a field is loaded where it is used. The words never change during a call, and
LLVM is told so.

An array is where it begins and how long it is (``Vector``), two words in place of Numba's seven.
Indexing an array with integers is an address and a load or a store. Numba's own way (a copy of the
array's structure, the index wrapped round if it is negative) is eight times the code, which all
has to be written, read and optimised away again; the wrapping stays, and costs at run time.
So it is with operators on two integers, for which Numba first tries what it may know of constants.
"""

from __future__ import annotations

import hashlib
import math
import operator
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, lowering, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import Registry
from numba.core.typing import templates

WORD = ir.IntType(64)


class StructOfArrays(types.Type):
    """A named tuple as the address of its words.

    fields  by name: (position of its first word, its type)
    """

    def __init__(self, name: str, fields: dict[str, tuple[int, Any]]) -> None:
        self.fields = fields
        super().__init__(f"StructOfArrays({name}, {fields})")
        self._short = f"{name}.{hashlib.blake2b(self.name.encode(), digest_size=4).hexdigest()}"

    @property
    def mangling_args(self) -> tuple[str, tuple[()]]:
        return self._short, ()


class Vector(types.Array):
    """An array whose rows have a known length: ``row`` elements, or () if there are no rows."""

    def __init__(self, dtype: Any, row: tuple[int, ...]) -> None:
        self.row = row
        super().__init__(dtype, 1 + len(row), "C", name=f"Vector({dtype}, {row})")

    @property
    def key(self) -> Any:
        return self.dtype, self.row

    @property
    def mangling_args(self) -> tuple[str, tuple[Any, ...]]:
        return "vector", (self.dtype, *self.row)


@register_default(StructOfArrays)
class _StructOfArraysModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, WORD.as_pointer())


@register_default(Vector)
class _VectorModel(models.StructModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        members = [("data", types.CPointer(fe_type.dtype)), ("length", types.intp)]
        super().__init__(dmm, fe_type, members)


# Positions in the structure of a Vector, and in that of an array that is a constant.
_VECTOR_DATA = 0
_VECTOR_LENGTH = 1
_ARRAY_DATA = 4
_ARRAY_SHAPE = 5

registry = Registry("splitbtf")


@registry.lower(len, Vector)
def _length(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.extract_value(args[0], _VECTOR_LENGTH)


def data_of(builder: Any, array_type: Any, array: Any) -> Any:
    """Address of the first element of an array."""
    at = _VECTOR_DATA if isinstance(array_type, Vector) else _ARRAY_DATA
    return builder.extract_value(array, at)


class StructAttribute(templates.AttributeTemplate):
    """The type of a field of a named tuple."""

    key = StructOfArrays

    def generic_resolve(self, typ: Any, attr: str) -> Any:
        return typ.fields[attr][1] if attr in typ.fields else None


@registry.lower_getattr_generic(StructOfArrays)
def _field(context: Any, builder: Any, typ: Any, value: Any, attr: str) -> Any:
    position, field_type = typ.fields[attr]
    return load_argument(context, builder, value, position, field_type)


def words_of(numba_type: Any) -> int:
    """Number of words of a frame that an argument of this type takes."""
    if isinstance(numba_type, StructOfArrays):
        return sum(words_of(field) for _, field in numba_type.fields.values())
    return 2 if isinstance(numba_type, types.Array) else 1


def load_argument(context: Any, builder: Any, frame: Any, position: int, numba_type: Any) -> Any:
    """An argument (see ``arguments.flatten``) that starts at a position of a frame."""
    at = builder.gep(frame, [WORD(position)])
    if isinstance(numba_type, StructOfArrays):
        return at
    word = _load_constant(builder, at)
    if isinstance(numba_type, Vector):
        length = _load_constant(builder, builder.gep(frame, [WORD(position + 1)]))
        made_type = context.get_value_type(numba_type)
        data = builder.inttoptr(word, made_type.elements[_VECTOR_DATA])
        made = builder.insert_value(ir.Constant(made_type, ir.Undefined), data, _VECTOR_DATA)
        return builder.insert_value(made, length, _VECTOR_LENGTH)
    if isinstance(numba_type, types.Boolean):
        return builder.icmp_signed("!=", word, WORD(0))
    return context.cast(builder, word, types.int64, numba_type)


def _load_constant(builder: Any, at: Any) -> Any:
    loaded = builder.load(at)
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


class Lower(lowering.Lower):
    """Numba's lowering of a function to LLVM, with plain indexing."""

    def lower_function_body(self) -> Any:
        inlining = getattr(self.func_ir.func_id.func, "inlining", None)
        if inlining is not None:
            self.function.attributes.add(inlining)
        return super().lower_function_body()

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        return cgutils.alloca_once(self.builder, lltype, name=name)

    def lower_expr(self, resty: Any, expr: Any) -> Any:
        if expr.op == "getiter" and isinstance(self.typeof(expr.value.name), Vector):
            raise NotImplementedError(f"{expr.loc}: an array is gone through by its positions")
        return super().lower_expr(resty, expr)

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        signature = self.fndesc.calltypes[expr]
        function = _PLAIN_OPERATORS.get(op)
        if function is None or not all(map(_is_integer, signature.args)):
            return super().lower_binop(resty, expr, op)
        context, builder = self.context, self.builder
        sides = [
            context.cast(builder, self.loadvar(side.name), self.typeof(side.name), wanted)
            for side, wanted in zip((expr.lhs, expr.rhs), signature.args, strict=True)
        ]
        result = context.get_function(function, signature)(builder, sides)
        return context.cast(builder, result, signature.return_type, resty)

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        array_type, index_type = signature.args
        if is_slice(array_type, index_type):
            return self._slice(array_type, self.loadvar(value.name), self.loadvar(index.name))
        if not _is_plain(array_type, index_type):
            return super().lower_getitem(resty, expr, value, index, signature)
        at = self._address(array_type, self.loadvar(value.name), index)
        item = self.context.unpack_value(self.builder, array_type.dtype, at)
        return self.context.cast(self.builder, item, array_type.dtype, resty)

    def lower_setitem(self, target_var: Any, index_var: Any, value_var: Any, signature: Any) -> Any:
        array_type, index_type, _ = signature.args
        if not _is_plain(array_type, index_type):
            return super().lower_setitem(target_var, index_var, value_var, signature)
        at = self._address(array_type, self.loadvar(target_var.name), index_var)
        value = self.loadvar(value_var.name)
        value_type = self.typeof(value_var.name)
        item = self.context.cast(self.builder, value, value_type, array_type.dtype)
        self.context.pack_value(self.builder, array_type.dtype, item, at)
        return None

    def _slice(self, array_type: Any, array: Any, cut: Any) -> Any:
        """``array[start:stop]``; neither is negative."""
        builder = self.builder
        length = builder.extract_value(array, _VECTOR_LENGTH)
        first, end = builder.extract_value(cut, 0), builder.extract_value(cut, 1)
        end = builder.select(builder.icmp_signed("<", end, length), end, length)
        first = builder.select(builder.icmp_signed("<", first, end), first, end)
        row = WORD(math.prod(array_type.row))
        data = builder.gep(data_of(builder, array_type, array), [builder.mul(first, row)])
        array = builder.insert_value(array, data, _VECTOR_DATA)
        return builder.insert_value(array, builder.sub(end, first), _VECTOR_LENGTH)

    def _address(self, array_type: Any, array: Any, index_var: Any) -> Any:
        index_type = self.typeof(index_var.name)
        index = self.loadvar(index_var.name)
        if isinstance(index_type, types.Integer):
            indices: Sequence[Any] = [index]
            index_types: Sequence[Any] = [index_type]
        else:
            indices = [self.builder.extract_value(index, i) for i in range(len(index_type))]
            index_types = list(index_type)
        position = None
        for i, (part, part_type) in enumerate(zip(indices, index_types, strict=True)):
            wide = types.intp if part_type.signed else types.uintp
            part = self.context.cast(self.builder, part, part_type, wide)
            self.note_index(array_type, array, i, part)
            position = part if position is None else self.builder.add(position, part)
            if i + 1 < len(indices):
                extent = self._extent(array_type, array, i + 1)
                position = self.builder.mul(position, extent)
        return self.builder.gep(data_of(self.builder, array_type, array), [position])

    def note_index(self, array_type: Any, array: Any, axis: int, index: Any) -> None:
        """Called with each index before it is used: ``checks`` has it checked."""

    def _extent(self, array_type: Any, array: Any, axis: int) -> Any:
        if isinstance(array_type, Vector) and axis == 0:
            return self.builder.extract_value(array, _VECTOR_LENGTH)
        if isinstance(array_type, Vector):
            return WORD(array_type.row[axis - 1])
        return self.builder.extract_value(array, [_ARRAY_SHAPE, axis])


def is_slice(array_type: Any, index_type: Any) -> bool:
    """Whether an index is a part of an array, which then is of the same type."""
    return isinstance(array_type, Vector) and index_type == types.slice2_type


# What implements an operator; that in place is the same for numbers.
_PLAIN_OPERATORS = {
    **{op: op for op in (operator.lt, operator.le, operator.gt, operator.ge)},
    **{op: op for op in (operator.eq, operator.ne)},
    **dict.fromkeys((operator.add, operator.iadd), operator.add),
    **dict.fromkeys((operator.sub, operator.isub), operator.sub),
    **dict.fromkeys((operator.mul, operator.imul), operator.mul),
    **dict.fromkeys((operator.and_, operator.iand), operator.and_),
    **dict.fromkeys((operator.or_, operator.ior), operator.or_),
    **dict.fromkeys((operator.xor, operator.ixor), operator.xor),
    **dict.fromkeys((operator.lshift, operator.ilshift), operator.lshift),
    **dict.fromkeys((operator.rshift, operator.irshift), operator.rshift),
}


def _is_integer(numba_type: Any) -> bool:
    return isinstance(numba_type, types.Integer | types.IntegerLiteral)


def _is_plain(array_type: Any, index_type: Any) -> bool:
    if not isinstance(array_type, types.Array) or array_type.layout != "C":
        return False
    if isinstance(index_type, types.BaseTuple):
        parts = list(index_type)
    else:
        parts = [index_type]
    return len(parts) == array_type.ndim and all(isinstance(p, types.Integer) for p in parts)
