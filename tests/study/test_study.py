"""A real study of a tiny method: interrupted, resumed, and its tables compared with its files."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Dict, List

import pytest

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.bench import bench
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.files import sha256
from adq_edge.core.options import Device
from adq_edge.core.text import escape_markdown
from adq_edge.decision.fit import fit
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.report.table import Table
from adq_edge.study.captions import notes
from adq_edge.study.config import Training, Variant
from adq_edge.study.config_file import read_config
from adq_edge.study.matrix import Cell, cells_of
from adq_edge.study.published import MVTEC_AD
from adq_edge.study.results import CellResult, StudyResult
from adq_edge.study.run import study
from adq_edge.study.tables import study_tables
from factories.command_line import run_cli
from factories.images import leftovers, write_dataset
from factories.paths import TESTS

DRIVER = """
import torch
from factories.tiny_method import TinyMethod
from adq_edge.models.registry import METHODS
from adq_edge.cli import main
torch.set_num_threads(1)
METHODS["tiny"] = TinyMethod
main()
"""
"""adq-edge as users start it, with one more method."""

CONFIG = {
    "data": "parts",
    "output": "out",
    "teacher_weights": "demo",
    "image_size": 32,
    "validation": 0,
    "samples": 8,
    "quick": True,
    "queries": 2,
    "seconds": 0,
    "methods": {"tiny": {"epochs": 1, "batch_size": 4}},
    "trainings": {"unified": ["fp32", "int8-ptq", "int8-qat"], "one-class": ["fp32"]},
    "calibrators": ["minmax"],
    "sources": ["images"],
    "devices": ["cpu", "jetson"],
}
FP32 = Cell("tiny", Training.UNIFIED, Variant.FP32, Device.CPU)
PTQ = Cell("tiny", Training.UNIFIED, Variant.PTQ, Device.CPU, "minmax", "images")
QAT = Cell("tiny", Training.UNIFIED, Variant.QAT, Device.CPU)
ONE_CLASS = Cell("tiny", Training.ONE_CLASS, Variant.FP32, Device.CPU)


def start(folder: Path) -> subprocess.Popen:
    paths = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, "study", "study.json"],
        cwd=str(folder),
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Background jobs of a shell ignore SIGINT, and children inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def run(folder: Path) -> subprocess.CompletedProcess:
    from adq_edge.models.registry import METHODS
    from factories.tiny_method import TinyMethod

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "tiny", TinyMethod)
        done = run_cli("study", "study.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done


def interrupt_after_first_cell(folder: Path) -> str:
    process = start(folder)
    try:
        first = folder / "out" / "cells" / f"{FP32.name}.json"
        for _ in range(1200):
            if first.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    return errors


class FinishedStudy:
    """A study that was interrupted after its first cell and then finished.

    Attributes:
        folder: its working directory.
        interrupted: the result after the interruption.
        first_cell: content of the file of the first cell.
        finished: the second run.
    """

    def __init__(self, folder: Path) -> None:
        write_dataset(folder / "parts")
        (folder / "study.json").write_text(json.dumps(CONFIG))
        self.folder = folder
        self.out = folder / "out"
        errors = interrupt_after_first_cell(folder)
        last = errors.strip().splitlines()[-1]
        assert last == "adq-edge: interrupted; the same command goes on where it stopped"
        assert "Traceback" not in errors
        assert not leftovers(self.out)
        self.interrupted = StudyResult.read(self.out / "study.json")
        self.first_cell = (self.out / "cells" / f"{FP32.name}.json").read_bytes()
        self.checkpoint = self.only("checkpoints/tiny-unified-*.pt").stat().st_mtime_ns
        self.finished = run(folder)

    @property
    def result(self) -> StudyResult:
        return StudyResult.read(self.out / "study.json")

    def cell(self, cell: Cell) -> CellResult:
        return CellResult.read(self.out / "cells" / f"{cell.name}.json")

    def only(self, pattern: str) -> Path:
        found = [path for path in self.out.glob(pattern) if "-qat-" not in path.name]
        assert len(found) == 1, found
        return found[0]


@pytest.fixture(scope="module")
def studied(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedStudy:
    pytest.importorskip("torch")
    return FinishedStudy(tmp_path_factory.mktemp("study"))


def test_interrupted_study_is_resumed(studied: FinishedStudy):
    before = {state.cell: state.result for state in studied.interrupted.cells}
    assert before[ONE_CLASS] is None
    after = {state.cell: state.result for state in studied.result.cells}
    assert [cell for cell, result in after.items() if result is None] == [
        cell for cell in after if cell.device is Device.JETSON
    ]
    assert (studied.out / "cells" / f"{FP32.name}.json").read_bytes() == studied.first_cell
    assert studied.only("checkpoints/tiny-unified-*.pt").stat().st_mtime_ns == studied.checkpoint
    assert "8 cells, 1 done before, 4 not possible here, 3 to run" in studied.finished.stderr


def test_finished_cells_are_found_unless_images_change(studied: FinishedStudy, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(str(studied.folder), str(folder))
    from adq_edge.study.cells import CellRunner
    from adq_edge.study.data import read_data

    config = read_config(folder / "study.json")
    cells = [cell for cell in cells_of(config) if cell.device is Device.CPU]
    fit(next((folder / "out" / "engines").glob("*.onnx")), folder / "parts", threads=1)
    found = CellRunner(config, read_data(folder / "parts", False), folder / "out")
    assert [found.find(cell) for cell in cells] == [
        studied.cell(cell) for cell in cells
    ]  # also in another folder, and with products
    cut = folder / "out" / "cells" / f"{PTQ.name}.json"
    cut.write_bytes(cut.read_bytes()[:-100])
    assert found.find(PTQ) is None
    defective = next((folder / "parts" / "part1" / "test" / "spot").iterdir())
    defective.write_bytes((folder / "parts" / "part1" / "test" / "good" / "000.png").read_bytes())
    changed = CellRunner(config, read_data(folder / "parts", False), folder / "out")
    assert [changed.find(cell) for cell in cells] == [None] * len(cells)


def test_study_with_moved_images_does_not_train_again(studied: FinishedStudy, tmp_path: Path):
    folder = tmp_path / "copy"
    shutil.copytree(str(studied.folder), str(folder))
    (folder / "parts").rename(folder / "moved")
    (folder / "study.json").write_text(json.dumps({**CONFIG, "data": "moved"}))
    for folder_name in ("cells", "engines", "bundles"):
        shutil.rmtree(str(folder / "out" / folder_name))
    (rounded,) = (folder / "out" / "checkpoints").glob("*-qat-cpu-*.pt")
    rounded.unlink()  # is trained again, from the existing model
    before = {path: path.read_bytes() for path in (folder / "out" / "checkpoints").glob("*.pt")}
    assert len(before) == 3
    run(folder)
    assert {path: path.read_bytes() for path in before} == before
    assert rounded.exists()
    for cell in (FP32, QAT, ONE_CLASS):
        assert (
            CellResult.read(folder / "out" / "cells" / f"{cell.name}.json").quality
            == studied.cell(cell).quality
        )


def test_tables_name_cautions_and_do_not_mix_machines(studied: FinishedStudy):
    def tables(changed: CellResult) -> List[Table]:
        states = [
            dataclasses.replace(state, result=changed) if state.cell == changed.cell else state
            for state in studied.result.cells
        ]
        return study_tables(dataclasses.replace(studied.result, cells=tuple(states)))

    quantized = studied.cell(PTQ)
    speed = dataclasses.replace(quantized.speed, flags=("throttled",), caveat="the board reduced its clocks")
    hot = tables(dataclasses.replace(quantized, speed=speed))
    (table,) = [table for table in hot if table.title.startswith("INT8 by post-training")]
    assert f"throttled ({PTQ.label})" in table.notes[-1]
    assert "quick run (" in table.notes[-1]

    data = studied.result.data
    assert "differ from those of the published study" in notes(studied.result)[0]
    named = tuple(dataclasses.replace(data.categories[0], name=name) for name in MVTEC_AD)
    same = dataclasses.replace(studied.result, data=dataclasses.replace(data, categories=named))
    assert "MVTec AD, as in the published study" in notes(same)[0]

    (alike,) = rows(tables(quantized), "INT8 by post-training")
    (elsewhere,) = rows(
        tables(dataclasses.replace(quantized, runtime="onnxruntime 9.9")), "INT8 by post-training"
    )
    assert alike["change to FP32"] != elsewhere["change to FP32"] == "-"


def test_cells_reference_their_files_and_the_timed_engine(studied: FinishedStudy):
    for cell in (FP32, PTQ, QAT, ONE_CLASS):
        result = studied.cell(cell)
        for source in (*result.engines, *result.results):
            assert sha256(studied.out / source.name) == source.sha256
        evaluations = [
            Evaluation.read(studied.out / source.name)
            for source in result.results
            if source.name.endswith(".eval.json")
        ]
        assert [one.engine.sha256 for one in evaluations] == [engine.sha256 for engine in result.engines]
        values = [category.image_auroc for one in evaluations for category in one.categories]
        assert len(values) == 2
        assert result.quality.image_auroc == pytest.approx(sum(values) / 2)
        timed = BenchmarkReport.read(studied.out / result.results[-1].name).engines[0]
        assert timed.engine.sha256 == result.engines[0].sha256
        assert timed.single_stream is not None
        assert timed.single_stream.latency.p50_ms == result.speed.p50_ms
        sidecar = read_sidecar(studied.out / result.engines[0].name)
        assert (sidecar.arch, sidecar.precision, sidecar.image_size) == ("tiny", cell.precision, (32, 32))
        if cell.variant is Variant.FP32:
            assert result.speed.ratio is None
        else:
            assert timed.comparison is not None
            assert result.speed.ratio == timed.comparison.latency_ratio
            baseline = studied.cell(cell.baseline).engines[0].name
            assert Path(timed.comparison.baseline).stem == Path(baseline).stem
    assert len(studied.cell(ONE_CLASS).engines) == 2
    assert read_sidecar(studied.out / studied.cell(QAT).engines[0].name).calibration.calibrator == "qat"
    assert read_sidecar(studied.out / studied.cell(PTQ).engines[0].name).calibration.calibrator == "minmax"


def rows(tables: List[Table], title: str) -> List[Dict[str, str]]:
    """Return a table's rows by heading; of equal headings, the first (ours)."""
    (table,) = [table for table in tables if table.title.startswith(title)]
    return [
        dict(reversed([(column.heading, text) for column, text in zip(table.columns, row)]))
        for row in table.texts
    ]


def test_tables_equal_the_files_of_the_cells(studied: FinishedStudy):
    tables = study_tables(studied.result)
    markdown = (studied.out / "study.md").read_text()
    for table in tables:
        for row in table.texts:
            assert f"| {' | '.join(escape_markdown(cell) for cell in row)} |" in markdown
        assert table.title in studied.finished.stdout
        assert table.notes == () or "2 categories, 12 + 12 images, 32x32" in table.notes[0]
        timed = "p50" in [column.name for column in table.columns]
        assert timed == any("not to be quoted, 4 of 4 cells: quick run (4)" in note for note in table.notes)
    (trainings,) = rows(tables, "One unified model")
    assert trainings["one-class AUROC"] == f"{studied.cell(ONE_CLASS).quality.image_auroc:.4f}"
    assert trainings["unified AUROC"] == f"{studied.cell(FP32).quality.image_auroc:.4f}"
    assert trainings["one-class, all, MB"] == f"{studied.cell(ONE_CLASS).all_engines_mb:.1f}"
    float32, absent = rows(tables, "FP32 on each device")
    assert float32["p50, ms"] == f"{studied.cell(FP32).speed.p50_ms:.2f}"
    assert absent["AUROC"] == "not run"
    (after,) = rows(tables, "INT8 by post-training")
    change = studied.cell(PTQ).quality.image_auroc - studied.cell(FP32).quality.image_auroc
    assert after["change to FP32"] == f"{change:+.4f}"
    assert after["ratio to FP32"] == f"{studied.cell(PTQ).speed.ratio:.3f}"
    (rounding,) = rows(tables, "INT8 by quantization-aware")
    assert rounding["QAT AUROC"] == f"{studied.cell(QAT).quality.image_auroc:.4f}"
    assert rounding["PTQ AUROC"] == f"{studied.cell(PTQ).quality.image_auroc:.4f}"
    (left_out,) = rows(tables, "Cells without figures")
    assert (left_out["device"], left_out["cells"], left_out["state"]) == ("jetson", "4", "not run")
    assert left_out["why"].startswith("this machine is not a Jetson")


def test_study_of_finished_bundles_needs_no_torch(studied: FinishedStudy, tmp_path: Path):
    """A board without torch runs the cells of finished bundles and leaves out those that need training."""
    (tmp_path / "bundles").mkdir()
    shutil.copytree(str(studied.only("bundles/tiny-unified-*")), str(tmp_path / "bundles" / "unified"))
    config = {
        **{**CONFIG, "data": str(studied.folder / "parts")},
        "methods": {"stfpm": {"finished": {"unified": "bundles/unified"}}},
        "trainings": {"unified": ["fp32", "int8-qat"], "one-class": ["fp32"]},
        "devices": ["cpu"],
    }
    (tmp_path / "study.json").write_text(json.dumps(config))
    code = "import sys; sys.modules['torch'] = None; from adq_edge.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "study", "study.json"],
        cwd=str(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install torch" in done.stdout
    float32, rounding, one_class = StudyResult.read(tmp_path / "out" / "study.json").cells
    assert float32.result is not None
    assert float32.result.quality == studied.cell(FP32).quality
    assert not rounding.failed
    assert "is a bundle, which cannot be trained on" in rounding.reason
    assert not one_class.failed
    assert "training needs torch" in one_class.reason


def test_failed_cell_is_reported_and_the_others_run(studied: FinishedStudy, tmp_path: Path):
    bundle = tmp_path / "bundle"
    shutil.copytree(str(studied.only("bundles/tiny-unified-*")), str(bundle))
    config = {
        **{**CONFIG, "data": str(studied.folder / "parts"), "devices": ["cpu"]},
        "methods": {
            "stfpm": {"finished": {"unified": str(bundle)}},
            "uninformed-students": {"options": {"patches": 17}},
        },
        "trainings": {"unified": ["fp32"]},
    }
    (tmp_path / "study.json").write_text(json.dumps(config))
    done = run_cli("study", "study.json", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "adq-edge: cells failed: 1; the same command runs them again"
    )
    good, bad = StudyResult.read(tmp_path / "out" / "study.json").cells
    assert good.result is not None
    assert bad.failed
    assert "uninformed-students has no option 'patches'" in bad.reason
    assert [path.stem for path in (tmp_path / "out" / "cells").iterdir()] == [good.cell.name]


def test_unexpected_error_fails_its_cell_only_and_leaves_a_traceback(
    studied: FinishedStudy, tmp_path: Path, monkeypatch
):
    config = {
        **{**CONFIG, "data": str(studied.folder / "parts"), "devices": ["cpu"]},
        "methods": {"stfpm": {"finished": {"unified": str(studied.only("bundles/tiny-unified-*"))}}},
        "trainings": {"unified": ["fp32", "int8-ptq"]},
    }
    (tmp_path / "study.json").write_text(json.dumps(config))
    calls: List[object] = []

    def bench_the_second_time(engines, **settings) -> BenchmarkReport:
        calls.append(engines)
        if len(calls) == 1:
            raise RuntimeError("out of something")
        return bench(engines, **settings)

    monkeypatch.setattr("adq_edge.study.cells.bench", bench_the_second_time)
    float32, quantized = study(read_config(tmp_path / "study.json"), progress=False).cells
    assert float32.failed
    traceback = tmp_path / "out" / "failures" / f"{float32.cell.name}.txt"
    assert float32.reason == f"RuntimeError: out of something (traceback in {traceback})"
    assert "in bench_the_second_time" in traceback.read_text()
    assert quantized.result is not None
    again = study(read_config(tmp_path / "study.json"), progress=False).cells
    assert [state.failed for state in again] == [False, False]
