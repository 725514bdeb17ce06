"""Quality: what INT8 costs, per calibrator and calibration source, on the images of a dataset.

    python benchmarks/quality.py --bundle BUNDLE --data DIR [--samples 300]

Writes benchmarks/published/quality.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
from published import publish

from adq_edge.building import build
from adq_edge.calibration.sources import RANDOM_NORMAL
from adq_edge.evaluation import Evaluation, evaluate
from adq_edge.options import DEFAULT_CALIBRATOR, Precision

CALIBRATORS = ("mse", "minmax", "percentile", "entropy")


def bias(reference: Evaluation, other: Evaluation) -> float:
    """Return the median relative change of the scores."""
    return float(np.median([b.score / a.score for a, b in zip(reference.scores, other.scores)]) - 1.0)


def row(label: str, evaluation: Evaluation, reference: Evaluation) -> List[str]:
    """Return an engine's line of the table."""

    def show(value: Optional[float]) -> str:
        return "-" if value is None else f"{value:.4f}"

    categories = [show(category.image_auroc) for category in evaluation.categories]
    return [
        label,
        show(evaluation.image_auroc),
        *categories,
        show(evaluation.pixel_auroc),
        show(evaluation.aupro),
        f"{100 * bias(reference, evaluation):+.1f} %",
    ]


def without_paths(evaluation: Evaluation) -> Dict[str, Any]:
    """Return the figures without what only means something on this machine."""
    left_out = ("scores", "environment", "engine", "data")
    return {key: value for key, value in dataclasses.asdict(evaluation).items() if key not in left_out}


def main() -> None:
    """Build and evaluate every engine and publish the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    contenders: List[Tuple[str, Precision, str, str]] = [
        ("FP32", Precision.FP32, DEFAULT_CALIBRATOR, options.data),
        ("FP16 weights", Precision.FP16, DEFAULT_CALIBRATOR, options.data),
        *((f"INT8 {name}, training images", Precision.INT8, name, options.data) for name in CALIBRATORS),
        *((f"INT8 {name}, random normal", Precision.INT8, name, RANDOM_NORMAL) for name in CALIBRATORS),
    ]
    evaluations = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (_, precision, calib, data) in enumerate(contenders):
            path = Path(folder) / f"{number}.onnx"
            build(
                options.bundle,
                path,
                precision=precision,
                calib=calib,
                calib_data=data,
                samples=options.samples,
            )
            output = Path(folder) / "eval.json"
            evaluations.append(evaluate(path, options.data, output=output, threads=options.threads))
    labels = [contender[0] for contender in contenders]
    table = [row(label, evaluation, evaluations[0]) for label, evaluation in zip(labels, evaluations)]
    figures = [{"engine": label, **without_paths(e)} for label, e in zip(labels, evaluations)]
    names = [category.name for category in evaluations[0].categories]
    publish(
        "quality",
        "Image AUROC (mean and per category), pixel AUROC, AUPRO and score bias of the same model's engines",
        ["engine", "image AUROC", *names, "pixel AUROC", "AUPRO", "score bias"],
        table,
        {"data": options.data, "engines": figures},
        evaluations[0].environment,
    )


if __name__ == "__main__":
    main()
