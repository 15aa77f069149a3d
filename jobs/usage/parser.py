"""The parser of the command line: what it says where it was called wrongly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pipeline.sources.names import printable

MOST_WORKERS = 1024
_FEW = 8  # choices that are all named
_MOST_SECONDS = 10_000_000  # some months; there are clocks that cannot count much longer


class Parser(argparse.ArgumentParser):
    """Says what is wrong, the nearest names, and how to get help, in place of the usage."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        said = f"{self.prog}: error: {printable(message)}"
        self.exit(2, f"{said}\n  `{self.prog} --help` says how to use it\n")

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """End because of arguments that mean nothing here."""
        from pipeline.sources.names import hint, nearest_names

        shown = " ".join(unknown)
        options = [one.partition("=")[0] for one in unknown if one.startswith("-")]
        if not options:
            self.error(f"too many arguments: {shown}")
        known = [name for name in self._option_string_actions if name.startswith("--")]
        near = (name for option in options for name in nearest_names(option, known))
        self.error(f"no such option: {shown}{hint(list(dict.fromkeys(near))[:3])}")

    def called(self, dest: str) -> str:
        """What users know an argument by."""
        (action,) = [action for action in self._actions if action.dest == dest]
        return "/".join(action.option_strings) or str(action.metavar or dest)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        from pipeline.sources.names import hint, hint_of, nearest_names

        names = list(map(str, action.choices))
        if isinstance(action, argparse._SubParsersAction):
            raise argparse.ArgumentError(None, f"no command {value!r}{hint_of(value, names)}")
        near = hint(nearest_names(value, names)) if len(names) > _FEW else ""
        said = f"invalid choice: {value!r}{near} (choose from {', '.join(names)})"
        raise argparse.ArgumentError(action, said)


def add_bases(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``-B`` for files that may have bases of their own."""
    parser.add_argument(
        "-B",
        "--base",
        action="append",
        default=[],
        metavar="BASE",
        help=f"the base of split BTF{help}",
    )


def whole(at_least: int, at_most: int | None = None) -> Callable[[str], int]:
    """Read a whole number of an option."""

    def read(text: str) -> int:
        limit = at_most or sys.maxsize
        if not (text.isascii() and text.isdecimal() and at_least <= int(text[:20]) <= limit):
            wanted = f"from {at_least} to {at_most:,}" if at_most else f"of {at_least} or more"
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number {wanted}")
        return int(text)

    return read


def seconds(text: str) -> float:
    """Read how long something may take."""
    try:
        count = float(text)
    except ValueError:
        count = 0
    if not 0 < count <= _MOST_SECONDS:
        wanted = f"above 0 and up to {_MOST_SECONDS:,}"
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds {wanted}")
    return count


def json_object(text: str) -> dict[str, Any]:
    """Read an object in JSON, or from a file: ``@FILE``."""
    import json

    content, found = text, None
    try:
        if text.startswith("@"):
            with open(text[1:], encoding="utf-8") as file:  # noqa: PTH123
                content = file.read()
        found = json.loads(content)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text[1:]}: {error.strerror}") from error
    except (ValueError, RecursionError):
        pass
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f'{text!r} is no object in JSON: {{"name": …}}, or @FILE')
    return found


def add_workers(parser: argparse.ArgumentParser, default: str) -> None:
    """Add ``--workers``. ``default``: how many there are without it."""
    parser.add_argument(
        "--workers",
        type=whole(1, MOST_WORKERS),
        metavar="N",
        help=f"worker processes (default: {default})",
    )


def add_detail(parser: argparse.ArgumentParser) -> None:
    """Add what all commands have that take a while."""
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "-q", "--quiet", action="store_true", help="print results and errors, and nothing else"
    )
    how.add_argument(
        "-v", "--verbose", action="store_true", help="say each step, and after how many seconds"
    )
