"""The set-up of the emulated Arm systems, without a download."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.arm.setup import CACHE_VARIABLE, is_complete, make_part, system_path
from tools.arm.systems import CONSTRAINTS, SYSTEMS

CURRENT, JETPACK_5 = SYSTEMS


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_wheels_are_those_that_are_pinned_for_each_system():
    assert {"numpy==1.23.5", "onnx==1.17.0", "onnxruntime==1.19.2"} <= set(JETPACK_5.pinned_wheels())
    assert not any(wheel.startswith(("torch", "openvino")) for wheel in JETPACK_5.pinned_wheels())
    pins = {line.partition(" ;")[0] for line in CONSTRAINTS.read_text().splitlines()}
    assert set(CURRENT.pinned_wheels()) <= pins
    assert not any(wheel.startswith("torch") for wheel in CURRENT.pinned_wheels())


def test_another_pin_is_another_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    before = [system_path(system) for system in SYSTEMS]
    changed = tmp_path / "constraints.txt"
    changed.write_text(CONSTRAINTS.read_text().replace("onnxruntime==1.19.2", "onnxruntime==1.19.1"))
    monkeypatch.setattr("tools.arm.systems.CONSTRAINTS", changed)
    after = [system_path(system) for system in SYSTEMS]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_interrupted_set_up_leaves_no_half_system(cache: Path):
    def interrupted(content: Path, downloads: Path) -> None:
        (content / "usr").mkdir()
        (downloads / "python3.deb").touch()
        raise KeyboardInterrupt

    cache.mkdir()
    with pytest.raises(KeyboardInterrupt):
        make_part(system_path(CURRENT), interrupted)
    assert list(cache.iterdir()) == []
    assert not is_complete()
