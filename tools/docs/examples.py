"""Example commands of the verb pages, and the recording of their output (`make docs-examples`).

All commands run one after the other in one empty folder, on synthetic images, in a terminal of 80 columns.
The recorded texts are files, because times differ from run to run. `make docs` copies them into the pages.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
from pathlib import Path
from typing import Dict, Iterator, List, Sequence, Tuple

OUTPUTS = Path(__file__).parent / "outputs"
_COLUMNS, _LINES = 80, 50


@dataclasses.dataclass(frozen=True)
class Example:
    """An example of a verb page.

    Attributes:
        verb: the verb.
        about: a sentence about the commands and their output.
        commands: what is run, and shown with its output.
        before: commands that are run first and not shown; also `cp`.
    """

    verb: str
    about: str
    commands: Tuple[str, ...]
    before: Tuple[str, ...] = ()


EXAMPLES: Sequence[Example] = (
    Example("synthetic", "The images of all other examples.", ("adq-edge synthetic images",)),
    Example(
        "train",
        "A short training with the small teacher that adq-edge contains. Real work needs more epochs "
        "and real teacher weights.",
        (
            "adq-edge train --data images --arch stfpm --teacher-weights demo --epochs 40 --batch-size 8 "
            "--image-size 128",
        ),
    ),
    Example("export", "The newest checkpoint.", ("adq-edge export",)),
    Example(
        "calibrate", "Two calibrators in one pass.", ("adq-edge calibrate --calib lp,entropy --samples 64",)
    ),
    Example("analyze", "The layers that cause the largest error come first.", ("adq-edge analyze",)),
    Example(
        "build",
        "The same model in INT8 and in FP32.",
        ("adq-edge build --int8 --samples 64", "adq-edge build --fp32"),
    ),
    Example(
        "eval",
        "An engine without products gets one threshold for all images.",
        ("adq-edge eval engines/stfpm-int8-lp.onnx",),
    ),
    Example(
        "fit",
        "Two products, each from the good images of its category.",
        ("adq-edge fit engines/stfpm-int8-lp.onnx --data images --category bolt --category gear",),
    ),
    Example(
        "compare",
        "INT8 beside FP32 on the same images.",
        ("adq-edge compare engines/stfpm-fp32.onnx engines/stfpm-int8-lp.onnx",),
        ("adq-edge eval engines/stfpm-fp32.onnx",),
    ),
    Example(
        "stress",
        "One product while the lens loses its focus. Without `--change`, twelve changes are measured.",
        ("adq-edge stress engines/stfpm-int8-lp.onnx --category gear --change defocus",),
        ("adq-edge fit engines/stfpm-fp32.onnx --data images --category gear",),
    ),
    Example(
        "bench",
        "A quick look; a measurement that may be quoted takes about a minute per engine.",
        ("adq-edge bench engines/stfpm-fp32.onnx engines/stfpm-int8-lp.onnx --quick",),
    ),
    Example(
        "predict",
        "One JSON line per image.",
        ("adq-edge predict engines/stfpm-int8-lp.onnx images/bolt/test/good/000.png",),
    ),
    Example(
        "run",
        "Recorded images instead of a camera; each verdict is a line.",
        ("adq-edge run --engine engines/stfpm-int8-lp.onnx --replay images/bolt/test/stain --speed 0",),
    ),
    Example(
        "serve",
        "Ended with Ctrl-C. docs/serve.md has the requests.",
        ("adq-edge serve engines/stfpm-int8-lp.onnx",),
    ),
    Example(
        "package",
        "A C++ program with the engine.",
        ("adq-edge package engines/stfpm-int8-lp.onnx --for cpp",),
    ),
    Example("report", "One page of all results so far.", ("adq-edge report",)),
    Example("doctor", "A workstation without a GPU.", ("adq-edge doctor",)),
    Example(
        "import",
        "The ONNX file of another program; here a copy of the model of the other examples.",
        ("adq-edge import camera.onnx",),
        ("cp bundles/stfpm/model.onnx camera.onnx",),
    ),
    Example("demo", "All steps, with the times of two cores.", ("adq-edge demo",)),
    Example(
        "study",
        "One method with small settings. Without `--methods` it runs all three.",
        ("adq-edge study --quick --methods stfpm",),
    ),
)


def recorded(verb: str) -> str:
    """Return the recorded commands and outputs of a verb's example."""
    return (OUTPUTS / f"{verb}.txt").read_text(encoding="utf-8")


def record(verbs: Sequence[str]) -> None:
    """Run the examples of all verbs in order, and write the outputs of some of them.

    Args:
        verbs: the verbs whose outputs are written; those after the last of them are not run.
    """
    last = max(number for number, example in enumerate(EXAMPLES) if example.verb in verbs)
    with tempfile.TemporaryDirectory() as folder:
        for example in EXAMPLES[: last + 1]:
            for command in example.before:
                _run(command, Path(folder))
            texts = [f"$ {command}\n{_run(command, Path(folder))}" for command in example.commands]
            if example.verb in verbs:
                (OUTPUTS / f"{example.verb}.txt").write_text("\n".join(texts), encoding="utf-8")
                print(f"recorded: {example.verb}", flush=True)


def _run(command: str, folder: Path) -> str:
    """Run a command in a terminal of 80 columns and return what it printed."""
    name, *arguments = shlex.split(command)
    assert name in ("adq-edge", "cp"), command
    program = [sys.executable, "-m", "adq_edge"] if name == "adq-edge" else [name]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": str(_COLUMNS), "LINES": str(_LINES)}
    with _terminal() as (ours, theirs):
        process = subprocess.Popen(
            [*program, *arguments],
            cwd=str(folder),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        text = _read_all(ours, process)
    if process.wait() != 0:
        raise SystemExit(f"{command} ended with exit code {process.returncode}:\n{text}")
    return _without_local_names(text, folder)


@contextlib.contextmanager
def _terminal() -> Iterator[Tuple[int, int]]:
    """Yield both ends of a pseudo terminal; the caller closes the second."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
    try:
        yield ours, theirs
    finally:
        os.close(ours)


def _read_all(terminal: int, process: subprocess.Popen[bytes]) -> str:
    """Return what a command prints; a server is ended when it is ready."""
    parts: List[bytes] = []
    with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
        while True:
            part = os.read(terminal, 65536)
            if not part:
                break
            parts.append(part)
            if b"ready: http" in b"".join(parts):
                process.terminate()
    lines = b"".join(parts).decode().replace("\r\n", "\n").split("\n")
    return "\n".join(line.split("\r")[-1].rstrip() for line in lines).strip("\n") + "\n"


def _without_local_names(text: str, folder: Path) -> str:
    """Return an output with the names of this machine's folders replaced."""
    names: Dict[str, str] = {
        str(folder): "/home/user/work",
        sys.prefix: "/home/user/adq-edge/.venv",
        str(Path.cwd()): "/home/user/adq-edge",
        str(Path.home()): "/home/user",
    }
    return "\n".join(_replace_names(line, names) for line in text.split("\n"))


def _replace_names(line: str, names: Dict[str, str]) -> str:
    """Return a line with names replaced; the right border of a table stays where it was."""
    shown = line
    for name, other in names.items():
        shown = re.sub(rf"{re.escape(name)}(?![\w-])", other, shown)
    if shown != line and shown.endswith("│"):
        shown = f"{shown[:-1].rstrip()} ".ljust(len(line) - 1) + "│"
    return shown
