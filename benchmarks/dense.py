"""Dense evaluation of patch networks: multi-pooling, dilation, coarser grids, merged first convolutions.

    python -m benchmarks.dense [--rounds 5] [--threads 2]

Networks with random weights, patches of 33 pixels, an image of 256x256. Measured are one network (teacher and
students are alike), and at stride 4 the four networks of a model, whose first convolutions read the same
image. INT8 is the graph that `build` makes, calibrated on noise; only its time is used. The forms are timed
in turn, so that their ratios hold on a shared machine. TensorRT-RTX compiles each form. Writes
benchmarks/published/dense.json and .md.
"""

from __future__ import annotations

import argparse
import copy
from typing import Callable, Dict, Iterator, List, NamedTuple, Tuple, cast

import numpy as np
import onnx
import onnxruntime
import openvino
import torch
from torch import nn
from torch.nn import functional

from adq_edge.artifacts.bundle import INPUT
from adq_edge.calibration.activations import collect
from adq_edge.core.options import Precision, cpu_target
from adq_edge.hardware.environment import read_environment
from adq_edge.models.patch_grid import Border, Grid
from adq_edge.models.patch_network import LAYERS, Decoder, PatchNetwork, interleave
from adq_edge.onnx_export.export import to_onnx
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes.channels_last import score_channels_last
from adq_edge.quantization.passes.channels_last_normalization import normalize_channels_last
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.leaky_relu import split_leaky_relus
from adq_edge.quantization.passes.redundant_qdq import drop_repeated_pairs
from adq_edge.quantization.passes.uint8_input import convolve_image_in_integers
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.qdq import quantize
from benchmarks.published import publish
from benchmarks.timing import milliseconds
from factories.rtx import compile_engine, trt

SIZE = 256
PATCH = 33
NETWORKS = 4  # of a model: the teacher and three students
GPU = "SM86"
_SLOPE = 5e-3
_GREY = 127.5
_TOLERANCE = 1e-4  # relative to the largest value

Run = Callable[[np.ndarray], np.ndarray]


class MultiPooling(nn.Module):
    """The form that `export` writes: the squared length of each descriptor."""

    def __init__(self, network: PatchNetwork, stride: int) -> None:
        super().__init__()
        self.network = network
        self.grid = Grid(PATCH, stride, Border.ZEROS)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 `[N, H, W, 3]` to squared lengths `[N, H / stride, W / stride]` and their maximum."""
        x = self.grid.fit(_prepared(images), (self.grid.stride // 2, self.grid.stride // 2))
        lengths = self.network(x, self.grid.levels).square().sum(1)
        side = SIZE // self.grid.rows
        return _with_maximum(interleave(lengths, (side, side), self.grid.levels))


class Dilated(nn.Module):
    """Poolings of stride 1; the layers after a pooling are dilated by 2."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 `[N, H, W, 3]` to squared lengths `[N, H, W]` and their maximum."""
        x = Grid(PATCH, 1, Border.ZEROS).fit(_prepared(images), (0, 0))
        step = 1
        for number, layer in enumerate(LAYERS[PATCH], 1):
            convolution = cast(nn.Conv2d, self.network.get_submodule(f"conv{number}"))
            x = functional.conv2d(x, convolution.weight, convolution.bias, dilation=step)
            x = functional.leaky_relu(x, _SLOPE)
            if layer.pooled:
                x = functional.max_pool2d(x, 2, 1, dilation=step)
                step *= 2
        return _with_maximum(self.network.decode(x).square().sum(1))


class Model(nn.Module):
    """A teacher and students at stride 4: the sum of the squared distances of the students."""

    def __init__(self, networks: List[PatchNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.grid = Grid(PATCH, 4, Border.ZEROS)

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 `[N, H, W, 3]` to `[N, H / 4, W / 4]` and the maximum."""
        center = self.grid.stride // 2
        first, *others = self.describe(self.grid.fit(_prepared(images), (center, center)))
        distances = [(other - first).square().sum(1) for other in others]
        return _with_maximum(torch.stack(distances).sum(0))

    def describe(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Map an image to the descriptors of each network."""
        return [network(x) for network in self.networks]


class FirstInOne(Model):
    """The same model with the first convolutions of all networks merged into one."""

    def __init__(self, networks: List[PatchNetwork]) -> None:
        super().__init__([copy.deepcopy(network) for network in networks])
        firsts = [cast(nn.Conv2d, network.get_submodule("conv1")) for network in self.networks]
        self.weight = nn.Parameter(torch.cat([first.weight for first in firsts]))
        self.bias = nn.Parameter(torch.cat([cast(torch.Tensor, first.bias) for first in firsts]))
        for network in self.networks:
            network.conv1 = nn.Identity()

    def describe(self, x: torch.Tensor) -> List[torch.Tensor]:
        """Apply the merged convolution, then each network to its channels."""
        parts = functional.conv2d(x, self.weight, self.bias).chunk(len(self.networks), 1)
        return [network(part) for network, part in zip(self.networks, parts)]


def _prepared(images: torch.Tensor) -> torch.Tensor:
    return (images.float().permute(0, 3, 1, 2) - _GREY) * (1 / _GREY)


def _with_maximum(lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    return lengths, torch.amax(lengths, dim=(1, 2))


def forms() -> Dict[str, Dict[str, nn.Module]]:
    """Return groups of forms: the first is the reference, the second computes the same function."""
    torch.manual_seed(0)
    networks = [PatchNetwork(PATCH, Decoder.LINEAR).eval() for _ in range(NETWORKS)]
    return {
        "one network": {
            "multi-pooling": MultiPooling(networks[0], 1),
            "dilation": Dilated(networks[0]),
            "multi-pooling, stride 2": MultiPooling(networks[0], 2),
            "stride 4": MultiPooling(networks[0], 4),
        },
        "four networks, stride 4": {
            "four first convolutions": Model(networks),
            "first convolutions in one": FirstInOne(networks),
        },
    }


def _noise(count: int = 4) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model in INT8 as `build` makes it, before the passes of a runtime."""
    float_model = FloatModel.of(model)
    histograms = collect(model, float_model.region.measured, _noise(), threads=2)
    ranges = {name: histogram.data_range for name, histogram in histograms.items()}
    graph = quantize(float_model, ranges, cpu_target())
    return run_passes(graph, (widen_normalization, keep_float_weights))


def onnx_runtime(model: onnx.ModelProto, threads: int) -> Run:
    """Return a function that runs a graph with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = run_passes(model, (split_leaky_relus, score_channels_last)).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {INPUT: images})[0])


def openvino_cpu(model: onnx.ModelProto, threads: int) -> Run:
    """Return a function that runs a graph with OpenVINO."""
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}
    core = openvino.Core()
    rounded = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    first = (convolve_image_in_integers,) if rounded else ()
    graph = run_passes(model, (*first, normalize_channels_last, drop_repeated_pairs))
    found = core.read_model(graph.SerializeToString())
    found.reshape([1, SIZE, SIZE, 3])
    request = core.compile_model(found, "CPU", properties).create_infer_request()
    return lambda images: np.asarray(request.infer([images])[0])


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino_cpu}


class Time(NamedTuple):
    """One row of the table; `ratio` is relative to the first form in the same precision and runtime."""

    group: str
    form: str
    precision: str
    runtime: str
    milliseconds: float
    ratio: float


def times(group: str, graphs: Dict[str, onnx.ModelProto], options: argparse.Namespace) -> Iterator[Time]:
    """Time the forms of a group in both precisions and runtimes; forms of one kind run in turn."""
    for precision in (Precision.FP32, Precision.INT8):
        models = graphs
        if precision is Precision.INT8:
            models = {name: quantized(graph) for name, graph in graphs.items()}
        for runtime, load in RUNTIMES.items():
            runs = {name: load(model, options.threads) for name, model in models.items()}
            if precision is Precision.FP32:
                check_equal(runs)
            found = milliseconds(runs, _noise(1), options.rounds)
            first = next(iter(found.values()))
            for form, ms in found.items():
                print(group, form, precision.value, runtime, f"{ms:.1f}", flush=True)
                yield Time(group, form, precision.value, runtime, ms, ms / first)


def check_equal(runs: Dict[str, Run]) -> None:
    """Check that the first two forms of a group compute the same function."""
    first, second = (run(_noise(1)) for run in list(runs.values())[:2])
    difference = float(np.abs(first - second).max() / np.abs(first).max())
    if difference > _TOLERANCE:
        raise SystemExit(f"the first two forms differ by {difference:.1e} of the largest value")


def compiled(model: onnx.ModelProto) -> str:
    """Return the size of the engine that TensorRT-RTX compiles, or why it refuses the form."""
    try:
        plan = compile_engine(model.SerializeToString(), GPU, SIZE, max_batch=1)
    except AssertionError as refusal:
        return f"refused: {str(refusal).splitlines()[0]}"
    return f"{len(plan) / 1e6:.1f} MB"


def main() -> None:
    """Time and compile every form, and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    lines: List[Time] = []
    engines: Dict[str, str] = {}
    for group, modules in forms().items():
        graphs = {name: to_onnx(module, (SIZE, SIZE)) for name, module in modules.items()}
        engines.update((name, compiled(graph)) for name, graph in graphs.items())
        lines.extend(times(group, graphs, options))
    publish(
        "dense",
        f"Patch networks of {PATCH} pixels at {SIZE}x{SIZE}, {options.threads} threads, median of "
        f"{options.rounds} interleaved rounds; FP32 compiled with TensorRT-RTX {trt.__version__} for {GPU}",
        ["", "form", "precision", "runtime", "ms", "ratio to the first form", "TensorRT-RTX"],
        [[*line[:4], f"{line.milliseconds:.0f}", f"{line.ratio:.2f}", engines[line.form]] for line in lines],
        {
            "times": [line._asdict() for line in lines],
            "tensorrt_rtx": engines,
            "threads": options.threads,
            "rounds": options.rounds,
        },
        read_environment(),
    )


if __name__ == "__main__":
    main()
