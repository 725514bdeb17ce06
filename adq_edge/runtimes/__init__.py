"""Ways to run an engine, one file each; imported only when asked for."""

from __future__ import annotations
