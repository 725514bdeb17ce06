"""Dense evaluation of a patch network: multi-pooling beside dilation, and coarser grids, FP32 on a CPU.

    python benchmarks/dense.py [--rounds 5] [--threads 2]

One network with random weights (a model has one for the teacher and each student, all alike), patches of 33
pixels, a picture of 256x256. The forms are timed interleaved, so their ratios hold where the machine is
shared. Writes benchmarks/published/dense.json and .md.
"""

from __future__ import annotations

import argparse
import time
from typing import Callable, Dict, List, Tuple

import numpy as np
import onnxruntime
import openvino
import torch
from published import publish
from torch import nn
from torch.nn import functional

from adq_edge.bundle import INPUT
from adq_edge.environment import read_environment
from adq_edge.exporting import to_onnx
from adq_edge.models.patch_network import LAYERS, Border, Decoder, Grid, PatchNetwork, interleave

SIZE = 256
PATCH = 33
_SLOPE = 5e-3
_TOLERANCE = 1e-4  # of the largest value: two forms of the same function

Run = Callable[[np.ndarray], np.ndarray]


class MultiPooling(nn.Module):
    """The form that is exported: the squared length of each descriptor."""

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
    """Poolings of stride 1; what follows a pooling reads every second of what it would have read."""

    def __init__(self, network: PatchNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        """Map uint8 `[N, H, W, 3]` to squared lengths `[N, H, W]` and their maximum."""
        x = Grid(PATCH, 1, Border.ZEROS).fit(_prepared(images), (0, 0))
        step = 1
        for number, layer in enumerate(LAYERS[PATCH], 1):
            convolution = self.network.get_submodule(f"conv{number}")
            x = functional.conv2d(x, convolution.weight, convolution.bias, dilation=step)
            x = functional.leaky_relu(x, _SLOPE)
            if layer.pooled:
                x = functional.max_pool2d(x, 2, 1, dilation=step)
                step *= 2
        return _with_maximum(self.network.decode(x).square().sum(1))


def _prepared(images: torch.Tensor) -> torch.Tensor:
    return images.float().permute(0, 3, 1, 2) / 127.5 - 1


def _with_maximum(lengths: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
    return lengths, torch.amax(lengths, dim=(1, 2))


def forms() -> Dict[str, nn.Module]:
    """Return the forms of one network, the dense ones first."""
    torch.manual_seed(0)
    network = PatchNetwork(PATCH, Decoder.LINEAR).eval()
    return {
        "multi-pooling": MultiPooling(network, 1),
        "dilation": Dilated(network),
        "multi-pooling, stride 2": MultiPooling(network, 2),
        "stride 4": MultiPooling(network, 4),
    }


def onnx_runtime(content: bytes, threads: int) -> Run:
    """Return a function that runs a graph with ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: np.asarray(session.run(None, {INPUT: images})[0])


def openvino_cpu(content: bytes, threads: int) -> Run:
    """Return a function that runs a graph with OpenVINO in float32."""
    properties = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": str(threads)}
    core = openvino.Core()
    request = core.compile_model(core.read_model(content), "CPU", properties).create_infer_request()
    return lambda images: np.asarray(request.infer([images])[0])


RUNTIMES = {"onnxruntime": onnx_runtime, "openvino": openvino_cpu}


def measure(runs: Dict[str, Run], rounds: int) -> Dict[str, float]:
    """Return each form's median time in ms, after a warm-up that also checks that dense forms agree."""
    picture = np.random.default_rng(0).integers(0, 256, (1, SIZE, SIZE, 3), np.uint8)
    dense = [run(picture) for run in runs.values()][:2]
    difference = float(np.abs(dense[0] - dense[1]).max() / np.abs(dense[0]).max())
    if difference > _TOLERANCE:
        raise SystemExit(f"multi-pooling and dilation differ by {difference:.1e} of the largest value")
    times: Dict[str, List[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run(picture)
            times[name].append(1e3 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


def main() -> None:
    """Time every form with both runtimes and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    graphs = {name: to_onnx(form, (SIZE, SIZE)).SerializeToString() for name, form in forms().items()}
    figures: Dict[str, Dict[str, float]] = {}
    for runtime, load in RUNTIMES.items():
        runs = {name: load(content, options.threads) for name, content in graphs.items()}
        figures[runtime] = measure(runs, options.rounds)
    publish(
        "dense",
        f"One patch network of {PATCH} pixels at {SIZE}x{SIZE}, FP32, {options.threads} threads, median of "
        f"{options.rounds} interleaved rounds",
        ["form", "runtime", "ms", "ratio to multi-pooling"],
        [
            [name, runtime, f"{ms:.0f}", f"{ms / times['multi-pooling']:.2f}"]
            for runtime, times in figures.items()
            for name, ms in times.items()
        ],
        {"milliseconds": figures, "threads": options.threads, "rounds": options.rounds},
        read_environment(),
    )


if __name__ == "__main__":
    main()
