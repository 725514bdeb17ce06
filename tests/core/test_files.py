from __future__ import annotations

from pathlib import Path

import pytest

from adq_edge.core.errors import StorageError
from adq_edge.core.files import atomic_path, is_plain_name, real_path, sha256, storage_errors
from factories.images import leftovers


def test_folder_in_place_of_a_file_is_named_as_one(tmp_path: Path):
    with pytest.raises(StorageError, match=r"is a folder, not a file\. Name a file"), storage_errors(
        tmp_path
    ):
        tmp_path.read_bytes()


def test_real_path_follows_links_and_keeps_what_is_no_path(tmp_path: Path):
    (tmp_path / "link").symlink_to(tmp_path)
    assert real_path(tmp_path / "link" / "a") == tmp_path.resolve() / "a"
    assert real_path("a\0b") == Path("a\0b")


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


def test_full_disk_keeps_the_old_file(tmp_path: Path, full_disk):
    path = tmp_path / "f.bin"
    path.write_bytes(b"old")
    full_disk()
    with pytest.raises(StorageError, match=r"no space left on device\. Free some space"), atomic_path(
        path
    ) as new:
        new.write_bytes(b"new")
    assert path.read_bytes() == b"old"
    assert not leftovers(tmp_path)


def test_written_file_has_the_usual_permissions(tmp_path: Path):
    with atomic_path(tmp_path / "f") as temporary:
        temporary.write_bytes(b"x")
    (tmp_path / "g").write_bytes(b"x")
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "g").stat().st_mode


def test_sha256_of_known_content(tmp_path: Path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_plain_name_can_be_the_name_of_a_file():
    assert all(map(is_plain_name, ("a b", "部品", "caf\udce9")))
    assert not any(map(is_plain_name, ("", "..", "a/b", "a\0b", "half \ud800")))
