"""Every table and column that is written, with its unit and what it says.

The one place where columns are declared: ``tables.py`` builds them, docs/tables.md is printed
from here (``python -m pipeline.tables.schemas``), and a test holds both to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from btf.compare.reasons import MISS_REASONS, REASONS

from ..model.records import ERROR_KINDS

COUNTS = pa.map_(pa.string(), pa.uint64())
WORDS = pa.dictionary(pa.int32(), pa.string())
HASH = pa.binary(16)
WHOLE = pa.decimal128(20, 0)  # holds all of int64 and uint64


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``unit`` is empty for what has none."""

    name: str
    type: pa.DataType
    unit: str
    description: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table. The column ``kernel`` comes from the folder (``kernel=NAME``), not the file."""

    name: str
    row: str
    order: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """What a Parquet file of this table holds: all columns but ``kernel``."""
        fields = [
            pa.field(
                column.name,
                column.type,
                metadata={"description": column.description, "unit": column.unit},
            )
            for column in self.columns
        ]
        return pa.schema(fields, metadata={"table": self.name, "row": self.row})


U8, U32, U64, F64, TEXT = pa.uint8(), pa.uint32(), pa.uint64(), pa.float64(), pa.string()

_KINDS = "only kinds that occur, by their BTF name (STRUCT, PTR, …)"
_REASONS = "; ".join(f"`{code}`: {meaning}" for code, meaning in REASONS.items())
_MISS_REASONS = "; ".join(f"`{code}`: {meaning}" for code, meaning in MISS_REASONS.items())
_ERRORS = "; ".join(f"`{kind}`: {meaning}" for kind, meaning in ERROR_KINDS.items())

KERNELS = Table(
    "kernels",
    "one row per kernel",
    "",
    (
        Column("release", TEXT, "", "release of the kernel, as far as base or paths tell"),
        Column("base_source", TEXT, "", "where the base was found, relative to its source"),
        Column("base_encoder", TEXT, "", "what made the base's BTF of its DWARF, if it had none"),
        Column("base_sha256", TEXT, "", "SHA-256 of the base's raw BTF, as hexadecimal digits"),
        Column("byteorder", TEXT, "", "`little` or `big`: of the base and of all its modules"),
        Column("base_bytes", U64, "bytes", "size of the base's raw BTF"),
        Column("base_types", U64, "types", "types in the base, void not counted"),
        Column("base_type_bytes", U64, "bytes", "size of the base's type section"),
        Column("base_string_bytes", U64, "bytes", "size of the base's string section"),
        Column("base_types_by_kind", COUNTS, "types", f"types in the base by kind; {_KINDS}"),
        Column("base_bytes_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
        Column("modules", U64, "modules", "inputs of this kernel, failed ones included"),
        Column("failed", U64, "modules", "inputs that gave no result"),
        Column("bytes_in", U64, "bytes", "BTF of the modules that are done, as found"),
        Column("bytes_out", U64, "bytes", "split BTF written for them"),
        Column("types_in", U64, "types", "own types of the modules that are done, as found"),
        Column("types_out", U64, "types", "own types in their split BTF"),
        Column("splitbtf_version", TEXT, "", "version of splitbtf that made these tables"),
    ),
)

MODULES = Table(
    "modules",
    "one row per input, failed ones included",
    "module",
    (
        Column("module", TEXT, "", "unique name in the kernel; the file is `<module>.btf`"),
        Column("object_id", U32, "", "number of the module in the kernel, from 1; the base is 0"),
        Column("module_name", TEXT, "", "what the module calls itself, else its file's name"),
        Column("source", TEXT, "", "the input file, relative to the source it was found under"),
        Column("status", TEXT, "", "`done` or `failed`"),
        Column(
            "form",
            TEXT,
            "",
            "BTF of the input: `standalone`, `split`, `distilled`, or `dwarf`: none of use, it was "
            "made of the DWARF",
        ),
        Column("encoder", TEXT, "", "what made BTF of the input's DWARF, as `pahole 1.24`"),
        Column("input_sha256", TEXT, "", "SHA-256 of the input file's content, decompressed"),
        Column("input_bytes", U64, "bytes", "size of the input's BTF"),
        Column("types_in", U64, "types", "own types of the input"),
        Column("type_bytes_in", U64, "bytes", "size of the input's type section"),
        Column("string_bytes_in", U64, "bytes", "size of the input's string section"),
        Column("types_in_by_kind", COUNTS, "types", f"own types of the input by kind; {_KINDS}"),
        Column("bytes_in_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
        Column("bytes_out", U64, "bytes", "size of the split BTF, header included"),
        Column("types_out", U64, "types", "own types in the split BTF"),
        Column("type_bytes_out", U64, "bytes", "size of the split BTF's type section"),
        Column("string_bytes_out", U64, "bytes", "size of the split BTF's string section"),
        Column("types_out_by_kind", COUNTS, "types", f"own types kept by kind; {_KINDS}"),
        Column("bytes_out_by_kind", COUNTS, "bytes", f"their records' bytes by kind; {_KINDS}"),
        Column("output_sha256", TEXT, "", "SHA-256 of the split BTF file"),
        Column("build_id", TEXT, "", "GNU build id of an ELF module, as hexadecimal digits"),
        Column("release", TEXT, "", "release in an ELF module's vermagic"),
        Column("depends", pa.list_(TEXT), "", "modules that an ELF module's .modinfo depends on"),
        Column("error_kind", TEXT, "", f"of a failed input; {_ERRORS}"),
        Column("error", TEXT, "", "what is wrong with a failed input and what to do"),
        Column("error_section", TEXT, "", "section in which the error was found"),
        Column("error_offset", U64, "bytes", "offset in that section"),
        Column("error_type_id", U64, "", "id of the type at fault"),
    ),
)

TYPES = Table(
    "types",
    "one row per type of the base and per own type in a module's split BTF",
    "object_id, type_id",
    (
        Column("global_id", U64, "", "object_id in the upper 32 bits, type_id in the lower"),
        Column("object_id", U32, "", "0 for the base, else that of the module"),
        Column("type_id", U32, "", "id in the BTF; a module's own ids follow those of the base"),
        Column("module", WORDS, "", "the module; empty for the base"),
        Column("kind", WORDS, "", "BTF kind: INT, PTR, ARRAY, STRUCT, …"),
        Column("name", TEXT, "", "name; empty for anonymous types"),
        Column("size", U32, "bytes", "size of the C type; 0 for kinds that have none"),
        Column("bytes", U32, "bytes", "size of the type's record in the type section"),
        Column("vlen", U32, "", "members, enumerators, parameters or variables"),
        Column(
            "fingerprint",
            HASH,
            "",
            "128-bit structural hash, the same in all modules and kernels for types that no walk "
            "tells apart; a forward declaration differs from the definition",
        ),
        Column(
            "own_fingerprint",
            HASH,
            "",
            "of a module's type: as `fingerprint`, but a type of the base counts as its id. The "
            "same for types of two modules of this kernel of which one could stand for the other",
        ),
    ),
)

MEMBERS = Table(
    "members",
    "one row per member of a struct or union, parameter of a function prototype and enumerator of "
    "the types in `types`",
    "global_id, position",
    (
        Column("global_id", U64, "", "the type that it is part of"),
        Column("position", U32, "", "place among the members, from 0"),
        Column("kind", WORDS, "", "kind of that type: STRUCT, UNION, FUNC_PROTO, ENUM or ENUM64"),
        Column("name", TEXT, "", "name; empty for anonymous members and parameters"),
        Column(
            "type_global_id",
            U64,
            "",
            "type of a member or parameter; 0 is void, as a last parameter without a name `...`",
        ),
        Column("bit_offset", U32, "bits", "of a member, from the start of the struct or union"),
        Column("bitfield_size", pa.uint8(), "bits", "of a bit field; 0 for other members"),
        Column("value", WHOLE, "", "of an enumerator"),
    ),
)

DUPLICATES = Table(
    "duplicates",
    "one row per class of own types that two or more modules keep",
    "wasted_bytes descending, own_fingerprint",
    (
        Column("kind", WORDS, "", "BTF kind: STRUCT, PTR, VAR, DATASEC, …; all kinds count"),
        Column("name", TEXT, "", "name; empty for anonymous types"),
        Column("bytes_each", U32, "bytes", "size of one copy's record in the type section"),
        Column("copies", U32, "types", "own types of this class in all modules"),
        Column("wasted_bytes", U64, "bytes", "of all copies but one"),
        Column("module_count", U32, "modules", "modules that keep it"),
        Column("modules", pa.list_(TEXT), "", "their names"),
        Column("global_id", U64, "", "the first copy"),
        Column("own_fingerprint", HASH, "", "what makes the class, see the table types"),
    ),
)

CONFLICTS = Table(
    "conflicts",
    "one row per definition of a kind and name that have several in this kernel",
    "kind, name, definition",
    (
        Column("kind", WORDS, "", "BTF kind: STRUCT, FUNC, TYPEDEF, …"),
        Column("name", TEXT, "", "the name; tags are not names"),
        Column("definitions", U32, "", "how many different types have this kind and name"),
        Column(
            "definition",
            U32,
            "",
            "number from 1: that of the base first, then by the number of modules",
        ),
        Column("size", U32, "bytes", "size of the C type; 0 for kinds that have none"),
        Column("copies", U32, "types", "how often it is there"),
        Column("in_base", pa.bool_(), "", "whether the base has it"),
        Column("module_count", U32, "modules", "modules that keep it, the base not counted"),
        Column("modules", pa.list_(TEXT), "", "their names"),
        Column("reason", WORDS, "", f"what differs from definition 1; {_REASONS}"),
        Column("difference", TEXT, "", "difference from definition 1 in words; null for that one"),
        Column("global_id", U64, "", "the first type that is defined so"),
        Column("fingerprint", HASH, "", "see the table types"),
    ),
)

MISSES = Table(
    "misses",
    "one row per named type that stayed in a module although the base has a type of its name",
    "global_id",
    (
        Column("global_id", U64, "", "the type that stayed"),
        Column("object_id", U32, "", "number of its module"),
        Column("module", WORDS, "", "name of the module"),
        Column("type_id", U32, "", "id in the module's split BTF"),
        Column("kind", WORDS, "", "BTF kind: STRUCT, FUNC, FWD, …"),
        Column("name", TEXT, "", "name of the type that stayed"),
        Column("bytes", U32, "bytes", "size of its record in the type section"),
        Column(
            "base_type_id",
            U32,
            "",
            "the base's type that it is held against: of the same name, and of the same kind or "
            "one that shares its name space in C (struct, union, enum and their declarations; int, "
            "float and typedef)",
        ),
        Column("base_kind", WORDS, "", "kind of that type"),
        Column("namesakes", U32, "types", "types of the base that could be meant by the name"),
        Column("reason", WORDS, "", f"why it stayed; {_REASONS}; {_MISS_REASONS}"),
        Column(
            "path",
            TEXT,
            "",
            "the shortest way from it to the root cause, as C says it; of a long one the middle is "
            "left out",
        ),
        Column("difference", TEXT, "", "what differs between the root cause and the base's type"),
        Column(
            "sole",
            pa.bool_(),
            "",
            "whether it stays only because of that root cause; null where not worked out",
        ),
        Column(
            "root_global_id",
            U64,
            "",
            "the root cause: the innermost named type whose difference explains it, mostly one of "
            "the module",
        ),
        Column("root_kind", WORDS, "", "BTF kind of the root cause"),
        Column("root_name", TEXT, "", "name of the root cause"),
        Column("root_base_type_id", U32, "", "the base's type that it is held against"),
        Column(
            "root_types",
            pa.int32(),
            "types",
            "own types that stay only because of the root cause: that would go if the module had "
            "the base's type in its place, unnamed ones included; less than 0 if more would stay "
            "then; null where not worked out",
        ),
        Column("root_bytes", pa.int32(), "bytes", "size of their records"),
    ),
)

RUNS = Table(
    "runs",
    "one row per run that committed the kernel",
    "started_at",
    (
        Column("run_id", TEXT, "", "names the run"),
        Column("started_at", pa.timestamp("us", tz="UTC"), "UTC", "when the run began"),
        Column("splitbtf_version", TEXT, "", "version of splitbtf"),
        Column("versions", pa.map_(TEXT, TEXT), "", "of Python and the libraries that matter"),
        Column("machine", TEXT, "", "processor architecture"),
        Column("engine", TEXT, "", "`ray` or `local`"),
        Column("ray_address", TEXT, "", "of the existing Ray cluster, where one was used"),
        Column("workers", U32, "", "workers that the engine was given"),
        Column("batches", U32, "", "batches that were worked on"),
        Column("crashes", U32, "", "times that a worker died"),
        Column("start_seconds", F64, "s", "start of the run until the engine was ready"),
        Column("index_seconds", F64, "s", "indexing the base"),
        Column("work_seconds", F64, "s", "reading, dedup, writing and describing of all modules"),
        Column("busy_seconds", F64, "s", "the same, summed over the workers"),
        Column("tables_seconds", F64, "s", "after it: the tables that need all modules"),
        Column("modules", U64, "modules", "inputs of the kernel"),
        Column("read", U64, "modules", "inputs that were read; the others look as they did"),
        Column("worked", U64, "modules", "inputs that were worked on"),
        Column("reused", U64, "modules", "inputs whose results were there before"),
        Column("failed", U64, "modules", "inputs that gave no result"),
    ),
)

TABLES = {
    table.name: table
    for table in (KERNELS, MODULES, TYPES, MEMBERS, DUPLICATES, CONFLICTS, MISSES, RUNS)
}


def type_name(data_type: pa.DataType) -> str:
    """A column's type in words that Parquet and SQL share."""
    return {WORDS: "string", HASH: "binary(16)"}.get(data_type, str(data_type))


def markdown() -> str:
    """docs/tables.md."""
    lines = [
        "# Tables",
        "",
        "<!-- Printed by `make docs` (pipeline/tables/schemas.py); a test compares. -->",
        "",
        "`splitbtf run` writes Parquet files to `OUT/tables/TABLE/kernel=KERNEL/`. Which of them",
        "count is said by `OUT/manifests/KERNEL.json` (see [output.md](output.md)). Every column",
        "carries its unit and description in the Parquet schema too. Each table has one more",
        "column, `kernel`: readers of hive-partitioned data take it from the folder's name.",
    ]
    for table in TABLES.values():
        order = f", ordered by {table.order}" if table.order else ""
        lines += ["", f"## {table.name}", "", f"{table.row[0].upper()}{table.row[1:]}{order}.", ""]
        lines += ["| column | type | unit | what it says |", "|---|---|---|---|"]
        for column in table.columns:
            kind = type_name(column.type)
            lines.append(f"| `{column.name}` | {kind} | {column.unit} | {column.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
