"""Tables and images made from result files."""

from __future__ import annotations
