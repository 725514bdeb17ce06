"""Heat maps on the page: cut from the sheets of `eval` and `compare`, within one size for the whole page."""

from __future__ import annotations

import base64
import dataclasses
import re
from pathlib import Path
from typing import List

import numpy as np
import pytest

from adq_edge.core.images.imaging import decode_image, write_image, write_small_sheet
from adq_edge.evaluation.evaluation_sheet import LARGEST_SHEET
from adq_edge.metrics.agreement import ImageAgreement
from adq_edge.report.report import report
from factories import results as make
from factories.comparison import comparison

PAGE_BYTES = 1_500_000
IMAGE = re.compile(r'<img loading="lazy"[^>]* src="data:image/jpeg;base64,([^"]+)"[^>]* alt="([^"]*)">')
COLORS = np.array(
    [[200, 40, 40], [40, 200, 40], [40, 40, 200], [200, 200, 40], [40, 200, 200], [200, 40, 200]]
)


def write_evaluation(folder: Path, name: str, sheet: np.ndarray, count: int) -> None:
    """Write a result of `eval` with this sheet of its first `count` images, which are good screws."""
    item = make.engine("int8", name=name)
    evaluation = make.evaluation(item)
    images = tuple(score.image for score in evaluation.scores[:count])
    sheet_name = f"/elsewhere/{name}.eval.jpg"
    dataclasses.replace(evaluation, sheet=sheet_name, sheet_images=images).write(folder / f"{name}.eval.json")
    write_small_sheet(folder / f"{name}.eval.jpg", sheet, LARGEST_SHEET)


def colored_sheet(rows: int) -> np.ndarray:
    """Return a sheet of `eval` whose places differ in color, with white captions."""
    sheet = np.full((180 * rows, 960, 3), 255, np.uint8)
    for number in range(3 * rows):
        top, left = 180 * (number // 3) + 20, 320 * (number % 3)
        sheet[top : top + 160, left : left + 320] = COLORS[number % 6]
    return sheet


def mean_colors(page: Path) -> List[List[int]]:
    decoded = [decode_image(base64.b64decode(data)) for data, _ in IMAGE.findall(page.read_text())]
    return [image.reshape(-1, 3).mean(axis=0).round(-1).astype(int).tolist() for image in decoded]


def test_images_of_an_evaluation_are_cut_at_their_places_and_named(tmp_path: Path):
    write_evaluation(tmp_path, "tiny", colored_sheet(2), 5)
    report(tmp_path, tmp_path / "r.html")
    assert mean_colors(tmp_path / "r.html") == COLORS[:5].tolist()
    alternatives = [alt for _, alt in IMAGE.findall((tmp_path / "r.html").read_text())]
    assert alternatives[0] == "good image, screw/good/000.png: image and heat map, score 0.3"
    assert "beside the results have all" not in (tmp_path / "r.html").read_text()


def test_worst_best_and_then_the_next_rows_of_a_comparison(tmp_path: Path):
    sheet = np.full((24 + 7 * 280, 1280, 3), 255, np.uint8)
    for number in range(7):
        sheet[24 + 280 * number + 24 : 24 + 280 * (number + 1)] = 30 * (number + 1)
    write_image(tmp_path / "a-vs-b.compare.jpg", sheet)
    agreements = tuple(
        ImageAgreement(f"{number}.png", "tile", "good", 1.0, 1.1, 0.1, 0.2, 30.0, False, number == 0, False)
        for number in range(7)
    )
    names = tuple(one.image for one in agreements)
    result = dataclasses.replace(comparison("a-vs-b.compare.jpg"), images=agreements, sheet_images=names)
    result.write(tmp_path / "a-vs-b.compare.json")
    report(tmp_path, tmp_path / "r.html")
    assert [color[0] for color in mean_colors(tmp_path / "r.html")] == [30, 210, 60, 90, 120, 150]
    text = (tmp_path / "r.html").read_text()
    first = IMAGE.findall(text)[0][1]
    assert first == "decision changes, tile/good/0.png: image, heat maps of A and B, and their difference"
    assert "6 of 7 images. The sheets beside the results have all." in text


@pytest.mark.parametrize("kind", ["noise", "photograph"])
def test_page_of_twenty_results_stays_small_and_shows_images_of_each(tmp_path: Path, kind: str):
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (720, 960, 3), np.uint8)
    for number in range(20):
        name = f"line-{number}"
        make.write(tmp_path, make.bench_report([make.engine("int8", name=name)], run=name), evaluated=False)
        write_evaluation(tmp_path, name, noise if kind == "noise" else colored_sheet(4), 12)
    report(tmp_path, tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size <= PAGE_BYTES
    text = (tmp_path / "r.html").read_text()
    parts = text.split('<details class="sheet"')[1:]
    assert len(parts) == 20
    assert min(len(IMAGE.findall(part)) for part in parts) >= 1
    assert f"{len(IMAGE.findall(text))} of 240 images. The sheets beside the results have all." in text


@pytest.mark.parametrize("name", ["", "/", "..", "a\0b", "x" * 5000], ids=["", "/", "..", "NUL", "long"])
def test_sheet_whose_name_is_no_file_name_is_left_out(tmp_path: Path, name: str):
    evaluation = make.evaluation(make.engine("int8"))
    images = (evaluation.scores[0].image,)
    dataclasses.replace(evaluation, sheet=name, sheet_images=images).write(tmp_path / "tiny.eval.json")
    report(tmp_path, tmp_path / "r.html")
    assert "<img" not in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"no image"])
def test_damaged_sheet_is_left_out(tmp_path: Path, content: bytes):
    write_evaluation(tmp_path, "tiny", colored_sheet(1), 3)
    (tmp_path / "tiny.eval.jpg").write_bytes(content)
    report(tmp_path, tmp_path / "r.html")
    assert "<img" not in (tmp_path / "r.html").read_text()
    assert "adq-edge eval ENGINE" in (tmp_path / "r.html").read_text()
