"""Readings of a board or PC while a benchmark runs: power, clocks, temperatures, throttling."""

from __future__ import annotations
