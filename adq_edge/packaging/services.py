"""A systemd unit and a compose file that run adq-edge."""

from __future__ import annotations

from typing import Dict, List, Optional, Sequence

from adq_edge.packaging.source import Source
from adq_edge.packaging.station_file import StationFile

HOME = "/opt/adq-edge"
STATION, ENVIRONMENT = "station.toml", "environment"
_PORT = 8000
_DRAIN = 40
"""Seconds for the last requests after SIGTERM: more than `serve` waits."""
_IMAGES = {"tensorrt": "adq-edge:jetpack6"}


def systemd_files(source: Source, station: Optional[StationFile]) -> Dict[str, bytes]:
    """Return the files by path: a unit for `serve`, and one for `run` if there is a station file."""
    folder = f"{HOME}/{source.name}"
    token = f"{folder}/token"
    serve = f"serve {folder}/engine/{source.path.name} --token-file {token}"
    units = {"adq-edge-serve.service": _unit(source, "Verdicts over HTTP", serve)}
    if station is not None:
        run = f"run {folder}/{STATION}"
        variables = [f"EnvironmentFile={folder}/{ENVIRONMENT}"] if station.variables else []
        units["adq-edge-run.service"] = _unit(source, "Inspection station", run, variables)
    return {**units, **_engine_files(source, station)}


def compose_files(source: Source, station: Optional[StationFile]) -> Dict[str, bytes]:
    """Return the files by path: a compose file with `serve`, and with `run` if there is a station file."""
    engine = f"/package/engine/{source.path.name}"
    serve = ["serve", engine, "--host", "0.0.0.0", "--token-file", "/run/secrets/token"]
    ready = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{_PORT}/v2/health/ready', timeout=5)"
    lines = [
        f"# engine_sha256: {source.sidecar.engine_sha256}",
        "services:",
        *_service(source, "serve", serve),
        f"    ports: ['127.0.0.1:{_PORT}:{_PORT}']",
        "    secrets: [token]",
        "    healthcheck:",
        f'      test: ["CMD", "python3", "-c", "{ready}"]',
        "      interval: 10s",
        "      start_period: 60s",
    ]
    if station is not None:
        lines += _service(source, "run", ["run", f"/package/{STATION}"])
        lines += ["    healthcheck: { disable: true }"]
        lines += [f"    environment: [{', '.join(station.variables)}]"] if station.variables else []
    lines += ["secrets:", "  token: { file: ./token }"]
    return {"compose.yaml": ("\n".join(lines) + "\n").encode(), **_engine_files(source, station)}


def _engine_files(source: Source, station: Optional[StationFile]) -> Dict[str, bytes]:
    engine = {source.path.name: source.content, **source.companions()}
    files = {f"engine/{name}": content for name, content in engine.items()}
    if station is not None:
        files[STATION] = station.content
    return files


def _unit(source: Source, title: str, arguments: str, variables: Sequence[str] = ()) -> bytes:
    lines = [
        f"# engine_sha256: {source.sidecar.engine_sha256}",
        "[Unit]",
        f"Description={title} (adq-edge, {source.name})",
        "Wants=network-online.target",
        "After=network-online.target",
        "",
        "[Service]",
        f"ExecStart={HOME}/venv/bin/adq-edge {arguments}",
        f"WorkingDirectory={HOME}/{source.name}",
        *variables,
        "User=adq-edge",
        "Restart=on-failure",
        "RestartSec=2",
        f"TimeoutStopSec={_DRAIN}",
        "NoNewPrivileges=yes",
        "PrivateTmp=yes",
        "ProtectHome=yes",
        "ProtectSystem=full",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return ("\n".join(lines) + "\n").encode()


def _service(source: Source, name: str, command: List[str]) -> List[str]:
    image = _IMAGES.get(source.sidecar.runtime, "adq-edge:x86")
    return [
        f"  {name}:",
        f"    image: {image}",
        f"    command: [{', '.join(map(repr, command))}]",
        "    volumes: ['./:/package:ro']",
        "    restart: unless-stopped",
        f"    stop_grace_period: {_DRAIN}s",
    ]
