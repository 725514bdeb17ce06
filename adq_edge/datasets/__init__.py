"""Labelled images: the MVTec AD folder layout, the synthetic set and pasted defects."""

from __future__ import annotations
