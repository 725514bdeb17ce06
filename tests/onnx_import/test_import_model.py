from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.core.errors import ForeignModelError
from adq_edge.core.images.imaging import write_image
from adq_edge.onnx_import import external_data
from adq_edge.onnx_import.import_model import import_model
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.source import read_source
from adq_edge.onnx_import.tools import recognize_tool
from factories.foreign_models import anomalib_model, plain, plain_model, save

SIZE = 32


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)


def run(model: Path, **inputs: np.ndarray):
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, inputs)))


def test_model_of_anomalib_gives_its_raw_map_and_score(tmp_path: Path, images: np.ndarray):
    source = anomalib_model(tmp_path / "padim" / "weights" / "onnx" / "model.onnx", external=True)
    bundle = import_model(tmp_path / "padim", tmp_path / "bundle")
    manifest = open_bundle(bundle.path).manifest
    assert (manifest.arch, manifest.origin, manifest.image_size) == ("padim", "anomalib 2 ONNX", (SIZE, SIZE))
    assert manifest.imported is not None
    assert manifest.imported.numbers["score threshold"] == pytest.approx(0.4)
    assert manifest.imported.assumed == ()
    found = run(bundle.model, image=images)
    expected = run(source, input=images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    again = np.clip((found["anomaly_score"] - 0.4) / 0.7 + 0.5, 0, 1)
    np.testing.assert_allclose(again, expected["pred_score"].ravel(), atol=1e-5)
    again = np.clip((found["anomaly_map"] - 0.3) / 0.9 + 0.5, 0, 1)
    np.testing.assert_allclose(again, expected["anomaly_map"][:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("folder", "anomalib", "plain"),
    [
        ("results/Padim/MVTecAD/bottle/latest", "padim", "imported"),
        ("Padim/glass", "imported", "imported"),  # a product is often named so, and there is a method GLASS
        ("reverse-distillation_v2", "reverse-distillation", "imported"),
        ("glasses", "imported", "imported"),
    ],
)
def test_folders_name_the_method_of_models_of_anomalib_only(folder: str, anomalib: str, plain: str):
    with tempfile.TemporaryDirectory(prefix="x") as root:  # tmp_path has the name of this test
        place = Path(root) / folder
        found = recognize_tool(read_source(anomalib_model(place / "model.onnx")))
        assert (found.arch, found.origin) == (anomalib, "anomalib 2 ONNX")
        assert recognize_tool(read_source(plain_model(place / "other.onnx"))).arch == plain
        assert recognize_tool(read_source(plain_model(place / "padim-line3.onnx"))).arch == "padim"


def test_postprocessing_is_kept_if_asked(tmp_path: Path, images: np.ndarray):
    source = anomalib_model(tmp_path / "model.onnx")
    bundle = import_model(source, tmp_path / "bundle", options=ImportOptions(keep_postprocessing=True))
    expected = run(source, input=images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    np.testing.assert_allclose(
        run(bundle.model, image=images)["anomaly_map"], expected["anomaly_map"][:, 0], atol=1e-5
    )


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
@pytest.mark.parametrize("batch", [1, 2, 8, "N"])
def test_bundle_takes_any_number_of_images(batch, opset: int, tmp_path: Path, images: np.ndarray):
    source = plain_model(tmp_path / "plain.onnx", batch=batch, opset=opset)
    bundle = import_model(source, tmp_path / "bundle")
    pixels = images.transpose(0, 3, 1, 2).astype(np.float32) / 255
    if batch != "N":
        pixels = np.concatenate([pixels, pixels, pixels])[:batch]
    expected = run(source, x=pixels)["map"][:1, 0]
    for count in (1, 3):
        found = run(bundle.model, image=images[:count])
        np.testing.assert_allclose(found["anomaly_map"][:1], expected, rtol=1e-4)
        np.testing.assert_allclose(found["anomaly_score"], found["anomaly_map"].max(axis=(1, 2)))
    graph = onnx.load(str(bundle.model))
    assert {item.version for item in graph.opset_import} == {17}


def test_missing_weights_file_is_named(tmp_path: Path):
    source = anomalib_model(tmp_path / "model.onnx", external=True)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(ForeignModelError, match=r"weights file model\.onnx\.data is missing"):
        import_model(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path):
    source = anomalib_model(tmp_path / "a" / "model.onnx", external=True)
    shutil.move(str(tmp_path / "a" / "model.onnx.data"), str(tmp_path / "model.onnx.data"))
    model = onnx.load(str(source), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../model.onnx.data"
    source.write_bytes(model.SerializeToString())
    with pytest.raises(ForeignModelError, match="outside of the model's folder"):
        import_model(source, tmp_path / "bundle")


def test_tensors_that_share_bytes_of_a_weights_file_take_no_more_memory_than_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    model = onnx.load(str(anomalib_model(tmp_path / "model.onnx", external=True)), load_external_data=False)
    shared = next(tensor for tensor in model.graph.initializer if tensor.external_data)
    for number in range(2000):
        model.graph.initializer.add().CopyFrom(shared)
        model.graph.initializer[-1].name = f"copy{number}"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    monkeypatch.setattr(external_data, "LARGEST_MODEL", 2**20)
    with pytest.raises(ForeignModelError, match="an ONNX model has at most 2 GB"):
        import_model(tmp_path / "model.onnx", tmp_path / "bundle")


def test_comparison_takes_a_dataset_of_test_images_only(tmp_path: Path, images: np.ndarray):
    for number, image in enumerate(images):
        write_image(tmp_path / "data" / "test" / "good" / f"{number}.png", image)
    bundle = import_model(plain_model(tmp_path / "m.onnx"), tmp_path / "bundle", data=tmp_path / "data")
    assert bundle.manifest.parity.images == len(images)


def test_comparison_on_one_image_is_completed_with_drawn_ones(tmp_path: Path, images: np.ndarray):
    write_image(tmp_path / "data" / "test" / "good" / "only.png", images[0])
    bundle = import_model(plain_model(tmp_path / "m.onnx"), tmp_path / "bundle", data=tmp_path / "data")
    assert bundle.manifest.parity.images == 3
    assert bundle.manifest.parity.source == f"{tmp_path / 'data'}; 2 drawn by adq-edge"


def test_tensor_with_a_name_like_a_renamed_one_keeps_its_name(tmp_path: Path):
    model = plain(size=16)
    del model.graph.value_info[:]
    for node in model.graph.node:
        node.output[:] = [name.replace("map", "heat.original") for name in node.output]
        node.input[:] = [name.replace("map", "heat.original") for name in node.input]
    model.graph.output[0].name = "heat.original"
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert import_model(tmp_path / "m.onnx", tmp_path / "bundle").manifest.parity.holds


def test_classifier_is_refused_with_its_outputs(tmp_path: Path):
    model = plain(size=16)
    model.graph.node.append(onnx.helper.make_node("Flatten", ["map"], ["logits"]))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("logits", 1, ["N", None]))
    with pytest.raises(ForeignModelError, match=r"no output that can be an anomaly map .* logits \[N, 16\]"):
        import_model(save(model, tmp_path / "model.onnx"), tmp_path / "bundle")
