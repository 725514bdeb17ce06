"""The generated pages of the documentation site."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from tools.docs.published import figure, note, origin, table
from tools.docs.python_api import python_page
from tools.docs.template import render
from tools.docs.verbs import verb_pages

DOCS = Path(__file__).resolve().parents[2] / "docs"


def generated_pages() -> Dict[Path, str]:
    """Return the text of each generated page by its path."""
    verbs = {DOCS / "verbs" / name: text for name, text in verb_pages().items()}
    results = render("results.md.j2", table=table, origin=origin, figure=figure, note=note)
    return {**verbs, DOCS / "results.md": results, DOCS / "python.md": python_page()}


def write_pages() -> None:
    """Write the generated pages; those that have not changed stay as they are."""
    for path, text in generated_pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
