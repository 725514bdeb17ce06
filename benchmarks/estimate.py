"""Estimates of three methods: on a Xavier NX in every power mode, on other Jetsons in the fastest.

    python -m benchmarks.estimate

Nothing is measured; the result is the same on every machine. Writes benchmarks/published/estimate.json and
.md.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, List, Tuple

from adq_edge.core.options import Precision
from adq_edge.hardware.boards import BOARDS, DEFAULT_BOARD, find_board
from adq_edge.hardware.environment import read_environment
from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.onnx_export.export import to_onnx
from adq_edge.report.tables.estimate import estimates_table
from adq_edge.roofline.estimate import NOTE, ModelEstimate, estimate_model
from adq_edge.roofline.published import CONDITIONS
from adq_edge.roofline.roofline import layer_times
from benchmarks.published import publish

SIZE = 256


def estimates() -> List[ModelEstimate]:
    """Return the estimates of the three methods on all boards; random weights suffice, only sizes matter."""
    config = ModelConfig(image_size=(SIZE, SIZE))
    contenders: Tuple[Tuple[str, AnomalyModel], ...] = (
        ("STFPM, ResNet-18", STFPM(config)),
        ("RD, WideResNet-50-2", ReverseDistillation(config)),
        ("US, patches of 33, dense, 3 students", UninformedStudents(config)),
    )
    found = []
    for name, network in contenders:
        graph = to_onnx(network, config.image_size)
        found += [_trim(estimate_model(graph, name, network.arch, board)) for board in BOARDS]
    return found


def _trim(result: ModelEstimate) -> ModelEstimate:
    """Return an estimate with the fastest mode only, except for the default board."""
    board = next(board for board in BOARDS if board.name == result.board)
    if board.key == DEFAULT_BOARD:
        return result
    engines = [
        dataclasses.replace(
            engine, modes=tuple(one for one in engine.modes if one.mode == board.fastest_mode)
        )
        for engine in result.engines
    ]
    return dataclasses.replace(result, engines=tuple(engines))


def summary(result: ModelEstimate) -> Dict[str, Any]:
    """Return the estimates of a method for the result file, without their layers."""
    engines = tuple(dataclasses.replace(engine, layers=()) for engine in result.engines)
    return dataclasses.asdict(dataclasses.replace(result, engines=engines))


def teacher_ms(result: ModelEstimate) -> float:
    """Return the lower bound of RD's FP32 teacher alone on a Xavier NX in its fastest mode, in ms."""
    engine = next(engine for engine in result.engines if engine.precision is Precision.FP32)
    layers = [layer for layer in engine.layers if layer.name.startswith("/encoder")]
    board = find_board(DEFAULT_BOARD)
    return min(sum(max(layer_times(layer, board, mode)) for layer in layers) for mode in board.modes)


def main() -> None:
    """Estimate and publish the table."""
    results = estimates()
    title = f"ESTIMATE, nothing was measured: one image of {SIZE}x{SIZE} on Jetsons"
    bound = teacher_ms(results[len(BOARDS)])
    teacher = (
        f"By this estimate RD's FP32 teacher alone takes at least {bound:.1f} ms on a Xavier NX, so the "
        "published times of RD in FP16 and INT8 cannot include both teacher and student in FP32."
    )
    table = estimates_table(results)
    publish(
        "estimate",
        f"{title}\n\nEvery time here is {NOTE}. Only the last column was {CONDITIONS}. {teacher}",
        [column.heading for column in table.columns],
        [list(row) for row in table.texts],
        {"title": title, "note": NOTE, "estimates": [summary(result) for result in results]},
        read_environment(),
    )


if __name__ == "__main__":
    main()
