"""Has the kernel's own resolve_btfids put modules into kernel form, and compares. Prints N of N.

    python tests/full_kernel_form.py RESOLVE_BTFIDS MODULES PACKAGE...

RESOLVE_BTFIDS is that program of Linux 7.0 or later (tools/bpf/resolve_btfids of the kernel's
source, `make` there; Debian: the package linux-source-7.2). It is given our `dedup` form of each
module's BTF: what it makes of that has to be our `kernel` form, and what it makes of .BTF_ids, from
symbols and names, what `slim_module` makes of it by the id map. MODULES is how many are tried, of
the Debian packages that are given, one of which has the kernel's image; all that have .BTF_ids are
among them. Exit status 0 if all are the same, 1 if not. Needs dpkg-deb.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

import btf
from full_slim import read
from support.oracles import naive_slim


def resolved(program: str, module: Path, base: Path, types: bytes) -> tuple[bytes, bytes | None]:
    """What resolve_btfids makes of a module's BTF, and of its .BTF_ids."""
    given = Path(f"{module}.given")
    given.write_bytes(types)
    command = [program, "--btf_base", str(base), "--btf", str(given), str(module)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        print(f"{module.name}: {done.stderr.strip()}")
    ids = Path(f"{module}.BTF_ids")
    return Path(f"{module}.BTF").read_bytes(), ids.read_bytes() if ids.exists() else None


def unresolved(data: bytes, types: btf.BTF) -> bytes:
    """A module's file as it was before its sets were sorted: flags are beside the symbol of their
    function, where resolve_btfids looks for them."""
    elf = ELFFile(io.BytesIO(data))
    section, table = (elf.get_section_by_name(name) for name in (".BTF_ids", ".symtab"))
    assert section is not None and isinstance(table, SymbolTableSection)
    words = list(struct.unpack(f"<{section['sh_size'] // 4}I", section.data()))
    symbols = [
        s for s in table.iter_symbols() if s["st_shndx"] == elf.get_section_index(".BTF_ids")
    ]
    flags: dict[tuple[int, str], int] = {}  # of functions, by the place of a set and the name
    sets = [s for s in symbols if s.name.startswith("__BTF_ID__set8__")]
    for one in sets:
        start, end = one["st_value"] // 4, (one["st_value"] + one["st_size"]) // 4
        named = {types[words[at]].name: words[at + 1] for at in range(start + 2, end, 2)}
        flags.update({(at, name): flag for at in range(start, end) for name, flag in named.items()})
    for symbol in symbols:
        at, name = symbol["st_value"] // 4, symbol.name.split("__", 3)[-1].rpartition("__")[0]
        if (at, name) in flags:
            words[at : at + 2] = 0, flags[at, name]
    start = section["sh_offset"]
    return data[:start] + struct.pack(f"<{len(words)}I", *words) + data[start + 4 * len(words) :]


def main(program: str, wanted: int, packages: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="kernel-form-") as work:
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package, work], check=True)
        image = next(path for path in sorted(Path(work).rglob("vmlinuz*")) if path.is_file())
        index = btf.BaseIndex.build(btf.load_base(image.read_bytes()))
        assert index.base is not None
        base = Path(work, "base.btf")
        base.write_bytes(index.base.to_bytes())
        paths = sorted(Path(work).rglob("*.ko*"))
        each = max(1, len(paths) // max(1, wanted))
        tried = good = with_ids = 0
        for number, path in enumerate(paths):
            data = naive_slim.unsigned(read(path))
            has_ids = naive_slim.content(data, ".BTF_ids") is not None
            if number % each and not has_ids:
                continue
            module = Path(work, path.name.partition(".")[0])
            slim = btf.slim_module(data, index, by_name=True).content
            opened = btf.open_module(data, index)
            plain = btf.dedup_module(opened, index).btf.to_bytes()
            module.write_bytes(unresolved(data, opened.btf) if has_ids else data)
            theirs = resolved(program, module, base, plain)
            ours = naive_slim.content(slim, ".BTF"), naive_slim.content(slim, ".BTF_ids")
            tried, with_ids, good = tried + 1, with_ids + has_ids, good + (ours == theirs)
            if ours != theirs:
                print(f"{path.name}: .BTF {ours[0] == theirs[0]}, .BTF_ids {ours[1] == theirs[1]}")
    print(f"{good} of {tried} modules the same, {with_ids} of them with .BTF_ids")
    return int(good < tried or tried < wanted)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
