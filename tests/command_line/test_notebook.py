"""Protects docs/kernels.ipynb: it runs, shows what it says, and is stored without outputs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.analysis.changes.compare import Comparison
from pipeline.analysis.changes.stored import stored_kernels
from support.paths import ROOT

pytestmark = pytest.mark.slow
NOTEBOOK = ROOT / "docs" / "kernels.ipynb"
PATIENCE = 600  # seconds for one cell, which takes one


@pytest.fixture(scope="module")
def cells(both_demos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells with their outputs."""
    import nbformat
    from nbclient import NotebookClient

    folder = tmp_path_factory.mktemp("notebook")
    (folder / "build").mkdir()
    (folder / "build" / "demo").symlink_to(both_demos)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "stored without outputs"
    setup = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.executable = {sys.executable!r}"
    notebook.cells.insert(0, nbformat.v4.new_code_cell(setup))
    notebook.cells.append(nbformat.v4.new_code_cell("print(old, new, *changed.name)"))
    client = NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": folder}})
    client.execute()
    return [cell for cell in notebook.cells[1:] if cell.cell_type == "code"]


def shown(cells: list[Any], kind: str) -> list[str]:
    """What cells show in a format."""
    return [
        output.data[kind]
        for cell in cells
        for output in cell.outputs
        if "data" in output and kind in output.data
    ]


def test_tables_and_plots(cells: list[Any]) -> None:
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
    assert len(shown(cells, "image/png")) == 2
    tables = shown(cells, "text/html")
    assert len(tables) == 4
    by_kernel, grown, changed, inode = tables
    assert "10540193" in by_kernel, "what deduplication saved of the first kernel"
    assert "61631" in grown.replace(",", ""), "xfs grew by that"
    assert "-65536" in changed, "ZSTD_DCtx_s shrank"
    assert "struct inode i_vnode" in inode and "<table" in inode
    assert cells[-2].outputs[0].text.startswith("struct list_head {\n\tstruct list_head *next;")


def test_what_changed_is_what_diff_says(cells: list[Any], both_demos: Path) -> None:
    old, new, *names = cells[-1].outputs[0].text.split()
    assert (old, new) == ("demo", "demo-6.12")
    kernels = stored_kernels(str(both_demos))
    found = Comparison(kernels[old].named_types, kernels[new].named_types).changes
    changed = [
        one.name
        for one in found
        if (one.object, one.kind, one.change) == ("vmlinux", "struct", "changed")
    ]
    assert sorted(names) == sorted(changed) and len(set(names)) == len(names)
