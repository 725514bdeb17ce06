"""What the user gets to know who gives another file in place of an engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.artifacts.sidecar import read_sidecar, sidecar_path
from adq_edge.core.errors import BundleError, EngineError, StorageError
from factories.images import write_image


def complaint(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        read_sidecar(path)
    return str(caught.value).replace(f"{path}: ", "", 1)


def test_other_files_of_the_workflow_are_named_with_the_verb_that_makes_an_engine(
    engine: Path, bundle, checkpoint: Path, tmp_path: Path
):
    folder, make = bundle.path, f"Make an engine from it: adq-edge build {bundle.path}"
    assert complaint(folder) == f"a bundle, not an engine. {make}."
    assert complaint(folder / "model.onnx") == f"the model of a bundle, not an engine. {make}."
    assert complaint(folder / "manifest.json") == f"the manifest of a bundle, not an engine. {make}."
    ranges = next((folder / "ranges").glob("*.json"))
    assert complaint(ranges) == (
        f"activation ranges, not an engine. Make an engine from its bundle: adq-edge build {folder} --int8."
    )
    assert complaint(sidecar_path(engine)) == (
        f"the sidecar of an engine, not an engine. Name the engine: {engine}."
    )
    renamed = tmp_path / "weights"
    shutil.copy(str(checkpoint), str(renamed))
    with pytest.raises(BundleError, match=f"a checkpoint, not a bundle.*: adq-edge export {checkpoint}"):
        open_bundle(checkpoint)
    for path in (checkpoint, renamed):
        fix = f"Make an engine from it: adq-edge export {path}, then adq-edge build"
        assert complaint(path) == f"a checkpoint, not an engine. {fix}."


def test_files_that_cannot_become_an_engine_are_named(tmp_path: Path):
    write_image(tmp_path / "a.png", 0)
    (tmp_path / "r.json").write_text('{"schema": "adq-edge/eval", "version": 1}')
    (tmp_path / "p.json").write_text('{\n  "schema": "adq-edge/plan"}')
    (tmp_path / "other.json").write_bytes(b"\xff{[")
    (tmp_path / "foreign.onnx").write_text("onnx")
    assert complaint(tmp_path / "a.png") == "an image, not an engine. Name an engine file."
    assert complaint(tmp_path).startswith("a folder, not an engine.")
    assert complaint(tmp_path / "r.json").startswith("a result file (adq-edge/eval), not an engine.")
    assert complaint(tmp_path / "p.json").startswith("a precision plan, not an engine. ")
    assert complaint(tmp_path / "other.json").startswith("a JSON file, not an engine.")
    assert complaint(tmp_path / "foreign.onnx").startswith("its sidecar foreign.onnx.json is missing")
    assert complaint(tmp_path / "none.onnx").startswith("no such engine. Check the path")
    with pytest.raises(StorageError, match="file name too long"):
        read_sidecar(tmp_path / ("n" * 300 + ".onnx"))
