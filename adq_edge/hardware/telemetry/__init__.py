"""Power, clocks, temperatures and throttling of a board or PC while a benchmark runs."""

from __future__ import annotations
