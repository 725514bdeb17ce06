"""Training: what turns normal pictures and a frozen teacher into a checkpoint."""

from __future__ import annotations
