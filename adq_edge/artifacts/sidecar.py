"""The sidecar `<engine>.json`: description, origin and threshold of an engine."""

from __future__ import annotations

import dataclasses
import os
import platform
from pathlib import Path
from typing import Dict, Optional, Tuple

from adq_edge.artifacts.bundle import FileReference, check_further_sizes
from adq_edge.artifacts.engine_file import changed_engine_error, check_file_size
from adq_edge.artifacts.file_kinds import reject_other_kinds
from adq_edge.artifacts.workspace import SIDECAR_SUFFIX
from adq_edge.core.errors import EngineError
from adq_edge.core.files import Kind, is_plain_name, read_consistently, settle, sha256, storage_errors
from adq_edge.core.images.sizes import check_size
from adq_edge.core.options import Device, Precision, Sparsity
from adq_edge.core.records import Record, record
from adq_edge.core.runtimes import RUNTIMES, runtime_names

_REMEDY = "Build the engine again: adq-edge build BUNDLE"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The calibration of an INT8 engine."""

    calibrator: str
    source: str
    images: int
    ranges: FileReference


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Lowest anomaly score at which an engine's result counts as anomalous.

    Attributes:
        score: the threshold with the largest F1 score on labeled images.
        f1: F1 score at the threshold, 0 to 1.
        images: number of labeled images.
        data: the dataset folder.
        categories: the categories that were read; empty in older files.
    """

    score: float
    f1: float
    images: int
    data: str
    categories: Tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class KernelCount:
    """Number of an engine's kernels of one type and of the same number formats.

    Attributes:
        kind: TensorRT's name of the type.
        reads: lowest number format of the inputs: INT8, FP16, FP32 or another.
        writes: lowest number format of the results.
        count: number of these kernels.
    """

    kind: str
    reads: str
    writes: str
    count: int


@dataclasses.dataclass(frozen=True)
class TensorRTDetails:
    """Build details of a TensorRT engine.

    Attributes:
        route: a value of `Route`.
        compute_capability: compute capabilities of the engine's GPUs, separated by commas, such as "7.2".
        max_batch: the largest number of images in one inference request.
        dla: number of the DLA core that runs the engine; None for the GPU.
        layers: number of compute layers by number format, and on DLA; None if they are not known.
        stripped: layers of an INT8 engine for which TensorRT had no integer kernel.
        workspace_mb: memory that a kernel may use while it runs, in MB (10^6 bytes).
        seconds: duration of the build with all its attempts, in s.
        peak_mb: peak resident memory of the builder process, in MB (10^6 bytes).
        warnings: messages to the user about the engine.
        system_mb: largest decrease of a Jetson's available memory during the build, in MB: it includes the
            memory of the GPU. None on other machines, and in files of earlier releases.
        kernels: kernels by type and number formats; empty if they are not known, and in files of earlier
            releases. Of TensorRT-RTX they are those that its builder lists.
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
    system_mb: Optional[float] = None
    kernels: Tuple[KernelCount, ...] = ()


@record(
    "adq-edge/engine",
    version=2,
    error=EngineError,
    fix=_REMEDY,
    older={1: {"tensorrt.largest_batch": "max_batch"}},
)
@dataclasses.dataclass(frozen=True)
class Sidecar(Record):
    """The description of an engine.

    Attributes:
        name: the engine's name in tables.
        runtime: the runtime that it was built for.
        runtime_version: that runtime's version at build time.
        device: the device that it was built for.
        machine: the processor architecture that it was built for, as `platform.machine` returns it.
        precision: number format of the networks.
        arch: the method.
        image_size: (height, width) of the input in pixels.
        map_size: (height, width) of the anomaly map in pixels.
        engine_sha256: hash of the engine file.
        model: the bundle's model.
        operators: number of executed operators, by the runtime's operator names.
        calibration: the calibration of an INT8 engine.
        threshold: the threshold from `eval`; None before the first `eval`.
        data: folder of the training dataset, where known; of an imported model the dataset given to `import`.
        float_layers: layers of the networks that an INT8 engine keeps in float32, worst first.
        plan: the precision plan with these layers; None without a plan.
        tensorrt: the build of a TensorRT engine.
        categories: categories of the training dataset, where known.
        embedding_size: numbers in the embedding of an image; None if the engine has no such output.
        scale_sizes: (height, width) of each scale map, shallow layers first; empty if the engine has none.
        imported: True if another tool trained the model, on images that are not known.
        layout: the layout of the training dataset, if it was named; None if it was found by the folders.
        sparsity: pattern of the weights that are zero; None if no weight was pruned.
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
    embedding_size: Optional[int] = None
    scale_sizes: Tuple[Tuple[int, int], ...] = ()
    imported: bool = False
    layout: Optional[str] = None
    sparsity: Optional[Sparsity] = None

    def check(self) -> None:
        """Raise a ValueError if a size is impossible, or the runtime or device is unknown."""
        check_size("its image size", self.image_size)
        check_size("its map size", self.map_size)
        check_further_sizes(self.embedding_size, self.scale_sizes)
        if self.runtime not in RUNTIMES and self.runtime not in runtime_names():
            raise ValueError(f"its runtime {self.runtime!r} is not one of: {', '.join(runtime_names())}")
        devices = [device.value for device in Device]
        if self.device not in devices:
            raise ValueError(f"its device {self.device!r} is not one of: {', '.join(devices)}")
        if self.tensorrt is not None and self.tensorrt.max_batch < 1:
            raise ValueError(f"its largest batch has {self.tensorrt.max_batch} images")

    def of_engine(self, engine_sha256: str) -> Sidecar:
        """Return the sidecar of an engine file with this hash.

        The threshold of another file is dropped: it belongs to the engine that it was measured with.
        """
        threshold = self.threshold if engine_sha256 == self.engine_sha256 else None
        return dataclasses.replace(self, engine_sha256=engine_sha256, threshold=threshold)


def sidecar_path(engine: Path) -> Path:
    """Return the path of an engine's sidecar; of a link without a sidecar, that of the engine behind it.

    Raises:
        StorageError: the path cannot be looked up, for example because its name is too long.
    """
    return path_beside(engine, SIDECAR_SUFFIX)


def path_beside(engine: Path, suffix: str) -> Path:
    """Return the path of a file whose name is that of an engine and a suffix; errors as of `sidecar_path`.

    For a link without such a file, it is the path of the file beside the engine behind the link.
    """
    beside = engine.with_name(engine.name + suffix)
    with storage_errors(engine):  # a name that is too long
        if engine.is_symlink() and not os.path.lexists(str(beside)):
            real = engine.resolve()
            return real.with_name(real.name + suffix)
    return beside


def _has_sidecar(engine: Path) -> bool:
    path, kind = sidecar_path(engine), Sidecar.kind()
    return path.is_file() and kind is not None and kind.recognizes(path)


ENGINE = Kind("an engine of adq-edge (it has no sidecar)", _has_sidecar)


def read_sidecar(engine: Path, *, trust: bool = False) -> Sidecar:
    """Read an engine's sidecar and check the engine's hash, because an engine contains executable code.

    Args:
        engine: the engine file.
        trust: accept an engine that was changed since it was built.

    Raises:
        EngineError: the engine or its sidecar is missing, the engine was changed or is too large, its sidecar
            is not valid, or it was built for another processor architecture.
    """
    return read_consistently((engine, sidecar_path(engine)), lambda: _read_once(engine, trust))


def _read_once(engine: Path, trust: bool) -> Sidecar:
    settle(engine)
    reject_other_kinds(engine)
    if not engine.is_file():
        raise EngineError(
            "no such engine", where=engine, fix="Check the path, or build it: adq-edge build BUNDLE"
        )
    path = sidecar_path(engine)
    if not path.is_file():
        raise EngineError(f"its sidecar {path.name} is missing", where=engine, fix=_REMEDY)
    sidecar = Sidecar.read(path)
    if not is_plain_name(sidecar.name):
        raise EngineError("its name is not a plain file name", where=path, fix=_REMEDY)
    check_file_size(engine, engine.stat().st_size)
    if not trust and sha256(engine) != sidecar.engine_sha256:
        raise changed_engine_error(engine)
    if sidecar.machine != platform.machine():
        raise EngineError(
            f"built for {sidecar.machine}, this machine is {platform.machine()}",
            where=engine,
            fix="Build it here from its bundle: adq-edge build BUNDLE",
        )
    return sidecar
