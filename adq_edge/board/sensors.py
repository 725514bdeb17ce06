"""Which power sensors this user can read: a Jetson's rails, an Intel or AMD processor's energy counter."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import List, Tuple

from adq_edge.board.text import read_text

_MONITORS = ("ina3221", "ina3221x", "ina238")


def power_sensors(root: Path = Path("/")) -> Tuple[str, ...]:
    """Return the names of the power sensors that can be read: `VDD_IN` and other rails, `package-0`.

    Args:
        root: where `sys` is.
    """
    rails: List[str] = []
    for monitor in sorted((root / "sys" / "class" / "hwmon").glob("hwmon*")):
        if read_text(monitor / "name") in _MONITORS:
            rails += _rails(monitor)
    counters = sorted((root / "sys" / "class" / "powercap").glob("*-rapl:?"))
    return (*rails, *(read_text(path / "name") for path in counters if _readable(path / "energy_uj")))


def _rails(monitor: Path) -> List[str]:
    """Return the labels of channels that tell current (in mA) or power (in uW)."""
    labels = {path.name[2:-6]: read_text(path) for path in sorted(monitor.glob("in*_label"))}
    rails = [name for n, name in labels.items() if name and _readable(monitor / f"curr{n}_input")]
    return rails or (["board"] if _readable(monitor / "power1_input") else [])


def _readable(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return bool(file.read(1))
    return False
