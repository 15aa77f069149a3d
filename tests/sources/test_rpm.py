"""Protects: RPM packages of all versions give their files' very bytes, and what is damaged in their
headers or their payload is said with its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pipeline.sources.archive import PackageError
from pipeline.sources.packages import read_package, unpack
from support.packages import kernels
from support.writers import rpmwriter
from support.writers.rpmwriter import END, entry, numbered, rpm

RELEASE = "1.0-1.fc40.x86_64"
FILES = {
    f"lib/modules/{RELEASE}/vmlinuz": bytes(range(256)) * 99,
    f"lib/modules/{RELEASE}/kernel/a.ko": b"a",
    f"lib/modules/{RELEASE}/kernel/b.ko": b"",
    f"lib/modules/{RELEASE}/kernel/c.ko": b"ccc" * 1000,
}
A = f"lib/modules/{RELEASE}/kernel/a.ko"
C = f"lib/modules/{RELEASE}/kernel/c.ko"


def taken(path: Path, folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """What can be unpacked of the files that a package is said to have, and what cannot."""
    folder.mkdir()
    wanted = {n: str(folder / str(at)) for at, n in enumerate(read_package(str(path)).files)}
    told = dict(unpack(str(path), wanted))
    assert sorted(told) == sorted(wanted)
    good = {name: Path(wanted[name]).read_bytes() for name in told if told[name] is None}
    return good, {name: problem for name, problem in told.items() if problem is not None}


@pytest.mark.parametrize("compression", rpmwriter.COMPRESSIONS)
@pytest.mark.parametrize("stripped", [False, True])
def test_every_payload(compression: str, stripped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.rpm"
    links, same = {f"boot/vmlinuz-{RELEASE}": "there"}, {"boot/a.ko": A, "zz/a.ko": A}
    whole = rpm(
        FILES, links=links, same=same, ghosts=["boot/ghost.ko"], stripped=stripped,
        compression=compression, more={1003: (4, [7])},
    )  # fmt: skip
    path.write_bytes(whole)
    package = read_package(str(path))
    assert (package.package, package.version) == ("kernel-core", "7:1.0-1.fc40")
    assert (package.architecture, package.problem) == ("x86_64", None)
    expected = {**FILES, "boot/a.ko": b"a", "zz/a.ko": b"a"}
    assert set(package.files) == set(expected)
    assert taken(path, tmp_path / "to") == (expected, {})


@pytest.mark.parametrize("wanted", ["boot/a.ko", A, "zz/a.ko"])
def test_one_name_of_several(wanted: str, tmp_path: Path) -> None:
    """Whichever name is wanted has the content that the archive has behind the last."""
    (tmp_path / "x.rpm").write_bytes(rpm(FILES, same={"boot/a.ko": A, "zz/a.ko": A}))
    told = dict(unpack(str(tmp_path / "x.rpm"), {wanted: str(tmp_path / "one")}))
    assert told == {wanted: None} and (tmp_path / "one").read_bytes() == b"a"


def test_old_headers(tmp_path: Path) -> None:
    """Whole paths, md5 sums, neither links nor a size in the first header."""
    whole = rpm(FILES, old_names=True, md5=True, compression="gzip")
    (tmp_path / "x.rpm").write_bytes(whole)
    assert taken(tmp_path / "x.rpm", tmp_path / "to") == (FILES, {})


def test_a_file_that_is_only_owned_but_packed(tmp_path: Path) -> None:
    """As rpm before 4.11 did it: it is passed over."""
    ghost = entry("boot/ghost.ko", b"", node=9)
    whole = rpm(FILES, ghosts=["boot/ghost.ko"], payload=ghost + ARCHIVE + END)
    (tmp_path / "x.rpm").write_bytes(whole)
    assert taken(tmp_path / "x.rpm", tmp_path / "to") == (FILES, {})


def test_a_kernel_in_a_folder(tmp_path: Path) -> None:
    """Two packages of one kernel, as Fedora has them, and another kernel of the same release."""
    image = {name: content for name, content in FILES.items() if "vmlinuz" in name}
    (tmp_path / "kernel-core.rpm").write_bytes(rpm(image))
    (tmp_path / "kernel-modules.rpm").write_bytes(rpm({A: b"a"}))
    (kernel,) = kernels(tmp_path)
    assert kernel.name == RELEASE and [module.name for module in kernel.modules] == ["a"]
    (tmp_path / "other.rpm").write_bytes(rpm(FILES, more={1002: (6, "2.fc40")}))
    found = {kernel.name: len(kernel.modules) for kernel in kernels(tmp_path)}
    assert found == {f"{RELEASE}@1.0-1.fc40_x86_64": 1, f"{RELEASE}@1.0-2.fc40_x86_64": 3}


ARCHIVE = b"".join(entry(name, FILES[name]) for name in sorted(FILES))
WHOLE = rpm(FILES, compression="none")
SECOND = len(WHOLE) - len(ARCHIVE + END)


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def with_payload(payload: bytes) -> bytes:
    return rpm(FILES, compression="none", payload=payload)


AT_C = ARCHIVE.index(b"./" + C.encode()) - 110  # where its header begins
PAYLOADS: dict[str, tuple[bytes, int, str]] = {
    "no header": (changed(ARCHIVE, AT_C, b"x") + END, 2, f"no cpio header at byte {AT_C}"),
    "no number": (changed(ARCHIVE, AT_C + 60, b"x") + END, 2, "no number in the cpio header at"),
    "another name": (
        changed(ARCHIVE, AT_C + 112, b"X") + END, 2, "the package's list of files lacks Xib/mod",
    ),
    "another size": (changed(ARCHIVE, AT_C + 61, b"1") + END, 2, "but its package says 3000"),
    "a size beyond the end": (changed(ARCHIVE, AT_C + 54, b"1") + END, 2, "more than there can be"),
    "no name": (changed(ARCHIVE, AT_C + 94, b"0" * 8) + END, 2, "a name of 0 bytes"),
    "a long name": (changed(ARCHIVE, AT_C + 94, b"1") + END, 2, "a name of 268435"),
    "a name with a zero": (changed(ARCHIVE, AT_C + 112, b"\0") + END, 2, "no name in the cpio"),
    "no mark of the end": (ARCHIVE, 4, "without the mark of the end"),
    "data after the end": (ARCHIVE + END + b"x", 4, "after the mark of the end"),
    "cut off in a file": (ARCHIVE[: AT_C + 500], 2, "more than there can be"),
    "padding that is none": (
        ARCHIVE.replace(b"a\0\0\0070701", b"a\0x\0070701") + END, 1, "no zeros at byte",
    ),
    "a number of no file": (numbered(4, b"x") + END, 0, "is of file 4, but the package says that"),
    "nothing": (b"", 0, "cut off at byte 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_damaged_payload(name: str, tmp_path: Path) -> None:
    payload, count, message = PAYLOADS[name]
    (tmp_path / "x.rpm").write_bytes(with_payload(payload))
    good, problems = taken(tmp_path / "x.rpm", tmp_path / "to")
    assert len(good) >= count - 1 and good.items() <= FILES.items()
    if len(good) < len(FILES):
        assert all(message in problem for problem in problems.values()), problems


def test_content_that_is_not_what_the_header_says(tmp_path: Path) -> None:
    (tmp_path / "x.rpm").write_bytes(with_payload(ARCHIVE.replace(b"ccc", b"cxc", 1) + END))
    _, problems = taken(tmp_path / "x.rpm", tmp_path / "to")
    assert list(problems) == [C] and "damaged: its sha256 is" in problems[C]


HEADERS: dict[str, tuple[bytes, str]] = {
    "nothing behind the lead": (WHOLE[:96], "truncated: no RPM header at byte 96"),
    "no first header": (changed(WHOLE, 96, b"x"), "damaged: no RPM header at byte 96"),
    "cut off in the second": (WHOLE[: SECOND - 9], "9 bytes are missing of the RPM header at byte"),
    "too many tags": (changed(WHOLE, 104, b"\x10"), "more than there can be"),
    "a delta": (rpm(FILES, more={1124: (6, "drpm")}), "this is a delta RPM"),
    "another payload": (rpm(FILES, more={1124: (6, "tar")}), "its payload is tar, which is not"),
    "another compression": (
        rpm(FILES, compression="none", payload=b"\x89LZO", more={1125: (6, "lzo")}),
        "its payload is compressed with lzo, which is not read",
    ),
    "fewer sizes": (rpm(FILES, more={1028: (4, [1])}), "has 1 sizes of 4 files"),
    "a folder that is none": (rpm(FILES, more={1116: (4, [9] * 4)}), "the files' folders in"),
    "fewer folders": (rpm(FILES, more={1116: (4, [0])}), "the files' folders in the RPM header"),
    "sizes that are texts": (rpm(FILES, more={1028: (8, ["1"] * 4)}), "tag 1028 of the RPM header"),
    "names that are numbers": (rpm(FILES, more={1117: (4, [1] * 4)}), "tag 1117 of the RPM header"),
    "another name": (
        WHOLE[:SECOND].replace(b"kernel-core", b"kernel-cord") + WHOLE[SECOND:],
        "damaged: the sha256 of the RPM header at byte",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_a_damaged_header(name: str, tmp_path: Path) -> None:
    data, message = HEADERS[name]
    (tmp_path / "x.rpm").write_bytes(data)
    with pytest.raises(PackageError, match=message):
        read_package(str(tmp_path / "x.rpm"))


def test_cut_off_or_longer(tmp_path: Path) -> None:
    """The first header says how long the package is."""
    path = tmp_path / "x.rpm"
    path.write_bytes(WHOLE[:-999])
    assert read_package(str(path)).problem == "truncated: the last 999 bytes are missing"
    good, problems = taken(path, tmp_path / "to")
    assert len(good) == 3 and "the last 999 bytes are missing" in str(problems)
    path.write_bytes(WHOLE + b"x")
    assert "but its first header says" in str(read_package(str(path)).problem)


def test_noise_is_noticed(tmp_path: Path) -> None:
    """Whatever byte of a package is changed: what is given is what was packed."""
    roll = random.Random(7)
    files = {name: content[:200] for name, content in FILES.items()}
    whole = rpm(files, same={"boot/a.ko": A}, compression="none")
    expected = {**files, "boot/a.ko": b"a"}
    path = tmp_path / "x.rpm"
    for number in range(100):
        at = roll.randrange(96, len(whole))
        path.write_bytes(changed(whole, at, bytes([whole[at] ^ 1 << roll.randrange(8)])))
        try:
            package = read_package(str(path))
        except PackageError:
            continue
        wanted = {name: str(tmp_path / f"{number}-{at}") for at, name in enumerate(package.files)}
        for name, problem in unpack(str(path), wanted):
            if problem is None:
                assert Path(wanted[name]).read_bytes() == expected[name]
