"""Engine builders, one for each kind of device; `build` selects one."""

from __future__ import annotations
