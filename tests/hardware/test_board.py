"""Board, GPU and library detection with fake file trees, fake programs, and on this machine."""

from __future__ import annotations

import ctypes
import dataclasses
import itertools
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adq_edge.hardware import commands, cuda_probe, libraries
from adq_edge.hardware.board_state import BoardState, read_board_state
from adq_edge.hardware.commands import Outcome, run_command
from adq_edge.hardware.dpkg import debian_packages
from adq_edge.hardware.environment import read_environment
from adq_edge.hardware.gpu import (
    Gpu,
    NvidiaSmi,
    Toolkit,
    ask_cuda_driver,
    ask_nvidia_smi,
    card_present,
    find_toolkit,
    kernel_driver,
)
from adq_edge.hardware.jetson import Jetson, read_jetson
from adq_edge.hardware.libraries import Product, TensorRT, check_library, find_tensorrts
from adq_edge.hardware.memory import read_memory
from adq_edge.hardware.power import PowerMode, faster_cpu_mode, read_power
from adq_edge.hardware.telemetry.rails import power_sensors
from adq_edge.hardware.telemetry.sysfs import SysfsSource
from factories.boards import CARD, DRIVER, NVPMODEL_XAVIER, ORIN_NANO, PC, XAVIER_NX, Programs, write_tree

ME = f"python{sys.version_info.major}.{sys.version_info.minor}"


def test_read_jetson_and_power_of_xavier_nx_with_jetpack_5(tmp_path: Path):
    root = write_tree(tmp_path, XAVIER_NX)
    assert read_jetson(root) == Jetson(
        model="NVIDIA Jetson Xavier NX Developer Kit",
        family="Jetson Xavier NX",
        module="p3668-0000",
        soc="tegra194",
        l4t="35.4.1",
        jetpack="5.1.2",
        compute_capability="7.2",
        dla_cores=2,
    )
    power = read_power(root, Programs())
    assert [mode.id for mode in power.modes] == [0, 5, 6, 8]
    assert power.modes[0] == PowerMode(0, "MODE_15W_2CORE", 2, 1109.25, 1600.0, 1907.2)
    assert power.current == power.highest == PowerMode(8, "MODE_20W_6CORE", 6, 1109.25, 1866.0, 1420.8)
    faster = faster_cpu_mode(power)  # not mode 0: its memory clock is lower
    assert faster is not None
    assert (faster.name, faster.cpu_max_mhz) == ("MODE_20W_2CORE", 1907.2)
    assert faster_cpu_mode(dataclasses.replace(power, current=faster)) is None
    assert (power.clocks_locked, power.gpu_mhz, power.gpu_max_mhz) == (False, 114.75, 1109.25)
    assert power.emc_mhz is None
    assert power_sensors(root) == ("VDD_IN", "VDD_CPU_GPU_CV")
    assert find_toolkit(root, Programs({"nvcc": Outcome("release 10.2, V10.2.89")})) == Toolkit(
        "11.4", str(root / "usr/local/cuda/bin/nvcc")
    )


def test_read_jetson_and_power_of_orin_nano_with_jetpack_6(tmp_path: Path):
    root = write_tree(tmp_path, ORIN_NANO)
    jetson, power = read_jetson(root), read_power(root, Programs())
    assert jetson is not None
    assert (jetson.family, jetson.module, jetson.dla_cores) == ("Jetson Orin Nano", "p3767-0005", 0)
    assert (jetson.l4t, jetson.jetpack, jetson.compute_capability) == ("36.4.3", "6.2", "8.7")
    assert power.current == power.highest == PowerMode(2, "MAXN_SUPER")
    assert (power.clocks_locked, power.emc_mhz) == (True, 3199.0)


@pytest.mark.parametrize(
    ("model", "compatible", "family", "capability", "dla_cores"),
    [
        ("NVIDIA Jetson Xavier NX Developer Kit", "", "Jetson Xavier NX", "7.2", 2),
        ("Jetson-AGX", "nvidia,galen\0nvidia,tegra194", "Jetson AGX Xavier", "7.2", 2),
        ("NVIDIA Orin NX Developer Kit", "nvidia,tegra234", "Jetson Orin NX", "8.7", None),
        ("Custom carrier", "nvidia,p3768-0000+p3767-0000\0nvidia,tegra234", "Jetson Orin NX", "8.7", 2),
        ("Custom carrier", "nvidia,p3768-0000+p3767-0001\0nvidia,tegra234", "Jetson Orin NX", "8.7", 1),
        (
            "NVIDIA Orin Nano Developer Kit",
            "nvidia,p3768-0000+p3767-0005\0nvidia,tegra234",
            "Jetson Orin Nano",
            "8.7",
            0,
        ),
        ("NVIDIA Jetson AGX Orin Developer Kit", "nvidia,tegra234", "Jetson AGX Orin", "8.7", 2),
        (
            "NVIDIA Jetson AGX Thor Developer Kit",
            "nvidia,p4071-0000+p3834-0008\0nvidia,tegra264",
            "Jetson Thor",
            "11.0",
            0,
        ),
        ("NVIDIA Jetson Nano Developer Kit", "nvidia,jetson-nano\0nvidia,tegra210", "Jetson Nano", "5.3", 0),
        ("NVIDIA Jetson TX2 NX", "nvidia,tegra186", "Jetson TX2", "6.2", 0),
        ("Jetson Tomorrow", "nvidia,p9999-0000\0nvidia,tegra999", None, None, None),
        ("quill", "nvidia,quill\0nvidia,tegra186", None, "6.2", None),
    ],
)
def test_read_jetson_identifies_the_family(tmp_path: Path, model, compatible, family, capability, dla_cores):
    files = {"proc/device-tree/model": model + "\0", "proc/device-tree/compatible": compatible + "\0"}
    jetson = read_jetson(write_tree(tmp_path, files))
    assert jetson is not None
    assert (jetson.model, jetson.family) == (model, family)
    assert (jetson.compute_capability, jetson.dla_cores) == (capability, dla_cores)
    assert (jetson.l4t, jetson.jetpack, jetson.jetpack_too_old) == (None, None, False)


@pytest.mark.parametrize(
    ("release", "l4t", "jetpack", "too_old"),
    [
        ("# R35 (release), REVISION: 6.4, GCID: 1", "35.6.4", "5.1.6", False),
        ("# R36 (release), REVISION: 4.0, GCID: 1", "36.4.0", "6.1", False),
        ("# R36 (release), REVISION: 4, GCID: 1", "36.4.0", "6.1", False),
        ("# R38 (release), REVISION: 4.0, GCID: 1", "38.4.0", "7.1", False),
        ("# R36 (release), REVISION: 9.9, GCID: 1", "36.9.9", "6.x", False),
        ("# R99 (release), REVISION: 1.0, GCID: 1", "99.1.0", None, False),
        ("# R32 (release), REVISION: 7.1, GCID: 1", "32.7.1", "4.6.1", True),
        ("# R35 (release), REVISION: 1.0, GCID: 1", "35.1.0", "5.0.2", True),
        ("# R31 (release), REVISION: 1.0, GCID: 1", "31.1.0", "4.x", True),
        ("# R28 (release), REVISION: 2.1, GCID: 1", "28.2.1", "3.x", True),
        ("# R36(release), REVISION:5.0", "36.5.0", "6.2.2", False),
        ("# R35 (rel", None, None, False),
    ],
)
def test_read_jetson_finds_l4t_and_jetpack(tmp_path: Path, release, l4t, jetpack, too_old):
    tree = {**XAVIER_NX, "etc/nv_tegra_release": release}
    found = read_jetson(write_tree(tmp_path, tree))
    assert found is not None
    assert (found.l4t, found.jetpack, found.jetpack_too_old) == (l4t, jetpack, too_old)


def test_l4t_in_a_container_comes_from_its_package(tmp_path: Path):
    status = (
        "Package: nvidia-l4t-core\nStatus: deinstall ok config-files\nVersion: 32.1.0-1\n\n"
        "Package: nvidia-l4t-core\nStatus: install ok installed\nDescription: core\n more of it\n"
        "Version: 35.4.1-20230801124926\n"
    )
    jetson = read_jetson(write_tree(tmp_path, {"var/lib/dpkg/status": status}))
    assert jetson is not None
    assert (jetson.model, jetson.l4t, jetson.jetpack) == ("", "35.4.1", "5.1.2")


@pytest.mark.parametrize("files", [{}, PC, {"proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"}])
def test_read_jetson_is_none_on_other_machines(tmp_path: Path, files):
    assert read_jetson(write_tree(tmp_path, files)) is None


def test_power_mode_from_nvpmodel_without_its_status_file(tmp_path: Path):
    answer = Programs(
        {"nvpmodel": Outcome("NVPM WARN: fan mode is not set!\nNV Power Mode: MODE_20W_6CORE\n8\n")}
    )
    power = read_power(tmp_path, answer)
    assert power.current == PowerMode(8, "MODE_20W_6CORE")
    assert (power.modes, power.highest, power.clocks_locked) == ((), None, None)
    root = write_tree(
        tmp_path, {"etc/nvpmodel.conf": NVPMODEL_XAVIER, "var/lib/nvpmodel/status": "pmode:0031"}
    )
    assert read_power(root, Programs()).current == PowerMode(31, "mode 31")
    assert read_power(tmp_path / "nothing", Programs()).current is None


@pytest.mark.parametrize(
    "garbage", [b"", b"\0", b"\xff\xfe\x00garbage", b"< POWER_MODEL ID= NAME", b"{" * 5000]
)
def test_garbage_in_every_file_gives_no_values(tmp_path: Path, garbage: bytes):
    trees = {**XAVIER_NX, **ORIN_NANO, **CARD, **DRIVER, "var/lib/dpkg/status": ""}
    root = write_tree(tmp_path, dict.fromkeys(trees, garbage))
    jetson, power = read_jetson(root), read_power(root, Programs())
    assert jetson is None or jetson.family is None
    assert (power.modes, power.current, power.clocks_locked, power.gpu_mhz) == ((), None, None, None)
    assert kernel_driver(root) is None
    assert not card_present(root)
    assert find_toolkit(root, Programs()) == Toolkit(None, None)


def test_folders_in_place_of_files_give_no_values(tmp_path: Path):
    for name in XAVIER_NX:
        (tmp_path / name).mkdir(parents=True)
    assert read_power(tmp_path, Programs()).current is None
    assert power_sensors(tmp_path) == ()
    read_jetson(tmp_path)


def test_memory_of_this_machine():
    memory = read_memory()
    assert memory is not None
    assert 0 < memory.available_mb <= memory.total_mb
    assert 0 <= memory.swap_free_mb <= memory.swap_mb


@pytest.mark.parametrize(
    "heading",
    [
        "< POWER_MODEL ID=0 NAME=MAXN >",
        "<POWER_MODEL ID=0 NAME=MAXN>",
        "\t<\tPOWER_MODEL\tNAME=MAXN  ID=0>",
        '< POWER_MODEL ID=0 NAME="MAXN" > # the default, unlike ID=3 NAME=15W',
        "< POWER_MODEL ID = 0 NAME = MAXN ># default",
        "# the fastest\n\n< POWER_MODEL ID=0 NAME=MAXN >",
    ],
)
@pytest.mark.parametrize(
    "limit",
    [
        "GPU MAX_FREQ 1109250000",
        "GPU MAX_FREQ 1109250000 # 1.1 GHz",
        "  GPU\tMAX_FREQ   1109250000\t#GPU MAX_FREQ 5",
        "# GPU MAX_FREQ 5\nGPU MAX_FREQ 1109250000#",
    ],
)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_power_modes_are_read_with_any_blanks_and_comments(tmp_path: Path, heading, limit, newline):
    lines = [heading, "CPU_ONLINE CORE_0 1 # always on", limit, "< PM_CONFIG DEFAULT=0 >", "GPU MAX_FREQ 7"]
    root = write_tree(tmp_path, {"etc/nvpmodel.conf": newline.join("\n".join(lines).split("\n"))})
    assert read_power(root, Programs()).modes == (PowerMode(0, "MAXN", cores=1, gpu_max_mhz=1109.25),)


@pytest.mark.parametrize("limit", ["1109250", "1109", "999999999999999", "-1", "0", "1.1e9", "0x421e1", "x"])
def test_clock_limit_in_an_unexpected_unit_is_unknown(tmp_path: Path, limit: str):
    text = f"< POWER_MODEL ID=0 NAME=MAXN >\nGPU MAX_FREQ {limit}\nEMC MAX_FREQ 1600000000\n"
    (mode,) = read_power(write_tree(tmp_path, {"etc/nvpmodel.conf": text}), Programs()).modes
    assert (mode.gpu_max_mhz, mode.emc_max_mhz) == (None, 1600.0)


@pytest.mark.parametrize(
    ("limits", "expected"), [((1420800, 1907200), 1907.2), ((1420800, -1), None), ((-1, -1), None)]
)
def test_cpu_clock_of_a_mode_without_a_limit_for_some_cores_has_no_limit(tmp_path: Path, limits, expected):
    lines = [f"CPU_A78_{number} MAX_FREQ {limit}" for number, limit in enumerate(limits)]
    text = "\n".join(["< POWER_MODEL ID=0 NAME=MAXN >", *lines])
    (mode,) = read_power(write_tree(tmp_path, {"etc/nvpmodel.conf": text}), Programs()).modes
    assert mode.cpu_max_mhz == expected


def test_power_without_nvpmodel_and_with_clocks_in_khz(tmp_path: Path):
    node = "sys/class/devfreq/17000000.gv11b"
    clocks = dict.fromkeys((f"{node}/cur_freq", f"{node}/max_freq", f"{node}/min_freq"), "1109250\n")
    power = read_power(write_tree(tmp_path, clocks), Programs())
    assert (power.modes, power.current, power.gpu_mhz, power.gpu_max_mhz) == ((), None, None, None)


CHUNK = st.one_of(
    st.text(max_size=12),
    st.integers(-(10**40), 10**40).map(str),
    st.sampled_from(
        ["9" * 5000, "-1", "\r\n", "\n", "#", "<", ">", "ID=", "NAME=", " ", "\t", "\0", ":", "."]
    ),
    st.sampled_from(re.split(r"(\s)", NVPMODEL_XAVIER)),
    st.sampled_from([str(text) for text in {**XAVIER_NX, **CARD, **DRIVER}.values()]),
    st.sampled_from(["Package: nvidia-l4t-core", "Status: install ok installed", "Version: ", "{[" * 3000]),
    st.sampled_from(
        ['{"devices": [', '{"name": "A"', '"memory_mb": ', "NV Power Mode: ", "1, 8.6, 12 MiB, 5"]
    ),
)
GARBAGE = st.lists(CHUNK, max_size=12).map("".join)
FILES = (
    *XAVIER_NX,
    *CARD,
    *DRIVER,
    "var/lib/dpkg/status",
    "proc/cpuinfo",
    "etc/os-release",
    "sys/fs/cgroup/cpu.max",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80, deadline=None)
@given(texts=st.lists(GARBAGE, min_size=5, max_size=5), answer=GARBAGE)
def test_no_parser_of_the_machine_fails_on_garbage(tmp_path: Path, texts, answer: str):
    contents = itertools.cycle(text.encode("utf-8", "surrogatepass") for text in texts)
    root = write_tree(tmp_path, dict(zip(FILES, contents)))

    def run(command):
        return Outcome(answer)

    power, jetson = read_power(root, run), read_jetson(root)
    for mode in (*power.modes, *filter(None, (power.current, power.highest))):
        assert mode.name
        assert mode.gpu_max_mhz is None or 10 <= mode.gpu_max_mhz <= 10_000
    assert jetson is None or isinstance(jetson.jetpack_too_old, bool)
    assert read_environment(root, run).cpu
    for gpu in (*ask_nvidia_smi(run).gpus, *ask_cuda_driver(run).gpus):
        assert gpu.memory_mb is None or isinstance(gpu.memory_mb, float)
    find_toolkit(root, run)
    kernel_driver(root)
    debian_packages(("nvidia-l4t-core",), root)
    SysfsSource(root).read()


def test_graphics_card_and_driver_version(tmp_path: Path):
    assert not card_present(write_tree(tmp_path, PC))
    assert card_present(write_tree(tmp_path, CARD))
    assert kernel_driver(write_tree(tmp_path, DRIVER)) == "535.104.05"
    newer = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  550.54.14  Release Build  (x@y)\n"
    assert kernel_driver(write_tree(tmp_path, {"proc/driver/nvidia/version": newer})) == "550.54.14"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            "echo 'NVIDIA GeForce RTX 3060, 8.6, 12288 MiB, 535.104.05'",
            NvidiaSmi(
                (Gpu("NVIDIA GeForce RTX 3060", "8.6", pytest.approx(12884.9, abs=0.1)),), "535.104.05"
            ),
        ),
        (
            "echo 'Orin (nvgpu), [N/A], [N/A], 540.4.0'",
            NvidiaSmi((Gpu("Orin (nvgpu)", None, None),), "540.4.0"),
        ),
        ("echo 'Field \"compute_cap\" is not a valid field to query.'; exit 2", NvidiaSmi()),
        ("echo 'No devices were found'", NvidiaSmi()),
        ("printf 'Tesla'", NvidiaSmi()),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the fake nvidia-smi is a shell script")
def test_ask_nvidia_smi_parses_its_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: NvidiaSmi
):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert ask_nvidia_smi(run_command) == expected


def test_find_toolkit_version_sources(tmp_path: Path):
    assert find_toolkit(tmp_path, Programs()) == Toolkit(None, None)
    programs = Programs({"nvcc": Outcome("Cuda compilation tools, release 12.6, V12.6.68\n")})
    assert find_toolkit(tmp_path, programs) == Toolkit("12.6", "nvcc")
    root = write_tree(tmp_path, {"usr/local/cuda/version.txt": "CUDA Version 10.2.300\n"})
    assert find_toolkit(root, Programs()) == Toolkit("10.2", None)


def test_cuda_driver_of_this_machine_has_gpus_or_a_problem():
    answer = ask_cuda_driver(run_command)
    assert bool(answer.gpus) != bool(answer.problem)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (Outcome('{"error": "no CUDA-capable device is detected (CUDA error 100)"}'), "error 100"),
        (Outcome('{"devices": []}'), "it reports no GPU"),
        (Outcome("", "", "was killed by signal 11"), "was killed by signal 11"),
        (Outcome("Segm"), "is not valid"),
        (Outcome("[1]"), "is not valid"),
        (Outcome('{"devices": [{"color": 1}]}'), "is not valid"),
    ],
)
def test_ask_cuda_driver_reports_the_problem(answer: Outcome, problem: str):
    found = ask_cuda_driver(lambda command: answer)
    assert found.gpus == ()
    assert problem in str(found.problem)


def fake_driver(code: int) -> SimpleNamespace:
    """Return the functions of libcuda that the probe calls: one GPU, or `code` from the first function."""

    def put(place: Any, value: Any) -> int:
        getattr(place, "_obj", place).value = value
        return 0

    return SimpleNamespace(
        cuInit=lambda flags: code,
        cuGetErrorString=lambda number, text: put(text, b"no CUDA-capable device is detected"),
        cuDeviceGetCount=lambda count: put(count, 1),
        cuDeviceGet=lambda device, ordinal: put(device, 40 + ordinal),
        cuDeviceGetName=lambda name, size, device: put(name, {40: b"Xavier"}[device.value]),
        cuDeviceGetAttribute=lambda value, number, device: put(value, {75: 7, 76: 2}[number]),
        cuDeviceTotalMem_v2=lambda size, device: put(size, 7_000_000_000),
    )


def test_cuda_probe_lists_gpus_or_the_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake_driver(0))
    assert cuda_probe.probe() == {
        "devices": [{"name": "Xavier", "compute_capability": "7.2", "memory_mb": 7000.0}]
    }
    monkeypatch.setattr(ctypes, "CDLL", lambda name: fake_driver(100))
    assert cuda_probe.probe() == {"error": "no CUDA-capable device is detected (CUDA error 100)"}


def test_run_command_never_raises(monkeypatch: pytest.MonkeyPatch):
    python = sys.executable
    assert run_command([python, "-c", "print('yes')"]).output.strip() == "yes"
    assert "cannot be run (no such file" in str(run_command(["no-such-program"]).problem)
    failed = run_command([python, "-c", "import sys; sys.exit('first\\nlast')"])
    assert (failed.problem, failed.last_error_line) == ("ended with exit code 1", "last")
    killed = run_command([python, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"])
    assert (killed.problem, killed.is_shortage, failed.is_shortage) == ("was killed by signal 9", True, False)
    starved = run_command([python, "-c", "raise MemoryError"])
    assert (starved.problem, starved.is_shortage) == ("ended with exit code 1", True)
    monkeypatch.setattr(commands, "_LIMIT_SECONDS", 0.2)
    start = time.monotonic()
    late = run_command([python, "-c", "import time; time.sleep(60)"])
    assert "gave no answer" in str(late.problem)
    assert late.is_shortage
    assert time.monotonic() - start < 5


def test_check_library_loads_in_a_separate_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_tree(
        tmp_path,
        {
            "adq_good/__init__.py": "__version__ = '3.1'\n",
            "adq_broken/__init__.py": "raise ImportError('libGL.so.1: cannot open shared object file')\n",
            "adq_crashing/__init__.py": "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n",
            "adq_folder/readme.txt": "no package",
        },
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    good = check_library("good", "adq_good", None, run_command)
    assert (good.version, good.problem) == ("3.1", None)
    broken = check_library("broken", "adq_broken", "2.0", run_command)
    assert (broken.version, broken.problem) == (
        "2.0",
        "does not load: ImportError: libGL.so.1: cannot open shared object file",
    )
    assert check_library("broken", "adq_broken", "2.0").problem is None
    assert "was killed by signal 11" in str(check_library("c", "adq_crashing", None, run_command).problem)
    for absent in ("adq_absent", "adq_folder", "adq_absent.driver"):
        assert check_library("absent", absent, None, run_command).problem == "not installed"
    assert not [name for name in sys.modules if name.startswith("adq_good")]


@pytest.fixture
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide both TensorRT products of this Python."""
    monkeypatch.setattr(libraries, "_folder", lambda module: None)


@pytest.mark.usefixtures("no_tensorrt")
@pytest.mark.parametrize(
    ("python", "problem"),
    [
        (ME, "does not include the system's packages"),
        ("python3.6", "it is installed for Python 3.6, and this is Python"),
    ],
)
def test_find_tensorrts_reports_a_package_outside_this_python(tmp_path: Path, python: str, problem: str):
    packages = f"usr/lib/{python}/dist-packages"
    root = write_tree(
        tmp_path,
        {f"{packages}/tensorrt/__init__.py": "", f"{packages}/tensorrt-8.5.2.2.dist-info/METADATA": ""},
    )
    (found,) = find_tensorrts(root, run_command)
    assert (found.product, found.version) == (Product.TENSORRT, "8.5.2.2")
    assert found.folder == str(root / packages / "tensorrt")
    assert problem in str(found.problem)


@pytest.mark.usefixtures("no_tensorrt")
def test_find_tensorrts_reports_a_missing_python_package(tmp_path: Path):
    status = "Package: libnvinfer8\nStatus: install ok installed\nVersion: 8.5.2-1+cuda11.4\n"
    root = write_tree(tmp_path, {"var/lib/dpkg/status": status})
    problem = "its Python package, python3-libnvinfer, is missing"
    assert find_tensorrts(root, run_command) == (TensorRT(Product.TENSORRT, "8.5.2", None, problem),)
    assert find_tensorrts(tmp_path / "nothing", run_command) == ()


def test_find_tensorrts_loads_a_package_of_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    packages = tmp_path / "usr" / "lib" / ME / "dist-packages"
    write_tree(packages, {"tensorrt/__init__.py": "", "tensorrt-8.5.2.2.dist-info/METADATA": ""})
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    found = find_tensorrts(tmp_path, run_command)[0]
    assert found == TensorRT(Product.TENSORRT, "8.5.2.2", str(packages / "tensorrt"), None)
    (packages / "tensorrt" / "__init__.py").write_text("raise OSError('libnvinfer.so.8: cannot open')\n")
    broken = find_tensorrts(tmp_path, run_command)[0]
    assert broken.problem == "does not load: OSError: libnvinfer.so.8: cannot open"
    assert "tensorrt" not in sys.modules


def test_power_sensors_of_a_pc(tmp_path: Path):
    root = write_tree(
        tmp_path,
        {
            "sys/class/powercap/intel-rapl:0/name": "package-0\n",
            "sys/class/powercap/intel-rapl:0/energy_uj": "123456\n",
            "sys/class/powercap/intel-rapl:0:0/name": "core\n",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": "12\n",
            "sys/class/powercap/intel-rapl:1/name": "unreadable\n",
        },
    )
    assert power_sensors(root) == ("package-0",)


def test_read_board_state_and_environment_of_a_jetson(tmp_path: Path):
    thermal = "sys/class/thermal/thermal_zone0"
    root = write_tree(tmp_path, {**XAVIER_NX, f"{thermal}/type": "GPU-therm", f"{thermal}/temp": "41500\n"})
    state = read_board_state(root, Programs())
    assert state == BoardState(
        PowerMode(8, "MODE_20W_6CORE", 6, 1109.25, 1866.0, 1420.8), False, 114.75, None, pytest.approx(41.5)
    )
    environment = read_environment(root, Programs())
    assert (environment.l4t, environment.jetpack, environment.cuda) == ("35.4.1", "5.1.2", "11.4")
    assert read_board_state(write_tree(tmp_path / "pc", PC), Programs()) is None
    environment = read_environment(tmp_path / "pc", Programs())
    assert (environment.l4t, environment.jetpack, environment.cuda) == (None, None, None)
