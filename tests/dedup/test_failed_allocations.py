"""Protects what comes after a failure: no module's result depends on memory that another lacked.

Every allocation of each operation is made to fail in its turn; what is then done in the same thread
must give what it gives in a process in which nothing ever failed.
"""

from __future__ import annotations

import errno
import hashlib
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import btf
from btf.compiled import workspaces
from support import vectors
from support.btfwriter import Writer

CASE = vectors.build("seed-7")
ALLOCATORS = ("empty", "zeros", "full", "empty_like", "concatenate", "repeat", "arange", "unique")


def many_types() -> bytes:
    """More than a thread's memory has room for at first."""
    writer = Writer()
    number = writer.int("int", 4)
    for position in range(17_000):
        writer.typedef(f"t{position % 1000}", number)
    return writer.to_bytes()


def deep() -> bytes:
    """Structs that are compared through two circles of pointers, which takes room, then refused."""
    writer = Writer()
    itself = writer.ptr(1)
    writer.struct("S", 16, [("a", itself, 0), ("b", itself, 64)])
    starts = []
    for length in (191, 193):
        first = writer.next_id
        starts.append(first)
        for i in range(length):
            writer.ptr(first + (i + 1) % length)
    writer.struct("S", 16, [("a", starts[0], 0), ("b", starts[1], 64)])
    return writer.to_bytes()


Question = tuple[Callable[[bytes], bytes], str]


class Answers:
    """What is asked of modules on one base, and what came of it when nothing failed."""

    def __init__(self) -> None:
        self.base = btf.parse(CASE.base)
        self.index = btf.BaseIndex.build(self.base)
        self.known = btf.BaseFingerprints.build(self.base)
        modules = {"usual": CASE.module, "many types": many_types(), "deep": deep()}
        self.questions = [
            (ask, name)
            for name in modules
            for ask in (self.deduplicated, self.in_short, self.fingerprints, self.unmerged)
        ]
        self.modules = modules
        self.right = {question: self.answer(question) for question in self.questions}

    def answer(self, question: Question) -> bytes | str:
        ask, name = question
        try:
            return ask(self.modules[name])
        except btf.BtfError as error:
            return str(error)

    def deduplicated(self, data: bytes) -> bytes:
        result = btf.dedup_split(btf.parse(data), self.index)
        return digest(result.btf.to_bytes(), result.id_map)

    def in_short(self, data: bytes) -> bytes:
        done = btf.dedup_bytes(data, self.index)
        return digest(done.content, done.id_map) if done is not None else b""

    def fingerprints(self, data: bytes) -> bytes:
        split = btf.dedup_split(btf.parse(data), self.index).btf
        return digest(*btf.both_fingerprints(split, self.known))

    def unmerged(self, data: bytes) -> bytes:
        source = btf.parse(data)
        result = btf.dedup_split(source, self.index)
        return digest(repr(btf.unmerged_types(source, result, self.index)).encode())


def digest(*parts: Any) -> bytes:
    found = hashlib.sha256()
    for part in parts:
        found.update(part.tobytes() if isinstance(part, np.ndarray) else part)
    return found.digest()


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


class Shortage:
    """Lets all allocations of NumPy and of the system succeed but number ``left`` from now."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for name in ALLOCATORS:
            patch.setattr(np, name, self._counted(getattr(np, name), MemoryError("NumPy")))
        refused = OSError(errno.ENOMEM, "Cannot allocate memory")
        patch.setattr(mmap, "mmap", self._counted(mmap.mmap, refused))

    def _counted(self, allocate: Callable[..., Any], error: Exception) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise error
            return allocate(*args, **options)

        return counted


@pytest.mark.slow
def test_whatever_fails_the_next_module_is_right(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortage = Shortage(monkeypatch)
    usual = [question for question in answers.questions if question[1] == "usual"]
    failures = 0
    for question in answers.questions:
        number = 0
        finished = False
        while not finished:
            number += 1
            workspaces.release_workspaces()
            if number % 2:  # also with memory that was large enough for something else
                assert answers.answer(usual[0]) == answers.right[usual[0]]
            shortage.left = number
            try:
                answer = answers.answer(question)
            except MemoryError:
                failures += 1
            else:
                assert answer == answers.right[question]
            finished, shortage.left = shortage.left > 0, -1
            for other in (usual[number % len(usual)], question):
                assert answers.answer(other) == answers.right[other], (question, number, other)
    assert failures > 100
