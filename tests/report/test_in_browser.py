"""Protects what readers see: the page in Debian's Chromium, headless.

Playwright drives it, since it tells of every request, message and dialog as it comes, sets colour
scheme and width, and needs neither a driver program nor a browser of its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.cli import main
from support.commands import PATIENCE
from support.writers import hostile_names

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Dialog, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium (Debian: apt-get install chromium)"),
]
ALONE = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PHONE, HALF, DESK = 375, 500, 1280  # pixels
SHOWN = {PHONE: "narrow", HALF: "medium", DESK: "wide"}
LABEL = "figure .role-axis-label text"
FILLS = "marks => marks.map(mark => getComputedStyle(mark).fill)"
# Labels of the axis of values that touch the next one.
OVERLAPS = """charts => charts.flatMap(chart => {
  const boxes = [...chart.querySelectorAll(".role-axis-label")].at(0).querySelectorAll("text");
  const seen = [...boxes].map(box => box.getBoundingClientRect()).filter(box => box.width);
  return seen.slice(1).filter((box, at) => box.left < seen[at].right + 4).map(box => box.left);
})"""
LIGHTNESS = """([element, property]) => {
  const color = getComputedStyle(document.querySelector(element))[property];
  const [red, green, blue] = color.match(/\\d+/g);
  return (+red + +green + +blue) / 3;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=list(ALONE), timeout=PATIENCE * 1000
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def demo(both_demos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on both demo kernels."""
    return reported(both_demos, tmp_path_factory.mktemp("demo"))


def reported(out: Path, folder: Path) -> Path:
    file = folder / "report.html"
    assert main(["report", str(out), "-o", str(file)]) == 0
    return file


@pytest.fixture
def opened(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file; at the end nothing else was asked for, and nothing was complained of."""
    wrong: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    asked: list[str] = []
    files: list[str] = []
    contexts = []

    def open_file(file: Path, width: int = DESK, scheme: Any = "light", **options: Any) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **options
        )
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda said: wrong.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", dismiss)
        page.goto(file.as_uri())
        files.append(file.as_uri())
        return page

    yield open_file
    for context in contexts:
        context.close()
    assert wrong == [] and asked == files


def columns(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#table-{table} tbody tr td:nth-child({number})").all_inner_texts()


def test_charts_are_drawn_and_their_axes_say_what_they_show(
    demo: Path, opened: Callable[..., Page]
) -> None:
    page = opened(demo)
    charts = page.locator("figure .wide svg")
    assert charts.count() >= 9
    for number in range(charts.count()):
        chart = charts.nth(number)
        assert chart.is_visible()
        marks = chart.locator(".mark-rect.role-mark path")
        assert marks.count() >= 1
        boxes = [mark.bounding_box() for mark in marks.all()[:20]]
        assert any(box is not None and box["width"] > 1 for box in boxes)
        said = chart.locator(".role-axis-title text").all_text_contents()
        assert len(said) == 2 and all(said), said
    # Vega-Lite's own text for each mark is there to be pointed at too.
    titles = page.locator("#kernels figure .wide title").all_text_contents()
    assert any("kernel: demo-6.12" in title for title in titles), titles


def test_tables_are_sorted_and_searched(demo: Path, opened: Callable[..., Page]) -> None:
    from playwright.sync_api import expect

    page = opened(demo)
    head = page.locator("#table-growth thead th").nth(5)
    for click in ("ascending", "descending"):
        head.click()
        expect(head).to_have_attribute("aria-sort", click)
        found = [int(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))
                 for text in columns(page, "growth", 6)]  # fmt: skip
        assert len(found) == 10 and found == sorted(found, reverse=click == "descending")
    assert found[0] == 4_685_889 - 4_111_222
    page.locator("#growth .dt-search input").fill("mlx5_")
    expect(page.locator("#table-growth tbody tr")).to_have_count(2)
    assert sorted(columns(page, "growth", 3)) == ["mlx5_core", "mlx5_ib"]


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (PHONE, "dark"),
        (HALF, "dark"),
        (DESK, "light"),
        pytest.param(PHONE, "light", marks=pytest.mark.long),
        pytest.param(DESK, "dark", marks=pytest.mark.long),
    ],
)
def test_it_fits_phones_and_follows_the_scheme(
    width: int, scheme: str, demo: Path, opened: Callable[..., Page]
) -> None:
    page = opened(demo, width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    for name in SHOWN.values():
        assert page.locator(f"figure .{name} svg").first.is_visible() == (name == SHOWN[width])
    drawn = f"figure .{SHOWN[width]} svg"
    for one in page.locator(f"{drawn}, figure .legend li").all():
        box = one.bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= width
    assert page.locator(f"#kinds {drawn}").first.evaluate(
        "chart => chart.clientWidth / document.body.clientWidth > 0.9"
    )
    assert page.locator(f"#kinds {drawn}").evaluate_all(OVERLAPS) == []
    light = [
        page.evaluate(LIGHTNESS, [element, property]) > 127
        for element, property in (
            ("body", "backgroundColor"),
            ("body", "color"),
            ("td", "color"),
            (LABEL, "fill"),
        )
    ]
    assert light == [scheme == "light", *[scheme == "dark"] * 3]


@pytest.mark.parametrize("width", SHOWN)
def test_tables_that_do_not_fit_scroll_in_their_box(
    width: int, demo: Path, opened: Callable[..., Page]
) -> None:
    page = opened(demo, width)
    wide = page.locator(".dt-layout-table > div").evaluate_all(
        """boxes => boxes.filter(box => box.scrollWidth > box.clientWidth).map(box => [
          box.firstElementChild.className.includes("told"), getComputedStyle(box).overflowX])"""
    )
    if width == DESK:
        assert wide == []
    assert all(one == [False, "auto"] for one in wide)


def test_legends_name_every_colour(demo: Path, opened: Callable[..., Page]) -> None:
    page = opened(demo, HALF)
    figure = page.locator("#kinds figure").first
    colours = figure.locator(".legend rect").evaluate_all(FILLS)
    assert len(set(colours)) == len(colours) == 8
    assert set(figure.locator(".medium .role-mark path").evaluate_all(FILLS)) == set(colours)
    names = figure.locator(".legend li").all_inner_texts()
    assert {"STRUCT", "FUNC", "UNION", "others"} <= set(names) and len(names) == len(colours)


def test_it_can_be_printed_and_read_without_scripts(
    demo: Path, opened: Callable[..., Page], tmp_path: Path
) -> None:
    page = opened(demo, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate(LIGHTNESS, [LABEL, "fill"]) < 127
    assert page.evaluate(LIGHTNESS, ["td", "color"]) < 127
    assert not page.locator(".dt-search").first.is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")
    page = opened(demo, java_script_enabled=False)
    assert page.locator("#table-growth tbody tr").count() == 50
    assert page.locator("figure .wide svg").first.is_visible()


def test_names_are_text(opened: Callable[..., Page], tmp_path: Path) -> None:
    page = opened(reported(hostile_names.output(tmp_path), tmp_path))
    page.locator("#ambiguous .dt-length select").select_option("-1")  # all
    page.locator("#table-ambiguous thead th").nth(2).click()
    texts = set()
    for table in ("ambiguous", "causes", "repeated", "subsystems", "failed"):
        texts |= set(page.locator(f"#table-{table} td").all_text_contents())
    assert {hostile_names.SUBSYSTEM, *(f"only {name}" for name in hostile_names.NAMES)} <= texts
    for name in hostile_names.NAMES:
        page.locator("#ambiguous .dt-search input").fill(f"only {name}")
        found = page.locator("#table-ambiguous tbody td:nth-child(3)").all_text_contents()
        assert f"only {name}" in found, found
    labels = page.locator("#subsystems .wide .role-axis-label text").all_text_contents()
    assert hostile_names.SUBSYSTEM in labels
