"""Ground-truth masks of many tools: one rule for which pixels are defective."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import read_mask, write_image

TRUTH = np.zeros((64, 64), bool)
TRUTH[20:44, 16:40] = True


def write(path: Path, pixels: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), pixels)
    return path


def levels(defect: int, kind: type = np.uint8) -> np.ndarray:
    return np.where(TRUTH, defect, 0).astype(kind)


@pytest.mark.parametrize(
    "pixels",
    [
        levels(1),
        levels(255),
        levels(200),
        levels(1, np.uint16),
        levels(255, np.uint16),
        levels(65535, np.uint16),
    ],
    ids=["0/1", "0/255", "0/200", "16-bit 0/1", "16-bit 0/255", "16-bit full"],
)
def test_two_levels_of_any_height(tmp_path: Path, pixels: np.ndarray):
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", pixels)), TRUTH)


@pytest.mark.parametrize("labels", [(1, 2, 3), (40, 90, 255), (255, 254, 253), (10, 60, 130), (38, 75, 113)])
def test_label_map_marks_all_its_labels(tmp_path: Path, labels: tuple):
    pixels = np.zeros((64, 64), np.uint8)
    for number, label in enumerate(labels):
        pixels[5:15, 5 + 18 * number : 15 + 18 * number] = label
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", pixels)), pixels > 0)


@pytest.mark.parametrize("blur", [0.8, 1.5, 3.0, 8.0])
def test_soft_edges_end_at_half(tmp_path: Path, blur: float):
    soft = cv2.GaussianBlur(levels(255), (0, 0), blur)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", soft)), soft >= 128)


@pytest.mark.parametrize("quality", [95, 75, 60, 40, 20])
def test_jpeg_artifacts_are_no_defect(tmp_path: Path, quality: int):
    cv2.imwrite(str(tmp_path / "m.jpg"), levels(255), [cv2.IMWRITE_JPEG_QUALITY, quality])
    area = int(read_mask(tmp_path / "m.jpg").sum())
    assert abs(area / TRUTH.sum() - 1) < 0.03
    again = cv2.imread(str(tmp_path / "m.jpg"), cv2.IMREAD_GRAYSCALE)
    assert abs(int(read_mask(write(tmp_path / "m.png", again)).sum()) / TRUTH.sum() - 1) < 0.03


@pytest.mark.parametrize("quality", [90, 40])
def test_artifacts_of_lossy_webp_are_no_defect(tmp_path: Path, quality: int):
    cv2.imwrite(str(tmp_path / "m.webp"), levels(255), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert abs(int(read_mask(tmp_path / "m.webp").sum()) / TRUTH.sum() - 1) < 0.05


def test_alpha_marks_the_defect_if_the_color_does_not(tmp_path: Path):
    white = np.full((64, 64, 3), 255, np.uint8)
    for color in (white, white * 0):
        path = write(tmp_path / "m.png", np.dstack([color, levels(255)]))
        np.testing.assert_array_equal(read_mask(path), TRUTH)
    opaque = np.dstack([levels(255)] * 3 + [np.full((64, 64), 255, np.uint8)])
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", opaque)), TRUTH)
    painted = np.dstack([levels(0), levels(0), levels(255), levels(255)])
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", painted)), TRUTH)


def test_colors_on_black_are_defects(tmp_path: Path):
    colored = np.zeros((64, 64, 3), np.uint8)
    colored[TRUTH] = (128, 0, 0)
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.png", colored)), TRUTH)


def test_folder_of_masks_is_united(tmp_path: Path):
    parts = [TRUTH & (np.arange(64)[:, None] < 30), TRUTH & (np.arange(64)[:, None] >= 30)]
    for number, part in enumerate(parts):
        write_image(tmp_path / f"{number}.png", part.astype(np.uint8))
    np.testing.assert_array_equal(read_mask(tmp_path), TRUTH)
    write_image(tmp_path / "2.png", np.ones((9, 9), np.uint8))
    with pytest.raises(DataError, match="its masks differ in size"):
        read_mask(tmp_path)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_mask_without_a_defect_is_refused(tmp_path: Path, kind: type):
    with pytest.raises(DataError, match=r"m\.png: mask marks no pixel as defective\. Draw the defect, or"):
        read_mask(write(tmp_path / "m.png", levels(0, kind)))


@pytest.mark.parametrize("inside", [slice(20, 30), slice(0, 0)], ids=["inverted", "all white"])
def test_mask_of_nearly_the_whole_image_is_refused(tmp_path: Path, inside: slice):
    inverted = np.full((64, 64), 255, np.uint8)
    inverted[inside, 20:30] = 0
    with pytest.raises(DataError, match=r"marks (98|100) % of the image as defective, as an inverted mask"):
        read_mask(write(tmp_path / "m.png", inverted))


def test_alpha_of_a_bmp_marks_the_defect(tmp_path: Path):
    """OpenCV writes BMP with alpha; without its alpha a white drawing covers the image."""
    drawing = np.dstack([np.full((64, 64, 3), 255, np.uint8), levels(255)])
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.bmp", drawing)), TRUTH)
