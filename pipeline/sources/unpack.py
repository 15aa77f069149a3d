"""Unpacks what kernels need of packages, into a folder of this run, for as long as they need it.

What is not packaged stays where it is. Each package is read once, from front to back, in a thread
beside the work: one kernel's packages are decompressed while another kernel is worked on. The
base, which usually comes first, can be used as soon as it is there. Of several shapes of a base
only those that are tried are unpacked, and of files with debug information only those that BTF has
to be made of.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ..files.read import ReadError, read_input
from ..files.scratch import ScratchFolder
from ..model.errors import NoRoomError, SourceError
from ..model.options import ENCODE_ALL, ENCODE_MISSING, ENCODE_NONE
from ..model.records import FileInput, KernelInput, ModuleInput
from .names import printable
from .packages import opens_as_package, unpack

File = TypeVar("File", bound=FileInput | ModuleInput)


@contextlib.contextmanager
def unpacked(files: Iterable[File]) -> Iterator[list[File]]:
    """Files that can be read, for a while: those in packages in a temporary folder.

    Raises NoRoomError.
    """
    files = list(files)
    if all(file.package is None for file in files):
        yield files
        return
    with ScratchFolder() as folder:
        yield _unpack(files, folder.path, "file")


def find_one(path: str) -> FileInput:
    """The one file that a path means: itself, or what a package with one kernel's BTF holds.

    Raises SourceError.
    """
    if not opens_as_package(path):
        return FileInput(path, path)
    from .discover import best_bases, file_input  # late: a file is opened in less time
    from .listing import find_files

    found = find_files([path])
    for file in found.modules:
        if file.path == path and file.problem is not None:
            raise SourceError(f"{printable(path)}: {file.problem}")
    meant = best_bases(found) or found.modules
    if len(meant) != 1:
        raise SourceError(
            f"{printable(path)} holds BTF of {len(meant)} files: unpack it and name one"
        )
    return file_input(meant[0])


@dataclass(slots=True)
class _Unpacking:
    """A kernel whose packages are being read: its first base, and its modules."""

    base: Future[FileInput] = field(default_factory=Future)
    modules: Future[tuple[ModuleInput, ...]] = field(default_factory=Future)


class PackageUnpacker:
    """Unpacks what kernels need of packages into a folder of its own in ``folder``.

    Nothing else in ``folder`` is touched: it may be any folder of the user's. Its own is made when
    it is needed.
    """

    def __init__(self, folder: str, encode: str = ENCODE_MISSING) -> None:
        self._parent = folder
        self._own: ScratchFolder | None = None
        self._lock = threading.Lock()
        self._encode = encode
        self._thread = ThreadPoolExecutor(1, "unpack")
        self._kernels: dict[str, _Unpacking] = {}
        self._closed = threading.Event()

    def prepare(self, kernel: KernelInput) -> None:
        """Begin to unpack what a kernel surely needs."""
        modules = kernel.modules
        files = (*kernel.bases[:1], *modules, *(m.debug for m in modules if m.debug))
        if kernel.name not in self._kernels and any(file.package is not None for file in files):
            self._kernels[kernel.name] = coming = _Unpacking()
            self._thread.submit(self._fill, kernel, coming)

    def base(self, kernel: KernelInput, base: FileInput) -> FileInput:
        """One shape of the kernel's base as a file that can be read. Raises NoRoomError."""
        if base.package is None:
            return base
        if kernel.name in self._kernels and base == kernel.bases[0]:
            return self._kernels[kernel.name].base.result()
        (staged,) = _unpack([base], self._of(kernel), f"base-{kernel.bases.index(base)}")
        return staged

    def modules(self, kernel: KernelInput) -> KernelInput:
        """The kernel with modules that can be read. Raises NoRoomError."""
        self.prepare(kernel)
        coming = self._kernels.get(kernel.name)
        return replace(kernel, modules=coming.modules.result()) if coming else kernel

    def drop(self, kernel: KernelInput) -> None:
        """The kernel is done: remove what was unpacked for it."""
        self._kernels.pop(kernel.name, None)
        if self._own is not None:
            shutil.rmtree(self._of(kernel), ignore_errors=True)

    def close(self) -> None:
        """Stop unpacking, and remove everything."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)
        if self._own is not None:
            self._own.close()

    def _of(self, kernel: KernelInput) -> str:
        with self._lock:
            if self._own is None:
                try:
                    os.makedirs(self._parent, exist_ok=True)
                    self._own = ScratchFolder(self._parent)
                except OSError as error:
                    raise NoRoomError(f"cannot write {self._parent}: {error.strerror}") from error
        return os.path.join(self._own.path, f"kernel={kernel.name}")

    def _fill(self, kernel: KernelInput, coming: _Unpacking) -> None:
        try:
            coming.modules.set_result(self._modules(kernel, coming.base))
        except BaseException as error:  # goes to those who wait for the result
            for future in (coming.base, coming.modules):
                if not future.done():
                    future.set_exception(error)

    def _modules(self, kernel: KernelInput, base: Future[FileInput]) -> tuple[ModuleInput, ...]:
        folder = self._of(kernel)
        files: list[FileInput | ModuleInput] = [*kernel.bases[:1], *kernel.modules]

        def on_file(file: FileInput | ModuleInput) -> None:
            if isinstance(file, FileInput):
                base.set_result(file)

        staged = _unpack(files, folder, "file", on_file, self._closed.is_set)
        modules = [
            replace(file, file_bytes=os.stat(file.unpacked).st_size) if file.unpacked else file
            for file in staged
            if isinstance(file, ModuleInput)
        ]
        wanted = [module.debug for module in modules if module.debug and self._needs_debug(module)]
        debug = {
            file.path: file
            for file in _unpack(wanted, folder, "debug", stopped=self._closed.is_set)
        }
        return tuple(
            replace(module, debug=debug.get(module.debug.path)) if module.debug else module
            for module in modules
        )

    def _needs_debug(self, module: ModuleInput) -> bool:
        """Whether BTF has to be made of the module's DWARF: always, or where there certainly is
        no section ``.BTF``, whose name is nowhere in the file."""
        if module.problem is not None or self._encode == ENCODE_NONE:
            return False
        try:
            return self._encode == ENCODE_ALL or b".BTF\0" not in read_input(module.content_path)
        except ReadError:
            return False  # it is reported when the module is worked on


def _unpack(
    files: Sequence[File],
    folder: str,
    kind: str,
    on_file: Callable[[File], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[File]:
    """Unpack the packaged ones of some files; what cannot be unpacked gets a ``problem``.

    folder, kind   where to, and how the files are called there: KIND-NUMBER
    on_file        is called with each file as soon as it can be read
    stopped        whether to give up: then no more are unpacked

    Returns all files, in their order.
    """
    result: dict[int, File] = {}
    wanted: dict[str, dict[str, int]] = defaultdict(dict)  # package -> name in it -> file

    def done(number: int, file: File) -> None:
        result[number] = file
        on_file(file)

    for number, file in enumerate(files):
        if file.package is None or file.member is None or file.problem is not None:
            done(number, file)
        else:
            wanted[file.package][file.member] = number
    if wanted:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise NoRoomError(f"cannot make {folder}: {error.strerror}") from error
    for package, numbers in wanted.items():
        targets = {name: f"{folder}/{kind}-{number}" for name, number in numbers.items()}
        for name, problem in unpack(package, targets, stopped):
            target = targets[name] if problem is None else None
            number = numbers[name]
            done(number, replace(files[number], problem=problem, unpacked=target))
    return [result[number] for number in range(len(files))]
