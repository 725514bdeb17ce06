"""Makers of engines, one for each kind of device; `build` picks one."""

from __future__ import annotations
