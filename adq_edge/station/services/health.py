"""Watches cameras and products: frozen, black or blurred images, changed light, and slow drift."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Dict, Optional

import numpy as np

from adq_edge.artifacts.image_statistics import ImageStatistics
from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import resize_image
from adq_edge.decision.health.conditions import CameraWatch
from adq_edge.decision.health.drift import DriftMonitor, DriftState
from adq_edge.decision.health.measures import ImageMeasures, measure_image
from adq_edge.station.engines import StationEngine
from adq_edge.station.events import Decided
from adq_edge.station.services.base import Service
from adq_edge.station.view import StationView

_SAVE_S = 60.0


@dataclasses.dataclass(frozen=True)
class HealthOptions:
    """`[health]`.

    Attributes:
        drift: False to watch the cameras only.
    """

    drift: bool = True


class HealthService(Service):
    """Reports what is wrong with a camera or has drifted as a problem of the station; see docs/station.md."""

    Options = HealthOptions
    options: HealthOptions

    def start(self, station: StationView) -> None:
        """Continue the tests of drift where the last run ended."""
        self._station = station
        folder = None if station.config.store is None else station.config.store.folder
        self._folder = folder
        self._engines = {name: _EngineHealth(one, folder) for name, one in station.engines.items()}
        self._cameras: Dict[str, CameraWatch] = {}
        self._saved = time.monotonic()

    def observe(self, decided: Decided) -> None:
        """Measure the image of a verdict; images that could not be decoded are left out."""
        source = decided.frame.source
        engine = self._station.config.sources[source].options.engine
        if decided.pixels is None or engine is None:
            return
        health = self._health_of(engine)
        image = resize_image(decided.pixels, health.image_size)
        measures = measure_image(image)
        self._watch_camera(source, image, measures, health, decided)
        if self.options.drift:
            self._watch_drift(engine, measures, health, decided)

    def _health_of(self, name: str) -> _EngineHealth:
        """Return the health of an engine; that of its new products if the engine was loaded again."""
        health, engine = self._engines[name], self._station.engines[name]
        if health.inspector is not engine.inspector:
            if self.options.drift:
                health.save()
            health = self._engines[name] = _EngineHealth(engine, self._folder)
        return health

    def _watch_camera(
        self,
        source: str,
        image: np.ndarray,
        measures: ImageMeasures,
        health: _EngineHealth,
        decided: Decided,
    ) -> None:
        watch = self._cameras.setdefault(source, CameraWatch())
        product = _product_of(decided)
        normal = None if product is None else health.statistics.get(product)
        found = watch.update(image, measures, product or "the image", normal)
        text = "; ".join(one.text for one in found) or None
        self._station.conditions.report(f"camera of {source}", text)

    def _watch_drift(
        self, engine: str, measures: ImageMeasures, health: _EngineHealth, decided: Decided
    ) -> None:
        product, inspection = _product_of(decided), decided.prediction.inspection
        if product is None or inspection is None:
            return
        health.monitor.update(product, inspection.p_value, measures)
        found = [alarm.text for alarm in health.monitor.alarms() if alarm.product == product]
        subject = f"drift of {product}" if len(self._engines) == 1 else f"drift of {product}, engine {engine}"
        self._station.conditions.report(subject, "; ".join(found) or None)
        if time.monotonic() >= self._saved + _SAVE_S:
            self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        for health in self._engines.values():
            health.save()

    def close(self) -> None:
        """Store the state of the tests of drift."""
        if not self.options.drift:
            return
        try:
            self._save()
        except AdqError as error:
            self._station.conditions.report("drift", f"its state is not kept: {error}")


class _EngineHealth:
    """What is normal for the products of an engine, and the test of their drift.

    Args:
        engine: the engine.
        folder: the folder of the state; None to keep none.

    Attributes:
        inspector: the engine and the products to which the other values belong.
    """

    def __init__(self, engine: StationEngine, folder: Optional[Path]) -> None:
        self.inspector = engine.inspector
        products = self.inspector.products.products
        self.image_size = self.inspector.engine.sidecar.image_size
        self.statistics: Dict[str, Optional[ImageStatistics]] = {
            one.name: one.image_statistics for one in products
        }
        self._file = None if folder is None else folder / f"drift-{engine.name}.json"
        self.monitor = DriftMonitor(products, self._read_state())

    def _read_state(self) -> Optional[DriftState]:
        """Return the stored state; a damaged one is no reason not to start."""
        if self._file is None or not self._file.exists():
            return None
        try:
            return DriftState.read(self._file)
        except AdqError:
            return None

    def save(self) -> None:
        """Write the state."""
        if self._file is not None:
            self.monitor.state().write(self._file)


def _product_of(decided: Decided) -> Optional[str]:
    """Return the product on the image; None if it is unknown or the image was not judged."""
    is_judged = decided.verdict in ("good", "defective")
    product = decided.record["product"]
    return str(product) if is_judged and product is not None else None
