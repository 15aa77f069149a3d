"""Inputs made to be slow: whatever is quadratic or worse in a deduplicator shows on one of them.

Each function gives the bytes of a standalone BTF of about ``n`` types (or members). ``make bench``
measures them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from support.btfwriter import Writer


@dataclass(frozen=True)
class Hostile:
    """A way to make an input, and the sizes to make it in. ``unit`` is what n counts."""

    name: str
    make: Callable[[int], bytes]
    sizes: tuple[int, ...]
    unit: str = "types"


def base() -> bytes:
    """As small as can be: what the inputs cost is theirs alone."""
    writer = Writer()
    writer.int("int", 4)
    return writer.to_bytes()


def identity_walk(depth: int) -> bytes:
    """Two versions of a chain of structs; in the second each struct holds two copies of the next.

    The first version's struct is met with both copies, so somebody has to find out whether these
    are identical, and finds below them two pairs of copies to ask the same of: 2**depth questions
    for who does not remember the answers.
    """
    writer = Writer()
    number = writer.int("int", 4)
    below = writer.struct("s0", 4, [("v", number, 0)])
    for level in range(1, depth):
        below = writer.struct(f"s{level}", 8, [("a", below, 0), ("b", below, 0)])
    copies = [writer.struct("s0", 4, [("v", number, 0)]) for _ in range(2)]
    for level in range(1, depth):
        pairs = (copies, copies[::-1])
        copies = [writer.struct(f"s{level}", 8, [("a", a, 0), ("b", b, 0)]) for a, b in pairs]
    return writer.to_bytes()


def identity_walk_from_top(depth: int) -> bytes:
    """The same with every struct before what it holds: nothing below is settled when it is met."""
    writer = Writer()
    number = writer.int("int", 4)
    for copies in (1, 2):
        for level in range(depth, 0, -1):
            below = writer.next_id + copies
            for copy in range(copies):
                a, b = below + copy, below + (copy + 1) % copies
                writer.struct(f"s{level}", 8, [("a", a, 0), ("b", b, 0)])
        for _ in range(copies):
            writer.struct("s0", 4, [("v", number, 0)])
    return writer.to_bytes()


def identity_through_pointers(depth: int) -> bytes:
    """As ``identity_walk_from_top``, each member a pointer of its own to the struct below."""
    writer = Writer()
    number = writer.int("int", 4)
    for copies in (1, 2):
        for level in range(depth, 0, -1):
            step = 1 if level == 1 else 3  # the structs below come with two pointers each
            below = writer.next_id + 3 * copies
            for copy in range(copies):
                a = writer.next_id + 1
                writer.struct(f"s{level}", 16, [("a", a, 0), ("b", a + 1, 64)])
                writer.ptr(below + step * copy)
                writer.ptr(below + step * ((copy + 1) % copies))
        for _ in range(copies):
            writer.struct("s0", 4, [("v", number, 0)])
    return writer.to_bytes()


def different_ends(depth: int) -> bytes:
    """Two chains of structs alike but at their ends: no two are equal, and only the ends tell."""
    writer = Writer()
    ends = writer.int("int", 4), writer.int("unsigned int", 4, encoding=0)
    for below in ends:
        for level in range(depth):
            below = writer.struct(f"s{level}", 4, [("a", below, 0)])
    return writer.to_bytes()


def different_ends_from_top(depth: int) -> bytes:
    """The same with every struct before what it holds."""
    writer = Writer()
    ends = writer.int("int", 4), writer.int("unsigned int", 4, encoding=0)
    for end in ends:
        for level in range(depth - 1, -1, -1):
            below = writer.next_id + 1 if level else end
            writer.struct(f"s{level}", 4, [("a", below, 0)])
    return writer.to_bytes()


def wide_struct(members: int) -> bytes:
    """Two structs that differ in the type of the last of very many members, and a copy of each."""
    writer = Writer()
    number = writer.int("int", 4)
    other = writer.int("unsigned int", 4, encoding=0)
    for last in (number, other, number, other):
        fields = [(f"m{at}", number, 32 * at) for at in range(members - 1)]
        writer.struct("wide", 4 * members, [*fields, ("last", last, 32 * (members - 1))])
    return writer.to_bytes()


def one_signature(count: int, copies: int = 1) -> bytes:
    """Structs alike but for what a pointer in them leads to: structs of one name, not of one size.

    By names and own words they cannot be told apart, so all are candidates for each other. With
    everything there twice, half of the searches have to succeed.
    """
    writer = Writer()
    number = writer.int("int", 4)
    for _ in range(copies):
        for at in range(count // (3 * copies)):
            target = writer.struct("target", 4 * at + 4, [("at", number, 32 * at)])
            writer.struct("holder", 8, [("to", writer.ptr(target), 0)])
    return writer.to_bytes()


def one_name(count: int) -> bytes:
    """Structs of one name and size, each with a member of another name."""
    writer = Writer()
    number = writer.int("int", 4)
    for at in range(count):
        writer.struct("same", 4, [(f"m{at}", number, 0)])
    return writer.to_bytes()


def typedef_chain(count: int) -> bytes:
    """Each typedef names the one before it, twice over, so that equals are to be found."""
    writer = Writer()
    number = writer.int("int", 4)
    for _ in range(2):
        target = number
        for at in range(count // 2):
            target = writer.typedef(f"t{at}", target)
    return writer.to_bytes()


def typedef_chain_from_top(count: int) -> bytes:
    """Each typedef names the one after it: the last must be settled before the first."""
    writer = Writer()
    number = writer.int("int", 4)
    for _ in range(2):
        for at in range(count // 2 - 1):
            writer.typedef(f"t{at}", writer.next_id + 1)
        writer.typedef("last", number)
    return writer.to_bytes()


def pointer_chain(count: int) -> bytes:
    """A struct at the end of a chain of pointers, and another that holds its beginning; twice."""
    writer = Writer()
    number = writer.int("int", 4)
    for _ in range(2):
        target = writer.struct("end", 4, [("v", number, 0)])
        for _ in range(count // 2 - 2):
            target = writer.ptr(target)
        writer.struct("begin", 8, [("to", target, 0)])
    return writer.to_bytes()


def forward_mix(count: int) -> bytes:
    """Holders of a forward declaration and of definitions that it agrees with, by turns."""
    writer = Writer()
    number = writer.int("int", 4)
    for at in range(count // 6):
        forward = writer.ptr(writer.fwd("target"))
        writer.struct("holder", 8, [("to", forward, 0)])
        target = writer.struct("target", 4 * at + 4, [("at", number, 32 * at)])
        writer.struct("holder", 8, [("to", writer.ptr(target), 0)])
    return writer.to_bytes()


def typedefs_of_one_name(count: int) -> bytes:
    """Each names the next, so that two differ only where the first of them ends."""
    writer = Writer()
    for at in range(count - 1):
        writer.typedef("t", at + 2)
    writer.int("int", 4)
    return writer.to_bytes()


def typedefs_in_a_circle(count: int) -> bytes:
    """The same, and the last one leads to a struct that leads to the first."""
    writer = Writer()
    for at in range(count - 2):
        writer.typedef("t", at + 2)
    writer.struct("end", 8, [("to", count, 0)])
    writer.ptr(1)
    return writer.to_bytes()


def typedefs_of_a_declaration(count: int) -> bytes:
    """The same, and the last one is of what is only declared."""
    writer = Writer()
    for at in range(count - 1):
        writer.typedef("t", at + 2)
    writer.fwd("end")
    return writer.to_bytes()


def structs_of_one_name(count: int) -> bytes:
    """Each points to the next."""
    writer = Writer()
    for at in range(count // 2):
        writer.struct("s", 8, [("to", 2 * at + 2, 0)])
        writer.ptr(2 * at + 3)
    writer.int("int", 4)
    return writer.to_bytes()


def structs_in_a_circle(count: int) -> bytes:
    """Each points to the next, the last to the first: only its name tells them apart."""
    writer = Writer()
    half = count // 2
    for at in range(half):
        writer.struct("s" if at < half - 1 else "end", 8, [("to", 2 * at + 2, 0)])
        writer.ptr(2 * at + 3 if at < half - 1 else 1)
    return writer.to_bytes()


def structs_that_hold_each_other(count: int) -> bytes:
    """As ``structs_of_one_name``, by value, each after what it holds."""
    writer = Writer()
    below = writer.int("int", 4)
    for _ in range(count - 1):
        below = writer.struct("s", 4, [("in", below, 0)])
    return writer.to_bytes()


def structs_of_a_declared_name(
    count: int,
    *,
    members: int = 2,
    between: str = "",
    circle: bool = False,
    end: str = "declaration",
    holes: bool = False,
) -> bytes:
    """Each holds the one before it several times, and there is a forward declaration of their name:
    what is declared cannot be told apart before it is walked.

    members   of each struct
    between   what leads from one to the next: "", "typedef", "array"
    circle    whether the first holds the last, instead of the end
    end       what the first holds: a "declaration" of its name, or a "number"
    holes     whether the last members of some are void, without a rule; else those of the first
    """
    order = random.Random(count)
    writer = Writer()
    number = writer.int("int", 4)
    declaration = writer.ptr(writer.fwd("t")) - 1
    below = declaration if end == "declaration" else number
    if circle:
        below = writer.next_id + (count - 1) * (1 + bool(between)) + bool(between)
    for at in range(count):
        hole = order.random() < 0.5 if holes else at == 0
        last = 0 if hole else below
        fields = [("t", below, 0), *(("", last, 32 * member) for member in range(1, members))]
        below = writer.struct("t", 4 * members, fields)
        if between == "typedef":
            below = writer.typedef("t", below)
        elif between == "array":
            below = writer.array(below, number, 1)
    return writer.to_bytes()


DECLARED = {
    "twice": {},
    "three times": {"members": 3, "holes": True, "end": "number"},
    "typedefs between": {"between": "typedef", "holes": True, "end": "number"},
    "arrays between": {"between": "array", "holes": True, "end": "number"},
    "circle": {"circle": True},
    "circle with holes": {"circle": True, "holes": True},
}


def typedefs_in_a_circle_of_one_name(count: int) -> bytes:
    """Two thirds of them in a circle, of which all are equal, the others leading into void."""
    writer = Writer()
    circle = 2 * count // 3
    for at in range(count):
        writer.typedef("int", at + 2 if at < circle - 1 else 1 if at == circle - 1 else at + 2)
    writer.typedef("int", 0)
    return writer.to_bytes()


ONE_NAME = (  # types that differ only far away from where they begin
    different_ends,
    different_ends_from_top,
    typedefs_of_one_name,
    typedefs_in_a_circle,
    typedefs_of_a_declaration,
    structs_of_one_name,
    structs_in_a_circle,
    structs_that_hold_each_other,
)

HOSTILE = (
    Hostile("identity walk, depth n", identity_walk, (12, 24, 48)),
    Hostile("identity walk, larger", identity_walk, (500, 1000, 2000)),
    Hostile("identity walk from the top", identity_walk_from_top, (12, 24, 48)),
    Hostile("identity walk from the top, larger", identity_walk_from_top, (500, 1000, 2000)),
    Hostile("identity walk through pointers", identity_through_pointers, (12, 24, 48)),
    Hostile("the same, larger", identity_through_pointers, (500, 1000, 2000)),
    Hostile("structs that differ at the end", different_ends, (2_500, 5_000, 10_000)),
    Hostile("the same from the top", different_ends_from_top, (2_500, 5_000, 10_000)),
    Hostile("struct with n members", wide_struct, (15_000, 30_000, 60_000), "members"),
    Hostile("n types, a third of one signature", one_signature, (7_500, 15_000, 30_000)),
    Hostile(
        "a third of one signature, twice",
        partial(one_signature, copies=2),
        (15_000, 30_000, 60_000),
    ),
    Hostile("n structs of one name", one_name, (2_500, 5_000, 10_000)),
    Hostile("chain of n typedefs", typedef_chain, (25_000, 50_000, 100_000)),
    Hostile("chain of n typedefs from the top", typedef_chain_from_top, (25_000, 50_000, 100_000)),
    Hostile("n typedefs of one name", typedefs_of_one_name, (25_000, 50_000, 100_000)),
    Hostile("n structs of one name in a circle", structs_in_a_circle, (25_000, 50_000, 100_000)),
    Hostile("chain of n pointers", pointer_chain, (25_000, 50_000, 100_000)),
    Hostile("forward declarations among definitions", forward_mix, (7_500, 15_000, 30_000)),
)
