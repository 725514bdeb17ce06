"""`eval` and `compare` of engines with products: counts against values computed by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import pytest
from onnx import helper
from scipy.stats import binomtest, spearmanr
from sklearn.metrics import roc_auc_score

from adq_edge.artifacts.products import (
    Evidence,
    EvidenceKind,
    Positions,
    Product,
    Products,
    Recognition,
    Transform,
    products_path,
    read_products,
)
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.errors import AdqError, EngineError, ResultError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import read_image
from adq_edge.core.options import ThresholdRule
from adq_edge.decision.inspector import load_inspector
from adq_edge.evaluation import evaluate as evaluation
from adq_edge.evaluation.compare import Comparison, compare
from adq_edge.evaluation.decision_quality import RecognitionCount
from adq_edge.evaluation.evaluate import Evaluation, evaluate
from adq_edge.evaluation.evaluation_sheet import cut_evaluation_sheet
from adq_edge.report.render.terminal import table_text
from adq_edge.report.report import report
from adq_edge.report.tables.comparison import agreement_table, decisions_tables
from adq_edge.report.tables.decisions import decision_tables
from adq_edge.report.tables.quality import quality_table
from factories.command_line import run_cli
from factories.tiny_engine import SIZE, make_model, write_engine, write_file

CENTERS = {"bolt": 60.0, "nut": 160.0}
GOOD_SCORES = tuple(float(score) for score in range(-9, 10))
"""Scores of 19 held-out good images: 5 % false rejects give the threshold 9, 10 % give 8."""

Image = Tuple[int, Optional[int]]
"""Level of an image, and of a square of 8 x 8 pixels in it."""

GOOD: Dict[str, List[int]] = {"bolt": [60, 65, 69, 70, 80], "nut": [160, 165, 230]}
"""Scores 0, 5, 9, 10, 20 and 0, 5, 70; the last nut is of an unknown product."""
DEFECTIVE: Dict[str, List[Image]] = {
    "bolt": [(60, 69), (60, 90), (60, 100), (60, 110)],
    "nut": [(160, 200), (70, 75)],
}
"""Scores 9, 30, 40, 50 and 40, -85; the last nut is nearest to a bolt."""


def write_inspected_engine(path: Path, **changes: object) -> Path:
    """Write an engine whose map is the brightness, and infinite if a pixel is 255."""
    model = make_model()
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["gray" if name == "anomaly_map" else name for name in names]
    model.graph.node.extend(
        [
            helper.make_node("Constant", [], ["white"], value_float=255.0),
            helper.make_node("Sub", ["white", "gray"], ["rest"]),
            helper.make_node("Sign", ["rest"], ["sign"]),
            helper.make_node("Div", ["gray", "sign"], ["anomaly_map"]),
        ]
    )
    return write_file(path, model.SerializeToString(), **changes)


def product(name: str, center: float) -> Product:
    """Return a product whose score is the brightest pixel minus `center`."""
    raw, deep = (Positions((side, side), (0.0,) * side**2, (1.0,) * side**2) for side in (SIZE, SIZE // 2))
    mean = (CENTERS[name] / 255.0,) * 192
    return Product(
        name=name,
        images=len(GOOD_SCORES),
        sources=("here",),
        raw=Transform(False, 0.0),
        deep=Transform(False, 0.0),
        evidence=(Evidence(EvidenceKind.RAW, center, 1.0),),
        raw_positions=raw,
        deep_positions=deep,
        scores=GOOD_SCORES,
        peaks=GOOD_SCORES,
        recognition=Recognition(mean, (2.0,) * len(GOOD_SCORES)),
    ).sealed()


def fit(engine: Path, names: Sequence[str] = ("bolt", "nut"), shift: float = 0.0) -> Path:
    """Write the products of an engine, with centers moved by `shift`."""
    found = tuple(product(name, CENTERS[name] + shift) for name in names)
    Products(sha256(engine), "onnxruntime", 0.05, found).write(products_path(engine))
    return engine


def write_level(path: Path, level: int, square: Optional[int] = None) -> None:
    image = np.full((SIZE, SIZE, 3), level, np.uint8)
    if square is not None:
        image[8:16, 8:16] = square
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[8:16, 8:16] = 255
    for category, levels in GOOD.items():
        for number, level in enumerate(levels):
            write_level(tmp_path / "data" / category / "test" / "good" / f"{number}.png", level)
        for number, (level, square) in enumerate(DEFECTIVE[category]):
            write_level(tmp_path / "data" / category / "test" / "spot" / f"{number}.png", level, square)
            masks = tmp_path / "data" / category / "ground_truth" / "spot"
            masks.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(masks / f"{number}_mask.png"), mask)
    return tmp_path / "data"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_inspected_engine(tmp_path / "engines" / "tiny.onnx")


def counts(result: Evaluation) -> Dict[str, Tuple[int, int, int, int]]:
    """Return false rejects of good images, and missed defects of defective ones, by product."""
    assert result.decisions is not None
    pairs = {
        one.name: (one.errors.false_rejects, one.errors.missed_defects) for one in result.decisions.products
    }
    return {
        name: (rejects.count, rejects.total, missed.count, missed.total)
        for name, (rejects, missed) in pairs.items()
    }


# --- figures ------------------------------------------------------------------------------------------


def test_decisions_of_each_product_are_counted_at_its_threshold(engine: Path, data: Path, tmp_path: Path):
    result = evaluate(fit(engine), data, output=tmp_path / "r.json")
    assert Evaluation.read(tmp_path / "r.json") == result
    assert counts(result) == {"bolt": (2, 5, 1, 4), "nut": (1, 3, 1, 2)}
    bolt, nut = result.decisions.products
    assert (bolt.threshold, bolt.rule, bolt.target) == (9.0, ThresholdRule.FALSE_REJECTS, 0.05)
    assert bolt.origin == "at most 5 % of good parts rejected, from 19 good images"
    interval = binomtest(2, 5).proportion_ci(method="exact")
    rejects = bolt.errors.false_rejects
    assert (rejects.low, rejects.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    labels = [False] * 5 + [True] * 4
    assert bolt.image_auroc == pytest.approx(roc_auc_score(labels, [0, 5, 9, 10, 20, 9, 30, 40, 50]))
    assert bolt.presorted_good == 0.8  # good images below 9 + 0.06 * 21
    assert bolt.presorted_bad == 0.75  # defective images above 10 + 0.92 * 10
    assert [(one.false_rejects, one.missed_defects) for one in bolt.cost_curve] == [(0, 1), (3, 0)]
    hits, misses, alarms = 3 * 64, 64, 2 * SIZE * SIZE
    assert bolt.seg_f1 == pytest.approx(2 * hits / (2 * hits + misses + alarms))
    total = result.decisions
    assert (total.errors.false_rejects.count, total.errors.missed_defects.count) == (3, 2)
    assert total.false_reject_rate == pytest.approx((2 / 5 + 1 / 3) / 2)
    assert total.missed_defect_rate == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert total.image_auroc == pytest.approx((bolt.image_auroc + nut.image_auroc) / 2)
    verdicts = {(one.category, one.product_score): one.verdict for one in result.scores}
    assert verdicts["bolt", 9.0] == "good"
    assert verdicts["bolt", 10.0] == "defective"
    assert read_sidecar(engine).threshold is None


def test_sheet_shows_the_maps_of_products_blue_when_normal_and_red_above_the_threshold(
    engine: Path, data: Path, tmp_path: Path
):
    result = evaluate(fit(engine), data, output=tmp_path / "r.json")
    judged = {one.image: one for one in result.scores}
    assert len(result.sheet_images) == 12
    assert all(judged[name].product_score is not None for name in result.sheet_images)
    cells = cut_evaluation_sheet(read_image(result.sheet), 12)
    missed = next(name for name in judged if judged[name].defect == "spot" and judged[name].verdict == "good")
    assert missed in result.sheet_images[:6]
    for name, cell in zip(result.sheet_images, cells):
        red, _, blue = cell[60, 320 - 100].astype(int)  # inside the square of a defect
        if judged[name].verdict == "defective":
            assert red > blue, name
        elif judged[name].product_score <= 0:
            assert blue > red, name


def test_recognition_is_counted_apart_from_the_verdicts(engine: Path, data: Path, tmp_path: Path):
    found = evaluate(fit(engine), data, output=tmp_path / "r.json").decisions.recognition
    assert (found.accuracy.count, found.accuracy.total) == (13, 14)
    assert (found.unknown_good.count, found.unknown_good.total) == (1, 8)
    assert (found.unknown_defective.count, found.unknown_defective.total) == (0, 6)
    assert found.unknown_found.total == 0
    assert found.counts == (
        RecognitionCount("bolt", "bolt", 5, 4, 0, 0),
        RecognitionCount("nut", "nut", 3, 1, 1, 0),
        RecognitionCount("nut", "bolt", 0, 1, 0, 0),
    )


def test_category_without_product_is_judged_by_the_recognized_one(engine: Path, data: Path, tmp_path: Path):
    result = evaluate(fit(engine, ["bolt"]), data, output=tmp_path / "r.json")
    assert counts(result) == {
        "bolt": (2, 5, 1, 4),
        "nut: unknown product": (3, 3, 0, 1),
        "nut: bolt": (0, 0, 0, 1),  # level 70 with a square of 75: score 15, defective
    }
    recognition = result.decisions.recognition
    assert (recognition.unknown_found.count, recognition.unknown_found.total) == (4, 5)
    assert result.decisions.products[1].threshold is None
    assert result.decisions.errors.false_rejects.count == 5
    assert result.decisions.false_reject_rate == 2 / 5  # no product is the cause of the other 3
    assert result.decisions.missed_defect_rate == pytest.approx((1 / 4 + 0 / 1) / 2)
    assert any("in the means over the products: nut. Learn" in note for note in result.decisions.notes)


def test_false_reject_rate_of_an_option_is_used_and_not_stored(engine: Path, data: Path, tmp_path: Path):
    before = products_path(fit(engine)).read_bytes()
    result = evaluate(engine, data, output=tmp_path / "r.json", false_rejects=0.1)
    assert [one.threshold for one in result.decisions.products] == [8.0, 8.0]
    assert counts(result)["bolt"] == (3, 5, 0, 4)
    assert products_path(engine).read_bytes() == before


def test_image_that_cannot_be_judged_counts_as_rejected(engine: Path, data: Path, tmp_path: Path):
    write_level(data / "bolt" / "test" / "good" / "9.png", 255)
    result = evaluate(fit(engine), data, output=tmp_path / "r.json")
    assert counts(result)["bolt"] == (3, 6, 1, 4)
    assert result.decisions.products[0].cannot_judge == 1
    assert result.decisions.cannot_judge == (str(data / "bolt" / "test" / "good" / "9.png"),)
    assert any("1 of the images cannot be judged" in note for note in result.decisions.notes)
    assert result.decisions.products[0].image_auroc == result.categories[0].image_auroc
    assert result.categories[0].images == 9


# --- thresholds from labeled images -------------------------------------------------------------------


def test_threshold_by_f1_is_stored_and_said_to_be_judged_on_the_same_images(
    engine: Path, data: Path, tmp_path: Path
):
    result = evaluate(fit(engine), data, output=tmp_path / "r.json", choose_threshold="f1")
    bolt = result.decisions.products[0]
    assert 20.0 < bolt.threshold < 30.0
    assert counts(result) == {"bolt": (0, 5, 1, 4), "nut": (1, 3, 1, 2)}
    assert (bolt.rule, bolt.chosen_on_test_images, bolt.target) == (ThresholdRule.F1, True, None)
    assert bolt.seg_f1 == pytest.approx(2 * 192 / (2 * 192 + 64))
    unknown, caution, kept = sorted(result.decisions.notes)
    assert unknown.startswith("1 of 8 good images are an unknown product for predict without --product")
    assert caution.startswith("CAUTION: the thresholds of these products were chosen on the images")
    assert caution.endswith(": bolt")
    assert kept == (  # each of its images above the lowest score is better called defective
        "nut keeps its false-reject threshold: the best choice on these images is to reject every one"
    )
    stored = read_products(engine, sha256(engine))
    assert stored.named("bolt").threshold.score == bolt.threshold
    assert stored.named("nut").threshold is None
    assert (stored.named("bolt").threshold.good, stored.named("bolt").threshold.defective) == (5, 4)
    with load_inspector(engine) as inspector:
        images = sorted((data / "bolt" / "test").glob("*/*.png"))
        verdicts = {str(image): inspector.inspect(image, product="bolt").verdict for image in images}
    assert verdicts == {one.image: one.verdict for one in result.scores if one.category == "bolt"}

    again = evaluate(engine, data, output=tmp_path / "r.json")
    assert again.decisions.products[0].chosen_on_test_images
    assert counts(again) == counts(result)
    inside = evaluate(engine, data / "bolt", output=tmp_path / "r.json")
    assert inside.decisions.products[0].chosen_on_test_images
    elsewhere = dataclasses.replace(stored.named("bolt").threshold, data="no\0path")
    moved = tuple(
        dataclasses.replace(one, threshold=one.threshold and elsewhere).sealed() for one in stored.products
    )
    dataclasses.replace(stored, products=moved).write(products_path(engine))
    assert not evaluate(engine, data, output=tmp_path / "r.json").decisions.products[0].chosen_on_test_images
    removed = evaluate(engine, data, output=tmp_path / "r.json", choose_threshold="none")
    assert counts(removed) == {"bolt": (2, 5, 1, 4), "nut": (1, 3, 1, 2)}
    assert read_products(engine, sha256(engine)) == read_products(fit(engine), sha256(engine))


def test_threshold_by_cost_weighs_missed_defects_and_rejects(engine: Path, data: Path, tmp_path: Path):
    costs = {"choose_threshold": "cost", "cost_escape": 100.0}
    result = evaluate(fit(engine), data, output=tmp_path / "r.json", **costs)
    assert counts(result)["bolt"] == (3, 5, 0, 4)
    assert "lowest cost (100 a missed defect, 1 a reject)" in result.decisions.products[0].origin
    result = evaluate(engine, data, output=tmp_path / "r.json", **costs, cost_reject=100.0)
    assert counts(result)["bolt"] == (0, 5, 1, 4)


@pytest.mark.parametrize("removed", ["good", "spot"])
def test_product_without_good_or_defective_images_keeps_its_threshold(
    engine: Path, data: Path, tmp_path: Path, removed: str
):
    for path in (data / "bolt" / "test" / removed).iterdir():
        path.unlink()
    result = evaluate(fit(engine), data, output=tmp_path / "r.json", choose_threshold="f1")
    found = "0 good images and 4 defective images" if removed == "good" else "5 good images and 0 defective"
    assert any(f"bolt keeps its false-reject threshold: {found}" in one for one in result.decisions.notes)
    assert read_products(engine, sha256(engine)).named("bolt").threshold is None


def test_products_that_are_fitted_again_meanwhile_stay(
    engine: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    measured = evaluation._evaluate

    def measure_and_fit(*arguments: object) -> object:
        found = measured(*arguments)
        fit(engine, shift=1.0)
        return found

    fit(engine)
    monkeypatch.setattr(evaluation, "_evaluate", measure_and_fit)
    with pytest.raises(EngineError, match="fitted again during the evaluation, and nothing is stored"):
        evaluate(engine, data, output=tmp_path / "r.json", choose_threshold="f1")
    assert not (tmp_path / "r.json").exists()
    assert read_products(engine, sha256(engine)).named("bolt").evidence[0].center == 61.0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"false_rejects": 0.0}, "a false-reject rate of 0 %"),
        ({"choose_threshold": "best"}, "'best' chooses no threshold"),
        ({"choose_threshold": "cost"}, "no costs"),
        ({"choose_threshold": "cost", "cost_escape": -1.0}, "a cost of -1"),
        ({"choose_threshold": "cost", "cost_escape": float("nan")}, "a cost of nan"),
        ({"choose_threshold": "f1", "cost_escape": 10.0}, "without the choice by cost"),
        (
            {"choose_threshold": "f1", "false_rejects": 0.1},
            "--false-rejects and --choose-threshold are given",
        ),
    ],
)
def test_impossible_options_are_refused(engine: Path, data: Path, tmp_path: Path, options, complaint: str):
    with pytest.raises(AdqError, match=complaint):
        evaluate(fit(engine), data, output=tmp_path / "r.json", **options)
    assert not (tmp_path / "r.json").exists()


# --- engines without usable products ------------------------------------------------------------------


def test_warning_names_a_category_whose_good_images_the_threshold_rejects(
    engine: Path, data: Path, tmp_path: Path
):
    command = ["eval", str(engine), "--data", str(data), "-o", str(tmp_path / "r.json")]
    shown = run_cli(*command, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    result = Evaluation.read(tmp_path / "r.json")
    assert read_sidecar(engine).threshold.score == result.threshold  # as before, for compatibility
    lines = shown.stderr.splitlines()
    (warning,) = [line for line in shown.stdout.splitlines() if "WARNING" in line]
    assert f"{result.threshold:.4g} calls good images anomalous: nut (all 3)" in warning
    assert warning.endswith(f"adq-edge fit {engine} --data {data}")
    assert warning in quality_table([result]).notes
    assert "WARNING" not in shown.stderr
    assert f"adq-edge: {warning}" in run_cli(*command, "--json", cwd=tmp_path).stderr.splitlines()
    assert lines[-2:] == [f"result: {tmp_path / 'r.json'}", f"next: adq-edge fit {engine} --data {data}"]
    named = run_cli(*command, "--layout", "mvtec-ad", cwd=tmp_path)
    assert named.stderr.splitlines()[-1] == f"{lines[-1]} --layout mvtec-ad"
    assert f"adq-edge fit {engine} --data {data} --layout mvtec-ad" in named.stdout
    named = run_cli(*command, "--layout", "test-only", cwd=tmp_path)
    assert named.stderr.splitlines()[-1] == f"next: adq-edge fit {engine} --data DIR"


def test_options_of_products_need_products(engine: Path, data: Path, tmp_path: Path):
    for options in ({"false_rejects": 0.1}, {"choose_threshold": "f1"}):
        with pytest.raises(EngineError, match="has no products"):
            evaluate(engine, data, output=tmp_path / "r.json", **options)


def test_products_of_another_engine_file_are_not_used_and_this_is_said(
    engine: Path, data: Path, tmp_path: Path
):
    fit(engine)
    write_inspected_engine(engine, runtime_version="2")
    document = json.loads(products_path(engine).read_text())
    products_path(engine).write_text(json.dumps({**document, "engine_sha256": "0" * 64}))
    command = ["eval", str(engine), "--data", str(data), "-o", str(tmp_path / "r.json")]
    shown = run_cli(*command, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "products are not used" not in shown.stderr
    assert shown.stdout.count("products are not used") == 1
    assert f"next: adq-edge fit {engine} --data {data}" in shown.stderr
    with pytest.raises(EngineError, match="its products cannot be used"):
        evaluate(engine, data, output=tmp_path / "r.json", false_rejects=0.1)


# --- the command and its tables -----------------------------------------------------------------------


def test_command_shows_the_decisions_within_80_columns(engine: Path, data: Path, tmp_path: Path):
    output = tmp_path / "r.json"
    command = ["eval", str(fit(engine)), "--data", str(data), "-o", str(output), "--false-rejects", "5%"]
    shown = run_cli(*command, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.splitlines()[-2:] == [f"result: {output}", f"next: adq-edge bench {engine}"]
    titles = ("decisions at the thresholds in force", "recognition of products")
    assert all(title in shown.stdout for title in titles)
    scores, errors, _, recognition = decision_tables(Evaluation.read(output))
    for table in (scores, errors, recognition):  # side by side: one block
        assert "\n\n" not in table_text(table, 80)
    bad = run_cli(*command[:-1], "many", cwd=tmp_path)
    assert "'many' is not a share" in bad.stderr


def test_warning_names_a_product_whose_good_images_are_rejected(engine: Path, data: Path, tmp_path: Path):
    command = ["eval", str(fit(engine, shift=-50.0)), "--data", str(data), "-o", str(tmp_path / "r.json")]
    shown = run_cli(*command, cwd=tmp_path)
    (warning,) = [line for line in shown.stdout.splitlines() if "WARNING" in line]
    assert "reject good images: bolt (all 5), nut (all 3). Fit these products again" in warning
    assert f"next: adq-edge fit {engine}" in shown.stderr


def test_warning_names_a_product_whose_defects_all_pass(engine: Path, data: Path, tmp_path: Path):
    command = ["eval", str(fit(engine, shift=50.0)), "--data", str(data), "-o", str(tmp_path / "r.json")]
    shown = run_cli(*command, cwd=tmp_path)
    (warning,) = [line for line in shown.stdout.splitlines() if "WARNING" in line]
    assert "defective images pass the thresholds: bolt (all 4), nut (all 2)." in warning
    assert f"next: adq-edge bench {engine}" in shown.stderr


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("errors", "false_rejects", "count"), 15),
        (("products", 0, "errors", "missed_defects", "low"), -0.1),
        (("products", 0, "cost_curve", 0, "false_rejects"), 10**6),
        (("products", 0, "image_auroc"), 1.5),
        (("recognition", "accuracy", "total"), 1),
    ],
)
def test_result_with_impossible_decisions_is_refused(
    engine: Path, data: Path, tmp_path: Path, path: Sequence[object], value: object
):
    evaluate(fit(engine), data, output=tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    place = document["decisions"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(ResultError, match="holds"):
        Evaluation.read(tmp_path / "r.json")


def test_comparison_names_the_differences_of_the_products_that_flip_verdicts(
    engine: Path, data: Path, tmp_path: Path
):
    other = fit(write_inspected_engine(tmp_path / "engines" / "other.onnx"), ["bolt"])
    products = read_products(other, sha256(other))
    changed = dataclasses.replace(products, false_rejects=0.1)
    changed.write(products_path(other))
    evaluate(fit(engine), data, output=tmp_path / "r.json", choose_threshold="f1")
    result = compare(engine, other, data, output=tmp_path / "c.json", worst=0)
    missing, rates, thresholds = result.decisions.notes
    assert missing.startswith(f"{other} has no product nut, so both engines recognize the product")
    assert rates.startswith("the false-reject rates differ: 5 % for A and 10 % for B")
    assert thresholds == "the thresholds from labeled images differ: bolt"
    assert missing in table_text(decisions_tables(result)[0], 1000)
    assert compare(engine, engine, data, output=tmp_path / "c.json", worst=0).decisions.notes == ()


def test_report_has_the_decisions_of_engines_with_products(engine: Path, data: Path, tmp_path: Path):
    other = fit(write_inspected_engine(tmp_path / "engines" / "other.onnx"), shift=1.0)
    evaluate(fit(engine), data, output=tmp_path / "results" / "e.json")
    compare(engine, other, data, output=tmp_path / "results" / "c.json", worst=0)
    report(tmp_path / "results", tmp_path / "report")
    table = (tmp_path / "report" / "decisions.csv").read_text().splitlines()
    assert table[0].startswith("engine,product,good,false rejects,")
    assert table[1].startswith("tiny.onnx,bolt,5,2,")
    assert (tmp_path / "report" / "recognition.csv").read_text().count("\n") == 3
    assert "other.onnx,tiny.onnx,all,14,1," in (tmp_path / "report" / "flips.csv").read_text()
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Decisions of each product" in page
    assert "Thresholds of tiny<" in page


# --- compare ------------------------------------------------------------------------------------------


def test_flips_are_counted_at_the_thresholds_of_both_engines(engine: Path, data: Path, tmp_path: Path):
    other = fit(write_inspected_engine(tmp_path / "engines" / "other.onnx"), shift=1.0)
    result = compare(fit(engine), other, data, output=tmp_path / "r.json", worst=0)
    assert Comparison.read(tmp_path / "r.json") == result
    bolt, nut = result.decisions.products
    # the good bolt that scores 10 scores 9 in B, which is not above the threshold
    assert (bolt.product, bolt.images, bolt.flips.count, bolt.flips.mistakes) == ("bolt", 9, 1, 0)
    assert (bolt.now_rejected, nut.flips.count) == (0, 0)
    assert result.flips == result.decisions.total.flips
    assert (result.flips_at_a, result.engine_a.threshold, result.without_products) == (None, None, None)
    (flipped,) = [image for image in result.images if image.flips]
    assert result.sheet_images == (flipped.image,)
    assert (flipped.verdict_a, flipped.verdict_b) == ("defective", "good")
    images = [image for image in result.images if image.category == "bolt"]
    expected = spearmanr([one.p_value_a for one in images], [one.p_value_b for one in images]).statistic
    assert bolt.spearman == pytest.approx(expected)
    (table,) = decisions_tables(result)
    assert [row[0] for row in table.rows] == ["bolt", "nut", "all"]
    assert agreement_table(result).rows[-1] == (
        "decisions that flip, own products",
        "1 (0 now wrong, 1 now right)",
    )


def test_engines_without_products_are_compared_at_one_threshold_with_a_note(
    engine: Path, data: Path, tmp_path: Path
):
    other = write_inspected_engine(tmp_path / "engines" / "other.onnx")
    result = compare(fit(engine), other, data, output=tmp_path / "r.json")
    assert result.decisions is None
    assert result.engine_a.threshold is not None
    assert result.flips.count == 0
    assert result.without_products.startswith(f"{other} has no products, learn them: adq-edge fit {other}")
    assert agreement_table(result).notes[-1].endswith(result.without_products)
    assert decisions_tables(result) == []


def test_compare_names_its_result_file(engine: Path, data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = run_cli("compare", fit(engine), engine, "--data", data, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "result: benchmarks/results/tiny-vs-tiny.compare.json" in shown.stderr.splitlines()
    assert Path("benchmarks/results/tiny-vs-tiny.compare.json").is_file()


def test_results_without_the_new_fields_are_read(engine: Path, data: Path, tmp_path: Path):
    result = evaluate(write_engine(engine), data, output=tmp_path / "r.json")
    document = json.loads((tmp_path / "r.json").read_text())
    for name in ("decisions", "unused_products"):
        del document[name]
    for score in document["scores"]:
        for name in ("product", "product_score", "p_value", "verdict"):
            del score[name]
    (tmp_path / "r.json").write_text(json.dumps(document))
    assert Evaluation.read(tmp_path / "r.json") == dataclasses.replace(result)
