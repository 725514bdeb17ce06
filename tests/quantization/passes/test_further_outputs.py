"""The embedding and the scale maps change no other output of an engine, and are float32 in all of them."""

from __future__ import annotations

import importlib.util
from typing import Any, Dict, List, NamedTuple, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from adq_edge.core.options import Precision, Route, Target
from adq_edge.metrics.snr import snr_db
from adq_edge.models.config import ModelConfig
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.onnx_export.export import to_onnx
from adq_edge.quantization.equalization import channel_groups, equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext, run_passes
from factories.activations import Ranges, measured_ranges
from factories.images import make_model

MAP_AND_SCORE = ["anomaly_map", "anomaly_score"]


class Case(NamedTuple):
    images: np.ndarray
    model: onnx.ModelProto
    plain: onnx.ModelProto
    ranges: Ranges
    expected: List[np.ndarray]


def without_further_outputs(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[2:]
    editor = GraphEditor(copy)
    editor.clean_up()
    return editor.model()


def with_scaled_channels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Equalize a model as calibration does: the scoring then reads features behind a product."""
    opened, shapes, random = FloatModel.of(model), GraphEditor(model).shapes(), np.random.default_rng(1)
    first = [members[0] for members in channel_groups(opened.region, opened.index)]
    return equalize(opened, {name: random.uniform(0.2, 1, shapes[name][1]) for name in first}).proto


@pytest.fixture(scope="module", params=["stfpm", "reverse-distillation", "uninformed-students"])
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("resnet", "reverse_blocks"):
            patch.setattr(f"adq_edge.models.{module}.PLANES", (64, 64, 64))
        patch.setattr("adq_edge.models.reverse_blocks.EMBEDDING_PLANES", 64)
        return make_case(request.param)


def make_case(name: str) -> Case:
    """Make a method of few channels; its graph has all operators of the whole one."""
    if name == "stfpm":
        method: Any = make_model()
    elif name == "reverse-distillation":
        method = ReverseDistillation(
            ModelConfig(image_size=(64, 64), options={"backbone": "resnet18"})
        ).eval()
    else:
        options = {"stride": 2, "students": 2}
        method = UninformedStudents(ModelConfig(image_size=(36, 40), options=options)).eval()
    images = np.random.default_rng(0).integers(0, 256, (3, *method.config.image_size, 3), np.uint8)
    model = to_onnx(method, method.config.image_size)
    with torch.inference_mode():
        expected = [output.numpy() for output in method(torch.from_numpy(images))]
    model = with_scaled_channels(model)
    plain = without_further_outputs(model)
    return Case(images, model, plain, measured_ranges(plain, images), expected)


def run(model: onnx.ModelProto, images: np.ndarray) -> Dict[str, np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [item.name for item in model.graph.output]
    return dict(zip(names, session.run(names, {"image": images})))


def run_openvino(model: onnx.ModelProto, images: np.ndarray) -> Dict[str, np.ndarray]:
    import openvino

    core = openvino.Core()
    opened = core.read_model(model.SerializeToString())
    opened.reshape(list(images.shape))
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": "1"}
    compiled = core.compile_model(opened, "CPU", settings)
    kinds = [node.get_rt_info() for node in compiled.get_runtime_model().get_ops()]
    reductions = [kind for kind in kinds if kind["layerType"].astype(str) == "Reduce"]
    assert {kind["runtimePrecision"].astype(str) for kind in reductions} <= {"f32"}
    request = compiled.create_infer_request()
    request.infer([images])
    return {item.name: request.get_tensor(item.name).data.copy() for item in model.graph.output}


RUNTIMES: Dict[str, Tuple[Any, Any]] = {"onnxruntime": (pipelines.ONNXRUNTIME, run)}
if importlib.util.find_spec("openvino"):
    RUNTIMES["openvino"] = pipelines.OPENVINO, run_openvino


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.INT8])
def test_map_and_score_are_bit_identical_without_further_outputs(
    case: Case, runtime: str, precision: Precision
):
    passes, infer = RUNTIMES[runtime]
    context = PassContext(Target.X86, case.ranges)
    full, plain = (
        infer(run_passes(m, passes[precision], context), case.images) for m in (case.model, case.plain)
    )
    for name in MAP_AND_SCORE:
        np.testing.assert_array_equal(full[name], plain[name])
    assert list(full) == [*MAP_AND_SCORE, "embedding", *(f"scale_map_{i}" for i in range(1, len(full) - 2))]
    for expected, values in zip(case.expected, full.values()):
        assert (values.dtype, values.shape) == (np.float32, expected.shape)
        assert snr_db(expected, values) > (80 if precision is Precision.FP32 else 0)


@pytest.mark.parametrize("target", list(Target))
def test_further_outputs_add_no_quantization(case: Case, target: Target):
    models = FloatModel.of(case.model), FloatModel.of(case.plain)
    assert models[0].region.measured == models[1].region.measured
    context = PassContext(target, case.ranges)
    passes = (
        pipelines.TENSORRT[Route.TYPED][Precision.INT8]
        if target is Target.TENSORRT
        else (pipelines.insert_qdq,)
    )
    full, plain = (run_passes(model.proto, passes, context) for model in models)
    kinds = {"QuantizeLinear", "DequantizeLinear", "Conv", "Cast"}
    nodes = [[(n.name, n.op_type) for n in m.graph.node if n.op_type in kinds] for m in (full, plain)]
    assert sorted(nodes[0]) == sorted(nodes[1])
