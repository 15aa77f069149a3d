"""A kernel module as it is shipped, with no more BTF than it needs.

Builds leave types in the BTF of modules that vmlinux has (``unmerged.leftovers`` knows why). Here
``.BTF`` is replaced by what dedup leaves of it, in the form that the kernel's build would have
given it, and what holds its ids follows: ``.BTF_ids``, ``.BTF.ext``. All other sections stay as
they are. So does the whole file, signature and all, where nothing is to be saved.
"""

from __future__ import annotations

from dataclasses import dataclass

from .arguments import brief_repr, octets, require
from .deduplication.deduplicate import DedupResult, kernel_form, with_ext
from .deduplication.index import BaseIndex
from .deduplication.module import dedup_module
from .edit.btf_ids import BtfIds, parse_btf_ids
from .edit.ext import parse_ext
from .edit.permute import is_sorted_by_name
from .errors import BtfError, NoBtfError, UnsupportedError
from .files.object_file import ObjectFile, without_signature
from .files.open import open_module
from .types.btf import BTF

_BTF, BASE_SECTION, _EXT, _IDS = ".BTF", ".BTF.base", ".BTF.ext", ".BTF_ids"
_KNOWN = {_BTF, BASE_SECTION, _EXT, _IDS}  # whatever else has such a name may hold ids too


@dataclass(frozen=True, eq=False)
class SlimModule:
    """What ``slim_module`` made of a module.

    content            the file: the one that was given where nothing was to be saved
    bytes_before, bytes_after   of ``.BTF``
    types_before, types_after   in it
    signature_bytes    of the signature that was removed, since it no longer holds; 0 if none was
    """

    __repr__ = brief_repr

    content: bytes
    bytes_before: int
    bytes_after: int
    types_before: int
    types_after: int
    signature_bytes: int

    @property
    def is_changed(self) -> bool:
        """Whether the file is another than the one that was given."""
        return self.bytes_before != self.bytes_after


def read_btf_ids(data: bytes | memoryview, btf: BTF, *, path: str | None = None) -> BtfIds | None:
    """Read the ``.BTF_ids`` section of a kernel module, if it has one.

    data   the module's file, decompressed
    btf    its ``.BTF``, opened

    Raises UnsupportedError where the file's symbols do not tell what is in it, or BtfError.
    """
    require(btf, BTF, "btf")
    file = ObjectFile(without_signature(bytes(octets(data)), path), path)
    return _read_ids(file, _btf_sections(file), btf)


def slim_module(
    data: bytes | memoryview,
    index: BaseIndex,
    *,
    path: str | None = None,
    release: str | None = None,
    by_name: bool | None = None,
) -> SlimModule:
    """Replace the BTF in a kernel module's file by what dedup leaves of it.

    data      the file, decompressed
    index     of vmlinux, which the module is loaded on
    release   of its kernel, where known: compared with the module's vermagic
    by_name   whether types are sorted by name, see ``kernel_form``; None: if those of the base are

    Raises NoBtfError; UnsupportedError for what cannot be taken along: BTF on a distilled base,
    sections with ``.BTF`` in their name that are not known, ids that symbols do not explain;
    WrongBaseError or BtfError.
    """
    require(index, BaseIndex, "index")
    whole = bytes(octets(data))
    unsigned = without_signature(whole, path)
    file = ObjectFile(unsigned, path)
    numbers = _btf_sections(file)
    if _BTF not in numbers:
        raise NoBtfError("a module without a .BTF section", path, _BTF)
    before = file.content(numbers[_BTF])
    if BASE_SECTION in numbers:
        raise UnsupportedError(
            "BTF on a distilled base, which fits more kernels than one: not put on this one",
            path,
            BASE_SECTION,
        )
    opened = open_module(unsigned, index, path=path, release=release)
    source = opened.btf
    ids = _read_ids(file, numbers, source)
    ext = None
    if _EXT in numbers:
        ext = parse_ext(file.content(numbers[_EXT]), source, path=path)
    result: DedupResult = with_ext(dedup_module(opened, index), source, ext)
    if by_name is None:
        by_name = index.base is not None and is_sorted_by_name(index.base)
    if by_name:
        result = kernel_form(result)
    after = result.btf.to_bytes()
    if len(after) >= len(before):
        types = source.type_count
        return SlimModule(whole, len(before), len(before), types, types, 0)
    contents = {numbers[_BTF]: after}
    if ids is not None:
        contents[numbers[_IDS]] = ids.moved(result.id_map).to_bytes()
    if result.ext is not None:
        contents[numbers[_EXT]] = result.ext.to_bytes()
    return SlimModule(
        file.with_contents(contents),
        len(before),
        len(after),
        source.type_count,
        result.btf.type_count,
        len(whole) - len(unsigned),
    )


def _btf_sections(file: ObjectFile) -> dict[str, int]:
    """Return the numbers of the sections that have to do with BTF, by name. Raises BtfError."""
    found: dict[str, int] = {}
    for number in file.numbers(_BTF.encode()):
        name = file.names[number].decode("ascii", "replace")
        if name not in _KNOWN:
            raise UnsupportedError(
                "not known, and may hold type ids, which would become wrong", file.path, name
            )
        if name in found:
            raise BtfError("two sections of this name", file.path, name)
        if file.is_relocated(number):
            raise UnsupportedError(
                "a section that is changed when the module is loaded", file.path, name
            )
        found[name] = number
    return found


def _read_ids(file: ObjectFile, numbers: dict[str, int], btf: BTF) -> BtfIds | None:
    if _IDS not in numbers:
        return None
    number = numbers[_IDS]
    return parse_btf_ids(file.content(number), file.symbols(number), btf, path=file.path)
