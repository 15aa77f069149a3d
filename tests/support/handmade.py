"""Hand-made (base, module) pairs: each shows one rule of dedup, in a few types.

They stand beside the seeded ones of vectors.py, in the same table of digests from libbpf. A case
is a
function that returns how the base and how the module is written; its docstring says which rule it
is
about. `CASES[name]()` gives the three files of a case: base, module, and the module's types
written as
a split BTF on the base.
"""

from __future__ import annotations

from collections.abc import Callable

from support.btfwriter import DATASEC, SIGNED, Writer, bitfield

Write = Callable[[Writer], object]
Pair = tuple[Write, Write]  # what writes the base, and the module
CASES: dict[str, Callable[[], tuple[bytes, bytes, bytes]]] = {}


def case(function: Callable[[], Pair], order: str = "<", suffix: str = "") -> Callable:
    def files() -> tuple[bytes, bytes, bytes]:
        write_base, write_module = function()
        base, module = Writer(order), Writer(order)
        write_base(base)
        write_module(module)
        split = Writer(order, base=base)
        write_module(split)
        return base.to_bytes(), module.to_bytes(), split.to_bytes()

    CASES[function.__name__.replace("_", "-") + suffix] = files
    return function


def case_in_both_orders(function: Callable[[], Pair]) -> Callable:
    case(function)
    return case(function, ">", "-be")


def nothing(w: Writer) -> None:
    """Writes no type at all."""


def twice(write: Write) -> Write:
    """The same types as two compilation units would show them."""
    return lambda w: (write(w), write(w))


def pointer_holder(w: Writer, name: str, target: int, size: int = 8) -> int:
    """struct NAME { TARGET *p; }"""
    return w.struct(name, size, [("p", w.ptr(target), 0)])


# -------------------------------------------------------------------------------------- all kinds


def every_kind(w: Writer) -> None:
    i = w.int("int", 4)
    w.float("double", 8)
    e = w.enum("colour", 4, [("RED", 0), ("BLUE", -1)], signed=True)
    e64 = w.enum64("wide", 8, [("BIG", 1 << 40), ("SMALL", -2)], signed=True)
    fwd = w.fwd("elsewhere")
    ufwd = w.fwd("elsewhere_u", union=True)
    td = w.typedef("number_t", i)
    arr = w.array(td, i, 4)
    node = w.next_id
    w.struct(
        "node", 32, [("next", node + 1, 0), ("values", arr, 64), ("e", e, 192), ("w", e64, 256)]
    )
    w.ptr(node)
    bits = w.struct("bits", 4, [("a", i, bitfield(3, 0)), ("b", i, bitfield(0, 3))], kind_flag=1)
    w.union("either", 8, [("node", w.ptr(node), 0), ("bits", bits, 0), ("", w.ptr(fwd), 0)])
    w.restrict(w.volatile(w.const(w.type_tag("user", w.ptr(ufwd)))))
    w.type_tag("attr", i, attribute=True)
    proto = w.func_proto(i, [("self", node + 1), ("flags", e)], variadic=True)
    f = w.func("do_it", proto, linkage=1)
    w.decl_tag("kfunc", f)
    w.decl_tag("nullable", f, 0, attribute=True)
    w.decl_tag("guarded", node, 1)
    v = w.var("the_node", node, linkage=1)
    w.decl_tag("percpu", v)
    w.datasec(".data", 32, [(v, 0, 32)])


@case_in_both_orders
def all_kinds_known() -> Pair:
    """Everything is in the base already; only VAR and DATASEC, and the tag of a VAR, stay."""
    return every_kind, every_kind


@case_in_both_orders
def all_kinds_new() -> Pair:
    """A base without types: the split result is the module."""
    return nothing, every_kind


@case
def nothing_to_do() -> Pair:
    """A module without types."""
    return every_kind, nothing


@case
def kind_flag_is_identity() -> Pair:
    """The same words but for kind_flag are another type, for every kind that has the flag."""

    def write(w: Writer, flag: int) -> None:
        i = w.int("int", 4)
        for kind_flag in (0, flag):
            w.struct("s", 4, [("a", i, 0)], kind_flag=kind_flag)
            w.union("u", 4, [("a", i, 0)], kind_flag=kind_flag)
            w.enum("e", 4, [("A", 1)], signed=bool(kind_flag))
            w.enum64("e64", 8, [("B", 1)], signed=bool(kind_flag))
            w.fwd("f", union=bool(kind_flag))
            w.type_tag("t", i, attribute=bool(kind_flag))
            w.decl_tag("d", i, attribute=bool(kind_flag))

    return lambda w: write(w, 0), lambda w: write(w, 1)


@case
def int_encodings() -> Pair:
    """INT: name, size and the whole encoding word count."""

    def module(w: Writer) -> None:
        for encoding, bits, offset in (
            (SIGNED, 32, 0),
            (0, 32, 0),
            (SIGNED, 31, 0),
            (SIGNED, 31, 1),
        ):
            pointer_holder(w, "s", w.int("int", 4, encoding, bits, offset))

    return lambda w: pointer_holder(w, "s", w.int("int", 4)), module


# ------------------------------------------------------------------------- types written twice


@case
def arrays_of_different_elements() -> Pair:
    """X{int a[2]; int b[2]} against X{int a[2]; unsigned b[2]}: libbpf f7081a6b merges them."""

    def write(w: Writer, same: bool) -> None:
        i, u = w.int("int", 4), w.int("unsigned int", 4, 0)
        first = w.array(i, i, 2)
        second = first if same else w.array(u, i, 2)
        w.struct("X", 16, [("a", first, 0), ("b", second, 64)])

    return lambda w: write(w, True), lambda w: write(w, False)


@case
def identical_array_twice() -> Pair:
    """The compiler wrote one array type twice: still the same struct."""

    def write(w: Writer, twice: bool) -> None:
        i = w.int("int", 4)
        first = w.array(i, i, 2)
        w.struct("X", 16, [("a", first, 0), ("b", w.array(i, i, 2) if twice else first, 64)])

    return lambda w: write(w, False), lambda w: write(w, True)


def _chain(w: Writer, length: int, first: int) -> int:
    """struct link_0 { struct link_1 *next; }, … `length` of them; -> id of the first."""
    head = w.next_id
    for i in range(length - 1):
        w.ptr(w.next_id + 3)
        w.struct(f"link_{i}", 8, [("next", w.next_id - 1, 0)])
    w.ptr(first)
    w.struct(f"link_{length - 1}", 8, [("next", w.next_id - 1, 0)])
    return head + 1


def _identity_depth(length: int) -> None:
    def function() -> Pair:
        def write(w: Writer, twice: bool) -> None:
            i = w.int("int", 4)
            first = _chain(w, length, i)
            second = _chain(w, length, i) if twice else first
            w.struct("root", 16, [("a", w.ptr(first), 0), ("b", w.ptr(second), 64)])

        return lambda w: write(w, False), lambda w: write(w, True)

    function.__name__ = f"identity_depth_{length}"
    case(function)


for _length in (3, 14, 15, 16, 17, 20):  # the limit is 16 levels, pointers not counted
    _identity_depth(_length)


@case
def cyclic_struct_twice() -> Pair:
    """A copy of a list node runs out of depth: the copies count as different."""

    def write(w: Writer, twice: bool) -> None:
        def node() -> int:
            w.ptr(w.next_id + 1)
            return w.struct("node", 8, [("next", w.next_id - 1, 0)])

        first = node()
        second = node() if twice else first
        w.struct("root", 16, [("a", first, 0), ("b", second, 64)])

    return lambda w: write(w, False), lambda w: write(w, True)


@case
def recursive_typedef() -> Pair:
    """typedef again *again, in base and module, and once more in the module."""

    def write(w: Writer) -> None:
        w.ptr(w.next_id + 1)
        w.typedef("again", w.next_id - 1)

    return write, twice(write)


@case
def recursive_typedef_inside_struct_twice() -> Pair:
    """The identity walk meets a cycle of typedef and pointer; libbpf never comes back."""

    def write(w: Writer, twice: bool) -> None:
        root = (
            w.next_id
        )  # ahead of the typedefs: later they would have their canonical type already
        w.struct("root", 16, [("a", root + 1, 0), ("b", root + (3 if twice else 1), 64)])
        for _ in range(2 if twice else 1):
            w.typedef("again", w.next_id + 1)
            w.ptr(w.next_id - 1)

    return lambda w: write(w, False), lambda w: write(w, True)


@case
def deep_graph() -> Pair:
    """5000 structs, each behind a pointer in the one before: nothing may recurse on the C stack."""

    def write(w: Writer) -> None:
        _chain(w, 5000, w.int("int", 4))

    return write, twice(write)


# --------------------------------------------------------------------------- forward declarations


@case
def base_declares_module_defines() -> Pair:
    """The base cannot learn the definition, so the struct that holds the pointer stays too."""

    def module(w: Writer) -> None:
        pointer_holder(w, "user", w.struct("secret", 4, [("x", w.int("int", 4), 0)]))

    return lambda w: pointer_holder(w, "user", w.fwd("secret")), module


@case
def base_declares_module_defines_twice() -> Pair:
    """After the first time the base's FWD leads to the module's definition: holders do match."""

    def module(w: Writer) -> None:
        secret = w.struct("secret", 4, [("x", w.int("int", 4), 0)])
        for name in ("user", "user", "client", "client"):
            pointer_holder(w, name, secret)
        other = w.struct("secret", 4, [("x", w.int("int", 4), 0)])
        pointer_holder(w, "client", other)
        pointer_holder(w, "user", w.fwd("secret"))

    def base(w: Writer) -> None:
        secret = w.fwd("secret")
        pointer_holder(w, "user", secret)
        pointer_holder(w, "client", secret)

    return base, module


@case
def module_declares_base_defines() -> Pair:
    """By graph (user) and by unique name (loner); the wrong kind and two definitions do not fit."""

    def base(w: Writer) -> None:
        i = w.int("int", 4)
        pointer_holder(w, "user", w.struct("secret", 4, [("x", i, 0)]))
        w.struct("loner", 4, [("x", i, 0)])
        w.union("odd", 4, [("x", i, 0)])
        w.struct("many", 4, [("x", i, 0)])
        w.struct("many", 4, [("y", i, 0)])

    def module(w: Writer) -> None:
        pointer_holder(w, "user", w.fwd("secret"))
        for name in ("loner", "odd", "many", "unknown"):
            w.ptr(w.fwd(name))
        w.ptr(w.fwd("odd", union=True))

    return base, module


@case
def declared_and_defined_within_module() -> Pair:
    """FWD and definition in several units of the module, met through one holder."""

    def module(w: Writer) -> None:
        i = w.int("int", 4)
        pointer_holder(w, "user", w.fwd("a"))
        pointer_holder(w, "user", w.struct("a", 4, [("x", i, 0)]))
        pointer_holder(w, "user", w.fwd("a"))
        w.ptr(w.fwd("b", union=True))
        w.ptr(w.union("b", 4, [("x", i, 0)]))

    return nothing, module


@case
def known_fwd_stays_unresolved() -> Pair:
    """A module's FWD that maps to the base's FWD stays although the module defines the struct."""

    def module(w: Writer) -> None:
        w.ptr(w.fwd("secret"))
        w.struct("secret", 4, [("x", w.int("int", 4), 0)])

    return lambda w: w.ptr(w.fwd("secret")), module


@case
def anonymous_fwd() -> Pair:
    """A name that is empty is a name: an anonymous FWD finds the only anonymous struct."""

    def module(w: Writer) -> None:
        w.ptr(w.fwd(0))
        w.struct(0, 4, [("x", w.int("int", 4), 0)])

    return nothing, module


# ------------------------------------------------------------------------------------------ enums


@case
def base_declares_enum() -> Pair:
    """A full enum of the module takes the place of the base's forward one; holders still match."""

    def module(w: Writer) -> None:
        pointer_holder(w, "user", w.enum("mode", 4, [("A", 0)]))
        pointer_holder(w, "other", w.enum64("mode", 8, [("B", 0)]))

    return lambda w: pointer_holder(w, "user", w.enum("mode", 4)), module


@case
def module_declares_enum() -> Pair:
    """A forward enum takes the first candidate of its name, whatever size and kind."""

    def base(w: Writer) -> None:
        w.enum("mode", 4, [("A", 0)])
        w.enum64("mode", 8, [("B", 0)])

    def module(w: Writer) -> None:
        w.ptr(w.enum("mode", 1))
        w.ptr(w.enum64("mode", 8))
        w.ptr(w.enum("unknown", 4))
        w.ptr(w.enum("unknown", 8))

    return base, module


@case
def ambiguous_forward_enum() -> Pair:
    """One forward enum, several full ones: the last full one seen takes it."""

    def module(w: Writer) -> None:
        w.ptr(w.enum("mode", 4))
        for value in (1, 2, 1, 3):
            w.enum("mode", 4, [("A", value)])

    return nothing, module


@case
def anonymous_empty_enum() -> Pair:
    """An anonymous enum without enumerators is compatible with every anonymous enum."""

    def module(w: Writer) -> None:
        w.ptr(w.enum(0, 4))
        w.ptr(w.enum(0, 4, [("B", 2)]))
        w.ptr(w.enum(0, 8))

    return lambda w: w.enum(0, 4, [("A", 1)]), module


# ---------------------------------------------------------------------------------------- strings


@case
def base_holds_a_string_twice() -> Pair:
    """Names are compared by offset: a base type named by the second copy is not found."""

    def base(w: Writer) -> None:
        w.string("unused")
        w.int(w.string("int"), 4)
        w.int(w.string("int", fresh=True), 4)
        w.float(w.string("double", fresh=True), 8)
        w.int(w.string("double", fresh=True), 2)

    def module(w: Writer) -> None:
        w.ptr(w.int("int", 4))
        w.ptr(w.float("double", 8))
        w.ptr(w.int("double", 2))
        w.int("unused", 1)

    return base, module


@case
def base_name_inside_another_string() -> Pair:
    """A name in the tail of a longer string is not found either; one in the module is."""

    def base(w: Writer) -> None:
        w.int(w.string("unsigned int") + 9, 4)

    def module(w: Writer) -> None:
        long_name = w.string("long unsigned int")
        w.ptr(w.int(long_name + 14, 4))
        w.ptr(w.int("unsigned int", 4, 0))
        w.int(long_name + 17, 1)  # the empty string, not at offset 0

    return base, module


@case
def strings_of_dropped_types_stay() -> Pair:
    """Split: own strings are laid down before types are dropped. Plain: in order of first use."""

    def module(w: Writer) -> None:
        w.string("nobody uses this")
        i = w.int("int", 4)
        for _ in range(2):
            w.struct("pair", 8, [("left", i, 0), ("right", i, 32)])
        w.func("main", w.func_proto(i, [("argc", i)]))

    return lambda w: w.int("int", 4), module


# -------------------------------------------------------------------------------- order and tables


def _candidate_order(fill: int) -> None:
    """Two base structs fit the module's: which one wins flips each time the table grows."""

    def function() -> Pair:
        def base(w: Writer) -> None:
            i = w.int("int", 4)
            definition = w.struct("thing", 4, [("x", i, 0)])
            pointer_holder(w, "", definition)
            pointer_holder(w, "", w.fwd("thing"))
            w.fwd("unrelated")
            for n in range(fill):
                w.int(f"filler_{n}", 4)

        def module(w: Writer) -> None:
            pointer_holder(w, "user", w.next_id + 2)
            pointer_holder(w, "", w.fwd("thing"))
            w.typedef("thing_t", w.next_id - 1)

        return base, module

    function.__name__ = f"candidate_order_{fill}"
    case(function)


for _fill in (0, 5, 12, 20, 60):
    _candidate_order(_fill)


def _reference_order(fill: int) -> None:
    """The base, not deduplicated, holds one pointer type thrice; pass 5 takes the first tried."""

    def function() -> Pair:
        def base(w: Writer) -> None:
            i = w.int("int", 4)
            for _ in range(3):
                w.array(w.const(w.ptr(i)), i, 3)
            for n in range(fill):
                w.float(f"filler_{n}", 4)

        def module(w: Writer) -> None:
            i = w.int("int", 4)
            w.array(w.const(w.ptr(i)), i, 3)
            w.array(w.ptr(i), w.const(w.ptr(i)), 3)

        return base, module

    function.__name__ = f"reference_order_{fill}"
    case(function)


for _fill in (0, 4, 14):
    _reference_order(_fill)


# ---------------------------------------------------------------------------- functions, tags, data


@case
def prototypes() -> Pair:
    """Parameter names, their number, variadic and linkage are identity."""

    def write(w: Writer, names: tuple[str, ...], variadic: bool, linkage: int) -> None:
        i = w.int("int", 4)
        w.func("f", w.func_proto(i, [(name, i) for name in names], variadic), linkage)

    def module(w: Writer) -> None:
        write(w, ("a",), False, 0)
        write(w, ("b",), False, 0)
        write(w, ("a",), True, 0)
        write(w, ("a", "a"), False, 0)
        write(w, ("a",), False, 1)

    return lambda w: write(w, ("a",), False, 0), module


@case
def tags() -> Pair:
    """DECL_TAG: value, target, component and kind_flag; TYPE_TAG: value, target and kind_flag."""

    def write(w: Writer) -> None:
        i = w.int("int", 4)
        s = w.struct("s", 8, [("a", i, 0), ("b", i, 32)])
        for component in (-1, 0, 1, 1):
            w.decl_tag("tag", s, component)
        w.decl_tag("tag", w.typedef("s_t", s))
        w.ptr(w.type_tag("user", w.type_tag("rcu", i)))

    def module(w: Writer) -> None:
        write(w)
        w.decl_tag("tag", w.struct("new", 4), -1)
        w.ptr(w.type_tag("user", w.type_tag("user", w.int("int", 4))))

    return write, module


@case
def data_is_never_merged() -> Pair:
    """VAR and DATASEC stay, twice if they were there twice; what they refer to is deduplicated."""

    def write(w: Writer) -> None:
        v = w.var("counter", w.const(w.int("int", 4)))
        w.datasec(".bss", 8, [(v, 0, 4)])
        w.type(DATASEC, ".bss", 0)

    return write, twice(write)


@case
def records_that_differ_in_one_thing() -> Pair:
    """Name, size, member name, offset, type, number and kind each make another struct."""

    def base(w: Writer) -> None:
        i = w.int("int", 4)
        w.struct("s", 8, [("a", i, 0), ("b", i, 32)])

    def module(w: Writer) -> None:
        i, u = w.int("int", 4), w.int("unsigned int", 4, 0)
        w.struct("s2", 8, [("a", i, 0), ("b", i, 32)])
        w.struct("s", 12, [("a", i, 0), ("b", i, 32)])
        w.struct("s", 8, [("a", i, 0), ("c", i, 32)])
        w.struct("s", 8, [("a", i, 0), ("b", i, 40)])
        w.struct("s", 8, [("a", i, 0), ("b", u, 32)])
        w.struct("s", 8, [("a", i, 0)])
        w.union("s", 8, [("a", i, 0), ("b", i, 32)])
        w.struct("s", 8, [("a", i, 0), ("b", w.int("int", 4), 32)])

    return base, module
