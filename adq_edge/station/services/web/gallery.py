"""The last verdicts and images of each source, for the page."""

from __future__ import annotations

import collections
import threading
from typing import Any, Deque, Dict, List, Mapping, Optional, Tuple

import cv2
import numpy as np

from adq_edge.core.images.imaging import overlay
from adq_edge.evaluation.overlays import product_colors
from adq_edge.station.events import Decided

_RECENT, _MOST_ENCODED = 12, 16
_LONGEST_SIDE, _QUALITY = 800, 80
_SHOWN = (
    "id",
    "sequence",
    "source",
    "image",
    "verdict",
    "product",
    "reason",
    "score",
    "normalized_score",
    "threshold",
    "p_value",
    "taken_at",
    "decided_at",
    "latency_ms",
    "deadline_ms",
    "on_time",
    "fields",
)
_MOST_REGIONS = 20


class Gallery:
    """Keeps the last frame of each source, and the last one that is not good; any thread may use it.

    Attributes:
        version: a number that rises with each verdict.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Dict[str, Decided] = {}
        self._last_reject: Dict[str, Decided] = {}
        self._recent: Dict[str, Deque[Tuple[str, str]]] = {}
        self._rates: Dict[str, float] = {}
        self._encoded: Dict[Tuple[str, bool], bytes] = {}
        self.version = 0

    def observe(self, decided: Decided) -> None:
        """Keep a verdict."""
        source, record = decided.frame.source, decided.record
        with self._lock:
            self._last[source] = decided
            if decided.verdict != "good":
                self._last_reject[source] = decided
            recent = self._recent.setdefault(source, collections.deque(maxlen=_RECENT))
            recent.append((str(record["id"]), decided.verdict))
            if record.get("product") is not None and record.get("false_rejects") is not None:
                self._rates[str(record["product"])] = float(record["false_rejects"])
            self.version += 1

    @property
    def rates(self) -> Mapping[str, float]:
        """The false-reject rates that the products' thresholds allow, by product."""
        with self._lock:
            return dict(self._rates)

    def describe(self, source: str) -> Dict[str, Any]:
        """Return the last verdict of a source, the last one that is not good, and the verdicts before."""
        with self._lock:
            last, reject = self._last.get(source), self._last_reject.get(source)
            recent = list(self._recent.get(source, ()))
        return {
            "last": None if last is None else _summary(last),
            "last_reject": None if reject is None else _summary(reject),
            "recent": [verdict for _, verdict in recent],
        }

    def jpeg(self, frame: str, with_map: bool) -> Optional[bytes]:
        """Return the image of a frame as a small JPEG; None if it is not kept any more, or has no image.

        Args:
            frame: the frame's id.
            with_map: True to lay the product's map over it, if there is one.
        """
        key = frame, with_map
        with self._lock:
            found = self._encoded.get(key)
            decided = self._find(frame)
        if found is None and decided is not None and decided.pixels is not None:
            found = _encode(decided, decided.pixels, with_map)
            with self._lock:
                self._encoded[key] = found
                while len(self._encoded) > _MOST_ENCODED:
                    del self._encoded[next(iter(self._encoded))]
        return found

    def _find(self, frame: str) -> Optional[Decided]:
        kept = (*self._last.values(), *self._last_reject.values())
        return next((one for one in kept if one.frame.id == frame), None)


def _summary(decided: Decided) -> Dict[str, Any]:
    record, pixels = decided.record, decided.pixels
    inspection = decided.prediction.inspection
    regions: List[Any] = list(record.get("regions") or ())[:_MOST_REGIONS]
    return {
        **{name: record.get(name) for name in _SHOWN},
        "size": None if pixels is None else [pixels.shape[1], pixels.shape[0]],
        "has_map": pixels is not None and inspection is not None and inspection.anomaly_map is not None,
        "regions": [{"box": region["box"], "peak": region["peak"]} for region in regions],
    }


def _encode(decided: Decided, pixels: np.ndarray, with_map: bool) -> bytes:
    height, width = pixels.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)) if scale < 1.0 else pixels
    inspection = decided.prediction.inspection
    if with_map and inspection is not None and inspection.anomaly_map is not None:
        small = overlay(small, *product_colors(inspection))
    bgr = cv2.cvtColor(small, cv2.COLOR_RGB2BGR)
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes())
