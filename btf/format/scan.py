"""The one pass over untrusted type records: finds where each type starts and checks what it says.

The compiled pass only keeps maxima, so that it costs next to nothing on good input. When a
maximum is out of range, ``locate_fault`` walks again, slowly, and names the first fault.
"""

from __future__ import annotations

import numpy as np

from ..compiled.jit import compiled
from ..errors import BtfError
from . import kinds
from .kinds import (
    ELEMENT_NAME,
    ELEMENT_NAME_MASK,
    ELEMENT_REF,
    ELEMENT_REF_MASK,
    FIXED_REFS,
    FUNC,
    FUNC_PROTO,
    HEAD_IS_REF,
    HEAD_REF_MASK,
    HEAD_WORDS,
    INFO_KIND_MASK,
    INFO_KIND_SHIFT,
    INFO_VLEN_MASK,
    MAX_KIND,
    REF_IN_ELEMENT,
    kind_of,
)

# In place of the number of types: the section is not sound.
UNSOUND = -1


def scan_types(
    words: np.ndarray, kind_words: np.ndarray, start_id: int, str_end: int
) -> np.ndarray | None:
    """Return the position of each type's first word, and the number of words: uint32, shape (T+1,).

    None if the section is not sound: then ``locate_fault`` tells why. See ``scan`` for arguments.
    """
    offsets = np.empty(len(words) // HEAD_WORDS + 1, np.uint32)
    count = scan(words, kind_words, start_id, str_end, offsets)
    return None if count == UNSOUND else offsets[: count + 1].copy()


@compiled
def scan(words, kind_words, start_id, str_end, offsets):  # type: ignore[no-untyped-def]
    """Step through a type section: returns the number of types, or UNSOUND.

    words       uint32, shape (W,): type section in native byte order, untrusted
    kind_words  int32, shape (KIND_COUNT, 2): see ``header.kind_words``
    start_id    id of the first type
    str_end     one more than the last string offset, those of the base included
    offsets     uint32, shape (W // 3 + 1,): filled with the first word of each type, and their end

    UNSOUND means: a record is of unknown kind or leaves the section, a type id or string offset is
    out of range, or a FUNC refers to an own type that is no FUNC_PROTO.
    """
    end = len(words)
    at = 0
    count = 0
    first_func = np.int64(-1)
    max_ref = np.uint32(0)
    max_name = np.uint32(0)
    while at < end:
        if at + HEAD_WORDS > end:
            return UNSOUND
        info = words[at + 1]
        kind = kind_of(info)
        vlen = np.int64(info & INFO_VLEN_MASK)
        fixed = np.int64(kind_words[kind, 0])
        if fixed < 0:
            return UNSOUND
        stride = np.int64(kind_words[kind, 1])
        body = at + HEAD_WORDS
        following = body + fixed + vlen * stride
        if following > end:
            return UNSOUND
        offsets[count] = at
        count += 1
        max_name = max(max_name, words[at])
        max_ref = max(max_ref, words[at + 2] & HEAD_REF_MASK[kind])
        if first_func < 0 and kind == FUNC:
            first_func = count - 1
        for word in range(body, body + FIXED_REFS[kind]):
            max_ref = max(max_ref, words[word])
        if stride > 0:
            name_mask = ELEMENT_NAME_MASK[kind]
            ref_mask = ELEMENT_REF_MASK[kind]
            ref_at = np.int64(REF_IN_ELEMENT[kind])
            body += fixed
            while body < following:  # the steps of a range would be counted, by a division
                max_name = max(max_name, words[body] & name_mask)
                max_ref = max(max_ref, words[body + ref_at] & ref_mask)
                body += stride
        at = following
    offsets[count] = at
    if np.int64(max_ref) >= start_id + count or np.int64(max_name) >= str_end:
        return UNSOUND
    if first_func >= 0 and not _funcs_have_prototypes(words, offsets, first_func, count, start_id):
        return UNSOUND
    return count


@compiled
def _funcs_have_prototypes(words, offsets, first, count, start_id):  # type: ignore[no-untyped-def]
    """Whether no FUNC refers to void, or to an own type that is no FUNC_PROTO.

    words, offsets, start_id  see ``scan``; all type ids are in range
    first, count  numbers (0-based) of the first FUNC and of types
    """
    for index in range(first, count):
        at = np.int64(offsets[index])
        if kind_of(words[at + 1]) != FUNC:
            continue
        target = np.int64(words[at + 2]) - start_id
        if target < 0:
            if words[at + 2] == 0:
                return False
            continue  # in the base: checked by the caller, who has it
        info = words[np.int64(offsets[target]) + 1]
        if kind_of(info) != FUNC_PROTO:
            return False
    return True


def locate_fault(
    words: np.ndarray, kind_words: np.ndarray, start_id: int, str_end: int, path: str | None
) -> BtfError:
    """Find the first fault in a type section that ``scan_types`` refused; returns the error."""

    def fault(message: str, word: int, index: int) -> BtfError:
        return BtfError(message, path, "types", word * 4, start_id + index)

    starts: list[int] = []
    at, end = 0, len(words)
    while at < end:
        index = len(starts)
        if at + HEAD_WORDS > end:
            return fault(f"truncated: {(end - at) * 4} bytes left, a type has 12", at, index)
        info = int(words[at + 1])
        kind = info >> INFO_KIND_SHIFT & INFO_KIND_MASK
        vlen = info & INFO_VLEN_MASK
        fixed, stride = (int(word) for word in kind_words[kind])
        if fixed < 0:
            return fault(
                f"{kinds.called(kind)} is not known, and no layout section tells how long it is: "
                "damaged, or written by a newer encoder",
                at,
                index,
            )
        length = HEAD_WORDS + fixed + vlen * stride
        if at + length > end:
            return fault(
                f"{kinds.called(kind)} with vlen {vlen} needs {length * 4} bytes, "
                f"{(end - at) * 4} are left in the section",
                at,
                index,
            )
        starts.append(at)
        at += length
    type_end = start_id + len(starts)
    for index, at in enumerate(starts):
        info = int(words[at + 1])
        kind = info >> INFO_KIND_SHIFT & INFO_KIND_MASK
        vlen = info & INFO_VLEN_MASK
        names, refs = [at], []
        if kind <= MAX_KIND:
            spec = kinds.SPECS[kind - 1]
            body = at + HEAD_WORDS
            refs = [at + 2] if HEAD_IS_REF[kind] else []
            refs += range(body, body + int(FIXED_REFS[kind]))
            body += len(spec.fixed)
            for element in range(body, body + vlen * len(spec.element), len(spec.element) or 1):
                if ELEMENT_NAME[kind] == 0:
                    names.append(element)
                if ELEMENT_REF[kind] >= 0:
                    refs.append(element + int(ELEMENT_REF[kind]))
        for word in names:
            if words[word] >= str_end:
                what = "name" if word == at else "a member's name"
                return fault(
                    f"{what} is at string offset {words[word]}, strings end at {str_end}",
                    word,
                    index,
                )
        for word in refs:
            if words[word] >= type_end:
                return fault(
                    f"refers to type [{words[word]}], the last one is [{type_end - 1}]", word, index
                )
        if kind == FUNC:
            target = int(words[at + 2])
            if target >= start_id:
                target_info = int(words[starts[target - start_id] + 1])
                target_kind = target_info >> INFO_KIND_SHIFT & INFO_KIND_MASK
            else:
                target_kind = FUNC_PROTO if target else kinds.VOID
            if target_kind != FUNC_PROTO:
                return fault(f"FUNC refers to type [{target}], which is no FUNC_PROTO", at, index)
    raise AssertionError("locate_fault called for a sound type section")
