"""Bar charts as SVG: specifications in Vega-Lite, drawn here, so that no script draws in the page.

Colours are names of CSS variables, which page.css has for light, dark and paper. Text of input is
data of a chart, never a part of its specification: nothing in it is taken for an expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.model.errors import CommandError
from pipeline.model.limits import address_limit
from pipeline.sources.names import printable

WIDE, NARROW = 928, 343  # pixels: of a page, and of a phone
SERIES = 8  # colours that page.css has
_IDS = re.compile(r'(?<=id=")\w+(?=")|(?<=url\(#)\w+(?=\))')
_BAR, _WIDEST_LETTER = 16, 7.4  # pixels


def check_limits() -> None:
    """Raise CommandError where charts cannot be drawn: V8, which vl-convert draws with, reserves
    more addresses than any limit that people set, and aborts the process where it may not."""
    if address_limit() is not None:
        raise CommandError(
            "charts cannot be drawn under a limit of address space: run `ulimit -v unlimited` "
            "before, or limit the memory another way (a cgroup, `systemd-run -p MemoryMax=...`)"
        )


@dataclass(frozen=True, slots=True)
class Chart:
    """Horizontal bars.

    caption   what is shown
    rows      (category, series, value) in the order in which they are drawn; a category may have
              several lines
    category  title of the axis of categories
    value     title of the axis of values, with its unit
    bytes     whether values are bytes
    stacked   whether series are stacked, or beside each other
    """

    caption: str
    rows: Sequence[tuple[str, str, float]]
    category: str
    value: str
    bytes: bool = True
    stacked: bool = False

    def svg(self, width: int, name: str) -> str:
        """Draw it.

        width  of the whole chart, in pixels
        name   begins all ids in it, which are numbers of the process otherwise
        """
        import vl_convert  # late: it starts a JavaScript engine

        svg = vl_convert.vegalite_to_svg(json.dumps(self._specification(width)))
        ids = list(dict.fromkeys(_IDS.findall(svg)))
        return _IDS.sub(lambda found: f"{name}-{ids.index(found[0])}", svg)

    def _specification(self, width: int) -> dict[str, Any]:
        series = list(dict.fromkeys(row[1] for row in self.rows))
        categories = list(dict.fromkeys(row[0] for row in self.rows))
        bars = 1 if self.stacked else max(len(series), 1)
        label = "format(datum.value, '~s')" + (" + 'B'" if self.bytes else "")
        lines = max((row[0].count("\n") + 1 for row in self.rows), default=1)
        limit = 260 if width >= WIDE else 115  # pixels
        longest = max((len(line) for row in self.rows for line in row[0].split("\n")), default=0)
        encoding: dict[str, Any] = {
            "y": {
                "field": "category",
                "type": "nominal",
                "title": self.category,
                "sort": None,
                # Fonts differ from reader to reader: there is room for a wide one.
                "axis": {
                    "labelExpr": "split(datum.value, '\\n')",
                    "labelLimit": limit,
                    "minExtent": min(1.15 * limit, longest * _WIDEST_LETTER),
                    "titleAngle": 0, "titleAlign": "right", "titleAnchor": "end",
                    "titleBaseline": "bottom", "titleX": -8, "titleY": -6,
                },
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": self.value,
                "axis": {"labelExpr": label, "tickCount": 6 if width >= WIDE else 3},
            },
            "color": {
                "field": "series",
                "type": "nominal",
                "sort": None,
                "scale": {"domain": series, "range": _colours(len(series))},
                "legend": _legend(series, width),
            },
        }  # fmt: skip
        if bars > 1:
            encoding["yOffset"] = {"field": "series", "type": "nominal", "sort": None}
        if self.stacked:
            encoding["order"] = {"field": "order", "type": "quantitative"}
        return {
            "width": width,
            "height": len(categories) * (max(_BAR * bars, 14 * lines) + 10),
            "autosize": {"type": "fit-x", "contains": "padding"},
            "padding": {"left": 2, "right": 12, "top": 2, "bottom": 2},
            "data": {"values": _records(self.rows, series)},
            "mark": {"type": "bar", "cornerRadiusEnd": 0 if self.stacked else 2},
            "encoding": encoding,
            "config": _CONFIG,
        }


def _records(rows: Iterable[tuple[str, str, float]], series: Sequence[str]) -> list[dict[str, Any]]:
    return [
        {
            "category": "\n".join(map(printable, category.split("\n"))),
            "series": name,
            "value": value,
            "order": series.index(name),
        }
        for category, name, value in rows
    ]


def _legend(series: Sequence[str], width: int) -> Mapping[str, Any] | None:
    if len(series) < 2:
        return None
    columns = 0 if width >= WIDE else 1 if max(map(len, series)) > 16 else 3
    return {"orient": "bottom", "title": None, "columns": columns, "columnPadding": 24}


def _colours(count: int) -> list[str]:
    return [f"var(--series{1 + number % SERIES})" for number in range(count)]


_INK = {"labelColor": "var(--ink)", "titleColor": "var(--ink)"}
_CONFIG = {
    "background": None,
    "font": "sans-serif",
    "view": {"stroke": None},
    "axis": _INK
    | {
        "gridColor": "var(--rule)",
        "domainColor": "var(--rule)",
        "tickColor": "var(--rule)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
    "axisY": {"ticks": False, "domain": False},
    "legend": _INK | {"labelFontSize": 12},
    "scale": {"bandPaddingInner": 0.25},
}
