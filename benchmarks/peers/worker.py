"""The process of one contender: `python -m benchmarks.peers.worker`, driven by `process.py`.

The first line of standard input is the job. Each further line is a request, answered by a line of JSON. The
process computes only while it answers, and ends at the end of its standard input.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from benchmarks.peers.contract import Job, Peer, load_peer, versions

_LEAST_WARM_UP = 5
_UNTIMED_QUERIES = 2  # at the start of each round: other contenders have filled the caches


class Worker:
    """A contender, its images and the clock."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._peer: Peer
        self._fed: List[Any]

    def find(self) -> Dict[str, Any]:
        """Return the versions of the peer's requirements, and whether it prepares files.

        Raises:
            ImportError: a requirement is not installed.
        """
        peer = load_peer(self._job.peer)
        return {"versions": versions(peer.needs), "prepares": "prepare" in vars(peer)}

    def prepare(self) -> None:
        """Write the files for loading."""
        load_peer(self._job.peer).prepare(self._job)

    def load(self, check: str) -> Dict[str, Any]:
        """Load the engine and its images, uint8 `[N, H, W, 3]` in a .npy file."""
        peer = load_peer(self._job.peer)
        start = perf_counter_ns()
        self._peer = peer(self._job)
        seconds = (perf_counter_ns() - start) / 1e9
        self._fed = [self._peer.feed(image) for image in np.load(check)]
        return {
            "load_seconds": seconds,
            "takes_files": self._peer.takes_files,
            "file_mb": _engine_mb(Path(self._job.made)),
        }

    def results(self, path: str) -> None:
        """Write maps `[N, h, w]` and scores `[N]` of the images to an .npz file."""
        results = [self._peer.read(self._peer.infer(fed)) for fed in self._fed]
        maps, scores = zip(*results)
        np.savez(path, maps=np.stack(maps), scores=np.array(scores, np.float64))

    def warm_up(self, seconds: float, files: Sequence[str]) -> Dict[str, Any]:
        """Run untimed queries; return the duration of a query and of each file in ns."""
        durations: List[int] = []
        while sum(durations) < seconds * 1e9 or len(durations) < _LEAST_WARM_UP:
            durations += self._time_queries(1)
        for file in files:
            self._time_file(file)
        later_half = durations[len(durations) // 2 :]
        return {
            "query_ns": float(np.median(later_half)),
            "file_ns": [self._time_file(file) for file in files],
        }

    def run_round(self, queries: int, files: Dict[str, int]) -> Dict[str, Any]:
        """Time queries, then each file the given number of times; return durations in ns."""
        self._time_queries(_UNTIMED_QUERIES)
        query_ns = self._time_queries(queries)
        return {"query_ns": query_ns, "file_ns": [self._time_files(*each) for each in files.items()]}

    def peak(self) -> float:
        """Return the peak memory of this process in MB (10^6 bytes)."""
        return _peak_resident_mb()

    def _time_queries(self, count: int) -> List[int]:
        return [_time(self._peer.infer, self._fed[i % len(self._fed)]) for i in range(count)]

    def _time_files(self, path: str, count: int) -> List[int]:
        return [self._time_file(path) for _ in range(count)]

    def _time_file(self, path: str) -> int:
        return _time(self._peer.predict, path)


def _time(function: Callable[[Any], Any], argument: Any) -> int:
    start = perf_counter_ns()
    function(argument)
    return perf_counter_ns() - start


def _engine_mb(folder: Path) -> Optional[float]:
    """Return the size of an engine's files in MB (10^6 bytes); None if the peer prepares none."""
    for suffixes in ((".bin", ".xml"), (".onnx",)):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.suffix in suffixes]
        if sizes:
            return sum(sizes) / 1e6
    return None


def _peak_resident_mb() -> float:
    """Return VmHWM where it exists: the value of `getrusage` starts at the parent's size."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found.group(1)) * 1024 / 1e6
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    """Answer requests until the end of standard input."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes of a terminal; the parent decides
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not corrupt the replies
    job = json.loads(sys.stdin.readline())
    worker = Worker(Job(**{**job, "image_size": tuple(job["image_size"])}))
    for line in sys.stdin:
        print(json.dumps(_answer(worker, json.loads(line))), file=replies, flush=True)


def _answer(worker: Worker, request: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return {"returned": getattr(worker, request["call"])(**request["with"])}
    except Exception as error:  # an exception of a foreign library ends this contender, not the run
        import traceback

        traceback.print_exc()
        return {"raised": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
