"""Export of a torch checkpoint to a bundle."""

from __future__ import annotations
