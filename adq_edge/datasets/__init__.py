"""Labeled images in folders of many layouts, the synthetic set and pasted defects."""

from __future__ import annotations
