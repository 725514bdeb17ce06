"""Standard output that is full, or whose reader has ended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from adq_edge.core.json_lines import print_json_line
from adq_edge.core.streams import guard_output, output_errors
guard_output()
with output_errors():
    sys.stdin.readline()
    {statement}
"""
STATEMENTS = ["print_json_line({'score': 1.0})", "print('text')"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("statement", STATEMENTS)
def test_full_output_is_reported_in_one_line(statement: str):
    command = [sys.executable, "-c", CODE.format(statement=statement)]
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("adq-edge: standard output: no space left on device. Free some space")


@pytest.mark.parametrize("statement", STATEMENTS)
def test_end_of_the_reader_ends_the_command_silently(statement: str):
    command = [sys.executable, "-c", CODE.format(statement=statement)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_are_reported_and_their_descriptors_are_not_reused(tmp_path: Path, closed: str):
    name = str(tmp_path / "a")
    statement = f"print('text', file=sys.stderr); open({name!r}, 'w').fileno() < 3 and 1 / 0"
    code = CODE.replace("sys.stdin.readline()", "pass").format(statement=statement)
    command = ["sh", "-c", f'"$0" -c "$1" <&- {closed}', sys.executable, code]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.stdout == b""
    if closed == "2>&-":
        assert (result.returncode, result.stderr) == (0, b"")
    else:
        assert result.returncode == 2
        (line,) = result.stderr.decode().splitlines()
        assert line.startswith("adq-edge: standard output: closed. Redirect it")


BAR = """
import sys
from adq_edge.core.console import progress_bar
from adq_edge.core.streams import guard_output
guard_output()
with progress_bar("Measuring", 2, "images", auto_refresh=False) as advance:
    advance()
    print("a\\x1b[31mb", file=sys.stderr)
    advance()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_progress_bar_is_drawn_in_a_terminal_and_only_texts_are_escaped():
    import pty

    terminal, end = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    command = [sys.executable, "-c", BAR]
    subprocess.run(command, stdout=end, stderr=end, stdin=subprocess.DEVNULL, check=True, env=variables)
    os.close(end)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert "\x1b[2K" in shown
    assert "2/2" in shown
    assert "\\x1b[2K" not in shown
    assert "a\\x1b[31mb" in shown
