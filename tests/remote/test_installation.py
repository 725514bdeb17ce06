"""Failures of the installation on a board: error messages, log files, and the attempt with local wheels."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from typing import Iterator, List

import pytest

from adq_edge.remote import installation
from adq_edge.remote.board import Progress
from adq_edge.remote.errors import HostError
from adq_edge.remote.installation import install
from adq_edge.remote.jobs import JobResult, job_error
from factories.sshd import SshServer, open_board, run_sshd
from factories.wheels import make_broken_source

COMPILER = "pycuda.cpp:1:10: fatal error: cuda.h: No such file or directory"
# Output of pip 23.2 for a missing C header and a missing module.
BUILD_FAILED = """+ python -m pip install --no-index pycuda
ERROR: No matching distribution found for pycuda
+ python -m pip install pycuda
Processing ./pycuda-1.0.tar.gz
WARNING: Retrying after connection broken by 'NewConnectionError(...): Connection refused')': /simple/pycuda/
  error: subprocess-exited-with-error

  \N{MULTIPLICATION SIGN} Building wheel for pycuda (pyproject.toml) did not run successfully.
  │ exit code: 1
  ╰─> [4 lines of output]
      {}
      [end of output]

  note: This error originates from a subprocess, and is likely not a problem with pip.
  ERROR: Failed building wheel for pycuda
error: metadata-generation-failed

\N{MULTIPLICATION SIGN} Encountered error while generating package metadata.
╰─> See above for output.

note: This is an issue with the package mentioned above, not pip.
hint: See above for details.
"""
NO_ADDRESS = """+ python -m pip install numpy
WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('...')': /simple/numpy/
{}
"""


@pytest.fixture(scope="module")
def module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with run_sshd(tmp_path_factory.mktemp("sshd") / "board") as running:
        yield running


@pytest.fixture
def server(
    module_server: SshServer, environment: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SshServer]:
    """A board whose pip finds the packages in `tmp_path/index`."""
    monkeypatch.setenv("ADQ_EDGE_SSH", module_server.command)
    module_server.put_environment(environment)
    monkeypatch.setattr(installation, "_CACHE", tmp_path / "wheels")
    variables = f'PIP_CONFIG_FILE=/dev/null PIP_RETRIES=0 PIP_FIND_LINKS="{tmp_path}/index"'
    module_server.put_python(f'#!/bin/sh\n{variables} exec "{sys.executable}" "$@"\n')
    yield module_server
    assert list(module_server.cache.glob("jobs/*")) == []


def failure(requirement: str, log: Path, shown: List[Progress], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(installation, "device_requirements", lambda platform, extras: (requirement,))
    with open_board("board", shown.append, threading.Event()) as board, pytest.raises(HostError) as caught:
        install(board, board.read_info(), (), log)
    return str(caught.value)


def test_failed_build_of_a_package_is_not_taken_for_missing_internet(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_broken_source(tmp_path / "index", "adqbroken", "1.0", COMPILER)
    shown: List[Progress] = []
    log = tmp_path / "results" / "install.log"
    assert failure("adqbroken", log, shown, monkeypatch) == (
        f"board: step 'install dependencies' failed there: {COMPILER}. "
        f"The output of the installation is in {log}."
    )
    assert COMPILER in log.read_text()
    assert not any("download wheels" in progress.phase for progress in shown)


def test_log_that_cannot_be_written_does_not_hide_the_error_of_the_board(tmp_path: Path):
    (tmp_path / "install.log").write_text("text")
    unwritable = tmp_path / "install.log" / "install.log"
    failed = JobResult("failed", installation._DEPENDENCIES, 1, {}, BUILD_FAILED.format(COMPILER), False)
    assert re.match(
        re.escape(f"board: step 'install dependencies' failed there: {COMPILER}. ")
        + f"The output of the installation could not be written to {unwritable} ",
        str(job_error("board", failed, fix=installation._keep_log(unwritable, failed))),
    )


def test_no_internet_on_the_board_nor_here(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    shown: List[Progress] = []
    log = tmp_path / "install.log"
    closed_port = "adqnone @ http://127.0.0.1:9/adqnone-1.0-py3-none-any.whl"
    text = failure(closed_port, log, shown, monkeypatch)
    assert text.startswith("board: a wheel of adqnone")
    assert text.endswith(f"board to the internet. The output of the installation is in {log}.")
    assert "Connection refused" in log.read_text()
    assert any("download wheels" in progress.phase for progress in shown)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (f"compiling\n{COMPILER}\ncompilation terminated.\nerror: command '/usr/bin/g++' failed", COMPILER),
        ("error: command '/usr/bin/g++' failed", "error: command '/usr/bin/g++' failed"),
        (
            "Traceback (most recent call last):\nModuleNotFoundError: No module named 'setuptools'",
            "ModuleNotFoundError: No module named 'setuptools'",
        ),
        ("sh: 1: nvcc: not found", "sh: 1: nvcc: not found"),
    ],
)
def test_error_names_the_cause_of_a_failed_build_not_the_notes_of_pip(output: str, reason: str):
    log = BUILD_FAILED.format(output.replace("\n", "\n      "))
    result = JobResult("failed", installation._DEPENDENCIES, 1, {}, log, False)
    assert str(job_error("board", result)) == (f"board: step 'install dependencies' failed there: {reason}.")
    assert not installation._lacks_internet(result)


@pytest.mark.parametrize(
    "error",
    [
        "ERROR: Could not find a version that satisfies the requirement numpy (from versions: none)",
        "pip._vendor.urllib3.exceptions.ReadTimeoutError: HTTPSConnectionPool(host='x'): Read timed out.",
        "ERROR: Could not install packages due to an OSError: HTTPSConnectionPool(host='x', port=443): "
        "Max retries exceeded with url: /x.whl (Caused by NewConnectionError('...'))",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "ConnectionResetError: [Errno 104] Connection reset by peer",
        "ERROR: HTTP error 503 while getting https://files.pythonhosted.org/numpy.whl",
    ],
)
def test_missing_internet_is_recognized(error: str):
    result = JobResult("failed", installation._DEPENDENCIES, 1, {}, NO_ADDRESS.format(error), False)
    assert installation._lacks_internet(result)


def test_command_without_output_is_reported_by_its_exit_code():
    result = JobResult(
        "failed", "bench", -9, {}, "+ adq-edge eval\nerror: of before\n+ adq-edge bench\n", False
    )
    assert str(job_error("board", result)) == "board: step 'bench' failed there: exit code -9."
