"""The rules: what each forbids, which function of kernel/bpf/btf.c has it, and since when.

A rule is known by a number, which the compiled functions return; 0 means that nothing was found.
They ask ``active`` only for rules that not every release has. Releases are mainline's; what stable
releases of all series since 5.10 have got meanwhile counts as being there always (names with dots,
parameters that are variables). Compared with the sources of 5.10.223, 6.1.176, 6.12.117, 7.2.13
and 7.3.4; in between, the releases are those that the commits went into.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from ..errors import UnsupportedError

OLDEST = (5, 10)
NEWEST = (7, 3)
Release = tuple[int, int]

MAX_RESOLVE_DEPTH = 32
MAX_TYPE_ID = 0x000FFFFF  # BTF_MAX_TYPE
MAX_NAME_OFFSET = 0x00FFFFFF  # BTF_MAX_NAME_OFFSET
MAX_PROGRAM_BYTES = 16 << 20  # BTF_MAX_SIZE


@dataclass(frozen=True)
class Rule:
    """One rule.

    source   the function of kernel/bpf/btf.c
    words    what the kernel says in its log; "" where it says nothing
    what     what is wrong, in ours
    since    first release with the rule
    until    first release without it, None where it is still there
    """

    source: str
    words: str
    what: str
    since: Release
    until: Release | None

    @property
    def releases(self) -> str:
        """The releases that have the rule, in words."""
        since = f"since Linux {self.since[0]}.{self.since[1]}"
        return f"{since}, until {self.until[0]}.{self.until[1]}" if self.until else since

    def holds_in(self, release: Release) -> bool:
        """Whether that release has the rule."""
        return self.since <= release and (self.until is None or release < self.until)


RULES: list[Rule | None] = [None]


def _rule(
    source: str,
    words: str,
    what: str,
    since: Release = (4, 18),
    until: Release | None = None,
) -> int:
    RULES.append(Rule(source, words, what, since, until))
    return len(RULES) - 1


_KIND_FLAG = "Invalid btf_info kind_flag"
_VLEN = "vlen != 0"
_NAME = "Invalid name"
_IDENTIFIER = "is to begin with a letter, _ or ., and to go on with these and digits"

# The file.
TOO_LARGE = _rule("btf_parse", "", "larger than 16 MiB, the most that a program's BTF may have")
HEADER_SHORT = _rule("btf_parse_hdr", "hdr_len not found", "the file ends before hdr_len")
HEADER_CUT = _rule("btf_parse_hdr", "btf_header not found", "the file ends within its header")
HEADER_LONG = _rule(
    "btf_parse_hdr",
    "Unsupported btf_header",
    "header bytes that this release does not know are used",
)
MAGIC = _rule("btf_parse_hdr", "Invalid magic", "the magic number is not 0xeb9f")
VERSION = _rule("btf_parse_hdr", "Unsupported version", "the version is not 1")
FLAGS = _rule("btf_parse_hdr", "Unsupported flags", "flags in the header are not 0")
NO_DATA = _rule("btf_parse_hdr", "No data", "nothing follows the header")
SECTION_OFFSET = _rule(
    "btf_check_sec_info", "Invalid section offset", "a section begins beyond the end of the file"
)
SECTION_GAP = _rule(
    "btf_check_sec_info", "Unsupported section found", "there are bytes that belong to no section"
)
SECTION_OVERLAP = _rule("btf_check_sec_info", "Section overlap found", "two sections overlap")
SECTION_LENGTH = _rule(
    "btf_check_sec_info", "Total section length too long", "a section ends beyond the file"
)
STRINGS_NOT_LAST = _rule(
    "btf_parse_str_sec", "String section is not at the end", "strings are not the last section"
)
STRINGS_INVALID = _rule(
    "btf_parse_str_sec",
    "Invalid string section",
    "strings are to end with NUL, to begin with NUL where there is no base, and to have 16 MiB at "
    "most",
)
LAYOUT_ALIGNMENT = _rule(
    "btf_parse_layout_sec", "Unaligned layout_off", "layout_off is no multiple of 4", (7, 1)
)
LAYOUT_SMALL = _rule(
    "btf_parse_layout_sec", "Layout section is too small", "less than 4 bytes of layout", (7, 1)
)
LAYOUT_LENGTH = _rule(
    "btf_parse_layout_sec",
    "layout_len is not multiple of 4",
    "layout_len is no multiple of 4",
    (7, 1),
)
TYPES_ALIGNMENT = _rule("btf_parse_type_sec", "Unaligned type_off", "type_off is no multiple of 4")
NO_TYPES = _rule("btf_parse_type_sec", "No type found", "there are no types")

# Each record alone.
META_LEFT = _rule("btf_check_meta", "meta_left", "the record leaves the type section")
INFO = _rule(
    "btf_check_meta", "Invalid btf_info", "bits of info are set that had no meaning", until=(7, 2)
)
KIND = _rule("btf_check_meta", "Invalid kind", "this release does not know the kind")
NAME_OFFSET = _rule("btf_check_meta", "Invalid name_offset", "the name lies beyond the strings")

INT_VLEN = _rule("btf_int_check_meta", _VLEN, "INT with a vlen")
INT_KIND_FLAG = _rule("btf_int_check_meta", _KIND_FLAG, "INT with kind_flag")
INT_DATA = _rule("btf_int_check_meta", "Invalid int_data", "unused bits of INT's data are set")
INT_BITS = _rule("btf_int_check_meta", "nr_bits exceeds 128", "INT of more than 128 bits")
INT_SIZE = _rule(
    "btf_int_check_meta", "nr_bits exceeds type_size", "INT has more bits than its size holds"
)
INT_ENCODING = _rule(
    "btf_int_check_meta",
    "Unsupported encoding",
    "INT's encoding is to be 0, signed, char or bool, and not two of these",
)

REF_VLEN = _rule("btf_ref_type_check_meta", _VLEN, "pointer, typedef or modifier with a vlen")
REF_KIND_FLAG = _rule(
    "btf_ref_type_check_meta", _KIND_FLAG, "pointer, typedef or modifier with kind_flag"
)
TYPE_TAG_KIND_FLAG = _rule(
    "btf_ref_type_check_meta", _KIND_FLAG, "TYPE_TAG with kind_flag", until=(6, 15)
)
REF_TYPE = _rule(
    "btf_ref_type_check_meta", "Invalid type_id", "refers to a type id above 1048575, the limit"
)
TYPEDEF_NAME = _rule("btf_ref_type_check_meta", _NAME, f"TYPEDEF needs a name, which {_IDENTIFIER}")
TYPE_TAG_NAME = _rule("btf_ref_type_check_meta", _NAME, "TYPE_TAG needs a value", (5, 17))
REF_NAME = _rule("btf_ref_type_check_meta", _NAME, "pointer or modifier with a name")

FWD_VLEN = _rule("btf_fwd_check_meta", _VLEN, "FWD with a vlen")
FWD_TYPE = _rule("btf_fwd_check_meta", "type != 0", "FWD that refers to a type")
FWD_NAME = _rule("btf_fwd_check_meta", _NAME, f"FWD needs a name, which {_IDENTIFIER}")

ARRAY_NAME = _rule("btf_array_check_meta", _NAME, "ARRAY with a name")
ARRAY_VLEN = _rule("btf_array_check_meta", _VLEN, "ARRAY with a vlen")
ARRAY_KIND_FLAG = _rule("btf_array_check_meta", _KIND_FLAG, "ARRAY with kind_flag")
ARRAY_SIZE = _rule("btf_array_check_meta", "size != 0", "ARRAY with a size")
ARRAY_ELEMENT = _rule(
    "btf_array_check_meta", "Invalid elem", "elements of type void, or a type id above 1048575"
)
ARRAY_INDEX = _rule(
    "btf_array_check_meta", "Invalid index", "index of type void, or a type id above 1048575"
)

STRUCT_NAME = _rule("btf_struct_check_meta", _NAME, f"a struct's or union's name {_IDENTIFIER}")
MEMBER_NAME_OFFSET = _rule(
    "btf_struct_check_meta",
    "Invalid member name_offset",
    "a member's name lies beyond the strings",
)
MEMBER_NAME = _rule("btf_struct_check_meta", _NAME, f"a member's name {_IDENTIFIER}")
MEMBER_TYPE = _rule(
    "btf_struct_check_meta",
    "Invalid type_id",
    "a member of type void, or of a type id above 1048575",
)
UNION_OFFSET = _rule(
    "btf_struct_check_meta", "Invalid member bits_offset", "a union's member is not at its start"
)
MEMBER_ORDER = _rule(
    "btf_struct_check_meta", "Invalid member bits_offset", "a member begins before the last one"
)
MEMBER_BEYOND = _rule(
    "btf_struct_check_meta",
    "Member bits_offset exceeds its struct size",
    "a member begins beyond the struct's end",
)

ENUM_KIND_FLAG = _rule(
    "btf_enum_check_meta", _KIND_FLAG, "ENUM with kind_flag (of signed values)", until=(6, 0)
)
ENUM_SIZE = _rule("btf_enum_check_meta", "Unexpected size", "an enum's size is to be 1, 2, 4 or 8")
ENUM_NAME = _rule("btf_enum_check_meta", _NAME, f"an enum's name {_IDENTIFIER}")
ENUMERATOR_NAME_OFFSET = _rule(
    "btf_enum_check_meta", "Invalid name_offset", "an enumerator's name lies beyond the strings"
)
ENUMERATOR_NAME = _rule(
    "btf_enum_check_meta", _NAME, f"an enumerator needs a name, which {_IDENTIFIER}"
)

PROTO_NAME = _rule("btf_func_proto_check_meta", _NAME, "FUNC_PROTO with a name")
PROTO_KIND_FLAG = _rule("btf_func_proto_check_meta", _KIND_FLAG, "FUNC_PROTO with kind_flag")
FUNC_NAME = _rule("btf_func_check_meta", _NAME, f"FUNC needs a name, which {_IDENTIFIER}")
FUNC_LINKAGE = _rule(
    "btf_func_check_meta",
    "Invalid func linkage",
    "FUNC's linkage (its vlen) is to be 0, static, or 1, global",
    (5, 6),
)
FUNC_KIND_FLAG = _rule("btf_func_check_meta", _KIND_FLAG, "FUNC with kind_flag")

VAR_VLEN = _rule("btf_var_check_meta", _VLEN, "VAR with a vlen", (5, 2))
VAR_KIND_FLAG = _rule("btf_var_check_meta", _KIND_FLAG, "VAR with kind_flag", (5, 2))
VAR_NAME = _rule("btf_var_check_meta", _NAME, f"VAR needs a name, which {_IDENTIFIER}", (5, 2))
VAR_TYPE = _rule(
    "btf_var_check_meta", "Invalid type_id", "VAR of void, or a type id above 1048575", (5, 2)
)
VAR_LINKAGE = _rule(
    "btf_var_check_meta", "Linkage not supported", "VAR's linkage is to be 0 or 1", (5, 2)
)

SECTION_VLEN = _rule(
    "btf_datasec_check_meta", "vlen == 0", "DATASEC without variables", (5, 2), (5, 12)
)
SECTION_SIZE = _rule("btf_datasec_check_meta", "size == 0", "DATASEC of size 0", (5, 2))
SECTION_KIND_FLAG = _rule("btf_datasec_check_meta", _KIND_FLAG, "DATASEC with kind_flag", (5, 2))
SECTION_NAME = _rule(
    "btf_datasec_check_meta",
    _NAME,
    "DATASEC needs a name: of printable characters, before 6.9 of those of an identifier",
    (5, 2),
)
VARIABLE_TYPE = _rule(
    "btf_datasec_check_meta",
    "Invalid type_id",
    "a variable of type void, or of a type id above 1048575",
    (5, 2),
)
VARIABLE_OFFSET = _rule(
    "btf_datasec_check_meta",
    "Invalid offset",
    "a variable overlaps the last one, or begins beyond the section",
    (5, 2),
)
VARIABLE_SIZE = _rule(
    "btf_datasec_check_meta",
    "Invalid size",
    "a variable's size is 0, or larger than the section's",
    (5, 2),
)
VARIABLE_END = _rule(
    "btf_datasec_check_meta", "Invalid offset+size", "a variable ends beyond the section", (5, 2)
)
SECTION_SUM = _rule(
    "btf_datasec_check_meta", "Invalid btf_info size", "variables larger than their section", (5, 2)
)

FLOAT_VLEN = _rule("btf_float_check_meta", _VLEN, "FLOAT with a vlen", (5, 13))
FLOAT_KIND_FLAG = _rule("btf_float_check_meta", _KIND_FLAG, "FLOAT with kind_flag", (5, 13))
FLOAT_SIZE = _rule(
    "btf_float_check_meta", "Invalid type_size", "FLOAT's size is to be 2, 4, 8, 12 or 16", (5, 13)
)

DECL_TAG_VALUE = _rule(
    "btf_decl_tag_check_meta", "Invalid value", "DECL_TAG needs a value", (5, 16)
)
DECL_TAG_VLEN = _rule("btf_decl_tag_check_meta", _VLEN, "DECL_TAG with a vlen", (5, 16))
DECL_TAG_KIND_FLAG = _rule(
    "btf_decl_tag_check_meta", _KIND_FLAG, "DECL_TAG with kind_flag", (5, 16), (6, 15)
)
DECL_TAG_INDEX = _rule(
    "btf_decl_tag_check_meta", "Invalid component_idx", "component_idx below -1", (5, 16)
)

# What types refer to. ``Loop`` and depth are found on the way.
TOO_DEEP = _rule(
    "btf_resolve",
    "Exceeded max resolving depth:32",
    "more than 32 types stand in each other, or behind each other",
)
LOOP = _rule("btf_resolve", "Loop detected", "the type contains itself, or refers to itself only")
RESOLVE_STATE = _rule(
    "btf_resolve", "Invalid resolve state", "what the type refers to cannot be made out"
)
NO_SUCH_TARGET = _rule(
    "btf_modifier_resolve",
    "Invalid type_id",
    "refers to no type, or to a variable, section or declaration tag",
)
SIZELESS_TARGET = _rule(
    "btf_modifier_resolve", "Invalid type_id", "refers to a function, or what has no size"
)
VAR_TARGET = _rule(
    "btf_var_resolve",
    "Invalid type_id",
    "VAR is to be of a type that has a size",
    (5, 2),
)
INDEX_TARGET = _rule(
    "btf_array_resolve", "Invalid index", "an array's index type is to be a whole-byte INT"
)
ELEMENT_TARGET = _rule(
    "btf_array_resolve", "Invalid elem", "an array's elements are to have a size"
)
ELEMENT_INT = _rule(
    "btf_array_resolve", "Invalid array of int", "an array's INT is to be of whole bytes"
)
ARRAY_OVERFLOW = _rule(
    "btf_array_resolve", "Array size overflows U32_MAX", "an array larger than 4 GiB"
)
MEMBER_TARGET = _rule(
    "btf_struct_resolve", "Invalid member", "a member is to be of a type that has a size"
)
SECTION_TARGET = _rule(
    "btf_datasec_resolve", "Not a VAR kind member", "what a DATASEC lists is to be a VAR", (5, 2)
)
SECTION_TYPE = _rule("btf_datasec_resolve", "Invalid type", "a variable's type has no size", (5, 2))
SECTION_ENTRY_SIZE = _rule(
    "btf_datasec_resolve", "Invalid size", "a variable is larger than its entry says", (5, 2)
)
TAG_TARGET = _rule(
    "btf_decl_tag_resolve",
    "Invalid type_id",
    "DECL_TAG is to refer to a struct, union, typedef, FUNC or VAR",
    (5, 16),
)
TAG_COMPONENT = _rule(
    "btf_decl_tag_resolve",
    "Invalid component_idx",
    "DECL_TAG's component_idx names no member or parameter",
    (5, 16),
)

# Members by the type that they have.
MEMBER_INT_OFFSET = _rule(
    "btf_int_check_member", "bits_offset exceeds U32_MAX", "a member's offset overflows"
)
MEMBER_COPY_BITS = _rule(
    "btf_int_check_member", "nr_copy_bits exceeds 128", "a member of more than 128 bits"
)
MEMBER_EXCEEDS = _rule(
    "btf_struct_resolve", "Member exceeds struct_size", "a member ends beyond the struct's end"
)
MEMBER_UNALIGNED = _rule(
    "btf_struct_resolve",
    "Member is not byte aligned",
    "a member that is no bit field does not begin with a byte",
)
MEMBER_INT_UNALIGNED = _rule(
    "btf_int_check_kflag_member",
    "Invalid member offset",
    "a member that is no bit field does not begin with a byte",
)
MEMBER_BASE_TYPE = _rule(
    "btf_int_check_kflag_member",
    "Invalid member base type",
    "with kind_flag, an INT member's type is to have 1, 2, 4, 8 or 16 whole bytes",
)
MEMBER_BITFIELD = _rule(
    "btf_generic_check_kflag_member",
    "Invalid member bitfield_size",
    "a bit field larger than its type, or of a type that has none",
)
MEMBER_FLOAT_ALIGNMENT = _rule(
    "btf_float_check_member",
    "Member is not properly aligned",
    "a FLOAT member is not aligned",
    (5, 13),
)
MEMBER_UNSUPPORTED = _rule(
    "btf_df_check_member", "Unsupported check_member", "no type for a member"
)

# Functions.
RETURN_TYPE = _rule(
    "btf_func_proto_check", "Invalid return type", "a function is to return a type that has a size"
)
RETURN_SOURCE = _rule(
    "btf_func_proto_check",
    "Invalid return type",
    "a function is to return a type, no variable, section or tag",
    (6, 1),
)
PARAMETER = _rule(
    "btf_func_proto_check",
    "Invalid arg#",
    f"a parameter is to be of a type that has a size, and its name {_IDENTIFIER}",
)
FUNC_TARGET = _rule("btf_func_check", "Invalid type_id", "FUNC is to refer to a FUNC_PROTO")
FUNC_PARAMETER = _rule("btf_func_check", "Invalid arg#", "a FUNC's parameters need names")

# Chains of modifiers and typedefs, in what the kernel loads of itself too.
TAG_ORDER = _rule(
    "btf_check_type_tags",
    "Type tags don't precede modifiers",
    "TYPE_TAG behind a typedef or modifier: tags are to come first after the pointer",
    (5, 19),
    (7, 2),
)
CHAIN = _rule(
    "btf_check_modifier_chain_length",
    "Max chain length or cycle detected",
    "more than 32 typedefs and modifiers behind each other, or a circle of them",
    (5, 19),
)
CHAIN_END = _rule(
    "btf_check_modifier_chain_length",
    "",
    "a typedef or modifier refers to a type that there is not",
    (5, 19),
)

# A module that has a distilled base.
NAME_UNMAPPED = _rule(
    "btf_relocate_rewrite_strs",
    "is not mapped to base BTF",
    "a name that lies in .BTF.base is to be that of one of its types",
    (6, 11),
)

# Special fields of a program's structs: see ``special_fields``.
_FIELDS: Release = (6, 12)
FIELD_NONE = _rule(
    "btf_parse_struct_metas",
    "",
    "a member of a special type (bpf_spin_lock, ...) has not its size or alignment",
    _FIELDS,
)
FIELD_REPEATED = _rule(
    "btf_get_field_type",
    "",
    "two locks or two reference counts in one struct, or in what lies in it",
    _FIELDS,
)
FIELD_COUNT = _rule(
    "btf_repeat_fields",
    "",
    "more than 11 special fields, or an array of some that may be there once only",
    _FIELDS,
)
FIELD_BIT = _rule(
    "btf_find_struct_field",
    "",
    "in a struct with special fields, a member that does not begin with a byte",
    _FIELDS,
)
FIELD_DEPTH = _rule(
    "btf_find_nested_struct", "", "more than 31 structs in a struct with special fields", _FIELDS
)
FIELD_KPTR = _rule(
    "btf_find_kptr",
    "",
    "a pointer that is tagged as kptr is to have one such tag, and to point to a struct",
    _FIELDS,
)
FIELD_ROOT = _rule(
    "btf_find_graph_root",
    "",
    "bpf_list_head and bpf_rb_root need one tag, contains:STRUCT:MEMBER, of a struct there is",
    _FIELDS,
)
FIELD_NODE = _rule(
    "btf_parse_graph_root",
    "",
    "what a list or tree contains is to have that member: its bpf_list_node or bpf_rb_node",
    _FIELDS,
)
FIELD_ORDER = _rule(
    "btf_parse_fields", "", "special fields overlap, or end beyond the struct", _FIELDS
)
FIELD_LOCK = _rule(
    "btf_parse_fields",
    "",
    "bpf_list_head and bpf_rb_root need a lock in their struct, and one of one kind",
    _FIELDS,
)
FIELD_REFCOUNT = _rule(
    "btf_parse_fields",
    "",
    "bpf_list_node and bpf_rb_node in one struct need a bpf_refcount",
    _FIELDS,
)
FIELD_VALUE = _rule(
    "btf_check_and_fixup_fields",
    "",
    "what a list or tree contains has no special field of its own",
    _FIELDS,
)
FIELD_OWNERSHIP = _rule(
    "btf_check_ownership_depth", "", "more than 8 structs that own each other", _FIELDS
)

# Kinds, and what else is a number by release: (first release, number).
MAX_KINDS = (((5, 2), 15), ((5, 13), 16), ((5, 16), 17), ((5, 17), 18), ((6, 0), 19))
INFO_MASKS = (((4, 18), 0x8F00FFFF), ((5, 13), 0x9F00FFFF), ((7, 2), 0xFFFFFFFF))
NAME_LIMITS = (((4, 18), 128), ((6, 1), 512))  # KSYM_NAME_LEN
HEADER_BYTES = (((4, 18), 24), ((7, 1), 32))
SECTION_NAMES = (((5, 2), 0), ((6, 9), 1))  # identifiers; anything printable
FUNC_RESOLVES = (((5, 0), 0), ((5, 16), 1))  # FUNC is one of the types that are resolved


def at_release(steps: tuple[tuple[Release, int], ...], release: Release) -> int:
    """Return the last of ``steps`` that a release has got to."""
    return [number for since, number in steps if since <= release][-1]


def told_release(text: str | None) -> str | None:
    """What a file says of its kernel's release; None if that is none."""
    return text if text and re.match(r"\d+\.\d+", text) else None


def parse_release(text: str | None) -> Release:
    """Return (major, minor) of a release such as ``6.12.117+deb12``; None: the newest known.

    Raises UnsupportedError for what is older than 5.10, ValueError for what is no release. Of what
    is newer than the newest known, the rules of that are taken.
    """
    if text is None:
        return NEWEST
    found = re.match(r"(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"{text!r} is no kernel release; one looks like 6.12")
    release = int(found[1]), int(found[2])
    if release < OLDEST:
        raise UnsupportedError(
            f"the rules of Linux {found[0]} are not known; those since "
            f"{'.'.join(map(str, OLDEST))} are"
        )
    return min(release, NEWEST)


def active_rules(release: Release) -> np.ndarray:
    """Whether a release has each rule, by its number: uint8."""
    return np.array([rule is not None and rule.holds_in(release) for rule in RULES], np.uint8)
