"""`adq-edge eval`."""

from __future__ import annotations

from adq_edge.cli import options
from adq_edge.cli.output import Output


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
    return Output(result, [evaluation_table(result)], next_step=("bench", result.engine.name))
