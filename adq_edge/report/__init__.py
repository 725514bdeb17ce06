"""Tables and pictures made from result files."""

from __future__ import annotations
