"""Protects: damage in a package is told from its end: what comes before it is there, and what is
wrong is said with its place; nothing that a package says of itself makes it slow or large."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.model.errors import SourceError
from pipeline.sources import tar
from pipeline.sources.archive import PackageError
from pipeline.sources.formats import deb
from pipeline.sources.listing import find_base, find_files
from pipeline.sources.packages import read_package, unpack
from pipeline.sources.unpack import find_one
from support.packages import kernels
from support.writers import debwriter

FILES = {f"lib/modules/1.0/m{n}.ko": bytes([n]) * (700 * n + 5) for n in range(6)}
NAMES = tuple(FILES)
END = bytes(1024)


def entry(name: str, content: bytes, kind: bytes = b"0", size: int | None = None) -> bytes:
    """A header and content, as they are in a tar; ``size`` is what the header says."""
    header = bytearray(512)
    header[:100] = name.encode().ljust(100, b"\0")
    header[100:108], header[257:265] = b"0000644\0", b"ustar\00000"
    header[124:136] = b"%011o\0" % (len(content) if size is None else size)
    header[156:157] = kind
    header[148:156] = b"%06o\0 " % (sum(header) + 8 * 32)
    return bytes(header) + content + bytes(-len(content) % 512)


def of(*entries: bytes) -> bytes:
    """A tar of these."""
    return b"".join(entries) + END


def pax(*records: bytes) -> bytes:
    return entry("PaxHeaders/x", b"".join(records), b"x")


WHOLE = of(*(entry(name, content) for name, content in FILES.items()))


def header_at(number: int) -> int:
    """Where the header of a file is in WHOLE."""
    return WHOLE.index(NAMES[number].encode())


def changed(at: int, value: bytes) -> bytes:
    return WHOLE[:at] + value + WHOLE[at + len(value) :]


def resized(number: int, size: int) -> bytes:
    """WHOLE with a file that is said to have another size; the sum of its header is right."""
    at = header_at(number)
    header = entry(NAMES[number], b"", size=size)
    return changed(at, header)


def told(path: Path) -> tuple[tuple[str, ...], str | None]:
    """The files of a package and its problem; a package of which nothing can be read has none."""
    try:
        package = read_package(str(path))
    except PackageError as error:
        return (), str(error)
    return package.files, package.problem


def unpacked(path: Path, folder: Path) -> dict[str, bytes]:
    """What can be unpacked of the files that a package is said to have."""
    folder.mkdir()
    wanted = {name: str(folder / str(number)) for number, name in enumerate(told(path)[0])}
    problems = dict(unpack(str(path), wanted))
    assert sorted(problems) == sorted(wanted)
    for name, problem in problems.items():
        assert Path(wanted[name]).exists() == (problem is None)
    return {n: Path(wanted[n]).read_bytes() for n, problem in problems.items() if problem is None}


TAR_DAMAGE: dict[str, tuple[bytes, int, str]] = {
    "a name": (changed(header_at(2), b"x"), 2, f"no tar header at byte {header_at(2)}"),
    "a sum": (changed(header_at(3) + 152, b"q"), 3, f"no tar header at byte {header_at(3)}"),
    "no number": (
        changed(header_at(3), entry(NAMES[3], b"").replace(b"0000", b"z000")), 3, "no tar header",
    ),
    "the first header": (changed(0, b"x"), 0, "no tar header at byte 0"),
    "a kind": (changed(header_at(1) + 156, b"5"), 1, f"no tar header at byte {header_at(1)}"),
    "a block of zeros in the middle": (
        changed(header_at(2), bytes(512)), 2, f"data at byte {header_at(2) + 512}, after the mark",
    ),
    "a size that is too small": (resized(4, 100), 5, "no zeros at byte"),
    "a size with a block less": (resized(4, 2293), 5, "no zeros at byte"),
    "a size that swallows headers": (resized(1, 3000), 2, "m1.ko goes on over the tar header 1024"),
    "a size beyond the end": (resized(1, 1 << 20), 1, "has 1048576 bytes, more than there can be"),
    "cut off in a header": (WHOLE[: header_at(3) + 99], 3, "cut off at byte"),
    "cut off in a file": (WHOLE[: header_at(3) + 600], 3, "more than there can be"),
    "cut off between files": (WHOLE[: header_at(3)], 3, "without the mark of the end"),
    "cut off before the end": (WHOLE[:-1024], 6, "without the mark of the end"),
    "two in one": (WHOLE + WHOLE, 6, f"data at byte {len(WHOLE)}, after the mark"),
    "something after it": (WHOLE + bytes(9999) + b"x", 6, f"data at byte {len(WHOLE) + 9999}"),
    "nothing": (b"", 0, "cut off at byte 0"),
    "no tar": (b"<html>" * 1000, 0, "no"),
    "one file twice": (of(entry("a.ko", b"1"), entry("a.ko", b"2")), 1, "a.ko more than once"),
    "a negative size": (
        of(entry("a.ko", b""), entry("b.ko", b"")[:124] + b"\xff" * 12 + entry("b.ko", b"")[136:]),
        1, "no",
    ),
}  # fmt: skip


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("name", TAR_DAMAGE)
def test_a_damaged_tar(name: str, compression: str, tmp_path: Path) -> None:
    data, count, message = TAR_DAMAGE[name]
    path = tmp_path / "x.tar"
    path.write_bytes(debwriter.COMPRESSIONS[compression](data))
    files, problem = told(path)
    assert problem is not None and (message in problem or compression), problem
    assert 0 <= len(files) - count <= (1 if compression else 0), "the size is not known before"
    assert not set(files) - {*FILES, "a.ko"}
    found = unpacked(path, tmp_path / "to")
    assert len(found) >= count - 1, "the one before the damage may be what is damaged"
    for file, content in found.items():
        assert file == "a.ko" or content == FILES[file] or "size" in name
    if files:
        (listed,) = [file for file in find_files([str(path)]).modules if file.problem is not None]
        assert listed.path == str(path) and problem in str(listed.problem)


def test_every_damaged_header_is_noticed(tmp_path: Path) -> None:
    """Whichever byte of whichever header is changed: no file is lost without a word."""
    path = tmp_path / "x.tar"
    for number in (0, 3):
        for at in range(header_at(number), header_at(number) + 512):
            if at - header_at(number) == 155:  # behind the sum, and of no meaning
                continue
            path.write_bytes(changed(at, bytes([WHOLE[at] ^ 4])))
            _, problem = told(path)
            assert problem is not None


def long_name(said: int, name: bytes) -> bytes:
    """A header of GNU for a long name, which says that it has another length."""
    return entry("././@LongLink", name, b"L", said)


LONG = b"lib/" + b"n" * 200 + b".ko"
LONG_NAMES: dict[str, tuple[bytes, str]] = {
    "longer than it says": (
        of(long_name(100, LONG * 4), entry("x", b"1"), entry("y.ko", b"2")), "no",
    ),
    "shorter than it says": (
        of(long_name(1536, LONG), entry("x", b"1"), entry("y.ko", b"2")), "no long name in",
    ),
    "as long as all": (of(long_name(1 << 40, LONG), entry("y.ko", b"2")), "a tar header of"),
    "empty": (of(long_name(0, b""), entry("y.ko", b"2")), "no long name"),
    "very many, and no file": (of(*[long_name(len(LONG), LONG)] * 3000), "the file is missing"),
    "a pax record of no length": (of(pax(b"0 path=x\n"), entry("y.ko", b"")), "no pax record"),
    "a pax record that is too long": (of(pax(b"99 path=x\n"), entry("y.ko", b"")), "no pax record"),
    "a pax record that is too short": (of(pax(b"8 path=x\n"), entry("y.ko", b"")), "no pax record"),
    "a pax record without a number": (of(pax(b"path=x\n"), entry("y.ko", b"")), "no pax record"),
    "a pax header with more behind it": (
        of(pax(b"9 path=x\n", b"\0" * 30), entry("y.ko", b"")), "no pax record 9 bytes after",
    ),
    "very many pax records": (of(pax(b"5 a=\n" * 101), entry("y.ko", b"")), "more than 100"),
    "a pax size that is none": (of(pax(b"11 size=-1\n"), entry("y.ko", b"")), "no number"),
    "a pax size beyond the end": (
        of(pax(b"17 size=99999999\n"), entry("y.ko", b"")), "more than there can be",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG_NAMES)
def test_names_that_are_not_as_long_as_they_say(name: str, tmp_path: Path) -> None:
    data, message = LONG_NAMES[name]
    (tmp_path / "x.tar").write_bytes(of(entry("a.ko", b"a"))[:-1024] + data)
    files, problem = told(tmp_path / "x.tar")
    assert files == ("a.ko",) and problem is not None and message in problem, problem


@pytest.mark.parametrize("style", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_all_formats_of_sound_tars(style: int, tmp_path: Path) -> None:
    """As Python's tarfile writes them: long names, names of any bytes, large numbers, links."""
    names = ["a.ko", f"{'d' * 90}/{'e' * 90}.ko", "nämé.ko", "z" * 98 + ".k"]
    if style != tarfile.USTAR_FORMAT:
        names += ["x/" * 200 + "y.ko", "bytes-\udcff.ko"]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=style, errors="surrogateescape") as archive:
        for number, name in enumerate(names):
            one = tarfile.TarInfo(name)
            one.size, one.uid, one.mtime = number * 999, 3_000_000 * number, 1.5 * number
            if style == tarfile.USTAR_FORMAT:
                one.uid, one.mtime = number, number
            archive.addfile(one, io.BytesIO(bytes([number]) * one.size))
        folder = tarfile.TarInfo("folder.ko")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    for squeeze in debwriter.COMPRESSIONS.values():
        (tmp_path / "x.tar").write_bytes(squeeze(buffer.getvalue()))
        assert told(tmp_path / "x.tar") == (tuple(names), None)
    found = unpacked(tmp_path / "x.tar", tmp_path / "to")
    assert found == {name: bytes([n]) * (n * 999) for n, name in enumerate(names)}


def test_links_in_a_tar(tmp_path: Path) -> None:
    """A hard link is another name of a file that came before; a symbolic link is none."""
    link = bytearray(entry("b.ko", b"", b"1"))
    link[157:161] = b"a.ko"
    link[148:156] = b"%06o\0 " % (sum(link) - sum(link[148:156]) + 8 * 32)
    path = tmp_path / "x.tar"
    path.write_bytes(of(entry("a.ko", b"content"), bytes(link), entry("c.ko", b"", b"2")))
    assert told(path) == (("a.ko", "b.ko"), None)
    assert unpacked(path, tmp_path / "to") == {"a.ko": b"content", "b.ko": b"content"}
    told_of_one = dict(unpack(str(path), {"b.ko": str(tmp_path / "b")}))
    assert told_of_one == {"b.ko": "a hard link to a.ko, which was not unpacked before"}


@pytest.mark.parametrize(
    "sparse",
    [entry("s.ko", b"", b"S"), pax(b"22 GNU.sparse.major=1\n") + entry("s.ko", b"1\n0\n512\n")],
)
def test_sparse_files_are_refused(sparse: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(of(entry("a.ko", b"a"), sparse, entry("b.ko", b"b")))
    files, problem = told(path)
    assert (files, problem) == (("a.ko", "s.ko", "b.ko"), None)
    problems = dict(unpack(str(path), {name: str(tmp_path / name) for name in files}))
    assert problems["a.ko"] is None is problems["b.ko"]
    assert "packed as a sparse file" in str(problems["s.ko"])


STREAMS: dict[str, tuple[Callable[[bytes], bytes], str | None]] = {
    "several streams": (lambda data: b"", None),
    "something after it": (lambda data: data + b"junk", "what follows byte"),
    "cut off": (lambda data: data[:-5], "the file ends before the compressed data does"),
    "cut off early": (lambda data: data[: len(data) // 2], "ends before"),
}


@pytest.mark.parametrize("compression", [".xz", ".gz", ".zst"])
@pytest.mark.parametrize("name", STREAMS)
def test_compressed_tars(name: str, compression: str, tmp_path: Path) -> None:
    squeeze = debwriter.COMPRESSIONS[compression]
    change, message = STREAMS[name]
    content = of(*(entry(f"m{n}.ko", os.urandom(99_000)) for n in range(4)))
    data = change(squeeze(content)) or squeeze(content[:150_000]) + squeeze(content[150_000:])
    (tmp_path / "x.tar").write_bytes(data)
    files, problem = told(tmp_path / "x.tar")
    assert problem is None if message is None else message in str(problem)
    assert len(files) >= (1 if name == "cut off early" else 4)
    assert len(unpacked(tmp_path / "x.tar", tmp_path / "to")) >= len(files) - 1


@pytest.mark.slow
def test_more_than_a_package_of_its_size_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.tar"
    many = of(*[entry("e", b"")] * 50, entry("a.ko", b""))
    path.write_bytes(debwriter.COMPRESSIONS[".zst"](many))
    monkeypatch.setattr(tar, "MANY_FILES", 20)
    assert "more than" in str(told(path)[1])
    monkeypatch.undo()
    assert told(path)[1] is None
    for rest in (entry("b.ko", bytes(80 << 20)), bytes(80 << 20)):
        path.write_bytes(debwriter.COMPRESSIONS[".zst"](entry("a.ko", b"") + rest))
        files, problem = told(path)
        assert files == ("a.ko",)
        assert "more than there can be" in str(problem) or "unfolds to more than" in str(problem)


def ar_of(**more: bytes) -> bytes:
    return debwriter.ar({
        "debian-binary": b"2.0\n",
        "control.tar": debwriter.tar({"control": b"Package: p\nVersion: 1\nArchitecture: a\n"}),
        **{name.replace("_", "."): content for name, content in more.items()},
    })  # fmt: skip


DATA = debwriter.tar(FILES)
DEB_DAMAGE: dict[str, tuple[bytes, int, str]] = {
    "two data members": (ar_of(data_tar=DATA, data_tar_xz=DATA), 0, "it holds data.tar twice"),
    "no ar header after the data": (ar_of(data_tar=DATA) + b"x" * 60, 6, "no ar header at"),
    "a line after the data": (ar_of(data_tar=DATA) + b"\n", 6, "no ar header at"),
    "the last member cut off": (
        ar_of(data_tar=DATA, more=b"x" * 98)[:-9], 6, "9 bytes are missing of the last member",
    ),
    "data cut off": (ar_of(data_tar=DATA)[:-9000], 5, "bytes are missing of the last member, data"),
    "a damaged tar": (ar_of(data_tar=changed(header_at(3), b"x")), 3, "no tar header at byte"),
    "a size that is no number": (
        ar_of(data_tar=DATA).replace(b"100644", b"100644  9x", 1), 0, "no ar header at",
    ),
    "no data": (ar_of(), 0, "it lacks data.tar"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEB_DAMAGE)
def test_a_damaged_debian_package(name: str, tmp_path: Path) -> None:
    data, count, message = DEB_DAMAGE[name]
    (tmp_path / "x.deb").write_bytes(data)
    files, problem = told(tmp_path / "x.deb")
    assert len(files) == count and problem is not None and message in problem, problem
    found = unpacked(tmp_path / "x.deb", tmp_path / "to")
    assert found.items() <= FILES.items() and len(found) >= count - 1


def test_files_that_are_not_what_md5sums_says(tmp_path: Path) -> None:
    whole = debwriter.deb(FILES, compression="")
    at = whole.index(FILES[NAMES[3]])
    (tmp_path / "x.deb").write_bytes(whole[: at + 9] + b"x" + whole[at + 10 :])
    assert told(tmp_path / "x.deb") == (NAMES, None)
    (tmp_path / "to").mkdir()
    wanted = {name: f"{tmp_path}/to/{number}" for number, name in enumerate(NAMES)}
    problems = {n: p for n, p in unpack(str(tmp_path / "x.deb"), wanted) if p is not None}
    assert list(problems) == [NAMES[3]] and "damaged: its md5 is" in problems[NAMES[3]]
    assert sorted(os.listdir(tmp_path / "to")) == ["0", "1", "2", "4", "5"]


def test_a_damaged_list_of_files(tmp_path: Path) -> None:
    """Then the data are read for the names."""
    whole = debwriter.deb(FILES, compression="")
    at = whole.index(b"./md5sums")
    (tmp_path / "x.deb").write_bytes(whole[:at] + b"?" + whole[at + 1 :])
    files, problem = told(tmp_path / "x.deb")
    assert files == NAMES and "control.tar: damaged: no tar header" in str(problem)
    at = whole.index(b"  lib/modules/1.0/m3.ko")
    (tmp_path / "x.deb").write_bytes(whole[:at] + b"\n" + whole[at + 1 :])
    files, problem = told(tmp_path / "x.deb")
    assert files == NAMES and "control.tar: damaged: no md5 sum at byte" in str(problem)


def test_what_is_wrong_with_a_package_goes_with_its_kernel(tmp_path: Path) -> None:
    """Also where another kernel lies in the folder of the package."""
    (tmp_path / "vmlinux-2.0").write_bytes(b"v")
    (tmp_path / "lib/modules/2.0").mkdir(parents=True)
    (tmp_path / "lib/modules/2.0/b.ko").write_bytes(b"b")
    data = of(entry("vmlinux-1.0.btf", b"v"), entry("lib/modules/1.0/a.ko", b"a"))
    (tmp_path / "vmlinux-1.0.btf.tar").write_bytes(data + b"x")
    found = {kernel.name: [m.name for m in kernel.modules] for kernel in kernels(tmp_path)}
    assert found == {"1.0": ["a", "vmlinux-1.0.btf.tar"], "2.0": ["b"]}
    for one in (find_base, find_one):
        with pytest.raises(SourceError, match="package, not all of it: damaged: data at byte"):
            one(str(tmp_path / "vmlinux-1.0.btf.tar"))


def test_a_sum_of_signed_bytes_is_right_too(tmp_path: Path) -> None:
    """As some old tars have it."""
    header = bytearray(entry("n\xe4.ko", b"x")[:512])
    rest = header[:148] + header[156:]
    signed = sum(struct.unpack(f"{len(rest)}b", rest)) + 8 * 32
    header[148:156] = b"%06o\0 " % signed
    (tmp_path / "x.tar").write_bytes(of(bytes(header) + b"x".ljust(512, b"\0")))
    assert told(tmp_path / "x.tar") == (("nä.ko",), None)


def test_a_list_of_files_that_is_not_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few data the names are read too; of many it shows when they are unpacked."""
    whole = debwriter.deb(FILES, compression="")
    path = tmp_path / "x.deb"
    at = whole.index(b"lib/modules/1.0/m3.ko")
    path.write_bytes(whole[:at] + b"usr/share/doc/copying" + whole[at + 21 :])
    assert set(told(path)[0]) == {*NAMES, "usr/share/doc/copying"}
    problems = dict(unpack(str(path), {name: str(tmp_path / name[-5:]) for name in NAMES}))
    for name, problem in problems.items():
        lost = name in NAMES[3:]
        assert ("its md5sums lack lib/modules/1.0/m3.ko" in str(problem)) == lost
    monkeypatch.setattr(deb, "_FEW_BYTES", 100)
    assert set(told(path)[0]) == {*NAMES, "usr/share/doc/copying"} - {NAMES[3]}
    listed = debwriter.deb({**FILES, "b.ko": b""}, compression="", md5sums=False)
    path.write_bytes(listed.replace(b"./control", b"./md5sums", 1))
    assert "control.tar: damaged" in str(told(path)[1]) and "b.ko" in told(path)[0]
