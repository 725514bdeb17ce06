"""Models of bundles that are not what their manifests vouch for."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from pathlib import Path
from typing import Any, Callable, Dict

import onnx
import pytest
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import Bundle, Manifest, open_bundle
from adq_edge.builders.build import build
from adq_edge.calibration.calibrate import calibrate
from adq_edge.core.errors import AdqError, BundleError
from adq_edge.quantization.float_model import FloatModel
from adq_edge.roofline.estimate import estimate


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(str(bundle.model))


@pytest.fixture
def vouch(bundle: Bundle, tmp_path: Path) -> Callable[..., Bundle]:
    """Return a function that makes a bundle of any content, with the hash of it in the manifest."""

    def make(content: bytes, **changes: Any) -> Bundle:
        folder = tmp_path / "bundle"
        shutil.copytree(str(bundle.path), str(folder))
        (folder / "model.onnx").write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        manifest = Manifest.read(folder / "manifest.json")
        dataclasses.replace(manifest, model_sha256=sha256, **changes).write(folder / "manifest.json")
        return open_bundle(folder)

    return make


def first(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == kind)


def set_ints(model: onnx.ModelProto, kind: str, name: str, *values: int) -> None:
    node = first(model, kind)
    kept = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, values if len(values) > 1 else values[0])])


def store_outside(place: str) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=place)

    return edit


EDITS: Dict[str, Any] = {
    "no group": (lambda model: set_ints(model, "Conv", "group", 0), "is not a valid ONNX model"),
    "no stride": (lambda model: set_ints(model, "Conv", "strides", 0, 0), "is not a valid ONNX model"),
    "missing input": (lambda model: first(model, "Conv").ClearField("input"), "is not a valid ONNX model"),
    "missing weights": (lambda model: model.graph.ClearField("initializer"), "is not a valid ONNX model"),
    "no opset": (lambda model: model.ClearField("opset_import"), "is not a valid ONNX model"),
    "no outputs": (lambda model: model.graph.ClearField("output"), r"has the outputs \(none\)"),
    "weights beside it": (store_outside("weights.bin"), "keeps its weights in other files"),
    "weights above it": (store_outside("../weights.bin"), "keeps its weights in other files"),
    "weights elsewhere": (store_outside("/etc/passwd"), "keeps its weights in other files"),
}


@pytest.mark.parametrize("name", EDITS)
def test_unusable_model_with_a_matching_hash_is_refused(model: onnx.ModelProto, vouch: Any, name: str):
    edit, message = EDITS[name]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    edit(copy)
    with pytest.raises(BundleError, match=message) as caught:
        FloatModel.load(vouch(copy.SerializeToString()))
    assert "\n" not in str(caught.value)


def test_model_that_onnx_runtime_cannot_run_is_refused_by_calibration(
    model: onnx.ModelProto, vouch: Any, capfd: Any
):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    relu = first(copy, "Relu")
    relu.op_type, relu.domain = "Sharpen", "custom"
    copy.opset_import.append(helper.make_opsetid("custom", 1))
    with pytest.raises(AdqError, match=r"ONNX Runtime cannot run the model .*Sharpen") as caught:
        calibrate(vouch(copy.SerializeToString()).path, source="random-normal", samples=1)
    assert "\n" not in str(caught.value)
    assert "onnxruntime:" not in capfd.readouterr().err


@pytest.mark.parametrize("content", [b"", b"a text\n" * 99, b"\x08\x08"])
def test_file_of_another_format_is_refused_by_every_verb(vouch: Any, content: bytes, tmp_path: Path):
    path = vouch(content).path
    for verb in (build, estimate):
        with pytest.raises(BundleError, match="is not an ONNX file"):
            verb(path, tmp_path / "output")


@pytest.mark.parametrize(
    "changes", [{"image_size": (32, 160000)}, {"map_size": (0, 1)}, {"image_size": (8, 8)}]
)
def test_sizes_that_are_not_those_of_the_model_are_refused(
    model: onnx.ModelProto, vouch: Any, changes: Dict[str, Any]
):
    with pytest.raises(BundleError, match=r"its image size is|its map size is|has the tensor image"):
        FloatModel.load(vouch(model.SerializeToString(), **changes))


def test_model_that_is_replaced_after_the_bundle_was_opened_is_refused(bundle: Bundle, tmp_path: Path):
    folder = tmp_path / "bundle"
    shutil.copytree(str(bundle.path), str(folder))
    opened = open_bundle(folder)
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="is not the model that the manifest describes"):
        FloatModel.load(opened)
