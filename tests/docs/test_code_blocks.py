"""Commands and Python code in README and docs are valid: verbs, options, make targets and names exist."""

from __future__ import annotations

import ast
import re
import shlex
import textwrap
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest
import typer

import adq_edge
from adq_edge.cli import NAME, app
from factories.paths import REPOSITORY

pytest.importorskip("mkdocs", reason="the pages are checked on a workstation")

PAGES = [
    REPOSITORY / "README.md",
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *REPOSITORY.glob("docker/*.md"),
]
BLOCK = re.compile(r"^( *)(`{3,}|~{3,}) *([\w-]*)[^\n`]*\n(.*?)^ *\2 *$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"(?<!`)`(adq-edge [^`]+)`(?!`)")
SHELLS, TERMINALS = ("bash", "sh", "shell"), ("console",)
OPERATORS = set("();<>|&")
ROOT = typer.main.get_command(app)


def blocks(text: str) -> Iterator[Tuple[str, str]]:
    """Yield the language and the text of each fenced block."""
    for indent, _, language, body in BLOCK.findall(text):
        yield language, textwrap.dedent(body) if indent else body


def commands(language: str, text: str) -> Iterator[List[str]]:
    """Yield the words of each simple command; of a terminal's text, only what follows a `$`."""
    if language in TERMINALS:
        text = "\n".join(re.findall(r"^\$ ((?:.*\\\n)*.*)$", text, re.MULTILINE))
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split, lexer.commenters = True, "#"
        words: List[str] = []
        for token in lexer:
            if set(token) <= OPERATORS:
                yield words
                words = []
            else:
                words.append(token)
        yield words


def arguments_of(words: List[str]) -> List[str]:
    """Return the arguments of adq-edge, also where another program starts it, such as ssh or docker."""
    starts = [
        number
        for number, word in enumerate(words)
        if Path(word).name == NAME or (word == "adq_edge" and words[number - 1 : number] == ["-m"])
    ]
    return words[starts[-1] + 1 :] if starts else []


def parse(arguments: List[str]) -> None:
    """Parse a command line as adq-edge does, without running the verb."""
    try:
        with ROOT.make_context(NAME, list(arguments)) as root:
            name, verb, rest = ROOT.resolve_command(root, [*root._protected_args, *root.args])
            verb.make_context(name, rest, parent=root)
    except typer.Exit:
        pass  # -h and --version


def shell_blocks() -> Iterator[Tuple[str, List[str]]]:
    for page in PAGES:
        for language, text in blocks(page.read_text(encoding="utf-8")):
            if language in (*SHELLS, *TERMINALS):
                for words in commands(language, text):
                    yield page.name, words


COMMANDS = sorted(
    {(page, tuple(arguments_of(words))) for page, words in shell_blocks() if arguments_of(words)}
)


@pytest.mark.parametrize(
    ("page", "arguments"), COMMANDS, ids=lambda value: "" if isinstance(value, str) else " ".join(value)
)
def test_command_has_a_verb_and_options_that_exist(page: str, arguments: Tuple[str, ...], capsys):
    parse(list(arguments))


@pytest.mark.parametrize(
    "wrong",
    [
        "biuld",
        "build --intt8",
        "bench --scenario",
        "export --stride one",
        "synthetic",
        "eval --false-reject 1%",
    ],
)
def test_wrong_command_is_found(wrong: str):
    with pytest.raises(Exception, match=r"(?i)no such|missing|requires|a valid integer"):
        parse(wrong.split())


def test_options_of_commands_within_a_sentence_exist():
    unknown = [
        f"{page.name}: {command}"
        for page in PAGES
        for command in INLINE.findall(page.read_text(encoding="utf-8"))
        if not has_known_options(command.split()[1:])
    ]
    assert unknown == []


def has_known_options(words: List[str]) -> bool:
    verbs = [word for word in words if word in ROOT.commands]
    known = {"--help", "-h", *(name for one in ROOT.params for name in one.opts)}
    if verbs:
        known |= {name for one in ROOT.commands[verbs[0]].params for name in (*one.opts, *one.secondary_opts)}
    options = {word.strip("[]").split("=")[0] for word in words if re.match(r"\[?--?[a-zA-Z]", word)}
    return options <= known


def test_make_targets_of_commands_exist():
    targets = set(
        re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    used = {
        word
        for _, words in shell_blocks()
        if words[:1] == ["make"]
        for word in words[1:]
        if not word.startswith("-") and "=" not in word
    }
    assert used <= targets


def python_blocks() -> List[Tuple[str, str]]:
    pages = ((page.name, page.read_text(encoding="utf-8")) for page in PAGES)
    return [
        (name, code)
        for name, text in pages
        for language, code in blocks(text)
        if language in ("python", "py")
    ]


@pytest.mark.parametrize(("page", "code"), python_blocks())
def test_python_code_compiles_and_uses_names_of_the_api(page: str, code: str):
    for node in ast.walk(ast.parse(code)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "adq_edge"
        ):
            assert node.attr in dir(adq_edge), node.attr
