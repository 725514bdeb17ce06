"""`--layout`: the verbs read a dataset in the layout that it names."""

from __future__ import annotations

from pathlib import Path

from adq_edge.cli.options import DEFAULT_SAMPLES, DEFAULT_SOURCE, LAYOUTS, calibration_arguments
from adq_edge.datasets.layouts import registry
from factories.command_line import run_cli
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
