"""Reads the header of an encoded image: size, sample format and number of frames, before memory is taken.

The formats are PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, AVIF and PNM. Pixels are decoded elsewhere.
"""

from __future__ import annotations

import dataclasses
import struct
from typing import Callable, Dict, Iterator, List, Optional, Set, Tuple

_MAX_PAGES = 1000
_MAX_BLOCKS = 1_000_000
_PNG_CHANNELS = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_TIFF_TYPES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_TIFF_REDUCED, _TIFF_MASK = 1, 4
_STRAIGHT_ALPHA = 2


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file states.

    Attributes:
        format: name of the file format.
        width: width in pixels, 1 or more.
        height: height in pixels, 1 or more.
        channels: number of channels, alpha included.
        bits: bits of a stored sample.
        kind: "unsigned", "signed" or "float".
        max_value: the largest value that a sample can have, if the file states it and it is not the largest
            value of the stored type. A 12-bit camera's is 4095.
        padded_bits: bits of the camera as a PNG's sBIT chunk states them, for 16-bit samples. Some tools
            shift the samples to 16 bits, others do not.
        frames: number of pages or animation frames, without thumbnails.
        has_alpha: True if there is an alpha channel.
        is_lossy: True if decoded levels differ from those that were saved.
        color: "CMYK", "white is 0", or "" for gray and RGB.
        misread: a feature that OpenCV reads as other pixels, without an error; "" for none.
        multiplies_alpha: True if OpenCV multiplies the colors by the alpha, which other formats do not.
        content_end: size in bytes of the whole file, if the header states it; 0 otherwise.
        pixels_start: offset behind which the pixels of a JPEG begin; its thumbnail lies before it.
        unused: start and end of each PNG chunk before the pixels that does not change them, such as a text.
    """

    format: str
    width: int
    height: int
    channels: int = 3
    bits: int = 8
    kind: str = "unsigned"
    max_value: Optional[int] = None
    padded_bits: Optional[int] = None
    frames: int = 1
    has_alpha: bool = False
    is_lossy: bool = False
    color: str = ""
    misread: str = ""
    multiplies_alpha: bool = False
    content_end: int = 0
    pixels_start: int = 0
    unused: Tuple[Tuple[int, int], ...] = ()


def read_header(content: bytes) -> Optional[ImageHeader]:
    """Return the header of an encoded image; None if it is damaged or of an unsupported format."""
    for reader, starts in _READERS.items():
        if content.startswith(starts):
            try:
                header = reader(content)
            except (struct.error, IndexError, KeyError, OverflowError, ValueError):
                return None
            return header if header is not None and min(header.width, header.height) > 0 else None
    return _read_avif(content) if content[4:8] == b"ftyp" else None


def _unpack(form: str, content: bytes, offset: int) -> Tuple[int, ...]:
    if offset < 0:
        raise ValueError("negative offset")
    return struct.unpack_from(form, content, offset)


def _read_png(content: bytes) -> Optional[ImageHeader]:
    width, height, bits, color_type = _unpack(">IIBB", content, 16)
    frames, significant, transparent = 1, None, False
    unused: List[Tuple[int, int]] = []
    for name, start, length in _png_chunks(content):
        if name == b"sBIT":
            significant = max(content[start : start + length])
        elif name == b"acTL":
            frames = _unpack(">I", content, start)[0]
        elif name == b"tRNS":
            transparent = True
        if name[:1].islower() and name not in (b"tRNS", b"eXIf"):
            unused.append((start - 8, start + length + 4))
    return ImageHeader(
        "PNG",
        width,
        height,
        _PNG_CHANNELS[color_type],
        bits,
        padded_bits=significant if bits == 16 and significant is not None and 8 <= significant < 16 else None,
        frames=max(1, frames),
        has_alpha=color_type in (4, 6) or transparent,
        unused=tuple(unused),
    )


def _png_chunks(content: bytes) -> Iterator[Tuple[bytes, int, int]]:
    """Yield the name, start and length of each chunk before the pixels."""
    offset = 8
    for _ in range(_MAX_BLOCKS):
        (length,) = _unpack(">I", content, offset)
        name = content[offset + 4 : offset + 8]
        if name == b"IDAT":
            return
        yield name, offset + 8, length
        offset += 12 + length


def _read_jpeg(content: bytes) -> Optional[ImageHeader]:
    offset = 2
    for _ in range(_MAX_BLOCKS):
        mark, length = _unpack(">HH", content, offset)
        if mark == 0xFFFF:  # a fill byte
            offset += 1
            continue
        if mark < 0xFFC0 or length < 2:
            return None
        if mark <= 0xFFCF and mark not in (0xFFC4, 0xFFC8, 0xFFCC):
            bits, height, width, channels = _unpack(">BHHB", content, offset + 4)
            color = "CMYK" if channels == 4 else ""
            return ImageHeader(
                "JPEG", width, height, channels, bits, color=color, is_lossy=True, pixels_start=offset
            )
        offset += 2 + length
    return None


def _read_bmp(content: bytes) -> Optional[ImageHeader]:
    (size,) = _unpack("<I", content, 14)
    if size == 12:
        width, height, _, bits = _unpack("<HHHH", content, 18)
    else:
        width, height, _, bits = _unpack("<iiHH", content, 18)
    return ImageHeader("BMP", width, abs(height), 4 if bits == 32 else 3, has_alpha=bits == 32)


def _read_gif(content: bytes) -> Optional[ImageHeader]:
    width, height, flags = _unpack("<HHB", content, 6)
    offset, frames = 13 + _gif_palette(flags), 0
    for _ in range(_MAX_BLOCKS):
        kind = content[offset]
        if kind == 0x3B:
            return ImageHeader("GIF", width, height, frames=frames)
        if kind not in (0x21, 0x2C):
            return None
        frames += kind == 0x2C
        offset += 11 + _gif_palette(content[offset + 9]) if kind == 0x2C else 2
        offset = _gif_data_end(content, offset)
    return None


def _gif_data_end(content: bytes, offset: int) -> int:
    """Return the offset behind a chain of data blocks."""
    for _ in range(_MAX_BLOCKS):
        length = content[offset]
        offset += 1 + length
        if not length:
            return offset
    raise ValueError("too many blocks")


def _gif_palette(flags: int) -> int:
    """Return the size of a color table in bytes."""
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _read_webp(content: bytes) -> Optional[ImageHeader]:
    if content[8:12] != b"WEBP":
        return None
    kind, end = content[12:16], 8 + _unpack("<I", content, 4)[0]
    if kind == b"VP8 ":
        width, height = (size & 0x3FFF for size in _unpack("<HH", content, 26))
        return ImageHeader("WebP", width, height, is_lossy=True, content_end=end)
    if kind == b"VP8L":
        (packed,) = _unpack("<I", content, 21)
        width, height, alpha = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF), bool(packed >> 28 & 1)
        return ImageHeader("WebP", width, height, 4 if alpha else 3, has_alpha=alpha, content_end=end)
    if kind != b"VP8X":
        return None
    flags, width, height = content[20], *_three_bytes(content, 24)
    alpha, animated = bool(flags & 0x10), bool(flags & 2)
    frames = content.count(b"ANMF") if animated else 1
    return ImageHeader(
        "WebP",
        width,
        height,
        4 if alpha else 3,
        frames=frames,
        has_alpha=alpha,
        is_lossy=b"VP8L" not in content,
        content_end=end,
    )


def _three_bytes(content: bytes, offset: int) -> Tuple[int, int]:
    """Return two 24-bit numbers, plus 1."""
    first, second = content[offset : offset + 3], content[offset + 3 : offset + 6]
    if len(second) < 3:
        raise ValueError("too short")
    return 1 + int.from_bytes(first, "little"), 1 + int.from_bytes(second, "little")


def _read_pnm(content: bytes) -> Optional[ImageHeader]:
    kind = content[1:2]
    wanted = 3 if kind in b"14" else 4
    words = _pnm_words(content[:4096], wanted)
    width, height = int(words[1]), int(words[2])
    largest = 1 if wanted == 3 else int(words[3])
    if not 0 < largest < 65536:
        return None
    bits = 16 if largest > 255 else 8
    # OpenCV scales the numbers of a text file to 255 itself, if its maximum is lower.
    is_scaled = wanted == 3 or (kind in b"23" and largest < 256)
    stated = None if is_scaled or largest in (255, 65535) else largest
    return ImageHeader("PNM", width, height, 3 if kind in b"36" else 1, bits, max_value=stated)


def _pnm_words(text: bytes, count: int) -> List[bytes]:
    """Return the first words of a PNM header; a comment runs from # to the end of its line."""
    lines = (line.split(b"#")[0] for line in text.splitlines())
    words = [word for line in lines for word in line.split()]
    if len(words) < count:
        raise ValueError("too short")
    return words[:count]


def _read_jpeg_2000(content: bytes) -> Optional[ImageHeader]:
    start = 0 if content.startswith(b"\xff\x4f") else content.find(b"\xff\x4f\xff\x51")
    right, bottom, left, top = _unpack(">IIII", content, start + 8)
    channels, depth = _unpack(">HB", content, start + 40)
    bits = (depth & 0x7F) + 1
    return ImageHeader(
        "JPEG 2000",
        right - left,
        bottom - top,
        channels,
        8 if bits <= 8 else 16,
        kind="signed" if depth & 0x80 else "unsigned",
        max_value=(1 << bits) - 1 if 8 < bits < 16 else None,
        has_alpha=channels in (2, 4),
    )


def _read_avif(content: bytes) -> Optional[ImageHeader]:
    """Read the largest image of an AVIF file, and the depth of its channels."""
    if content[8:12] not in (b"avif", b"avis"):
        return None
    sizes: List[Tuple[int, ...]] = []
    offset = content.find(b"ispe")
    while offset >= 0 and len(sizes) < _MAX_PAGES:
        if offset + 16 <= len(content):
            sizes.append(_unpack(">II", content, offset + 8))
        offset = content.find(b"ispe", offset + 4)
    if not sizes:
        return None
    width, height = max(size[0] for size in sizes), max(size[1] for size in sizes)
    turned = any(0 <= content.find(name) < content.find(b"mdat") for name in (b"irot", b"imir"))
    depth = content.find(b"pixi")
    bits = content[depth + 9] if 0 <= depth < len(content) - 9 else 8
    if min(width, height) < 1:
        return None
    return ImageHeader(
        "AVIF",
        width,
        height,
        bits=8 if bits <= 8 else 16,
        max_value=(1 << bits) - 1 if 8 < bits < 16 else None,
        frames=2 if content[8:12] == b"avis" else 1,
        has_alpha=b"auxC" in content,
        is_lossy=True,
        misread="turned or mirrored by its header" if turned else "",
    )


def _read_tiff(content: bytes) -> Optional[ImageHeader]:
    order = "<" if content[:2] == b"II" else ">"
    big = _unpack(order + "H", content, 2)[0] == 43
    pages = [tags for tags in _tiff_pages(content, order, big) if not _is_thumbnail(tags)]
    if not pages:
        return None
    tags = pages[0]
    bits = max(tags.get(258, (1,)))
    channels = tags.get(277, (1,))[0]
    return ImageHeader(
        "TIFF",
        tags[256][0],
        tags[257][0],
        channels,
        bits,
        kind={1: "unsigned", 2: "signed", 3: "float"}.get(max(tags.get(339, (1,))), "unknown"),
        max_value=_stated_maximum(max(tags.get(281, (0,))), bits),
        frames=len(pages),
        has_alpha=channels in (2, 4),
        is_lossy=tags.get(259, (1,))[0] in (6, 7),
        color={0: "white is 0", 5: "CMYK"}.get(tags.get(262, (1,))[0], ""),
        misread=_misread_tiff(channels, bits, is_planar=tags.get(284, (1,))[0] == 2),
        multiplies_alpha=bits == 8 and channels == 4 and tags.get(338, (0,))[0] == _STRAIGHT_ALPHA,
    )


def _misread_tiff(channels: int, bits: int, is_planar: bool) -> str:
    """Return what OpenCV misreads in a TIFF of these channels and bits; "" for nothing."""
    if bits > 8 and channels > 1 and is_planar:
        return "with a plane for each color (PlanarConfiguration 2)"
    return "with two channels" if bits > 8 and channels == 2 else ""


def _stated_maximum(value: int, bits: int) -> Optional[int]:
    """Return the largest value of a TIFF's decoded samples, if the file states it.

    OpenCV shifts packed samples of 10, 12 and 14 bits to 16 bits. MaxSampleValue counts only if it is that of
    9 to 15 bits: other values are often the maximum of the one image.
    """
    if 8 < bits < 16:
        return ((1 << bits) - 1) << (16 - bits)
    return value if bits == 16 and value in {(1 << depth) - 1 for depth in range(9, 16)} else None


def _is_thumbnail(tags: Dict[int, Tuple[int, ...]]) -> bool:
    return bool(tags.get(254, (0,))[0] & (_TIFF_REDUCED | _TIFF_MASK)) or tags.get(255, (1,))[0] == 2


def _tiff_pages(content: bytes, order: str, big: bool) -> Iterator[Dict[int, Tuple[int, ...]]]:
    """Yield the integer tags of each page."""
    link, count_form, entry_size = ("Q", "Q", 20) if big else ("I", "H", 12)
    seen: Set[int] = set()
    (offset,) = _unpack(order + link, content, 8 if big else 4)
    while offset and offset not in seen and len(seen) < _MAX_PAGES:
        seen.add(offset)
        (count,) = _unpack(order + count_form, content, offset)
        start = offset + struct.calcsize(count_form)
        if count > 4096:
            raise ValueError("too many tags")
        yield dict(_tiff_tag(content, start + number * entry_size, order, big) for number in range(count))
        (offset,) = _unpack(order + link, content, start + count * entry_size)


def _tiff_tag(content: bytes, offset: int, order: str, big: bool) -> Tuple[int, Tuple[int, ...]]:
    """Return the number of a tag and its first values, up to 8; no value unless they are integers."""
    tag, form = _unpack(order + "HH", content, offset)
    (count,) = _unpack(order + ("Q" if big else "I"), content, offset + 4)
    letter, place, room = _TIFF_TYPES.get(form), offset + (12 if big else 8), 8 if big else 4
    if letter is None or not count:
        return tag, (0,)
    if count * struct.calcsize(letter) > room:
        (place,) = _unpack(order + ("Q" if big else "I"), content, place)
    return tag, _unpack(f"{order}{min(count, 8)}{letter}", content, place)


_READERS: Dict[Callable[[bytes], Optional[ImageHeader]], Tuple[bytes, ...]] = {
    _read_png: (b"\x89PNG\r\n\x1a\n",),
    _read_jpeg: (b"\xff\xd8\xff",),
    _read_tiff: (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    _read_bmp: (b"BM",),
    _read_webp: (b"RIFF",),
    _read_gif: (b"GIF87a", b"GIF89a"),
    _read_jpeg_2000: (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    _read_pnm: tuple(b"P" + digit for digit in (b"1", b"2", b"3", b"4", b"5", b"6")),
}
