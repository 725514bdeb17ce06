"""Files exchanged by the commands (bundle, ranges, precision plan, sidecar) and their default paths."""

from __future__ import annotations
