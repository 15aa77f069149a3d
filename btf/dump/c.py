"""BTF as a C header that compiles: every type after what it needs, laid out as it was.

``dump_c`` decides what is written and how declarations read; the order is made in
``c_order``, padding and attributes in ``c_layout``, names in ``c_names``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..arguments import takes
from ..format import kinds
from ..format.kinds import COMPOSITES, ENUMS
from ..types.btf import BTF
from .c_declare import Declarer
from .c_layout import Planner
from .c_names import MACROS
from .c_order import BUILT_IN, Order
from .c_tags import Tags
from .c_types import TypeTable
from .fields import valid_roots

PARTS_PER_CHUNK = 2000
KFUNC = "bpf_kfunc"
"""The tag that pahole puts on kfuncs."""


@takes(btf=BTF)
def dump_c(btf: BTF, *, asserts: bool = False, roots: Sequence[int] | None = None) -> Iterator[str]:
    """Write a C header with the own types, in pieces that end with a line.

    Of split BTF: the own types, preceded by what they need of the base, so that the header compiles
    alone. kfuncs (functions tagged ``bpf_kfunc``, by pahole since 1.26) get their prototypes.

    asserts   static assertions of the size of every struct, union and enum, and of the offset of
              every member that is no bit-field
    roots     ids of types of any level: only these, and what they need; no kfuncs but those among
              them

    Raises BtfError for types that C cannot express at all, such as a typedef of itself.
    """
    types = TypeTable(btf)
    planner = Planner(types)
    order, tags = Order(types, planner), Tags(btf, types)
    chosen = valid_roots(btf, roots)
    wanted = range(btf.start_id, btf.type_end) if chosen is None else chosen
    for type_id in wanted:
        kind = types.kind(type_id)
        if kind == kinds.TYPEDEF:
            if types.name(type_id) != BUILT_IN:
                order.add((type_id, False))
        elif types.name(type_id) and (kind in COMPOSITES or kind in ENUMS or kind == kinds.FWD):
            order.add((type_id, kind != kinds.FWD))
        elif chosen is not None and kind not in ENUMS:
            has_type = kind in (kinds.FUNC, kinds.VAR)
            order.add_use(types.third(type_id) if has_type else type_id)
    for type_id in wanted:  # constants that no type refers to
        if types.kind(type_id) in ENUMS and not types.name(type_id):
            if type_id not in order.inlined and types.vlen(type_id):
                order.add((type_id, True))
    kfuncs = [
        function
        for tag, function in tags.tagged(KFUNC)
        if types.kind(function) == kinds.FUNC
        and (tag >= btf.start_id if chosen is None else function in chosen)
    ]
    for function in kfuncs:
        order.add_use(types.third(function))

    declarer = Declarer(types, planner, order, tags)
    parts = [_prologue(btf)]
    for step in order.steps:
        text = declarer.step(step)
        if text:
            parts += text, "\n\n"
            if asserts:
                parts.append(declarer.asserts())
        if len(parts) > PARTS_PER_CHUNK:
            yield "".join(parts)
            parts.clear()
    if kfuncs:
        prototypes = "".join(f"{declarer.kfunc(function)}\n" for function in kfuncs)
        parts.append(_KFUNCS.replace("@", prototypes))
    parts.append(_EPILOGUE)
    yield "".join(parts)


def _prologue(btf: BTF) -> str:
    strings = btf.chain_strings.tobytes()
    undefined = [f"#undef {name}\n" for name in MACROS if f"\0{name}\0".encode() in strings]
    return _HEAD.replace("@", "".join((*undefined, "\n")) if undefined else "")


# The guard is the one that BPF headers look for to know that kernel types are there.
_HEAD = """\
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

/* Tags are for compilers that know them (clang); others need not see them. */
#if defined(__clang__)
#define __btf_type_tag(tag) __attribute__((btf_type_tag(tag)))
#define __btf_decl_tag(tag) __attribute__((btf_decl_tag(tag)))
#define __btf_attribute(attribute) __attribute__((attribute))
#else
#define __btf_type_tag(tag)
#define __btf_decl_tag(tag)
#define __btf_attribute(attribute)
#endif

/* For BPF programs: offsets are relocated to those of the running kernel. */
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

@"""

_KFUNCS = """\
/* BPF kfuncs */
#ifndef BPF_NO_KFUNC_PROTOTYPES
#ifndef __ksym
#define __ksym __attribute__((section(".ksyms")))
#endif
#ifndef __weak
#define __weak __attribute__((weak))
#endif

@#endif

"""

_EPILOGUE = """\
#if defined(__clang__) && defined(__bpf__) && !defined(BPF_NO_PRESERVE_ACCESS_INDEX)
#pragma clang attribute pop
#endif

#endif /* __VMLINUX_H__ */
"""
