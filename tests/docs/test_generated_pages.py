"""Pages that `make docs` generates are those in the repository."""

from __future__ import annotations

import re

import pytest

from factories.paths import REPOSITORY

pytest.importorskip("mkdocs", reason="the site is built on a workstation")

from tools.docs.examples import EXAMPLES, recorded
from tools.docs.pages import DOCS, generated_pages
from tools.docs.published import FOLDER, ExcerptError, origin, table, tables
from tools.docs.verbs import markdown, parameters, verb_contexts

GENERATED = generated_pages()


@pytest.mark.parametrize("path", sorted(GENERATED), ids=lambda path: str(path.relative_to(DOCS)))
def test_page_is_as_generated_from_the_code(path):
    assert path.read_text(encoding="utf-8") == GENERATED[path], "run `make docs` and commit the pages"


def test_no_page_is_left_of_a_verb_that_does_not_exist():
    assert set((DOCS / "verbs").iterdir()) <= set(GENERATED)


@pytest.mark.parametrize("verb", verb_contexts())
def test_page_of_a_verb_has_every_option_of_its_help_once(verb):
    context = verb_contexts()[verb]
    page = GENERATED[DOCS / "verbs" / f"{verb}.md"]
    anchors = re.findall(r'<span id="([\w-]+)">', page)
    assert len(anchors) == len(set(anchors)) == len(parameters(context)) > 3
    for option in re.findall(r"^  (?:-\w, )?(--[\w-]+)", context.get_help(), re.MULTILINE):
        assert re.search(rf"`(-\w, )?{option}\b", page), option


def test_every_verb_has_a_recorded_example_of_at_most_80_columns():
    assert [
        example.verb for example in EXAMPLES if not recorded(example.verb).startswith("$ adq-edge ")
    ] == []
    assert {example.verb for example in EXAMPLES} == set(verb_contexts())


def test_recorded_outputs_contain_no_folder_of_the_machine():
    for example in EXAMPLES:
        text = recorded(example.verb)
        assert not re.search(r"/tmp/|/root/|\x1b", text), example.verb
        assert str(REPOSITORY) not in text, example.verb


def test_help_becomes_markdown_with_code_links_and_no_special_characters():
    text = "'train --qat', docs/int8.md, or --max-drop a_b <x> *y*; the engine's own."
    assert markdown(text) == (
        "`train --qat`, [docs/int8.md](../int8.md), or `--max-drop` a\\_b \\<x\\> \\*y\\*; the engine's own."
    )


def test_excerpt_selects_columns_and_rows_by_name():
    text = "| a | b | b |\n|---|---|---|\n| x | 1 | 2 |\n| y\\|z | 3 | 4 |\n"
    assert tables(text)[0].excerpt(["a", ("b#2", "c")], ["y"]) == "| a | c |\n| --- | --- |\n| y\\|z | 4 |"


def test_excerpt_names_the_date_and_the_machine_of_its_run():
    for name in ("latency", "latency_amx"):
        day, machine = (FOLDER / f"{name}.md").read_text(encoding="utf-8").split("\n20")[1].split(", ")[:2]
        assert f": 20{day}, {machine}, 2 cores (" in origin(name)


@pytest.mark.parametrize("wrong", [{"columns": ["no such column"]}, {"rows": ["no such row"]}])
def test_excerpt_of_a_missing_row_or_column_is_refused(wrong):
    with pytest.raises(ExcerptError, match="no such"):
        table("latency", **wrong)
