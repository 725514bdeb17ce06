from __future__ import annotations

import contextlib
import re
import struct
from typing import Dict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import CalibrationError
from adq_edge.quantization.calibration_cache import (
    CalibrationAlgorithm,
    read_calibration_cache,
    write_calibration_cache,
)

ENTROPY = CalibrationAlgorithm.ENTROPY_2

# --- cache: writing ----------------------------------------------------------------------------


def test_cache_is_exact_to_the_byte():
    text = write_calibration_cache({"x": 1.0, "a:b/c": 15.875}, "8.5.2.2", ENTROPY)
    assert text == b"TRT-8502-EntropyCalibration2\nx: 3c010204\na:b/c: 3e000000\n"


@pytest.mark.parametrize(
    ("version", "number"),
    [
        ("8.5.2", 8502),
        ("8.5.2.2", 8502),
        ("8.6.1", 8601),
        ("8.6.1.post1", 8601),
        ("10.3.0", 100300),
        ("10.13.0.35", 101300),
        ("10.14.1.48", 101401),
    ],
)
@pytest.mark.parametrize("algorithm", list(CalibrationAlgorithm))
def test_header_has_version_and_algorithm(version: str, number: int, algorithm: CalibrationAlgorithm):
    header = write_calibration_cache({"x": 1.0}, version, algorithm).split(b"\n")[0].decode()
    assert header == f"TRT-{number}-{algorithm.value}"
    cache = write_calibration_cache({"x": 1.0}, version, algorithm)
    assert read_calibration_cache(cache) == {"x": pytest.approx(1.0)}


names = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(names, st.floats(1e-35, 1e38), min_size=1))
def test_cache_round_trip(ranges: Dict[str, float]):
    text = write_calibration_cache(ranges, "8.5.2", ENTROPY)
    cache = read_calibration_cache(text)
    assert list(cache) == list(ranges)
    for name, amax in ranges.items():
        assert cache[name] == pytest.approx(amax, rel=2.0**-24)
    assert write_calibration_cache(cache, "8.5.2", ENTROPY) == text


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(names, st.floats(1e-35, 1e38), min_size=1))
def test_reader_of_tensorrt_finds_the_same_ranges(ranges: Dict[str, float]):
    """The loop of sampleEngines.cpp: the value is the 8 digits after the last colon."""
    lines = write_calibration_cache(ranges, "8.5.2", ENTROPY).decode().split("\n")[1:-1]
    read = {}
    for line in lines:
        colon = line.rfind(":")
        digits = int(line[colon + 2 : colon + 2 + 8], 16)
        read[line[:colon]] = 127 * struct.unpack("<f", struct.pack("<I", digits))[0]
    assert read == read_calibration_cache(write_calibration_cache(ranges, "8.5.2", ENTROPY))


@pytest.mark.parametrize("amax", [0.0, -1.0, np.nan, np.inf, 1e-44, 1e-37 / 127, 1e41])
def test_amax_without_a_normal_float32_scale_is_refused(amax: float):
    with pytest.raises(CalibrationError, match=r"impossible amax .* of 'x'"):
        write_calibration_cache({"y": 1.0, "x": amax}, "8.5.2", ENTROPY)


@pytest.mark.parametrize("name", ["", "a\nb"])
def test_tensor_name_that_breaks_the_format_is_refused(name: str):
    with pytest.raises(CalibrationError, match="cannot contain the tensor name"):
        write_calibration_cache({name: 1.0}, "8.5.2", ENTROPY)


def test_empty_ranges_and_malformed_versions_are_refused():
    with pytest.raises(CalibrationError, match="no ranges"):
        write_calibration_cache({}, "8.5.2", ENTROPY)
    with pytest.raises(CalibrationError, match=r"version '8\.5' is not of the form 8\.5\.2"):
        write_calibration_cache({"x": 1.0}, "8.5", ENTROPY)


# --- cache: reading ----------------------------------------------------------------------------

HEADER = b"TRT-8502-EntropyCalibration2\n"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not a calibration cache: starts with ''"),
        (b"\x89PNG\r\n\x1a\n\xff", "not a calibration cache: not text"),
        (b'{"schema": "adq-edge/ranges"}\n', "not a calibration cache: starts with '{"),
        (b"TRT-8502-EntropyCalibration2\r\nx: 3c010204\r\n", "not a calibration cache"),
        (b"TRT--EntropyCalibration2\nx: 3c010204\n", "not a calibration cache"),
        (
            b"TRT-8502-LegacyCalibration\nx: 3c010204\n",
            "not a calibration cache: starts with 'TRT-8502-L",
        ),
        (HEADER[:-1], "is truncated"),
        (HEADER, "is truncated"),
        (HEADER + b"x: 3c010204", "is truncated"),
        (HEADER + b"x: 3c0102\n", "line 2 .* is not a name and 8 hexadecimal digits"),
        (HEADER + b"x: 3c010204\ny: 0\n", "line 3 .* is not a name and 8 hexadecimal digits"),
        (HEADER + b"x: 3c01020g\n", "line 2 .* is not"),
        (HEADER + b"x: 0x3c0102\n", "line 2 .* is not"),
        (HEADER + b"x: 3c0102045\n", "line 2 .* is not"),
        (HEADER + b"x 3c010204\n", "line 2 .* is not"),
        (HEADER + b": 3c010204\n", "line 2 .* is not"),
        (HEADER + b"\nx: 3c010204\n", "line 2 .* is not"),
        (HEADER + b"x: 3c010204\n\n", "line 3 .* is not"),
        (HEADER + b"x: 3c010204\ny: 3c010204\nx: 3c010205\n", "contains 'x' twice"),
        (HEADER + b"x: 7fc00000\n", "gives 'x' the scale nan"),
        (HEADER + b"x: 7f800000\n", "gives 'x' the scale inf"),
        (HEADER + b"x: bc010204\n", "gives 'x' the scale -0.007"),
        (HEADER + b"x: 00000000\n", "gives 'x' the scale 0"),
        (HEADER + b"x: 80000000\n", "gives 'x' the scale -0"),
        (HEADER + b"x: 00000001\n", "gives 'x' the scale 1.4013e-45"),
    ],
)
def test_malformed_cache_is_refused(data: bytes, complaint: str):
    with pytest.raises(CalibrationError, match=complaint) as caught:
        read_calibration_cache(data)
    assert "\n" not in str(caught.value)


def test_cache_written_by_tensorrt_is_read():
    text = HEADER + b"(Unnamed Layer* 22) [Constant]_output: 3C010204\nx: 3e000000\n"
    cache = read_calibration_cache(text)
    assert cache == {"(Unnamed Layer* 22) [Constant]_output": pytest.approx(1.0), "x": 15.875}


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(), st.binary().map(lambda tail: HEADER + tail), st.text().map(str.encode)))
def test_any_bytes_are_read_or_refused(data: bytes):
    with contextlib.suppress(CalibrationError):
        assert all(0 < amax < np.inf for amax in read_calibration_cache(data).values())


def test_cache_cut_within_a_line_is_refused():
    text = write_calibration_cache({"x": 1.0, "a: 3c010204": 2.0, "y": 3.0}, "8.5.2", ENTROPY)
    read = []
    for length in range(len(text)):
        with contextlib.suppress(CalibrationError):
            read_calibration_cache(text[:length])
            read.append(length)
    ends = [match.end() for match in re.finditer(b"\n", text)]
    assert read == ends[1:-1]  # a cut between two lines cannot be detected
