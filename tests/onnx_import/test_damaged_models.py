"""Damaged and hostile models end in one line that says what was found."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import pytest
from onnx import helper

from adq_edge.core.errors import ForeignModelError
from adq_edge.onnx_import.import_model import import_model
from adq_edge.onnx_import.inspection import inspect_model
from adq_edge.onnx_import.options import ImportOptions
from factories.foreign_models import GraphWriter, plain, plain_model, save


def unknown_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[2].attribute.append(helper.make_attribute("nonsense", [1, 2]))


def short_values(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].raw_data = b"1234"


def huge_sizes(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].dims[:] = [2**20, 2**20, 2**10]


def negative_size(model: onnx.ModelProto) -> None:
    model.graph.initializer[2].dims[0] = -8


def no_version(model: onnx.ModelProto) -> None:
    model.ClearField("ir_version")


@pytest.mark.parametrize("damage", [unknown_attribute, short_values, huge_sizes, negative_size, no_version])
def test_damaged_model_is_refused_in_one_line(damage: Callable[[onnx.ModelProto], None], tmp_path: Path):
    model = plain()
    damage(model)
    source = save(model, tmp_path / "model.onnx")
    with pytest.raises(ForeignModelError, match=r"model\.onnx: (is not a valid ONNX model|ONNX Runtime)"):
        import_model(source, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    with contextlib.suppress(ForeignModelError):
        assert inspect_model(source).problems


def test_graph_that_cannot_run_is_refused_in_one_line(tmp_path: Path):
    writer = GraphWriter()
    repeats = np.array([1, 1, 2**14, 2**14], np.int64)
    tiles = writer.add("Tile", writer.network(writer.add("Div", "x", np.float32(255))), repeats)
    writer.add("ReduceMax", tiles, output="score", axes=[1, 2, 3], keepdims=0)
    source = save(writer.model({"x": ["N", 3, 32, 32]}, {"score": ["N"]}), tmp_path / "model.onnx")
    with pytest.raises(ForeignModelError, match="ONNX Runtime cannot run it on an image") as caught:
        import_model(source, tmp_path / "bundle")
    assert "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "words"),
    [([2**30, 3, 32, 32], "at most 256 images"), (["N", 3, 2**20, 2**20], "pixels; the limits are")],
)
def test_sizes_beyond_all_memory_are_refused(shape, words: str, tmp_path: Path):
    writer = GraphWriter()
    writer.add("Identity", writer.network(writer.add("Div", "x", np.float32(255))), output="map")
    model = writer.model({"x": shape}, {"map": [None, 1, None, None]})
    with pytest.raises(ForeignModelError, match=words):
        import_model(save(model, tmp_path / "model.onnx"), tmp_path / "bundle")


def test_size_of_minus_one_is_dynamic(tmp_path: Path):
    source = plain_model(tmp_path / "model.onnx", batch=-1, size=-1)
    with pytest.raises(ForeignModelError, match="takes images of any height and width"):
        import_model(source, tmp_path / "bundle")
    bundle = import_model(source, tmp_path / "bundle", options=ImportOptions(image_size=(32, 48)))
    assert bundle.manifest.image_size == (32, 48)


@pytest.mark.parametrize(
    "values", [{"mean": (np.nan, 0, 0), "std": (1, 1, 1)}, {"mean": (0, 0, 0), "std": (np.inf, 1, 1)}]
)
def test_numbers_that_are_not_finite_are_refused(values):
    with pytest.raises(ForeignModelError, match="finite"):
        ImportOptions(**values)


def test_model_without_float_outputs_is_refused_with_their_types(tmp_path: Path):
    model = plain(size=16)
    model.graph.node.append(helper.make_node("Cast", ["map"], ["labels"], to=onnx.TensorProto.INT64))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("labels", onnx.TensorProto.INT64, None))
    with pytest.raises(ForeignModelError, match=r"no float output .* labels int64"):
        import_model(save(model, tmp_path / "model.onnx"), tmp_path / "bundle")
