"""JSON lines are valid whatever a name or a number is."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.core.json_lines import json_line

ANY_TEXT = st.text(st.characters(blacklist_categories=()))


@given(ANY_TEXT.filter(lambda text: not any("\ud800" <= letter <= "\udfff" for letter in text)))
def test_any_text_is_read_back_from_one_printable_line(text: str):
    line = json_line({"image": text})
    assert json.loads(line) == {"image": text}
    assert len(line.splitlines()) == 1
    assert not any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in line)


@given(ANY_TEXT)
def test_every_line_is_utf_8(text: str):
    assert json.loads(json_line({"image": text}).encode("utf-8"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_json_does_not_have_are_rejected(value: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"score": value})


def test_lines_are_utf_8_in_a_terminal_of_another_encoding():
    code = "from adq_edge.core.json_lines import print_json_line; print_json_line({'image': 'größe'})"
    environment = {"PYTHONIOENCODING": "latin-1", "PATH": ""}
    output = subprocess.run(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True, cwd="."
    ).stdout
    assert json.loads(output.decode("utf-8")) == {"image": "größe"}


def test_names_in_utf_8_are_shown_as_such_in_an_ascii_locale():
    name = "größe".encode().decode("ascii", "surrogateescape")
    assert json.loads(json_line({"image": name})) == {"image": "größe"}
    assert "\x9b" not in json_line({"image": b"\xc2\x9b31m".decode("ascii", "surrogateescape")})
