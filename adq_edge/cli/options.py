"""Command-line options that several verbs share, each declared once; their choices."""

from __future__ import annotations

import enum
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Type

from typer import Argument, BadParameter, Context, Option

from adq_edge.cli.completion import complete_paths
from adq_edge.core.limits import MOST_THREADS
from adq_edge.core.methods import REVERSE_DISTILLATION, STFPM
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, DEFAULT_SOURCE, FP8_CALIBRATOR
from adq_edge.core.runtimes import RUNTIMES

if sys.version_info >= (3, 9):
    from typing import Annotated  # novm
else:
    from typing_extensions import Annotated

LAYERS = ("layer1", "layer2", "layer3")
CALIBRATORS = ("entropy", "lp", "minmax", "mse", "percentile")
TENSORRT_CALIBRATORS = ("trt-entropy", "trt-minmax", "trt-percentile")
LAYOUTS = (
    "mvtec-ad",
    "mvtec-loco",
    "mvtec-ad-2",
    "btad",
    "mpdd",
    "visa",
    "real-iad",
    "kolektor-sdd",
    "kolektor-sdd2",
    "good-and-bad",
    "masks-beside",
    "folders-with-masks",
    "images",
    "test-only",
)
SOURCES = ("images", "synthetic-defects", "random-normal")
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "wide_resnet50_2", "wide_resnet101_2")
FILE, FOLDER, COUNT, PIXELS, NUMBER = "FILE", "FOLDER", "COUNT", "PIXELS", "NUMBER"


def choices(*names: str, several: bool = False) -> Dict[str, Any]:
    """Return the arguments of an option with a fixed set of values, for its help and for shell completion.

    The values are checked where they are used: packages may add some.

    Args:
        names: the values.
        several: True if the option takes several values, separated by commas.
    """

    def complete(incomplete: str) -> List[str]:
        before, comma, last = incomplete.rpartition(",") if several else ("", "", incomplete)
        return [f"{before}{comma}{name}" for name in names if name.startswith(last)]

    return {"metavar": "|".join(names) + (",..." if several else ""), "autocompletion": complete}


def names(kind: Type[enum.Enum]) -> str:
    """Return the values of an enumeration for the help of an option."""
    return "|".join(str(member.value) for member in kind)


def calibration_arguments(
    calib: Optional[str], source: str, calib_data: Optional[str], samples: int
) -> Tuple[str, ...]:
    """Return the arguments that repeat a calibration in another command; defaults are left out."""
    from adq_edge.datasets.layouts.registry import layout_arguments

    given = (
        ("--calib", calib, None),
        ("--source", source, DEFAULT_SOURCE),
        ("--calib-data", calib_data, None),
        ("--samples", samples, DEFAULT_SAMPLES),
    )
    repeated = (str(part) for name, value, default in given if value != default for part in (name, value))
    return (*repeated, *layout_arguments())


JSON_HELP = "Print the content of the result file on standard output, and nothing else there."
VERBOSE_HELP = "Print durations, memory, library warnings and the traceback of an error."
QUIET_HELP = "Print the result and errors only: no progress, notes or next command."
Json = Annotated[bool, Option("--json", help=JSON_HELP)]
Verbose = Annotated[bool, Option("--verbose", "-v", help=VERBOSE_HELP)]
Quiet = Annotated[bool, Option("--quiet", "-q", help=QUIET_HELP)]

Bundle = Annotated[
    Optional[Path],
    Argument(
        metavar="BUNDLE",
        autocompletion=complete_paths("BUNDLE"),
        help="Bundle folder. Default: the newest in bundles/.",
    ),
]
Engine = Annotated[
    Optional[Path],
    Argument(
        metavar="ENGINE",
        autocompletion=complete_paths("ENGINE"),
        help="Engine file. Default: the newest in engines/.",
    ),
]
ResultFile = Annotated[
    Optional[Path],
    Option(
        "--output", "-o", metavar=FILE, help="Result file (.json). Default: a file in benchmarks/results/."
    ),
]
Threads = Annotated[
    Optional[int],
    Option(
        metavar=COUNT,
        min=1,
        max=MOST_THREADS,
        help="Number of CPU threads. Default: OMP_NUM_THREADS, else all that are allowed.",
    ),
]

Calib = Annotated[
    Optional[str],
    Option(
        **{**choices(*CALIBRATORS, "qat", *TENSORRT_CALIBRATORS), "metavar": "CALIBRATOR"},
        help="Calibrator: entropy, lp, minmax, mse or percentile; lp:P and percentile:P set its parameter. "
        "qat: the ranges of 'train --qat'. Only in build, for TensorRT's own calibration: trt-entropy, "
        f"trt-minmax or trt-percentile. Default: {FP8_CALIBRATOR} for FP8, qat for a model trained with it, "
        f"else {DEFAULT_CALIBRATOR}.",
    ),
]
CalibData = Annotated[
    Optional[str],
    Option(
        metavar=FOLDER,
        help="Folder of calibration images, or 'random-normal'. Default: calibration_data/ if it contains "
        "images, else the training images of the model.",
    ),
]
Source = Annotated[
    str,
    Option(
        **choices(*SOURCES, several=True),
        help="Kind of calibration images. Separate several kinds with commas.",
    ),
]
Samples = Annotated[int, Option(metavar=COUNT, min=1, help="Largest number of calibration images.")]

LabeledData = Annotated[
    Optional[Path],
    Option(
        "--data",
        metavar=FOLDER,
        help="Dataset folder with labeled images: MVTec AD, VisA, good/ and bad/ or another layout of "
        "docs/your-images.md. Default: the dataset of the training.",
    ),
]


def _read_datasets_in(context: Context, layout: Optional[str]) -> Optional[str]:
    """Read every dataset of the verb in the named layout."""
    if layout is not None and not context.resilient_parsing:
        if layout.lower() not in LAYOUTS:
            raise BadParameter(f"{layout!r} is none of {', '.join(LAYOUTS)}")
        from adq_edge.datasets.layouts.registry import use_layout

        context.with_resource(use_layout(layout))
    return layout


Layout = Annotated[
    Optional[str],
    Option(
        "--layout",
        **{**choices(*LAYOUTS), "metavar": "LAYOUT"},
        callback=_read_datasets_in,
        help=f"Layout of the dataset's folders: {', '.join(LAYOUTS)}. Default: that of the "
        "model's training, else found by the folders.",
    ),
]
DataLayout = Annotated[
    Optional[str],
    Option(
        "--data-layout",
        **{**choices(*LAYOUTS), "metavar": "LAYOUT"},
        callback=_read_datasets_in,
        help=f"Layout of the folders of --data: {', '.join(LAYOUTS)}. Default: found by the folders.",
    ),
]
Categories = Annotated[
    Optional[List[str]],
    Option(
        "--category",
        metavar="NAME",
        help="Use this category only; may be repeated. Default: the model's categories.",
    ),
]
Runtime = Annotated[
    Optional[str],
    Option(
        **choices(*(name for name, runtime in RUNTIMES.items() if not runtime.is_emulation)),
        help="Runtime. Default, and fastest: the one that the engine was built for.",
    ),
]
FalseRejects = Annotated[
    Optional[str],
    Option(
        "--false-rejects",
        metavar="RATE",
        help="Share of good parts that may be rejected, such as 0.5% or 0.005. Default: the rate that is "
        "stored with the products; 1% at first.",
    ),
]
Trust = Annotated[bool, Option("--trust", help="Accept an engine file that changed after it was built.")]

TeacherWeights = Annotated[
    Optional[str],
    Option(
        metavar=FILE,
        help="ResNet weights of the teacher: a file, or 'demo' for the ResNet-18 that adq-edge contains. "
        "Default: torchvision's ImageNet weights, downloaded once.",
    ),
]
Backbone = Annotated[
    Optional[str],
    Option(
        **choices(*BACKBONES),
        help="ResNet of reverse-distillation; in train also of stfpm. Default: "
        f"{REVERSE_DISTILLATION.options['backbone']}; {STFPM.options['backbone']} of stfpm.",
    ),
]
Restart = Annotated[bool, Option("--restart", help="Train from the start, even if a checkpoint exists.")]


_RENAMED: Mapping[str, Mapping[str, str]] = {
    "analyze": {"--data": "--calib-data", "--pictures": "--images"},
    "calibrate": {"--data": "--calib-data"},
    "compare": {"--pictures": "--sheet"},
}
"""Earlier names of options, by verb."""
_FILE_OF_DOCTOR = "--json"
"""In earlier releases an option of `doctor` with a file name."""


def verb_of(arguments: Sequence[str]) -> Optional[str]:
    """Return the verb of a command line: the first argument that is not an option."""
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def current_names(arguments: Sequence[str]) -> List[str]:
    """Return the arguments with earlier option names replaced; print a note for each on standard error."""
    verb = verb_of(arguments)
    renamed = _RENAMED.get(verb or "", {})
    current: List[str] = []
    for number, argument in enumerate(arguments):
        name, *value = argument.split("=", 1)
        new = renamed.get(name, name)
        following = arguments[number + 1 : number + 2]
        if verb == "doctor" and name == _FILE_OF_DOCTOR and number and (value or _is_value(following)):
            new = "--output"
        if new != name:
            print(f"adq-edge: {name} is now {new}", file=sys.stderr)
        current.append("=".join([new, *value]))
    return current


def _is_value(arguments: Sequence[str]) -> bool:
    return bool(arguments) and not arguments[0].startswith("-")
