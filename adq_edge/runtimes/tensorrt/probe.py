"""What TensorRT and GPU are here, asked in a process of its own: a CUDA context would cost this one 100 MB.

Run as `python -m adq_edge.runtimes.tensorrt.probe`; prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
from typing import Any, Dict

import dacite

from adq_edge.core.errors import AdqError, EngineError
from adq_edge.runtimes.tensorrt.release import Flavour, load_release

_TIMEOUT_SECONDS = 120


@dataclasses.dataclass(frozen=True)
class Probe:
    """The TensorRT and the GPU of this machine.

    Attributes:
        version: TensorRT's version.
        gpu: the GPU's name.
        compute_capability: its compute capability, "7.2" for a Xavier.
        memory_mb: its memory in MB (10^6 bytes); on a Jetson the system's.
        dla_cores: number of deep learning accelerators.
    """

    version: str
    gpu: str
    compute_capability: str
    memory_mb: float
    dla_cores: int


def probe() -> Probe:
    """Look at this machine.

    Raises:
        EngineError: no GPU that TensorRT can use.
        MissingDependencyError: TensorRT or pycuda is not installed.
    """
    done = subprocess.run(
        [sys.executable, "-m", __name__],
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    lines = done.stdout.strip().splitlines()
    reply: Dict[str, Any] = {}
    with contextlib.suppress(ValueError, IndexError):
        reply = json.loads(lines[-1])
    if "refused" in reply:
        raise EngineError(reply["refused"], fix=reply["fix"])
    try:
        return dacite.from_dict(Probe, reply)
    except dacite.DaciteError:
        words = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise EngineError(
            f"TensorRT cannot be asked for the GPU ({words})", fix="adq-edge doctor says what is missing"
        ) from None


def look() -> Probe:
    """Look at this machine from within this process."""
    from adq_edge.runtimes.tensorrt.cuda import Gpu

    release = load_release(Flavour.TENSORRT)
    with contextlib.closing(Gpu()) as gpu:
        trt = release.trt
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        return Probe(
            release.version, gpu.name, gpu.compute_capability, gpu.memory_mb, int(builder.num_DLA_cores)
        )


def main() -> None:
    """Print what is here, or why it cannot be used."""
    try:
        print(json.dumps(dataclasses.asdict(look())))
    except AdqError as error:
        print(json.dumps({"refused": error.what, "fix": error.fix}))


if __name__ == "__main__":
    main()
