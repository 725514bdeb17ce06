"""Sinks that write files: what others have written is never cut, replaced or deleted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adq_edge.core.errors import StorageError
from adq_edge.station.events import Message
from adq_edge.station.sinks.images import ImageOptions, ImageSink
from adq_edge.station.sinks.json_lines import JsonLinesOptions, JsonLinesSink
from factories.station_parts import message, record_of


@pytest.mark.parametrize(
    "content", [b"a,b,c\n1,2", b"notes without an end", b"\x08\x0aadq-edge\x12\n\0", b'{"a": 1}\n{"a": 2']
)
def test_file_of_another_program_is_refused_and_stays(tmp_path: Path, content: bytes):
    path = tmp_path / "file"
    path.write_bytes(content)
    sink = JsonLinesSink("log", JsonLinesOptions(path))
    for use in (sink.check, sink.open):
        with pytest.raises(StorageError, match="exists and holds no verdicts"):
            use()
    assert path.read_bytes() == content


@pytest.mark.parametrize("rest", [b"", b'{"image": "a.p'])
def test_own_file_goes_on_behind_its_last_whole_line(tmp_path: Path, rest: bytes):
    path = tmp_path / "file"
    for number in (1, 2):
        sink = JsonLinesSink("log", JsonLinesOptions(path))
        sink.check()
        sink.open()
        assert sink.send([message(1), message(number)]) == 2
        sink.close()
        path.write_bytes(path.read_bytes() + rest)
    whole = path.read_bytes()[: len(path.read_bytes()) - len(rest)]
    assert [json.loads(line)["sequence"] for line in whole.splitlines()] == [1, 1, 2]


def test_limit_of_the_images_deletes_no_file_of_others(tmp_path: Path):
    others = [
        tmp_path / "2020-01-01" / "session" / "photo.jpg",
        tmp_path / "2020-01-01" / "defective" / "cam1-top-000000001.png",
        tmp_path / "2020-01-01" / "list.txt",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(20_000))
    sink = ImageSink("rejects", ImageOptions(tmp_path, max_mb=0.005))
    sink.open()
    for number in range(1, 21):
        record = {**record_of(number, verdict="defective"), "id": f"1a2b3c4d5-top-{number:09}"}
        sink.send([Message(number, record, json.dumps(record))])
    assert all(path.exists() for path in others)
    kept = sorted(path.name for path in tmp_path.glob("2026-*/defective/*.json"))
    assert 0 < len(kept) < 20
    assert kept[-1] == "1a2b3c4d5-top-000000020.json"
