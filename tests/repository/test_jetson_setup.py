"""jetson_setup.sh, run by bash in a made-up file tree with programs that write down how they are called."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Dict, List, Optional

import pytest

from adq_edge.hardware.power import highest_mode, read_power
from factories.boards import ORIN_NANO_JETPACK_7, THOR
from factories.paths import REPOSITORY

PYTHON_FOLDER = f"python{sys.version_info.major}.{sys.version_info.minor}"
HEADER = sysconfig.get_path("include").lstrip("/") + "/Python.h"
NVCC = "usr/local/cuda/bin/nvcc"
TENSORRT = f"usr/lib/{PYTHON_FOLDER}/dist-packages/tensorrt/__init__.py"

# What the script may use of the system; everything else it calls is one of the programs below.
TOOLS = ("awk", "bash", "cat", "cut", "dirname", "env", "mv", "rm", "sed", "sha256sum", "tr")

XAVIER = {
    "proc/device-tree/model": "NVIDIA Jetson Xavier NX Developer Kit\0",
    "proc/device-tree/compatible": "nvidia,p3509-0000+p3668-0000\0nvidia,tegra194\0",
    "etc/nv_tegra_release": "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64\n",
    "var/lib/nvpmodel/status": "pmode:0002\n",
    "sys/class/devfreq/17000000.gv11b/min_freq": "114750000\n",
    "sys/class/devfreq/17000000.gv11b/max_freq": "1109250000\n",
    "etc/nvpmodel.conf": """# < POWER_MODEL ID=id_num NAME=mode_name >
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online

< POWER_MODEL ID=0 NAME=MODE_15W_2CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 0
GPU MAX_FREQ 1109250000

< POWER_MODEL ID=6 NAME=MODE_20W_2CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 0

< POWER_MODEL ID=8 NAME=MODE_20W_6CORE >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
CPU_ONLINE CORE_2 1

< POWER_MODEL ID=9 NAME=MODE_10W_DESKTOP >
CPU_ONLINE CORE_0 1

< PM_CONFIG DEFAULT=2 >
""",
}
LIBRARIES = {HEADER: "", NVCC: "", TENSORRT: ""}

RECORD = 'printf "%s\\n" "${0##*/} $*" >>"$CALLS"\n'
PROGRAMS = {
    "sudo": RECORD + 'exec "$@"\n',
    "id": "echo 1000\n",
    "df": 'printf "Filesystem 1024-blocks Used Available\\ndisk 9 9 %s\\n" "$((${FREE_MB:-50000} * 1024))"\n',
    "nvpmodel": RECORD
    + 'read -r answer; printf "%s\\n" "answer $answer" >>"$CALLS"\n'
    + 'if [[ -n ${NEEDS_RESTART:-} ]]; then printf "%s\\n" "$NEEDS_RESTART"; exit 255; fi\n'
    + 'printf "pmode:%04d\\n" "$2" >"$ADQ_ROOT/var/lib/nvpmodel/status"\n',
    "jetson_clocks": RECORD
    + 'cd "$ADQ_ROOT/sys/class/devfreq/17000000.gv11b"; cat max_freq >new; mv new min_freq\n',
    "apt-get": RECORD
    + 'if [[ $1 == install ]]; then cp -R "$PACKAGES/." "$ADQ_ROOT"; cp "$0" "${0%/*}/g++"; fi\n',
    **dict.fromkeys(("reboot", "shutdown", "systemctl"), RECORD),
}
LOCK_THOR = 'for f in "$ADQ_ROOT"/sys/class/devfreq/gpu-*/max_freq; do cat "$f" >"${f%/*}/min_freq"; done\n'
# The system's Python and, copied there by `-m venv`, the environment's.
PYTHON_PROGRAM = """
if [[ $1 == -c ]]; then exec "$REAL_PYTHON" "$@"; fi
printf '%s\\n' "python $*" >>"$CALLS"
if [[ $1 == -m && $2 == venv ]]; then
    target=${!#}
    mkdir -p "$target/bin"
    cp "$0" "$target/bin/python"
    printf 'include-system-site-packages = true\\nversion = %s\\n' "$PYTHON_VERSION" >"$target/pyvenv.cfg"
elif [[ $* == *--editable* ]]; then
    printf '%s\\n' "nvcc ${PATH%%:*}" >>"$CALLS"
    if [[ ${PIP:-} == fails ]]; then echo "no network" >&2; exit 1; fi
    if [[ ${PIP:-} == interrupted ]]; then kill -INT "$PPID"; exit 130; fi
    printf '#!%s\\nprintf "%%s\\\\n" "adq-edge $*" >>"$CALLS"\\n' "$BASH" >"${0%/*}/adq-edge"
    chmod +x "${0%/*}/adq-edge"
fi
"""


class Board:
    """A fake machine: `root` holds its files, `repository` the script."""

    def __init__(self, folder: Path, files: Dict[str, str]) -> None:
        self.root, self.repository = folder / "root", folder / "adq-edge"
        self.programs, self.packages = folder / "bin", folder / "packages"
        self.calls_file = folder / "calls"
        for path in (self.root, self.repository, self.programs):
            path.mkdir(parents=True)
        for name in ("jetson_setup.sh", "pyproject.toml", "constraints.txt"):
            shutil.copy(str(REPOSITORY / name), str(self.repository))
        write(self.root, files)
        write(self.packages, LIBRARIES)
        for tool in (*TOOLS, "chmod", "cp", "mkdir"):
            (self.programs / tool).symlink_to(str(shutil.which(tool)))
        for name, text in {**PROGRAMS, "python3": PYTHON_PROGRAM}.items():
            self.add_program(name, text)
        if NVCC in files:
            self.add_program("g++", "")

    def add_program(self, name: str, text: str) -> None:
        path = self.programs / name
        path.write_text(f"#!{shutil.which('bash')}\n{text}")
        path.chmod(0o755)

    def setup(self, *options: str, **variables: str) -> subprocess.CompletedProcess:
        """Run the script with options and environment variables; clear the recorded calls first."""
        self.calls_file.write_text("")
        environment = {
            "PATH": str(self.programs),
            "ADQ_ROOT": str(self.root),
            "PYTHON": str(self.programs / "python3"),
            "REAL_PYTHON": sys.executable,
            "PYTHON_VERSION": ".".join(map(str, sys.version_info[:3])),
            "CALLS": str(self.calls_file),
            "PACKAGES": str(self.packages),
            **variables,
        }
        return subprocess.run(
            [str(self.programs / "bash"), str(self.repository / "jetson_setup.sh"), *options],
            capture_output=True,
            text=True,
            timeout=60,
            env=environment,
            start_new_session=True,
        )

    @property
    def calls(self) -> List[str]:
        return self.calls_file.read_text().splitlines()

    def snapshot(self) -> Dict[str, Optional[str]]:
        """Return the text of every file of the board, by path and modification time."""
        paths = [path for folder in (self.root, self.repository) for path in folder.rglob("*")]
        return {
            f"{path} {path.stat().st_mtime_ns}": path.read_text() if path.is_file() else None
            for path in paths
        }


def write(root: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def fresh(tmp_path: Path) -> Board:
    """Return a new board: without CUDA toolkit, Python headers and TensorRT for Python."""
    return Board(tmp_path, XAVIER)


@pytest.fixture
def board(tmp_path: Path) -> Board:
    """Return a board with all of JetPack."""
    return Board(tmp_path, {**XAVIER, **LIBRARIES})


def refused(result: subprocess.CompletedProcess) -> str:
    """Check that the script refused with one line on standard error; return the line."""
    assert result.returncode == 2, result.stderr
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("jetson_setup.sh: ")
    return lines[0]


def test_check_lists_missing_parts_and_changes_nothing(fresh: Board):
    before = fresh.snapshot()
    result = fresh.setup("--check", "--max-performance", FREE_MB="100")
    assert result.returncode == 1, result.stderr
    missing = [line[9:] for line in result.stdout.splitlines() if line.startswith("missing")]
    assert missing == [
        "Python's headers",
        "g++",
        "CUDA toolkit",
        f"TensorRT for Python {sys.version_info.major}.{sys.version_info.minor}",
        "adq-edge in .venv",
        "disk space: 100 MB are free, 8000 MB are needed",
        "power mode MODE_20W_6CORE",
        "locked clocks",
    ]
    assert "NVIDIA Jetson Xavier NX Developer Kit, L4T 35.4.1" in result.stdout
    assert fresh.snapshot() == before
    assert fresh.calls == []


def test_second_run_installs_nothing(fresh: Board):
    result = fresh.setup()
    assert result.returncode == 0, result.stderr
    venv = fresh.repository / ".venv"
    apt = "install -y --no-install-recommends python3-dev g++ cuda-toolkit-11-4 python3-libnvinfer"
    assert fresh.calls == [
        "sudo apt-get update",
        "apt-get update",
        f"sudo env DEBIAN_FRONTEND=noninteractive apt-get {apt}",
        f"apt-get {apt}",
        f"python -m venv --system-site-packages {venv}",
        "python -m pip install --upgrade pip>=23",
        f"python -m pip install --constraint {fresh.repository}/constraints.txt --only-binary :all: "
        f"--no-binary pycuda --editable {fresh.repository}[jetson]",
        f"nvcc {fresh.root}/usr/local/cuda/bin",
        "adq-edge doctor",
    ]
    assert fresh.setup("--check").returncode == 0
    before = fresh.snapshot()
    again = fresh.setup()
    assert again.returncode == 0, again.stderr
    assert fresh.calls == ["adq-edge doctor"]
    assert fresh.snapshot() == before


@pytest.mark.parametrize(
    ("tree", "toolkit", "release"),
    [(THOR, "cuda-toolkit-13-0", "L4T 38.4.0"), (ORIN_NANO_JETPACK_7, "cuda-toolkit-13-2", "L4T 39.2.1")],
    ids=["Thor", "Orin Nano"],
)
def test_jetpack_7_is_set_up_with_its_own_toolkit(tmp_path: Path, tree, toolkit: str, release: str):
    new = Board(tmp_path, tree)
    result = new.setup()
    assert result.returncode == 0, result.stderr
    assert release in result.stdout
    assert any(f" {toolkit} python3-libnvinfer" in call for call in new.calls)
    assert new.setup("--check").returncode == 0


def test_highest_mode_and_clocks_of_a_thor(tmp_path: Path):
    """It has one clock for each cluster of its GPU."""
    thor = Board(tmp_path, {**THOR, **LIBRARIES})
    thor.add_program("jetson_clocks", RECORD + LOCK_THOR)
    assert thor.setup("--max-performance").returncode == 0
    assert "nvpmodel -m 0" in thor.calls
    assert "jetson_clocks " in thor.calls
    assert thor.setup("--max-performance").returncode == 0
    assert thor.calls == ["adq-edge doctor"]


def test_changed_constraints_are_installed(board: Board):
    board.setup()
    with (board.repository / "constraints.txt").open("a") as file:
        file.write("rich==1\n")
    assert board.setup("--check").returncode == 1
    assert board.setup().returncode == 0
    assert any("--editable" in call for call in board.calls)


@pytest.mark.parametrize(("how", "code"), [("fails", 1), ("interrupted", 130)])
def test_run_after_a_failure_or_an_interruption_completes_the_setup(board: Board, how: str, code: int):
    result = board.setup(PIP=how)
    assert result.returncode == code, result.stderr
    assert result.stderr.splitlines()[-1].startswith("jetson_setup.sh: ")
    assert "adq-edge doctor" not in board.calls
    assert board.setup("--check").returncode == 1
    assert board.setup().returncode == 0
    assert board.calls[-1] == "adq-edge doctor"
    assert board.setup("--check").returncode == 0


def test_power_and_clocks_are_set_with_max_performance_if_they_differ(board: Board):
    assert board.setup().returncode == 0
    assert not [call for call in board.calls if "nvpmodel" in call or "jetson_clocks" in call]
    result = board.setup("--max-performance")
    assert result.returncode == 0, result.stderr
    assert board.calls == [
        "sudo nvpmodel -m 8",
        "nvpmodel -m 8",
        "answer no",
        "sudo jetson_clocks",
        "jetson_clocks ",
        "adq-edge doctor",
    ]
    assert board.setup("--max-performance").returncode == 0
    assert board.calls == ["adq-edge doctor"]
    assert board.setup("--check", "--max-performance").returncode == 0


def test_setup_never_restarts_the_board(board: Board):
    """nvpmodel asks for a restart if a mode needs it; the script answers no and tells the user.

    The texts are those of real boards (Orin, Thor) after the answer no.
    """
    asked = (
        "NVPM WARN: Golden image context is already created\n"
        "NVPM WARN: Reboot required for changing to this power mode: 8\n"
        "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n"
        "NVPM ERROR: optMask is 1, no request for power mode"
    )
    result = board.setup("--max-performance", NEEDS_RESTART=asked)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "jetson_setup.sh: MODE_20W_6CORE takes a restart: sudo nvpmodel -m 8, answer YES, and run this again "
        "after the restart"
    ]
    assert "answer no" in board.calls
    assert not [call for call in board.calls if call.split()[0] in ("reboot", "shutdown", "systemctl")]


def test_power_mode_that_nvpmodel_refuses_is_reported_with_its_answer(board: Board):
    result = board.setup("--max-performance", NEEDS_RESTART="NVPM ERROR: failed to set power mode")
    assert result.returncode == 1
    answer, message = result.stderr.splitlines()
    assert answer == "NVPM ERROR: failed to set power mode"
    assert message.endswith(
        "the power mode is not MODE_20W_6CORE, see above. Set it yourself: sudo nvpmodel -m 8"
    )


@pytest.mark.parametrize(
    "configuration",
    [
        XAVIER["etc/nvpmodel.conf"],
        "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=3 NAME=MAXN_SUPER >\n",
        "< POWER_MODEL ID=0 NAME=MAXN >\nCPU_ONLINE CORE_0 1\n< POWER_MODEL ID=3 NAME=MODE_50W >\n",
        "< POWER_MODEL NAME=MAXN ID=3 >\n< POWER_MODEL ID=1 NAME=MODE_30W_ALL >\n",
        "<POWER_MODEL ID=0 NAME=MAXN>\n<POWER_MODEL NAME=MODE_30W_ALL ID=1>\n",
        '< POWER_MODEL ID=4 NAME="MAXN" > # not ID=9 NAME=MAXN_SUPER\n< POWER_MODEL ID=1 NAME=15W >\n',
        "<POWER_MODEL ID = 3 NAME = 25W >#\r\n CPU_ONLINE\tCORE_0 1 # on\r\n<POWER_MODEL ID=1 NAME=25W>\r\n",
        "# < POWER_MODEL ID=7 NAME=MAXN >\n< POWER_MODEL ID=1 NAME=10W >\n",
        "< POWER_MODEL ID=4 NAME=7W >\n< POWER_MODEL ID=5 NAME=15W >\n< POWER_MODEL ID=6 NAME=15W >\n",
    ],
)
def test_max_performance_chooses_the_highest_mode_of_doctor(board: Board, configuration: str):
    write(board.root, {"etc/nvpmodel.conf": configuration})
    expected = highest_mode(read_power(board.root).modes)
    assert expected is not None
    assert board.setup("--max-performance").returncode == 0
    assert f"nvpmodel -m {expected.id}" in board.calls


def test_board_without_nvpmodel_is_refused_before_anything_changes(board: Board):
    (board.programs / "nvpmodel").unlink()
    before = board.snapshot()
    message = refused(board.setup("--max-performance"))
    assert message.endswith(
        "nvpmodel is not installed, so there are no power modes here. Omit --max-performance"
    )
    assert (board.snapshot(), board.calls) == (before, [])
    assert board.setup().returncode == 0


@pytest.mark.parametrize(
    ("files", "options", "variables", "message"),
    [
        ({}, ["--fast"], {}, "unknown option --fast"),
        ({}, ["--check", "extra"], {}, "unknown option extra"),
        ({}, [], {"FREE_MB": "1999"}, "1999 MB are free, 2000 MB are needed"),
        ({}, [], {"SUDO_USER": "ann"}, "Run it as a normal user"),
        ({}, [], {"PYTHON": "/nowhere/python3"}, "/nowhere/python3 is not Python 3.8 or later"),
        ({"etc/nvpmodel.conf": ""}, ["--max-performance"], {}, "no mode in"),
        (
            {"etc/nv_tegra_release": "# R32 (release), REVISION: 7.1, GCID: 1"},
            ["--check"],
            {},
            "L4T 32.7.1 is older",
        ),
        ({"etc/nv_tegra_release": "# R35 (release), REVISION: 1.0, GCID: 1"}, [], {}, "L4T 35.1.0 is older"),
    ],
)
def test_refusal_is_one_line_and_changes_nothing(board: Board, files, options, variables, message: str):
    write(board.root, files)
    before = board.snapshot()
    assert message in refused(board.setup(*options, **variables))
    assert board.snapshot() == before
    assert board.calls == []


@pytest.mark.parametrize("options", [[], ["--check"], ["--max-performance"]])
def test_machine_that_is_not_a_jetson_is_refused(tmp_path: Path, options: List[str]):
    pc = Board(tmp_path, {"etc/os-release": "NAME=Ubuntu\n", **LIBRARIES})
    assert "this machine is not a Jetson" in refused(pc.setup(*options))
    assert pc.calls == []


def test_environment_of_another_python_is_refused(board: Board):
    write(board.repository, {".venv/pyvenv.cfg": "home = /usr/bin\nversion = 3.6.9\n"})
    assert "belongs to Python 3.6" in refused(board.setup())
    assert board.calls == []


def test_help_works_on_any_machine(tmp_path: Path):
    pc = Board(tmp_path, {})
    result = pc.setup("--help")
    assert result.returncode == 0
    assert "--max-performance" in result.stdout


def test_script_is_executable():
    assert os.access(str(REPOSITORY / "jetson_setup.sh"), os.X_OK)
