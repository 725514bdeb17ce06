"""The page in a real browser, and the contrast of its colors by WCAG 2.1."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Iterator

import cv2
import numpy as np
import pytest

from adq_edge.core.images.imaging import write_image
from adq_edge.evaluation.analysis import Analysis
from adq_edge.report.render import html as page
from adq_edge.report.report import report
from factories import results as make
from factories.chromium import Browser, find_chromium, open_browser
from factories.comparison import comparison
from factories.paths import REPOSITORY

HOSTILE = "<script>alert(1)</script><img src=https://example.com/x onerror=alert(2)>" + "long-name-" * 12

# Elements outside their chart or window; scrolling tables are allowed.
CLIPPED_TEXTS = """
[...document.querySelectorAll('figure svg text')].filter(text => {
  const box = text.getBoundingClientRect(), frame = text.ownerSVGElement.getBoundingClientRect();
  return box.left < frame.left - 1 || box.top < frame.top - 1 || box.right > frame.right + 1 ||
    box.bottom > frame.bottom + 1;
}).map(text => text.textContent)
"""
OUTSIDE = """
[...document.querySelectorAll('main *')].filter(item => !item.closest('.scroll') && !item.closest('svg') &&
  item.getBoundingClientRect().right > document.documentElement.clientWidth + 1 &&
  getComputedStyle(item).position != 'absolute').map(item => item.outerHTML.slice(0, 80))
"""
UNNAMED = """
[...document.querySelectorAll('[aria-labelledby], [aria-describedby]')].filter(item =>
  ['aria-labelledby', 'aria-describedby'].some(name => item.hasAttribute(name) &&
    !document.getElementById(item.getAttribute(name))?.textContent.trim())).length
"""
REPEATED_IDS = (
    "(ids => ids.length - new Set(ids).size)([...document.querySelectorAll('[id]')].map(item => item.id))"
)
DEAD_LINKS = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).length"
LETTERS = """
Math.min(...[...document.querySelectorAll('figure svg')].map(svg =>
  11 * svg.clientWidth / svg.viewBox.baseVal.width))
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    executable = find_chromium()
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with open_browser(executable, tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a report of a customer's results, with one engine whose name is hostile and long."""
    folder = make.write_customer(tmp_path_factory.mktemp("results"))
    hostile = dataclasses.replace(make.engine("int8", board=make.recording(9), scale=3.3), name=HOSTILE)
    make.bench_report([hostile], make.BOARD, device="jetson").write(folder / "hostile.json")
    target = tmp_path_factory.mktemp("report") / "r.html"
    report(folder, target)
    return target


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [375, 1280], ids=["phone", "desktop"])
def test_page_fits_phone_and_desktop(browser: Browser, document: Path, width: int, dark: bool):
    browser.open_page(document, width, dark=dark)
    assert browser.requests == [document.resolve().as_uri()]
    assert browser.messages == []
    assert browser.evaluate("document.scripts.length + document.images.length") == 0
    assert browser.evaluate("document.scrollingElement.scrollWidth") == width
    assert browser.evaluate("getComputedStyle(document.querySelector('.figure')).fontWeight") == "650"
    assert browser.evaluate(CLIPPED_TEXTS) == []
    assert browser.evaluate(OUTSIDE) == []
    assert browser.evaluate(UNNAMED) == browser.evaluate(REPEATED_IDS) == browser.evaluate(DEAD_LINKS) == 0
    assert browser.evaluate("document.querySelectorAll('figure').length") > 20
    assert browser.evaluate(LETTERS) >= 10
    image = cv2.imdecode(np.frombuffer(browser.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert image.shape[1] == width
    assert (image[0, 0] < 60) == dark
    assert len(np.unique(image)) > 100


FIRST_SCREEN = """
(item => { const box = item.getBoundingClientRect(); return [box.top, box.height, innerHeight] })
"""
FIRST_LINES = """
[...document.querySelectorAll('.card:not(.estimate) li:first-child')].map(li => li.textContent)
"""
LABELS = "[...document.querySelectorAll('#latency svg .name')].map(t => t.lastChild.data)"
SIZES = "[...document.images].map(image => [image.naturalWidth, image.naturalHeight])"
VISIBLE_WITHOUT_SCROLLING = """
(heading => {
  const box = heading.closest('.scroll').getBoundingClientRect(), own = heading.getBoundingClientRect();
  return own.right <= box.right + 1 && own.right <= document.documentElement.clientWidth })
"""


FIRST_AUROC = """
(cell => { const box = cell.getBoundingClientRect();
  return [box.top, box.bottom, box.left, box.right, cell.textContent] })(
  document.querySelector('.board td:nth-child(2) b, .board dd b'))
"""
MAKERS = {
    "customer": make.write_customer,
    "one": lambda folder: make.write(folder, make.bench_report([make.engine("int8")])),
    "twenty": lambda folder: make.write(
        folder, make.bench_report([make.engine("int8", model=f"{LONG}-{n}") for n in range(20)], quick=True)
    ),
}
LONG = "stfpm-unified-of-the-parts-of-the-second-line-resnet18-with-layer4"


@pytest.mark.parametrize("results", MAKERS)
def test_auroc_is_in_the_first_screen(browser: Browser, tmp_path: Path, results: str):
    MAKERS[results](tmp_path)
    report(tmp_path, tmp_path / "r.html")
    for width, height in ((1280, 800), (390, 844)):
        browser.open_page(tmp_path / "r.html", width)
        top, bottom, left, right, text = browser.evaluate(FIRST_AUROC)
        assert 0 <= top < bottom <= height
        assert 0 <= left < right <= width
        assert re.fullmatch(r"0\.98\d\d", text)
        assert browser.evaluate("document.scrollingElement.scrollWidth") == width
        assert browser.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("width", [390, 1280])
def test_cautions_are_folded_and_auroc_needs_no_scrolling(browser: Browser, document: Path, width: int):
    browser.open_page(document, width)
    _, height, window = browser.evaluate(f"{FIRST_SCREEN}(document.querySelector('.caution'))")
    assert height < window / 12
    assert browser.evaluate("document.querySelector('.caution').open") is False
    summary = browser.evaluate("document.querySelector('.caution summary').textContent")
    assert re.search(r"\d reasons?, \d of \d engines", summary)
    heading = "[...document.querySelectorAll('#quality th')].find(th => th.textContent == 'image AUROC')"
    assert browser.evaluate(f"{VISIBLE_WITHOUT_SCROLLING}({heading})")
    headings = browser.evaluate("[...document.querySelectorAll('#quality th')].map(th => th.textContent)")
    assert headings.index("image AUROC") < headings.index("runtime")
    cards = browser.evaluate(FIRST_LINES)
    assert cards
    assert all(line.startswith("image AUROC") for line in cards[:3])


def test_figures_precede_provenance(document: Path):
    text = document.read_text()
    places = [
        text.index(part) for part in ('class="board"', 'id="quality"', 'id="environment"', 'id="sources"')
    ]
    assert places == sorted(places)
    assert "SHA-256" not in text[: places[-1]]
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_rows_of_the_latency_chart_have_distinct_labels(browser: Browser, tmp_path: Path):
    """Names that differ in their middle only, cautions on each, and one engine that was measured twice."""
    names = [f"stfpm-unified-of-the-parts-of-line-{line}-resnet18-with-layer4-int8-lp" for line in "ABC"]
    engines = [make.engine("int8", name=name, count=60, steady=False) for name in names]
    again = dataclasses.replace(
        make.bench_report(engines[:1], run="again"), created="2026-11-21T11:00:00+00:00"
    )
    make.write(tmp_path / "in", make.bench_report(engines, quick=True))
    again.write(tmp_path / "in" / "again.json")
    report(tmp_path / "in", tmp_path / "r.html")
    browser.open_page(tmp_path / "r.html", 390)
    labels = browser.evaluate(
        "[...document.querySelectorAll('#latency svg .name')].map(t => t.lastChild.data)"
    )
    assert len(labels) == len(set(labels)) == 4
    assert browser.evaluate(CLIPPED_TEXTS) == []


def test_sheet_of_compare_is_on_the_page_and_absent_heat_maps_are_explained(
    browser: Browser, document: Path, tmp_path: Path
):
    assert "adq-edge compare ENGINE_A ENGINE_B" in document.read_text()
    make.write(tmp_path, make.bench_report([make.engine("fp32")]))
    write_image(tmp_path / "a-vs-b.compare.jpg", np.full((300, 3000, 3), 128, np.uint8))  # unknown layout
    compared = comparison("/elsewhere/a-vs-b.compare.jpg")
    compared.write(tmp_path / "a-vs-b.compare.json")
    report(tmp_path, tmp_path / "r.html")
    browser.open_page(tmp_path / "r.html", 390)
    assert browser.messages == []
    assert browser.requests[0] == (tmp_path / "r.html").resolve().as_uri()
    assert all(request.startswith("data:") for request in browser.requests[1:])
    browser.evaluate("document.images[0].scrollIntoView()")
    for _ in range(100):  # an image is decoded when it comes into view
        if browser.evaluate("document.images[0].complete"):
            break
        time.sleep(0.05)
    assert browser.evaluate(SIZES) == [[800, 80]]
    assert browser.evaluate("document.scrollingElement.scrollWidth") == 390


def test_printed_page_is_light_and_fits_the_sheet(browser: Browser, document: Path):
    browser.open_page(document, 794, dark=True, media="print")
    assert browser.messages == []
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("document.scrollingElement.scrollWidth") <= 794
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_page_policy_forbids_network_and_scripts(document: Path):
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', document.read_text()).group(1)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.replace("&#39;", "'").split(";"))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "img-src", "style-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"
    assert rules["style-src"].startswith("'sha256-")


def test_colors_have_the_contrast_that_wcag_requires():
    """WCAG 2.1: 4.5 for text (1.4.3), 3 for the parts of a chart (1.4.11)."""
    style = (Path(page.__file__).with_name("templates") / "page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    assert len(blocks) == 3  # light, dark, paper
    for block in blocks:
        colors = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", block))
        for ground in ("page", "panel"):
            for name in ("ink", "soft", "link"):
                assert contrast(colors[name], colors[ground]) >= 4.5, name
            for name in ("fp32", "fp16", "int8", "other", *(f"p{number}" for number in range(6))):
                assert contrast(colors[name], colors[ground]) >= 3, name
        assert contrast(colors["warn"], colors["warn-page"]) >= 4.5
        assert contrast(colors["ink"], colors["warn-page"]) >= 4.5
        for number in range(6):
            assert contrast(colors["on"], colors[f"p{number}"]) >= 4.5, number


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    channels = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_page_shows_the_layers_of_an_analysis(tmp_path: Path):
    analysis = REPOSITORY / "tests" / "data" / "release_0_1" / "analysis.json"
    report(analysis, tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert 'id="analysis"' in text
    layers = Analysis.read(analysis).layers
    assert layers
    assert all(f">{layer.layer}</th>" in text for layer in layers)


def test_layers_of_an_analysis_are_ranked_in_a_chart_and_in_every_format(tmp_path: Path):
    analysis = REPOSITORY / "tests" / "data" / "release_0_1" / "analysis.json"
    report(analysis, tmp_path / "all")
    layers = [layer for layer in Analysis.read(analysis).layers if layer.quantized]
    page = (tmp_path / "all" / "report.html").read_text()
    chart = re.search(r'<section id="analysis".*?</svg>', page, re.DOTALL).group()
    shown = [float(value) for value in re.findall(r">([0-9.]+) %, [0-9.]+ dB<", chart)]
    worst = sorted((100 * 10 ** (-layer.map_snr_db / 20) for layer in layers), reverse=True)
    assert shown[1:] == pytest.approx(worst[:8], rel=0.01)  # the first bar is that of all layers
    assert shown[0] > shown[1]
    table = (tmp_path / "all" / "analysis.csv").read_text().splitlines()
    assert "error of the map, %" in table[0]
    assert len(table) == 1 + len(layers)
    markdown = (tmp_path / "all" / "report.md").read_text()
    assert "## What the quantization of each layer costs" in markdown


@pytest.mark.parametrize("snr_db", [None, -1e300, 1e300])
def test_page_of_an_analysis_with_any_error_is_written(tmp_path: Path, snr_db):
    analysis = Analysis.read(REPOSITORY / "tests" / "data" / "release_0_1" / "analysis.json")
    layers = tuple(dataclasses.replace(layer, map_snr_db=snr_db) for layer in analysis.layers)
    dataclasses.replace(analysis, layers=layers, map_snr_db=snr_db).write(tmp_path / "a.json")
    report(tmp_path / "a.json", tmp_path / "r.html")
    assert "the worst 3 of 3 layers" in (tmp_path / "r.html").read_text()


VERDICTS = """
[...document.querySelectorAll('.verdicts')].map(table => [table.getBoundingClientRect().right,
  [...table.querySelectorAll('tbody tr:first-child > *')].map(cell => cell.textContent)])
"""
FOCUS = """
(style => [style.outlineStyle, style.outlineWidth, style.outlineColor])(
  getComputedStyle(document.activeElement))
"""


def test_verdicts_fit_a_phone_and_name_their_threshold(browser: Browser, tmp_path: Path):
    make.write(tmp_path, make.bench_report([make.engine("int8")]))
    report(tmp_path, tmp_path / "r.html")
    browser.open_page(tmp_path / "r.html", 390)
    tables = browser.evaluate(VERDICTS)
    assert all(right <= 390 for right, _ in tables)
    total, products = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for _, row in tables]
    assert total[1:] == ["2 of 36 (0.7 to 18.7 %)", "6 of 24 (9.8 to 46.7 %)", "2"]
    assert products == [
        *("screw", "1 of 18 (0.1 to 27.3 %)", "3 of 12 (5.5 to 57.2 %)", "2.1 (for 1 % false rejects)")
    ]


def test_verdicts_of_many_engines_are_one_folded_table_with_a_total_for_each(
    browser: Browser, tmp_path: Path
):
    MAKERS["twenty"](tmp_path)
    report(tmp_path, tmp_path / "r.html")
    browser.open_page(tmp_path / "r.html", 390)
    (total, first), (_, product) = browser.evaluate(VERDICTS)
    assert total <= 390
    assert (first[0], product[0]) == ("0", "0: screw")  # what all names have in common is left out
    counts = "[...document.querySelectorAll('.verdicts')].map(table => table.tBodies[0].rows.length)"
    assert browser.evaluate(counts) == [20, 40]
    folded = "[...document.querySelectorAll('.verdicts')].map(table => table.closest('details') !== null)"
    assert browser.evaluate(folded) == [False, True]


WARNINGS = """
[...document.querySelectorAll('.flag')].map(flag => getComputedStyle(flag).color)
"""


def test_words_of_caution_have_their_color_everywhere(browser: Browser, document: Path):
    browser.open_page(document, 1280, dark=True)
    assert set(browser.evaluate(WARNINGS)) == {"rgb(255, 201, 138)"}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_keyboard_focus_is_visible(browser: Browser, document: Path, dark: bool):
    browser.open_page(document, 1280, dark=dark)
    link = {False: "rgb(11, 92, 173)", True: "rgb(124, 192, 255)"}[dark]
    seen = set()
    for _ in range(24):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        assert browser.evaluate(FOCUS) == ["solid", "3px", link]
        seen.add(browser.evaluate("document.activeElement.tagName"))
    assert seen >= {"A", "SUMMARY", "DIV"}  # links, folded parts and tables that scroll


def test_speed_is_a_short_factor_in_the_narrow_column(document: Path):
    board = document.read_text().split('class="board"')[1].split("</section>")[0]
    assert re.search(r'<span title="3\.1x faster than FP32">3\.1x</span>', board)
    assert "3.1x: how fast the engine is" in board
