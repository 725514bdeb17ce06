"""Images with labels: the MVTec AD folder layout, the synthetic set and splits."""

from __future__ import annotations
