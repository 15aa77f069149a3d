"""What tests of how runs end have in common."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import splitbtf
from support.ends.disturbing import LOCAL
from support.trees import results_of


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run without faults gives."""
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    done = splitbtf("run", source, "-o", out, *LOCAL)
    assert done.code == 0, done.err
    return results_of(out)
