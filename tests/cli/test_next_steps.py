"""The next command that a verb shows can be run."""

from __future__ import annotations

from pathlib import Path
from typing import Sequence

import pytest

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.cli.build import _next_step
from adq_edge.core.options import BuildOptions
from adq_edge.datasets.layouts.registry import use_layout
from factories.parts import write_part
from factories.tiny_engine import write_engine


@pytest.mark.parametrize(
    ("folders", "verb"),
    [(("train/good", "test/good", "test/bad"), "fit"), (("test/good", "test/bad"), "eval")],
)
@pytest.mark.parametrize("layout", ["mvtec-ad", "test-only"])
def test_build_suggests_fit_only_where_there_are_images_to_learn_from(
    folders: Sequence[str], verb: str, layout: str, tmp_path: Path
):
    engine = write_engine(tmp_path / "e.onnx")
    for folder in folders:
        write_part(tmp_path / "bolt" / folder / "0.png", "bolt", 0, is_defective=folder.endswith("bad"))
    if layout == "test-only":
        verb = "eval"
        if "train/good" in folders:
            return  # a folder with training images has another layout
    asked = BuildOptions(calib_data=tmp_path / "bolt")
    with use_layout(layout):
        step = _next_step(engine, read_sidecar(engine), asked)
    assert step == (verb, engine, "--data", tmp_path / "bolt", "--layout", layout)
