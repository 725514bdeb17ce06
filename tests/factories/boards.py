"""Fake file trees of machines, and a fake for the programs that describe them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Dict, Optional, Sequence, Union

from adq_edge.hardware.commands import Outcome

NVPMODEL_XAVIER = """#
# Copyright (c) 2019-2022, NVIDIA CORPORATION.  All rights reserved.
#
# FORMAT:
# < PARAM TYPE=PARAM_TYPE NAME=PARAM_NAME >
# < POWER_MODEL ID=id_num NAME=mode_name >

< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
CORE_1 /sys/devices/system/cpu/cpu1/online

< PARAM TYPE=CLOCK NAME=GPU >
FREQ_TABLE /sys/devices/17000000.gv11b/devfreq/17000000.gv11b/available_frequencies
MAX_FREQ /sys/devices/17000000.gv11b/devfreq/17000000.gv11b/max_freq

< PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap

# MODE_15W_2CORE
< POWER_MODEL ID=0 NAME=MODE_15W_2CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 0
CPU_ONLINE CORE_3 0
CPU_ONLINE CORE_4 0
CPU_ONLINE CORE_5 0
TPC_POWER_GATING TPC_PG_MASK 1
GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on
CPU_DENVER_0 MIN_FREQ 1190400
CPU_DENVER_0 MAX_FREQ 1907200
GPU MIN_FREQ 0
GPU MAX_FREQ 1109250000
GPU_POWER_CONTROL_DISABLE GPU_PWR_CNTL_DIS auto
EMC MAX_FREQ 1600000000
DLA_CORE MAX_FREQ 1100800000

< POWER_MODEL ID=5 NAME=MODE_10W_DESKTOP >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 1
CPU_ONLINE CORE_3 1
CPU_ONLINE CORE_4 0
CPU_ONLINE CORE_5 0
GPU MIN_FREQ 0
GPU MAX_FREQ 510000000
EMC MAX_FREQ 1600000000

< POWER_MODEL ID=6 NAME=MODE_20W_2CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 0
CPU_ONLINE CORE_3 0
CPU_ONLINE CORE_4 0
CPU_ONLINE CORE_5 0
CPU_DENVER_0 MAX_FREQ 1907200
GPU MAX_FREQ 1109250000
EMC MAX_FREQ 1866000000

< POWER_MODEL ID=8 NAME=MODE_20W_6CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 1
CPU_ONLINE CORE_3 1
CPU_ONLINE CORE_4 1
CPU_ONLINE CORE_5 1
CPU_DENVER_0 MAX_FREQ 1420800
CPU_DENVER_1 MAX_FREQ 1420800
GPU MAX_FREQ 1109250000
EMC MAX_FREQ 1866000000

# mandatory section to configure the default power mode
< PM_CONFIG DEFAULT=2 >
"""

XAVIER_NX = {
    "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3509-0000+p3668-0000\0nvidia,tegra194\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64, "
    "DATE: Tue Aug  1 19:57:35 UTC 2023\n",
    "etc/nvpmodel.conf": NVPMODEL_XAVIER,
    "var/lib/nvpmodel/status": "pmode:0008",
    "sys/class/devfreq/17000000.gv11b/cur_freq": "114750000\n",
    "sys/class/devfreq/17000000.gv11b/min_freq": "114750000\n",
    "sys/class/devfreq/17000000.gv11b/max_freq": "1109250000\n",
    "sys/class/devfreq/15a80000.nvenc/min_freq": "1\n",
    "sys/class/hwmon/hwmon0/name": "thermal\n",
    "sys/class/hwmon/hwmon4/name": "ina3221\n",
    "sys/class/hwmon/hwmon4/in1_label": "VDD_IN\n",
    "sys/class/hwmon/hwmon4/in1_input": "5000\n",
    "sys/class/hwmon/hwmon4/curr1_input": "560\n",
    "sys/class/hwmon/hwmon4/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/class/hwmon/hwmon4/in2_input": "4992\n",
    "sys/class/hwmon/hwmon4/curr2_input": "120\n",
    "sys/class/hwmon/hwmon4/in4_label": "sum of shunt voltages\n",
    "usr/local/cuda/version.json": '{"cuda": {"name": "CUDA SDK", "version": "11.4.315"}}',
    "usr/local/cuda/bin/nvcc": "",
}

ORIN_NANO = {
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=15W >\nGPU MAX_FREQ 612000000\nEMC MAX_FREQ 2133000000\n"
    "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nGPU MAX_FREQ -1\nEMC MAX_FREQ 0\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:fan_mode_quiet\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/kernel/debug/bpmp/debug/clk/emc/rate": "3199000000\n",
}

THOR = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0",
    "etc/nv_tegra_release": "# R38 (release), REVISION: 4.0, GCID: 43443517, BOARD: generic, EABI: aarch64\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\nGPU MAX_FREQ -1\nEMC MAX_FREQ -1\n"
    "< POWER_MODEL ID=1 NAME=120W >\n< POWER_MODEL ID=2 NAME=90W >\n< POWER_MODEL ID=3 NAME=70W >\n",
    "var/lib/nvpmodel/status": "pmode:0001\n",
    "sys/class/devfreq/gpu-gpc-0/cur_freq": "315000000\n",
    "sys/class/devfreq/gpu-gpc-0/min_freq": "315000000\n",
    "sys/class/devfreq/gpu-gpc-0/max_freq": "1575000000\n",
    "sys/class/devfreq/gpu-gpc-1/min_freq": "315000000\n",
    "sys/class/devfreq/gpu-gpc-1/max_freq": "1575000000\n",
}

ORIN_NANO_JETPACK_7 = {
    **ORIN_NANO,
    "etc/nv_tegra_release": "# R39 (release), REVISION: 2.1, GCID: 46758480, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 7 05:54:22 AM UTC 2026\n# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n",
}

PC = {
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: Intel(R) Core(TM) i7\nflags\t: avx2 fma\n",
    "etc/os-release": 'PRETTY_NAME="Ubuntu 22.04.4 LTS"\n',
    "sys/bus/pci/devices/0000:00:02.0/vendor": "0x8086\n",
    "sys/bus/pci/devices/0000:00:02.0/class": "0x030000\n",
}

CARD = {
    "sys/bus/pci/devices/0000:01:00.0/vendor": "0x10de\n",
    "sys/bus/pci/devices/0000:01:00.0/class": "0x030000\n",
}

DRIVER = {
    "proc/driver/nvidia/version": "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  "
    "Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc version 11.4.0\n",
}

MISSING = Outcome(problem="cannot be run (no such file or directory)")


def write_tree(root: Path, files: Dict[str, Union[str, bytes]]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


class Programs:
    """Fake programs that describe a machine; a program without an answer is not installed.

    `loads` has the versions of modules, or their import errors; `cuda` is the answer of the CUDA driver.
    """

    def __init__(
        self,
        answers: Optional[Dict[str, Outcome]] = None,
        loads: Optional[Dict[str, Union[str, Exception]]] = None,
        cuda: Optional[dict] = None,
    ) -> None:
        self.answers = answers or {}
        self.loads = loads or {}
        self.cuda = cuda or {
            "error": "libcuda.so.1: cannot open shared object file: No such file or directory"
        }

    def __call__(self, command: Sequence[str]) -> Outcome:
        if command[-1].endswith("cuda_probe.py"):
            return Outcome(json.dumps(self.cuda))
        if "-c" in command:
            module = command[-1].split("import ")[-1].split(" as ")[0]
            answer = self.loads.get(module, "10.3")
            if isinstance(answer, Exception):
                return Outcome(
                    "", f"Traceback\n{type(answer).__name__}: {answer}\n", "ended with exit code 1"
                )
            return Outcome(f"{answer}\n")
        return self.answers.get(Path(command[0]).name, MISSING)
