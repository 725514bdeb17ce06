"""What a report shows of each engine: its figures, what they are compared with, and reasons for caution."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, Optional, Tuple

from adq_edge.benchmark.records import EngineBenchmark, Interval, Latency
from adq_edge.benchmark.results import Flag
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.environment import Environment
from adq_edge.report.load import Measurement


class Speed(NamedTuple):
    """Latency relative to the baseline's; below 1 is faster.

    Attributes:
        ratio: of the medians.
        interval: its 95 % confidence interval over the rounds; None without turns, or for too few rounds.
        interleaved: whether the two took turns in one run.
    """

    ratio: float
    interval: Optional[Interval]
    interleaved: bool


@dataclasses.dataclass(frozen=True)
class Entry:
    """One measured engine with all that is known of it.

    Attributes:
        measurement: its speed.
        quality: its quality, on the same data for all entries of a device where there is a choice.
        flags: reasons for caution with its speed.
        quality_flags: those with its quality.
        baseline: the engine that it is compared with; None for the baseline itself, or without one.
        speed: relative to the baseline.
        auroc_change: image AUROC less the baseline's on the same images; None if one is unknown.
        agreement: what `compare` found between the baseline's engine (A) and this one (B).
    """

    measurement: Measurement
    quality: Optional[Evaluation]
    flags: Tuple[Flag, ...]
    quality_flags: Tuple[Flag, ...] = ()
    baseline: Optional[Entry] = None
    speed: Optional[Speed] = None
    auroc_change: Optional[float] = None
    agreement: Optional[Comparison] = None

    @property
    def engine(self) -> EngineBenchmark:
        """The engine's figures."""
        return self.measurement.engine

    @property
    def all_flags(self) -> Tuple[Flag, ...]:
        """All reasons for caution."""
        return (*self.flags, *self.quality_flags)

    @property
    def latency(self) -> Optional[Latency]:
        """Of SingleStream's queries; None if that scenario was not measured."""
        stream = self.engine.single_stream
        return None if stream is None else stream.latency

    @property
    def quotable(self) -> bool:
        """False for a run that was too short, not warm, throttled or disturbed."""
        return not self.flags


@dataclasses.dataclass(frozen=True)
class Model:
    """One model's engines on one device.

    Attributes:
        name: of its engines, without the precision.
        arch: the method.
        entries: the engines, from the widest number format to the narrowest.
    """

    name: str
    arch: str
    entries: Tuple[Entry, ...]


@dataclasses.dataclass(frozen=True)
class Device:
    """One machine, used in one way.

    Attributes:
        name: the machine and how its engines ran.
        environments: the machine as each run saw it; software may differ.
        models: what was measured there.
    """

    name: str
    environments: Tuple[Environment, ...]
    models: Tuple[Model, ...]

    @property
    def entries(self) -> Tuple[Entry, ...]:
        """All models' engines."""
        return tuple(entry for model in self.models for entry in model.entries)
