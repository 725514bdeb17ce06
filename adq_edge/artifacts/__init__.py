"""The files that the commands exchange: bundle, ranges, precision plan, sidecar; and their default paths."""

from __future__ import annotations
