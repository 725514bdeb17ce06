"""Clocks of the GPU, the memory and the processor in /sys."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Optional

from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value

# devfreq node of the GPU: a chip-specific name on JetPack 4 and 5, `gpu` from 6 on, one per cluster on Thor.
_GPU_NODE = re.compile(r"\.(?:gm20b|gp10b|gv11b|ga10b|gpu)$|^gpu-gpc")

# Files with the memory clock in Hz; all but the first are readable for root only.
EMC_CLOCKS = (
    "sys/class/devfreq/bwmgr/cur_freq",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate",
    "sys/kernel/debug/clk/emc/clk_rate",
)

# Jetsons have one to four clusters of cores with one clock each. On a PC each core has one, and some kernels
# take 10 ms to report it, so only a few cores are read.
_MAX_PROCESSORS = 4


def find_clocks(root: Path = Path("/")) -> Dict[str, SysfsValue]:
    """Open the clocks in MHz: `gpu`, `emc`, and `cpu` with the number of a cluster's first core."""
    gpu = gpu_folder(root)
    found = {
        "gpu": None if gpu is None else open_sysfs_value(gpu / "cur_freq", 1e-6),
        "emc": next(filter(None, (open_sysfs_value(root / path, 1e-6) for path in EMC_CLOCKS)), None),
    }
    for policy in _processors(root):
        found["cpu" + policy.name[len("policy") :]] = open_sysfs_value(policy / "scaling_cur_freq", 1e-3)
    return {name: value for name, value in found.items() if value is not None}


def gpu_folder(root: Path = Path("/")) -> Optional[Path]:
    """Return the folder of a Jetson's GPU in /sys/class/devfreq; None if there is none."""
    nodes = sorted((root / "sys" / "class" / "devfreq").glob("*"))
    return next((node for node in nodes if _GPU_NODE.search(node.name)), None)


def _processors(root: Path) -> List[Path]:
    policies = (root / "sys" / "devices" / "system" / "cpu" / "cpufreq").glob("policy*")
    ordered = sorted(policies, key=lambda path: (len(path.name), path.name))
    step = -(-len(ordered) // _MAX_PROCESSORS) or 1
    return ordered[::step]
