"""Arrays and named tuples in LLVM.

A named tuple of arrays reaches Numba's functions as all fields of all its arrays: 300 arguments in
each call where a kernel hands its tables on. Here it is one, the address of its words in the frame
(``Bundle``); a field is loaded where it is used. The words never change during a call, and LLVM is
told so.

Indexing an array with integers is an address and a load or a store. Numba's own way (a copy of the
array's structure, the index wrapped round if it is negative) is eight times the code, which all
has to be written, read and optimised away again; the wrapping stays, and costs at run time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import lowering, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import Registry
from numba.core.typing import templates
from numba.np import arrayobj

WORD = ir.IntType(64)


class Bundle(types.Type):
    """A named tuple as the address of its words.

    fields  by name: (position of its first word, its type)
    """

    def __init__(self, name: str, fields: dict[str, tuple[int, Any]]) -> None:
        self.fields = fields
        super().__init__(f"Bundle({name}, {fields})")


class Vector(types.Array):
    """An array whose rows have a known length: ``row`` elements, or () if there are no rows."""

    def __init__(self, dtype: Any, row: tuple[int, ...]) -> None:
        self.row = row
        super().__init__(dtype, 1 + len(row), "C", name=f"Vector({dtype}, {row})")

    @property
    def key(self) -> Any:
        return self.dtype, self.row


@register_default(Bundle)
class _BundleModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, WORD.as_pointer())


register_default(Vector)(models.ArrayModel)

registry = Registry("splitbtf kernels")


class BundleAttribute(templates.AttributeTemplate):
    """The type of a field of a named tuple."""

    key = Bundle

    def generic_resolve(self, typ: Any, attr: str) -> Any:
        return typ.fields[attr][1] if attr in typ.fields else None


@registry.lower_getattr_generic(Bundle)
def _field(context: Any, builder: Any, typ: Any, value: Any, attr: str) -> Any:
    position, field_type = typ.fields[attr]
    return load_argument(context, builder, value, position, field_type)


def words_of(numba_type: Any) -> int:
    """How many words of a frame an argument of a type takes."""
    if isinstance(numba_type, Bundle):
        return sum(words_of(field) for _, field in numba_type.fields.values())
    return 2 if isinstance(numba_type, types.Array) else 1


def load_argument(context: Any, builder: Any, frame: Any, position: int, numba_type: Any) -> Any:
    """An argument (see ``jit._flatten``) that starts at a position of a frame."""
    at = builder.gep(frame, [WORD(position)])
    if isinstance(numba_type, Bundle):
        return at
    word = _load_constant(builder, at)
    if isinstance(numba_type, Vector):
        length = _load_constant(builder, builder.gep(frame, [WORD(position + 1)]))
        made = context.make_array(numba_type)(context, builder)
        item = context.get_abi_sizeof(context.get_data_type(numba_type.dtype))
        shape = [length, *map(WORD, numba_type.row)]
        strides = [WORD(item * row) for row in numba_type.row] + [WORD(item)]
        arrayobj.populate_array(
            made,
            data=builder.inttoptr(word, made.data.type),
            shape=shape,
            strides=strides,
            itemsize=WORD(item),
            meminfo=None,
        )
        return made._getvalue()
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

    def lower_getitem(self, resty: Any, expr: Any, value: Any, index: Any, signature: Any) -> Any:
        array_type, index_type = signature.args
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
            position = part if position is None else self.builder.add(position, part)
            if i + 1 < len(indices):
                extent = self._extent(array_type, array, i + 1)
                position = self.builder.mul(position, extent)
        data = self.builder.extract_value(array, _DATA)
        return self.builder.gep(data, [position])

    def _extent(self, array_type: Any, array: Any, axis: int) -> Any:
        if isinstance(array_type, Vector):
            return WORD(array_type.row[axis - 1])
        return self.builder.extract_value(array, [_SHAPE, axis])


# Fields of Numba's structure of an array.
_DATA = 4
_SHAPE = 5


def _is_plain(array_type: Any, index_type: Any) -> bool:
    if not isinstance(array_type, types.Array) or array_type.layout != "C":
        return False
    if isinstance(index_type, types.BaseTuple):
        parts = list(index_type)
    else:
        parts = [index_type]
    return len(parts) == array_type.ndim and all(isinstance(p, types.Integer) for p in parts)
