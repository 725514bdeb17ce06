"""Write files that are no plain anomaly model: each is refused in one line, or imported with an option.

python -m benchmarks.foreign.odd_files FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.foreign.small_graphs import SIDE, Dim, Graph


def detector(shape: Sequence[Dim] = ("N", 3, SIDE, SIDE)) -> Graph:
    """Return a plain model with a map and a score."""
    graph = Graph(shape)
    anomaly_map = graph.map_of(graph.trunk())
    batch = shape[0]
    graph.output(anomaly_map, "anomaly_map", [batch, 1, "h", "w"])
    graph.output(graph.score_of(anomaly_map), "pred_score", [batch])
    return graph


def classifier() -> onnx.ModelProto:
    """A classifier: logits [N, 1000]."""
    graph = Graph()
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", graph.trunk()))
    weight = graph.weight(np.random.default_rng(1).normal(0, 0.1, (16, 1000)).astype(np.float32))
    graph.output(graph.node("MatMul", pooled, weight), "logits", ["N", 1000])
    return graph.model()


def one_logit() -> onnx.ModelProto:
    """A binary classifier: one sigmoid output [N, 1], which could be a score."""
    graph = Graph()
    pooled = graph.node("Flatten", graph.node("GlobalAveragePool", graph.trunk()))
    weight = graph.weight(np.random.default_rng(1).normal(0, 0.1, (16, 1)).astype(np.float32))
    graph.output(graph.node("Sigmoid", graph.node("MatMul", pooled, weight)), "probability", ["N", 1])
    return graph.model()


def boxes() -> onnx.ModelProto:
    """An object detector: NonMaxSuppression over boxes and class scores."""
    graph = Graph((1, 3, SIDE, SIDE))
    flat = graph.node("Reshape", graph.trunk(), graph.weight(np.int64([1, 16, 256])))
    places, scores = graph.node("Split", flat, graph.weight(np.int64([4, 12])), count=2, axis=1)
    chosen = graph.node(
        "NonMaxSuppression",
        graph.node("Transpose", places, perm=[0, 2, 1]),
        scores,
        graph.weight(np.int64([20])),
        graph.weight(np.float32([0.5])),
        graph.weight(np.float32([0.1])),
    )
    graph.output(graph.node("Transpose", places, perm=[0, 2, 1]), "boxes", [1, 256, 4])
    graph.output(chosen, "selected", ["M", 3], TensorProto.INT64)
    return graph.model()


def segmentation() -> onnx.ModelProto:
    """A segmentation network: [N, 5, H, W] class logits."""
    graph = Graph()
    graph.output(graph.convolution(graph.trunk(), 16, 5), "classes", ["N", 5, 16, 16])
    return graph.model()


def two_maps() -> onnx.ModelProto:
    """Two maps of different methods and no hint which one counts."""
    graph = Graph()
    features = graph.trunk()
    graph.output(graph.map_of(features), "student", ["N", 1, 16, 16])
    graph.output(graph.map_of(features), "autoencoder", ["N", 1, 16, 16])
    return graph.model()


def no_score() -> onnx.ModelProto:
    """A map and no score."""
    graph = Graph()
    graph.output(graph.map_of(graph.trunk()), "output", ["N", 1, 16, 16])
    return graph.model()


def no_map() -> onnx.ModelProto:
    """A score and no map."""
    graph = Graph()
    graph.output(graph.score_of(graph.map_of(graph.trunk())), "score", ["N"])
    return graph.model()


def fixed_batch() -> onnx.ModelProto:
    """A batch of exactly 8."""
    return detector((8, 3, SIDE, SIDE)).model()


def dynamic_height() -> onnx.ModelProto:
    """Any height and width, and no size in the file."""
    return detector(("N", 3, "height", "width")).model()


def nothing_static() -> onnx.ModelProto:
    """No dimension has a name or a number."""
    model = detector().model()
    for dimension in model.graph.input[0].type.tensor_type.shape.dim:
        dimension.Clear()
    return model


def nhwc_float() -> onnx.ModelProto:
    """Float input in [N, H, W, 3], 0..255, divided and transposed in the graph."""
    graph = Graph(("N", SIDE, SIDE, 3))
    scaled = graph.node(
        "Div", graph.node("Transpose", "input", perm=[0, 3, 1, 2]), graph.weight(np.float32(255))
    )
    anomaly_map = graph.map_of(graph.trunk(scaled))
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(anomaly_map), "pred_score", ["N"])
    return graph.model()


def nhwc_uint8() -> onnx.ModelProto:
    """The contract of adq-edge's own bundles, by another tool."""
    graph = Graph(("N", SIDE, SIDE, 3), TensorProto.UINT8)
    moved = graph.node("Transpose", graph.node("Cast", "input", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    anomaly_map = graph.map_of(graph.trunk(graph.node("Div", moved, graph.weight(np.float32(255)))))
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(anomaly_map), "anomaly_score", ["N"])
    return graph.model()


def float16() -> onnx.ModelProto:
    """Weights, input and outputs in float16."""
    model = detector().model()
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype == np.float32:
            weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), weight.name))
    for info in [*model.graph.input, *model.graph.output]:
        info.type.tensor_type.elem_type = TensorProto.FLOAT16
    return model


def gray() -> onnx.ModelProto:
    """One input channel."""
    graph = Graph(("N", 1, SIDE, SIDE))
    anomaly_map = graph.map_of(graph.trunk("input", 1))
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(anomaly_map), "pred_score", ["N"])
    return graph.model()


def video() -> onnx.ModelProto:
    """Eight frames at a time: [N, 8, 3, H, W]."""
    graph = Graph(("N", 8, 3, SIDE, SIDE))
    mean = graph.node("ReduceMean", "input", axes=[1], keepdims=0)
    anomaly_map = graph.map_of(graph.trunk(mean))
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(anomaly_map), "pred_score", ["N"])
    return graph.model()


def two_inputs() -> onnx.ModelProto:
    """An image and a threshold as inputs."""
    graph = detector()
    model = graph.model()
    model.graph.input.append(helper.make_tensor_value_info("threshold", TensorProto.FLOAT, []))
    last = model.graph.node[-1]
    model.graph.node.insert(
        len(model.graph.node) - 1, helper.make_node("Sub", [last.input[0], "threshold"], ["above"])
    )
    last.input[0] = "above"
    return model


def custom_operator() -> onnx.ModelProto:
    """An operator that no runtime knows."""
    graph = Graph()
    features = graph.trunk()
    normal = graph.node("NearestNeighbour", features, domain="com.example")
    graph.output(graph.map_of(normal), "anomaly_map", ["N", 1, 16, 16])
    return graph.model()


def unknown_operator() -> onnx.ModelProto:
    """A misspelt operator of the standard domain."""
    graph = Graph()
    graph.output(graph.map_of(graph.node("Convolve", graph.trunk())), "anomaly_map", ["N", 1, 16, 16])
    return graph.model()


def loop() -> onnx.ModelProto:
    """A map that a Loop smooths three times."""
    graph = Graph()
    anomaly_map = graph.map_of(graph.trunk())
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["keep"], ["keep_out"]),
            helper.make_node("AveragePool", ["state"], ["state_out"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, ["N", 1, 16, 16]),
        ],
        [
            helper.make_tensor_value_info("keep_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state_out", TensorProto.FLOAT, ["N", 1, 16, 16]),
        ],
    )
    smooth = graph.node(
        "Loop", graph.weight(np.int64(3)), graph.weight(np.bool_(True)), anomaly_map, body=body
    )
    graph.output(smooth, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(smooth), "pred_score", ["N"])
    return graph.model()


def quantized() -> onnx.ModelProto:
    """A graph that already has QuantizeLinear and DequantizeLinear."""
    graph = Graph()
    scale, zero = graph.weight(np.float32(1 / 255)), graph.weight(np.uint8(0))
    coarse = graph.node("DequantizeLinear", graph.node("QuantizeLinear", "input", scale, zero), scale, zero)
    anomaly_map = graph.map_of(graph.trunk(coarse))
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(anomaly_map), "pred_score", ["N"])
    return graph.model()


def not_a_number() -> onnx.ModelProto:
    """One weight is NaN."""
    model = detector().model()
    weight = model.graph.initializer[0]
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    return model


def batch_dependent() -> onnx.ModelProto:
    """Scores are divided by the largest score of the batch: an image's score depends on its neighbours."""
    graph = Graph()
    anomaly_map = graph.map_of(graph.trunk())
    score = graph.score_of(anomaly_map)
    largest = graph.node("ReduceMax", score, axes=[0], keepdims=1)
    graph.output(anomaly_map, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.node("Div", score, largest), "pred_score", ["N"])
    return graph.model()


def constant_map() -> onnx.ModelProto:
    """A map that does not depend on the image."""
    graph = Graph()
    zero = graph.node("Mul", graph.map_of(graph.trunk()), graph.weight(np.float32(0)))
    graph.output(zero, "anomaly_map", ["N", 1, 16, 16])
    graph.output(graph.score_of(zero), "pred_score", ["N"])
    return graph.model()


def old_opset() -> onnx.ModelProto:
    """Opset 9, of PyTorch 1.2."""
    graph = Graph()
    graph.output(graph.map_of(graph.trunk()), "anomaly_map", ["N", 1, 16, 16])
    model = graph.model()
    model.opset_import[0].version = 9
    return model


def new_opset() -> onnx.ModelProto:
    """An opset that no released onnx has."""
    model = detector().model()
    model.opset_import[0].version = 99
    return model


PLAIN = (
    classifier,
    one_logit,
    boxes,
    segmentation,
    two_maps,
    no_score,
    no_map,
    fixed_batch,
    dynamic_height,
    nothing_static,
    nhwc_float,
    nhwc_uint8,
    float16,
    gray,
    video,
    two_inputs,
    custom_operator,
    unknown_operator,
    loop,
    quantized,
    not_a_number,
    batch_dependent,
    constant_map,
    old_opset,
    new_opset,
)


def save_external(model: onnx.ModelProto, path: Path, location: Optional[str] = None) -> None:
    """Save a model with its weights beside it, or with another location in the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=True,
        location="weights.data",
        size_threshold=0,
        convert_attribute=True,
    )
    if location is not None:
        changed = onnx.load(str(path), load_external_data=False)
        for weight in changed.graph.initializer:
            for entry in weight.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(changed.SerializeToString())


def write_broken(folder: Path) -> None:
    """Write files whose bytes, external data or metadata are wrong."""
    save_external(detector().model(), folder / "external_missing" / "model.onnx")
    (folder / "external_missing" / "weights.data").unlink()
    save_external(detector().model(), folder / "external_short" / "model.onnx")
    data = folder / "external_short" / "weights.data"
    data.write_bytes(data.read_bytes()[:100])
    save_external(detector().model(), folder / "external_outside" / "inner" / "model.onnx", "../weights.data")
    inside = folder / "external_outside" / "inner" / "weights.data"
    inside.rename(folder / "external_outside" / "weights.data")
    save_external(detector().model(), folder / "external_absolute" / "model.onnx", "/etc/passwd")
    save_external(detector().model(), folder / "external_link" / "model.onnx")
    linked = folder / "external_link" / "weights.data"
    linked.rename(folder / "link_target.data")
    linked.symlink_to("../link_target.data")
    whole = detector().model().SerializeToString()
    (folder / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    (folder / "noise.onnx").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "page.onnx").write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>\n")
    (folder / "pointer.onnx").write_text(
        "version https://git-lfs.github.com/spec/v1\n"
        "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
    )
    graphless = onnx.ModelProto(ir_version=8)
    (folder / "graphless.onnx").write_bytes(graphless.SerializeToString())


def write_other_metadata(folder: Path) -> None:
    """Write anomalib 1.x metadata.json files that contradict the model beside them."""
    place = folder / "other_metadata"
    place.mkdir(parents=True, exist_ok=True)
    onnx.save_model(detector().model(), str(place / "model.onnx"))
    resize = {"height": 256, "width": 256, "interpolation": 1, "p": 1, "always_apply": True}
    metadata: Dict[str, Any] = {
        "task": "segmentation",
        "transform": {
            "transform": {"transforms": [{"__class_fullname__": "Resize", **resize}]},
        },
        "image_threshold": 13.2,
        "pixel_threshold": 11.1,
        "min": 0.5,
        "max": 30.0,
    }
    (place / "metadata.json").write_text(json.dumps(metadata))
    torn = folder / "torn_metadata"
    torn.mkdir(parents=True, exist_ok=True)
    onnx.save_model(detector().model(), str(torn / "model.onnx"))
    (torn / "metadata.json").write_text('{"task": "segmentation", "image_thr')


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True, exist_ok=True)
    for make in PLAIN:
        onnx.save_model(make(), str(folder / f"{make.__name__}.onnx"))
    write_broken(folder)
    write_other_metadata(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
