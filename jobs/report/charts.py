"""Bar charts as SVG: specifications in Vega-Lite, drawn here, so that no script draws in the page.

Colours are names of CSS variables, which page.css has for light, dark and paper. Text of input is
data of a chart, never a part of its specification: nothing in it is taken for an expression.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.model.errors import CommandError
from pipeline.model.limits import address_limit
from pipeline.sources.names import printable

# Pixels that a chart is drawn in for a desk, half of one and a phone. page.css says which of them
# is shown, and makes it as wide as the page.
WIDTHS = {"wide": 928, "medium": 520, "narrow": 343}
SERIES = 8  # colours that page.css has
_IDS = re.compile(r'(?<=id=")\w+(?=")|(?<=url\(#)\w+(?=\))')
_BAR, _WIDEST_LETTER = 16, 7.4  # pixels
_LABELS = {"wide": 260, "medium": 180, "narrow": 115}  # pixels that a category may take
_TICKS = {"wide": 6, "medium": 4, "narrow": 3}
_MOST_LINES = 3  # of a label, for each that it has anyway
_LINE = 14  # pixels
_BREAKS = re.compile(r"(?<=[-+_/. ])")  # where a label may go on in the next line


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

    @property
    def series(self) -> list[str]:
        """All series, in the order of their colours."""
        return list(dict.fromkeys(row[1] for row in self.rows))

    @property
    def legend(self) -> list[tuple[str, str]]:
        """The class in page.css of each series' colour, and its name; empty if there is only one.
        The page shows it: text of HTML wraps, and that of a drawn legend is cut."""
        names = self.series if len(self.series) > 1 else []
        return [(f"series{_colour(number)}", name) for number, name in enumerate(names)]

    def svg(self, width: str, name: str) -> str:
        """Draw it.

        width  a key of WIDTHS
        name   begins all ids in it, which are numbers of the process otherwise
        """
        import vl_convert  # late: it starts a JavaScript engine

        svg = vl_convert.vegalite_to_svg(json.dumps(self._specification(width)))
        ids = list(dict.fromkeys(_IDS.findall(svg)))
        return _IDS.sub(lambda found: f"{name}-{ids.index(found[0])}", svg)

    def _specification(self, width: str) -> dict[str, Any]:
        series, limit = self.series, _LABELS[width]
        labels = {row[0]: _label(row[0], int(limit / _WIDEST_LETTER)) for row in self.rows}
        bars = 1 if self.stacked else max(len(series), 1)
        label = "format(datum.value, '~s')"
        if self.bytes:
            label = f"replace({label}, /([a-zA-Z]?)$/, ' $1B')"
        split = [text.split("\n") for text in labels.values()]
        lines = max(map(len, split), default=1)
        longest = max((len(line) for some in split for line in some), default=0)
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
                    "labelOffset": _centred(lines),
                    "minExtent": min(1.15 * limit, longest * _WIDEST_LETTER),
                    "titleAngle": 0, "titleAlign": "right", "titleAnchor": "end",
                    "titleBaseline": "bottom", "titleX": -8, "titleY": -6,
                },
            },
            "x": {
                "field": "value",
                "type": "quantitative",
                "title": self.value,
                "axis": {
                    "labelExpr": label, "tickCount": _TICKS[width],
                    "labelOverlap": "parity", "labelSeparation": 8,
                },
            },
            "color": {
                "field": "series",
                "type": "nominal",
                "sort": None,
                "scale": {"domain": series, "range": _colours(len(series))},
                "legend": None,
            },
            "description": {"field": "description"},
        }  # fmt: skip
        if bars > 1:
            encoding["yOffset"] = {"field": "series", "type": "nominal", "sort": None}
        if self.stacked:
            encoding["order"] = {"field": "order", "type": "quantitative"}
        return {
            "width": WIDTHS[width],
            "height": len(labels) * (max(_BAR * bars, _LINE * lines) + 10),
            "autosize": {"type": "fit-x", "contains": "padding"},
            "padding": {"left": 2, "right": 12, "top": 2, "bottom": 2},
            "data": {"values": self._records(labels)},
            "mark": {"type": "bar", "cornerRadiusEnd": 0 if self.stacked else 2},
            "encoding": encoding,
            "config": _CONFIG,
        }

    def _records(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        place = {name: number for number, name in enumerate(self.series)}
        return [
            {
                "category": labels[category],
                "series": name,
                "value": value,
                "order": place[name],
                "description": f"{self.category}: {printable(' '.join(category.split()))}; "
                + (f"{name}: " if name else "")
                + f"{value:,} {'bytes' if self.bytes else self.value}",
            }
            for category, name, value in self.rows
        ]


def _centred(most: int) -> dict[str, Any]:
    """How far a label of several lines, ``most`` at most, is moved up: Vega has the first of them
    beside the bar."""
    return {
        "condition": [
            {
                "test": f"length(split(datum.value, '\\n')) == {lines}",
                "value": -(lines - 1) * _LINE / 2,
            }
            for lines in range(2, most + 1)
        ],
        "value": 0,
    }


def _label(category: str, letters: int) -> str:
    """A category in lines of so many letters, where that does not take too many lines."""
    lines: list[str] = []
    for line in map(printable, category.split("\n")):
        wrapped = [""]
        for piece in _BREAKS.split(line):
            if wrapped[-1] and len(wrapped[-1] + piece.rstrip()) > letters:
                wrapped.append("")
            wrapped[-1] += piece
        lines += wrapped if len(wrapped) <= _MOST_LINES else [line]
    return "\n".join(lines)


def _colour(number: int) -> int:
    return 1 + number % SERIES


def _colours(count: int) -> list[str]:
    return [f"var(--series{_colour(number)})" for number in range(count)]


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
    "scale": {"bandPaddingInner": 0.25},
}
