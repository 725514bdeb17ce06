from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, Optional, Tuple

import pytest

from adq_edge.core.errors import BundleError, StorageError
from adq_edge.core.files import atomic_directory, atomic_path, sha256
from adq_edge.core.records import read_json, read_record, write_json
from factories.images import leftovers


@dataclasses.dataclass(frozen=True)
class Record:
    name: str
    size: Tuple[int, int]
    score: Optional[float]
    tensors: Dict[str, Tuple[float, float]]
    names: Tuple[str, ...] = ()


def read(path: Path) -> Record:
    return read_record(path, Record, "test/record", 1, BundleError, "Make it again")


def test_record_round_trip(tmp_path: Path):
    record = Record("a", (2, 3), None, {"t": (-1.0, 2.5)}, ("a", "bc"))
    write_json(tmp_path / "r.json", "test/record", 1, dataclasses.asdict(record))
    assert read(tmp_path / "r.json") == record


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
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_missing_json_is_a_storage_error(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"):
        read_json(tmp_path / "none.json", "s", 1, BundleError, "")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, ValueError])
def test_interrupted_write_keeps_the_old_file(tmp_path: Path, interruption):
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise interruption

    with pytest.raises(interruption):
        write_half()
    assert path.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_full_disk_keeps_the_old_file_and_says_so(tmp_path: Path, full_disk):
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    full_disk()
    with pytest.raises(StorageError, match=r"no space left on device\. Free some space"), atomic_path(
        path
    ) as new:
        new.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_directory_is_replaced_whole_or_not_at_all(tmp_path: Path, full_disk):
    target = tmp_path / "d"
    for content in ("one", "two"):
        with atomic_directory(target) as fresh:
            (fresh / "file").write_text(content)
    assert (target / "file").read_text() == "two"
    full_disk()
    with pytest.raises(StorageError), atomic_directory(target) as fresh:
        (fresh / "file").write_text("three")
    assert (target / "file").read_text() == "two"
    assert not leftovers(tmp_path)


def test_written_file_has_the_users_mode(tmp_path: Path):
    with atomic_path(tmp_path / "f") as temporary:
        temporary.write_bytes(b"x")
    (tmp_path / "g").write_bytes(b"x")
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "g").stat().st_mode


def test_sha256_of_known_content(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
