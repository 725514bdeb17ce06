"""Notebooks as Markdown pages, with their stored outputs."""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, Mapping, Sequence, Union

_Text = Union[str, Sequence[str]]


def notebook_page(text: str) -> str:
    """Return a notebook as Markdown: its texts, its code, and the stored texts and images.

    Args:
        text: the content of an `.ipynb` file of format 4.
    """
    notebook: Dict[str, Any] = json.loads(text)
    return "\n\n".join(part for cell in notebook["cells"] for part in _cell(cell)) + "\n"


def _cell(cell: Mapping[str, Any]) -> Iterator[str]:
    source = _joined(cell["source"]).strip("\n")
    if cell["cell_type"] == "markdown":
        yield source
    elif cell["cell_type"] == "code" and source:
        yield _block(source, "python")
        for output in cell["outputs"]:
            yield from _output(output)


def _output(output: Mapping[str, Any]) -> Iterator[str]:
    """Yield a stored output; the progress on standard error is left out."""
    data: Mapping[str, _Text] = output.get("data", {})
    images = [kind for kind in ("image/png", "image/jpeg") if kind in data]
    if output.get("name") == "stdout":
        yield _block(_joined(output["text"]).rstrip("\n"), "text")
    elif images:
        yield f"![output](data:{images[0]};base64,{_joined(data[images[0]]).replace(chr(10), '')})"
    elif "text/plain" in data:
        yield _block(_joined(data["text/plain"]), "text")


def _joined(text: _Text) -> str:
    return text if isinstance(text, str) else "".join(text)


def _block(text: str, language: str) -> str:
    return f"````{language}\n{text}\n````"
