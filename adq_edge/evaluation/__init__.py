"""Quality of engines: evaluate, predict, compare and analyze, with their sheets and plots."""

from __future__ import annotations
