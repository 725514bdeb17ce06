"""What is carried to a board: our own wheel, and those of what it needs, for the board's Python."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import pytest

from adq_edge.remote.errors import HostError
from adq_edge.remote.requirements import Platform, constraints, device_requirements, fetch_wheels
from adq_edge.remote.wheel import write_wheel

JETPACK_5 = Platform((3, 8), "aarch64", 31)
JETPACK_7 = Platform((3, 12), "aarch64", 39)


def make_wheel(
    folder: Path, name: str, version: str, needs=(), tag: str = "py3-none-any", content: bytes = b""
) -> None:
    """Write a wheel with one file in it."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    needs_lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}.bin", content)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs_lines}"
        )
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def make_source(folder: Path, name: str, version: str, first: str = "pass") -> None:
    """Write a source distribution with nothing in it, which needs nothing to be built with.

    `first` is a line of Python that is run before it is built.
    """
    root = f"{name}-{version}"
    wheel = f"{root}-py3-none-any.whl"
    with tempfile.TemporaryDirectory() as scratch:
        make_wheel(Path(scratch), name, version)
        contents = {
            wheel: (Path(scratch) / wheel).read_bytes(),
            "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n',
            "own.py": f"import shutil\ndef build_wheel(folder, *_):\n"
            f"    {first}\n"
            f"    shutil.copy({wheel!r}, folder)\n    return {wheel!r}\n".encode(),
        }
    folder.mkdir(exist_ok=True)
    with tarfile.open(str(folder / f"{root}.tar.gz"), "w:gz") as archive:
        for member, content in contents.items():
            entry = tarfile.TarInfo(f"{root}/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def pip_of(platform: Platform) -> str:
    """Return the version of pip that is pinned for a Python."""
    file = constraints()
    assert file is not None
    wanted = "< " if platform.python < (3, 9) else ">= "
    line = next(
        line
        for line in file.read_text().splitlines()
        if line.startswith("pip==") and f"python_version {wanted}" in line
    )
    return line.split("==")[1].split()[0]


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip knows of the world."""
    folder = tmp_path / "index"
    for platform in (JETPACK_5, JETPACK_7):
        make_wheel(folder, "pip", pip_of(platform))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_own_wheel_is_whole_and_the_same_every_time(tmp_path: Path):
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
    # TensorRT of a Jetson comes with JetPack, never from pip.
    assert not any(line.startswith("tensorrt") for line in device_requirements(JETPACK_5, ("tensorrt",)))


def test_wheels_follow_the_board_s_python_and_not_ours(index: Path, tmp_path: Path):
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
            f"pip{pip_of(platform)}"
        }

    assert names(JETPACK_5) == {"adqa1.0", "adqold1.0", "adqarm2.0", "adqextra1.0"}
    assert names(JETPACK_7) == {"adqa1.0", "adqnew1.0", "adqarm4.0"}


def test_wheel_that_there_is_none_of(index: Path, tmp_path: Path):
    make_wheel(index, "adqa", "1.0", [], "cp311-cp311-manylinux_2_17_x86_64")
    with pytest.raises(
        HostError,
        match=r"no wheel of one of adqa, pip==\S+ for cp38-aarch64-glibc2\.31 can be fetched .*for adqa",
    ):
        fetch_wheels(["adqa"], JETPACK_5, tmp_path / "wheels")
