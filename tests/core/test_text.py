from __future__ import annotations

import io
import sys
import unicodedata
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.core.console import SafeConsole, progress_bar
from adq_edge.core.errors import AdqError
from adq_edge.core.streams import guard_output
from adq_edge.core.text import number_of, printable

HOSTILE = "a\x1b[31m\x9b2J\x07\x1b]0;title\x07\u202egnp.exe\u2066 \x00\x7f\u2028\udcff[/bold]"


def is_safe(text: str) -> bool:
    return not any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text)


@given(st.text(st.characters() | st.sampled_from(HOSTILE), max_size=60), st.integers(20, 80))
def test_printable_text_has_one_line_no_control_characters_and_at_most_the_limit(text: str, limit: int):
    shown = printable(text, limit)
    assert is_safe(shown)
    assert len(shown) <= limit
    shown.encode("utf-8")


def test_numbers_agree_with_their_nouns():
    shown = [
        number_of(1, "core"),
        number_of(1.5, "core"),
        number_of(0, "category"),
        number_of(10**6, "image"),
    ]
    assert shown == ["1 core", "1.5 cores", "0 categories", "1000000 images"]


def test_printable_text_keeps_names_of_all_scripts():
    for name in ("Schräge Kante 2.png", "部品", "עברית", "a  b", "C:\\new"):
        assert printable(name) == name


def test_error_escapes_and_shortens_all_of_its_parts():
    long = "x" * 100_000
    error = AdqError(
        f"no class {HOSTILE!s} {long}", where=f"/data/{HOSTILE}/{long}", fix=f"Use {HOSTILE} {long}"
    )
    assert is_safe(str(error))
    assert len(str(error)) < 2500
    assert str(error).startswith("/data/a\\x1b[31m")
    assert ": no class a\\x1b[31m" in str(error)
    assert ". Use a\\x1b[31m" in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii"])
def test_streams_escape_what_the_terminal_acts_on_or_cannot_show(
    monkeypatch: pytest.MonkeyPatch, encoding: str
):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
    guard_output()
    import click

    print(HOSTILE)
    click.echo(f"部品 {HOSTILE}")
    SafeConsole(width=200).print(f"部品 {HOSTILE}")
    sys.stdout.flush()
    lines: List[str] = written.getvalue().decode(encoding).splitlines()
    assert len(lines) == 3
    assert all(is_safe(line) and "\\x9b2J\\x07" in line for line in lines)


def test_console_escapes_names_in_progress_bars_and_keeps_its_own_codes(monkeypatch: pytest.MonkeyPatch):
    screen = SafeConsole(file=io.StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr("adq_edge.core.console.console", screen)
    with progress_bar(HOSTILE, 2, "images", auto_refresh=False) as advance:
        advance()
    drawn = screen.file.getvalue()
    assert "a\\x1b[31m\\x9b2J" in drawn
    assert "\x1b[31m" not in drawn
    assert "\x1b[?25l" in drawn
