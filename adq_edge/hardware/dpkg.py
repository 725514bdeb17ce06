"""Installed Debian packages, read from the list of dpkg without starting a program."""

from __future__ import annotations

from pathlib import Path
from typing import Collection, Dict

from adq_edge.hardware.procfs import read_text


def debian_packages(names: Collection[str], root: Path = Path("/")) -> Dict[str, str]:
    """Return the versions of the installed packages among `names`; empty on a system without dpkg."""
    versions: Dict[str, str] = {}
    for block in read_text(root / "var" / "lib" / "dpkg" / "status").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        name, version = fields.get("Package"), fields.get("Version")
        if name in names and version and fields.get("Status", "").endswith(" installed"):
            versions[str(name)] = version
    return versions
