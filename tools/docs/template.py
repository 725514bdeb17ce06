"""Templates of generated pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(str(Path(__file__).parent / "templates")),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,  # the pages are Markdown
)


def render(template: str, **values: Any) -> str:
    """Return a page made from a file in `templates/`."""
    return _ENVIRONMENT.get_template(template).render(**values)
