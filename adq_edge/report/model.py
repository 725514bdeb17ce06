"""What a report shows of each engine: its measurements, its baseline, and the reasons for caution."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional, Tuple

from adq_edge.benchmark.quotable import Flag, find_flags
from adq_edge.benchmark.records import EngineBenchmark, Interval, Latency
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.environment import Environment
from adq_edge.hardware.telemetry.recording import Energy
from adq_edge.report.submission import SubmittedQuality


class Speed(NamedTuple):
    """Ratio of the median latency to the baseline's; below 1 is faster.

    The confidence interval is over the rounds; None for too few rounds or engines of separate runs.
    """

    ratio: float
    interval: Optional[Interval]
    interleaved: bool


@dataclasses.dataclass(frozen=True)
class Entry:
    """One measured engine.

    Attributes:
        device: name of the device that it ran on.
        report: the run of `bench`, with this engine alone.
        quality: its evaluation; where there are several, one on the data of most other engines.
        quality_flags: reasons for caution with the quality.
        baseline: the FP32 engine that it is compared with; None for FP32 engines or without one.
        speed: speed relative to the baseline.
        auroc_change: image AUROC minus the baseline's on the same images; None if one is unknown.
        agreement: result of `compare` between the baseline's engine (A) and this one (B).
        submitted: quality of an engine of a submission; None for other engines, and if it has none.
    """

    device: str
    report: BenchmarkReport
    quality: Optional[Evaluation] = None
    quality_flags: Tuple[Flag, ...] = ()
    baseline: Optional[Entry] = None
    speed: Optional[Speed] = None
    auroc_change: Optional[float] = None
    agreement: Optional[Comparison] = None
    submitted: Optional[SubmittedQuality] = None

    @property
    def engine(self) -> EngineBenchmark:
        """The engine's measurements."""
        return self.report.engines[0]

    @property
    def flags(self) -> Tuple[Flag, ...]:
        """Reasons for caution with the speed."""
        return find_flags(self.report, self.engine)

    @property
    def all_flags(self) -> Tuple[Flag, ...]:
        """Reasons for caution with speed and quality."""
        return (*self.flags, *self.quality_flags)

    @property
    def latency(self) -> Optional[Latency]:
        """Latency of SingleStream queries; None if that scenario was not measured."""
        stream = self.engine.single_stream
        return None if stream is None else stream.latency

    @property
    def image_auroc(self) -> Optional[float]:
        """Image AUROC, 0 to 1; None without an evaluation."""
        quality = self.quality or self.submitted
        return None if quality is None else quality.image_auroc

    @property
    def energy(self) -> Optional[Energy]:
        """Energy of SingleStream queries; None if it was not measured."""
        return None if self.engine.recording is None else self.engine.recording.energy

    @property
    def quotable(self) -> bool:
        """True if the speed meets the rules for publishing: long enough, warm, undisturbed, not throttled."""
        return not self.flags

    @property
    def method(self) -> str:
        """The method and the image size."""
        height, width = self.engine.image_size
        return f"{self.engine.arch}, {width}x{height}"


@dataclasses.dataclass(frozen=True)
class Model:
    """One model's engines on one device, from the widest number format to the narrowest."""

    name: str
    entries: Tuple[Entry, ...]


@dataclasses.dataclass(frozen=True)
class Device:
    """One machine, used in one way; the software in its environments may differ."""

    name: str
    environments: Tuple[Environment, ...]
    models: Tuple[Model, ...]

    @property
    def entries(self) -> Tuple[Entry, ...]:
        """All engines."""
        return tuple(entry for model in self.models for entry in model.entries)


def entries_of(report: BenchmarkReport, device: str) -> Tuple[Entry, ...]:
    """Return an entry for each engine of a run."""
    alone = (dataclasses.replace(report, engines=(engine,)) for engine in report.engines)
    return tuple(Entry(device, one) for one in alone)
