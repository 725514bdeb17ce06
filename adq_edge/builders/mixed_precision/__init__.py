"""Mixed precision: which layers stay in float, found by trials against a goal."""

from __future__ import annotations
