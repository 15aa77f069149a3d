"""Checks in machine code, for tests: what Python would raise IndexError for, and more.

Compiled functions check nothing: each index, length and shift is right because something before has
seen to it. With ``SPLITBTF_CHECKED`` they are compiled with a check of

* each index of an element, of a slice and of a read or write of eight bytes: 0 <= index < length,
  so negative ones are wrong, and so is a slice that ends beyond the array;
* each number that is stored or cast to a smaller or otherwise signed type: it must fit there,
  because a size that was cut off is right for no array;
* each shift: by less than the bits that the number has.

A function in which a check fails returns at once, and so do all that called it, by the error codes
that Numba's calls have anyway: the code says which check it was, and where Numba has the address
of an exception is the number that was wrong.
"""

from __future__ import annotations

import operator
import zlib
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from .lowering import WORD, Lower

_SHIFTS = {operator.lshift, operator.ilshift, operator.rshift, operator.irshift}
_WIDE = {"load64", "store64"}  # of ``instructions``
_FIRST_CODE = 1 << 16  # beyond those of Numba


class CheckedLower(Lower):
    """Lowering that checks. ``library.checks`` says what the code of each check means."""

    def lower_binop(self, resty: Any, expr: Any, op: Any) -> Any:
        if op in _SHIFTS:
            by_type = self.typeof(expr.rhs.name)
            by = self.context.cast(self.builder, self.loadvar(expr.rhs.name), by_type, types.int64)
            self._check(self.builder.icmp_unsigned("<", by, WORD(64)), by, "shift by")
        return super().lower_binop(resty, expr, op)

    def _lower_call_normal(self, fnty: Any, expr: Any, signature: Any) -> Any:
        name = getattr(getattr(fnty, "typing_key", None), "__name__", "")
        if isinstance(fnty, types.Function) and name in _WIDE:
            array, at = (self.loadvar(arg.name) for arg in expr.args[:2])
            at_type = self.typeof(expr.args[1].name)
            at = self.context.cast(self.builder, at, at_type, types.int64)
            last = self.builder.sub(self._extent(signature.args[0], array, 0), WORD(8))
            enough = self.builder.icmp_signed(">=", last, WORD(0))
            fits = self.builder.and_(enough, self.builder.icmp_unsigned("<=", at, last))
            self._check(fits, at, "eight bytes at")
        if isinstance(fnty, types.NumberClass) and len(expr.args) == 1:
            self._check_fits(expr.args[0].name, signature.return_type)
        return super()._lower_call_normal(fnty, expr, signature)

    def lower_setitem(self, target_var: Any, index_var: Any, value_var: Any, signature: Any) -> Any:
        self._check_fits(value_var.name, signature.args[0].dtype)
        return super().lower_setitem(target_var, index_var, value_var, signature)

    def _check_fits(self, name: str, wanted: Any) -> None:
        given = self.typeof(name)
        if not isinstance(given, types.Integer) or not isinstance(wanted, types.Integer):
            return
        value = self.loadvar(name)
        there = self.context.cast(self.builder, value, given, wanted)
        back = self.context.cast(self.builder, there, wanted, given)
        fits = self.builder.icmp_unsigned("==", back, value)
        if given.signed != wanted.signed:
            number, kind = (value, given) if given.signed else (there, wanted)
            zero = ir.Constant(self.context.get_value_type(kind), 0)
            fits = self.builder.and_(fits, self.builder.icmp_signed(">=", number, zero))
        shown = self.context.cast(self.builder, value, given, types.int64)
        self._check(fits, shown, f"no {wanted} is")

    def _slice(self, array_type: Any, array: Any, cut: Any) -> Any:
        length = self._extent(array_type, array, 0)
        first, end = self.builder.extract_value(cut, 0), self.builder.extract_value(cut, 1)
        most = ir.Constant(ir.IntType(64), types.intp.maxval)  # array[first:]
        to_end = self.builder.icmp_unsigned("==", end, most)
        within = self.builder.icmp_unsigned("<=", end, length)
        self._check(self.builder.or_(to_end, within), end, "slice to")
        self._check(self.builder.icmp_unsigned("<=", first, length), first, "slice from")
        return super()._slice(array_type, array, cut)

    def note_index(self, array_type: Any, array: Any, axis: int, index: Any) -> None:
        extent = self._extent(array_type, array, axis)
        self._check(self.builder.icmp_unsigned("<", index, extent), index, "index")

    def _check(self, good: Any, number: Any, what: str) -> None:
        """Have the function return, and those that called it, unless ``good``."""
        place = f"{self.loc.filename}:{self.loc.line}: {what}"
        code = _FIRST_CODE + zlib.crc32(place.encode()) % (1 << 30)
        self.library.checks[code] = place
        with cgutils.if_unlikely(self.builder, self.builder.not_(good)):
            slot = self.call_conv._get_excinfo_argument(self.builder.function)
            self.builder.store(self.builder.inttoptr(number, slot.type.pointee), slot)
            self.call_conv._return_errcode_raw(self.builder, ir.Constant(ir.IntType(32), code))
