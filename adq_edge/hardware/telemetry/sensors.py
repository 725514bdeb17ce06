"""Which power sensors this user can read: a Jetson's rails, an Intel or AMD processor's energy counter."""

from __future__ import annotations

from pathlib import Path
from typing import Tuple

from adq_edge.hardware.telemetry.rails import find_counters, find_rails


def power_sensors(root: Path = Path("/")) -> Tuple[str, ...]:
    """Return the names of the power sensors that can be read: `VDD_IN` and other rails, `package-0`.

    Args:
        root: where `sys` is.
    """
    found = {**find_rails(root), **find_counters(root)}
    for sensor in found.values():
        sensor.close()
    return tuple(found)
