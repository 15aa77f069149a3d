"""xz files of several blocks, decompressed on several threads, in order and in bounded memory.

Large xz files are written in blocks that do not depend on each other (Debian's packages in blocks
of 24 MiB), with an index of them at the end (the .xz file format, 4 and 5). The standard library
decompresses each block as a file of its own, made of the block, the file's header and an index of
one entry, so its check sum is checked too. Python lets other threads run meanwhile.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
import tempfile
import zlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO

from btf.files.decompress import XZ, Reader
from btf.files.readable import OpenFile, Part, Readable

from .storage import write_all

_END_MAGIC = b"YZ"
_FRAME_BYTES = 12  # of the header, and of the footer
_MAX_BLOCK_BYTES = 32 << 20  # decompressed; larger ones would take too much memory at once
_MAX_INDEX_BYTES = 1 << 20
_MAX_THREADS = 4
_PIECE_BYTES = 1 << 20


def open_blocks(
    file: BinaryIO, start: int, size: int, folder: str | None = None
) -> io.BufferedReader | None:
    """Read what the xz file of ``size`` bytes at ``start`` of a file decompresses to.

    folder   where temporary files may be; None: what is decompressed ahead stays in memory

    None if it has not several blocks that can be decompressed in this way, or is damaged; reading
    it from front to back then tells what is wrong. Reading raises DecompressError.
    """
    blocks = _blocks(file, start, size)
    if blocks is None or len(blocks) < 2:
        return None
    return io.BufferedReader(_Reader(file, start, blocks, folder), _PIECE_BYTES)


class _Reader(io.RawIOBase):
    """Reads blocks in their order, as many at once as there are threads: the first piece by piece,
    the others beside it, into temporary files in ``folder``, if there is one."""

    def __init__(
        self, file: BinaryIO, start: int, blocks: list[tuple[int, int]], folder: str | None
    ) -> None:
        super().__init__()
        self._at_once = min(_MAX_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(max(1, self._at_once - 1), "xz")
        self._folder = folder
        self._contents = self._decompressed(file, start, blocks)
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if not self._left:
            self._left = memoryview(b"")  # what was read of is freed before there is more
            self._left = memoryview(next(self._contents, b""))
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._contents.close()
        self._left = memoryview(b"")
        super().close()

    def _decompressed(
        self, file: BinaryIO, start: int, blocks: list[tuple[int, int]]
    ) -> Generator[bytes, None, None]:
        whole = OpenFile(file)
        header = whole[start : start + _FRAME_BYTES]
        at = start + _FRAME_BYTES
        for first in range(0, len(blocks), self._at_once):
            head: Iterator[bytes] | None = None
            coming: deque[Future[BinaryIO]] = deque()
            for stored, decompressed in blocks[first : first + self._at_once]:
                block = Part(whole, at, _padded(stored))
                at += len(block)
                if head is None:
                    head = _pieces(header, block, stored, decompressed)
                else:
                    if not whole.for_threads:
                        block = Part(block[:], 0, len(block))
                    coming.append(
                        self._pool.submit(_spill, self._folder, header, block, stored, decompressed)
                    )
            assert head is not None
            try:
                yield from head
                while coming:
                    with coming.popleft().result() as content:
                        while piece := content.read(_PIECE_BYTES):
                            yield piece
            finally:
                for future in coming:
                    if not future.cancel() and future.exception() is None:
                        future.result().close()


def _spill(
    folder: str | None, header: bytes, block: Part, stored: int, decompressed: int
) -> BinaryIO:
    """Decompress a block into a file without a name; into memory, where there is no room for it."""
    pieces = partial(_pieces, header, block, stored, decompressed)
    with contextlib.suppress(OSError), contextlib.ExitStack() as closing:
        if folder is not None:
            file = closing.enter_context(tempfile.TemporaryFile(buffering=0, dir=folder))
            for piece in pieces():
                write_all(file.fileno(), piece)
            file.seek(0)
            closing.pop_all()
            return file
    return io.BytesIO(b"".join(pieces()))


def _pieces(header: bytes, block: Readable, stored: int, decompressed: int) -> Iterator[bytes]:
    """Decompress a block, piece by piece."""
    return Reader(XZ, _alone(header, block, stored, decompressed)).pieces(decompressed)


class _Chain:
    """Several things to be read, one after the other."""

    def __init__(self, *parts: Readable) -> None:
        self._parts = deque(Part(part, 0, len(part)) for part in parts)

    def read(self, size: int) -> bytes | memoryview:
        while self._parts:
            if data := self._parts[0].read(size):
                return data
            self._parts.popleft()
        return b""


def _alone(header: bytes, block: Readable, stored: int, decompressed: int) -> _Chain:
    """A block as a file of its own."""
    index = b"\0\1" + _number(stored) + _number(decompressed)
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    footer = struct.pack("<I", len(index) // 4 - 1) + header[6:8]
    footer = struct.pack("<I", zlib.crc32(footer)) + footer + _END_MAGIC
    return _Chain(header, block, index, footer)


def _blocks(file: BinaryIO, start: int, size: int) -> list[tuple[int, int]] | None:
    """(bytes without padding, bytes decompressed) of each block; None if anything is unusual."""
    if size < 2 * _FRAME_BYTES + 8 or size % 4:
        return None
    file.seek(start)
    header = file.read(_FRAME_BYTES)
    file.seek(start + size - _FRAME_BYTES)
    footer = file.read(_FRAME_BYTES)
    if not header.startswith(XZ.magic) or len(footer) < _FRAME_BYTES or footer[10:] != _END_MAGIC:
        return None
    (crc, backward) = struct.unpack("<II", footer[:8])
    index_bytes = 4 * (backward + 1)
    if crc != zlib.crc32(footer[4:10]) or header[6:8] != footer[8:10]:
        return None
    if index_bytes > min(size - 2 * _FRAME_BYTES, _MAX_INDEX_BYTES):
        return None
    file.seek(start + size - _FRAME_BYTES - index_bytes)
    index = file.read(index_bytes)
    if len(index) < index_bytes or index[0] != 0:
        return None
    if struct.unpack("<I", index[-4:])[0] != zlib.crc32(index[:-4]):
        return None
    found = numbers(index[1:-4])
    count = next(found, 0)
    blocks = [(next(found, 0), next(found, 0)) for _ in range(count)] if count < size else []
    in_blocks = sum(_padded(stored) for stored, _ in blocks)
    if not blocks or in_blocks + index_bytes + 2 * _FRAME_BYTES != size:
        return None
    if max(decompressed for _, decompressed in blocks) > _MAX_BLOCK_BYTES:
        return None
    return blocks


def _padded(count: int) -> int:
    return count + -count % 4


def numbers(data: bytes) -> Iterator[int]:
    """Numbers of seven bits a byte, the lowest first, the last byte without the highest bit."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            yield value
            value = shift = 0


def _number(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
