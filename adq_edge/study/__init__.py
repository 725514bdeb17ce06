"""Run a study (methods x training x precision x device): one result file for each cell, and tables."""

from __future__ import annotations
