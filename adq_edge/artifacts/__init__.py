"""The files that verbs exchange: bundle, ranges, precision plan, sidecar, and where they lie."""

from __future__ import annotations
