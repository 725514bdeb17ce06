"""Roofline estimates: how fast a model can be at best on a board that is not at hand. Nothing is measured."""

from __future__ import annotations
