"""The study as one command: methods x training x precision x device, each cell a file, and its tables."""

from __future__ import annotations
