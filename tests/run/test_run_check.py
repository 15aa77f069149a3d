"""Protects ``run --check``: the table says which split BTF the kernel would refuse, and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.btfwriter import Writer
from support.runs import rows, run_on, small_kernel


@pytest.mark.slow
def test_each_module_is_checked_if_asked(tmp_path: Path) -> None:
    source, out = small_kernel(tmp_path / "in"), tmp_path / "out"
    bad = Writer()
    bad.typedef("a-b", bad.int("int", 4))
    (source / "bad.btf").write_bytes(bad.to_bytes())
    (source / "none.btf").write_bytes(b"no BTF")
    run_on(source, out)
    assert {(row["loads"], row["check_error"]) for row in rows(out, "modules")} == {(None, None)}
    run_on(source, out, check=True)  # nothing has changed but the option
    found = {row["module"]: (row["loads"], row["check_error"]) for row in rows(out, "modules")}
    refused = found.pop("bad")[1]
    assert refused.startswith(
        "types section, offset 0, type [4]: TYPEDEF a-b: TYPEDEF needs a name"
    )
    assert found == {**dict.fromkeys(("one", "two", "three"), (True, None)), "none": (None, None)}
