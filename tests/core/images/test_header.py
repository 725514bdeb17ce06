"""Headers of image files: sizes before memory is taken, for every format and for damaged files."""

from __future__ import annotations

import resource
import struct
from typing import Callable, Dict

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import AdqError, DataError
from adq_edge.core.images.encoded import MAX_MEGAPIXELS_VARIABLE
from adq_edge.core.images.header import ImageHeader, read_header
from adq_edge.core.images.imaging import decode_image
from factories.encoded_images import animated_webp, encode, gif, png_of_size, tiff, with_png_chunk

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
FORMATS = [".png", ".jpg", ".tiff", ".bmp", ".webp", ".jp2", ".ppm"]
OPTIONAL = [suffix for suffix in (".gif", ".avif") if cv2.haveImageWriter(f"x{suffix}")]
SEEDS: Dict[str, bytes] = {suffix: encode(suffix, PIXELS) for suffix in [*FORMATS, *OPTIONAL]}


@pytest.mark.parametrize("suffix", SEEDS)
@settings(max_examples=15, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.booleans())
def test_header_states_the_size_that_opencv_decodes(suffix: str, width: int, height: int, gray: bool):
    least = 32 if suffix == ".jp2" else 1  # OpenCV writes no smaller JPEG 2000
    height, width = max(height, least), max(width, least)
    pixels = np.resize(PIXELS, (height, width, 3))
    pixels = pixels[:, :, 0] if gray and suffix not in (".ppm", ".gif") else pixels
    header = read_header(encode(suffix, pixels))
    assert header is not None
    assert (header.width, header.height, header.frames) == (width, height, 1)


def mutated(content: bytes, edits: list) -> bytes:
    for kind, place, value in edits:
        at = place % (len(content) + 1)
        if kind == 0:
            content = content[:at]
        elif kind == 1:
            content = content[:at] + bytes([value]) + content[at + 1 :]
        elif kind == 2:
            content = content[:at] + bytes([value]) * 4 + content[at + 4 :]
        else:
            content = content[:at] + content[at // 2 : at // 2 + value] + content[at:]
    return content


EDIT = st.tuples(st.integers(0, 3), st.one_of(st.integers(0, 60), st.integers(0, 10**4)), st.integers(0, 255))


@pytest.mark.parametrize("suffix", SEEDS)
@settings(max_examples=150, deadline=2000)
@given(st.lists(EDIT, min_size=1, max_size=4))
def test_damaged_image_is_decoded_or_refused(suffix: str, edits: list):
    content = mutated(SEEDS[suffix], edits)
    header = read_header(content)
    assert header is None or min(header.width, header.height) > 0
    try:
        image = decode_image(content)
    except DataError:
        return
    assert (image.dtype, image.shape[2]) == (np.uint8, 3)


@settings(max_examples=200, deadline=1000)
@given(
    st.sampled_from([seed[:12] for seed in SEEDS.values()] + [b"GIF89a", b"MM\0+"]), st.binary(max_size=400)
)
def test_header_of_random_bytes_is_no_error(start: bytes, rest: bytes):
    assert isinstance(read_header(start + rest), (ImageHeader, type(None)))


def patched(suffix: str, offset: int, form: str, *values: int) -> bytes:
    content = bytearray(encode(suffix, PIXELS))
    struct.pack_into(form, content, offset, *values)
    return bytes(content)


def patched_at(suffix: str, mark: bytes, offset: int, form: str, *values: int) -> bytes:
    return patched(suffix, encode(suffix, PIXELS).index(mark) + offset, form, *values)


BOMBS: Dict[str, Callable[[], bytes]] = {
    "png": lambda: png_of_size(10**6, 1000),
    "jpeg": lambda: patched_at(".jpg", b"\xff\xc0", 5, ">HH", 65000, 65000),
    "tiff": lambda: tiff(bytes(100), 8, 60000, 60000),
    "bmp": lambda: patched(".bmp", 18, "<ii", 60000, -60000),
    "gif": lambda: gif(60000, 60000, 1),
    "webp": lambda: patched_at(".webp", b"VP8L", 9, "<I", 16383 | 16383 << 14),
    "jp2": lambda: patched_at(".jp2", b"\xff\x4f\xff\x51", 8, ">II", 60000, 60000),
    "ppm": lambda: b"P6 60000 60000 255\n" + bytes(100),
}


@pytest.mark.parametrize("name", BOMBS)
def test_image_bomb_is_refused_before_memory_is_taken(name: str):
    content = BOMBS[name]()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"the limit is 100 megapixels\. Set ADQ_EDGE_MAX_MEGAPIXELS"):
        decode_image(content)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB


def test_limit_can_be_changed(monkeypatch: pytest.MonkeyPatch):
    large = encode(".png", np.zeros((1100, 1000), np.uint8))
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "1")
    with pytest.raises(DataError, match="image of 1000x1100 pixels, the limit is 1 megapixels"):
        decode_image(large)
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "2")
    assert decode_image(large).shape == (1100, 1000, 3)
    monkeypatch.setenv(MAX_MEGAPIXELS_VARIABLE, "many")
    with pytest.raises(AdqError, match="ADQ_EDGE_MAX_MEGAPIXELS: is 'many'"):
        decode_image(large)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tiff(bytes(64), 8, 8, 8, pages=3), "TIFF file with several pages or frames"),
        (gif(8, 8, 2), "GIF file with several"),
        (animated_webp(encode(".webp", np.zeros((8, 8, 3), np.uint8)), 2), "WebP file with several"),
        (with_png_chunk(SEEDS[".png"], b"acTL", struct.pack(">II", 5, 0)), "PNG file with several"),
        (tiff(bytes(256), 8, 8, 8, channels=4, photometric=5), "TIFF file in CMYK"),
        (patched_at(".jpg", b"\xff\xc0", 9, ">B", 4), "JPEG file in CMYK"),
        (patched_at(".jpg", b"\xff\xc0", 4, ">B", 12), "12-bit JPEG file"),
        (tiff(bytes(512), 8, 8, 8, channels=8), "TIFF file with 8 channels"),
        (tiff(bytes(range(128)), 16, 8, 8, photometric=0), "16-bit TIFF file where white is 0"),
        (tiff(bytes(384), 16, 8, 8, 3, 2, t284=2), "a plane for each color"),
        (tiff(bytes(256), 16, 8, 8, 2), "16-bit TIFF file with two channels"),
        (tiff(bytes(64), 8, 8, 8, t339=2), "signed samples have no known scale"),
        (tiff(bytes(range(256)), 8, 8, 8, 4, 2, t338=2), "a transparent part"),
    ],
)
def test_image_of_an_unsupported_kind_is_refused(content: bytes, message: str):
    with pytest.raises(DataError, match=message):
        decode_image(content)


def test_opaque_tiff_with_alpha_is_read_as_without():
    colors = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    opaque = np.dstack([colors, np.full((8, 8), 255, np.uint8)])
    np.testing.assert_array_equal(decode_image(tiff(opaque.tobytes(), 8, 8, 8, 4, 2, t338=2)), colors)


@pytest.mark.skipif(not cv2.haveImageWriter(".avif"), reason="this OpenCV writes no AVIF")
def test_turned_avif_is_refused():
    """OpenCV does not turn it, as it does with JPEG and PNG; the box of the sample depth becomes `irot`."""
    with pytest.raises(DataError, match="turned or mirrored by its header"):
        decode_image(encode(".avif", np.zeros((32, 48, 3), np.uint8)).replace(b"pixi", b"irot"))


def test_end_mark_of_a_thumbnail_or_second_jpeg_does_not_hide_a_truncated_image():
    """Some OpenCV releases fill the missing part with gray."""
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8), (200, 160))
    whole, other = encode(".jpg", image), encode(".jpg", image[:16, :16])
    comment = b"\xff\xfe" + struct.pack(">H", len(other) + 2) + other
    expected = decode_image(whole)
    with_thumbnail = whole[:2] + comment + whole[2:]
    for content in (with_thumbnail, whole + other, with_thumbnail + bytes(100) + other):
        np.testing.assert_array_equal(decode_image(content), expected)
    half = len(whole) // 2
    for content in (with_thumbnail[:-half], with_thumbnail[:-1], whole[:half] + other, whole[:half]):
        with pytest.raises(DataError, match=r"not a readable image\."):
            decode_image(content)


@given(st.integers(1, 100), st.sampled_from([0, 1, 7]), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_every_whole_jpeg_is_read(quality: int, restart: int, progressive: bool, optimize: bool):
    rng = np.random.default_rng(quality)
    image = rng.integers(0, rng.integers(2, 256), (*rng.integers(1, 70, 2), 3)).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_RST_INTERVAL, restart]
    options += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(progressive), cv2.IMWRITE_JPEG_OPTIMIZE, int(optimize)]
    content = cv2.imencode(".jpg", image, options)[1].tobytes()
    assert decode_image(content + b"data of a camera").shape == image.shape


def test_thumbnail_is_no_second_page():
    page = tiff(bytes(range(64)), 8, 8, 8, pages=2, t254=0)
    assert read_header(page).frames == 2
    second = page.index(struct.pack("<HHII", 254, 4, 1, 0), 200)
    content = page[: second + 8] + struct.pack("<I", 1) + page[second + 12 :]
    assert read_header(content).frames == 1
    np.testing.assert_array_equal(decode_image(content)[:, :, 0].ravel(), np.arange(64))
