"""Runs the cases of the fuzzer in child processes; a case that ends or stops its process is a fault."""

from __future__ import annotations

import collections
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Counter, Dict, List, NamedTuple, Optional, Tuple

from fuzz.child import write_case
from fuzz.targets import READ, REFUSED, targets

_SECONDS = 10.0
"""Longest time of one case; the first one also loads the libraries."""
_START_SECONDS = 120.0


class Fault(NamedTuple):
    """A case that was neither read nor refused properly.

    Attributes:
        kind: the kind of file.
        number: the case's number, which gives its content together with the seed.
        text: the traceback, or what else went wrong.
        saved: a folder with the files of the case.
    """

    kind: str
    number: int
    text: str
    saved: Path


Tally = Dict[str, Counter[str]]
"""The number of files that were read and refused, by kind."""


def run(samples: Path, keep: Path, seed: str, count: int) -> Tuple[List[Fault], Tally]:
    """Read `count` mutated files and return the faults and a tally.

    Args:
        samples: the folder that `fuzz.targets.write_samples` filled.
        keep: folder for the files of faulty cases.
        seed: any text; the same one gives the same files.
        count: number of files.
    """
    faults: List[Fault] = []
    tally: Tally = collections.defaultdict(collections.Counter)
    first = 0
    while first < count:
        with tempfile.TemporaryDirectory(dir=keep.parent) as scratch:
            found, last, end = _run_child(samples, Path(scratch), seed, first, count - first)
            if end is not None:
                found.append({**last, "outcome": end})
        for one in found:
            if one["outcome"] in (READ, REFUSED):
                tally[one["kind"]][one["outcome"]] += 1
                continue
            saved = keep / f"{one['kind']}-{seed}-{one['number']}"
            shutil.rmtree(saved, ignore_errors=True)
            saved.mkdir(parents=True)
            write_case(samples, targets(samples), saved, seed, one["number"])
            faults.append(Fault(one["kind"], one["number"], one["outcome"], saved))
        first = last["number"] + 1
    return faults, tally


def _run_child(samples: Path, scratch: Path, seed: str, first: int, count: int) -> Any:
    """Return the outcomes, the last case, and why the process ended in it; None if it ended properly."""
    arguments = [sys.executable, "-m", "fuzz.child", str(samples), str(scratch), seed, str(first), str(count)]
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, str(Path(tests).parent), os.environ.get("PYTHONPATH", "")])
    log = scratch / "log"
    outcomes: List[Dict[str, Any]] = []
    last: Dict[str, Any] = {"number": first - 1, "kind": "start"}
    with log.open("wb") as errors, subprocess.Popen(
        arguments,
        stdout=subprocess.PIPE,
        stderr=errors,
        cwd=str(scratch),
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    ) as child, selectors.DefaultSelector() as selector:
        assert child.stdout is not None
        selector.register(child.stdout, selectors.EVENT_READ)
        seconds, rest = _START_SECONDS, b""
        while True:
            if not selector.select(seconds):
                child.kill()
                return outcomes, last, f"no end after {seconds:.0f} s"
            block = os.read(child.stdout.fileno(), 1 << 16)
            if not block:
                break
            *lines, rest = (rest + block).split(b"\n")
            for line in lines:
                reply = json.loads(line)
                seconds, last = _SECONDS, {"number": reply["number"], "kind": reply["kind"]}
                if "outcome" in reply:
                    outcomes.append(reply)
        code: Optional[int] = child.wait()
    if last["number"] == first + count - 1 and code == 0:
        return outcomes, last, None
    if last["kind"] == "start":
        raise RuntimeError(log.read_text(errors="replace")[-2000:])
    return outcomes, last, f"the process ended with {code}: {log.read_text(errors='replace')[-500:]}"
