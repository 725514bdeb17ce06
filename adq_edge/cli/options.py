"""Command-line options that several verbs share, each declared once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import List, Mapping, Optional, Sequence

from typer import Argument, Option

from adq_edge.core.options import DEFAULT_CALIBRATOR
from adq_edge.core.runtimes import RUNTIMES

if sys.version_info >= (3, 9):
    from typing import Annotated  # novm
else:
    from typing_extensions import Annotated

Bundle = Annotated[Optional[Path], Argument(help="Bundle folder. Default: the newest in bundles/.")]
ResultFile = Annotated[
    Optional[Path],
    Option("--output", "-o", help="Result file (.json). Default: a file in benchmarks/results/."),
]
Threads = Annotated[Optional[int], Option(min=1, help="Number of CPU threads. Default: all.")]

Calib = Annotated[
    Optional[str],
    Option(
        help="Calibrator: entropy, lp, minmax, mse or percentile; lp:P and percentile:P set its parameter. "
        "qat: the ranges of 'train --qat'. Only in build, for TensorRT's own calibration: trt-entropy, "
        f"trt-minmax or trt-percentile. Default: qat for a model trained with it, else {DEFAULT_CALIBRATOR}."
    ),
]
CalibData = Annotated[
    Optional[str],
    Option(
        help="Folder of calibration images, or 'random-normal'. Default: calibration_data/ if it contains "
        "images, else the training images of the model."
    ),
]
Source = Annotated[
    str,
    Option(
        help="Kind of calibration images: images, synthetic-defects or random-normal. "
        "Separate several kinds with commas."
    ),
]
Samples = Annotated[int, Option(min=1, help="Largest number of calibration images.")]

LabeledData = Annotated[
    Optional[Path],
    Option("--data", help="Labeled dataset in MVTec AD layout. Default: the dataset of the training."),
]
Categories = Annotated[
    Optional[List[str]],
    Option("--category", help="Use this category only; may be repeated. Default: the model's categories."),
]
Runtime = Annotated[
    Optional[str],
    Option(
        help=f"Runtime: {', '.join(RUNTIMES)}. Default, and fastest: the one that the engine was built for."
    ),
]
Trust = Annotated[bool, Option("--trust", help="Accept an engine file that changed after it was built.")]

TeacherWeights = Annotated[
    Optional[str],
    Option(
        help="ResNet weights of the teacher: a file, or 'demo' for the ResNet-18 that adq-edge contains. "
        "Default: torchvision's ImageNet weights, downloaded once."
    ),
]
Backbone = Annotated[
    Optional[str],
    Option(
        help="ResNet of Reverse Distillation: resnet18, resnet50 or wide_resnet50_2. "
        "Default: wide_resnet50_2."
    ),
]
Restart = Annotated[bool, Option("--restart", help="Train from the start, even if a checkpoint exists.")]

_RENAMED: Mapping[str, Mapping[str, str]] = {
    "analyze": {"--data": "--calib-data", "--pictures": "--images"},
    "calibrate": {"--data": "--calib-data"},
    "compare": {"--pictures": "--sheet"},
}
"""Earlier names of options, by verb."""


def current_names(arguments: Sequence[str]) -> List[str]:
    """Return the arguments with earlier option names replaced; print a note for each on standard error."""
    renamed = _RENAMED.get(arguments[0], {}) if arguments else {}
    current = []
    for argument in arguments:
        name, *value = argument.split("=", 1)
        if name in renamed:
            print(f"adq-edge: {name} is now {renamed[name]}", file=sys.stderr)
        current.append("=".join([renamed.get(name, name), *value]))
    return current
