"""Health of an inspection line: statistics of images, conditions of a camera, drift of a product."""

from __future__ import annotations
