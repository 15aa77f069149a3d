"""Protects docs/library.md: it misses no export. test_docs.py runs its examples."""

from __future__ import annotations

import btf
from support.paths import ROOT

PAGE = ROOT / "docs" / "library.md"
# Exported for tables, statistics and the pipeline, and said elsewhere.
ELSEWHERE = {"KIND_NAMES", "detect_form", "type_names", "warm_up", "Module", "Renumbered",
             "DatasecEntry", "EnumValue", "Param", "Reference", "Type", "DedupResult",
             "MergeResult", "make_ready"}  # fmt: skip


def test_everything_exported_is_there() -> None:
    text = PAGE.read_text()
    missing = [
        name for name in vars(btf)["__all__"] if f"{name}" not in text and name not in ELSEWHERE
    ]
    assert not missing
    for cls in btf.Type.__subclasses__():
        assert cls.__name__ in text or cls.__name__ in ELSEWHERE


def test_every_builder_method_is_there() -> None:
    text = PAGE.read_text()
    methods = [name for name in vars(btf.Builder) if name.startswith("add_")]
    assert [m for m in methods if m not in text and m != "add_string"] == []
