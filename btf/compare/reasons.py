"""The reasons for which two types differ, as short codes for tables, each explained once.

``shallow`` finds those of ``REASONS``. ``UNMERGED_REASONS`` are of ``btf.unmerged_types``: why
types stay that do not differ.
"""

from __future__ import annotations

KIND = "kind"
DECLARED = "declared"
NAME = "name"
SIZE = "size"
MEMBERS = "members"
OFFSET = "offset"
BITFIELD = "bitfield"
MEMBER_TYPE = "member_type"
ARRAYS = "arrays"
VALUES = "values"
ENCODING = "encoding"
TARGET = "target"
PROTOTYPE = "prototype"
LINKAGE = "linkage"

SEVERAL = "several"
STRINGS = "strings"
ORDER = "order"
NEVER_MERGED = "never_merged"

REASONS: dict[str, str] = {
    KIND: "one is of another kind: struct and union, enum and enum64, integer and float",
    DECLARED: "one is a forward declaration, the other a definition",
    NAME: "they have different names",
    SIZE: "their sizes differ, and no member tells why",
    MEMBERS: "one has members that the other lacks, or has them in another order",
    OFFSET: "a member lies elsewhere",
    BITFIELD: "a bit field lies elsewhere or has another number of bits",
    MEMBER_TYPE: "a member's type is another one",
    ARRAYS: "the same array of several dimensions, written as one array in one and as arrays of "
    "arrays in the other: pahole does that since version 1.32",
    VALUES: "an enumerator is missing or has another value",
    ENCODING: "the same size, but read otherwise: signedness, bits, how bit fields are written",
    TARGET: "what a typedef, variable or section stands for is another type",
    PROTOTYPE: "a function's parameters or what it returns",
    LINKAGE: "static in one, global or extern in the other",
}

UNMERGED_REASONS: dict[str, str] = {
    SEVERAL: "more than one type has this name, so that it cannot be told which is meant",
    STRINGS: "the same, but the base holds a name twice, and names are compared by their place",
    ORDER: "the same, but not when dedup compared the two: it depends on the order of the types",
    NEVER_MERGED: "variables and data sections are a module's own and never merged",
}
