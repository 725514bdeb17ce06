"""Training: what turns normal images and a frozen teacher into a checkpoint."""

from __future__ import annotations
