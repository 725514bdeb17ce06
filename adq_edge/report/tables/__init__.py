"""A report's tables: speed, quality, setup."""

from __future__ import annotations
