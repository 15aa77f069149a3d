"""What is to be done for a kernel: nothing, if what is committed is what would come of its inputs.

Said before any engine is started, from how files look and what is remembered of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from .model.base import IndexedBase
from .model.program import program_sha256
from .model.records import UNREADABLE, KernelInput, ModuleInput, WorkOptions
from .store.cached_results import is_valid
from .store.input_cache import BaseMemory, Inputs, Look, inputs_digest, read_memory, reason
from .store.output import OutputFolder
from .tables.results import Entry
from .work.worker import key_of


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user wants of all kernels."""

    encode: str
    encode_seconds: float
    module_seconds: float | None
    retry: bool


def work_options(settings: Settings, kernel: KernelInput, base: BaseMemory | None) -> WorkOptions:
    """How a kernel's modules are worked on."""
    release = (base.release if base is not None else None) or kernel.release
    decisive = (
        program_sha256(),
        base.sha256 if base is not None else "",
        release or "",
        settings.encode,
    )
    return WorkOptions(
        describe=True,
        release=release,
        encode=settings.encode,
        encode_seconds=settings.encode_seconds,
        module_seconds=settings.module_seconds,
        context=hashlib.sha256("\0".join(decisive).encode()).hexdigest(),
    )


class Plan:
    """A kernel's inputs, what is remembered of them, and whether anything is to be done."""

    def __init__(
        self,
        kernel: KernelInput,
        out: OutputFolder,
        settings: Settings,
        looks: Mapping[str, Look],
    ) -> None:
        """``looks`` are of inputs that are named by URIs."""
        self.kernel = kernel
        self.manifest = out.manifests.get(kernel.name)
        self.memory = read_memory(out.storage, kernel.name)
        self.inputs = Inputs(kernel, self.memory, looks)
        self.base: BaseMemory | None = None
        self.read: set[str] = set()  # paths
        self._settings = settings

    def is_unchanged(self) -> bool:
        """Whether what is committed is what would come of the inputs."""
        self.base = base = self.inputs.base(self.kernel)
        if self.manifest is None or base is None:
            return False
        known = set(self.inputs.digests)
        self.inputs.read_what_changed(self.kernel.modules)
        self.read = self.inputs.digests.keys() - known
        options = work_options(self._settings, self.kernel, base)
        keys = {module.object_id: self.key(module, options) for module in self.kernel.modules}
        if None in keys.values() or not self._conditions_hold(options):
            return False
        certain = {number: key for number, key in keys.items() if key is not None}
        digest = inputs_digest(options.context, self.kernel, base, certain)
        return digest == self.manifest.inputs_sha256

    def key(self, module: ModuleInput, options: WorkOptions) -> str | None:
        """The key of a module's result, or why there is none; None if it has to be read."""
        if module.problem is not None:
            return reason(UNREADABLE, module.problem)
        digest = self.inputs.digests.get(module.path)
        if digest is None or digest.startswith("!"):
            return digest
        return key_of(module, digest, options)

    def _conditions_hold(self, options: WorkOptions) -> bool:
        by_name = {module.name: module for module in self.kernel.modules}
        return all(
            is_valid(entry, options, self._settings.retry)
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
