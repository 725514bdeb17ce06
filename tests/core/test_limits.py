"""CPU and memory limits: files of control groups as containers show them, and a child with few CPUs."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adq_edge.core import limits
from adq_edge.core.limits import (
    MemoryLimit,
    cpu_quota,
    memory_limit,
    requested_threads,
    runtime_threads,
    usable_cpus,
)
from adq_edge.runtimes.registry import load_engine
from factories.boards import write_tree
from factories.paths import REPOSITORY
from factories.tiny_engine import write_engine

V1 = "33 31 0:30 {root} /sys/fs/cgroup/{names} rw,relatime - cgroup cgroup rw,{names}\n"
V2 = "42 31 0:38 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"


def in_v2(path: str, root: str = "/") -> Dict[str, str]:
    return {"proc/self/cgroup": f"0::{path}\n", "proc/self/mountinfo": V2.format(root=root)}


def in_v1(path: str, root: str = "/", names: str = "cpu,cpuacct") -> Dict[str, str]:
    return {
        "proc/self/cgroup": f"9:name=systemd:/init.scope\n3:{names}:{path}\n2:memory:{path}\n0::/\n",
        "proc/self/mountinfo": V1.format(root=root, names=names)
        + V1.format(root=root, names="memory")
        + "43 31 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
    }


def tree(folder: Path, files: Dict[str, str], groups: Dict[str, str]) -> Path:
    return write_tree(folder, {**files, **{f"sys/fs/cgroup/{name}": text for name, text in groups.items()}})


CPU_CASES = [
    ("none", {}, {}, None),
    ("v2, no limit", in_v2("/"), {"cpu.max": "max 100000\n"}, None),
    ("v2, container", in_v2("/"), {"cpu.max": "150000 100000\n"}, 1.5),
    ("v2, without a period", in_v2("/"), {"cpu.max": "50000\n"}, 0.5),
    (
        "v2, strict ancestor",
        in_v2("/a/b"),
        {"a/cpu.max": "20000 10000", "a/b/cpu.max": "90000 10000"},
        2,
    ),
    ("v2, strict group", in_v2("/a/b"), {"a/cpu.max": "90000 10000", "a/b/cpu.max": "25000 10000"}, 2.5),
    ("v2, ancestor alone", in_v2("/a/b"), {"a/cpu.max": "40000 10000", "a/b/cpu.max": "max 10000"}, 4),
    ("v2, path of the host", in_v2("/docker/1/x", "/docker/1"), {"x/cpu.max": "30000 10000"}, 3),
    ("v2, outside of the namespace", in_v2("/../../pod"), {"cpu.max": "10000 10000"}, 1),
    ("v2, not mounted as listed", {"proc/self/cgroup": "0::/a\n"}, {"a/cpu.max": "10000 10000"}, 1),
    (
        "v1, path of the host",
        in_v1("/docker/1", "/docker/1"),
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        2,
    ),
    (
        "v1, ancestor",
        in_v1("/a/b", names="cpu"),
        {
            **{"cpu/a/cpu.cfs_quota_us": "75000", "cpu/a/cpu.cfs_period_us": "50000"},
            **{"cpu/a/b/cpu.cfs_quota_us": "-1", "cpu/a/b/cpu.cfs_period_us": "100000"},
        },
        1.5,
    ),
    ("v1, no limit", in_v1("/"), {"cpu,cpuacct/cpu.cfs_quota_us": "-1"}, None),
    ("v1, not listed", {}, {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    ("period of 0", in_v2("/"), {"cpu.max": "100 0"}, None),
    ("garbage", in_v2("/"), {"cpu.max": "many cpus"}, None),
]


@pytest.mark.parametrize(
    ("files", "groups", "quota"), [case[1:] for case in CPU_CASES], ids=[case[0] for case in CPU_CASES]
)
def test_cpu_quota_is_that_of_the_strictest_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files, groups, quota: Optional[float]
):
    root = tree(tmp_path, files, groups)
    assert cpu_quota(root) == quota
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert usable_cpus(root) == (6 if quota is None else math.ceil(quota))
    assert runtime_threads(root) == (None if quota is None else math.ceil(quota))


def test_runtime_threads_are_usable_physical_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 4, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    siblings = {f"sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list": f"{i % 4}" for i in range(8)}
    assert (usable_cpus(tmp_path), runtime_threads(tmp_path)) == (4, 4)
    root = write_tree(tmp_path, siblings)
    assert (usable_cpus(root), runtime_threads(root)) == (4, 2)
    write_tree(root, {"sys/fs/cgroup/cpu.max": "100000 100000"})
    assert (usable_cpus(root), runtime_threads(root)) == (1, 1)


@pytest.mark.parametrize(
    ("text", "threads"),
    [
        *(("3", 3), (" 2 ", 2), ("2,1", 2), ("64", 6), ("1000000000000000000", 6)),
        *(("", None), ("0", None), ("-1", None), ("two", None), ("1.5", None), ("9" * 30, None)),
    ],
)
def test_variable_of_openmp_sets_the_default_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, threads: Optional[int]
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    root = write_tree(tmp_path, {"proc/self/cgroup": ""})
    assert runtime_threads(root) == (threads or 6)
    assert requested_threads(root) == (None if threads == 6 else threads)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_engine_uses_the_requested_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str):
    pytest.importorskip(runtime)
    engine = write_engine(tmp_path / "tiny.onnx")
    monkeypatch.setattr(limits, "usable_cpus", lambda root=None: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with load_engine(engine, runtime=runtime) as loaded:
        assert (loaded.threads, loaded.stream_counts) == (2, (1, 2))
    with load_engine(engine, runtime=runtime, threads=3) as loaded:
        assert loaded.threads == 3


@pytest.mark.parametrize(
    ("files", "groups", "limit"),
    [
        (in_v2("/"), {"memory.max": "max", "memory.current": "1000000"}, None),
        (
            in_v2("/a"),
            {
                "memory.max": "8000000000",
                "memory.current": "7500000000",
                "memory.stat": "anon 5\ninactive_file 400000000\n",
                **{"a/memory.max": "2000000000", "a/memory.current": "500000000"},
            },
            MemoryLimit(2000.0, 900.0),
        ),
        (
            in_v1("/"),
            {
                "memory/memory.limit_in_bytes": "1000000000",
                "memory/memory.usage_in_bytes": "1200000000",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 300000000\n",
            },
            MemoryLimit(1000.0, 100.0),
        ),
        (in_v1("/"), {"memory/memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, {"memory.max": "500000000"}, MemoryLimit(500.0, 500.0)),
    ],
)
def test_memory_limit_leaves_the_least_memory(tmp_path: Path, files, groups, limit: Optional[MemoryLimit]):
    assert memory_limit(tree(tmp_path, files, groups)) == limit


LINE = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [*in_v2("/a").values(), *in_v1("/../b", "/x y").values(), "0::", ":::", " - cgroup2 ", "\0"]
    ),
    st.integers().map(str),
    st.tuples(st.integers(-(10**30), 10**30), st.integers(-1, 10**6)).map(
        lambda pair: f"{pair[0]} {pair[1]}"
    ),
)
FILES = (
    *("proc/self/cgroup", "proc/self/mountinfo"),
    *(f"sys/fs/cgroup/{name}" for name in ("cpu.max", "memory.max", "memory.current", "memory.stat")),
    *("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us"),
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(texts=st.lists(LINE, min_size=len(FILES), max_size=len(FILES)))
def test_garbage_in_control_groups_gives_usable_limits(tmp_path: Path, texts: Sequence[str]):
    contents = (text.encode("utf-8", "surrogatepass") for text in texts)
    root = write_tree(tmp_path, dict(zip(FILES, contents)))
    assert 1 <= usable_cpus(root) <= len(limits.usable_processors())
    limit = memory_limit(root)
    assert limit is None or 0 <= limit.available_mb <= limit.total_mb


CHILD = """
import json, os, sys
from pathlib import Path
if sys.argv[2] == "affinity":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
from adq_edge.core import limits
if sys.argv[2] == "quota":
    limits.ROOT = Path(sys.argv[1])
os.environ.update(limits.thread_variables())
from adq_edge.runtimes.registry import load_engine
tasks = lambda: len(os.listdir("/proc/self/task"))
before = tasks()
engine = load_engine(Path(sys.argv[3]))
started = tasks() - before
found = {"cpus": limits.usable_cpus(), "onnxruntime": started, "streams": engine.stream_counts,
         "variable": os.environ.get("OPENBLAS_NUM_THREADS")}
if sys.argv[2] == "quota":  # torch follows the affinity itself
    import torch
    from adq_edge.models.threads import limit_torch_threads
    limit_torch_threads()
    found["torch"] = torch.get_num_threads()
try:
    import openvino
    fast = load_engine(Path(sys.argv[3]), runtime="openvino")
    compiled = fast._compile(1, 1)
    found["openvino"] = compiled.get_property("INFERENCE_NUM_THREADS")
except ImportError:
    pass
print(json.dumps(found))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="CPU affinity exists on Linux only")
@pytest.mark.parametrize("limited_by", ["affinity", "quota"])
def test_every_library_starts_as_many_threads_as_the_process_may_use(tmp_path: Path, limited_by: str):
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one CPU cannot be limited")
    if limited_by == "quota":
        pytest.importorskip("torch")
    root = tree(tmp_path / "root", in_v2("/a/b"), {"a/cpu.max": "100000 100000", "a/b/cpu.max": "max 100000"})
    engine = write_engine(tmp_path / "tiny.onnx")
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    command = [sys.executable, "-c", CHILD, str(root), limited_by, str(engine)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    found: Dict[str, Any] = json.loads(result.stdout)
    assert (found["cpus"], found["streams"], found.get("torch", 1)) == (1, [1], 1)
    assert found["onnxruntime"] == 0  # the calling thread is the only one
    assert found.get("openvino", 1) == 1
    assert found["variable"] == "1"


def test_only_one_module_counts_the_processors_and_one_reads_the_memory():
    modules = {path: path.read_text(encoding="utf-8") for path in (REPOSITORY / "adq_edge").rglob("*.py")}
    for words, home in (("cpu_count", "limits.py"), ("virtual_memory", "memory.py")):
        assert [path.name for path, text in modules.items() if words in text] == [home]
