"""The HTML file. Text of input is text in it, and nothing in it can reach a network.

Jinja2 escapes whatever goes into the page. Its only script is page.js with DataTables in front, as
itables packs it, and its only style is page.css behind that of DataTables: the content security
policy names both by their hashes, and allows nothing else, neither scripts nor requests.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup, escape

from pipeline import __version__
from pipeline.analysis.report import Figure
from pipeline.sources.names import printable

from ..usage.text import number, size
from .charts import WIDTHS
from .sections import SECTIONS, Column, Section, command

_EXPORTS = re.compile(r"export\s*\{([^}]*)\}")
_CODE = re.compile(r"`([^`]*)`")
_OPENS_SCRIPT = re.compile(r"<(?=!--|/?script)", re.IGNORECASE)


def page(out: str, figures: Mapping[str, Figure]) -> str:
    """The report of an output folder as HTML."""
    here = files(__package__)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"cell": _cell, "printable": printable, "prose": _prose}
    style = _package_file("dt_bundle.css") + here.joinpath("page.css").read_text("utf-8")
    script = _tables_script(here.joinpath("page.js").read_text("utf-8"))
    template = environment.from_string(here.joinpath("page.html").read_text("utf-8"))
    return template.render(
        facts=_facts(figures["kernels"]),
        kernels=[row["kernel"] for row in figures["kernels"].rows],
        sections=[(section, figures[section.name]) for section in SECTIONS],
        charts={section.name: _charts(section, figures[section.name]) for section in SECTIONS
                if figures[section.name].rows},
        commands={name: printable_lines(command(out, figure)) for name, figure in figures.items()},
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'",
        version=__version__,
    )  # fmt: skip


def printable_lines(text: str) -> str:
    """Text of several lines, each as a terminal may see it."""
    return "\n".join(map(printable, text.split("\n")))


def _facts(kernels: Figure) -> list[tuple[str, str]]:
    """The figures on top: what they are of, and what they are."""

    def total(key: str) -> int:
        return sum(row[key] or 0 for row in kernels.rows)

    modules, failed = total("modules"), total("failed")
    return [
        ("kernels", number(kernels.all_rows)),
        ("modules", number(modules) + (f", {number(failed)} failed" if failed else "")),
        ("BTF of modules", f"{size(total('bytes_in'))} → {size(total('bytes_out'))}"),
        ("types in modules", f"{number(total('types_in'))} → {number(total('types_out'))}"),
    ]


def _charts(section: Section, figure: Figure) -> list[dict[str, Any]]:
    """The charts of a section, each as SVG for several widths of the page."""
    return [
        {
            "caption": chart.caption,
            "legend": chart.legend,
            "drawn": {
                width: Markup(chart.svg(width, f"{section.name}-{number}-{width}"))
                for width in WIDTHS
            },
        }
        for number, chart in enumerate(section.charts(figure))
    ]


def _prose(text: str) -> Markup:
    """Text of ours, in which backticks enclose code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))


def _cell(row: Mapping[str, Any], column: Column) -> dict[str, Any]:
    """How a value reads, and by what it is ordered, where that is a number."""
    value, form = row[column.key], column.form
    if value is None:
        return {"text": "", "order": "" if form in _NUMBERS else None}
    if form in _NUMBERS:
        text = _NUMBERS[form].format(value).replace("-", "\N{MINUS SIGN}")
        return {"text": text, "order": float(value)}
    if form in _BETWEEN:
        return {"text": _BETWEEN[form].join(printable(one or "") for one in value), "order": None}
    if form == "yes":
        return {"text": "yes" if value else "no", "order": None}
    return {"text": printable(str(value)), "order": None}


_BETWEEN = {"names": ", ", "list": "; "}
_NUMBERS = {"count": "{:,}", "growth": "{:+,}", "percent": "{:.1f} %", "times": "{:.1f}"}


def _package_file(name: str) -> str:
    """A file of the bundle of DataTables."""
    return files("itables").joinpath("html", name).read_text("utf-8")


def _tables_script(ours: str) -> str:
    """The bundle, which is a module that exports DataTables, with a script behind that uses it."""
    bundle = _package_file("dt_bundle.js")
    exports = _EXPORTS.search(bundle)
    assert exports is not None
    names = dict(pair.split(" as ")[::-1] for pair in exports[1].split(",") if " as " in pair)
    script = f"{bundle}\nconst Tables = {names['default']};\n{ours}"
    return _OPENS_SCRIPT.sub(r"\\x3C", script.replace("\r\n", "\n"))


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
