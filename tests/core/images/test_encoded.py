"""Image files on the disk: which are opened, and what the terminal shows."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import AdqError, DataError, StorageError
from adq_edge.core.images.encoded import read_image_file
from adq_edge.core.images.folders import IMAGE_SUFFIXES, find_images, find_unread_images
from adq_edge.core.images.heat_map_files import write_heat_map
from adq_edge.core.images.imaging import (
    decode_image,
    load_image,
    read_image,
    read_mask,
    write_image,
    write_sheet,
)
from factories.encoded_images import encode, png, with_png_chunk

ODD_CHUNKS = ("iCCP", "zTXt", "cHRM", "pHYs", "sBIT", "tIME")
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(str(tmp_path / "pipe.png"))
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    kinds = {
        "pipe.png": "not a regular",
        "zero.png": "not a regular",
        "folder.png": "is a folder, not a file",
    }
    for name, kind in kinds.items():
        with pytest.raises(StorageError, match=rf"{name}: .*{kind}"):
            read_image(tmp_path / name)
    (tmp_path / "lost.png").symlink_to("nowhere")
    with pytest.raises(StorageError, match="no such file"):
        read_image(tmp_path / "lost.png")


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\0b.png", "no/such/file.png"])
def test_impossible_names_are_refused(tmp_path: Path, name: str):
    with pytest.raises(AdqError):
        read_image(tmp_path / name)


def test_suffixes_are_those_of_a_folder(tmp_path: Path):
    for suffix in IMAGE_SUFFIXES:
        (tmp_path / f"a{suffix}").write_bytes(encode(".png", PIXELS))
        (tmp_path / f"B{suffix.upper()}").write_bytes(encode(".png", PIXELS))
    (tmp_path / "c.txt").write_bytes(encode(".png", PIXELS))
    (tmp_path / "png").write_bytes(encode(".png", PIXELS))
    found = find_images(tmp_path)
    assert len(found) == 2 * len(IMAGE_SUFFIXES)
    for path in found:
        np.testing.assert_array_equal(read_image(path), PIXELS[:, :, ::-1])
    for name in ("c.txt", "png"):
        with pytest.raises(DataError, match=r"no image suffix\. Rename it; images are: avif bmp"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".gif", ".jp2", ".webp", ".avif"])
def test_rarer_formats_are_read(tmp_path: Path, suffix: str):
    if not cv2.haveImageWriter(f"x{suffix}"):
        pytest.skip("this OpenCV does not write the format")
    flat = np.full((32, 32, 3), (40, 120, 200), np.uint8)
    (tmp_path / f"a{suffix.upper()}").write_bytes(encode(suffix, flat))
    (path,) = find_images(tmp_path)
    np.testing.assert_allclose(read_image(path).mean((0, 1)), [200, 120, 40], atol=6)


def test_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.png"
    path.write_bytes(encode(".png", PIXELS))
    fstat = os.fstat

    def late(descriptor: int) -> os.stat_result:
        with path.open("ab") as file:
            file.write(b"more")
        return fstat(descriptor)

    monkeypatch.setattr(os, "fstat", late)
    with pytest.raises(DataError, match="changed while it was read"):
        read_image_file(path)


def test_damaged_images_leave_no_message_of_a_library(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    png_file = encode(".png", PIXELS)
    contents = {f"{name}.png": with_png_chunk(png_file, name.encode(), b"k\0\0junk") for name in ODD_CHUNKS}
    for suffix in (".png", ".tiff", ".bmp", ".webp", ".jp2", ".ppm", ".jpg"):
        content = encode(suffix, PIXELS)
        middle = len(content) // 2
        contents[f"cut{suffix}"] = content[:middle]
        if suffix != ".jpg":
            contents[f"flip{suffix}"] = (
                content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]
            )
    contents["float.tiff"] = encode(".tiff", PIXELS.astype(np.float32))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    refused = 0
    for path in find_images(tmp_path):
        try:
            read_image(path)
        except DataError:
            refused += 1
    assert refused >= 8
    assert capfd.readouterr() == ("", "")


def test_palette_bilevel_and_gray_alpha_png_are_read(tmp_path: Path):
    colors = bytes([0, 0, 0, 10, 20, 30, 128, 0, 0, 250, 240, 230])
    indexed = png(bytes([0, 1, 2, 3]), 4, 1, 8, 3, PLTE=colors)
    assert decode_image(indexed)[0].tolist() == [[0, 0, 0], [10, 20, 30], [128, 0, 0], [250, 240, 230]]
    bilevel = png(bytes([0b10100000]), 4, 1, 1, 0)
    assert decode_image(bilevel)[0, :, 0].tolist() == [255, 0, 255, 0]
    gray_alpha = png(bytes([50, 255, 60, 0, 70, 128, 80, 255]), 4, 1, 8, 4)
    assert decode_image(gray_alpha)[0, :, 1].tolist() == [50, 60, 70, 80]
    for name, content in (("indexed", indexed), ("bilevel", bilevel)):
        (tmp_path / f"{name}.png").write_bytes(content)
    assert read_mask(tmp_path / "indexed.png")[0].tolist() == [False, False, True, True]
    assert read_mask(tmp_path / "bilevel.png")[0].tolist() == [True, False, True, False]


def test_formats_that_are_not_read_are_named_and_found(tmp_path: Path):
    for name in ("a.HEIC", "b.cr2", "c.png", "notes.txt"):
        (tmp_path / name).write_bytes(encode(".png", PIXELS))
    assert [path.name for path in find_unread_images(tmp_path)] == ["a.HEIC", "b.cr2"]
    with pytest.raises(DataError, match=r"a\.HEIC: HEIC, an image format that is not read\. Convert it"):
        read_image(tmp_path / "a.HEIC")


@pytest.mark.parametrize("name", ["a-vs-b.compare.jpg", "a.analysis.png", "heat_maps-lp.png", "mine.jpeg"])
def test_sheets_are_no_images_to_judge_or_to_learn_from(tmp_path: Path, name: str):
    write_image(tmp_path / "a.compare.png", PIXELS)  # a mark as of earlier releases
    cv2.imwrite(str(tmp_path / "b.compare.png"), PIXELS)  # of another tool
    write_image(tmp_path / "part.png", PIXELS)
    write_sheet(tmp_path / name, PIXELS)
    found = [path.name for path in find_images(tmp_path)]
    assert [one for one in found if one != "mine.jpeg"] == ["b.compare.png", "part.png"]
    with pytest.raises(DataError, match="a sheet or plot that adq-edge wrote, not an image of a product"):
        load_image(tmp_path / name, (64, 64))
    assert read_image(tmp_path / name).shape == PIXELS.shape
    write_sheet(tmp_path / name, PIXELS)


def test_a_renamed_heat_map_is_no_image_to_learn_from(tmp_path: Path):
    write_heat_map(tmp_path, "a", PIXELS).rename(tmp_path / "renamed.png")
    with pytest.raises(DataError, match="a heat map that predict wrote, not an image of a product"):
        load_image(tmp_path / "renamed.png", (64, 64))
