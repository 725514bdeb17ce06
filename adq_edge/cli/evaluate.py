"""`adq-edge eval`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Tuple, Union

from adq_edge.cli import options
from adq_edge.cli.output import Output, command_line

if TYPE_CHECKING:
    from adq_edge.evaluation.evaluate import Evaluation


def evaluate(
    engine: options.Engine = None,
    data: options.LabeledData = None,
    category: options.Categories = None,
    output: options.ResultFile = None,
    runtime: options.Runtime = None,
    threads: options.Threads = None,
    trust: options.Trust = False,
) -> Output:
    """Measure AUROC and AUPRO, and store the best threshold.

    It is the threshold with the highest F1, and goes into the engine's sidecar. It is stored only if the test
    images are good and defective ones, the scores separate some of them, and the engine runs in the runtime
    that it was built for. Otherwise the table says why.
    """
    from adq_edge.evaluation.evaluate import evaluate as run
    from adq_edge.report.tables.quality import evaluation_table

    result = run(
        engine, data, categories=category, output=output, runtime=runtime, threads=threads, trust=trust
    )
    return Output(result, [evaluation_table(result)], next_step=_next_step(result))


def _next_step(result: Evaluation) -> Union[str, Tuple[object, ...]]:
    """Return the next command, or what a threshold needs that was not stored."""
    from adq_edge.artifacts.sidecar import read_sidecar

    engine = result.engine.name
    if result.not_stored is None:
        return ("bench", engine)
    if result.threshold is None:
        command = command_line("eval", engine, "--data", "DIR")
        return f"measure a threshold on good and defective images: {command}"
    if result.runtime.split()[0] != read_sidecar(Path(engine), trust=True).runtime:
        return ("eval", engine, "--data", result.data)
    return f"check the labels of the test images, or train longer; then: {command_line('eval', engine)}"
