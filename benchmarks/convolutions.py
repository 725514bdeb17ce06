"""Time of the convolutions of an OpenVINO engine by kernel size, and their multiplications per second.

    python -m benchmarks.convolutions ENGINE [--threads 1] [--queries 40]

ENGINE is built by `adq-edge build --runtime openvino`. Multiplications are computed from shapes. Times are
measured by OpenVINO for each operator: medians over queries of one random image. Writes
benchmarks/published/convolutions.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections import defaultdict
from pathlib import Path
from typing import Any, Dict, List, NamedTuple

import numpy as np
import openvino

from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.hardware.environment import read_environment
from benchmarks.published import publish

ELSE = "everything else"
_WARM_UP = 5


class Convolution(NamedTuple):
    """The kernel of a convolution, such as "3x3", and its multiplications in units of 1e9."""

    kernel: str
    giga: float


def convolutions(model: Any) -> Dict[str, Convolution]:
    """Return the convolutions of a model with fixed shapes, by name."""
    found = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Convolution":
            weights, output = (list(port.get_shape()) for port in (node.input(1), node.output(0)))
            giga = float(np.prod(weights)) * output[2] * output[3] / 1e9
            found[node.get_friendly_name()] = Convolution("x".join(map(str, weights[2:])), giga)
    return found


def operator_times(model: Any, image: np.ndarray, threads: int, queries: int) -> Dict[str, float]:
    """Return the median time of each operator in ms, by name, for a uint8 image `[1, H, W, 3]`."""
    properties = {"INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", properties).create_infer_request()
    times: Dict[str, List[float]] = defaultdict(list)
    for query in range(_WARM_UP + queries):
        request.infer([image])
        if query >= _WARM_UP:
            for operator in request.get_profiling_info():
                times[operator.node_name].append(operator.real_time.total_seconds() * 1e3)
    return {name: float(np.median(values)) for name, values in times.items()}


@dataclasses.dataclass(frozen=True)
class Group:
    """The convolutions of one kernel size, or all other operators.

    `fastest`: 1e9 multiplications per second of the fastest convolution; 0 for other operators.
    """

    kernel: str
    count: int
    giga: float
    milliseconds: float
    fastest: float


def group(counted: Dict[str, Convolution], times: Dict[str, float]) -> List[Group]:
    """Return the operators grouped by kernel size, the slowest group first."""
    names: Dict[str, List[str]] = defaultdict(list)
    for name in times:
        names[counted[name].kernel if name in counted else ELSE].append(name)
    groups = [
        Group(
            kernel,
            len(members),
            sum(counted[name].giga for name in members if name in counted),
            sum(times[name] for name in members),
            max(counted[name].giga / times[name] * 1e3 if name in counted else 0.0 for name in members),
        )
        for kernel, members in names.items()
    ]
    return sorted(groups, key=lambda found: -found.milliseconds)


def row(found: Group, whole: float) -> List[str]:
    """Return the table row of a group; `whole` is the time of all operators in ms."""
    share = [f"{found.milliseconds:.2f}", f"{found.milliseconds / whole:.1%}"]
    if found.kernel == ELSE:
        return [ELSE, str(found.count), "-", *share, "-", "-"]
    rates = [f"{found.giga / found.milliseconds * 1e3:.0f}", f"{found.fastest:.0f}"]
    return [f"{found.kernel} convolutions", str(found.count), f"{found.giga:.2f}", *share, *rates]


def least(groups: List[Group], whole: float) -> List[str]:
    """Return the row of all convolutions at the rate of the fastest; `whole` as for `row`."""
    found = [each for each in groups if each.kernel != ELSE]
    giga, fastest = sum(each.giga for each in found), max(each.fastest for each in found)
    milliseconds = giga / fastest * 1e3
    share = [f"{milliseconds:.2f}", f"{milliseconds / whole:.1%}"]
    return [
        "all convolutions, at the rate of the fastest",
        str(sum(each.count for each in found)),
        f"{giga:.2f}",
        *share,
        f"{fastest:.0f}",
        f"{fastest:.0f}",
    ]


def main() -> None:
    """Time an engine and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--queries", type=int, default=40)
    options = parser.parse_args()
    sidecar = read_sidecar(options.engine)
    shape = [1, *sidecar.image_size, 3]
    model = openvino.Core().read_model(str(options.engine))
    model.reshape(shape)
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    times = operator_times(model, image, options.threads, options.queries)
    groups = group(convolutions(model), times)
    whole = sum(times.values())
    height, width = sidecar.image_size
    publish(
        "convolutions",
        f"Time of {sidecar.arch}, {sidecar.precision.value}, with OpenVINO by operator; {height}x{width}, "
        f"{options.threads} thread(s), {whole:.1f} ms in total",
        ["operators", "count", "1e9 multiplications", "ms", "share", "1e9 per second", "fastest"],
        [*(row(found, whole) for found in groups), least(groups, whole)],
        {"operators": sidecar.operators, "groups": [dataclasses.asdict(found) for found in groups]},
        read_environment(),
    )


if __name__ == "__main__":
    main()
