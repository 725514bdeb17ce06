from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from adq_edge.core.images.imaging import read_image, resize_image
from adq_edge.datasets.dataset import read_dataset
from benchmarks.foreign import table
from benchmarks.foreign.exports import Export, make_missing
from benchmarks.foreign.measuring import Settings, measure
from benchmarks.foreign.recipes import RECIPES
from factories.foreign_models import MEAN, STD, GraphWriter

SIZE = 64


def write_export(folder, category, score_factor=1.0):
    """Write a small model as `train.py` does, with its answers for test images; scores times a factor."""
    writer = GraphWriter()
    normalized = writer.add("Div", writer.add("Sub", "input", MEAN), STD)
    anomaly_map = writer.add("Identity", writer.network(normalized), output="anomaly_map")
    writer.reduce("ReduceMax", anomaly_map, [1, 2, 3], keepdims=0, output="pred_score")
    for node in writer.nodes:
        if node.op_type == "Conv":
            node.attribute.append(onnx.helper.make_attribute("kernel_shape", [3, 3]))
    outputs = {"pred_score": ["N"], "anomaly_map": ["N", 1, SIZE // 4, SIZE // 4]}
    path = folder / "weights" / "onnx" / "model.onnx"
    path.parent.mkdir(parents=True)
    onnx.save(writer.model({"input": ["N", 3, SIZE, SIZE]}, outputs), str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answers = {}
    for i in range(8):
        image = resize_image(read_image(category.test[i % len(category.test)].path), (SIZE, SIZE))
        fed = {"input": np.float32(image).transpose(2, 0, 1)[None] / 255}
        score, raw = session.run(["pred_score", "anomaly_map"], fed)
        answers.update({f"image_{i}": image, f"sized_raw_anomaly_map_{i}": raw})
        answers[f"sized_raw_pred_score_{i}"] = score * np.float32(score_factor)
    np.savez(folder / "reference.npz", **answers)
    return Export("stfpm", category.name, folder)


@pytest.fixture(scope="module")
def category(dataset):
    return read_dataset(dataset).categories[0]


@pytest.fixture(scope="module")
def found(tmp_path_factory, dataset, category, one_thread):
    """Figures of a model whose tool gave scores that are 1 % higher than its file gives."""
    work = tmp_path_factory.mktemp("foreign")
    settings = Settings(dataset, 4, 6, 2, None, 1)
    return measure(write_export(work / "export", category, 1.01), settings, work)


def test_an_import_is_compared_with_the_answers_of_the_tool(found):
    assert set(found["parity"]) == {"onnxruntime", "openvino"}
    for difference in found["parity"].values():
        assert difference["map"] < 1e-4
        assert difference["score"] == pytest.approx(0.01 / 1.01, rel=0.05)


def test_every_engine_has_an_auroc_and_a_time(found):
    engines = {"fp32_onnxruntime", "fp32_openvino", "int8_onnxruntime", "int8_openvino"}
    assert found["failures"] == {}
    assert engines <= set(found["p50_ms"])
    assert set(found["image_auroc"]) == {*found["p50_ms"], "original"}
    assert found["image_auroc"]["fp32_onnxruntime"] == found["image_auroc"]["original"]
    cells = table.row(json.loads(json.dumps(found)))
    assert len(cells) == len(table.HEADINGS)
    assert "failed" not in cells


def test_a_refused_model_has_the_line_of_the_refusal(tmp_path, dataset, category):
    export = write_export(tmp_path / "export", category)
    export.model.write_bytes(export.model.read_bytes()[:200])
    found = measure(export, Settings(dataset, 4, 6, 0, None, 1), tmp_path)
    assert "crashed" not in found
    assert table.row(found)[1].startswith("refused: ")


def test_an_export_that_the_tool_refused_has_the_line_of_the_tool(tmp_path, dataset):
    export = Export("cfa", "bolt", tmp_path)
    (tmp_path / "failed.txt").write_text("train: URLError: no network\n")
    found = measure(export, Settings(dataset, 4, 6, 0, None, 1), tmp_path)
    assert table.row(found)[1] == "not exported: train: URLError: no network"
    make_missing([export], tmp_path / "no-python", dataset, int8=False)  # a failed one is not tried again


def test_recipes_are_plain_data():
    for recipe in RECIPES.values():
        assert json.loads(json.dumps(recipe.arguments)) == recipe.arguments
