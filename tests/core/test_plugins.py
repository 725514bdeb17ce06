"""Packages that add runtimes and methods, and packages that are broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from adq_edge.core.errors import AdqError, CheckpointError
from adq_edge.core.runtimes import RUNTIMES, find_runtime, registered_runtimes, runtime_names

ENTRY_POINTS = """
[adq_edge.runtimes]
broken = no_such_module:RUNTIME
wrong = json:loads
onnxruntime = json:loads
[adq_edge.methods]
broken = no_such_module:Method
wrong = json:loads
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with entry points that give nothing useful."""
    folder = tmp_path / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "runtime 'broken' cannot be loaded .ModuleNotFoundError: .*. Repair its package"),
        ("wrong", "the package of runtime 'wrong' does not give a Runtime of this name. Repair"),
    ],
)
def test_broken_runtime_is_named_and_the_others_still_work(name: str, message: str):
    with pytest.raises(AdqError, match=message):
        find_runtime(name)
    assert name in runtime_names()
    assert name not in registered_runtimes()
    assert registered_runtimes()["onnxruntime"] is RUNTIMES["onnxruntime"], "a package replaced a runtime"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "method 'broken' cannot be loaded .ModuleNotFoundError: .*. Repair its package"),
        (
            "wrong",
            "the package of method 'wrong' does not give an AnomalyModel of this name. Repair its entry",
        ),
        ("missing", "no method named 'missing'. Known methods: broken, paste, reverse-distillation, "),
    ],
)
def test_broken_or_unknown_method_is_named(name: str, message: str):
    pytest.importorskip("torch")
    from adq_edge.models.registry import method

    with pytest.raises(CheckpointError, match=message):
        method(name)
