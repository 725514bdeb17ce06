"""The stress verb: changes of images, figures against an independent run, limits, resumption, tables."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from pathlib import Path
from typing import List, Optional

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.cli import stress as verb
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.images.imaging import read_image
from adq_edge.core.options import Precision
from adq_edge.decision.fit import fit
from adq_edge.decision.inspector import Verdict, load_inspector
from adq_edge.evaluation import stress as module
from adq_edge.evaluation.stress import stress
from adq_edge.evaluation.stress_changes import CHANGES, SEVERITIES, Change, change_named
from adq_edge.evaluation.stress_result import StressResult, find_crossing
from adq_edge.metrics.quality import image_auroc
from adq_edge.report.render.terminal import table_text
from adq_edge.report.report import report
from adq_edge.report.tables.stress import describe_limits, limits_table, severities_table
from factories.command_line import run_cli
from factories.images import leftovers
from factories.parts import write_good_parts, write_part
from factories.tiny_engine import make_model, write_file

GOOD, DEFECTIVE = 6, 4
FEW = ["less-light", "more-light", "jpeg"]


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with labeled images, and an INT8 and an FP32 engine with products."""
    folder = tmp_path_factory.mktemp("plant")
    good = {name: write_good_parts(folder / "good" / name, name) for name in ("bolt", "nut")}
    for name in good:
        for seed in range(GOOD):
            write_part(folder / "data" / name / "test" / "good" / f"{seed}.png", name, 200 + seed, size=64)
        for seed in range(DEFECTIVE):
            path = folder / "data" / name / "test" / "scratch" / f"{seed}.png"
            write_part(path, name, 300 + seed, is_defective=True, size=64)
    content = make_model().SerializeToString()
    for precision in (Precision.INT8, Precision.FP32):
        engine = write_file(folder / "engines" / f"{precision.value}.onnx", content, precision=precision)
        fit(engine, good=good, false_rejects=0.05)
    write_file(folder / "alone" / "e.onnx", content)
    return folder


@pytest.fixture(scope="module")
def result(plant: Path) -> StressResult:
    return stress(plant / "engines" / "int8.onnx", plant / "data", changes=FEW, output=plant / "r.json")


# --- changes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.key)
def test_each_change_is_repeatable_and_larger_at_each_severity(change: Change):
    generator = np.random.default_rng(0)
    rough = generator.uniform(30, 220, (20, 15, 3)).astype(np.float32)
    image = cv2.resize(rough, (60, 80), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    kept = image.copy()
    assert len(change.amounts) == SEVERITIES
    differences = []
    for amount in change.amounts:
        changed, again = (change.change(image, amount, (32, 32), "bolt/good/000.png") for _ in range(2))
        assert (changed.shape, changed.dtype) == (image.shape, np.uint8)
        assert np.array_equal(changed, again)
        differences.append(float(np.abs(changed.astype(float) - image).mean()))
    assert differences == sorted(differences) or change.group == "position"
    assert differences[0] > 0.0
    assert np.array_equal(image, kept)
    if change.key != "jpeg":
        assert np.array_equal(change.change(image, change.unchanged, (32, 32), "a"), image)


def test_amounts_are_gray_levels_percent_and_pixels_of_the_input():
    flat = np.full((64, 64, 3), 100, np.uint8)
    assert (change_named("less-light").change(flat, 30, (32, 32), "a") == 70).all()
    assert (change_named("stray-light").change(flat, 45, (32, 32), "a") == 145).all()
    assert change_named("warmer").change(flat, 20, (32, 32), "a")[0, 0].tolist() == [120, 100, 80]
    noise = change_named("noise").change(flat, 8, (32, 32), "a").astype(float)
    assert noise.std() == pytest.approx(8.0, rel=0.05)
    line = np.zeros((64, 64, 3), np.uint8)
    line[:, 32] = 255
    moved = change_named("shift").apply(line, 4.0, 2.0, 0.0)  # to the right, two image pixels for each
    assert moved[:, 40].min() == 255
    blurred = change_named("defocus").apply(line, 2.0, 2.0, 0.0)
    assert np.flatnonzero(blurred[32, :, 0] > 1).tolist() == list(range(28, 37))


# --- figures -----------------------------------------------------------------------------------


def test_figures_equal_those_of_an_independent_run(plant: Path, result: StressResult):
    assert (result.good, result.defective) == (2 * GOOD, 2 * DEFECTIVE)
    point = result.curves[0].points[2]
    assert (result.curves[0].change, point.amount) == ("less-light", 20.0)
    areas, false_rejects, missed = [], 0, 0
    with load_inspector(plant / "engines" / "int8.onnx") as inspector:
        for name in ("bolt", "nut"):
            paths = sorted((plant / "data" / name / "test").rglob("*.png"))
            images = [np.rint(read_image(path) * 0.8).astype(np.uint8) for path in paths]
            found = [inspector.inspect(image, product=name) for image in images]
            labels = np.array([path.parent.name == "scratch" for path in paths])
            areas.append(image_auroc(labels, np.array([one.score for one in found])))
            good = np.array([one.verdict is Verdict.GOOD for one in found])
            false_rejects += int((~good & ~labels).sum())
            missed += int((good & labels).sum())
    assert point.engine.image_auroc == pytest.approx(np.mean(areas))
    assert (point.engine.false_rejects.count, point.engine.false_rejects.total) == (false_rejects, 2 * GOOD)
    assert (point.engine.missed_defects.count, point.engine.missed_defects.total) == (missed, 2 * DEFECTIVE)


def test_fp32_engine_of_the_same_model_stands_beside_it_by_default(plant: Path, result: StressResult):
    assert result.reference is not None
    assert Path(result.reference.engine.name) == plant / "engines" / "fp32.onnx"
    assert all(point.reference == point.engine for curve in result.curves for point in curve.points)
    assert {one.loss for one in result.excess_losses()} == {0.0}
    assert StressResult.read(plant / "r.json") == result
    assert not list(plant.glob("*.progress.json"))


def test_engine_without_products_has_an_auroc_and_decides_by_its_threshold_only(plant: Path):
    engine = plant / "alone" / "e.onnx"
    found = stress(engine, plant / "data", changes=["less-light"], output=plant / "alone.json")
    assert found.reference is None
    assert found.engine.unchanged.false_rejects is None
    assert found.engine.unchanged.image_auroc == found.engine.unchanged.engine_auroc is not None
    text = table_text(severities_table(found), 200)
    assert "the engine's own threshold decides, if there is one. Learn them: adq-edge fit" in text
    threshold = Threshold(200.0, 1.0, 20, str(plant / "data"))
    write_file(engine, engine.read_bytes(), threshold=threshold)
    found = stress(engine, plant / "data", changes=["less-light"], output=plant / "alone.json")
    assert found.engine.unchanged.missed_defects.count == 0
    assert found.curves[0].points[-1].engine.missed_defects.rate == 1.0


def test_engines_of_two_models_are_refused(plant: Path):
    model = FileReference("model.onnx", "1" * 64)
    other = write_file(plant / "other" / "e.onnx", make_model().SerializeToString(), model=model)
    with pytest.raises(EngineError, match="not built from the same model"):
        stress(plant / "engines" / "int8.onnx", plant / "data", against=other, output=plant / "x.json")
    assert not (plant / "x.json").exists()


# --- limits ------------------------------------------------------------------------------------


@given(
    losses=st.lists(st.none() | st.floats(-1, 1), min_size=1, max_size=6),
    limit=st.floats(0.001, 0.5),
)
@settings(max_examples=200, deadline=None)
def test_crossing_lies_between_the_severities_around_it(losses: List[Optional[float]], limit: float):
    amounts = [float(number) for number in range(len(losses) + 1)]
    found = find_crossing(amounts, [0.0, *losses], limit)
    known = [(amount, loss) for amount, loss in zip(amounts, [0.0, *losses]) if loss is not None]
    above = [amount for amount, loss in known if loss > limit]
    if found is None:
        assert not above
    else:
        before = max(amount for amount, _ in known if amount < above[0])
        assert before <= found <= above[0]


def test_limit_is_interpolated_between_two_severities():
    assert find_crossing([0, 10, 20], [0.0, 0.01, 0.03], 0.02) == pytest.approx(15.0)
    assert find_crossing([100, 90, 70], [0.0, 0.0, 0.04], 0.02) == pytest.approx(80.0)


def test_sentences_state_how_far_the_line_may_drift(result: StressResult):
    point = result.curves[0].points[0]
    lossy = dataclasses.replace(point.engine, image_auroc=point.reference.image_auroc - 0.004)
    curve = dataclasses.replace(
        result.curves[0],
        points=(dataclasses.replace(point, engine=lossy),),
        largest_by_false_rejects=12.3,
        largest_by_auroc=None,
    )
    of_jpeg = dataclasses.replace(result.curves[2], largest_by_false_rejects=43.4, largest_by_auroc=None)
    side = dataclasses.replace(
        result.engine, false_rejects=0.01, unchanged=dataclasses.replace(result.engine.unchanged)
    )
    rejects, areas, losses = describe_limits(
        dataclasses.replace(result, engine=side, curves=(curve, of_jpeg))
    )
    assert rejects.endswith("up to: less light 12 %, JPEG quality 43.")
    assert areas.endswith("up to: less light over 5 %, JPEG quality below 15.")
    assert losses == "The engine loses at most 0.0040 of AUROC more than FP32 (less light, 5 %)."


def test_reference_without_products_is_compared_by_the_engines_own_scores(plant: Path):
    engine, alone = plant / "engines" / "int8.onnx", plant / "alone" / "e.onnx"
    found = stress(engine, plant / "data", against=alone, changes=["less-light"], output=plant / "own.json")
    assert not found.has_same_scores
    assert {one.loss for one in found.excess_losses(of_engine=True)} == {0.0}  # the same networks
    sentence = list(describe_limits(found))[-1]
    assert re.fullmatch(r"The engine loses no more AUROC of the engines' own scores than [^ ]+\.", sentence)
    assert "has no products: its figures" in " ".join(table_text(severities_table(found), 200).split())


def test_auroc_holds_up_to_the_last_severity_at_which_images_can_be_judged(result: StressResult):
    change = change_named("less-light")
    unchanged = result.engine.unchanged
    lost = dataclasses.replace(unchanged, image_auroc=None, engine_auroc=None, cannot_judge=20)
    curve = module._curve(change, result.engine, [[unchanged], [unchanged], [lost], [lost], [lost]])
    assert curve.largest_by_auroc == change.amounts[1]
    shown = table_text(severities_table(dataclasses.replace(result, curves=(curve,), reference=None)), 200)
    assert "20 images cannot be judged" in shown


# --- an interrupted run ------------------------------------------------------------------------


def test_interrupted_run_is_continued_and_gives_the_same_result(
    plant: Path, result: StressResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    judged: List[str] = []
    judge_image = module._judge_image

    def stop_at_the_fifth(judges, sample, states):
        if len(judged) == 5:
            raise KeyboardInterrupt
        judged.append(str(sample.path))
        return judge_image(judges, sample, states)

    engine, output = plant / "engines" / "int8.onnx", tmp_path / "r.json"
    monkeypatch.setattr(module, "_judge_image", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt):
        stress(engine, plant / "data", changes=FEW, output=output)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.progress.json"]
    first, judged = list(judged), []
    monkeypatch.setattr(
        module, "_judge_image", lambda *seen: judged.append(str(seen[1].path)) or judge_image(*seen)
    )
    again = stress(engine, plant / "data", changes=FEW, output=output)
    assert not set(first) & set(judged)
    assert len(first) + len(judged) == result.good + result.defective
    assert dataclasses.replace(again, environment=result.environment) == result
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]
    assert not leftovers(tmp_path)


def test_progress_of_other_inputs_is_not_used(plant: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    engine, output = plant / "engines" / "int8.onnx", tmp_path / "r.json"
    with monkeypatch.context() as patch:
        patch.setattr(module, "_summarize", stop)
        with pytest.raises(KeyboardInterrupt):
            stress(engine, plant / "data", changes=["less-light"], output=output)
    kept = (tmp_path / "r.progress.json").read_text()
    found = stress(engine, plant / "data", changes=["jpeg"], output=output)
    assert [curve.change for curve in found.curves] == ["jpeg"]
    for content in (kept[: len(kept) // 2], '{"schema": "adq-edge/stress-progress", "version": 1}\n'):
        (tmp_path / "r.progress.json").write_text(content)
        assert stress(engine, plant / "data", changes=["jpeg"], output=output) == found


# --- what is shown -----------------------------------------------------------------------------


def test_verb_writes_the_result_and_shows_tables_of_80_columns(plant: Path, result: StressResult):
    arguments = ["--data", "data", "--against", "engines/fp32.onnx", "-o", "cli.json"]
    shown = run_cli("stress", "engines/int8.onnx", *arguments, "--change", "less-light", cwd=plant)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.splitlines()[-2:] == ["result: cli.json", "next: adq-edge report cli.json"]
    assert "how far the line may drift" in shown.stdout
    for table in (severities_table(result), limits_table(result)):
        assert max(map(len, table_text(table, 80).splitlines())) <= 80
    heading = table_text(severities_table(result), 80)
    assert len(re.findall("^unchanged", heading, re.MULTILINE)) == 1  # one block: all columns side by side


def test_unknown_change_is_one_line(plant: Path):
    shown = run_cli("stress", "engines/int8.onnx", "--data", "data", "--change", "dust", cwd=plant)
    assert shown.returncode == 2
    assert shown.stderr.startswith("adq-edge: --change: no change named 'dust'. Use: less-light, ")
    with pytest.raises(AdqError):
        stress(plant / "engines" / "int8.onnx", plant / "data", changes=["dust"])
    assert tuple(change.key for change in CHANGES) == verb.CHANGES


def test_report_draws_a_chart_of_each_change_and_writes_every_severity_as_csv(
    plant: Path, result: StressResult, tmp_path: Path
):
    report(plant / "r.json", tmp_path / "all")
    page = (tmp_path / "all" / "report.html").read_text()
    section = re.search(r'<section id="stress".*?</section>', page, re.DOTALL)
    assert section is not None
    assert section.group().count("<svg") == len(FEW)
    assert "How far the line may drift" in section.group()
    rows = list(csv.DictReader((tmp_path / "all" / "stress.csv").open()))
    assert len(rows) == 1 + len(FEW) * SEVERITIES
    row = next(one for one in rows if (one["change"], one["severity"]) == ("less light", "3"))
    point = result.curves[0].points[2]
    assert float(row["AUROC"]) == point.engine.image_auroc
    assert float(row["amount"]) == 20.0
    assert float(row["false rejects, %"]) == pytest.approx(100 * point.engine.false_rejects.rate)


def test_json_output_is_the_result_file(plant: Path, result: StressResult):
    shown = run_cli(
        "--json",
        "stress",
        "engines/int8.onnx",
        "--data",
        "data",
        "-o",
        "j.json",
        "--change",
        "jpeg",
        cwd=plant,
    )
    assert json.loads(shown.stdout) == json.loads((plant / "j.json").read_text())
