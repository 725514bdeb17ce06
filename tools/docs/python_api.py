"""The page of the Python API: mkdocstrings fills it when the site is built."""

from __future__ import annotations

from typing import Dict, Sequence

import adq_edge
from tools.docs.template import render

SECTIONS: Dict[str, Sequence[str]] = {
    "Judge images": ("load_engine", "predict", "load_inspector", "draw_inspection"),
    "Learn products": ("fit",),
    "From a checkpoint to an engine": (
        "export",
        "import_model",
        "ImportOptions",
        "open_bundle",
        "calibrate",
        "build",
        "TensorRTOptions",
    ),
    "Measure": ("evaluate", "compare", "stress", "analyze", "bench", "estimate"),
    "Train": ("train", "train_each", "find_fast", "train_quantized"),
    "Data, machine and errors": ("read_dataset", "write_synthetic", "diagnose", "AdqError"),
}
"""The names of the API, in the order of the page. Names that are not listed follow in a last section."""

RESULTS = (
    "adq_edge.runtimes.base.Engine",
    "adq_edge.evaluation.prediction.Prediction",
    "adq_edge.decision.inspector.Inspector",
    "adq_edge.decision.inspector.Inspection",
    "adq_edge.decision.fit.Fit",
    "adq_edge.artifacts.bundle.Bundle",
    "adq_edge.builders.build.BuiltEngine",
    "adq_edge.evaluation.evaluate.Evaluation",
)
"""Classes of the objects that the functions return."""


def python_page() -> str:
    """Return docs/python.md.

    Raises:
        ValueError: a section has a name that the API lacks.
    """
    listed = [name for section in SECTIONS.values() for name in section]
    gone = set(listed) - set(adq_edge.__all__)
    if gone:
        raise ValueError(f"not in the API: {', '.join(sorted(gone))}")
    more = [name for name in adq_edge.__all__ if name not in listed]
    return render("python.md.j2", sections={**SECTIONS, **({"More": more} if more else {})}, results=RESULTS)
