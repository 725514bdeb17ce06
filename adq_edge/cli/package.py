"""`adq-edge package`."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output

TARGETS = ("triton", "deepstream", "ovms", "cpp", "systemd", "compose")


def package(
    engine: options.Engine = None,
    target: str = typer.Option(
        ...,
        "--for",
        **options.choices(*TARGETS),
        help="What the package is for: a server, DeepStream, a C++ program, or a service; required.",
    ),
    output: Optional[Path] = typer.Option(
        None,
        "--output",
        "-o",
        metavar=options.FOLDER,
        help="Folder of the package. Default: packages/NAME-TARGET.",
    ),
    station: Optional[Path] = typer.Option(
        None,
        metavar=options.FILE,
        help="Station file of 'run', for systemd and compose. Default: the server only.",
    ),
) -> Output:
    """Write a folder that hands an engine over to another program.

    triton: a model repository with the verdict. ovms: a folder for OpenVINO Model Server. deepstream:
    configurations for nvinfer. cpp: a C++ program with the same scores and verdicts. systemd and compose:
    services that run adq-edge.

    The folder holds the engine, its products where the target needs them, and a README with the commands.
    """
    from adq_edge.artifacts import workspace
    from adq_edge.packaging.package import package as write
    from adq_edge.packaging.package import package_folder

    path = workspace.latest_engine() if engine is None else engine
    found = write(path, target, output, station=station)
    folder = package_folder(path, target) if output is None else output
    names = [f"{folder / name}" for name in sorted(found.files)]
    lines = [f"engine_sha256: {found.engine_sha256}", *names]
    return Output(found, lines=lines, next_step=f"read {folder / 'README.md'}")
