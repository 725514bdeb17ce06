"""The compare verb: every figure against an independent computation, the sheet, the command."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Dict, Optional

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score, roc_auc_score

from adq_edge.artifacts.sidecar import sidecar_path
from adq_edge.core.errors import AdqError, DataError, EngineError, ResultError, StorageError
from adq_edge.core.images.imaging import overlay, read_image, resize_image
from adq_edge.core.options import Precision
from adq_edge.evaluation import compare as comparison_module
from adq_edge.evaluation.compare import Comparison, compare
from adq_edge.evaluation.paired_run import check_match
from adq_edge.metrics.agreement import MapComparison, compare_scores, spearman
from adq_edge.report.tables.comparison import agreement_table, auroc_table
from adq_edge.runtimes.onnxruntime import OnnxRuntimeEngine
from adq_edge.runtimes.registry import load_engine
from factories.command_line import run_cli
from factories.images import SIZE, leftovers, write_dataset

CELL, STRIP, COLUMNS = 256, 24, 5


@pytest.fixture
def pair(engines, tmp_path: Path) -> Dict[str, Path]:
    """Return copies of an FP32 and an INT8 engine whose sidecars a test may change."""
    paths = {}
    for letter, precision in (("a", Precision.FP32), ("b", Precision.INT8)):
        paths[letter] = tmp_path / "engines" / f"{letter}.onnx"
        paths[letter].parent.mkdir(exist_ok=True)
        shutil.copy(str(engines[precision]), str(paths[letter]))
        shutil.copy(str(sidecar_path(engines[precision])), str(sidecar_path(paths[letter])))
    return paths


def change_sidecar(engine: Path, **fields: object) -> None:
    path = sidecar_path(engine)
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def set_threshold(engine: Path, score: float, data: Path) -> None:
    """Store a threshold in the sidecar, as `eval` on a whole dataset does."""
    names = sorted(folder.parent.name for folder in data.glob("*/test"))
    images = len(list(data.glob("*/test/*/*")))
    stored = {"score": score, "f1": 1.0, "images": images, "data": str(data.resolve()), "categories": names}
    change_sidecar(engine, threshold=stored)


def cells(comparison, row: int) -> np.ndarray:
    """Return the cells `[5, 256, 256, 3]` of a row of the sheet."""
    sheet = read_image(Path(comparison.sheet))
    assert sheet.shape == (STRIP + len(comparison.sheet_images) * (STRIP + CELL), COLUMNS * CELL, 3)
    top = STRIP + row * (STRIP + CELL) + STRIP
    return sheet[top : top + CELL].reshape(CELL, COLUMNS, CELL, 3).transpose(1, 0, 2, 3)


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(float((a**2).sum() / ((a - b) ** 2).sum()))


# --- figures -----------------------------------------------------------------------------------


def test_figures_equal_independent_computations(pair, dataset: Path, tmp_path: Path):
    result = compare(pair["a"], pair["b"], dataset, output=tmp_path / "r.json", threads=1)
    assert Comparison.read(tmp_path / "r.json") == result
    paths = sorted(dataset.rglob("test/*/*.png"))
    assert [image.image for image in result.images] == [str(path) for path in paths]
    scores, maps = {}, {}
    for letter, path in pair.items():
        with load_engine(path, threads=1) as engine:
            outputs = [engine.run(read_image(image)[None]) for image in paths]
        scores[letter] = np.array([output.scores[0] for output in outputs], np.float64)
        maps[letter] = np.array([output.maps[0] for output in outputs], np.float64)
    a, b = scores["a"], scores["b"]
    assert [(image.score_a, image.score_b) for image in result.images] == list(zip(a, b))
    assert result.scores.largest_difference == abs(a - b).max() > 0
    assert result.scores.mean_difference == pytest.approx(abs(a - b).mean(), rel=1e-12)
    assert result.scores.relative_bias == pytest.approx(np.median(b / a) - 1, abs=1e-12)
    assert result.scores.spearman == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert result.maps.largest_difference == abs(maps["a"] - maps["b"]).max()
    assert result.maps.mean_difference == pytest.approx(abs(maps["a"] - maps["b"]).mean(), rel=1e-12)
    assert result.maps.snr_db == pytest.approx(decibels(maps["a"], maps["b"]), abs=1e-9)
    ratios = [decibels(*maps_of_one) for maps_of_one in zip(maps["a"], maps["b"])]
    assert result.maps.median_snr_db == pytest.approx(np.median(ratios), abs=1e-9)
    assert [image.map_snr_db for image in result.images] == pytest.approx(ratios, abs=1e-9)

    labels = np.array(["spot" in path.parts for path in paths])
    for category in result.categories:
        chosen = np.array([category.name in path.parts for path in paths])
        assert (category.images, category.anomalous) == (6, 3)
        mask = np.stack([mask_of(path) for path in paths])[chosen].ravel()
        for letter in "ab":
            image_auroc = roc_auc_score(labels[chosen], scores[letter][chosen])
            assert getattr(category.image_auroc, letter) == pytest.approx(image_auroc, abs=1e-12)
            full = [cv2.resize(m.astype(np.float32), (SIZE, SIZE)) for m in maps[letter][chosen]]
            pixel_auroc = roc_auc_score(mask, np.ravel(full))
            assert getattr(category.pixel_auroc, letter) == pytest.approx(pixel_auroc, abs=1e-4)
        assert category.pixel_auroc.difference == category.pixel_auroc.b - category.pixel_auroc.a
    assert result.image_auroc.b == np.mean([category.image_auroc.b for category in result.categories])
    assert result.pixel_auroc.a == np.mean([category.pixel_auroc.a for category in result.categories])

    for side, values in (
        (result.engine_a, a),
        (result.engine_b, b),
    ):  # not evaluated before: threshold of the highest F1
        assert not side.threshold_stored
        best = max(f1_score(labels, values >= value) for value in values)
        assert side.threshold.f1 == pytest.approx(best, abs=1e-12)
        assert f1_score(labels, values >= side.threshold.score) == pytest.approx(best, abs=1e-12)


def mask_of(image: Path) -> np.ndarray:
    mask = image.parents[2] / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
    return cv2.imread(str(mask), 0) > 0 if mask.is_file() else np.zeros((SIZE, SIZE), bool)


def test_spearman_with_ties_equals_scipy():
    generator = np.random.default_rng(0)
    for values, size in ((2, 5), (4, 50), (1000, 200)):
        for _ in range(20):
            a, b = generator.integers(0, values, (2, size)).astype(float)
            if len(set(a)) > 1 and len(set(b)) > 1:
                assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert spearman(np.array([1.0, 2.0, 2.0]), np.array([7.0, 7.0, 7.0])) is None
    assert spearman(np.array([1.0]), np.array([2.0])) is None


def test_zero_scores_and_zero_maps_have_no_relative_figures():
    agreement = compare_scores(np.array([0.0, 2.0, -4.0]), np.array([1.0, 3.0, -4.4]))
    assert agreement.relative_bias == pytest.approx(np.median([0.5, -0.1]))
    assert compare_scores(np.zeros(2), np.ones(2)).relative_bias is None
    zero, one = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    for first in (zero, one):  # also if both engines agree
        constant = MapComparison()
        constant.update(first, first)
        with pytest.raises(EngineError, match="maps have the same value in every pixel of every image"):
            constant.compute()
    maps = MapComparison()
    assert maps.update(zero, one) == (1.0, None)
    with pytest.raises(
        EngineError, match="maps have the same value in every pixel of every image \\(first engine"
    ):
        maps.compute()
    assert maps.update(one, 2 * one) == (1.0, 0.0)
    assert maps.compute().snr_db == pytest.approx(10 * math.log10(6 / 12))
    assert maps.compute().median_snr_db == 0.0
    maps.update(one, one)  # one of the two images that have a ratio is identical
    assert maps.compute().median_snr_db is None


def test_comparison_of_an_engine_with_itself_is_identical(pair, dataset: Path, tmp_path: Path):
    result = compare(pair["b"], pair["b"], dataset, output=tmp_path / "r.json", sheet=tmp_path / "p.png")
    assert Comparison.read(tmp_path / "r.json") == result
    assert (result.maps.snr_db, result.maps.median_snr_db, result.maps.largest_difference) == (None, None, 0)
    assert (result.scores.largest_difference, result.scores.relative_bias) == (0.0, 0.0)
    assert result.scores.spearman == 1.0
    assert (result.flips.count, result.flips_at_a.count) == (0, 0)
    assert result.image_auroc.difference == result.pixel_auroc.difference == 0.0
    assert [row[1] for row in agreement_table(result).rows[7:9]] == ["identical", "identical"]
    _, _, map_a, map_b, difference = cells(result, 0)
    np.testing.assert_array_equal(map_a, map_b)
    image = resize_image(read_image(Path(result.sheet_images[0])), (CELL, CELL))
    np.testing.assert_array_equal(difference, overlay(image, np.zeros((8, 8), np.float32), 0.0, 1.0))


# --- decisions and the sheet ------------------------------------------------------------------------


def test_stored_thresholds_are_used_and_flips_are_on_the_sheet(pair, dataset: Path, tmp_path: Path):
    scores = compare(pair["a"], pair["b"], dataset, output=tmp_path / "first.json").images
    threshold = float(np.median([image.score_a for image in scores]))
    set_threshold(pair["a"], threshold, dataset)
    set_threshold(pair["b"], 1e9, dataset)  # B decides that every image is normal
    output = tmp_path / "results" / "r.json"
    result = compare(
        pair["a"], pair["b"], dataset, output=output, sheet=tmp_path / "p.png", worst=0, threads=1
    )
    assert result.engine_a.threshold_stored
    assert result.engine_b.threshold.score == 1e9
    anomalous = [image for image in result.images if image.score_a >= threshold]
    assert result.flips.count == len(anomalous) == 6
    assert result.flips.mistakes == sum(image.defect == "spot" for image in anomalous)
    changed = [image for image in result.images if (image.score_a < threshold) != (image.score_b < threshold)]
    assert result.flips_at_a.count == len(changed)
    shown = {image.image for image in result.images if image.flips}
    assert shown == {image.image for image in [*anomalous, *changed]}
    assert (set(result.sheet_images), len(result.sheet_images)) == (shown, len(shown))
    by_image = {image.image: image for image in result.images}
    distances = [abs(by_image[name].relative_difference) for name in result.sheet_images]
    assert distances == sorted(distances, reverse=True)
    mistakes = result.flips.mistakes
    *_, (_, own), _ = agreement_table(result).rows
    assert own == f"6 ({mistakes} now wrong, {6 - mistakes} now right)"

    sample, outlined, *shown_maps = cells(result, 0)
    original = read_image(Path(result.sheet_images[0]))
    np.testing.assert_array_equal(sample, resize_image(original, (CELL, CELL)))
    assert (outlined != sample).any() == ("spot" in Path(result.sheet_images[0]).parts)
    maps = []
    for path in pair.values():
        with load_engine(path, threads=1) as engine:
            maps.append(engine.run(original[None]).maps[0])
    difference = abs(maps[0] - maps[1])
    for cell, anomaly_map, red in zip(shown_maps, [*maps, difference], [1e9, 1e9, difference.max()]):
        np.testing.assert_array_equal(cell, overlay(sample, anomaly_map, 0.0, float(red)))


def test_threshold_of_other_images_is_not_used(pair, dataset: Path, tmp_path: Path):
    for other in (tmp_path, dataset):  # another folder; all categories of this folder
        set_threshold(pair["a"], 1e9, other)
        result = compare(pair["a"], pair["b"], dataset, categories=["part1"], output=tmp_path / "r.json")
        assert not result.engine_a.threshold_stored
        assert result.engine_a.threshold.score < 1e9
        assert result.engine_a.threshold.images == len(result.images) == 6
        assert result.engine_a.threshold.categories == ("part1",)
        assert [category.name for category in result.categories] == ["part1"]


def test_sheet_has_a_limit_and_flips_beyond_it_are_counted(pair, dataset: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(comparison_module, "SHEET_ROWS", 5)
    set_threshold(pair["b"], 1e9, dataset)
    result = compare(pair["a"], pair["b"], dataset, output=tmp_path / "r.json", worst=2)
    assert result.sheet == str(tmp_path / "r.jpg")
    assert cells(result, 4).shape == (COLUMNS, CELL, CELL, 3)
    flipped = {image.image for image in result.images if image.flips}
    assert result.flips_left_out == len(flipped - set(result.sheet_images)) > 0


@pytest.mark.parametrize("stored", [None, 1e-9])
def test_images_without_defects_use_stored_thresholds_only(pair, tmp_path: Path, stored: Optional[float]):
    root = write_dataset(tmp_path / "data", categories=1)
    shutil.rmtree(str(root / "part0" / "test" / "spot"))
    if stored is not None:
        set_threshold(pair["a"], stored, root)
    result = compare(pair["a"], pair["b"], root, output=tmp_path / "r.json", worst=0)
    assert result.engine_b.threshold is None
    assert result.flips is None
    assert (result.flips_at_a is None) == (stored is None)
    assert result.sheet is None
    assert not (tmp_path / "r.jpg").exists()
    assert result.image_auroc.a is result.pixel_auroc.difference is None
    assert len(auroc_table(result).rows) == 2
    assert Comparison.read(tmp_path / "r.json") == result


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"image_size": (SIZE, 32)}, rf"b\.onnx: its images have 32x{SIZE} pixels, those of .*a\.onnx"),
        ({"map_size": (9, 7)}, r"b\.onnx: its anomaly maps have 7x9 pixels, those of .*a\.onnx"),
    ],
)
def test_engines_of_other_sizes_are_rejected(pair, fields, complaint: str):
    with load_engine(pair["a"]) as a, load_engine(pair["b"]) as b:
        b.sidecar = dataclasses.replace(b.sidecar, **fields)
        for other_model in (False, True):
            with pytest.raises(EngineError, match=complaint):
                check_match(a, b, other_model)


def test_engines_of_other_models_are_rejected_unless_allowed(pair, dataset, tmp_path: Path):
    change_sidecar(pair["b"], model={"name": "m", "sha256": "0"})
    output = tmp_path / "r.json"
    with pytest.raises(EngineError, match=r"not built from the same model as .*--other-model"):
        compare(pair["a"], pair["b"], dataset, output=output)
    assert not output.exists()
    assert compare(pair["a"], pair["b"], dataset, output=output, other_model=True).images


@pytest.mark.parametrize("damaged", ["maps", "scores"])
def test_nan_error_names_the_engine_and_the_image(
    pair, dataset: Path, tmp_path: Path, monkeypatch, damaged: str
):
    run = OnnxRuntimeEngine._run

    def spoil(engine: OnnxRuntimeEngine, images: np.ndarray):
        output = run(engine, images)
        return (
            output._replace(**{damaged: getattr(output, damaged) * np.nan})
            if engine.path == pair["b"]
            else output
        )

    monkeypatch.setattr(OnnxRuntimeEngine, "_run", spoil)
    with pytest.raises(
        EngineError, match=r"b\.onnx: its anomaly map or score of .*000\.png is NaN"
    ) as caught:
        compare(pair["a"], pair["b"], dataset, output=tmp_path / "r.json")
    assert "\n" not in str(caught.value)


def test_unusable_data_and_outputs_are_rejected(pair, dataset: Path, tmp_path: Path, full_disk):
    a, b = pair["a"], pair["b"]
    root = write_dataset(tmp_path / "data", categories=1)
    shutil.rmtree(str(root / "part0" / "test"))
    before = sorted(tmp_path.rglob("*"))
    output = tmp_path / "out" / "r.json"
    with pytest.raises(DataError, match=r"data: no test images\. Put labeled images"):
        compare(a, b, root, output=output)
    with pytest.raises(DataError, match="no category named 'part9'"):
        compare(a, b, dataset, categories=["part9"], output=output)
    with pytest.raises(DataError, match=r"p\.pdf: not the name of a PNG or JPEG file\. Use \.png or \.jpg"):
        compare(a, b, dataset, output=output, sheet=tmp_path / "p.pdf")
    with pytest.raises(DataError, match=r"r\.jpg: the sheet would overwrite the result file"):
        compare(a, b, dataset, output=tmp_path / "r.jpg")
    with pytest.raises(AdqError, match="-1 worst images asked for"):
        compare(a, b, dataset, output=output, worst=-1)
    with pytest.raises(ResultError, match=r"not an adq-edge/compare file\. Compare again: adq-edge compare"):
        Comparison.read(sidecar_path(a))
    assert sorted(tmp_path.rglob("*")) == before
    full_disk()
    with pytest.raises(StorageError, match="no space left"):
        compare(a, b, dataset, output=output)
    assert not leftovers(tmp_path)
    assert not (tmp_path / "out").exists()


# --- the command line ------------------------------------------------------------------------------


def adq(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    return run_cli("compare", *arguments, cwd=cwd)


def test_command_writes_result_and_sheet_and_rejects_in_one_line(pair, dataset: Path, tmp_path: Path):
    work = tmp_path / "work"
    work.mkdir()
    for arguments, complaint in (
        ([pair["a"], "none.onnx"], "none.onnx: no such engine"),
        ([pair["a"], pair["b"], "--category", "part9"], "no category named 'part9'"),
        ([pair["a"], pair["b"], "--data", "none"], "none: no such dataset folder"),
    ):
        result = adq(*arguments, cwd=work)
        assert result.returncode == 2, result.stderr
        assert [complaint in line for line in result.stderr.strip().splitlines()] == [True]
        assert not list(work.iterdir())
    result = adq(pair["a"], pair["b"], "--worst", 2, cwd=work)  # on the training data by default
    assert result.returncode == 0, result.stderr
    assert "Spearman" in result.stdout
    folder = work / "benchmarks" / "results"
    comparison = Comparison.read(folder / "a-vs-b.compare.json")
    assert f"sheet: {comparison.sheet} ({len(comparison.sheet_images)} images)" in result.stdout
    assert read_image(folder / "a-vs-b.compare.jpg").shape[1] == COLUMNS * CELL
    assert not leftovers(work)
