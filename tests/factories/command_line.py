"""The command line, run in the process of the tests."""

from __future__ import annotations

import contextlib
import functools
import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from adq_edge.cli import main

make_command_once = functools.lru_cache(maxsize=None)(get_command)
"""Typer makes the commands of all verbs at each start, which takes 30 ms."""


def run_cli(*arguments: object, cwd: Path) -> subprocess.CompletedProcess:
    """Run `adq-edge` in a folder, with parsing, messages and exit code as in a process of its own."""
    output, errors = io.StringIO(), io.StringIO()
    command = ["adq-edge", *map(str, arguments)]
    code: object = 0
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cwd)
        patch.setattr(sys, "argv", command)
        patch.setattr("typer.main.get_command", make_command_once)
        try:
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
                main()
        except SystemExit as ended:
            code = ended.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return subprocess.CompletedProcess(command, code, output.getvalue(), errors.getvalue())
