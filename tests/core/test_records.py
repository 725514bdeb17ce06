from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Dict, Optional, Tuple

import pytest

from adq_edge.core.errors import BundleError, StorageError
from adq_edge.core.records import Record, record, write_json


@dataclasses.dataclass(frozen=True)
class About:
    title: str


@record("test/record", version=2, error=BundleError, fix="Make it again", older={1: {"about.label": "title"}})
@dataclasses.dataclass(frozen=True)
class Example(Record):
    name: str
    size: Tuple[int, int]
    score: Optional[float]
    tensors: Dict[str, Tuple[float, float]]
    names: Tuple[str, ...] = ()
    about: Optional[About] = None

    def check(self) -> None:
        if self.score == 13.0:
            raise ValueError("holds an unlucky score")


def test_record_round_trip(tmp_path: Path):
    example = Example("a", (2, 3), None, {"t": (-1.0, 2.5)}, ("a", "bc"), About("b"))
    example.write(tmp_path / "r.json")
    assert Example.read(tmp_path / "r.json") == example


def test_field_of_an_older_version_is_read_under_its_new_name(tmp_path: Path):
    content = {"name": "a", "size": [2, 3], "score": None, "tensors": {}, "about": {"label": "b"}}
    write_json(tmp_path / "r.json", "test/record", 1, content)
    assert Example.read(tmp_path / "r.json").about == About("b")
    write_json(tmp_path / "r.json", "test/record", 2, content)
    with pytest.raises(BundleError, match="not a valid test/record file"):
        Example.read(tmp_path / "r.json")


def test_impossible_value_is_refused_after_reading(tmp_path: Path):
    Example("a", (2, 3), 13.0, {}).write(tmp_path / "r.json")
    with pytest.raises(BundleError, match=r"r\.json: holds an unlucky score"):
        Example.read(tmp_path / "r.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a JSON file"),
        ("\x00\xff", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("[]", "not an test/record file"),
        ('{"schema": "test/other", "version": 1}', "not an test/record file"),
        ('{"schema": "test/record", "version": 7}', "format version is 7"),
        ('{"schema": "test/record", "version": 1, "name": "a"}', "not a valid test/record file"),
        (
            '{"schema": "test/record", "version": 1, "name": 5, "size": [1, 2], "tensors": {}}',
            "not a valid test/record file",
        ),
        (
            '{"schema": "test/record", "version": 1, "name": "", "size":[1,2], "tensors": {}, "names": "ab"}',
            "not a valid test/record file",
        ),
    ],
)
def test_foreign_json_is_refused_in_one_line(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "r.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=complaint) as caught:
        Example.read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_json_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"):
        Example.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    "change", [{"version": [2]}, {"version": True}, {"version": 2.0}, {"size": [True, 1]}]
)
def test_version_or_integer_of_another_type_is_refused(tmp_path: Path, change: Dict[str, object]):
    content = {"name": "a", "size": [2, 3], "score": None, "tensors": {}, "version": 2, **change}
    (tmp_path / "r.json").write_text(json.dumps({"schema": "test/record", **content}))
    with pytest.raises(BundleError, match=r"format version is|True is not a whole number"):
        Example.read(tmp_path / "r.json")


@pytest.mark.parametrize("value", ["x" * 10**6, ["x"] * 10**5, {"x" * 10**5: 1}, [[]] * 1000, 10**18])
@pytest.mark.parametrize("field", ["name", "size", "score", "tensors", "names", "about"])
def test_message_about_a_large_value_is_short(tmp_path: Path, field: str, value: object):
    content = {
        "schema": "test/record",
        "version": 2,
        "name": "a",
        "size": [2, 3],
        "score": None,
        "tensors": {},
    }
    (tmp_path / "r.json").write_text(json.dumps({**content, field: value}))
    try:
        Example.read(tmp_path / "r.json")
    except BundleError as error:
        message = str(error)
    else:
        return  # a long text or any number of names is allowed
    assert len(message) < 700
