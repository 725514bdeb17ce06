"""Small wheels and source distributions."""

from __future__ import annotations

import importlib.metadata
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Mapping, Optional, Sequence

from adq_edge.remote.requirements import Platform, constraints

_NOT_COPIED = ("METADATA", "WHEEL", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    needs: Sequence[str] = (),
    tag: str = "py3-none-any",
    files: Optional[Mapping[str, bytes]] = None,
) -> None:
    """Write a wheel with the given files, or one file; files in "dist-info" go to its folder."""
    folder.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    needs_lines = "".join(f"Requires-Dist: {need}\n" for need in needs)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in (files or {f"{name}.bin": b""}).items():
            archive.writestr(file.replace("dist-info", about, 1), content)
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs_lines}"
        )
        archive.writestr(f"{about}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{about}/RECORD", f"{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")


def make_setuptools(folder: Path, version: str) -> None:
    """Write a wheel of the installed setuptools, with another version number."""
    there = importlib.metadata.distribution("setuptools")
    files = {
        re.sub(r"^setuptools-[^/]*\.dist-info", "dist-info", str(path)): path.locate().read_bytes()
        for path in there.files or ()
        if ".." not in path.parts and path.suffix != ".pyc" and path.name not in _NOT_COPIED
    }
    make_wheel(folder, "setuptools", version, files=files)


def make_source(folder: Path, name: str, version: str) -> None:
    """Write an empty source distribution that is built by setuptools, like pycuda."""
    system = "requires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'"
    call = f"setup(name={name!r}, version={version!r}, py_modules=[])"
    contents = {
        "pyproject.toml": f"[build-system]\n{system}\n",
        "setup.py": f"from setuptools import setup\n{call}\n",
    }
    _write_source(folder, f"{name}-{version}", contents)


def make_broken_source(folder: Path, name: str, version: str, message: str) -> None:
    """Write a source distribution whose build needs no tools, prints a message and fails."""
    contents = {
        "pyproject.toml": "[build-system]\nrequires = []\nbuild-backend = 'broken'\nbackend-path = ['.']\n",
        "broken.py": f"def build_wheel(*options):\n    raise SystemExit({message!r})\n",
    }
    _write_source(folder, f"{name}-{version}", contents)


def _write_source(folder: Path, root: str, contents: Mapping[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    with tarfile.open(str(folder / f"{root}.tar.gz"), "w:gz") as archive:
        for member, content in contents.items():
            entry = tarfile.TarInfo(f"{root}/{member}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))


def pin_of(name: str, platform: Platform) -> str:
    """Return the version of a package that the constraints file has for a platform."""
    file = constraints()
    assert file is not None
    wanted = "< " if platform.python < (3, 9) else ">= "
    line = next(
        line
        for line in file.read_text().splitlines()
        if line.startswith(f"{name}==") and f"python_version {wanted}" in line
    )
    return line.split("==")[1].split()[0]
