"""The runtimes that run engines, one module or folder each; imported when they are used."""

from __future__ import annotations
