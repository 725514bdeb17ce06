"""Time of an engine's operators by kind, and the limit that the processor's multiplications set.

    python -m benchmarks.profile ENGINE [ENGINE ...] [--threads 1] [--queries 40]

Each engine is profiled with all instructions of the processor and, if it has AMX, without AMX. The engines of
`adq-edge build --runtime openvino` run in OpenVINO, others in ONNX Runtime. Times are medians over queries of
one random image: of each kind of operator in OpenVINO, of each operator in ONNX Runtime. The limit is the
time that all multiplications would take at the fastest rate of a large integer convolution in OpenVINO.
Writes benchmarks/published/profile.json and .md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.core.runtimes import OPENVINO
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.graph.editor import GraphEditor
from benchmarks.command_line import make_parser
from benchmarks.published import publish

KINDS: Mapping[str, str] = {
    **dict.fromkeys(("Convolution", "Conv", "QLinearConv", "FusedConv"), "convolutions"),
    **dict.fromkeys(("MaxPool",), "pooling"),
    **dict.fromkeys(
        ("Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Pad", "Concat", "Split"),
        "layout: transpositions, reorders, padding",
    ),
    **dict.fromkeys(
        ("ReduceL2", "ReduceSum", "ReduceMax", "ReduceMean", "MatMul"), "scoring: sums over channels"
    ),
    **dict.fromkeys(("Interpolate", "Resize", "Gather"), "scoring: enlarging maps"),
}
ELSE = "element-wise: rescaling, skip connections, differences"
WITHOUT_AMX = "AVX512_CORE_VNNI"
_WARM_UP = 5
_PEAK = 1024  # channels of the convolution that measures the fastest rate
_PEAK_SIDE = 32


def profile_openvino(content: bytes, image: np.ndarray, threads: int, queries: int) -> Dict[str, float]:
    """Return the median time of each kind of operator in ms."""
    import openvino

    core = openvino.Core()
    model = core.read_model(content)
    model.reshape(list(image.shape))
    properties = {"INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", properties).create_infer_request()
    times: Dict[str, List[float]] = defaultdict(list)
    for query in range(_WARM_UP + queries):
        request.infer([image])
        totals: Dict[str, float] = defaultdict(float)
        for operator in request.get_profiling_info():
            totals[KINDS.get(operator.node_type, ELSE)] += operator.real_time.total_seconds() * 1e3
        if query >= _WARM_UP:
            for kind, total in totals.items():
                times[kind].append(total)
    return {kind: float(np.median(values)) for kind, values in times.items()}


def profile_onnxruntime(content: bytes, image: np.ndarray, threads: int, queries: int) -> Dict[str, float]:
    """Return the time of each kind of operator in ms: the sum of its operators' median times."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.enable_profiling = True
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for _ in range(queries):
            session.run(None, {session.get_inputs()[0].name: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: Dict[Tuple[str, str], List[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            kind = KINDS.get(event["args"]["op_name"], ELSE)
            times[kind, event["name"]].append(event["dur"] / 1e3)
    totals: Dict[str, float] = defaultdict(float)
    for (kind, _), values in times.items():
        totals[kind] += float(np.median(values))
    return dict(totals)


def multiplications(model: onnx.ModelProto) -> float:
    """Return the multiplications of all convolutions in units of 1e9."""
    editor = GraphEditor(model)
    shapes, total = editor.shapes(), 0.0
    for node in editor.of_type("Conv"):
        weight = editor.producers.get(node.input[1])
        name = node.input[1] if weight is None else weight.input[0]
        height, width = shapes[node.output[0]][2:]
        total += float(np.prod(editor.value(name).shape)) * height * width / 1e9
    return total


def fastest_rate(threads: int, queries: int) -> float:
    """Return the multiplications of a large integer convolution in 1e9 a second."""
    model = _large_convolution()
    image = np.random.default_rng(0).integers(0, 256, (1, _PEAK, _PEAK_SIDE, _PEAK_SIDE), np.uint8)
    spent = profile_openvino(model.SerializeToString(), image, threads, queries)["convolutions"]
    return _PEAK * _PEAK * _PEAK_SIDE * _PEAK_SIDE / 1e6 / spent


def _large_convolution() -> onnx.ModelProto:
    """Return a 1x1 convolution of uint8 values by int8 weights."""
    weights = np.random.default_rng(0).integers(-127, 128, (_PEAK, _PEAK, 1, 1), np.int8)
    values = {
        "scale": np.float32(0.01),
        "zero": np.uint8(0),
        "weights": weights,
        "scales": np.full(_PEAK, 0.01, np.float32),
        "zeros": np.zeros(_PEAK, np.int8),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "scale", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "scales", "zeros"], ["w"], axis=0),
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node("Relu", ["y"], ["r"]),
        helper.make_node("QuantizeLinear", ["r", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["z"]),
        helper.make_node("MaxPool", ["z"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    size = [1, _PEAK, _PEAK_SIDE, _PEAK_SIDE]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, size)],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 17)])


def profile(engine: Path, threads: int, queries: int) -> Dict[str, Any]:
    """Return an engine's times by kind, its multiplications and the processor's fastest rate."""
    sidecar, content = read_sidecar(engine), engine.read_bytes()
    image = np.random.default_rng(0).integers(0, 256, (1, *sidecar.image_size, 3), np.uint8)
    measure = profile_openvino if sidecar.runtime == OPENVINO.name else profile_onnxruntime
    return {
        "engine": f"{sidecar.arch} {sidecar.precision.value}, {sidecar.runtime}",
        "times_ms": measure(content, image, threads, queries),
        "giga": multiplications(onnx.load_model_from_string(content)),
        "rate": fastest_rate(threads, queries),
    }


def _in_another_process(engine: Path, threads: int, queries: int, without_amx: bool) -> Dict[str, Any]:
    """Return `profile` of a process with or without AMX: oneDNN reads its variable once."""
    command = [sys.executable, "-m", "benchmarks.profile", str(engine), "--as-json"]
    command += ["--threads", str(threads), "--queries", str(queries)]
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": WITHOUT_AMX} if without_amx else {})}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: Dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**found, "instructions": "without AMX" if without_amx else "all instructions"}


def _rows(found: Dict[str, Any]) -> List[List[str]]:
    times: Dict[str, float] = found["times_ms"]
    total, limit = sum(times.values()), found["giga"] / found["rate"] * 1e3
    first = [found["engine"], found["instructions"]]
    rows = [
        [*first, kind, f"{value:.2f}", f"{value / total:.1%}"]
        for kind, value in sorted(times.items(), key=lambda item: -item[1])
    ]
    rate = f"limit: {found['giga']:.2f}e9 multiplications at {found['rate']:.0f}e9 a second"
    return [
        *rows,
        [*first, "all", f"{total:.2f}", "100.0%"],
        [*first, rate, f"{limit:.2f}", f"{limit / total:.1%}"],
    ]


def main() -> None:
    """Profile the engines and publish the table."""
    parser = make_parser("benchmarks.profile", __doc__)
    parser.add_argument("engines", nargs="+", type=Path, metavar="ENGINE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--as-json", action="store_true", help="print the profile of one engine only")
    options = parser.parse_args()
    if options.as_json:
        print(json.dumps(profile(options.engines[0], options.threads, options.queries)))
        return
    machine = read_environment()
    ways = (False, True) if "amx_int8" in machine.instruction_sets else (False,)
    found = [
        _in_another_process(engine, options.threads, options.queries, without_amx)
        for engine in options.engines
        for without_amx in ways
    ]
    publish(
        "profile",
        f"Time of an engine's operators by kind, {options.threads} thread(s), 256x256",
        ["engine", "processor", "operators", "ms", "of the whole"],
        [row for each in found for row in _rows(each)],
        {"threads": options.threads, "queries": options.queries, "profiles": found},
        machine,
    )


if __name__ == "__main__":
    main()
