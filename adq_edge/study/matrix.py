"""The matrix of a study: its cells, their names, and the order in which they are run."""

from __future__ import annotations

import dataclasses
from typing import List, Optional

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
    """One cell; calibrator and calibration source are set for `int8-ptq` only."""

    method: str
    training: Training
    variant: Variant
    device: Device
    calibrator: Optional[str] = None
    source: Optional[str] = None

    @property
    def precision(self) -> Precision:
        """Number format of the engines' networks."""
        return _PRECISIONS[self.variant]

    @property
    def arithmetic(self) -> Arithmetic:
        """The integer arithmetic of the device."""
        return Arithmetic.CPU if self.device is Device.CPU else Arithmetic.TENSORRT

    @property
    def label(self) -> str:
        """Name in messages and tables."""
        parts = (self.method, self.training.value, self.variant.value, self.calibrator, self.source)
        return " ".join([*(part for part in parts if part), f"on {self.device.value}"])

    @property
    def name(self) -> str:
        """Name in file names."""
        return self.label.replace(" on ", " ").replace(" ", "-").replace(":", "").replace(",", "+")

    @property
    def baseline(self) -> Cell:
        """The FP32 cell that this one is compared with."""
        return dataclasses.replace(self, variant=Variant.FP32, calibrator=None, source=None)


def cells_of(config: StudyConfig) -> List[Cell]:
    """Return a study's cells; cells that share models are adjacent."""
    sources, calibrators = dict.fromkeys(config.sources), dict.fromkeys(config.calibrators)
    calibrations = [(calibrator, source) for source in sources for calibrator in calibrators]
    return [
        Cell(method, Training(training), variant, Device(device), *calibration)
        for method in config.methods
        for training, variants in config.trainings.items()
        for device in dict.fromkeys(config.devices)
        for variant in Variant  # FP32 first: the others are compared with it
        if variant.value in variants
        for calibration in (calibrations if variant is Variant.PTQ else [(None, None)])
    ]
