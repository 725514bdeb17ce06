"""The documentation site builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Dict, List, Optional, Set, Tuple
from urllib.parse import unquote, urlsplit

import pytest

from factories.paths import REPOSITORY

pytest.importorskip("mkdocs", reason="the site is built on a workstation")


class Page(HTMLParser):
    """The links and anchors of an HTML page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: List[str] = []
        self.anchors: Set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site as `make docs` does."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=str(REPOSITORY), env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> Dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_each_internal_link_and_anchor_exists(pages: Dict[Path, Page]):
    broken = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link in page.links
        if not urlsplit(link).scheme and not link_exists(path, link, pages)
    ]
    assert broken == []


def link_exists(path: Path, link: str, pages: Dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    anchor = unquote(parts.fragment)
    return target.is_file() and (not anchor or target not in pages or anchor in pages[target].anchors)


def test_pages_need_no_network(pages: Dict[Path, Page]):
    """Scripts, styles, fonts and images are files of the site."""
    for path in pages:
        text = path.read_text(encoding="utf-8")
        assert 'src="http' not in text, path.name
        assert '<link rel="stylesheet" href="http' not in text, path.name


def test_site_has_search_and_every_function_of_the_api(site: Path, pages: Dict[Path, Page]):
    import adq_edge

    assert "calibrator" in (site / "search" / "search_index.json").read_text(encoding="utf-8")
    anchors = pages[site / "python.html"].anchors
    assert [name for name in adq_edge.__all__ if f"adq_edge.{name}" not in anchors] == []
