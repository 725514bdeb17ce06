"""`--layout`: the verbs read a dataset in the layout that it names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.artifacts.products import Products, products_path
from adq_edge.builders.build import build
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import IMAGES
from adq_edge.cli.options import DEFAULT_SAMPLES, DEFAULT_SOURCE, LAYOUTS, calibration_arguments
from adq_edge.core.errors import CheckpointError
from adq_edge.datasets.layouts import registry
from adq_edge.decision.fit import fit
from adq_edge.evaluation.evaluate import evaluate
from factories.command_line import run_cli
from factories.images import SIZE, write_image
from factories.parts import write_good_parts
from factories.tiny_engine import write_engine


def test_every_layout_may_be_named():
    assert sorted(LAYOUTS) == sorted(name for layout in registry.LAYOUTS for name in layout.names)


def test_next_build_reads_its_images_in_the_named_layout():
    repeated = (None, DEFAULT_SOURCE, "parts", DEFAULT_SAMPLES)
    assert calibration_arguments(*repeated) == ("--calib-data", "parts")
    with registry.use_layout("images"):
        assert calibration_arguments(*repeated) == ("--calib-data", "parts", "--layout", "images")


def test_fit_reads_the_dataset_in_the_named_layout(tmp_path: Path):
    write_engine(tmp_path / "engines" / "e.onnx")
    for name in ("bolt", "nut"):
        write_good_parts(tmp_path / "parts" / name, name)
    fit = ("fit", "--data", "parts", "--false-rejects", "5%")
    found = run_cli(*fit, cwd=tmp_path)
    assert (found.returncode, "no category found here" in found.stderr) == (2, True)
    unknown = run_cli(*fit, "--layout", "mvtek", cwd=tmp_path)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("adq-edge: Invalid value for '--layout': 'mvtek' is none of mvtec-ad,")
    learned = run_cli(*fit, "--layout", "images", cwd=tmp_path)
    assert learned.returncode == 0, learned.stderr
    assert "bolt" in learned.stdout
    assert "nut" in learned.stdout


def write_lines(root: Path) -> Path:
    """Write images of two lines with masks beside them: one category in the layout folders-with-masks."""
    for number in range(12):
        path = root / f"line{number % 2}" / f"{number:02}.png"
        write_image(path, number)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[20:30, 20:30] = 255 * (number % 3 == 0)
        cv2.imwrite(str(path.with_name(f"{path.stem}_mask.png")), mask)
    return root


def test_commands_after_a_training_read_its_dataset_in_the_layout_that_it_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("torch")
    from adq_edge.models.registry import METHODS
    from adq_edge.onnx_export.export import export
    from adq_edge.training.train import train
    from factories.tiny_method import TinyMethod

    monkeypatch.setitem(METHODS, "tiny", TinyMethod)
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "parts")
    settings = {"arch": "tiny", "epochs": 1, "image_size": (32, 32), "teacher_weights": "demo"}
    with registry.use_layout("folders-with-masks"):
        trained = train("parts", progress=False, **settings)
    bundle = export(trained.checkpoint)
    source = choose_source(bundle, IMAGES, None, 64)
    engine = build(bundle.path, precision="fp32", fit="parts")
    assert (bundle.manifest.layout, engine.sidecar.layout) == ("folders-with-masks",) * 2
    assert {path.parent.name for path in source.paths} == {"line0", "line1"}
    assert Products.read(products_path(engine.path)).names == ("parts",)
    assert fit(engine.path).fitted == ("parts",)
    assert [one.name for one in evaluate(engine.path).categories] == ["parts"]
    with pytest.raises(CheckpointError, match="in the layout folders-with-masks, not that the folders show"):
        train("parts", progress=False, **settings)
