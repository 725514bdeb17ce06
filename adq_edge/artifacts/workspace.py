"""Default paths of the commands' outputs, and the newest output of each kind.

A working folder is laid out like the repository:

    checkpoints/NAME.pt   bundles/NAME/   engines/NAME-PRECISION.onnx   benchmarks/results/*.json
    benchmarks/submissions/*.json   figures of a board to send in
    calibration_data/     images for the calibration
"""

from __future__ import annotations

from pathlib import Path
from typing import Iterable, Type

from adq_edge.artifacts.bundle import MANIFEST_FILE
from adq_edge.core.errors import AdqError, BundleError, CheckpointError, EngineError
from adq_edge.core.files import settle_folder

CHECKPOINTS = Path("checkpoints")
BUNDLES = Path("bundles")
ENGINES = Path("engines")
CALIBRATION_DATA = Path("calibration_data")
RESULTS = Path("benchmarks") / "results"
SUBMISSIONS = Path("benchmarks") / "submissions"
PREDICTIONS = Path("predictions")
REPORT = Path("report.html")

SIDECAR_SUFFIX = ".json"


def latest_checkpoint() -> Path:
    """Return the newest checkpoint of the working folder.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    return _newest(CHECKPOINTS.glob("*.pt"), CheckpointError, "checkpoint", CHECKPOINTS, "train --data DIR")


def latest_bundle() -> Path:
    """Return the newest bundle of the working folder.

    Raises:
        BundleError: there is no bundle.
    """
    manifests = BUNDLES.glob(f"*/{MANIFEST_FILE}")
    return _newest(manifests, BundleError, "bundle", BUNDLES, "export CHECKPOINT").parent


def latest_engine() -> Path:
    """Return the newest engine of the working folder, by the time of its build.

    Raises:
        EngineError: there is no engine.
    """
    settle_folder(ENGINES)
    files = (path.with_suffix("") for path in ENGINES.glob(f"*{SIDECAR_SUFFIX}"))
    return _newest(filter(Path.is_file, files), EngineError, "engine", ENGINES, "build")


def _newest(paths: Iterable[Path], error: Type[AdqError], kind: str, folder: Path, command: str) -> Path:
    found = [path for path in paths if not path.name.startswith(".")]
    if not found:
        fix = f"Name one, or make one first: adq-edge {command}"
        raise error(f"no {kind} found here", where=folder, fix=fix)
    return max(found, key=lambda path: path.stat().st_mtime)
