"""``splitbtf``: finds the command and turns errors into messages and exit codes.

Exit codes: 0 done; 1 done, but inputs failed (or a negative answer); 2 wrong usage, or nothing
could be done; 130 interrupted, 128 and its number for another signal. Commands import what they
need when they run: ``--help`` and ``dedup`` must not wait for Ray or Arrow.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from importlib import import_module

from pipeline.model.limits import ENDING, address_limit

from .usage import completion
from .usage.parser import Parser, add_detail
from .usage.streams import OUTPUT, open_streams
from .usage.text import Reporter, complain

NOTHING_DONE = 2
_AT_ONCE = ("help", "completion")
COMMANDS = (
    "run", "dedup", "check", "merge", "dump", "ls", "diff", "history", "show", "fetch", "find",
    "explain", "query", "report", "layers", "audit", "slim", "verify", "help",
)  # fmt: skip


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line, or as much of it as one of COMMANDS takes."""
    from pipeline import __version__

    top = Parser(
        prog="splitbtf",
        description="Deduplicate the BTF of Linux kernel modules against their vmlinux.",
        epilog="`splitbtf help` prints all there is to know of a command or a topic. "
        "Exit status: 0 done, 1 done with failed inputs, 2 nothing could be done",
    )
    top.add_argument("--version", action="version", version=f"splitbtf {__version__}")
    top.set_defaults(command=None, parser=top)
    commands = top.add_subparsers(metavar="COMMAND")
    for name in COMMANDS if only is None else (only,):
        home = import_module(f".usage.{name}" if name == "help" else f".{name}", __package__)
        home.add_to(commands)
    if only is None:
        completion.add_to(commands, top)
    for name, parser in commands.choices.items():
        parser.set_defaults(parser=parser)
        if name not in _AT_ONCE:
            add_detail(parser)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    from pipeline.engine.malloc import use_system_pool
    from pipeline.engine.no_pandas import leave_out_pandas
    from pipeline.model.errors import CommandError, QueryError, explain

    open_streams()
    if arguments is None:  # the program, not called by another
        # Before NumPy starts its threads for matrices, which spin for 0.1 s.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        leave_out_pandas()
        use_system_pool()
    ended_by: list[signal.Signals] = []
    try:
        if address_limit() is not None and arguments is None:
            from pipeline.engine.isolation import watch

            if (code := watch()) is not None:
                return code
        with _ended_by_signals(ended_by):
            return _run(arguments)
    except CommandError as error:
        several = isinstance(error, QueryError)  # DuckDB points into the query, below it
        complain(*(str(error).split("\n") if several else [str(error)]))
    except KeyboardInterrupt:
        exec("")  # where the signal came inside of such a call Python would end itself by SIGINT
        number = ended_by[0] if ended_by else signal.SIGINT
        complain("interrupted" if number == signal.SIGINT else f"ended by {number.name}")
        return 128 + number
    except OSError as error:
        if isinstance(error, BrokenPipeError) and error.filename == OUTPUT:
            return 0  # whoever read our output has seen enough
        where = f"cannot write {OUTPUT}" if error.filename == OUTPUT else error.filename
        if where is None and not os.path.exists(os.curdir):
            where = "the current folder"  # was removed
        complain(f"{where}: {error.strerror}" if where else str(error))
    except Exception as error:
        complain(explain(error))
    return NOTHING_DONE


@contextlib.contextmanager
def _ended_by_signals(received: list[signal.Signals]) -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the block as an interrupt does, unless they are ignored; what
    comes is added to ``received``. Further ones do not disturb the end, nor is it begun again."""

    def end(number: int, _: object) -> None:
        received.append(signal.Signals(number))
        if len(received) == 1:
            raise KeyboardInterrupt

    here = threading.current_thread() is threading.main_thread()  # no other can say so
    before = {number: signal.getsignal(number) for number in ENDING if here}
    for number, handler in before.items():
        if handler in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(arguments: Sequence[str] | None) -> int:
    try:
        given = sys.argv[1:] if arguments is None else arguments
        only = given[0] if given and given[0] in COMMANDS else None
        options, unknown = parser(only).parse_known_args(given)
        if unknown:
            options.parser.refuse(unknown)
        for name, value in vars(options).items():
            if value == "" or (isinstance(value, list) and "" in value):
                options.parser.error(f"{options.parser.called(name)} is empty")
        if options.command is None:
            options.parser.print_help()
            return 0
        detail = getattr(options, "verbose", False) - getattr(options, "quiet", False)
        with Reporter(detail) as options.reporter:
            code: int = options.command(options)
        return code
    finally:
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
