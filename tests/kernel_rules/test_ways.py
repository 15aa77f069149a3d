"""Protects btf/kernel_rules: what the kernel asks of modules and of its own BTF, and of bytes that
are no BTF at all."""

from __future__ import annotations

import struct

import numpy as np
import pytest

import btf
from support import btfwriter as b
from support.btfwriter import Writer

INT = 1  # the id of ``int``, which each file begins with


def base() -> Writer:
    writer = Writer()
    writer.int("int", 4)
    writer.const(INT)
    return writer


def test_a_module_is_checked_on_its_base_and_its_references_are_not() -> None:
    on = btf.parse(base().to_bytes())
    split = Writer(base=base())
    split.struct("s", 1, [("a", 99, 0)])  # refers to no type, and is too small
    btf.check_kernel_rules(split.to_bytes(), on)
    split.typedef("int 2", INT)
    with pytest.raises(btf.KernelRefusal, match=r"type \[4\]: TYPEDEF int 2"):
        btf.check_kernel_rules(split.to_bytes(), on)


def test_names_of_a_module_are_in_its_base_too() -> None:
    on = btf.parse(base().to_bytes())
    split = Writer(base=base())
    split.typedef("int", 2)
    assert split.strings == b""  # a module may have none of its own
    btf.check_kernel_rules(split.to_bytes(), on)
    btf.check_kernel_rules(btf.parse(split.to_bytes(), on))
    split.typedef(2, INT)
    btf.check_kernel_rules(split.to_bytes(), on)  # "nt", of "int"
    split.typedef(4, INT)
    with pytest.raises(btf.KernelRefusal, match="TYPEDEF needs a name"):
        btf.check_kernel_rules(split.to_bytes(), on)


def test_chains_go_on_in_the_base() -> None:
    on = btf.parse(base().to_bytes())
    split = Writer(base=base())
    split.type_tag("t", 2)
    btf.check_kernel_rules(split.to_bytes(), on, release="6.12")
    tags = Writer()
    tags.int("int", 4)
    tags.type_tag("t", INT)
    on = btf.parse(tags.to_bytes())
    split = Writer(base=tags)
    split.const(2)
    btf.check_kernel_rules(split.to_bytes(), on)
    with pytest.raises(btf.KernelRefusal, match="Type tags don't precede modifiers"):
        btf.check_kernel_rules(split.to_bytes(), on, release="6.12")


def test_an_empty_module_loads_and_an_empty_program_does_not() -> None:
    on = btf.parse(base().to_bytes())
    btf.check_kernel_rules(b.assemble(b"", b""), on)
    with pytest.raises(btf.KernelRefusal, match="No data"):
        btf.check_kernel_rules(b.assemble(b"", b""))


def test_vmlinux_is_trusted_to_be_sound() -> None:
    writer = base()
    writer.struct("a", 4, [("b", writer.next_id, 0)])
    loop = writer.to_bytes()
    with pytest.raises(btf.KernelRefusal, match="Loop detected"):
        btf.check_kernel_rules(loop)
    btf.check_kernel_rules(loop, load_as="vmlinux")


def test_either_byte_order_and_pointer_size() -> None:
    for order in b.BYTE_ORDERS:
        writer = Writer(order)
        writer.int("long int", 4)
        writer.struct("s", 4, [("p", writer.next_id + 1, 0)])
        writer.ptr(0)
        btf.check_kernel_rules(writer.to_bytes())  # of a kernel of 32 bits, by its long
        with pytest.raises(btf.KernelRefusal, match="Member exceeds struct_size"):
            btf.check_kernel_rules(writer.to_bytes(), pointer_size=8)


def test_what_cannot_be_asked() -> None:
    data = base().to_bytes()
    on = btf.parse(data)
    with pytest.raises(btf.UnsupportedError, match=r"since 5\.10 are"):
        btf.check_kernel_rules(data, release="4.19.0")
    with pytest.raises(ValueError, match="no kernel release"):
        btf.check_kernel_rules(data, release="bookworm")
    with pytest.raises(ValueError, match="without a base"):
        btf.check_kernel_rules(data, on, load_as="program")
    with pytest.raises(ValueError, match="on a base"):
        btf.check_kernel_rules(data, load_as="module")
    with pytest.raises(ValueError, match="one of program"):
        btf.check_kernel_rules(data, load_as="modules")
    split = Writer(base=base())
    split.ptr(0)
    module = btf.parse(split.to_bytes(), on)
    with pytest.raises(btf.UnsupportedError, match="two levels"):
        btf.check_kernel_rules(Writer(base=split).to_bytes(), module)
    btf.check_kernel_rules(data, release="99.1")  # by the newest rules that are known


def test_more_types_than_ids_are_dropped_without_a_word() -> None:
    """As the kernel does: what refers to one of them refers to nothing."""
    record = struct.pack("<3I", 0, b.PTR << 24, 0)
    btf.check_kernel_rules(b.assemble(record * (1 << 20), b"\0"))
    refers = struct.pack("<3I", 0, b.PTR << 24, (1 << 20) - 1)
    with pytest.raises(btf.KernelRefusal, match="Invalid type_id"):
        btf.check_kernel_rules(b.assemble(refers + record * (1 << 20), b"\0"))


def test_damaged_bytes_are_refused_or_taken_and_nothing_else() -> None:
    """Any bytes: whatever the library itself cannot read has no other error either."""
    rng = np.random.default_rng(7)
    writer = base()
    writer.struct("s", 8, [("a", INT, 0)])
    writer.datasec(".data", 4, [(writer.var("v", INT), 0, 4)])
    writer.func("f", writer.func_proto(INT, [("a", writer.typedef("t", INT))]))
    writer.decl_tag("tag", writer.enum("e", 4, [("one", 1)]) - 1, 0)
    whole = writer.to_bytes()
    verdicts = set()
    for _ in range(600):
        data = bytearray(whole[: rng.integers(len(whole) + 1)] if rng.random() < 0.2 else whole)
        for at in rng.integers(0, len(data) or 1, rng.integers(1, 4)) if data else ():
            data[at] = rng.integers(256)
        for release in ("5.10", "6.1", "7.3"):
            try:
                btf.check_kernel_rules(bytes(data), release=release)
                verdicts.add("")
            except btf.KernelRefusal as refusal:
                verdicts.add(refusal.source)
    assert len(verdicts) > 10
