"""`package`: writes a folder that hands an engine over to another program."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from pathlib import Path
from typing import Callable, Dict, Mapping, Optional, Tuple, Union

from adq_edge.core.errors import AdqError, StorageError
from adq_edge.core.files import is_empty, storage_errors, write_together
from adq_edge.core.records import Record, record
from adq_edge.core.version import __version__
from adq_edge.packaging.cpp import cpp_files
from adq_edge.packaging.deepstream import deepstream_files
from adq_edge.packaging.ovms import ovms_files
from adq_edge.packaging.readme import readme
from adq_edge.packaging.services import compose_files, systemd_files
from adq_edge.packaging.source import Source
from adq_edge.packaging.station_file import StationFile
from adq_edge.packaging.triton import triton_files

PACKAGES = Path("packages")
RECORD, SUMS, README = "package.json", "SHA256SUMS", "README.md"


class PackageTarget(str, enum.Enum):
    """What a package is for."""

    TRITON = "triton"
    DEEPSTREAM = "deepstream"
    OVMS = "ovms"
    CPP = "cpp"
    SYSTEMD = "systemd"
    COMPOSE = "compose"


_AGAIN = "Package the engine again: adq-edge package ENGINE"


@record("adq-edge/package", version=1, error=AdqError, fix=_AGAIN)
@dataclasses.dataclass(frozen=True)
class Package(Record):
    """The description of a package.

    Attributes:
        target: what it is for, a value of `PackageTarget`.
        engine: name of the engine file.
        engine_sha256: its hash.
        runtime: the runtime that the engine was built for.
        products: names of the products.
        adq_edge: the version that wrote it.
        files: SHA-256 of each other file, by its path in the folder.
    """

    target: str
    engine: str
    engine_sha256: str
    runtime: str
    products: Tuple[str, ...]
    adq_edge: str
    files: Dict[str, str]


_WITHOUT_STATION: Mapping[PackageTarget, Callable[[Source], Dict[str, bytes]]] = {
    PackageTarget.TRITON: triton_files,
    PackageTarget.DEEPSTREAM: deepstream_files,
    PackageTarget.OVMS: ovms_files,
    PackageTarget.CPP: cpp_files,
}
_SERVICES: Mapping[PackageTarget, Callable[[Source, Optional[StationFile]], Dict[str, bytes]]] = {
    PackageTarget.SYSTEMD: systemd_files,
    PackageTarget.COMPOSE: compose_files,
}


def package(
    engine: Union[str, Path],
    target: Union[str, PackageTarget],
    output: Optional[Union[str, Path]] = None,
    *,
    station: Optional[Union[str, Path]] = None,
) -> Package:
    """Write a folder that hands an engine over to another program: all of it, or nothing.

    Args:
        engine: the engine file.
        target: a value of `PackageTarget`.
        output: the folder; `packages/NAME-TARGET` by default. It must be missing, empty, or a package, whose
            files are replaced.
        station: the file of a station, for `systemd` and `compose`.

    Raises:
        AdqError: an unknown target, a station file with another target, or one that holds a password.
        EngineError: the engine is missing or was changed, or the target cannot run it.
        StorageError: the folder holds other files, or cannot be written to.
    """
    chosen = _target(target)
    if station is not None and chosen not in _SERVICES:
        names = " and ".join(one.value for one in _SERVICES)
        raise AdqError(f"only {names} take a station file", where="--station", fix="Omit it")
    source = Source.read(Path(engine))
    source.require_plain_name()
    folder = package_folder(source.path, chosen) if output is None else Path(output)
    before = _read_earlier(folder)
    read = None if station is None else StationFile.read(Path(station))
    files = _SERVICES[chosen](source, read) if chosen in _SERVICES else _WITHOUT_STATION[chosen](source)
    files[README] = readme(source, chosen.value, read).encode("utf-8")
    return _write(folder, _describe(source, chosen, files), files, before)


def package_folder(engine: Path, target: Union[str, PackageTarget]) -> Path:
    """Return the default folder of a package."""
    return PACKAGES / f"{engine.stem}-{_target(target).value}"


def _target(target: Union[str, PackageTarget]) -> PackageTarget:
    try:
        return PackageTarget(target)
    except ValueError:
        names = ", ".join(one.value for one in PackageTarget)
        raise AdqError(f"{str(target)!r:.40} is not a target", where="--for", fix=f"Use {names}") from None


def _read_earlier(folder: Path) -> Optional[Package]:
    """Return the package that a folder holds; None if it is missing or empty.

    Raises:
        StorageError: it holds other files.
    """
    with storage_errors(folder):
        if not folder.exists() or (folder.is_dir() and is_empty(folder)):
            return None
        if not (folder / RECORD).is_file():
            what = "exists and is not a package of adq-edge"
            raise StorageError(what, where=folder, fix="Choose another --output, or remove the folder")
    return Package.read(folder / RECORD)


def _describe(source: Source, target: PackageTarget, files: Mapping[str, bytes]) -> Package:
    return Package(
        target=target.value,
        engine=source.path.name,
        engine_sha256=source.sidecar.engine_sha256,
        runtime=source.sidecar.runtime,
        products=source.judge.products,
        adq_edge=__version__,
        files={path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())},
    )


def _write(folder: Path, found: Package, files: Mapping[str, bytes], before: Optional[Package]) -> Package:
    sums = "".join(f"{digest}  {path}\n" for path, digest in found.files.items())
    with write_together() as changes, changes.folder(folder) as fresh:
        for path, content in {**files, SUMS: sums.encode()}.items():
            with storage_errors(folder / path):
                (fresh / path).parent.mkdir(parents=True, exist_ok=True)
                (fresh / path).write_bytes(content)
        found.write(fresh / RECORD)
        for path in before.files if before is not None else ():
            if path not in files and _is_inside(folder, path):
                changes.remove(folder / path)
    return found


def _is_inside(folder: Path, path: str) -> bool:
    """Return True if a path of an earlier package names a file in the folder, not one elsewhere."""
    target = (folder / path).resolve()
    return folder.resolve() in target.parents and target.is_file()
