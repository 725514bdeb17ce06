"""Training of a checkpoint from normal images and a frozen teacher."""

from __future__ import annotations
