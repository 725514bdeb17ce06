"""`doctor` with fake machines, on this machine, and with a broken installation."""

from __future__ import annotations

import contextlib
import io
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

import pytest

import adq_edge.hardware.inventory
from adq_edge.hardware import libraries
from adq_edge.hardware.commands import Outcome
from adq_edge.hardware.doctor import Diagnosis, diagnose
from adq_edge.hardware.memory import Memory
from adq_edge.report.render.terminal import print_tables
from adq_edge.report.tables.doctor import capabilities_table, int8_table, machine_table, next_step_line
from factories.boards import (
    CARD,
    DRIVER,
    ORIN_NANO,
    ORIN_NANO_JETPACK_7,
    PC,
    THOR,
    XAVIER_NX,
    Programs,
    write_tree,
)

COMMAND = [sys.executable, "-m", "adq_edge"]
ME = f"python{sys.version_info.major}.{sys.version_info.minor}"

XAVIER_GPU = {"devices": [{"name": "Xavier", "compute_capability": "7.2", "memory_mb": 7156.0}]}
RTX_3060 = {"devices": [{"name": "RTX 3060", "compute_capability": "8.6", "memory_mb": 12884.9}]}
BINDING = {
    f"usr/lib/{ME}/dist-packages/tensorrt/__init__.py": "",
    f"usr/lib/{ME}/dist-packages/tensorrt-8.5.2.2.dist-info/METADATA": "",
}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Dict[str, bool]:
    """Present every library as installed, with free disk space; a test sets the missing ones to False."""
    present: Dict[str, bool] = {}

    def folder(module: str) -> Optional[Path]:
        return tmp_path / "site-packages" / module if present.get(module, True) else None

    monkeypatch.setattr(libraries, "_folder", folder)
    monkeypatch.setattr(adq_edge.hardware.inventory, "_disk_free_mb", lambda folder: 50_000.0)
    set_memory(monkeypatch, swap_mb=3578.0)
    return present


def set_memory(monkeypatch: pytest.MonkeyPatch, swap_mb: float) -> None:
    memory = Memory(total_mb=7156.0, available_mb=5325.0, swap_mb=swap_mb, swap_free_mb=swap_mb - 500.0)
    monkeypatch.setattr(adq_edge.hardware.inventory, "read_memory", lambda: memory)


def shown(diagnosis: Diagnosis) -> str:
    """Return the printed tables and the next step, with single blanks: lines of 80 letters are wrapped."""
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        print_tables([machine_table(diagnosis.inventory)])
        print_tables([capabilities_table(diagnosis)])
    return " ".join(f"{screen.getvalue()}\n{next_step_line(diagnosis)}".split())


def possible(diagnosis: Diagnosis) -> Dict[str, Optional[bool]]:
    return {capability.name: capability.possible for capability in diagnosis.capabilities}


def reason(diagnosis: Diagnosis, name: str) -> str:
    return next(capability.reason for capability in diagnosis.capabilities if capability.name == name)


def test_diagnosis_of_a_complete_xavier_nx(tmp_path: Path):
    locked = {"sys/class/devfreq/17000000.gv11b/min_freq": "1109250000\n"}
    root = write_tree(tmp_path, {**XAVIER_NX, **locked})
    nvcc = {"nvcc": Outcome("Cuda compilation tools, release 11.4, V11.4.315")}
    diagnosis = diagnose(root, Programs(nvcc, {"tensorrt": "8.5.2.2"}, XAVIER_GPU))
    assert diagnosis.next_step is None
    assert all(possible(diagnosis).values())
    assert reason(diagnosis, "TensorRT engines") == "TensorRT 8.5.2.2, compute capability 7.2"
    assert reason(diagnosis, "power and energy of a benchmark") == "sensors: VDD_IN, VDD_CPU_GPU_CV"
    text = shown(diagnosis)
    for part in (
        "NVIDIA Jetson Xavier NX Developer Kit (Jetson Xavier NX, p3668-0000, tegra194)",
        "L4T 35.4.1, JetPack 5.1.2",
        "MODE_20W_6CORE (mode 8)",
        "locked; GPU 115 MHz of 1109 MHz; memory unknown to this user",
        "7.2 GB, 5.3 GB available; swap 3.6 GB, 3.1 GB free",
        "Xavier, compute capability 7.2",
        "11.4, nvcc: ",
        "8.5.2.2: loads",
        "MODE_20W_2CORE (mode 6) has at least the same GPU clock and a CPU clock of 1907 MHz",
        "No problem was found.",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("tree", "gpu", "tensorrt", "parts"),
    [
        (
            THOR,
            {"name": "NVIDIA Thor", "compute_capability": "11.0", "memory_mb": 125772.0},
            "10.13.3.9",
            (
                "NVIDIA Jetson AGX Thor Developer Kit (Jetson Thor, p3834-0008, tegra264)",
                "L4T 38.4.0, JetPack 7.1",
                "120W (mode 1)",
                "not locked; GPU 315 MHz of 1575 MHz",
                "The power mode is 120W, the highest is MAXN",
            ),
        ),
        (
            ORIN_NANO_JETPACK_7,
            {"name": "Orin", "compute_capability": "8.7", "memory_mb": 7619.0},
            "10.16.2.10",
            (
                "L4T 39.2.1, JetPack 7.2.1",
                "MAXN_SUPER (mode 2)",
                "locked; GPU 1020 MHz",
                "No problem was found.",
            ),
        ),
    ],
    ids=["Thor", "Orin Nano"],
)
def test_boards_with_jetpack_7_are_known(tmp_path: Path, tree, gpu, tensorrt: str, parts):
    """Neither of them has a DLA."""
    programs = Programs({}, {"tensorrt": tensorrt}, {"devices": [gpu]})
    diagnosis = diagnose(write_tree(tmp_path, tree), programs)
    assert possible(diagnosis)["TensorRT engines"]
    assert diagnosis.inventory.jetson.dla_cores == 0
    text = shown(diagnosis)
    for part in (*parts, f"{tensorrt}: loads", f"compute capability {gpu['compute_capability']}"):
        assert part in text


@pytest.mark.parametrize(
    ("files", "absent", "programs", "step"),
    [
        ({}, [], {}, "The clocks are not locked. For quotable results: ./jetson_setup.sh --max-performance"),
        (
            {"var/lib/nvpmodel/status": "pmode:0000"},
            [],
            {},
            "The power mode is MODE_15W_2CORE, the highest is MODE_20W_6CORE. For quotable results",
        ),
        (BINDING, ["tensorrt"], {}, "TensorRT 8.5.2.2: this "),
        ({}, ["tensorrt"], {}, "TensorRT: not installed. Run ./jetson_setup.sh"),
        ({}, ["pycuda"], {}, "pycuda: not installed. Run ./jetson_setup.sh"),
        (
            {},
            [],
            {"loads": {"tensorrt": OSError("libnvinfer.so.8: cannot open")}},
            "TensorRT: does not load: OSError: libnvinfer.so.8: cannot open. Run ./jetson_setup.sh",
        ),
        ({}, [], {"loads": {"tensorrt": "8.4.1.5"}}, "TensorRT 8.4.1.5 is older than 8.5"),
        ({}, ["onnxruntime", "tensorrt"], {}, "onnxruntime: not installed. Run ./jetson_setup.sh again"),
        (
            {},
            [],
            {"cuda": {"error": "permission denied"}},
            "permission denied. Add yourself to the group video",
        ),
        (
            {".dockerenv": ""},
            [],
            {"cuda": {"error": "no libcuda"}},
            "CUDA cannot be used in this container: no libcuda. Start it with docker run --runtime nvidia",
        ),
        (
            {".dockerenv": ""},
            [],
            {"loads": {"tensorrt": OSError("libnvinfer.so.8: cannot open")}},
            "cannot open. Start the container with docker run --runtime nvidia, from an image with TensorRT",
        ),
        (
            {".dockerenv": ""},
            ["tensorrt"],
            {},
            "TensorRT: not installed. Start the container with docker run --runtime nvidia, from an image",
        ),
        (
            {"etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1"},
            ["tensorrt"],
            {},
            "JetPack 4.6.1 has no TensorRT 8.5. Flash the board",
        ),
    ],
)
def test_next_step_on_a_jetson(tmp_path: Path, installed, files, absent, programs, step: str):
    installed.update(dict.fromkeys(absent, False))
    given = {"cuda": XAVIER_GPU, **programs, "loads": {"tensorrt": "8.5.2.2", **programs.get("loads", {})}}
    diagnosis = diagnose(write_tree(tmp_path, {**XAVIER_NX, **files}), Programs(**given))
    assert str(diagnosis.next_step).startswith(step) or step in str(diagnosis.next_step)
    assert step in shown(diagnosis)


def test_diagnosis_of_an_orin_nano(tmp_path: Path, installed):
    installed["torch"] = False
    smi = Programs({"nvidia-smi": Outcome("Orin (nvgpu), [N/A], [N/A], 540.4.0\n")}, {"tensorrt": "10.3.0"})
    diagnosis = diagnose(write_tree(tmp_path, ORIN_NANO), smi)
    assert diagnosis.inventory.power_sensors == ()
    assert "train on a workstation" in reason(diagnosis, "training and export")
    text = shown(diagnosis)
    assert "MAXN_SUPER (mode 2)" in text
    assert "locked; GPU 1020 MHz of 1020 MHz; memory 3199 MHz" in text
    assert "JetPack 6.2" in text


def test_diagnosis_of_a_pc_without_a_gpu(tmp_path: Path, installed):
    installed.update(tensorrt=False, tensorrt_rtx=False, pycuda=False)
    diagnosis = diagnose(write_tree(tmp_path, PC), Programs())
    assert diagnosis.next_step is None
    assert reason(diagnosis, "TensorRT engines") == "there is no NVIDIA GPU"
    assert [name for name, can in possible(diagnosis).items() if can] == [
        "CPU engines, ONNX Runtime",
        "CPU engines, OpenVINO",
        "training and export",
    ]
    text = shown(diagnosis)
    assert "no NVIDIA GPU" in text
    assert "L4T" not in text


def test_diagnosis_of_a_pc_with_a_gpu(tmp_path: Path):
    smi = Outcome("NVIDIA GeForce RTX 3060, 8.6, 12288 MiB, 535.104.05\n")
    programs = Programs({"nvidia-smi": smi}, {"tensorrt": "10.9.0.34"}, RTX_3060)
    diagnosis = diagnose(write_tree(tmp_path, {**PC, **CARD, **DRIVER}), programs)
    assert diagnosis.next_step is None
    assert all(possible(diagnosis).values())
    assert diagnosis.inventory.power_sensors == ("nvidia-smi",)
    assert "RTX 3060, compute capability 8.6, 12.9 GB" in shown(diagnosis)
    assert "535.104.05" in shown(diagnosis)


@pytest.mark.parametrize(
    ("files", "absent", "programs", "step"),
    [
        (CARD, [], {}, "but its driver is not loaded. Install NVIDIA's driver"),
        ({**CARD, **DRIVER}, [], {}, "CUDA cannot be used: libcuda.so.1"),
        ({**CARD, **DRIVER, ".dockerenv": ""}, [], {}, "docker run --gpus all"),
        (
            {**CARD, **DRIVER},
            ["tensorrt"],
            {"cuda": RTX_3060},
            "not installed. Install it: pip install 'adq-edge[tensorrt]'",
        ),
        (
            {**CARD, **DRIVER},
            ["pycuda"],
            {"cuda": RTX_3060},
            "Install the CUDA toolkit (its nvcc builds pycuda)",
        ),
        (
            {**CARD, **DRIVER},
            ["pycuda"],
            {"cuda": RTX_3060, "answers": {"nvcc": Outcome("release 12.6")}},
            "pip install --no-binary pycuda pycuda",
        ),
        ({}, ["onnx"], {}, "onnx: not installed. Install it: pip install onnx"),
        (
            {},
            [],
            {"loads": {"onnxruntime": ImportError("numpy.core.multiarray failed to import")}},
            "failed to import. Install it: pip install --force-reinstall onnxruntime",
        ),
        (
            {},
            [],
            {"loads": {"cv2": ImportError("libGL.so.1: cannot open shared object file")}},
            "sudo apt-get install libgl1 libglib2.0-0",
        ),
    ],
)
def test_next_step_on_a_pc(tmp_path: Path, installed, files, absent, programs, step: str):
    installed.update(dict.fromkeys(absent, False))
    diagnosis = diagnose(write_tree(tmp_path, {**PC, **files}), Programs(**programs))
    assert step in str(diagnosis.next_step)


def test_next_step_on_a_jetson_without_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    set_memory(monkeypatch, swap_mb=0.0)
    programs = Programs(loads={"tensorrt": "8.5.2.2"}, cuda=XAVIER_GPU)
    diagnosis = diagnose(write_tree(tmp_path, XAVIER_NX), programs)
    assert "There is no swap, and builds may exceed 7.2 GB of memory. Add 4 GB of swap" in str(
        diagnosis.next_step
    )


def test_next_step_with_little_free_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(adq_edge.hardware.inventory, "_disk_free_mb", lambda folder: 120.0)
    assert "Only 120 MB are free" in str(diagnose(write_tree(tmp_path, PC), Programs()).next_step)


def test_tensorrt_capability_reports_a_gpu_without_int8(tmp_path: Path):
    pascal = {"devices": [{"name": "Tesla P100", "compute_capability": "6.0", "memory_mb": 16000.0}]}
    programs = Programs(loads={"tensorrt": "8.6.1"}, cuda=pascal)
    diagnosis = diagnose(write_tree(tmp_path, {**PC, **CARD, **DRIVER}), programs)
    assert "no INT8" in reason(diagnosis, "TensorRT engines")


def test_unknown_board_is_reported_as_unknown(tmp_path: Path):
    board = {
        "proc/device-tree/model": "NVIDIA Jetson Tomorrow [beta]\0",
        "proc/device-tree/compatible": "nvidia,tegra999\0",
    }
    text = shown(diagnose(write_tree(tmp_path, board), Programs()))
    assert "unknown Jetson: NVIDIA Jetson Tomorrow [beta] (tegra999)" in text
    assert "L4T unknown, JetPack unknown" in text
    nameless = shown(
        diagnose(write_tree(tmp_path / "b", {"etc/nv_tegra_release": "?# R35 (rel"}), Programs())
    )
    assert "no NVIDIA GPU" in nameless


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\xff\xfe\x00R35 (release), REVISION: ", b"pmode:"])
def test_diagnosis_survives_garbage_in_files_and_answers(tmp_path: Path, garbage: bytes):
    root = write_tree(tmp_path, dict.fromkeys({**XAVIER_NX, **CARD, **DRIVER}, garbage))
    noise = Outcome("\0,,\n{")
    programs = Programs(dict.fromkeys(("nvidia-smi", "nvcc", "nvpmodel"), noise), cuda={"devices": 7})
    shown(diagnose(root, programs))


@pytest.mark.parametrize(("machine", "is_told"), [("aarch64", True), ("x86_64", False)])
def test_doctor_prefers_onnxruntime_for_int8_on_arm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, is_told: bool
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    diagnosis = diagnose(write_tree(tmp_path, PC), Programs())
    text = reason(diagnosis, "CPU engines, OpenVINO")
    assert ("most layers of INT8 engines in float: prefer ONNX Runtime" in text) == is_told
    assert "float" not in reason(diagnosis, "CPU engines, ONNX Runtime")


def test_diagnosis_file_has_inventory_and_capabilities(tmp_path: Path):
    diagnosis = diagnose(write_tree(tmp_path / "root", XAVIER_NX), Programs(cuda=XAVIER_GPU))
    diagnosis.write(tmp_path / "doctor.json")
    document = json.loads((tmp_path / "doctor.json").read_text())
    assert document["schema"] == "adq-edge/doctor"
    assert document["inventory"]["jetson"]["jetpack"] == "5.1.2"
    assert document["inventory"]["power"]["current"]["name"] == "MODE_20W_6CORE"
    assert document["capabilities"][0] == {
        "name": "CPU engines, ONNX Runtime",
        "possible": True,
        "reason": reason(diagnosis, "CPU engines, ONNX Runtime"),
    }


def test_diagnosis_file_of_an_earlier_release_is_read(tmp_path: Path):
    diagnosis = diagnose(write_tree(tmp_path / "root", XAVIER_NX), Programs(cuda=XAVIER_GPU))
    diagnosis.write(tmp_path / "doctor.json")
    document = json.loads((tmp_path / "doctor.json").read_text())
    document["findings"], document["abilities"] = document.pop("inventory"), document.pop("capabilities")
    for tensorrt in document["findings"]["tensorrts"]:
        tensorrt["flavour"] = tensorrt.pop("product")
    (tmp_path / "old.json").write_text(json.dumps({**document, "version": 1}))
    assert Diagnosis.read(tmp_path / "old.json") == diagnosis


LATE = Outcome(problem="gave no answer within 60 s", is_shortage=True)
KILLED = Outcome(problem="was killed by signal 9", is_shortage=True)


class BusyMachine(Programs):
    """Programs of a machine that is too busy for one of them: a module that loads, or `cuda`."""

    def __init__(self, busy: str, answer: Outcome, **programs) -> None:
        super().__init__(**programs)
        self.busy, self.answer = busy, answer

    def __call__(self, command: Sequence[str]) -> Outcome:
        return self.answer if self.busy in command[-1] else super().__call__(command)


@pytest.mark.parametrize("answer", [LATE, KILLED])
@pytest.mark.parametrize(
    "module", ["onnx ", "cv2 ", "onnxruntime ", "tensorrt ", "pycuda.driver ", "cuda_probe"]
)
def test_busy_machine_gets_no_advice_to_reinstall(tmp_path: Path, module: str, answer: Outcome):
    root = write_tree(tmp_path, {**PC, **CARD, **DRIVER})
    programs = BusyMachine(module, answer, loads={"tensorrt": "10.9.0.34"}, cuda=RTX_3060)
    diagnosis = diagnose(root, programs)
    step = str(diagnosis.next_step)
    assert "The machine may be busy or out of memory: run adq-edge doctor again" in step
    assert str(answer.problem) in step
    judged = {name: can for name, can in possible(diagnosis).items() if not name.startswith("power")}
    assert False not in judged.values()
    assert None in judged.values()
    assert "unknown" in shown(diagnosis)
    assert not [word for word in ("nstall", "docker", "restart") if word in step]
    diagnosis.write(tmp_path / "doctor.json")
    assert Diagnosis.read(tmp_path / "doctor.json") == diagnosis


def test_hidden_sys_is_named_where_onnxruntime_ends_its_process(tmp_path: Path):
    """As ONNX Runtime 1.19 on Arm in a container without /sys."""
    files = {name: text for name, text in XAVIER_NX.items() if not name.startswith("sys/")}
    killed = BusyMachine("onnxruntime ", Outcome(problem="was killed by signal 6"), cuda=XAVIER_GPU)
    diagnosis = diagnose(write_tree(tmp_path / "hidden", files), killed)
    assert diagnosis.next_step == (
        "onnxruntime: does not load: was killed by signal 6, because /sys is hidden. "
        "Start the container with docker run -v /sys:/sys:ro"
    )
    assert reason(diagnosis, "power and energy of a benchmark") == "/sys is hidden"
    with_sys = diagnose(write_tree(tmp_path / "shown", XAVIER_NX), killed)
    assert "/sys" not in str(with_sys.next_step)


def test_board_without_nvpmodel_has_an_unknown_power_mode(tmp_path: Path):
    files = {name: text for name, text in XAVIER_NX.items() if "nvpmodel" not in name}
    diagnosis = diagnose(
        write_tree(tmp_path, files), Programs(loads={"tensorrt": "8.5.2.2"}, cuda=XAVIER_GPU)
    )
    assert "unknown: nvpmodel and its files are not here" in shown(diagnosis)
    assert "The clocks are not locked" in str(diagnosis.next_step)


def test_busy_machine_without_a_known_gpu_reports_no_absence_of_it(tmp_path: Path):
    diagnosis = diagnose(write_tree(tmp_path, PC), BusyMachine("cuda_probe", LATE))
    assert possible(diagnosis)["TensorRT engines"] is None
    assert "no NVIDIA GPU" not in shown(diagnosis)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        (
            "x86_64",
            "avx2 avx512f avx512_vnni amx_tile amx_int8",
            {"AMX": "8 times VNNI", "VNNI": "4 times", "AVX-512": "512 bits", "AVX2": "256 bits"},
        ),
        (
            "x86_64",
            "avx2 avx512f avx512_vnni avx512_bf16",
            {"VNNI": "4 times", "BF16": "build with --bf16 --runtime openvino"},
        ),
        ("AMD64", "avx2 avx_vnni", {"AMX": "INT8 uses VNNI", "VNNI": "4 times", "AVX-512": "256 bits"}),
        ("x86_64", "avx2 avx512f", {"AMX": "vector", "VNNI": "saturate", "AVX-512": "twice"}),
        ("x86_64", "sse4_2", {"AVX2": "slower than FP32", "VNNI": "gains less", "BF16": "--bf16 is refused"}),
        (
            "aarch64",
            "asimd asimdhp asimddp i8mm",
            {"i8mm": "twice dotprod", "dotprod": "4 times", "FP16": "no effect on INT8"},
        ),
        ("aarch64", "asimd asimdhp", {"i8mm": "plain NEON", "dotprod": "gains less", "FP16": "float16"}),
        ("arm64", "", {"dotprod": "does not list"}),
        ("riscv64", "v", {}),
    ],
)
def test_doctor_explains_the_instruction_sets_for_int8(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, flags: str, expected: Dict[str, str]
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    cpuinfo = {"proc/cpuinfo": f"processor: 0\nmodel name: A\nflags: {flags}\n"} if flags else {}
    diagnosis = diagnose(write_tree(tmp_path, cpuinfo), Programs())
    found = {one.name: one for one in diagnosis.int8}
    for name, words in expected.items():
        assert words in found[name].meaning, name
    assert bool(found) == bool(expected)
    assert all((one.present is None) == (not flags) for one in found.values())
    screen = io.StringIO()
    with contextlib.redirect_stdout(screen):
        print_tables([int8_table(diagnosis)])
    assert all(name in screen.getvalue() for name in expected)


def test_doctor_shows_the_limits_of_a_container(tmp_path: Path):
    limits = {"cpu.max": "150000 100000", "memory.max": "2000000000", "memory.current": "500000000"}
    root = write_tree(tmp_path, {**PC, **{f"sys/fs/cgroup/{name}": text for name, text in limits.items()}})
    text = shown(diagnose(root, Programs()))
    assert "CPU limit of the container: 1.5 cores" in text
    assert "limit of the container: 2.0 GB, 1.5 GB available" in text


def doctor(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, "doctor", *arguments], cwd=str(cwd), capture_output=True, text=True, timeout=60
    )


def test_doctor_on_this_machine(tmp_path: Path):
    result = doctor("--json", "doctor.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads((tmp_path / "doctor.json").read_text())
    possible = {capability["name"]: capability["possible"] for capability in document["capabilities"]}
    assert possible["CPU engines, ONNX Runtime"]
    assert document["inventory"]["environment"]["python"] in result.stdout
    assert "INT8 on this processor" in result.stdout
    lines = result.stdout.splitlines()
    assert lines[-1].startswith(("Next step: ", "No problem was found."))
    assert max(map(len, lines)) <= 80
    assert (result.stdout + result.stderr).lower().count("next") <= 1


def test_doctor_reports_an_unwritable_file_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    result = doctor("-o", "file/doctor.json", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("adq-edge: file/doctor.json: ")
    assert len(result.stderr.splitlines()) == 1


def test_doctor_works_without_the_libraries(tmp_path: Path):
    code = (
        "import sys\n"
        "names = 'numpy onnx onnxruntime cv2 torch openvino tensorrt pycuda polygraphy'\n"
        "sys.modules.update(dict.fromkeys(names.split()))\n"
        "from adq_edge.cli import app\n"
        "app(['doctor'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=str(tmp_path), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "Next step: numpy: not installed." in result.stdout
