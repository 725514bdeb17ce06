"""Measure adq-edge and every installed peer.

    python -m benchmarks.peers --data DIR --stfpm STUDENT --teacher-weights FILE \\
        [--paste PASTE] [--python anomalib=/path/to/venv/bin/python] [--quick]

Writes benchmarks/published/peers.json and peers.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Dict, List, Sequence

from adq_edge.core.console import console
from adq_edge.core.errors import AdqError
from benchmarks.command_line import make_parser
from benchmarks.peers import tables
from benchmarks.peers.catalog import CONTENDERS, MAKERS, PASTE, RD, STFPM
from benchmarks.peers.competition import compete
from benchmarks.peers.materials import (
    CHECK_IMAGES,
    add_variant,
    load_paste,
    load_stfpm,
    make_images,
    make_model,
    random_rd,
)
from benchmarks.peers.measuring import Plan

_PUBLISHED = Path(__file__).resolve().parents[1] / "published"
_QUICK = Plan(queries=12, seconds=0.0, warm_up_seconds=0.2)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("benchmarks.peers", __doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset in MVTec AD layout")
    parser.add_argument("--stfpm", type=Path, required=True, help="STFPM checkpoint for all contenders")
    parser.add_argument("--teacher-weights", help="teacher weights, for a checkpoint of the student alone")
    parser.add_argument("--paste", type=Path, help="PaSTe checkpoint of the same teacher, beside STFPM")
    parser.add_argument("--models", nargs="+", choices=(STFPM, RD), default=[STFPM, RD])
    parser.add_argument("--only", nargs="+", choices=MAKERS, default=list(MAKERS), metavar="MAKER")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="MAKER=FILE",
        help="Python interpreter for a maker",
    )
    parser.add_argument(
        "--samples", type=_at_least_one, default=300, help="maximum number of calibration images"
    )
    parser.add_argument("--threads", type=_at_least_one, help="CPU threads; by default those of each peer")
    parser.add_argument(
        "--queries", type=_at_least_one, default=1024, help="minimum number of queries per contender"
    )
    parser.add_argument("--seconds", type=_positive, default=60.0, help="minimum duration per contender")
    parser.add_argument("--quick", action="store_true", help="a short trial: not to be quoted")
    parser.add_argument("--output", type=Path, default=_PUBLISHED / "peers", help="path without suffix")
    return parser.parse_args(arguments)


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number of seconds")
    return number


def main(arguments: Sequence[str]) -> None:
    """Make models and images, prepare and time the contenders of each model, write the tables."""
    options = parse(arguments)
    pythons = _interpreters(options.python)
    plan = _QUICK if options.quick else Plan(options.queries, options.seconds, min(3.0, options.seconds / 4))
    load_average = ", ".join(f"{value:.2f}" for value in os.getloadavg())
    versions: Dict[str, Dict[str, str]] = {}
    done: List[tables.Table] = []
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        stfpm = load_stfpm(options.stfpm, options.teacher_weights)
        size = stfpm.config.image_size
        images = make_images(options.data, work / "images", size, options.samples)
        for model in options.models:
            network = stfpm if model == STFPM else random_rd(images, size)
            made = make_model(model, network, work / model, images)
            if options.paste is not None and model == STFPM:
                add_variant(made.folder, PASTE, load_paste(options.paste), images)
            done.append(
                compete(
                    made,
                    [each for each in CONTENDERS[model] if options.paste or each.scoring != PASTE],
                    images,
                    plan,
                    pythons,
                    options.threads,
                    versions,
                    options.only,
                )
            )
    settings = {
        "quick": options.quick,
        "threads": options.threads,
        "queries": plan.queries,
        "seconds": plan.seconds,
        "calibration_images": options.samples,
        "check_images": CHECK_IMAGES,
        "load_average": load_average,
        "versions": versions,
    }
    print(tables.write(options.output.parent, options.output.name, done, settings))


def _interpreters(given: Sequence[str]) -> Dict[str, str]:
    """Read `MAKER=FILE` pairs; other makers run in this interpreter."""
    found = dict.fromkeys(MAKERS, sys.executable)
    for pair in given:
        maker, _, path = pair.partition("=")
        if maker not in found or not path:
            raise AdqError(
                f"--python {pair} is not of the form MAKER=FILE", fix=f"Makers: {', '.join(MAKERS)}"
            )
        found[maker] = path
    return found


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdqError as error:
        console.print(str(error), markup=False)
        raise SystemExit(error.exit_code) from None
