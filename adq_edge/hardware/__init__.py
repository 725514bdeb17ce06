"""Inventory and diagnosis of the machine, and telemetry of a board.

An argument `root` is the folder of `proc`, `sys`, `etc`, `usr` and `var`; an argument `run` runs the programs
that describe the machine. Tests give a fake file tree and fake programs.
"""

from __future__ import annotations
