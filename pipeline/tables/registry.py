"""All tables there are: each file of this package that has a ``TABLE`` is one.

A new table is a new file; nothing else has to know of it. ``python -m pipeline.tables.registry``
prints docs/tables.md.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

import pyarrow as pa

from .schema import HASH, WORDS, KernelTable, ModuleTable, Table


@cache
def all_tables() -> dict[str, Table]:
    """Find all tables, by name, in the order in which they are told of."""
    files = pkgutil.iter_modules([str(Path(__file__).parent)])
    modules = [importlib.import_module(f".{file.name}", __package__) for file in files]
    tables = [module.TABLE for module in modules if hasattr(module, "TABLE")]
    return {table.name: table for table in sorted(tables, key=lambda table: table.rank)}


@cache
def module_tables() -> tuple[ModuleTable, ...]:
    """List the tables with rows by module."""
    return tuple(table for table in all_tables().values() if isinstance(table, ModuleTable))


@cache
def kernel_tables() -> tuple[KernelTable, ...]:
    """List the tables that are made when all modules of a kernel are done."""
    return tuple(table for table in all_tables().values() if isinstance(table, KernelTable))


@cache
def derived_tables() -> tuple[ModuleTable, ...]:
    """List those of them whose rows a module's split BTF file tells by itself."""
    return tuple(table for table in module_tables() if table.of_base)


@cache
def kept_tables() -> tuple[ModuleTable, ...]:
    """List the others: their rows are kept with a module's result."""
    return tuple(table for table in module_tables() if not table.of_base)


@cache
def rows_schema(tables: tuple[ModuleTable, ...]) -> pa.Schema:
    """Say how rows of modules are handed on: a row per module, and in it, for each of the tables,
    the list of these rows."""
    return pa.schema(
        pa.field(
            table.name,
            pa.list_(pa.field("item", pa.struct(table.result), nullable=False)),
            nullable=False,
        )
        for table in tables
    )


def type_name(data_type: pa.DataType) -> str:
    """Name a column's type in words that Parquet and SQL share."""
    return {WORDS: "string", HASH: "binary(16)"}.get(data_type, str(data_type))


def markdown() -> str:
    """Write docs/tables.md."""
    lines = [
        "# Tables",
        "",
        "<!-- Printed by `make docs` (pipeline/tables/registry.py); a test compares. -->",
        "",
        "`splitbtf run` writes Parquet files to `OUT/tables/TABLE/kernel=KERNEL/`. Which of them",
        "count is said by `OUT/manifests/KERNEL.json` (see [output.md](output.md)). Every column",
        "carries its unit and description in the Parquet schema too. Each table has one more",
        "column, `kernel`: readers of hive-partitioned data take it from the folder's name.",
    ]
    for table in all_tables().values():
        order = f", ordered by {table.order}" if table.order else ""
        lines += ["", f"## {table.name}", "", f"{table.row[0].upper()}{table.row[1:]}{order}.", ""]
        lines += ["| column | type | unit | what it says |", "|---|---|---|---|"]
        for column in table.columns:
            kind = type_name(column.type)
            lines.append(f"| `{column.name}` | {kind} | {column.unit} | {column.description} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(markdown(), end="")
