"""``splitbtf dump``: the types of files, for people, programs and compilers."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pipeline.engine.malloc import importing

DESCRIPTION = """\
Print the types of a file. FILE is raw BTF (.btf), an ELF file with a .BTF section (.ko, vmlinux),
either of them perhaps compressed with zstd, xz or gzip, a kernel image (vmlinuz), or a package with
one of these. Split BTF needs its base; printed are the types that FILE itself holds. Several files
are merged first, as splitbtf merge does, so that each type is printed once.
"""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Add this command's arguments."""
    parser = commands.add_parser(
        "dump",
        help="print the types of files as text, JSON or a C header",
        description=DESCRIPTION,
    )
    parser.add_argument("file", nargs="+", metavar="FILE", help="raw BTF, or an ELF file with BTF")
    parser.add_argument(
        "-B", "--base", metavar="BASE", help="the base of split BTF: vmlinux, or its BTF"
    )
    parser.add_argument(
        "--format",
        choices=("raw", "c", "json"),
        default="raw",
        help="raw: a line or more for each type; json: the same for programs (both as bpftool "
        "prints them); c: a header that compiles (default: raw)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        metavar="NAME",
        help='only this type, by its name ("xfs_inode", "struct xfs_inode") or id, in C with what '
        "it needs; several times",
    )
    parser.add_argument(
        "--asserts",
        action="store_true",
        help="with --format c: let the header assert every size and offset when it is compiled",
    )
    parser.set_defaults(command=main)


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    if options.asserts and options.format != "c":
        options.parser.error("--asserts needs --format c")
    with importing():
        from pipeline.dump import dump_files

    chunks = dump_files(
        options.file,
        options.base,
        options.format,
        wanted=options.type,
        asserts=options.asserts,
        announce=options.reporter.announce,
    )
    for chunk in chunks:
        options.reporter.clear()
        sys.stdout.buffer.write(chunk.encode())
    return 0
