"""How facts read: numbers, sizes, tables, JSON, progress and the summary that ends a command.

All that commands say goes through here to the terminal, one line at a time, and is ``printable``
there: names of types, modules and files come from input, and may hold what a terminal obeys.
"""

from __future__ import annotations

import datetime
import decimal
import json
import math
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Self, TextIO

from pipeline.model.summary import FailedInput, ModuleSize, WorkSummary
from pipeline.sources.names import printable

MAX_FAILURES_SHOWN = 20


_SURROGATES = re.compile("[\ud800-\udfff]")


def say(lines: Iterable[str]) -> None:
    """Print lines on stdout."""
    print("\n".join(map(printable, lines)))


def complain(*lines: str) -> None:
    """Print an error, which may go on after its first line, on stderr."""
    print("splitbtf: error:", "\n".join(map(printable, lines)), file=sys.stderr)


def print_json(facts: Any) -> None:
    """Print what ``--json`` asks for: JSON in ASCII."""
    print(json.dumps(_as_json(facts), indent=1, allow_nan=False))


def _as_json(value: Any) -> Any:
    """``value``, and all in it, as JSON has it: hashes as hexadecimal digits, whole numbers as
    such, null for what is no number, and of text that is no Unicode the escapes."""
    if isinstance(value, str):
        return _SURROGATES.sub(lambda found: printable(found[0]), value)
    if isinstance(value, dict):
        return {_as_json(key.hex() if isinstance(key, bytes) else str(key)): _as_json(item)
                for key, item in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float | decimal.Decimal):
        if not math.isfinite(value):
            return None
        whole = isinstance(value, decimal.Decimal) and value == value.to_integral_value()
        return int(value) if whole else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime.date) else str(value)


def number(count: int | None) -> str:
    """``1,121``; ``?`` for what is not known."""
    return f"{count:,}" if count is not None else "?"


def size(count: float | None) -> str:
    """Bytes with three digits or so: ``8.65 MB``; ``?`` for what is not known."""
    if count is None:
        return "?"
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB" if count < 1000 else f"{count:.0f} GB"


def plural(count: int, noun: str) -> str:
    """``1 module``, ``1,121 modules``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def table(
    rows: Sequence[Sequence[str]], to_the_right: Sequence[bool], *, rule: bool = False
) -> list[str]:
    """Align cells in columns, each to the left or to the right; ``rule`` underlines the head."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if rule:
        rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return [
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, to_the_right, strict=True)
        )
        for row in rows
    ]


def failure_line(failed: FailedInput) -> str:
    """Which file, where in it, what is wrong."""
    failure = failed.failure
    where = [failed.file]
    if failure.section is not None:
        where.append(failure.section if "." in failure.section else f"{failure.section} section")
    if failure.offset_bytes is not None:
        where.append(f"offset {failure.offset_bytes}")
    if failure.type_id is not None:
        where.append(f"type {failure.type_id}")
    return f"{', '.join(where)}: {failure.message}"


def summary_lines(summary: WorkSummary) -> list[str]:
    """Modules, bytes and types before and after, the largest modules, the failures."""
    done = summary.modules - summary.failed
    head = f"{plural(done, 'module')} done"
    if summary.failed:
        head += f", {summary.failed:,} failed"
    lines = [head]
    if done:
        lines += [
            f"  BTF    {size(summary.bytes_in):>10} -> {size(summary.bytes_out):<10}"
            f" ({_ratio(summary.bytes_in, summary.bytes_out)})",
            f"  types  {summary.types_in:>10,} -> {summary.types_out:<10,}"
            f" ({_ratio(summary.types_in, summary.types_out)})",
        ]
        lines += _largest(summary.largest)
    return lines + _failures(summary.failures)


def _ratio(before: int, after: int) -> str:
    if not before or not after:
        return "nothing left" if before else "nothing there"
    if after >= before:
        return "not smaller"
    if before < 1.1 * after:  # split BTF that was deduplicated once more
        return f"{100 * (before - after) / before:.1f} % smaller"
    return f"{before / after:.1f} times smaller"


def _largest(largest: Sequence[ModuleSize]) -> list[str]:
    width = max((len(module.module) for module in largest), default=0)
    lines = ["  largest afterwards:"]
    for module in largest:
        before, after = size(module.input_bytes), size(module.bytes_out)
        lines.append(f"    {module.module:<{width}}  {before:>10} -> {after}")
    return lines


def _failures(failures: Sequence[FailedInput]) -> list[str]:
    if not failures:
        return []
    lines = ["  failed:", *(f"    {failure_line(f)}" for f in failures[:MAX_FAILURES_SHOWN])]
    if len(failures) > MAX_FAILURES_SHOWN:
        lines.append(f"    … and {len(failures) - MAX_FAILURES_SHOWN:,} more (--json lists all)")
    return lines


class Reporter:
    """Progress on stderr: one line that changes on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval_seconds = 0.1 if self._terminal else 5.0
        self._last = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def announce(self, message: str) -> None:
        """Say something now."""
        self.clear()
        print(f"splitbtf: {printable(message)}", file=self._stream, flush=True)

    def progress(self, label: str, done: int, failed: int, of: int) -> None:
        """Say how far it is, unless that was just said."""
        now = time.monotonic()
        if now - self._last < self._interval_seconds and not (self._terminal and done == of):
            return
        self._last = now
        text = f"{printable(label)}: {done:,} of {plural(of, 'module')}"
        if failed:
            text += f", {failed:,} failed"
        if self._terminal:
            print(f"\r\033[K{text}", end="", file=self._stream, flush=True)
            self._drawn = True
        else:
            print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._drawn:
            print("\r\033[K", end="", file=self._stream, flush=True)
            self._drawn = False
