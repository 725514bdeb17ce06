"""Published latencies of public networks on real Jetsons with TensorRT, batch 1, with their sources.

The figures are those that the sources print. Left out: batches above 1, other runtimes than TensorRT,
networks of unknown structure, runs on GPU and DLA together (NVIDIA's jetson_benchmarks), and DenseNet of
torch2trt (its two tables differ by a factor of 2).
"""

from __future__ import annotations

import dataclasses
from typing import Iterator, Mapping, Sequence, Tuple


@dataclasses.dataclass(frozen=True)
class Source:
    """Where figures were published.

    Attributes:
        software: release of TensorRT and JetPack, as far as it is stated.
        timing: what was timed: `gpu` (trtexec, without copies), `graph` (a query of MLPerf's harness, which
            replays CUDA graphs), or `call` (a call from Python until the result is there).
        note: the power mode, and whether it is stated or assumed.
    """

    url: str
    software: str
    timing: str
    note: str


SOURCES: Mapping[str, Source] = {
    "onnxsim": Source(
        "https://github.com/onnxsim/onnxsim/pull/1742 (scripts/nvidia/README.md)",
        "TensorRT 10.3, JetPack 6 (R36.4.7)",
        "gpu",
        'stated: "mean GPU ms, trtexec --noDataTransfers, MAXN_SUPER"',
    ),
    "hokwangchoi": Source(
        "https://github.com/hokwangchoi/jetson-orin-nano-benchmarks",
        "TensorRT 10.3, JetPack 6.2 (R36.4.7)",
        "gpu",
        'stated: "MAXN_SUPER", jetson_clocks; "trtexec GPU Compute Time"',
    ),
    "ultralytics": Source(
        "https://github.com/ultralytics/ultralytics/blob/main/docs/en/guides/nvidia-jetson.md (8.3.51)",
        "JetPack 6.1 (Orin Nano Super) and 6.0 (Orin NX), TensorRT not stated",
        "call",
        "assumed: the mode without limits, and jetson_clocks, as the page advises",
    ),
    "torch2trt": Source(
        "https://github.com/NVIDIA-AI-IOT/torch2trt/blob/master/benchmarks/JETSON_XAVIER.md",
        "not stated; the file is of 2019 (TensorRT 5, JetPack 4)",
        "call",
        "assumed: MAXN",
    ),
    "mlperf-3.1": Source(
        "https://github.com/mlcommons/inference_results_v3.1, closed/NVIDIA/results/Orin_TRT and "
        "Orin_NX_TRT, SingleStream, mean latency",
        "TensorRT 8.5.2, JetPack 5.1.1",
        "graph",
        "assumed: MAXN",
    ),
    "mlperf-1.1": Source(
        "https://github.com/mlcommons/inference_results_v1.1, closed/NVIDIA/results/AGX_Xavier_TRT and "
        "Xavier_NX_TRT, SingleStream, mean latency",
        "TensorRT 8.0.1, JetPack 4.6",
        "graph",
        "assumed: MAXN and MODE_20W_6CORE",
    ),
}


@dataclasses.dataclass(frozen=True)
class Point:
    """One published latency.

    Attributes:
        network: key of `networks.NETWORKS`.
        board: key of the board.
        mode: name of its power mode.
        number_format: `tf32`, `fp16` or `int8`. FP32 engines on Orin compute in TF32 by default.
        ms: the figure.
        source: key of `SOURCES`.
    """

    network: str
    board: str
    mode: str
    number_format: str
    ms: float
    source: str

    @property
    def family(self) -> str:
        """The network without its variant; held out of the fit, or not, as a whole."""
        return self.network.partition("-v1")[0]


_FORMATS = ("tf32", "fp16", "int8")
_Table = Tuple[str, str, str, Sequence[str], Mapping[str, Sequence[float]]]

_TABLES: Tuple[_Table, ...] = (
    (
        "onnxsim",
        "orin-nano-super",
        "MAXN_SUPER",
        _FORMATS,
        {
            "resnet18": (1.578, 0.758, 0.485),
            "resnet50-v1": (3.596, 1.814, 1.190),
            "mobilenet_v2": (1.386, 0.850, 0.781),
        },
    ),
    ("hokwangchoi", "orin-nano-super", "MAXN_SUPER", _FORMATS, {"yolov8n": (8.36, 4.43, 3.49)}),
    (
        "ultralytics",
        "orin-nano-super",
        "MAXN_SUPER",
        _FORMATS,
        {
            "yolo11n": (7.60, 4.91, 3.91),
            "yolo11s": (13.29, 7.30, 5.25),
            "yolo11m": (28.21, 13.99, 9.58),
            "yolo11l": (35.59, 17.57, 12.37),
            "yolo11x": (67.32, 32.94, 20.72),
        },
    ),
    (
        "ultralytics",
        "orin-nx-16",
        "MAXN",
        _FORMATS,
        {
            "yolo11n": (8.05, 4.85, 4.37),
            "yolo11s": (14.13, 7.55, 5.63),
            "yolo11m": (30.72, 14.45, 10.19),
            "yolo11l": (38.68, 18.53, 13.36),
            "yolo11x": (76.44, 35.99, 22.32),
        },
    ),
    (
        "torch2trt",
        "agx-xavier",
        "MAXN",
        ("fp16",),
        {
            "alexnet": (2.02,),
            "squeezenet1_0": (1.49,),
            "squeezenet1_1": (1.02,),
            "resnet18": (1.64,),
            "resnet34": (2.79,),
            "resnet50": (3.37,),
            "resnet101": (6.04,),
            "resnet152": (8.57,),
            "vgg11": (5.24,),
            "vgg16": (7.46,),
            "vgg19": (8.61,),
            "mobilenet_v2": (1.67,),
            "mnasnet1_0": (1.77,),
        },
    ),
    (
        "mlperf-3.1",
        "agx-orin-64",
        "MAXN",
        ("int8",),
        {"resnet50": (0.636375,), "retinanet": (11.569286,)},
    ),
    (
        "mlperf-3.1",
        "orin-nx-16",
        "MAXN",
        ("int8",),
        {"resnet50": (1.078675,), "retinanet": (28.436602,)},
    ),
    (
        "mlperf-1.1",
        "agx-xavier",
        "MAXN",
        ("int8",),
        {"resnet50": (1.820280,), "ssd-resnet34": (25.850855,)},
    ),
    (
        "mlperf-1.1",
        "xavier-nx",
        "MODE_20W_6CORE",
        ("int8",),
        {"resnet50": (2.426343,), "ssd-resnet34": (41.945601,)},
    ),
)


def _points() -> Iterator[Point]:
    for source, board, mode, formats, networks in _TABLES:
        for network, figures in networks.items():
            for number_format, ms in zip(formats, figures):
                yield Point(network, board, mode, number_format, ms, source)


POINTS: Tuple[Point, ...] = tuple(_points())


def held_out(points: Sequence[Point]) -> Sequence[str]:
    """Return the networks that are held out of the fit: every second one in alphabetical order."""
    return sorted({point.family for point in points})[1::2]
