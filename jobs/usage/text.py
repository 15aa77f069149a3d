"""How facts read: numbers, sizes, tables, JSON, progress and the summary that ends a command.

All that commands say goes through here to the terminal, one line at a time, and is ``printable``
there: names of types, modules and files come from input, and may hold what a terminal obeys.
"""

from __future__ import annotations

import math
import os
import re
import sys
import textwrap
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

from pipeline.sources.names import printable

if TYPE_CHECKING:
    from logging import LogRecord

    from pipeline.model.summary import FailedInput, ModuleSize, WorkSummary

MAX_FAILURES_SHOWN = 20
WIDTH = 80  # characters of a line that is wrapped
_PACE_SECONDS = 30  # before now, in which a rate is reckoned: of all kernels, as they overlap


_SURROGATES = re.compile("[\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\ud[89a-f]")  # also half of what needs two


def say(lines: Iterable[str]) -> None:
    """Print lines on stdout."""
    text = "\n".join(map(printable, lines))
    _clear()
    print(text)


def complain(*lines: str) -> None:
    """Print an error, which may go on after its first line, on stderr."""
    _clear()
    print("splitbtf: error:", "\n".join(map(printable, lines)), file=sys.stderr)


def remark(line: str) -> None:
    """Print on stderr what is no error, as why a gate fails."""
    _clear()
    print("splitbtf:", printable(line), file=sys.stderr)


def print_pieces(pieces: Iterable[str]) -> None:
    """Print a text that is made piece by piece, on a line of its own."""
    text = "".join(pieces)
    _clear()
    print(text)


def print_json(facts: Any, *, indent: int | None = 1) -> None:
    """Print what ``--json`` asks for; without ``indent`` it is one line, and much less work."""
    text = as_json(facts, indent=indent)
    _clear()
    print(text)


def as_json(facts: Any, *, indent: int | None = 1) -> str:
    """Write JSON in ASCII."""
    import json  # late, as those below: few commands need it

    try:
        text = json.dumps(facts, indent=indent, allow_nan=False)
    except (TypeError, ValueError):
        pass  # there is something that JSON has not
    else:
        if not _ESCAPED_SURROGATE.search(text):
            return text
    return json.dumps(json_value(facts), indent=indent, allow_nan=False)


def json_value(value: Any) -> Any:
    """``value``, and all in it, as JSON has it: hashes as hexadecimal digits, whole numbers as
    such, null for what is no number, and of text that is no Unicode the escapes."""
    if isinstance(value, str):
        if value.isascii():
            return value
        return _SURROGATES.sub(lambda found: printable(found[0]), value)
    if isinstance(value, dict):
        return {json_value(key.hex() if isinstance(key, bytes) else str(key)): json_value(item)
                for key, item in value.items()}  # fmt: skip
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if value is None or isinstance(value, int):
        return value
    import datetime
    import decimal

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


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min``."""
    if seconds < 99:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


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


def wrapped(line: str, width: int = WIDTH) -> list[str]:
    """A line as several of so many characters, those after the first further in."""
    if len(line) <= width:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.wrap(
        line.strip(),
        width,
        initial_indent=indent,
        subsequent_indent=f"{indent}  ",
        break_on_hyphens=False,
    )


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


def summary_lines(summary: WorkSummary, left_by: str = "") -> list[str]:
    """Base, modules before and after, what a build left, what repeats, the largest, the failures.

    left_by  what probably left types in the modules' BTF, ``, likely as …``
    """
    done = summary.modules - summary.failed
    head = f"{plural(done, 'module')} done"
    if summary.failed:
        head += f", {summary.failed:,} failed"
    lines = [head]
    if summary.base_types is not None:
        types = f"({plural(summary.base_types, 'type')})"
        lines.append(f"  vmlinux{size(summary.base_bytes):>10}    {types}")
    if done:
        lines += [
            f"  modules{size(summary.bytes_in):>10} -> {size(summary.bytes_out):<10}"
            f" ({ratio(summary.bytes_in, summary.bytes_out)})",
            f"  types  {summary.types_in:>10,} -> {summary.types_out:<10,}"
            f" ({ratio(summary.types_in, summary.types_out)})",
        ]
        lines += _left(summary, left_by)
        lines += _largest(summary.largest)
        lines += arrays_lines(summary)
    return lines + failure_lines(summary.failures)


def _left(summary: WorkSummary, left_by: str) -> list[str]:
    """What need not be there: left by the build, or kept by several modules."""
    lines = []
    if summary.left_types > 0:
        left = f"{plural(summary.left_types, 'type')}, {size(summary.left_bytes)}"
        lines += wrapped(f"  left by the build: {left}{left_by}")
    if summary.repeated_types:
        repeated = f"{plural(summary.repeated_types, 'type')}, {size(summary.repeated_bytes)}"
        lines.append(f"  kept by several modules: {repeated} beyond the first of each")
    return lines


def ratio(before: int, after: int) -> str:
    """How much smaller it is."""
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


def arrays_lines(summary: WorkSummary) -> list[str]:
    """Warn of modules whose arrays are written otherwise than the base's."""
    if not summary.kept_by_arrays:
        return []
    return wrapped(
        f"  warning: {plural(summary.kept_by_arrays, 'type')} in "
        f"{plural(summary.modules_of_arrays, 'module')} stay only because arrays of several "
        "dimensions are written otherwise than in the base, as pahole does since version 1.32: "
        "have modules and base encoded by the same pahole"
    )


def failure_lines(failures: Sequence[FailedInput]) -> list[str]:
    """Inputs that failed, as many as are shown."""
    if not failures:
        return []
    lines = ["  failed:", *(f"    {failure_line(f)}" for f in failures[:MAX_FAILURES_SHOWN])]
    if len(failures) > MAX_FAILURES_SHOWN:
        lines.append(f"    … and {len(failures) - MAX_FAILURES_SHOWN:,} more (--json lists all)")
    return lines


class Reporter:
    """Progress on stderr: one line that changes on a terminal, else a line now and then.

    The steps of a command are what the pipeline logs: on a terminal the line shows each, elsewhere
    those of weight (INFO) are lines. One line with five figures needs no library: those that draw
    bars take longer to import than ``dedup`` takes for a module.
    """

    active: ClassVar[Reporter | None] = None

    def __init__(self, detail: int = 0, stream: TextIO | None = None) -> None:
        """``detail``: 1 has every step be a line, -1 is silence."""
        self._detail = detail
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._interval_seconds = 0.1 if self._terminal else 5.0
        self._began = self._last = time.monotonic()
        self._drawn = False
        self._done: dict[str, int] = {}  # by label
        self._pace: deque[tuple[float, int]] = deque()  # when, and how many of all were done

    def __enter__(self) -> Self:
        import logging  # late: not for --help

        from pipeline.model.steps import STEPS

        self._handler = logging.Handler()
        self._handler.emit = self._step  # type: ignore[method-assign]
        STEPS.addHandler(self._handler)
        STEPS.setLevel(logging.DEBUG)
        Reporter.active = self
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
        from pipeline.model.steps import STEPS

        STEPS.removeHandler(self._handler)
        Reporter.active = None

    def announce(self, message: str) -> None:
        """Say something now."""
        if self._detail >= 0:
            self.clear()
            print(f"splitbtf: {printable(message)}", file=self._stream, flush=True)

    def _step(self, record: LogRecord) -> None:
        step = record.getMessage()
        if self._detail > 0:
            self.announce(f"{time.monotonic() - self._began:.1f} s: {step}")
        elif not self._terminal and record.levelname == "INFO":
            self.announce(step)
        self._draw(step)

    def progress(self, label: str, done: int, failed: int, of: int, later: int = 0) -> None:
        """Say how far it is, unless that was just said; ``later``: modules that are to come."""
        now = time.monotonic()
        self._done[label] = done
        done_in_all = sum(self._done.values())
        if not self._pace or now - self._pace[-1][0] >= 1:
            self._pace.append((now, done_in_all))
        while now - self._pace[0][0] > _PACE_SECONDS and len(self._pace) > 2:
            self._pace.popleft()
        if now - self._last < self._interval_seconds and not (self._terminal and done == of):
            return
        text = f"{printable(label)}: {done:,} of {plural(of, 'module')}"
        if failed:
            text += f", {failed:,} failed"
        began, first = self._pace[0]
        if now - began >= 1 and done_in_all > first:
            rate = (done_in_all - first) / (now - began)
            text += f", {rate:.3g}/s" if rate < 100 else f", {rate:,.0f}/s"
            if rest := of - done + later:
                text += f", {duration(rest / rate)} left"
        if self._terminal:
            self._draw(text)
        elif self._detail >= 0:
            print(text, file=self._stream, flush=True)
        self._last = now

    def _draw(self, text: str) -> None:
        if self._terminal and self._detail >= 0:
            try:
                width = os.get_terminal_size(self._stream.fileno()).columns or 80
            except (OSError, ValueError):
                width = 80
            print(f"\r\033[K{text[: width - 1]}", end="", file=self._stream, flush=True)
            self._drawn = True

    def clear(self) -> None:
        """Remove the line that changes."""
        if self._drawn:
            print("\r\033[K", end="", file=self._stream, flush=True)
            self._drawn = False


def _clear() -> None:
    """Make room for what is printed now."""
    if Reporter.active is not None:
        Reporter.active.clear()
