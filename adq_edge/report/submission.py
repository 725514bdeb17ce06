"""A submission: the figures of a board in one file that names no person, place, product or machine.

Its fields are a list of what may be published. They hold numbers, and texts of the forms in `public_texts`.
"""

from __future__ import annotations

import dataclasses
from typing import Dict, Optional, Tuple

from adq_edge.benchmark.records import (
    EndToEnd,
    Interval,
    Memory,
    OfflineEnd,
    SingleStream,
    Throughput,
    WarmUp,
)
from adq_edge.core.errors import ResultError
from adq_edge.core.options import Device, Precision
from adq_edge.core.records import Record, record
from adq_edge.report import public_texts as forms
from adq_edge.report.public_texts import find_private_text, form


@dataclasses.dataclass(frozen=True)
class BoardSettings:
    """Settings and state of a Jetson before or after a run; attributes as of `PowerMode` and `BoardState`.

    `mode` is `custom` for a power mode that NVIDIA does not ship.
    """

    mode: Optional[str] = dataclasses.field(metadata=form(forms.MODE))
    mode_id: Optional[int]
    mode_cores: Optional[int]
    mode_gpu_max_mhz: Optional[float]
    mode_emc_max_mhz: Optional[float]
    mode_cpu_max_mhz: Optional[float]
    clocks_locked: Optional[bool]
    gpu_mhz: Optional[float]
    emc_mhz: Optional[float]
    hottest_degc: Optional[float]


@dataclasses.dataclass(frozen=True)
class SubmittedBoard:
    """The board and its software.

    Attributes:
        name: type of module such as `Jetson Xavier NX`, or name of a graphics card.
        module: part number of a Jetson's module, such as `p3668-0001`.
        cpu: cores of an Arm processor.
        memory_gb: memory in GB (10^9 bytes).
        mode: power mode.
        system: distribution and its version.
        packages: versions of libraries by name.
    """

    name: str = dataclasses.field(metadata=form(forms.BOARD))
    module: Optional[str] = dataclasses.field(metadata=form(forms.MODULE))
    cpu: Optional[str] = dataclasses.field(metadata=form(forms.CPU))
    architecture: Optional[str] = dataclasses.field(metadata=form(forms.ARCHITECTURE))
    instruction_sets: Tuple[str, ...] = dataclasses.field(metadata=form(forms.INSTRUCTIONS))
    logical_cores: int
    memory_gb: Optional[float]
    mode: Optional[str] = dataclasses.field(metadata=form(forms.MODE))
    system: Optional[str] = dataclasses.field(metadata=form(forms.SYSTEM))
    l4t: Optional[str] = dataclasses.field(metadata=form(forms.L4T))
    jetpack: Optional[str] = dataclasses.field(metadata=form(forms.JETPACK))
    cuda: Optional[str] = dataclasses.field(metadata=form(forms.CUDA))
    python: Optional[str] = dataclasses.field(metadata=form(forms.VERSION))
    packages: Dict[str, str] = dataclasses.field(metadata=form(f"{forms.PACKAGE}|{forms.VERSION}"))
    before: Optional[BoardSettings]
    after: Optional[BoardSettings]


@dataclasses.dataclass(frozen=True)
class SubmittedSettings:
    """Settings of the run; attributes as of `Settings`.

    `own_image` is True if the end-to-end image was a file of the user.
    """

    device: Device
    threads: Optional[int]
    queries: int
    seconds: float
    offline_seconds: float
    own_image: bool
    image_pixels: Tuple[int, int]
    image_mb: float


@dataclasses.dataclass(frozen=True)
class SubmittedInterference:
    """Other work on the board; attributes as of `Interference`."""

    is_quiet: bool
    other_cpu_percent: Optional[float]
    stolen_percent: Optional[float]
    drift_percent: float
    governor: Optional[str] = dataclasses.field(metadata=form(forms.GOVERNOR))


@dataclasses.dataclass(frozen=True)
class SubmittedEnergy:
    """Power and energy; attributes as of `Energy` and `Recording`, without the samples."""

    rail: str = dataclasses.field(metadata=form(forms.RAIL))
    idle_w: Optional[float]
    mean_w: float
    joules_per_image: float
    joules_per_image_above_idle: Optional[float]


@dataclasses.dataclass(frozen=True)
class SubmittedSensors:
    """What the sensors of the board showed while an engine was timed."""

    hertz: float
    cost_percent: float
    hottest_degc: Optional[float]
    throttled: Optional[bool]
    energy: Optional[SubmittedEnergy]


@dataclasses.dataclass(frozen=True)
class LatencyRatio:
    """Latency relative to the first engine of the run; attributes as of `Comparison`."""

    latency_ratio: float
    latency_ratio_interval: Optional[Interval]
    latency_ratio_p5: float
    latency_ratio_p95: float
    rounds: int


@dataclasses.dataclass(frozen=True)
class SubmittedQuality:
    """Quality of an engine, measured on the same board; None for what was not measured.

    Attributes:
        images: number of labeled images.
        image_auroc: mean over the categories, 0 to 1.
        pixel_auroc: mean over the categories with masks.
        aupro: area under the per-region overlap.
        map_snr_db: signal-to-noise ratio of the maps against the FP32 engine, in dB.
    """

    images: int
    image_auroc: Optional[float]
    pixel_auroc: Optional[float]
    aupro: Optional[float]
    map_snr_db: Optional[float]


@dataclasses.dataclass(frozen=True)
class SubmittedEngine:
    """Figures of one engine; attributes as of `EngineBenchmark`.

    Attributes:
        name: method and precision; the user's name of the engine is not in the file.
        model: number of its model, from 1: engines with the same number were built from one model.
        layers: number of layers by number format.
        sensors: power and temperature; None without a sensor.
        quality: quality on labeled images; None if it was not measured on this board.
    """

    name: str = dataclasses.field(metadata=form(forms.ENGINE))
    method: str = dataclasses.field(metadata=form(forms.METHOD))
    precision: Precision
    model: int
    image_size: Tuple[int, int]
    runtime: str = dataclasses.field(metadata=form(forms.RUNTIME))
    runtime_version: Optional[str] = dataclasses.field(metadata=form(forms.VERSION))
    engine_mb: float
    load_ms: float
    build_seconds: Optional[float]
    layers: Dict[str, int] = dataclasses.field(metadata=form(forms.FORMATS))
    cuda_graph: Optional[bool]
    enqueue_ms: Optional[float]
    gpu_wait: Optional[str] = dataclasses.field(metadata=form(forms.WAIT))
    single_stream: Optional[SingleStream]
    end_to_end: Optional[EndToEnd]
    offline: Tuple[Throughput, ...]
    offline_end: Optional[OfflineEnd]
    offline_warm_up: Optional[WarmUp]
    memory: Memory
    ratio: Optional[LatencyRatio]
    sensors: Optional[SubmittedSensors]
    quality: Optional[SubmittedQuality]


@record(
    "adq-edge/submission",
    version=1,
    error=ResultError,
    fix="Write it again on the board: adq-edge bench --submit; do not edit the file",
)
@dataclasses.dataclass(frozen=True)
class Submission(Record):
    """The figures of a board.

    Attributes:
        release: release of adq-edge.
        date: day of the measurement in UTC.
        quick: True for a short run, which is not to be quoted.
    """

    release: str = dataclasses.field(metadata=form(rf"{forms.VERSION}[a-z0-9.]{{0,6}}"))
    date: str = dataclasses.field(metadata=form(forms.DATE))
    quick: bool
    board: SubmittedBoard
    settings: SubmittedSettings
    interference: SubmittedInterference
    engines: Tuple[SubmittedEngine, ...]

    def check(self) -> None:
        """Raise a ValueError for a text that a submission may not hold, or impossible figures."""
        from adq_edge.report.submitted import run_of  # uses this module

        private = find_private_text(self)
        if private is not None:
            raise ValueError(private)
        names = [engine.name for engine in self.engines]
        if len(set(names)) < len(names):
            raise ValueError("two engines have the same name")
        qualities = [engine.quality for engine in self.engines if engine.quality is not None]
        areas = [area for one in qualities for area in (one.image_auroc, one.pixel_auroc, one.aupro)]
        if any(area is not None and not 0 <= area <= 1 for area in areas):
            raise ValueError("an AUROC or AUPRO is not between 0 and 1")
        run_of(self).check()
