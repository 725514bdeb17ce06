"""Graph passes: one rewrite per file, and the list of passes of each target."""

from __future__ import annotations
