"""What is to be done for a kernel: nothing, if what is committed is what would come of its inputs.

Said before any engine is started, from the signatures of files and what is remembered of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from .files.storage import cannot_read
from .model.base import IndexedBase
from .model.options import KernelContext, RunOptions
from .model.program import program_sha256
from .model.records import UNREADABLE, KernelInput, ModuleInput
from .model.steps import STEPS
from .store.cached_results import is_valid
from .store.check import Fault, check_kernel
from .store.input_cache import BaseMemory, Inputs, StatSignature, inputs_digest, read_memory, reason
from .store.output import OutputFolder
from .tables.stored.results import Entry
from .work.module import key_of


def kernel_context(
    options: RunOptions, kernel: KernelInput, base: BaseMemory | None
) -> KernelContext:
    """Derive from the options what all modules of a kernel are worked on under."""
    release = (base.release if base is not None else None) or kernel.release
    decisive = (
        program_sha256(),
        base.sha256 if base is not None else "",
        release or "",
        options.encode,
        options.form,
        str(options.check),
    )
    digest = hashlib.sha256("\0".join(decisive).encode()).hexdigest()
    return KernelContext(options, release, digest)


class Plan:
    """A kernel's inputs, what is remembered of them, and whether anything is to be done."""

    def __init__(
        self,
        kernel: KernelInput,
        out: OutputFolder,
        options: RunOptions,
        signatures: Mapping[str, StatSignature],
    ) -> None:
        """``signatures`` are of inputs that are named by URIs."""
        self.kernel = kernel
        self.manifest = out.manifests.get(kernel.name)
        self.memory = read_memory(out.storage, kernel.name)
        self.inputs = Inputs(kernel, self.memory, signatures)
        self.base: BaseMemory | None = None
        self.read: set[str] = set()  # paths
        self.faults: tuple[Fault, ...] = ()  # in what is committed
        self._storage = out.storage
        self._options = options

    def is_unchanged(self) -> bool:
        """Whether what is committed is what would come of the inputs, and is there as it was
        written. Raises OutputError."""
        if self.manifest is not None:
            STEPS.debug("looking for what has changed in %s", self.kernel.name)
            here = self._storage.local is not None  # elsewhere it would all be sent here
            try:
                checked = check_kernel(self._storage, self.manifest, contents=here)
            except OSError as error:
                raise cannot_read(self._storage.place, error) from error
            self.faults = checked.faults
        self.base = base = self.inputs.base(self.kernel)
        if self.manifest is None or self.manifest.summary is None or base is None or self.faults:
            return False
        known = set(self.inputs.digests)
        self.inputs.read_what_changed(self.kernel.modules)
        self.read = self.inputs.digests.keys() - known
        context = kernel_context(self._options, self.kernel, base)
        keys = {module.object_id: self.key(module, context) for module in self.kernel.modules}
        if None in keys.values() or not self._conditions_hold():
            return False
        certain = {number: key for number, key in keys.items() if key is not None}
        digest = inputs_digest(context.digest, self.kernel, base, certain)
        return digest == self.manifest.inputs_sha256

    def key(self, module: ModuleInput, context: KernelContext) -> str | None:
        """The key of a module's result, or why there is none; None if it has to be read."""
        if module.problem is not None:
            return reason(UNREADABLE, module.problem)
        digest = self.inputs.digests.get(module.path)
        if digest is None or digest.startswith("!"):
            return digest
        return key_of(module, digest, context)

    def _conditions_hold(self) -> bool:
        by_name = {module.name: module for module in self.kernel.modules}
        return all(
            is_valid(entry, self._options)
            and entry.module in by_name
            and self.has_debug(by_name[entry.module], entry)
            for entry in self.memory.conditional
        )

    def has_debug(self, module: ModuleInput, entry: Entry) -> bool:
        """Whether the file with debug information is the one that had a say, if one had."""
        if entry.debug_sha256 is None:
            return True
        debug = module.debug
        return debug is not None and self.inputs.digests.get(debug.path) == entry.debug_sha256


def base_memory(base: IndexedBase | None) -> BaseMemory | None:
    """What is to be remembered of a base."""
    if base is None or base.file is None:
        return None
    file = base.file
    return BaseMemory(file.path, base.sha256, file.source, base.release, base.encoder)
