"""``splitbtf fetch``: public kernels, by name."""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict
from typing import Any

from .usage.text import complain, plural, print_json, say, size

DESCRIPTION = """\
Download the packages of public kernels with this machine's apt, and check their SHA-256. A NAME is
one that --list prints, or the path of a manifest. Each kernel gets a folder DIR/NAME, which can be
given to `splitbtf run`. What is there and right is not downloaded again; nothing is unpacked.
"""

LISTED = ("name", "bytes", "debug_bytes")


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "fetch", help="download public kernels by name", description=DESCRIPTION
    )
    parser.add_argument("name", nargs="*", metavar="NAME", help="a kernel, or a manifest's path")
    parser.add_argument(
        "-o",
        "--output",
        default="kernels",
        metavar="DIR",
        help="where the folders of kernels go (default: kernels)",
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="also the packages with debug information, which are large",
    )
    parser.add_argument(
        "--list", action="store_true", help="list the kernels, and download nothing"
    )
    parser.add_argument("--json", action="store_true", help="print what was done as JSON")
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.list:
        return _list(options)
    if not options.name:
        options.parser.error("name a kernel; --list lists them")
    from pipeline.sources.fetch import FetchError, fetch
    from pipeline.sources.manifests import find

    manifests = [find(name) for name in options.name]  # all are sound before one is fetched
    done: dict[str, list[Any]] = {}
    failed: dict[str, str] = {}
    for manifest in manifests:
        try:
            done[manifest.name] = fetch(
                manifest, options.output, debug=options.debug, announce=options.reporter.announce
            )
        except FetchError as error:
            failed[manifest.name] = str(error)
            complain(f"{manifest.name}: {error}")
        except KeyboardInterrupt:
            options.reporter.announce("the same command again goes on from there")
            raise
    if options.json:
        fetched = {name: [asdict(file) for file in files] for name, files in done.items()}
        print_json({"fetched": fetched, "failed": failed})
    else:
        for name, files in done.items():
            new = [file for file in files if not file.was_there]
            what = f"{plural(len(new), 'package')}, {size(sum(file.bytes for file in new))}"
            say([f"{os.path.join(options.output, name)}: {what if new else 'all there'}"])
    if failed:
        return 1 if done else 2
    return 0


def _list(options: argparse.Namespace) -> int:
    from pipeline.sources.manifests import known, load

    rows: list[tuple[str, int, int]] = []
    for path in known().values():
        manifest = load(path)
        plain = sum(package.bytes for package in manifest.packages if not package.only_debug)
        debug = sum(package.bytes for package in manifest.packages if package.only_debug)
        rows.append((manifest.name, plain, debug))
    if options.json:
        print_json([dict(zip(LISTED, row, strict=True)) for row in rows])
        return 0
    width = max(len(name) for name, _, _ in rows)
    for name, plain, debug in rows:
        more = f", {size(debug)} more with --debug" if debug else ""
        say([f"{name:<{width}}  {size(plain)}{more}"])
    return 0
