"""Import models of other tools, and measure what the import and INT8 cost them.

    python -m benchmarks.foreign --recipes FOLDER --anomalib-python PATH --data ../shared/data/inspection \\
        [--kinds padim stfpm] [--categories cookie] [--no-times] [--no-compile] [--no-peers] [--work FOLDER]

FOLDER has the exports, one folder for each kind and category. What is missing there is trained and exported
by anomalib with the recipes of `recipes.py`; without `--anomalib-python` only existing exports are measured.
AnomaVision's are made by `anomavision.py`: `anomavision.py padim cookie FOLDER/anomavision_padim_cookie`.
With `--only-compile` what was measured before is read again, and only the compilation is repeated; with
`--only-times` only the times. The engines for them are taken from the folder of `--work`.
The figures of each export are kept in `FOLDER/KIND_CATEGORY/measured.json`. Writes
benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Sequence

from adq_edge.core.console import console
from adq_edge.core.errors import AdqError
from adq_edge.hardware.environment import read_environment
from benchmarks.command_line import make_parser
from benchmarks.foreign import table
from benchmarks.foreign.exports import Export, list_exports, make_missing
from benchmarks.foreign.measuring import Settings, measure, measure_compilation, measure_times
from benchmarks.foreign.recipes import ANOMAVISION, CATEGORIES, RECIPES
from benchmarks.published import publish


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = make_parser("benchmarks.foreign", __doc__)
    parser.add_argument("--recipes", type=Path, required=True, help="folder of the exports")
    parser.add_argument("--data", type=Path, required=True, help="dataset in MVTec AD layout")
    parser.add_argument("--anomalib-python", type=Path, help="interpreter with anomalib 2.7")
    parser.add_argument(
        "--kinds", nargs="+", default=[*RECIPES, *ANOMAVISION], metavar="KIND", help="default: all"
    )
    parser.add_argument("--categories", nargs="+", default=list(CATEGORIES), metavar="CATEGORY")
    parser.add_argument("--samples", type=int, default=64, help="maximum number of calibration images")
    parser.add_argument("--limit", type=int, help="maximum number of test images; all by default")
    parser.add_argument("--rounds", type=int, default=100, help="rounds of the interleaved timing")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of each engine")
    parser.add_argument("--no-times", action="store_true", help="measure no times")
    parser.add_argument("--no-compile", action="store_true", help="do not compile with TensorRT-RTX")
    parser.add_argument("--only-compile", action="store_true", help="repeat the compilation only")
    parser.add_argument("--only-times", action="store_true", help="repeat the times, and measure the peers")
    parser.add_argument("--work", type=Path, help="folder that keeps bundles and engines")
    parser.add_argument("--no-peers", action="store_true", help="measure neither NNCF nor anomalib's INT8")
    parser.add_argument("--gpu", default="SM86", help="compute capability for TensorRT-RTX")
    parser.add_argument("--again", action="store_true", help="measure again what was measured before")
    parser.add_argument("--name", default="foreign", help="name of the published table")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> None:
    """Make the missing exports, measure each and publish the table."""
    options = parse(arguments)
    exports = list_exports(options.recipes, options.kinds, options.categories)
    if options.anomalib_python is not None:
        make_missing(exports, options.anomalib_python, options.data, not options.no_peers)
    settings = Settings(
        data=options.data,
        samples=options.samples,
        limit=options.limit,
        rounds=0 if options.no_times else options.rounds,
        compute_capability=None if options.no_compile else options.gpu,
        threads=options.threads,
        peers=not options.no_peers,
    )
    found = [_measured(each, settings, options) for each in exports if each.folder.exists()]
    if not found:
        raise AdqError("no export", where=options.recipes, fix="Give --anomalib-python")
    publish(
        options.name,
        table.title(settings),
        table.HEADINGS,
        [table.row(each) for each in found],
        {
            "samples": settings.samples,
            "threads": settings.threads,
            "load_average": list(os.getloadavg()),
            "models": found,
        },
        read_environment(),
    )


def _measured(export: Export, settings: Settings, options: argparse.Namespace) -> Dict[str, Any]:
    """Measure an export, or read what was measured before."""
    path = export.folder / "measured.json"
    before: Dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if before and not (options.again or options.only_compile or options.only_times):
        return before
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options.work or temporary) / export.folder.name
        work.mkdir(parents=True, exist_ok=True)
        if options.only_compile or options.only_times:
            repeat = measure_compilation if options.only_compile else measure_times
            found = repeat(export, settings, work, before)
        else:
            found = measure(export, settings, work)
    path.write_text(json.dumps(found, indent=1))
    print(" | ".join(table.row(found)), flush=True)
    return found


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AdqError as error:
        console.print(str(error), markup=False)
        raise SystemExit(error.exit_code) from None
