"""Mixed precision: finds by measurement the layers that must stay float."""

from __future__ import annotations
