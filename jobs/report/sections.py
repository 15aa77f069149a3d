"""What each figure of the report says: its words, columns and charts, and the command for it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.analysis.report import Figure

from .charts import SERIES, Chart

Row = Mapping[str, Any]
MOST_BARS = 12  # of a chart that shows the first of many
MOST_CHARTS = 3  # of a figure that has one for each line of kernels


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: which column of the figure, its title, and how its values read.

    form  ``text``; ``name``: of a type, module or kernel; ``names``: a list of these; ``list``
          and ``long``: text of more than a line; ``yes``; and numbers: ``count``, ``growth``: a
          count with its sign, ``percent``, ``times``
    """

    key: str
    title: str
    form: str = "text"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report.

    name      of its figure, and of its place in the page
    text      what is counted, and how to read it; names of commands in backticks
    nothing   what to say where the figure has no rows
    """

    name: str
    title: str
    text: str
    columns: tuple[Column, ...]
    charts: Callable[[Figure], list[Chart]]
    nothing: str

    @property
    def told(self) -> bool:
        """Whether rows hold much text: on a phone each is a card then, not a line."""
        return any(column.form in ("names", "list", "long") for column in self.columns)


def command(out: str, figure: Figure) -> str:
    """What to type for the rows of a figure; what changed takes a command for each two kernels."""
    if figure.sql:
        return f"splitbtf query {shlex.quote(out)} - <<'SQL'\n{figure.sql}\nSQL"
    compared = dict.fromkeys((row["old"], row["new"]) for row in figure.rows)
    return "\n".join(
        shlex.join(["splitbtf", "diff", "--in", out, old, new]) for old, new in compared
    )


def _no_charts(_: Figure) -> list[Chart]:
    return []


def _sizes(figure: Figure) -> list[Chart]:
    series = {"base_bytes": "vmlinux", "bytes_in": "modules, as found",
              "bytes_out": "modules, deduplicated"}  # fmt: skip
    rows = [
        (row["kernel"], title, row[key] or 0)
        for row in figure.rows
        for key, title in series.items()
    ]
    return [Chart("Size of BTF", rows, "kernel", "size (bytes)")]


def _kinds(figure: Figure) -> list[Chart]:
    totals: dict[str, int] = {}
    for row in figure.rows:
        totals[row["kind"]] = totals.get(row["kind"], 0) + row["modules"]
    largest = sorted(totals, key=lambda kind: -totals[kind])[: SERIES - 1]
    return [
        Chart(f"Type records of {what}, by kind", _stacked(figure, largest, key),
              "kernel", "size (bytes)", stacked=True)
        for what, key in (("deduplicated modules", "modules"), ("vmlinux", "base"))
    ]  # fmt: skip


def _stacked(figure: Figure, largest: Sequence[str], key: str) -> list[tuple[str, str, float]]:
    """A row for each kernel and kind, those that are not among the largest together. The figure
    has the newest kernel first, and the chart the oldest, as the others have."""
    sums = {(row["kernel"], kind): 0 for kind in (*largest, "others") for row in figure.rows}
    for row in figure.rows:
        kind = row["kind"] if row["kind"] in largest else "others"
        sums[row["kernel"], kind] += row[key]
    kernels = dict.fromkeys(row["kernel"] for row in reversed(figure.rows))
    return [(kernel, kind, sums[kernel, kind]) for kernel in kernels
            for kind in (*largest, "others")]  # fmt: skip


def _by_kernel(
    figure: Figure, caption: str, category: tuple[str, str], value: tuple[str, str]
) -> list[Chart]:
    """A chart for each of the first kernels, of its first rows."""
    charts = []
    for kernel in list(dict.fromkeys(row["kernel"] for row in figure.rows))[:MOST_CHARTS]:
        rows = [row for row in figure.rows if row["kernel"] == kernel and row[value[0]]]
        bars = [(_shown(row[category[0]]), "", row[value[0]]) for row in rows[:MOST_BARS]]
        names = {"kernel": kernel, "before": rows[0].get("before")} if rows else {}
        if bars:
            charts.append(Chart(caption.format(**names), bars, category[1], value[1]))
    return charts


def _shown(name: str | None) -> str:
    return "not known" if name is None else name


def _growth(figure: Figure) -> list[Chart]:
    return _by_kernel(
        figure,
        "What changed most in size from {before} to {kernel}",
        ("module", "module"),
        ("growth", "growth (bytes)"),
    )


def _changes(figure: Figure) -> list[Chart]:
    series = {"changed": "changed", "embedded": "embeds a change", "added": "added",
              "removed": "removed"}  # fmt: skip
    charts = []
    for what, between in (("time", "from release to release"),
                          ("configuration", "from configuration to configuration")):  # fmt: skip
        for words, kinds in (("Structs, unions and enums", ("struct", "union", "enum")),
                             ("Functions", ("func",))):  # fmt: skip
            sums: dict[tuple[str, str], float] = {}
            for row in figure.rows:
                if (row["what"], row["part"]) == (what, "vmlinux") and row["kind"] in kinds:
                    pair = f"{row['old']}\n→ {row['new']}"
                    for key, title in series.items():
                        sums[pair, title] = sums.get((pair, title), 0) + row[key]
            bars = [(pair, title, count) for (pair, title), count in sums.items()]
            if bars:
                caption = f"{words} of vmlinux, {between}"
                charts.append(Chart(caption, bars, "kernels", "names", bytes=False, stacked=True))
    return charts


def _subsystems(figure: Figure) -> list[Chart]:
    return _by_kernel(
        figure,
        "What modules of {kernel} repeat",
        ("subsystem", "subsystem"),
        ("wasted", "repeated type records (bytes)"),
    )


def _reasons(figure: Figure) -> list[Chart]:
    rows = [(row["kernel"], row["reason"], row["types"]) for row in figure.rows]
    return [_stack("Types that stayed although vmlinux has the name, by reason", rows, "types")]


def _names(figure: Figure) -> list[Chart]:
    rows = [(row["kernel"], row["reason"], row["names"]) for row in figure.rows]
    return [_stack("Ambiguous names, by what differs", rows, "names")]


def _stack(
    caption: str, rows: list[tuple[str, str, float]], unit: str, *, bytes: bool = False
) -> Chart:
    """Stacked bars, the largest series first; those for which no colour is left together."""
    totals: dict[str, float] = {}
    for _, series, value in rows:
        totals[series] = totals.get(series, 0) + value
    order = sorted(totals, key=lambda series: (-totals[series], series))
    if len(order) > SERIES:
        order = [*order[: SERIES - 1], "others"]
    sums: dict[tuple[str, str], float] = {}
    for category, series, value in rows:
        key = category, series if series in order else "others"
        sums[key] = sums.get(key, 0) + value
    kernels = dict.fromkeys(row[0] for row in rows)
    bars = [(k, s, sums[k, s]) for k in kernels for s in order if (k, s) in sums]
    return Chart(caption, bars, "kernel", unit, bytes=bytes, stacked=True)


def _leftovers(figure: Figure) -> list[Chart]:
    rows = [(row["kernel"], row["cause"], row["bytes"]) for row in figure.rows]
    caption = "What dedup removes from BTF that had been deduplicated, by likely cause"
    return [_stack(caption, rows, "type records (bytes)", bytes=True)]


def _layers(figure: Figure) -> list[Chart]:
    series = {"star_bytes": "star: each module on vmlinux",
              "shared_bytes": "a shared layer between"}  # fmt: skip
    rows = [(row["kernel"], title, row[key] or 0) for row in figure.rows
            for key, title in series.items()]  # fmt: skip
    return [Chart("Type records of all modules", rows, "kernel", "size (bytes)")]


_KERNEL = Column("kernel", "kernel", "name")
_KIND, _NAME = Column("kind", "kind"), Column("name", "name", "name")

SECTIONS = (
    Section(
        "kernels",
        "Kernels",
        "BTF of vmlinux and of the modules, as found and as deduplicated. Modules that are "
        "found as standalone BTF repeat the kernel's types; what a build ships as split BTF has"
        " been deduplicated once.",
        (
            _KERNEL,
            Column("architecture", "architecture"),
            Column("flavour", "flavour"),
            Column("package_version", "package version"),
            Column("base_types", "vmlinux, types", "count"),
            Column("base_bytes", "vmlinux, bytes", "count"),
            Column("modules", "modules", "count"),
            Column("failed", "failed", "count"),
            Column("types_in", "types found", "count"),
            Column("types_out", "types left", "count"),
            Column("bytes_in", "bytes found", "count"),
            Column("bytes_out", "bytes left", "count"),
            Column("smaller", "times smaller", "times"),
        ),
        _sizes,
        "No kernels.",
    ),
    Section(
        "kinds",
        "Growth by kind",
        "Bytes of type records by kind, without strings. Growth is against the kernel before it"
        " of the same architecture and flavour; the newest kernel comes first.",
        (
            _KERNEL,
            _KIND,
            Column("base", "vmlinux, bytes", "count"),
            Column("base_growth", "growth", "growth"),
            Column("modules", "modules, bytes", "count"),
            Column("modules_growth", "growth", "growth"),
        ),
        _kinds,
        "No types.",
    ),
    Section(
        "growth",
        "Growth by module",
        "Size of a module's split BTF, and of vmlinux, in each kernel and the one before it of "
        "the same architecture and flavour: the 50 that changed most. An empty size: not in "
        "that kernel.",
        (
            Column("before", "from", "name"),
            Column("kernel", "to", "name"),
            Column("module", "module", "name"),
            Column("old", "bytes before", "count"),
            Column("new", "bytes after", "count"),
            Column("growth", "growth, bytes", "growth"),
        ),
        _growth,
        "No two kernels of one architecture and flavour, or no difference in size.",
    ),
    Section(
        "changes",
        "What changed",
        "Names of vmlinux, and of all modules, in two kernels: neighbours in time (of one "
        "architecture and flavour), and configurations of one release. A name is changed if its"
        " own declaration is another one; it embeds a change if only what it lays out in memory"
        " is; it reaches one if only pointers lead from it to a change.",
        (
            Column("what", "compared in"),
            Column("old", "from", "name"),
            Column("new", "to", "name"),
            Column("part", "of"),
            Column("kind", "kind"),
            Column("both", "in both", "count"),
            Column("changed", "changed", "count"),
            Column("embedded", "embeds", "count"),
            Column("reached", "reaches", "count"),
            Column("added", "added", "count"),
            Column("removed", "removed", "count"),
        ),
        _changes,
        "No two kernels of one architecture and flavour, nor of one release.",
    ),
    Section(
        "changed",
        "Largest changes",
        "Structs, unions and enums of vmlinux with most changes of their own, between the last "
        "kernel of each architecture and flavour and the one before it: the 100 first, and of each "
        "the first changes.",
        (
            Column("old", "from", "name"),
            Column("new", "to", "name"),
            _KIND,
            _NAME,
            Column("count", "changes", "count"),
            Column("details", "the first of them", "list"),
        ),
        _no_charts,
        "No two kernels of one architecture and flavour, or nothing of that kind changed.",
    ),
    Section(
        "subsystems",
        "What modules repeat, by subsystem",
        "Types that two or more modules of a kernel keep, since vmlinux lacks them: the bytes "
        "of all copies but one. A subsystem is a folder of the kernel's source, “several” are "
        "types that modules of more than one keep. Of the last kernel of each architecture and "
        "flavour.",
        (
            _KERNEL,
            Column("subsystem", "subsystem", "name"),
            Column("modules", "modules", "count"),
            Column("bytes", "their split BTF, bytes", "count"),
            Column("repeated", "repeated types", "count"),
            Column("wasted", "repeated, bytes", "count"),
            Column("names", "most repeated", "names"),
        ),
        _subsystems,
        "No modules.",
    ),
    Section(
        "repeated",
        "Most repeated types",
        "The 100 types that cost most by being in several modules, of the last kernel of each "
        "architecture and flavour.",
        (
            _KERNEL,
            _KIND,
            _NAME,
            Column("copies", "copies", "count"),
            Column("bytes_each", "bytes of one", "count"),
            Column("wasted_bytes", "repeated, bytes", "count"),
            Column("module_count", "modules", "count"),
            Column("modules", "some of them", "names"),
        ),
        _no_charts,
        "No two modules keep the same type.",
    ),
    Section(
        "leftovers",
        "What builds left behind",
        "Types that dedup removes from vmlinux, and from modules that came as split BTF: their "
        "build should have done so. `splitbtf audit` says more.",
        (
            _KERNEL,
            Column("part", "in"),
            Column("cause", "likely cause"),
            Column("objects", "objects", "count"),
            Column("types", "types", "count"),
            Column("bytes", "bytes", "count"),
        ),
        _leftovers,
        "Nothing: dedup found no more to remove in BTF that had been deduplicated.",
    ),
    Section(
        "reasons",
        "Why types stay",
        "Named types that stayed in a module although vmlinux has a type of their name, by the "
        "reason. Kept: what would go if the root causes of that reason were mended.",
        (
            _KERNEL,
            Column("reason", "reason"),
            Column("types", "types that stayed", "count"),
            Column("modules", "in modules", "count"),
            Column("root_types", "kept, types", "count"),
            Column("root_bytes", "kept, bytes", "count"),
        ),
        _reasons,
        "Nothing stayed that vmlinux has by that name.",
    ),
    Section(
        "causes",
        "Root causes",
        "The innermost type whose own difference explains why others stayed: the 100 that keep "
        "most, of the last kernel of each architecture and flavour.",
        (
            _KERNEL,
            _KIND,
            _NAME,
            Column("reason", "reason"),
            Column("modules", "in modules", "count"),
            Column("stayed", "types that stayed", "count"),
            Column("types", "kept, types", "count"),
            Column("bytes", "kept, bytes", "count"),
            Column("difference", "difference", "long"),
        ),
        _no_charts,
        "Nothing stayed that vmlinux has by that name.",
    ),
    Section(
        "names",
        "Ambiguous names",
        "Names of structs, unions and enums that lie in memory in several ways in one kernel, by "
        "what differs between the first two of them: those that `splitbtf query OUT "
        "ambiguous-names` lists. Not counted are functions and variables, which several files may "
        "have of one name, and types that are the same but for what one has only a forward "
        "declaration of; the table `conflicts` has these too.",
        (_KERNEL, Column("reason", "what differs"), Column("names", "names", "count")),
        _names,
        "No name is ambiguous.",
    ),
    Section(
        "ambiguous",
        "Most ambiguous names",
        "The 100 names with most layouts, of the last kernel of each architecture and flavour.",
        (
            _KERNEL,
            _KIND,
            _NAME,
            Column("layouts", "layouts", "count"),
            Column("in_base", "in vmlinux", "yes"),
            Column("modules", "in modules", "count"),
            Column("reasons", "what differs", "names"),
            Column("difference", "first difference", "long"),
        ),
        _no_charts,
        "No name is ambiguous.",
    ),
    Section(
        "layers",
        "Star and shared layer",
        "Type records of all modules of a kernel, where each continues vmlinux (a star), and "
        "where what two or more modules keep is in a layer between (vmlinux → shared → module)."
        " Strings come on top; `splitbtf layers` writes the files, and measures chains along "
        "dependencies too.",
        (
            _KERNEL,
            Column("star_types", "star, types", "count"),
            Column("shared_types", "shared, types", "count"),
            Column("star_bytes", "star, bytes", "count"),
            Column("shared_bytes", "shared, bytes", "count"),
            Column("saved", "saved", "percent"),
        ),
        _layers,
        "No modules.",
    ),
    Section(
        "failed",
        "Failed inputs",
        "Modules that could not be deduplicated, and why.",
        (
            _KERNEL,
            Column("module", "module", "name"),
            Column("source", "file", "long"),
            Column("error_kind", "kind of error"),
            Column("error", "error", "long"),
        ),
        _no_charts,
        "None: all inputs were deduplicated.",
    ),
)
