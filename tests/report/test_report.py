"""Protects what a report says, that all of it can be asked for again, and that it is one file."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import btf
from btf.layers.shared import share
from jobs.cli import main
from jobs.report.charts import WIDTHS, Chart
from pipeline.analysis.query import Tables
from pipeline.analysis.questions import question
from pipeline.analysis.report import Figure, figures
from pipeline.analysis.report.changes import CONFIGURATION, Pair, configurations
from pipeline.files.read import read_input
from support.commands import splitbtf
from support.runs import run_on, small_kernel
from support.trees import small_tree
from support.writers import hostile_names

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo(both_demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both demo kernels, in a folder of their own."""
    out = tmp_path_factory.mktemp("demo") / "out"
    out.symlink_to(both_demos)
    return out


@pytest.fixture(scope="module")
def demo_page(demo: Path) -> str:
    return report(demo)


@pytest.fixture(scope="module")
def demo_figures(demo: Path) -> dict[str, Figure]:
    return figures(str(demo))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hostile_names.output(tmp_path_factory.mktemp("hostile"))


def report(out: Path) -> str:
    file = out.parent / "report.html"
    assert main(["report", str(out), "-o", str(file)]) == 0
    return file.read_text("utf-8")


class Page(HTMLParser):
    """Tags of a page with their attributes, and the text of those that are asked for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts.setdefault(self._open[-1], []).append(data)


def ids(page: Page) -> list[str]:
    return [attributes["id"] or "" for _, attributes in page.tags if "id" in attributes]


def test_every_figure_links_to_a_command_that_gives_its_rows(
    demo: Path, demo_page: str, demo_figures: dict[str, Figure]
) -> None:
    page, found = demo_page, demo_figures
    shown = dict(
        re.findall(r'<h3 id="command-(\w+)">.*?<pre[^>]*><code>(.*?)</code>', page, re.DOTALL)
    )
    assert shown.keys() == found.keys()
    places = ids(Page(page))
    assert len(places) == len(set(places))
    with Tables(str(demo)) as tables:
        for name, figure in found.items():
            assert f'href="#command-{name}"' in page and name in places
            said = html.unescape(shown[name])
            for line in said.split("\nsplitbtf"):
                command = shlex.split(line.partition(" <<")[0])
                if figure.sql:
                    assert command[:4] == ["splitbtf", "query", str(demo), "-"]
                    rows = tables.ask(figure.sql).as_records()
                    assert said.endswith(f" <<'SQL'\n{figure.sql}\nSQL")
                    assert len(rows) == figure.all_rows and len(figure.rows) <= len(rows)
                    without = [{k: v for k, v in row.items() if k != "all_rows"}
                               for row in figure.rows]  # fmt: skip
                    assert without == rows[: len(without)]
                else:
                    assert command[-5:] == ["diff", "--in", str(demo), "demo", "demo-6.12"]


def test_a_shared_layer_holds_what_the_report_says(
    demo: Path, demo_figures: dict[str, Figure]
) -> None:
    """Against the layer itself, which is made of BTF and not of tables."""
    rows = {row["kernel"]: row for row in demo_figures["layers"].rows}
    for kernel, row in rows.items():
        folder = demo / "btf" / f"kernel={kernel}"
        base = btf.parse((folder / "vmlinux.btf").read_bytes())
        files = sorted(path for path in folder.glob("*.btf") if path.name != "vmlinux.btf")
        star = [btf.parse(path.read_bytes(), base) for path in files]
        shared = share(star)
        for name, modules in (("star", star), ("shared", [*shared.modules, shared.shared])):
            assert row[f"{name}_types"] == sum(module.type_count for module in modules)
            assert row[f"{name}_bytes"] == sum(module.words.nbytes for module in modules)


def test_growth_is_against_the_kernel_before(demo_figures: dict[str, Figure]) -> None:
    found = demo_figures
    growth = {row["module"]: row for row in found["growth"].rows}
    assert growth["virtio_ring"]["new"] is None and growth["virtio_ring"]["growth"] < 0
    assert growth["vmlinux"]["growth"] == 4_685_889 - 4_111_222
    assert {(row["before"], row["kernel"]) for row in growth.values()} == {("demo", "demo-6.12")}
    kinds = {(row["kernel"], row["kind"]): row for row in found["kinds"].rows}
    before, after = kinds["demo", "STRUCT"], kinds["demo-6.12", "STRUCT"]
    assert after["modules_growth"] == after["modules"] - before["modules"]
    assert before["modules_growth"] is None
    first = found["kinds"].rows[0]  # what is seen first is not the kernel without growth
    assert first["kernel"] == "demo-6.12" and first["modules_growth"] is not None


def test_the_largest_changes_are_told_in_terms_of_c(demo_figures: dict[str, Figure]) -> None:
    rows = {row["name"]: row for row in demo_figures["changed"].rows}
    assert "size: 2432 → 2496 bytes" in rows["net_device"]["details"]
    counts = [row["count"] for row in rows.values()]
    assert counts == sorted(counts, reverse=True) and counts[-1] > 1


def test_what_is_repeated_is_told_of_every_module_and_once(
    demo: Path, demo_figures: dict[str, Figure]
) -> None:
    rows = demo_figures["subsystems"].rows
    assert {row["kernel"] for row in rows} == {"demo-6.12"}  # the last one
    assert sum(row["modules"] or 0 for row in rows) == 66
    with Tables(str(demo)) as tables:
        ((wasted,),) = tables.ask(
            "SELECT sum(wasted_bytes) FROM duplicates WHERE kernel = 'demo-6.12'"
        ).rows
    assert sum(row["wasted"] or 0 for row in rows) == wasted
    (net,) = [row for row in rows if row["subsystem"] == "net"]
    assert net["modules"] == 24 and "xt_match" in net["names"]


def test_ambiguous_names_are_those_of_the_question(
    demo: Path, demo_figures: dict[str, Figure]
) -> None:
    with Tables(str(demo)) as tables:
        answer = tables.ask(question("ambiguous-names").sql).as_records()
    counts = Counter[str]()
    for row in demo_figures["names"].rows:
        counts[row["kernel"]] += row["names"]
    assert counts == Counter(row["kernel"] for row in answer)
    found = {
        (row["kind"].lower(), row["name"]): (row["layouts"], row["modules"] + row["in_base"])
        for row in demo_figures["ambiguous"].rows
    }
    last = [row for row in answer if row["kernel"] == "demo-6.12"]
    layouts = {(row["kind"], row["name"]): row["layouts"] for row in last}
    assert {name: those for name, (those, _) in found.items()} == layouts
    assert all(row["difference"] for row in demo_figures["ambiguous"].rows)


def test_names_of_commands_are_code(demo_page: str) -> None:
    page = Page(demo_page)
    assert {"splitbtf audit", "splitbtf layers"} <= set(page.texts["code"])
    assert "`" not in "".join(page.texts["p"])


@pytest.mark.parametrize("width", WIDTHS)
def test_labels_of_charts_are_whole(width: str) -> None:
    kernels = "6.12.117+deb12-cloud-amd64", "7.2.13+deb14-cloud-amd64"
    pair = f"{kernels[0]}\n→ {kernels[1]}"
    chart = Chart("", [(pair, "", 2.0), ("drivers/infiniband", "", 1.0)], "kernels", "names")
    drawn = Page(chart.svg(width, "chart"))
    texts = "".join(drawn.texts["tspan"] + drawn.texts["text"])
    assert "…" not in texts
    assert f"{kernels[0]}→ {kernels[1]}" in texts and "drivers/infiniband" in texts
    marks = [said["aria-label"] for _, said in drawn.tags if said.get("role") == "graphics-symbol"]
    assert f"kernels: {kernels[0]} → {kernels[1]}; 2.0 bytes" in marks


def test_configurations_of_one_release_are_compared_with_the_first() -> None:
    def kernel(name: str, flavour: str, architecture: str = "x86_64") -> dict[str, Any]:
        return {"kernel": name, "release": name, "flavour": flavour, "architecture": architecture}

    kernels = [
        kernel("6.1.0-50-amd64", "amd64"),
        kernel("6.12.1-amd64", "amd64"),
        kernel("6.12.1-arm64", "arm64", "aarch64"),
        kernel("6.1.0-50-rt-amd64", "rt-amd64"),
        kernel("6.12.1-cloud-amd64", "cloud-amd64"),
        kernel("6.12.1-rt-amd64", "rt-amd64"),
    ]
    assert configurations(kernels) == [
        Pair(CONFIGURATION, "6.1.0-50-amd64", "6.1.0-50-rt-amd64"),
        Pair(CONFIGURATION, "6.12.1-amd64", "6.12.1-cloud-amd64"),
        Pair(CONFIGURATION, "6.12.1-amd64", "6.12.1-rt-amd64"),
    ]


def test_the_same_output_gives_the_same_bytes(demo: Path, demo_page: str) -> None:
    assert report(demo) == demo_page


def test_the_page_needs_nothing_from_elsewhere_and_may_have_nothing(demo_page: str) -> None:
    page = Page(demo_page)
    (policy,) = [a["content"] or "" for t, a in page.tags if "Content-Security" in str(a)]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    for directive in policy.split("; "):
        name, *values = directive.split()
        wanted = r"'sha256-\S+'" if name in ("script-src", "style-src") else "'none'"
        assert all(re.fullmatch(wanted, value) for value in values), directive
    for tag, attributes in page.tags:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form"), tag
        assert not {"src", "style", "action", "srcset"} & attributes.keys(), attributes
        assert not [name for name in attributes if name.startswith("on")], attributes
        assert (attributes.get("href") or "#").startswith("#"), attributes
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_a_kernel_of_which_all_modules_failed_has_a_report_too(tmp_path: Path) -> None:
    failed = small_tree(tmp_path / "failed", ["8255"])
    (failed / "8255.btf.zst").write_bytes(b"no BTF")
    page = report(run_on(failed, tmp_path / "out"))
    assert "BTF of 1 kernel<" in page and "compression" in page and "8255.btf.zst" in page


def test_a_vmlinux_alone_has_a_report_too(tmp_path: Path) -> None:
    alone = small_tree(tmp_path / "alone", [])
    types = btf.parse(read_input(str(alone / "vmlinux.btf.zst"))).type_count
    page = report(run_on(alone, tmp_path / "out"))
    assert "BTF of 1 kernel<" in page and "No modules." in page and f"{types:,}" in page


def test_text_of_input_is_text(hostile: Path) -> None:
    page = Page(report(hostile))
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    cells = set(page.texts["td"])
    for name in hostile_names.NAMES:
        assert f"only {name}" in cells, name
    assert "pid\\u202eerutcurts\\u2066" in cells and hostile_names.BIDI not in "".join(cells)
    everything = "".join(text for texts in page.texts.values() for text in texts)
    assert "\u202e" not in everything and hostile_names.SUBSYSTEM in cells


def test_commands_can_be_pasted_whatever_the_names_are(hostile: Path, tmp_path: Path) -> None:
    shown = re.findall(r"<pre[^>]*><code>(.*?)</code>", report(hostile), re.DOTALL)
    commands = [text for text in map(html.unescape, shown) if text.startswith("splitbtf ")]
    assert len(commands) > 10
    for command in commands:
        said = subprocess.run(
            ["sh", "-c", f"splitbtf() {{ printf '%s\\n' \"$@\"; cat; }}; {command}"],
            cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert str(hostile) in said.stdout.split("\n")
    assert not list(tmp_path.rglob("pwned"))


def test_a_report_goes_where_it_is_said_to_go(tmp_path: Path) -> None:
    run_on(small_kernel(tmp_path / "small"), tmp_path / "out")
    done = splitbtf("report", tmp_path / "out", "-o", tmp_path / "a b.html")
    assert done.code == 0 and done.out.startswith(f"{tmp_path}/a b.html")
    done = splitbtf("report", tmp_path / "out", "-o", tmp_path / "not" / "there.html")
    assert done.code == 2 and "there.html" in done.err
    done = splitbtf("report", tmp_path / "small", "-o", tmp_path / "no.html")
    assert done.code == 2 and not (tmp_path / "no.html").exists()
