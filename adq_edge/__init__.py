"""adq-edge: trained unified anomaly models as measured INT8/FP16 engines."""

from __future__ import annotations

__version__ = "0.1.0"
