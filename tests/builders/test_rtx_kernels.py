"""A gate on the kernels that TensorRT-RTX makes of each method, in FP16 and INT8."""

from __future__ import annotations

from typing import Iterator, NamedTuple, Tuple

import numpy as np
import onnx
import pytest
import torch

from adq_edge.core.options import Precision, Target
from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.registry import METHODS
from adq_edge.onnx_export.export import to_onnx
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.passes.batch_of_one import fix_batch_of_one
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.quantization.passes.pipelines import TENSORRT_RTX
from adq_edge.runtimes.tensorrt.inspection import describe_rounding
from conftest import NARROW
from factories.activations import Ranges, measured_ranges

pytest.importorskip("tensorrt_rtx", reason="pip install adq-edge[rtx]", exc_type=ImportError)
pytestmark = pytest.mark.usefixtures("one_thread")


class Limits(NamedTuple):
    """Largest numbers of kernels of one method: in FP16, in INT8, and those in INT8 that only round."""

    fp16: int
    int8: int
    rounding: int


LIMITS = {
    "stfpm": Limits(45, 49, 12),
    "paste": Limits(46, 57, 20),
    "reverse-distillation": Limits(53, 71, 29),
    "uninformed-students": Limits(26, 29, 4),
}
OPTIONS = {
    "reverse-distillation": {"backbone": "resnet18"},
    "uninformed-students": {"students": 2, "stride": 4},
}
SIZE = 64


class Made(NamedTuple):
    """A method's float model and its ranges."""

    model: onnx.ModelProto
    ranges: Ranges


@pytest.fixture(scope="module", params=sorted(LIMITS))
def made(request: pytest.FixtureRequest) -> Iterator[Tuple[str, Made]]:
    arch: str = request.param
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), np.uint8)
    with pytest.MonkeyPatch.context() as patch:
        if arch != "reverse-distillation":  # its decoder has the usual number of channels
            patch.setattr("adq_edge.models.resnet.PLANES", NARROW)
        torch.manual_seed(0)
        method: AnomalyModel = METHODS[arch](
            ModelConfig(image_size=(SIZE, SIZE), options=OPTIONS.get(arch, {}))
        )
        model = to_onnx(method.eval(), (SIZE, SIZE))
        yield arch, Made(model, measured_ranges(model, images))


def test_fp16_kernels(made: Tuple[str, Made]):
    from factories.rtx import compile_kernels

    arch, (model, _) = made
    graph = run_passes(model, (*TENSORRT_RTX[Precision.FP16], fix_batch_of_one))
    kernels = compile_kernels(graph.SerializeToString(), "SM86", SIZE)
    assert {kernel.precision for kernel in kernels if kernel.is_product} <= {"FP16", "FP32"}
    assert len(kernels) <= LIMITS[arch].fp16


def test_int8_kernels(made: Tuple[str, Made]):
    """All planned layers have integer kernels, which write float16; no kernel rounds without one."""
    from factories.rtx import compile_kernels

    arch, (model, ranges) = made
    region = FloatModel.of(model).region
    context = PassContext(Target.TENSORRT, ranges, region=region)
    graph = run_passes(model, (*TENSORRT_RTX[Precision.INT8], fix_batch_of_one), context)
    kernels = compile_kernels(graph.SerializeToString(), "SM86", SIZE)
    made_by = {name: node.op_type for node in graph.graph.node for name in node.output}
    weighted = [node for node in graph.graph.node if node.op_type in WEIGHTED]
    planned = [node for node in weighted if made_by.get(node.input[0]) == "DequantizeLinear"]
    integers = [kernel for kernel in kernels if kernel.is_product and kernel.precision == "INT8"]
    assert len(integers) == len(planned)
    assert {kernel.writes for kernel in integers} == {"FP16"}
    assert not any(kernel.kind == "deconv" for kernel in kernels)
    assert sum(kernel.rounds for kernel in kernels) <= LIMITS[arch].rounding
    assert len(kernels) <= LIMITS[arch].int8
    assert describe_rounding(kernels) is not None
