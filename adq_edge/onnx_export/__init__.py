"""Torch checkpoint to bundle."""

from __future__ import annotations
