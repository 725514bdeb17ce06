"""Images of more than 8 bits: one scale for all images of a camera, or a refusal."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.images.bit_depth import BIT_DEPTH_VARIABLE
from adq_edge.core.images.imaging import decode_image
from factories.encoded_images import encode, packed_12_bit, tiff, with_png_chunk

TWELVE = np.random.default_rng(0).integers(0, 3000, (40, 60), np.uint16)
EXPECTED = np.rint(TWELVE / 4095 * 255).astype(np.uint8)


def gray(content: bytes) -> np.ndarray:
    image = decode_image(content)
    assert (image.dtype, image.shape) == (np.uint8, (40, 60, 3))
    assert (image[:, :, 0] == image[:, :, 1]).all()
    return image[:, :, 0]


@pytest.mark.parametrize(
    "content",
    [
        tiff(TWELVE.tobytes(), 16, 60, 40, t281=4095),
        tiff(packed_12_bit(TWELVE), 12, 60, 40),
        with_png_chunk(encode(".png", TWELVE), b"sBIT", b"\x0c"),
        with_png_chunk(encode(".png", TWELVE << 4), b"sBIT", b"\x0c"),
        b"P5\n# camera\n60 40\n4095\n" + TWELVE.astype(">u2").tobytes(),
    ],
    ids=["tiff tag", "tiff packed", "png sBIT", "png sBIT shifted", "pgm"],
)
def test_stated_depth_gives_the_scale(content: bytes):
    np.testing.assert_allclose(gray(content).astype(int), EXPECTED, atol=1)


def test_unknown_depth_is_refused_and_the_variable_gives_the_scale(monkeypatch: pytest.MonkeyPatch):
    dark = TWELVE // 20
    for content in (encode(".png", TWELVE), encode(".tiff", TWELVE), encode(".png", dark)):
        with pytest.raises(DataError, match="Set ADQ_EDGE_BIT_DEPTH to the camera's bits"):
            decode_image(content)
    monkeypatch.setenv(BIT_DEPTH_VARIABLE, "12")
    np.testing.assert_array_equal(gray(encode(".png", TWELVE)), EXPECTED)
    np.testing.assert_array_equal(gray(encode(".tiff", TWELVE)), EXPECTED)
    np.testing.assert_array_equal(gray(encode(".png", dark)), np.rint(dark / 4095 * 255))
    monkeypatch.setenv(BIT_DEPTH_VARIABLE, "16")
    np.testing.assert_array_equal(gray(encode(".png", TWELVE)), np.rint(TWELVE / 65535 * 255))


def test_values_beyond_the_depth_are_refused(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(DataError, match="holds the value 2999, but the largest of its bit depth is 1023"):
        decode_image(tiff(np.full((40, 60), 2999, np.uint16).tobytes(), 16, 60, 40, t281=1023))
    monkeypatch.setenv(BIT_DEPTH_VARIABLE, "12")
    with pytest.raises(DataError, match="holds the value 5000"):
        decode_image(encode(".png", np.full((40, 60), 5000, np.uint16)))
    for wrong in ("7", "17", "12 bit", "-1"):
        monkeypatch.setenv(BIT_DEPTH_VARIABLE, wrong)
        with pytest.raises(AdqError, match=r"ADQ_EDGE_BIT_DEPTH: is .* Set it to 8 to 16"):
            decode_image(encode(".png", TWELVE))


def test_variable_does_not_change_8_bit_and_stated_images(monkeypatch: pytest.MonkeyPatch):
    contents = [encode(".png", EXPECTED), tiff(TWELVE.tobytes(), 16, 60, 40, t281=4095)]
    before = [gray(content) for content in contents]
    monkeypatch.setenv(BIT_DEPTH_VARIABLE, "10")
    for content, image in zip(contents, before):
        np.testing.assert_array_equal(gray(content), image)


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".ppm"])
def test_16_bit_color_keeps_its_channels(suffix: str):
    pixels = np.random.default_rng(0).integers(0, 65536, (40, 60, 3), np.uint16)
    image = decode_image(encode(suffix, pixels))
    np.testing.assert_array_equal(image, np.rint(pixels[:, :, ::-1] / 257.0))


def test_10_bit_avif_has_the_scale_of_its_header():
    if not cv2.haveImageWriter("x.avif"):
        pytest.skip("this OpenCV writes no AVIF")
    pixels = np.full((40, 60, 3), 700, np.uint16)
    content = cv2.imencode(".avif", pixels, [cv2.IMWRITE_AVIF_DEPTH, 10])[1].tobytes()
    assert abs(float(decode_image(content).mean()) - 700 / 1023 * 255) < 2


@pytest.mark.parametrize("largest", [1, 15, 127, 1000])
def test_pgm_maximum_becomes_white(largest: int):
    values = np.linspace(0, largest, 2400).round().astype(">u2" if largest > 255 else np.uint8)
    image = gray(b"P5 60 40 %d\n" % largest + values.tobytes())
    np.testing.assert_array_equal(image.ravel(), np.rint(values / largest * 255.0))


@pytest.mark.parametrize("largest", [1, 15, 127, 255, 1000])
def test_maximum_of_a_pgm_in_text_becomes_white(largest: int):
    text = b" ".join(b"%d" % value for value in range(largest + 1))
    image = decode_image(b"P2 %d 1 %d\n" % (largest + 1, largest) + text + b"\n")
    np.testing.assert_allclose(image[0, :, 0], np.arange(largest + 1) / largest * 255.0, atol=1)
    assert image[0, -1, 0] == 255


def test_float_images_are_read_from_0_to_1_only():
    unit = np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60)
    np.testing.assert_array_equal(gray(encode(".tiff", unit)), np.rint(unit * 255))
    color = np.dstack([unit, unit / 2, unit / 4])
    np.testing.assert_array_equal(decode_image(encode(".tiff", color))[-1, -1], [64, 128, 255])
    for wrong in (unit * 255, unit - 0.1, np.where(unit > 0.5, np.nan, unit).astype(np.float32)):
        with pytest.raises(DataError, match="only 0 to 1 has a known scale"):
            decode_image(encode(".tiff", wrong))


def test_signed_samples_are_refused():
    for kind in (np.int16, np.int32):
        with pytest.raises(DataError, match="have no known scale"):
            decode_image(encode(".tiff", TWELVE.astype(kind)))
