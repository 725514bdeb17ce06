"""The README of a package: what it holds, and the exact commands to use it."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import jinja2

from adq_edge.core.version import __version__
from adq_edge.packaging.source import Source
from adq_edge.packaging.station_file import StationFile
from adq_edge.packaging.triton import batch_size

_TEMPLATES = Path(__file__).parent / "files" / "readme"


def readme(source: Source, target: str, station: Optional[StationFile]) -> str:
    """Return the README of a package for a target, in Markdown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(str(_TEMPLATES)),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # the names are those of files, which hold no Markdown of others
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    sidecar = source.sidecar
    return environment.get_template(f"{target}.md.j2").render(
        name=source.name,
        engine=source.path.name,
        sidecar=sidecar,
        height=sidecar.image_size[0],
        width=sidecar.image_size[1],
        outputs=", ".join(f"`{name}`" for name in source.outputs),
        products=source.judge.products,
        has_verdict=source.has_verdict,
        has_embedding=sidecar.embedding_size is not None,
        batch=batch_size(source),
        has_station=station is not None,
        variables=() if station is None else station.variables,
        version=__version__,
    )
