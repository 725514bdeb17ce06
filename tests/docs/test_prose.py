"""README and the hand-written pages of docs: short sentences, defined terms, messages of the code."""

from __future__ import annotations

import ast
import re
import statistics
from pathlib import Path
from typing import Iterator, List, Set

import pytest

from factories.paths import REPOSITORY

DOCS = REPOSITORY / "docs"
GENERATED = {"results.md", "python.md"}
PAGES = [REPOSITORY / "README.md", *sorted(path for path in DOCS.glob("*.md") if path.name not in GENERATED)]

MOST_WORDS = 1200  # of README: two screens
LONGEST_SENTENCE, LONGEST_MEDIAN = 35, 15  # words

BLOCKS = re.compile(r"^ *```.*?^ *```$|^---$.*?^---$|<!--.*?-->", re.DOTALL | re.MULTILINE)
NO_PROSE = re.compile(r"^\s*(\||#|!\[|:?-{3,}|<|!!!|\?\?\?|:::)")
ITEM = re.compile(r"^\s*(?:[-*+]|\d+\.)\s+|^>\s*")
END = re.compile(r"(?<=[.!?:])[)\"*_]*\s+(?=[\"(*_]*[A-Z0-9`])")


def paragraphs(text: str) -> Iterator[str]:
    """Yield the paragraphs and list items of a Markdown text, without code, tables, headings and images."""
    lines: List[str] = []
    for line in [*BLOCKS.sub("\n", text).splitlines(), ""]:
        if not line.strip() or NO_PROSE.match(line) or ITEM.match(line):
            if lines:
                yield " ".join(lines)
            lines = []
        if line.strip() and not NO_PROSE.match(line):
            lines.append(ITEM.sub("", line).strip())


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a Markdown text; a span of code counts as one word, a link as its text."""
    for paragraph in paragraphs(text):
        plain = re.sub(r"`[^`]+`", "`code`", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", paragraph))
        yield from (sentence for sentence in END.split(plain) if re.search(r"\w", sentence))


def words(sentence: str) -> int:
    return len(re.findall(r"\S*\w\S*", sentence))


def test_readme_has_two_screens():
    assert len((REPOSITORY / "README.md").read_text(encoding="utf-8").split()) <= MOST_WORDS


def test_figures_of_the_readme_are_published():
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    published = REPOSITORY / "benchmarks" / "published"
    study = "".join((published / f"{name}.md").read_text("utf-8") for name in ("study", "shared_trunk"))
    models = readme.split("| method | FP32 | INT8 |")[1].split("\n\n")[0]
    figures = re.findall(r"0\.\d{4}", models)
    assert len(figures) == 8
    assert all(f" {figure} " in study for figure in figures)
    for name, ratios in (("latency_amx", ("0.40", "0.14")), ("latency", ("0.67", "0.57"))):
        rows = (published / f"{name}.md").read_text(encoding="utf-8").splitlines()
        measured = [row.split("|")[5] for row in rows if row.startswith("| int8, ")]
        assert [f"{float(ratio):.2f}" for ratio in measured] == list(ratios)
        assert all(f" {ratio}" in readme for ratio in ratios)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_sentences_are_short(page: Path):
    found = list(sentences(page.read_text(encoding="utf-8")))
    assert [sentence for sentence in found if words(sentence) > LONGEST_SENTENCE] == []
    assert statistics.median(map(words, found)) <= LONGEST_MEDIAN


def test_long_sentence_is_found_across_lines_and_in_lists():
    text = (
        "# A title\n\nShort one. `some long code` is\none word.\n\n- " + "word " * 40 + "\n\n```sh\nno\n```\n"
    )
    assert [words(sentence) for sentence in sentences(text)] == [2, 4, 40]


def test_glossary_defines_each_term_once_in_order():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert terms == sorted(set(terms), key=str.lower)
    for term, definition in zip(terms, re.split(r"^## .+$", text, flags=re.MULTILINE)[1:]):
        assert list(sentences(definition)), term


def test_glossary_and_concepts_name_every_method():
    registry = pytest.importorskip("adq_edge.models.registry", reason="needs torch")
    for page in ("glossary.md", "concepts.md"):
        text = (DOCS / page).read_text(encoding="utf-8")
        assert [name for name in registry.METHODS if f"`{name}`" not in text] == [], page


def test_linked_terms_are_in_the_glossary():
    terms = re.findall(r"^## (.+)$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", term.lower()).replace(" ", "-") for term in terms}
    for page in PAGES:
        linked = re.findall(r"glossary\.md#([\w-]+)", page.read_text(encoding="utf-8"))
        assert set(linked) <= anchors, page.name


def code_texts() -> Set[str]:
    """Return the texts in the package's code without docstrings; NUL stands for each value."""
    texts: Set[str] = set()
    for path in (REPOSITORY / "adq_edge").rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                texts.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                texts.add("".join(map(str, parts)))
    return texts


def test_messages_of_the_troubleshooting_page_exist_in_the_code():
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^#+ `(.+)`$", text, re.MULTILINE)
    known = code_texts()
    assert len(quoted) >= 40
    for message in quoted:
        pattern = re.compile(".*".join(map(re.escape, message.split("..."))), re.DOTALL)
        assert any(pattern.search(text) for text in known), message
