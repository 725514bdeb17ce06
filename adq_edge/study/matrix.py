"""The study's matrix: which cells there are, what they are called, and in which order they are made."""

from __future__ import annotations

import dataclasses
from typing import Iterator, List, Optional

from adq_edge.core.options import Arithmetic, Device, Precision
from adq_edge.study.config import StudyConfig, Training, Variant

_PRECISIONS = {
    Variant.FP32: Precision.FP32,
    Variant.FP16: Precision.FP16,
    Variant.PTQ: Precision.INT8,
    Variant.QAT: Precision.INT8,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        method: the anomaly detection method.
        training: one model for all categories, or one for each.
        variant: precision, and for INT8 the way to it.
        device: what the engines are built for and timed on.
        calibrator: of `int8-ptq`.
        source: of `int8-ptq`.
    """

    method: str
    training: Training
    variant: Variant
    device: Device
    calibrator: Optional[str] = None
    source: Optional[str] = None

    @property
    def precision(self) -> Precision:
        """The number format of the engines' networks."""
        return _PRECISIONS[self.variant]

    @property
    def arithmetic(self) -> Arithmetic:
        """Whose integers the device computes with."""
        return Arithmetic.CPU if self.device is Device.CPU else Arithmetic.TENSORRT

    @property
    def label(self) -> str:
        """What a person reads."""
        parts = (self.method, self.training.value, self.variant.value, self.calibrator, self.source)
        return " ".join([*(part for part in parts if part), f"on {self.device.value}"])

    @property
    def name(self) -> str:
        """What its file is called."""
        return self.label.replace(" on ", " ").replace(" ", "-").replace(":", "").replace(",", "+")

    @property
    def baseline(self) -> Cell:
        """The FP32 cell that this one is compared with."""
        return dataclasses.replace(self, variant=Variant.FP32, calibrator=None, source=None)


def cells_of(config: StudyConfig) -> List[Cell]:
    """Return a study's cells: those of one training together, so that what they share is made once."""
    return [
        cell
        for method in config.methods
        for training, variants in config.trainings.items()
        for device in dict.fromkeys(config.devices)
        for variant in Variant  # FP32 first: the others are timed beside it
        if variant.value in variants
        for cell in _cells(config, Cell(method, Training(training), variant, Device(device)))
    ]


def _cells(config: StudyConfig, cell: Cell) -> Iterator[Cell]:
    if cell.variant is not Variant.PTQ:
        yield cell
        return
    for source in dict.fromkeys(config.sources):
        for calibrator in dict.fromkeys(config.calibrators):
            yield dataclasses.replace(cell, calibrator=calibrator, source=source)
