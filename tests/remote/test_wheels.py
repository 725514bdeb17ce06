"""The wheels that are sent to a board: of adq-edge and its dependencies, for the Python of the board."""

from __future__ import annotations

import base64
import csv
import gc
import hashlib
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adq_edge.remote import requirements
from adq_edge.remote.errors import HostError
from adq_edge.remote.requirements import (
    Platform,
    SourcePackage,
    build_requirements,
    device_requirements,
    fetch_wheels,
)
from adq_edge.remote.wheel import write_wheel
from factories.wheels import make_setuptools, make_source, make_wheel, pin_of

JETPACK_5 = Platform((3, 8), "aarch64", 31)
JETPACK_7 = Platform((3, 12), "aarch64", 39)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the only packages that pip finds."""
    folder = tmp_path / "index"
    for platform in (JETPACK_5, JETPACK_7):
        make_wheel(folder, "pip", pin_of("pip", platform))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_COMPILE", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_own_wheel_is_complete_and_reproducible(tmp_path: Path):
    first, second = write_wheel(tmp_path / "first"), write_wheel(tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(str(first)) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith("/RECORD"))
        rows = list(csv.reader(io.StringIO(archive.read(record).decode())))
        assert sorted(row[0] for row in rows) == sorted(names)
        for name, digest, size in rows:
            if name != record:
                content = archive.read(name)
                kind, _, value = digest.partition("=")
                hashed = hashlib.new(kind, content).digest()
                assert (value, int(size)) == (
                    base64.urlsafe_b64encode(hashed).decode().rstrip("="),
                    len(content),
                )


def test_requirements_are_those_of_the_board(tmp_path: Path):
    on_jetson = device_requirements(JETPACK_5, ("jetson",))
    assert "pycuda>=2022.1" in on_jetson
    assert "onnxruntime>=1.19" in on_jetson
    assert not any(line.startswith(("torch", "pytest")) for line in on_jetson)
    assert not any(line.startswith("pycuda") for line in device_requirements(JETPACK_5, ()))
    # On a Jetson, TensorRT comes with JetPack, never from pip.
    assert not any(line.startswith("tensorrt") for line in device_requirements(JETPACK_5, ("tensorrt",)))


def test_wheels_are_chosen_for_the_python_of_the_board(index: Path, tmp_path: Path):
    make_wheel(index, "adqa", "1.0", ["adqold; python_version < '3.9'", "adqnew; python_version >= '3.9'"])
    make_wheel(index, "adqold", "1.0", ["adqx86; platform_machine == 'x86_64'", "adqextra; extra == 'more'"])
    make_wheel(index, "adqnew", "1.0")
    make_wheel(index, "adqarm", "2.0", ["adqold[more]"], "cp38-cp38-manylinux_2_27_aarch64")
    make_wheel(index, "adqarm", "3.0", [], "cp38-cp38-manylinux_2_39_aarch64")
    make_wheel(index, "adqarm", "4.0", [], "cp312-cp312-manylinux2014_aarch64")
    make_wheel(index, "adqextra", "1.0")

    def names(platform: Platform) -> set:
        wheels = fetch_wheels(["adqa>=1", "adqarm>=2"], platform, tmp_path / platform.name)
        return {wheel.name.split("-")[0] + wheel.name.split("-")[1] for wheel in wheels} - {
            "pip" + pin_of("pip", platform)
        }

    assert names(JETPACK_5) == {"adqa1.0", "adqold1.0", "adqarm2.0", "adqextra1.0"}
    assert names(JETPACK_7) == {"adqa1.0", "adqnew1.0", "adqarm4.0"}


def test_missing_wheel_is_reported_with_the_platform(index: Path, tmp_path: Path):
    make_wheel(index, "adqa", "1.0", [], "cp311-cp311-manylinux_2_17_x86_64")
    with pytest.raises(
        HostError,
        match=r"a wheel of adqa, pip==\S+ for cp38-aarch64-glibc2\.31 cannot be downloaded .*for adqa",
    ):
        fetch_wheels(["adqa"], JETPACK_5, tmp_path / "wheels")


def test_build_requirements_of_source_packages_are_downloaded(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_setuptools(index, pin_of("setuptools", JETPACK_5))
    make_wheel(index, "adqbuilds", "1.0")
    make_wheel(index, "adqruns", "1.0")
    make_source(index, "adqsource", "1.0")
    source = SourcePackage(("setuptools", "adqbuilds"), ("adqruns",))
    monkeypatch.setitem(requirements._FROM_SOURCE, "adqsource", source)
    files = fetch_wheels(["adqsource"], JETPACK_5, tmp_path / "wheels")
    assert {file.name.split("-")[0] for file in files} == {
        *("adqsource", "setuptools", "adqbuilds", "adqruns", "pip")
    }
    assert build_requirements(files) == ("adqbuilds", "setuptools")
    assert build_requirements(file for file in files if file.suffix == ".whl") == ()
    assert build_requirements([tmp_path / "pycuda-2026.1.tar.gz"]) == ("numpy", "setuptools", "wheel")


def test_requirements_are_read_for_many_boards_at_the_same_time():
    """A change of threads inside ast.literal_eval makes another thread's call fail in CPython 3.11."""
    before, pause = gc.get_threshold(), lambda phase, info: time.sleep(1e-4)
    gc.callbacks.append(pause)
    gc.set_threshold(200)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda number: device_requirements(JETPACK_5, ("jetson",)), range(64)))
    finally:
        gc.callbacks.remove(pause)
        gc.set_threshold(*before)
    assert len(set(found)) == 1
