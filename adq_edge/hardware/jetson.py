"""Model and software release of a Jetson."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple, Optional, Tuple

from adq_edge.hardware.boards import BOARDS, ORIN, THOR, XAVIER
from adq_edge.hardware.dpkg import debian_packages
from adq_edge.hardware.procfs import first_group, read_text

# Compute capability of the GPU in each system on a chip.
_CAPABILITIES = {
    "tegra210": "5.3",
    "tegra186": "6.2",
    **{chip.name: chip.compute_capability for chip in (XAVIER, ORIN, THOR)},
}


class _Family(NamedTuple):
    """A type of module: its part numbers, and a pattern for the model name of its boards."""

    name: str
    soc: str
    modules: Tuple[str, ...]
    model: Optional[str]

    @property
    def dla_cores(self) -> Optional[int]:
        """Number of DLA cores; None if it differs between modules of this type."""
        boards = [board for board in BOARDS if board.family == self.name]
        counts = {
            board.dla_cores
            for board in boards
            if not self.modules or any(part.startswith(self.modules) for part in board.modules)
        }
        if not boards:
            return 0  # before Xavier
        return counts.pop() if len(counts) == 1 else None


# The Orin NX has two DLA cores in its 16 GB module and one in its 8 GB module, under the same name.
_FAMILIES = (
    _Family("Jetson Xavier NX", "tegra194", ("p3668",), "xavier nx"),
    _Family("Jetson AGX Xavier", "tegra194", ("p2888",), "agx xavier|^jetson-agx$"),
    _Family("Jetson Orin NX", "tegra234", ("p3767-0000",), None),
    _Family("Jetson Orin NX", "tegra234", ("p3767-0001",), None),
    _Family("Jetson Orin NX", "tegra234", (), "orin nx"),
    _Family("Jetson Orin Nano", "tegra234", ("p3767-0003", "p3767-0004", "p3767-0005"), "orin nano"),
    _Family("Jetson AGX Orin", "tegra234", ("p3701",), "agx orin"),
    _Family("Jetson Thor", "tegra264", ("p3834",), "thor"),
    _Family("Jetson TX2", "tegra186", ("p3310", "p3489", "p3636"), "jetson tx2"),
    _Family("Jetson TX1", "tegra210", ("p2180",), "jetson tx1"),
    _Family("Jetson Nano", "tegra210", ("p3448",), "jetson nano"),
)

_JETPACKS = {
    **{f"32.7.{revision}": f"4.6.{revision}" for revision in range(1, 7)},
    **{"34.1.0": "5.0 DP", "34.1.1": "5.0.1 DP", "35.1.0": "5.0.2"},
    **{"35.2.1": "5.1", "35.3.1": "5.1.1", "35.4.1": "5.1.2", "35.5.0": "5.1.3", "35.6.0": "5.1.4"},
    **{"35.6.1": "5.1.5", "35.6.2": "5.1.5", "35.6.3": "5.1.5", "35.6.4": "5.1.6"},
    **{"36.2.0": "6.0 DP", "36.3.0": "6.0", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1"},
    **{"36.4.7": "6.2.1", "36.5.0": "6.2.2"},
    **{"38.2.0": "7.0", "38.2.1": "7.0", "38.4.0": "7.1", "39.2.0": "7.2", "39.2.1": "7.2.1"},
}
_JETPACK_GENERATIONS = {
    "28": "3",
    "31": "4",
    "32": "4",
    "34": "5",
    "35": "5",
    "36": "6",
    "38": "7",
    "39": "7",
}


@dataclasses.dataclass(frozen=True)
class Jetson:
    """A Jetson; None for an unknown value.

    Attributes:
        model: name of the board in its device tree; may be empty.
        family: type of module, such as `Jetson Xavier NX`; None for a board that is not listed here.
        module: part number of the module, such as `p3668-0001`.
        soc: system on a chip, such as `tegra194`.
        l4t: release of Jetson Linux (L4T), such as `35.4.1`.
        jetpack: JetPack version of this release; `5.x` if only its generation is known.
        compute_capability: compute capability of the GPU, such as `7.2`.
        dla_cores: number of deep learning accelerators (DLA).
    """

    model: str
    family: Optional[str]
    module: Optional[str]
    soc: Optional[str]
    l4t: Optional[str]
    jetpack: Optional[str]
    compute_capability: Optional[str]
    dla_cores: Optional[int]

    @property
    def jetpack_too_old(self) -> bool:
        """True for a JetPack older than 5.1, the first with TensorRT 8.5."""
        numbers = [int(number) for number in re.findall(r"\d+", self.jetpack or "")]
        return bool(numbers) and (numbers[0] < 5 or numbers[:2] == [5, 0])


def family_names() -> Tuple[str, ...]:
    """Return the types of module that `read_jetson` knows, such as `Jetson Xavier NX`, each once."""
    return tuple(dict.fromkeys(family.name for family in _FAMILIES))


def family_of(model: str) -> Optional[str]:
    """Return the type of module by the model name of its board; None if it is unknown."""
    family = _family(model, "")
    return None if family is None else family.name


def read_jetson(root: Path = Path("/")) -> Optional[Jetson]:
    """Describe this Jetson; None on any other machine."""
    tree = root / "proc" / "device-tree"
    model, compatible = read_text(tree / "model"), read_text(tree / "compatible")
    soc = first_group(r"nvidia,(tegra\d+)", compatible)
    l4t = _l4t(root)
    if soc is None and l4t is None and "jetson" not in model.lower():
        return None
    family = _family(model, compatible)
    soc = soc or (None if family is None else family.soc)
    return Jetson(
        model=model,
        family=None if family is None else family.name,
        module=None if family is None else _module(family, compatible),
        soc=soc,
        l4t=l4t,
        jetpack=None if l4t is None else _jetpack(l4t),
        compute_capability=_CAPABILITIES.get(soc or ""),
        dla_cores=None if family is None else family.dla_cores,
    )


def _family(model: str, compatible: str) -> Optional[_Family]:
    """Return the type of module by part number, else by model name, which a carrier board may change."""
    for family in _FAMILIES:
        if any(module in compatible for module in family.modules):
            return family
    named = (family for family in _FAMILIES if family.model and re.search(family.model, model, re.IGNORECASE))
    return next(named, None)


def _module(family: _Family, compatible: str) -> Optional[str]:
    numbers = "|".join(module.split("-")[0] for module in family.modules)
    return first_group(rf"((?:{numbers})-\d{{4}})", compatible) if numbers else None


def _l4t(root: Path) -> Optional[str]:
    """Return the L4T release as three numbers, from nv_tegra_release or, in a container, dpkg."""
    release = read_text(root / "etc" / "nv_tegra_release")
    found = re.search(r"R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3})*)", release)
    if found is not None:
        numbers = [found.group(1), *found.group(2).split(".")]
    else:
        package = debian_packages(("nvidia-l4t-core",), root).get("nvidia-l4t-core", "")
        numbers = re.findall(r"\d{1,3}", package.split("-")[0])
    return ".".join([*numbers, "0", "0"][:3]) if numbers else None


def _jetpack(l4t: str) -> Optional[str]:
    generation = _JETPACK_GENERATIONS.get(l4t.split(".")[0])
    return _JETPACKS.get(l4t, None if generation is None else f"{generation}.x")
