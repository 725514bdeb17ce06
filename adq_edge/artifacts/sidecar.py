"""The sidecar: `<engine>.json`, what an engine is, what it was made from and what was measured on it."""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Dict, Optional, Tuple

from adq_edge.artifacts.bundle import FileReference
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.errors import EngineError
from adq_edge.core.files import is_plain_name, sha256
from adq_edge.core.options import Precision
from adq_edge.core.records import Record, record

_REMEDY = "Build the engine again: adq-edge build BUNDLE"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Which ranges an INT8 engine was built with."""

    calibrator: str
    source: str
    images: int
    ranges: FileReference


@dataclasses.dataclass(frozen=True)
class Threshold:
    """The score from which on an image counts as anomalous, found for this very engine.

    Attributes:
        score: the threshold; F1-max over `images` labelled images.
        f1: F1 score at the threshold, 0..1.
        images: number of labelled images.
        data: the dataset folder.
        categories: those of its categories that were read; empty in files from before it was said.
    """

    score: float
    f1: float
    images: int
    data: str
    categories: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class TensorRTDetails:
    """How a TensorRT engine was built, and what came of it.

    Attributes:
        route: who decided on the layers' number formats; a value of `Route`.
        compute_capability: GPUs that it runs on, "7.2" for a Xavier; several with commas between them.
        max_batch: number of images that one query may hold.
        dla: the DLA core that it runs on; None for the GPU alone.
        layers: number of computing layers by number format, and of those on DLA; None where only the GPU that
            runs the engine can tell.
        stripped: layers of an INT8 engine that TensorRT had no integer kernel for.
        workspace_mb: memory that a kernel may use while it runs, in MB (10^6 bytes).
        seconds: what building took, all tries together.
        peak_mb: the most memory that the builder held, in MB (10^6 bytes).
        warnings: what a user should know before trusting the engine.
    """

    route: str
    compute_capability: Optional[str]
    max_batch: int
    dla: Optional[int]
    layers: Optional[Dict[str, int]]
    stripped: Tuple[str, ...]
    workspace_mb: int
    seconds: float
    peak_mb: Optional[float]
    warnings: Tuple[str, ...]


@record(
    "adq-edge/engine",
    version=2,
    error=EngineError,
    fix=_REMEDY,
    older={1: {"tensorrt.largest_batch": "max_batch"}},
)
@dataclasses.dataclass(frozen=True)
class Sidecar(Record):
    """What is known about an engine.

    Attributes:
        name: the engine's name in tables.
        runtime: the runtime it was built for.
        runtime_version: that runtime's version at build time.
        device: the device it was built for.
        machine: the processor architecture it was built for, as `platform.machine` says it.
        precision: number format of the networks.
        arch: the method.
        image_size: (height, width) of the input in pixels.
        map_size: (height, width) of the anomaly map.
        engine_sha256: hash of the engine file.
        model: the bundle's model.
        operators: number of operators that the runtime executes, by its own names for them.
        calibration: of an INT8 engine.
        threshold: found by `eval`; None before.
        data: the dataset folder that the model was trained on, where known.
        float_layers: layers of the networks that an INT8 engine keeps in float32, worst first.
        plan: the precision plan that names them; None where none was asked for.
        tensorrt: of a TensorRT engine.
        categories: the product classes that the model was trained on, where known.
    """

    name: str
    runtime: str
    runtime_version: str
    device: str
    machine: str
    precision: Precision
    arch: str
    image_size: Tuple[int, int]
    map_size: Tuple[int, int]
    engine_sha256: str
    model: FileReference
    operators: Dict[str, int]
    calibration: Optional[Calibration]
    threshold: Optional[Threshold]
    data: Optional[str]
    float_layers: Tuple[str, ...] = ()
    plan: Optional[FileReference] = None
    tensorrt: Optional[TensorRTDetails] = None
    categories: Tuple[str, ...] = ()


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine's sidecar."""
    return engine.with_name(engine.name + SIDECAR_SUFFIX)


def vouch_for(engine: Path) -> None:
    """Have an engine's sidecar vouch for the file as it is now.

    Raises:
        EngineError: no engine, or no sidecar.
        StorageError: the folder cannot be written to or is full.
    """
    sidecar = read_sidecar(engine, trust=True)
    dataclasses.replace(sidecar, engine_sha256=sha256(engine)).write(sidecar_path(engine))


def read_sidecar(engine: Path, *, trust: bool = False) -> Sidecar:
    """Read an engine's sidecar and check that the engine is the file it vouches for and suits this machine.

    An engine is code to a GPU: one that was changed since it was built is refused.

    Args:
        engine: the engine file.
        trust: take an engine that the sidecar does not vouch for.

    Raises:
        EngineError: no engine, no sidecar, a changed engine, or one built for another kind of processor.
    """
    if not engine.is_file():
        raise EngineError("no such engine", where=engine, fix=_REMEDY)
    path = sidecar_path(engine)
    if not path.is_file():
        raise EngineError(f"its sidecar {path.name} is missing", where=engine, fix=_REMEDY)
    sidecar = Sidecar.read(path)
    if not is_plain_name(sidecar.name):
        raise EngineError("its name is no plain file name", where=path, fix=_REMEDY)
    if not trust and sha256(engine) != sidecar.engine_sha256:
        raise EngineError(
            f"not the file that {path.name} describes (truncated or changed)",
            where=engine,
            fix=f"{_REMEDY}, or take it if you know where it comes from: adq-edge eval ENGINE --trust",
        )
    if sidecar.machine != platform.machine():
        raise EngineError(
            f"built for {sidecar.machine}, this machine is {platform.machine()}",
            where=engine,
            fix="Build it here from its bundle: adq-edge build BUNDLE",
        )
    return sidecar
