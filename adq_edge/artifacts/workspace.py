"""Where each verb puts its output and finds the previous verb's, when told nothing else.

A working folder is laid out like the repository's top level:

    checkpoints/NAME.pt   bundles/NAME/   engines/NAME-PRECISION.onnx   benchmarks/results/*.json
    calibration_data/     the images that `build --int8` calibrates on
"""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterable, Type

from adq_edge.artifacts.bundle import MANIFEST_FILE
from adq_edge.core.errors import AdqError, BundleError, CheckpointError, EngineError

CHECKPOINTS = Path("checkpoints")
BUNDLES = Path("bundles")
ENGINES = Path("engines")
CALIBRATION_DATA = Path("calibration_data")
RESULTS = Path("benchmarks") / "results"
PREDICTIONS = Path("predictions")
REPORT = Path("report.html")

SIDECAR_SUFFIX = ".json"


def latest_checkpoint() -> Path:
    """Return the newest checkpoint that `train` wrote here.

    Raises:
        CheckpointError: there is none.
    """
    return _newest(CHECKPOINTS.glob("*.pt"), CheckpointError, "checkpoint", CHECKPOINTS, "train --data DIR")


def latest_bundle() -> Path:
    """Return the newest bundle that `export` wrote here.

    Raises:
        BundleError: there is none.
    """
    manifests = BUNDLES.glob(f"*/{MANIFEST_FILE}")
    return _newest(manifests, BundleError, "bundle", BUNDLES, "export CHECKPOINT").parent


def latest_engine() -> Path:
    """Return the newest engine that `build` wrote here.

    Raises:
        EngineError: there is none.
    """
    sidecars = (path for path in ENGINES.glob(f"*{SIDECAR_SUFFIX}") if path.with_suffix("").is_file())
    newest = _newest(sidecars, EngineError, "engine", ENGINES, "build", key=_built)
    return newest.with_suffix("")


def _built(sidecar: Path) -> float:
    """Age by the engine itself: `eval` rewrites the sidecar."""
    return sidecar.with_suffix("").stat().st_mtime


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def _newest(
    paths: Iterable[Path],
    error: Type[AdqError],
    kind: str,
    folder: Path,
    verb: str,
    key: Callable[[Path], float] = _modified,
) -> Path:
    found = sorted((path for path in paths if not path.name.startswith(".")), key=key)
    if not found:
        raise error(
            f"no {kind} found here", where=folder, fix=f"Name one, or make one first: adq-edge {verb}"
        )
    return found[-1]
