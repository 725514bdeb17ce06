from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import pytest

from adq_edge.core.interruption import Interrupted, delayed_signals, raise_on_signals
from factories.images import leftovers, write_image
from factories.tiny_engine import write_engine


def test_delayed_signal_is_raised_at_the_end_of_the_block():
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    done: List[str] = []
    try:
        raise_on_signals()
        with pytest.raises(Interrupted) as caught:
            interrupt_in_delayed_block(done)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert caught.value.signal is signal.SIGTERM
    assert done


def interrupt_in_delayed_block(done: List[str]) -> None:
    with delayed_signals(), delayed_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
        done.append("the whole block")


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_ends_a_verb_with_one_line_and_no_files(tmp_path: Path, sent: signal.Signals):
    command = [sys.executable, "-m", "adq_edge", "synthetic", "set", "--train", "2000", "-q"]
    running = subprocess.Popen(
        command,
        cwd=str(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not list(tmp_path.rglob("*.png")):
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(sent)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 128 + sent
    by = "" if sent is signal.SIGINT else f" by {sent.name}"
    then = "nothing was stored, the same command starts from the beginning"
    assert errors.splitlines()[-1] == f"adq-edge: interrupted{by}; {then}"
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    assert not leftovers(tmp_path)


def test_interrupted_predict_says_that_its_heat_maps_stay(tmp_path: Path):
    write_engine(tmp_path / "engines" / "e.onnx")
    write_image(tmp_path / "images" / "0.png", 0)
    for number in range(1, 3000):
        os.link(str(tmp_path / "images" / "0.png"), str(tmp_path / "images" / f"{number}.png"))
    running = subprocess.Popen(
        [sys.executable, "-m", "adq_edge", "predict", "images"],
        cwd=str(tmp_path),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while len(list(tmp_path.glob("predictions/*.png"))) < 2:
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == (
        "adq-edge: interrupted; the files written so far stay, the same command starts from the beginning"
    )
    assert list(tmp_path.glob("predictions/*.png"))


INTERRUPTING_FINDER = """
import os, signal, sys
class Finder:
    def find_spec(name, *rest):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
SCRIPT = "import sys; sys.argv[0] = '/usr/bin/adq-edge'; from adq_edge.__main__ import main; main()"


@pytest.mark.parametrize("command", [["-m", "adq_edge"], ["-c", SCRIPT]])
@pytest.mark.parametrize(
    "module", ["adq_edge.core.limits", "adq_edge.core.interruption", "adq_edge.cli", "adq_edge.cli.common"]
)
def test_ctrl_c_while_the_command_loads_is_one_line(tmp_path: Path, command: List[str], module: str):
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTING_FINDER)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "INTERRUPT_AT": module}
    done = subprocess.run([sys.executable, *command, "-h"], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (130, "adq-edge: interrupted\n", "")


def test_signals_that_the_caller_ignores_stay_ignored():
    """A command under nohup goes on when its terminal is closed."""
    script = (
        "import os, signal; from adq_edge.core.interruption import raise_on_signals; raise_on_signals();"
        "os.kill(os.getpid(), signal.SIGHUP); print('still here')"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert done.stdout == "still here\n", done.stderr


def test_library_that_turns_a_signal_into_another_error_is_one_line(tmp_path: Path):
    """As ONNX Runtime does while it is imported."""
    (tmp_path / "onnxruntime.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n    signal.pause()\n"
        "except KeyboardInterrupt:\n    raise ImportError('initialization failed')\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    command = [sys.executable, "-m", "adq_edge", "eval", str(write_engine(tmp_path / "e.onnx"))]
    done = subprocess.run([*command, "--data", "data"], env=environment, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGTERM
    expected = (
        "adq-edge: interrupted by SIGTERM; nothing was stored, the same command starts from the beginning\n"
    )
    assert done.stderr == expected
