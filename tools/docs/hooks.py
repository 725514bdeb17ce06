"""Hooks of mkdocs: a page may link to any file of the repository; the site then contains that file.

Notebooks become pages.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import List, Optional, Set

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from tools.docs.notebooks import notebook_page

REPOSITORY = Path(__file__).resolve().parents[2]
_COPIES = "repository"
"""Folder of the site with files from outside docs/."""
_EXAMPLES = "examples/README.md"
_NOTEBOOK = ".ipynb"
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|/|#)([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the examples, and each file outside docs/ that a page links to, directly or through other files."""
    for path in _linked_files([f"docs/{page.src_uri}" for page in files.documentation_pages()]):
        if path.endswith(_NOTEBOOK):
            file = File.generated(config, _site_path(path), content=_text(path))
        else:
            file = File.generated(config, _site_path(path), abs_src_path=str(REPOSITORY / path))
        file.inclusion = InclusionLevel.NOT_IN_NAV
        files.append(file)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with its links to files outside docs/ changed to the copies."""
    source = page.file.src_uri
    inside, folder = source.startswith(f"{_COPIES}/"), posixpath.dirname(source)
    origin = source[len(_COPIES) + 1 :] if inside else f"docs/{source}"

    def relative(link: re.Match[str]) -> str:
        target = _target(origin, link.group(1))
        return link.group(1) if target is None else posixpath.relpath(_site_path(target), folder or ".")

    return _LINK.sub(relative, markdown)


def _linked_files(pages: List[str]) -> Set[str]:
    """Return the paths of the files outside docs/ that pages link to, relative to the repository."""
    found = {_EXAMPLES}
    pages = [*pages, _EXAMPLES]
    while pages:
        page = pages.pop()
        targets = {_target(page, link) for link in _LINK.findall(_text(page))}
        new = {target for target in targets if target and not target.startswith("docs/")} - found
        found |= new
        pages += [target for target in new if target.endswith((".md", _NOTEBOOK))]
    return found


def _target(page: str, link: str) -> Optional[str]:
    """Return the path of a linked file relative to the repository; None if there is no such file."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
    if (REPOSITORY / path).is_dir():
        path = posixpath.join(path, "README.md")
    return path if not path.startswith("..") and (REPOSITORY / path).is_file() else None


def _text(path: str) -> str:
    text = (REPOSITORY / path).read_text(encoding="utf-8")
    return notebook_page(text) if path.endswith(_NOTEBOOK) else text


def _site_path(path: str) -> str:
    page = path[: -len(_NOTEBOOK)] + ".md" if path.endswith(_NOTEBOOK) else path
    return page[len("docs/") :] if page.startswith("docs/") else f"{_COPIES}/{page}"
