"""The Arm systems that are emulated, and the versions in them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, Tuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"

DEBIAN_PACKAGES = ("base-files", "coreutils", "libgomp1", "libstdc++6", "python3")
"""Packages of Debian to install; apt adds those that they depend on."""

_WHEELS = (
    *("annotated-doc", "annotated-types", "attrs", "click", "dacite", "exceptiongroup", "flatbuffers"),
    *("hypothesis", "iniconfig", "jinja2", "markdown-it-py", "markupsafe", "mdurl", "ml-dtypes", "numpy"),
    *("onnx", "onnxruntime", "opencv-python-headless", "packaging", "pluggy", "polygraphy", "protobuf"),
    *("psutil", "pydantic", "pydantic-core", "pygments", "pytest", "rich", "shellingham"),
    *("sortedcontainers", "tomli", "typer", "typing-extensions", "typing-inspection"),
)
"""The device half's dependencies and pytest, each with its own dependencies.

pip resolves dependencies for the Python that runs it, so it is given all names. Those with a pin are
installed.
"""


@dataclasses.dataclass(frozen=True)
class System:
    """A Debian release for arm64 and the wheels in it.

    Attributes:
        name: name of its folder and of its tests.
        debian: the release.
        python: the release's Python, major and minor.
        glibc: minor version of its glibc 2.
        pins: the Python whose pins in constraints.txt are installed.
        wheels: packages to install; those without a pin are not needed.
    """

    name: str
    debian: str
    python: str
    glibc: int
    pins: str
    wheels: Tuple[str, ...] = _WHEELS

    @property
    def pip_options(self) -> Tuple[str, ...]:
        """The options that make pip choose wheels for this system."""
        tags = [f"manylinux_2_{minor}_aarch64" for minor in range(self.glibc, 16, -1)]
        platforms = (option for tag in (*tags, "manylinux2014_aarch64") for option in ("--platform", tag))
        return ("--implementation", "cp", "--python-version", self.python, *platforms)

    def pinned_wheels(self) -> Tuple[str, ...]:
        """Return the packages to install as `name==version`, sorted by name."""
        pins = _read_pins(CONSTRAINTS, self.pins)
        return tuple(sorted(pins[name] for name in self.wheels if name in pins))


SYSTEMS = (
    System(
        "current", "bookworm", "3.11", 36, pins="3.11", wheels=(*_WHEELS, "openvino", "openvino-telemetry")
    ),
    # No Debian for arm64 has JetPack 5's Python 3.8. The wheels that are pinned for it run on Python 3.9 too.
    System("jetpack5", "bullseye", "3.9", 31, pins="3.8"),
)


def _read_pins(constraints: Path, python: str) -> Dict[str, str]:
    """Return `name==version` of each package that is pinned for a Python on Arm, by canonical name."""
    environment = {"python_version": python, "platform_machine": "aarch64", "sys_platform": "linux"}
    pins: Dict[str, str] = {}
    for line in constraints.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(environment):
                pins[canonicalize_name(pin.name)] = f"{pin.name}{pin.specifier}"
    return pins
