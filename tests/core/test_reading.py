from __future__ import annotations

import json
import os
import socket
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.core.errors import StorageError
from adq_edge.core.reading import DEEPEST_JSON, parse_json, read_regular, with_tuples

SCALAR = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=5)
VALUE = st.recursive(
    SCALAR | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
)


@given(VALUE)
def test_json_is_read_as_written_with_tuples_for_lists(value: object):
    assert parse_json(json.dumps(value).encode()) == with_tuples(value)
    assert not isinstance(parse_json(json.dumps([value]).encode()), list)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_a_value_error(content: bytes):
    try:
        parse_json(content)
    except ValueError as error:
        reason = str(error)
    else:
        return
    assert len(reason) < 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        ('{"a": 1}'.encode("utf-16"), "UTF-16 text; save it as UTF-8"),
        (b'{"a": NaN}', "NaN is not a finite number"),
        (b"[-Infinity]", "-Infinity is not a finite number"),
        (b"[1e999]", "1e999 is not a finite number"),
        (b"[1" + b"0" * 100_000 + b"]", "too large for an integer"),
        (b"[-9223372036854775809]", "too large for an integer"),
        (b'{"a": {"b": 1, "b": 2}}', "the key 'b' twice"),
        (b"[" * 900 + b"]" * 900, "inside each other"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, "inside each other"),
        (b"[" * 10**5 + b"]" * 10**5, "inside each other"),
        (b"[" + b"[]," * 2**20 + b"[]]", "more than a million lists"),
        (b"[" + b"1," * 2_000_001 + b"1]", "more than two million values"),
        (b'{"\xff": 1}', "can't decode byte 0xff"),
    ],
)
def test_json_beyond_the_limits_is_refused_with_the_reason(content: bytes, reason: str):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_json(content)
    assert len(str(caught.value)) < 200


def test_json_with_a_byte_order_mark_and_of_the_allowed_depth_is_read():
    assert parse_json(b"\xef\xbb\xbf[1]") == (1,)
    value = parse_json(b"[" * DEEPEST_JSON + b"]" * DEEPEST_JSON)
    for _ in range(DEEPEST_JSON - 1):
        (value,) = value
    assert value == ()


def test_reading_takes_memory_for_the_file_and_not_for_the_limit(tmp_path: Path):
    (tmp_path / "small").write_bytes(b"12345")
    tracemalloc.start()
    try:
        assert read_regular(tmp_path / "small", 2**30) == b"12345"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_only_regular_files_within_the_size_are_read(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(StorageError, match="a file of this kind has at most"):
        read_regular(tmp_path / "file", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), tmp_path / "socket"):
            with pytest.raises(StorageError, match=r"not a regular file|no such device"):
                read_regular(path, 5)
    with pytest.raises(StorageError, match=r"is a folder, not a file\. Name a file"):
        read_regular(tmp_path, 5)
    for path in (tmp_path / "loop", tmp_path / "none", tmp_path / ("x" * 300), Path("a\0b")):
        with pytest.raises(StorageError):
            read_regular(path, 5)
