from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import DataError, StorageError
from adq_edge.core.images.imaging import (
    decode_image,
    heat_map,
    load_image,
    overlay,
    read_image,
    read_mask,
    resize_image,
    resize_map,
    write_image,
)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp", ".ppm"])
def test_lossless_formats_round_trip_in_rgb(tmp_path: Path, image: np.ndarray, suffix: str):
    path = tmp_path / f"p{suffix}"
    if suffix == ".webp":
        cv2.imwrite(str(path), image[:, :, ::-1], [cv2.IMWRITE_WEBP_QUALITY, 101])
    else:
        write_image(path, image)
    np.testing.assert_array_equal(read_image(path), image)


def test_text_paths_are_accepted(tmp_path: Path, image: np.ndarray):
    path = str(tmp_path / "p.png")
    write_image(path, image)
    np.testing.assert_array_equal(read_image(path), image)
    np.testing.assert_array_equal(load_image(path, (40, 60)), image)
    assert read_mask(path).shape == (40, 60)


def test_gray_alpha_and_16_bit_images_become_rgb8(tmp_path: Path, image: np.ndarray):
    gray = image[:, :, 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([image[:, :, ::-1], gray]))
    cv2.imwrite(str(tmp_path / "deep.png"), image[:, :, ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.dstack([gray] * 3))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), image)
    np.testing.assert_allclose(read_image(tmp_path / "deep.png").astype(int), image, atol=1)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_image_is_rejected(tmp_path: Path, image: np.ndarray, suffix: str):
    path = tmp_path / f"p{suffix}"
    write_image(path, image)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="not a readable image"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_image_truncated_anywhere_is_rejected_but_appended_data_is_not(image: np.ndarray, suffix: str):
    content = cv2.imencode(suffix, image)[1].tobytes()
    whole = decode_image(content)
    end = len(content) - {".png": 8, ".jpg": 2}[suffix]  # start of the end mark
    for cut in {*range(1, 40), *range(40, end, 97), *range(end - 40, end + 2)}:
        with pytest.raises(DataError, match="not a readable image"):
            decode_image(content[:cut])
    np.testing.assert_array_equal(decode_image(content + bytes(1000)), whole)


def oriented(jpeg: bytes, orientation: int) -> bytes:
    """Insert an EXIF segment with the orientation of the image after the first mark of a JPEG."""
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


@pytest.mark.parametrize("flag", ["with", "without"])
def test_rgb_pixels_equal_reversed_bgr_pixels(image: np.ndarray, monkeypatch: pytest.MonkeyPatch, flag: str):
    if flag == "without":
        monkeypatch.delattr(cv2, "IMREAD_COLOR_RGB", raising=False)
    odd = image[:39, :57]
    jpeg = cv2.imencode(".jpg", odd)[1].tobytes()
    contents = [jpeg, oriented(jpeg, 3), oriented(jpeg, 6), cv2.imencode(".jpg", odd[:, :, 0])[1].tobytes()]
    for suffix in (".png", ".bmp", ".tiff", ".webp", ".ppm"):
        contents.append(cv2.imencode(suffix, odd)[1].tobytes())
    contents.append(cv2.imencode(".png", np.dstack([odd, odd[:, :, 0]]))[1].tobytes())
    for content in contents:
        bgr = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode_image(content), bgr[:, :, ::-1])
    assert decode_image(oriented(jpeg, 6)).shape == (57, 39, 3)


@pytest.mark.parametrize("content", [b"", b"this is text", bytes(1000)])
def test_file_that_is_not_an_image_is_rejected(tmp_path: Path, content: bytes):
    path = tmp_path / "text.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"text\.png: not a readable image"):
        read_image(path)


def test_missing_image_is_reported(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"):
        read_image(tmp_path / "none.png")


def test_shrinking_averages_areas(tmp_path: Path, image: np.ndarray):
    exact = image.astype(np.float64).reshape(20, 2, 30, 2, 3).mean((1, 3))
    np.testing.assert_allclose(resize_image(image, (20, 30)), exact, atol=0.51)
    assert resize_image(image, (40, 60)) is image
    assert resize_image(image, (80, 120)).shape == (80, 120, 3)
    write_image(tmp_path / "p.png", image)
    np.testing.assert_array_equal(load_image(tmp_path / "p.png", (20, 30)), resize_image(image, (20, 30)))


def test_mask_must_have_the_size_of_its_image(tmp_path: Path):
    mask = np.zeros((40, 60), np.uint8)
    mask[3:7, 5:9] = 1
    write_image(tmp_path / "m.png", mask)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", (40, 60)), mask > 0)
    with pytest.raises(DataError, match="mask is 60x40 pixels, its image is 40x60"):
        read_mask(tmp_path / "m.png", (60, 40))


def test_heat_map_is_blue_below_the_range_and_red_above():
    colors = heat_map(np.array([[-1.0, 0.0, 1.0, 9.0]], np.float32), 0.0, 1.0)
    blue, red = colors[0, 1], colors[0, 2]
    assert blue[2] > 100 > blue[0]
    assert red[0] > 100 > red[2]
    np.testing.assert_array_equal(colors[0, [0, 3]], colors[0, [1, 2]])


def test_overlay_has_the_size_of_the_image(image: np.ndarray):
    assert overlay(image, np.ones((10, 15), np.float32), 0.0, 1.0).shape == image.shape


def test_map_is_upsampled_with_half_pixel_centers():
    ramp = np.arange(4, dtype=np.float32)[None].repeat(4, 0)
    centers = (np.arange(8) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(resize_map(ramp, (8, 8))[0], np.clip(centers, 0, 3), atol=1e-6)


def test_unsupported_image_format_is_rejected(tmp_path: Path, image: np.ndarray):
    with pytest.raises(DataError, match="cannot write this image format"):
        write_image(tmp_path / "p.nonsense", image)
