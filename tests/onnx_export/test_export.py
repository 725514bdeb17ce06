from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.core.errors import BundleError, StorageError
from adq_edge.core.files import sha256
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.onnx_export import export as exporting
from adq_edge.onnx_export.export import export
from adq_edge.quantization.graph.tensorrt_lint import lint
from factories.images import SIZE, leftovers, make_model


def test_graph_has_the_documented_inputs_and_outputs(bundle):
    model = onnx.load(str(bundle.model))
    onnx.checker.check_model(model, full_check=True)
    assert lint(model) == []
    assert (model.opset_import[0].version, model.ir_version <= 9) == (17, True)
    (image,) = model.graph.input
    dims = [dim.dim_value or dim.dim_param for dim in image.type.tensor_type.shape.dim]
    assert (image.name, dims, image.type.tensor_type.elem_type) == ("image", ["N", SIZE, SIZE, 3], 2)
    assert {
        output.name: [dim.dim_value or dim.dim_param for dim in output.type.tensor_type.shape.dim]
        for output in model.graph.output
    } == {
        "anomaly_map": ["N", SIZE // 4, SIZE // 4],
        "anomaly_score": ["N"],
        "embedding": ["N", 64],
        "scale_map_1": ["N", SIZE // 4, SIZE // 4],
        "scale_map_2": ["N", SIZE // 8, SIZE // 8],
        "scale_map_3": ["N", SIZE // 16, SIZE // 16],
    }
    assert bundle.manifest.embedding_size == 64
    assert bundle.manifest.scale_sizes == ((16, 16), (8, 8), (4, 4))


@pytest.fixture
def checkpoint(narrow_checkpoint: Path) -> Path:
    return narrow_checkpoint


@pytest.fixture
def bundle(narrow_bundle):
    return narrow_bundle


@pytest.mark.parametrize("fusion", ["official", "anomalib"])
def test_onnx_equals_torch_at_any_batch_size(tmp_path: Path, fusion: str, dataset: Path):
    save_checkpoint(tmp_path / "c.pt", make_model(fusion), {})
    bundle = export(tmp_path / "c.pt", tmp_path / "b", data=dataset)
    images = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    maps, scores, *further = session.run(None, {"image": images})
    with torch.inference_mode():
        expected = load_checkpoint(tmp_path / "c.pt").model(torch.from_numpy(images))
    np.testing.assert_allclose(maps, expected[0], rtol=1e-3, atol=1e-6 * float(expected[0].max()))
    np.testing.assert_allclose(scores, expected[1], rtol=1e-3)
    for values, other in zip(further, expected[2:]):
        np.testing.assert_allclose(values, other, rtol=1e-3, atol=1e-5)
    assert bundle.manifest.fusion == fusion
    assert bundle.manifest.map_size == maps.shape[1:]


def test_manifest_identifies_checkpoint_and_data(bundle, checkpoint: Path, dataset: Path):
    manifest = bundle.manifest
    assert manifest.checkpoint.sha256 == sha256(checkpoint)
    assert manifest.model_sha256 == sha256(bundle.model)
    assert manifest.data == str(dataset)
    assert manifest.categories == ("part0", "part1")
    assert manifest.parity.images == 8
    assert manifest.parity.holds
    assert 0 < manifest.parity.map_difference <= 1e-3 * manifest.parity.map_largest


def test_export_without_data_uses_synthetic_images(tmp_path: Path):
    save_checkpoint(tmp_path / "c.pt", make_model(), {"settings": {"data": str(tmp_path / "gone")}})
    bundle = export(tmp_path / "c.pt", tmp_path / "b")
    assert bundle.manifest.parity.source == "drawn by adq-edge"


def test_graph_that_differs_from_its_checkpoint_is_not_written(tmp_path, checkpoint, monkeypatch):
    def spoil(model: onnx.ModelProto) -> onnx.ModelProto:
        for tensor in model.graph.initializer:
            if tensor.name.endswith("layer1.0/conv2/Conv.weight"):
                value = onnx.numpy_helper.to_array(tensor) * 1.5
                tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
                break
        return model

    run_passes = exporting.run_passes
    monkeypatch.setattr(exporting, "run_passes", lambda model, passes: spoil(run_passes(model, passes)))
    with pytest.raises(BundleError, match="the exported graph differs from the checkpoint"):
        export(checkpoint, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not leftovers(tmp_path)


def test_export_replaces_only_a_bundle(tmp_path: Path, checkpoint: Path):
    first = export(checkpoint, tmp_path / "b")
    assert export(checkpoint, tmp_path / "b").manifest == first.manifest
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_bytes(b"")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        export(checkpoint, tmp_path / "photos")
    assert (tmp_path / "photos" / "holiday.png").exists()


def test_export_keeps_all_other_files_of_the_folder(tmp_path: Path, checkpoint: Path):
    bundle = export(checkpoint, tmp_path / "b").path
    ranges = bundle / "ranges"
    (bundle / ".git").mkdir()
    ranges.mkdir()
    kept = {bundle / ".git" / "HEAD": b"ref", bundle / "thesis.tex": b"text", ranges / "notes.json": b"{}"}
    for path, content in kept.items():
        path.write_bytes(content)
    (ranges / "old.json").write_text('{"schema": "adq-edge/ranges", "model_sha256": "another"}')
    export(checkpoint, bundle)
    assert {path: path.read_bytes() for path in kept} == kept
    assert not (ranges / "old.json").exists()  # ranges of another model
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "model.onnx").write_bytes(b"of another tool")
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        export(checkpoint, foreign)
    assert (foreign / "model.onnx").read_bytes() == b"of another tool"


def test_full_disk_leaves_no_bundle(tmp_path: Path, checkpoint: Path, full_disk):
    full_disk()
    with pytest.raises(StorageError, match="no space left"):
        export(checkpoint, tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


def test_damaged_bundles_are_rejected(tmp_path: Path, checkpoint: Path):
    def fresh():
        return export(checkpoint, tmp_path / "b")

    with pytest.raises(BundleError, match="no such bundle"):
        open_bundle(tmp_path / "none")
    (fresh().path / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"bundle has no model\.onnx"):
        open_bundle(tmp_path / "b")
    (tmp_path / "b" / "model.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="not the model that the manifest describes"):
        open_bundle(tmp_path / "b")
    with pytest.raises(BundleError, match="an ONNX file, not a bundle"):
        open_bundle(tmp_path / "b" / "model.onnx")
    manifest = fresh().path / "manifest.json"
    whole = json.loads(manifest.read_text())
    for name in ("../elsewhere", "a/b", "a\\b", "..", ""):  # engines are named after the bundle
        manifest.write_text(json.dumps({**whole, "name": name}))
        with pytest.raises(BundleError, match="its name is not a plain file name"):
            open_bundle(tmp_path / "b")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "image_size": "large"}))
    with pytest.raises(BundleError, match="not a valid adq-edge/bundle file"):
        open_bundle(tmp_path / "b")
