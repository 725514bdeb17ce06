from __future__ import annotations

import dataclasses
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Dict

import numpy as np
import psutil
import pytest

from adq_edge.core.errors import ResultError
from adq_edge.core.records import Record, record, write_json
from adq_edge.hardware.commands import Outcome
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.hardware.memory import read_memory, usable_memory_mb
from adq_edge.hardware.procfs import read_text

XAVIER_CORE = """processor\t: {number}
model name\t: ARMv8 Processor rev 0 (v8l)
Features\t: fp asimd evtstrm aes fphp asimdhp
CPU implementer\t: 0x4e
CPU part\t: 0x004
"""
ORIN_CORE = """processor\t: {number}
Features\t: fp asimd asimdhp asimddp
CPU implementer\t: 0x41
CPU part\t: 0xd42
"""


@record("test/environment", version=1, error=ResultError, fix="")
@dataclasses.dataclass(frozen=True)
class EnvironmentFile(Record):
    environment: Environment


def write_tree(root: Path, files: Dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def allow(monkeypatch: pytest.MonkeyPatch, *processors: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(processors), raising=False)


def test_read_environment_of_this_machine():
    environment = read_environment()
    assert environment.logical_cores >= 1
    assert environment.physical_cores is None or 1 <= environment.physical_cores <= environment.logical_cores
    assert environment.memory_mb is not None
    assert environment.memory_mb > 100
    assert environment.python == platform.python_version()
    assert environment.packages["numpy"] == np.__version__
    assert {"onnx", "onnxruntime", "opencv"} <= set(environment.packages)


def test_read_environment_of_a_jetson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    allow(monkeypatch, 0, 1)
    root = write_tree(
        tmp_path,
        {
            "proc/cpuinfo": "\n".join(ORIN_CORE.format(number=i) for i in range(2)),
            "proc/device-tree/model": "NVIDIA Jetson Orin Nano\0",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=2 NAME=MODE_7W >\n",
            "var/lib/nvpmodel/status": "pmode:0002",
            "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 20.04.6 LTS"\n',
            "sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0\n",
            "sys/devices/system/cpu/cpu1/topology/thread_siblings_list": "1\n",
        },
    )
    environment = read_environment(root)
    assert environment.cpu == "Arm Cortex-A78AE"
    assert environment.board == "NVIDIA Jetson Orin Nano"
    assert environment.instruction_sets == ("asimd", "asimdhp", "asimddp")
    assert (environment.logical_cores, environment.physical_cores) == (2, 2)
    assert environment.os == "Ubuntu 20.04.6 LTS"
    assert environment.cpu_quota is None
    assert (environment.gpu, environment.power_mode) == (None, "MODE_7W")


def test_graphics_cards_from_driver_files_else_from_nvidia_smi(tmp_path: Path):
    card = {"vendor": "0x10de\n", "class": "0x030000\n"}
    files = {f"sys/bus/pci/devices/0000:01:00.0/{name}": text for name, text in card.items()}
    root, asked = write_tree(tmp_path, files), []

    def smi(command):
        asked.append(command[0])
        return Outcome("NVIDIA RTX A2000, 8.6, 6138 MiB, 535.104.05\n")

    assert read_environment(root, smi).gpu == "NVIDIA RTX A2000"
    assert asked == ["nvidia-smi"]
    for number in (1, 2):
        name = f"proc/driver/nvidia/gpus/0000:0{number}:00.0/information"
        write_tree(root, {name: f"Model: \t\t NVIDIA GeForce RTX 306{number}\nIRQ:   \t\t 12{number}\n"})
    assert read_environment(root, smi).gpu == "NVIDIA GeForce RTX 3061 + NVIDIA GeForce RTX 3062"
    assert asked == ["nvidia-smi"]


@pytest.mark.parametrize(
    ("name", "host"),
    [("line-3", "line-3"), ("localhost.localdomain", None), ("3f2a9c01d4be", None), ("", None)],
)
def test_generic_host_name_is_none(name, host, tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert read_environment(tmp_path).host == host


def test_read_environment_file_of_an_earlier_release(tmp_path: Path):
    written = dataclasses.asdict(read_environment())
    for name in ("gpu", "power_mode", "host", "l4t", "jetpack", "cuda"):
        del written[name]
    write_json(tmp_path / "e.json", "test/environment", 1, {"environment": written})
    again = EnvironmentFile.read(tmp_path / "e.json").environment
    assert (again.gpu, again.power_mode, again.host) == (None, None, None)


def test_arm_core_is_named_by_its_part_number(tmp_path: Path):
    cpuinfo = "\n".join(XAVIER_CORE.format(number=i) for i in range(6))
    environment = read_environment(write_tree(tmp_path, {"proc/cpuinfo": cpuinfo}))
    assert environment.cpu == "NVIDIA Carmel"
    assert environment.instruction_sets == ("asimd", "asimdhp")


def test_unknown_arm_core_and_big_little(tmp_path: Path):
    little = ORIN_CORE.format(number=0).replace("0xd42", "0xfff").replace(" asimddp", "")
    environment = read_environment(
        write_tree(tmp_path, {"proc/cpuinfo": little + "\n" + ORIN_CORE.format(number=1)})
    )
    assert environment.cpu == "Arm implementer 0x41 part 0xfff + Arm Cortex-A78AE"
    assert environment.instruction_sets == ("asimd", "asimdhp")


def test_physical_cores_count_hyper_threads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    allow(monkeypatch, 0, 1, 4)
    siblings = {0: "0,4", 1: "1,5", 4: "0,4"}
    files = {
        f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": text for i, text in siblings.items()
    }
    environment = read_environment(write_tree(tmp_path, files))
    assert (environment.logical_cores, environment.physical_cores) == (3, 2)


def test_environment_of_a_container_has_its_quota(tmp_path: Path):
    tree = write_tree(tmp_path, {"sys/fs/cgroup/cpu.max": "150000 100000\n"})
    assert read_environment(tree).cpu_quota == 1.5


def test_environment_without_a_readable_proc_has_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    assert read_environment(tmp_path).memory_mb is None
    assert (read_memory(), usable_memory_mb(tmp_path)) == (None, None)
    write_tree(tmp_path, {"meminfo": "MemTotal: 12 kB\n"})  # incomplete
    assert read_memory() is None
    write_tree(tmp_path, {"sys/fs/cgroup/memory.max": "500000000\n"})
    assert usable_memory_mb(tmp_path) == 500.0


def test_read_environment_without_any_file(tmp_path: Path):
    environment = read_environment(tmp_path)
    assert environment.cpu
    assert environment.os
    assert environment.instruction_sets == ()
    assert environment.board is None
    assert environment.physical_cores is None


def test_environment_is_unchanged_by_its_file(tmp_path: Path):
    environment = read_environment()
    path = tmp_path / "environment.json"
    EnvironmentFile(environment).write(path)
    assert EnvironmentFile.read(path).environment == environment


def test_read_environment_imports_no_large_library():
    code = (
        "import sys; from adq_edge.hardware.environment import read_environment; read_environment();"
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'cv2', 'openvino') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60)
    assert found.stdout.decode().strip() == "[]"


def test_unusual_system_files_count_as_absent(tmp_path: Path):
    os.mkfifo(str(tmp_path / "pipe"))
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**40)
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b" Jetson \xff\n\0")
    names = ("pipe", "huge", "folder", "absent", "a\0b")
    assert [read_text(tmp_path / name) for name in names] == [""] * len(names)
    assert read_text(Path("/dev/zero")) == ""
    assert read_text(tmp_path / "bytes") == "Jetson \ufffd"
    assert "VmHWM" in read_text(Path("/proc/self/status"))
