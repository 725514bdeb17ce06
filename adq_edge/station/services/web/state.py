"""What the page shows, as one JSON object."""

from __future__ import annotations

import math
import time
from typing import Any, Dict, List, Mapping, Tuple

from adq_edge.core.version import __version__
from adq_edge.station.events import VERDICTS
from adq_edge.station.services.web.gallery import Gallery
from adq_edge.station.view import Snapshot, StationView

_QUANTILE = 1.959964
"""Of the normal distribution, for an interval of 95 %."""


def state_of(station: StationView, gallery: Gallery) -> Dict[str, Any]:
    """Return the state of a station: figures since its start, and the last verdicts of each source."""
    found = station.snapshot()
    latency = found.latency
    return {
        "station": station.config.station.name,
        "version": __version__,
        "state": "degraded" if found.conditions else "running",
        "started": found.started,
        "now": time.time(),
        "decided": found.decided,
        "verdicts": {verdict: found.count(verdict) for verdict in VERDICTS},
        "products": _products(found, gallery.rates),
        "latency": {"p50": latency.p50, "p99": latency.p99, "p999": latency.p999, "highest": latency.highest},
        "missed": found.missed,
        "replaced": found.replaced,
        "failed": found.failed,
        "unstored": found.unstored,
        "lost": found.lost,
        "sources": [
            {"name": name, "queued": found.queued.get(name, 0), **gallery.describe(name)}
            for name, entry in station.config.sources.items()
            if entry.source.needs_engine
        ],
        "sinks": [
            {"name": name, "waiting": count, "refused": found.refused.get(name, 0)}
            for name, count in found.waiting.items()
        ],
        "problems": [
            {"subject": one.subject, "problem": one.problem, "since": one.at} for one in found.conditions
        ],
    }


def _products(found: Snapshot, rates: Mapping[str, float]) -> List[Dict[str, Any]]:
    """Return the parts and rejects of each product, and the interval of 95 % of the share of rejects."""
    rows = []
    for product, verdicts in sorted(found.products.items()):
        count, defective = sum(verdicts.values()), verdicts.get("defective", 0)
        low, high = wilson(defective, count)
        row = {"name": product, "count": count, "defective": defective, "low": low, "high": high}
        rows.append({**row, "target": rates.get(product)})
    return rows


def wilson(count: int, total: int) -> Tuple[float, float]:
    """Return Wilson's interval of 95 % for a share, 0 to 1."""
    if not total:
        return 0.0, 1.0
    share, square = count / total, _QUANTILE**2 / total
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)
