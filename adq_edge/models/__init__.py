"""The training half: methods as torch modules, their checkpoints and their teachers."""

from __future__ import annotations
