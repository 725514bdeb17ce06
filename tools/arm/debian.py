"""Packages of Debian: downloaded by apt in a state of its own, and unpacked without being installed.

The apt of this machine is not changed, and no root is needed. apt checks the signatures of the archive.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Dict, List, Sequence

from adq_edge.core.errors import AdqError

MIRROR = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

_CONFIGURATION = """\
Dir "{folder}";
Dir::Etc "{folder}/etc";
Dir::Etc::SourceList "{folder}/etc/sources.list";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
"""


class Archive:
    """A release of Debian for one architecture.

    Args:
        release: the release, such as `bookworm`.
        architecture: the architecture in Debian's words, such as `arm64`.
        folder: an empty folder for apt's state.

    Raises:
        AdqError: the list of packages cannot be downloaded.
    """

    def __init__(self, release: str, architecture: str, folder: Path) -> None:
        self._archives = folder / "cache" / "archives"
        parts = (folder / "etc/apt.conf.d", folder / "etc/preferences.d", folder / "state/lists/partial")
        for part in (*parts, self._archives / "partial"):
            part.mkdir(parents=True)
        (folder / "state" / "status").touch()
        source = f"deb [signed-by={KEYRING}] {MIRROR} {release} main\n"
        (folder / "etc" / "sources.list").write_text(source)
        self._configuration = folder / "apt.conf"
        self._configuration.write_text(_CONFIGURATION.format(folder=folder, architecture=architecture))
        self._apt("update", "--error-on=any")

    def download_with_dependencies(self, packages: Sequence[str]) -> List[Path]:
        """Download packages and all that they depend on; return the `.deb` files."""
        self._apt("install", "--yes", "--download-only", *packages)
        return sorted(self._archives.glob("*.deb"))

    def download(self, package: str) -> Path:
        """Download one package alone; return its `.deb` file."""
        self._apt("download", package)
        (path,) = self._archives.glob(f"{package}_*.deb")
        return path

    def _apt(self, *arguments: str) -> None:
        environment = {**os.environ, "APT_CONFIG": str(self._configuration), "LC_ALL": "C"}
        run(["apt-get", "--quiet", *arguments], environment, self._archives)


def unpack(packages: Sequence[Path], root: Path) -> None:
    """Unpack `.deb` files into a folder; their scripts are not run."""
    for package in packages:
        run(["dpkg-deb", "--extract", str(package), str(root)], dict(os.environ), root)


def run(command: Sequence[str], environment: Dict[str, str], folder: Path) -> None:
    """Run a program of the set-up in a folder.

    Raises:
        AdqError: it fails; the message has the last line that it printed.
    """
    done = subprocess.run(
        command,
        env=environment,
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout.strip().splitlines() or ["no message"])[-1]
        raise AdqError(f"{' '.join(command[:4])} failed: {said}", fix="Check the network, then run it again")
