"""Configurations for DeepStream's nvinfer.

nvinfer makes float planes of video frames, and the input of an engine is uint8 `[N, H, W, 3]`. So a TensorRT
engine gets its tensor from Gst-nvdspreprocess. A float32 ONNX engine is rewritten: its input becomes float32
`[N, 3, H, W]`, and nvinfer builds a TensorRT engine of it.
"""

from __future__ import annotations

from typing import Dict, List, Mapping, Sequence, Tuple

import onnx
from onnx import TensorProto, helper

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.errors import EngineError
from adq_edge.core.options import Precision
from adq_edge.packaging.source import Source
from adq_edge.quantization.graph.model_file import parse_model

_MODEL, _PLAN = "model_float_nchw.onnx", "model.plan"
_ADVICE = "Package the engine of build --fp32, or of build --device jetson on the board"
_INPUT_TO_ROWS = (0, 2, 3, 1)
_OTHER_NETWORK = 100


def deepstream_files(source: Source) -> Dict[str, bytes]:
    """Return the files by path.

    Raises:
        EngineError: an engine for CPUs that is not float32, or whose input is not cast to float first.
    """
    companions = {f"client/{name}": content for name, content in source.companions().items()}
    if source.sidecar.runtime == "tensorrt":
        files = {
            _PLAN: source.content,
            "nvinfer.txt": _sections(
                source, {"property": _inference(source, [("model-engine-file", _PLAN)])}
            ),
            "preprocess.txt": _preprocess(source),
        }
        return {**files, **companions}
    if source.sidecar.precision is not Precision.FP32:
        what = f"an {source.sidecar.precision.value} engine for CPUs, whose layers TensorRT would not run so"
        raise EngineError(what, where=source.path, fix=_ADVICE)
    properties = [
        ("onnx-file", _MODEL),
        ("network-mode", 0),
        ("infer-dims", ";".join(map(str, (3, *source.sidecar.image_size)))),
        ("net-scale-factor", "1.0"),
        ("model-color-format", 0),
        ("maintain-aspect-ratio", 0),
    ]
    return {
        _MODEL: float_planes(source),
        "nvinfer.txt": _sections(source, {"property": _inference(source, properties)}),
        **companions,
    }


def float_planes(source: Source) -> bytes:
    """Return the ONNX engine with the input float32 `[N, 3, H, W]`, values 0 to 255.

    Raises:
        EngineError: the input is used by something else than a cast to float32.
    """
    model = parse_model(source.content)
    graph = model.graph
    casts = [node for node in graph.node if INPUT in node.input]
    if not casts or not all(_is_cast_to_float(node) for node in casts):
        what = "its image is not cast to float32 first, so it cannot take float planes"
        raise EngineError(what, where=source.path, fix=_ADVICE)
    for number, cast in enumerate(casts):
        place = list(graph.node).index(cast)
        output = cast.output[0]
        graph.node.remove(cast)
        rows = helper.make_node("Transpose", [INPUT], [output], f"rows_{number}", perm=_INPUT_TO_ROWS)
        graph.node.insert(place, rows)
    shape = ["N", 3, *source.sidecar.image_size]
    graph.input[0].CopyFrom(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _is_cast_to_float(node: onnx.NodeProto) -> bool:
    kinds = [attribute.i for attribute in node.attribute if attribute.name == "to"]
    return node.op_type == "Cast" and kinds == [TensorProto.FLOAT]


def _inference(source: Source, properties: Sequence[Tuple[str, object]]) -> List[Tuple[str, object]]:
    return [
        ("gpu-id", 0),
        ("gie-unique-id", 1),
        ("process-mode", 1),
        ("batch-size", 1),
        ("network-type", _OTHER_NETWORK),
        ("output-tensor-meta", 1),
        *properties,
    ]


def _preprocess(source: Source) -> bytes:
    height, width = source.sidecar.image_size
    library = "/opt/nvidia/deepstream/deepstream/lib/gst-plugins/libcustom2d_preprocess.so"
    properties = [
        ("enable", 1),
        ("target-unique-ids", 1),
        ("network-input-order", 1),
        ("network-input-shape", f"1;{height};{width};3"),
        ("network-color-format", 0),
        ("tensor-data-type", 1),
        ("tensor-name", INPUT),
        ("processing-width", width),
        ("processing-height", height),
        ("scaling-buf-pool-size", 6),
        ("tensor-buf-pool-size", 6),
        ("maintain-aspect-ratio", 0),
        ("custom-lib-path", library),
        ("custom-tensor-preparation-function", "CustomTensorPreparation"),
    ]
    group = [("src-ids", 0), ("custom-input-transformation-function", "CustomAsyncTransformation")]
    user = [("pixel-normalization-factor", "1.0")]
    return _sections(source, {"property": properties, "user-configs": user, "group-0": group})


def _sections(source: Source, sections: Mapping[str, Sequence[Tuple[str, object]]]) -> bytes:
    lines = [f"# engine_sha256: {source.sidecar.engine_sha256}"]
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key}={value}" for key, value in values)]
    return ("\n".join(lines) + "\n").encode()
