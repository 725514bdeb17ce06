"""Results as tables in the terminal."""

from __future__ import annotations
