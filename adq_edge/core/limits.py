"""CPUs and memory that this process may use: its CPU affinity and the limits of its control groups.

A container limits its processes through control groups (cgroups). Version 1 has one folder for each
controller, version 2 one folder for all. A group's ancestors limit it too, so the strictest limit counts.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import re
from pathlib import Path, PurePosixPath
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from adq_edge.core.errors import AdqError

ROOT = Path("/")
"""The folder that contains `proc` and `sys`; tests replace it."""

MOST_THREADS = 1024
"""The largest number of CPU threads that may be asked for; a runtime starts as many as it is told."""

_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_PERIOD_US = 100_000
_NO_LIMIT = 2**62
"""Version 1 writes a number above this for no memory limit."""
_REQUEST = "OMP_NUM_THREADS"
_THREAD_VARIABLES = (_REQUEST, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")


class _Group(NamedTuple):
    """The folder of a control group, and the version of its interface."""

    folder: Path
    version: int


@dataclasses.dataclass(frozen=True)
class MemoryLimit:
    """The memory limit of a control group in MB (10^6 bytes).

    Attributes:
        total_mb: the limit.
        available_mb: memory that the group can still get, including cached files that can be dropped.
    """

    total_mb: float
    available_mb: float


def check_threads(threads: Optional[int]) -> None:
    """Check a number of CPU threads; None stands for the default.

    Raises:
        AdqError: it is not a whole number of 1 to `MOST_THREADS`.
    """
    if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MOST_THREADS):
        raise AdqError(
            f"is {threads!r:.20}", where="threads", fix=f"Use 1 to {MOST_THREADS}, or None for all"
        )


def usable_processors() -> List[int]:
    """Return the indices of the logical processors that this process may run on, sorted."""
    with contextlib.suppress(AttributeError, OSError):  # only Linux has it
        return sorted(os.sched_getaffinity(0))
    return list(range(_installed_processors()))


def _installed_processors() -> int:
    return os.cpu_count() or 1


def usable_cpus(root: Optional[Path] = None) -> int:
    """Return the number of threads or processes to start for CPU work, at least 1.

    It is the number of usable logical processors, or the CPU quota of the container if that is less. A quota
    of 1.5 cores gives 2 threads: one thread would leave a third of the quota unused.
    """
    processors, quota = len(usable_processors()), cpu_quota(root)
    return processors if quota is None else max(1, min(processors, math.ceil(quota)))


def requested_threads(root: Optional[Path] = None) -> Optional[int]:
    """Return the number of threads that OMP_NUM_THREADS requests, at most `usable_cpus`.

    It is None if the variable is not set, is not a number of 1 or more, or requests the default. The first
    number counts in a list, which has one for each nested level.
    """
    first = os.environ.get(_REQUEST, "").split(",")[0].strip()
    number = _number(first)
    if not number:
        return None
    threads = min(number, usable_cpus(root))
    return None if threads == _limited_threads(root) else threads


def runtime_threads(root: Optional[Path] = None) -> Optional[int]:
    """Return the number of threads for a runtime: the requested number, or the limit; None without both.

    Runtimes ignore OMP_NUM_THREADS and CPU limits: they start one thread for each physical core of the
    machine. With a limit, this returns the number of usable physical cores, or the CPU quota if that is less.
    """
    return requested_threads(root) or _limited_threads(root)


def _limited_threads(root: Optional[Path]) -> Optional[int]:
    processors = usable_processors()
    threads = usable_cpus(root)
    if threads >= _installed_processors():
        return None
    return min(threads, count_cores(processors, root) or threads)


def thread_variables() -> Dict[str, str]:
    """Return the environment variables that limit numpy, OpenCV and torch; empty without a limit.

    These libraries follow the CPU affinity, but not a CPU quota. Variables that are set already are left out.
    """
    threads = _limited_threads(None)
    names = [name for name in _THREAD_VARIABLES if not os.environ.get(name)]
    return {} if threads is None else dict.fromkeys(names, str(threads))


def count_cores(processors: Sequence[int], root: Optional[Path] = None) -> Optional[int]:
    """Return the number of physical cores of logical processors; None if the system does not report it."""
    folder = (root or ROOT) / "sys" / "devices" / "system" / "cpu"
    # The threads of one core have the same list of siblings.
    siblings = {_read(folder / f"cpu{i}" / "topology" / "thread_siblings_list") for i in processors}
    return None if "" in siblings else len(siblings)


def cpu_quota(root: Optional[Path] = None) -> Optional[float]:
    """Return the CPU time that this process may use, in cores; None without a limit."""
    quotas = (_quota(group) for group in _groups(root or ROOT, "cpu"))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit(root: Optional[Path] = None) -> Optional[MemoryLimit]:
    """Return the memory limit that leaves the least memory; None without a limit."""
    limits = (_memory_limit(group) for group in _groups(root or ROOT, "memory"))
    found = [limit for limit in limits if limit is not None]
    if not found:
        return None
    return MemoryLimit(min(one.total_mb for one in found), min(one.available_mb for one in found))


def _quota(group: _Group) -> Optional[float]:
    if group.version == 2:
        words = _read(group.folder / "cpu.max").split()
    else:
        words = [_read(group.folder / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    quota, period = (_number(word) for word in [*words, "", ""][:2])
    period = _PERIOD_US if period is None else period
    return quota / period if quota and period else None


def _memory_limit(group: _Group) -> Optional[MemoryLimit]:
    names = ("memory.max", "memory.current", "inactive_file")
    if group.version == 1:
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    limit, used = (_number(_read(group.folder / name)) for name in names[:2])
    if limit is None or limit >= _NO_LIMIT:
        return None
    found = re.search(rf"^{names[2]} (\d{{1,18}})$", _read(group.folder / "memory.stat"), re.MULTILINE)
    held = max(0, (used or 0) - (int(found.group(1)) if found else 0))
    return MemoryLimit(limit / 1e6, max(0, limit - held) / 1e6)


def _groups(root: Path, controller: str) -> Iterator[_Group]:
    """Yield this process's control group for a controller, and its visible ancestors."""
    paths = _group_paths(root, controller)
    for version, mount_root, mount_point in _mounts(root, controller):
        path = PurePosixPath(paths.get(version, "/"))
        parts: Tuple[str, ...] = ()
        # Inside a container the mount may begin at the container's own group.
        with contextlib.suppress(ValueError):
            parts = path.relative_to(mount_root).parts
        if ".." in parts:  # the group is outside of this cgroup namespace
            parts = ()
        folder = root / mount_point.lstrip("/")
        for length in range(len(parts), -1, -1):
            yield _Group(folder.joinpath(*parts[:length]), version)


def _group_paths(root: Path, controller: str) -> Dict[int, str]:
    """Return the path of this process's group in each version's hierarchy, from /proc/self/cgroup."""
    paths: Dict[int, str] = {}
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if not names:
            paths[2] = path
        elif controller in names.split(","):
            paths[1] = path
    return paths


def _mounts(root: Path, controller: str) -> Iterator[Tuple[int, str, str]]:
    """Yield version, root and folder of each mount of the controller; the usual folders if none is listed."""
    found = False
    for line in _read(root / "proc" / "self" / "mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        place, kind = fields.split(" "), rest.split(" ")
        version = {"cgroup2": 2, "cgroup": 1}.get(kind[0])
        if version is None or len(place) < 5 or (version == 1 and controller not in kind[-1].split(",")):
            continue
        found = True
        yield version, _unescape(place[3]), _unescape(place[4])
    if not found:
        yield 2, "/", "/sys/fs/cgroup"
        yield 1, "/", f"/sys/fs/cgroup/{controller}"


def _unescape(path: str) -> str:
    """Return a path of mountinfo, which writes a blank as `\\040`."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), path)


def _number(word: str) -> Optional[int]:
    return int(word) if _NUMBER.fullmatch(word) else None


def _read(path: Path) -> str:
    """Return the text of a file; empty if it cannot be read."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: a path with a NUL
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    return ""
