"""Inventory and diagnosis of the machine, and telemetry of a board.

Argument `root`: the folder that contains `proc`, `sys`, `etc`, `usr` and `var`. Argument `run`: the function
that runs system programs. Tests replace both.
"""

from __future__ import annotations
