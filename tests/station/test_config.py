"""The station file and `run --check`: each mistake is one line with what, where and what to do."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path
from typing import Any, Dict, List

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import AdqError, StorageError
from adq_edge.station.conditions import Conditions
from adq_edge.station.config import parse_config, read_config
from adq_edge.station.engines import open_inspector
from adq_edge.station.options import EngineOptions, StoreOptions
from adq_edge.station.sources.base import Source
from adq_edge.station.store import Store, check_store
from adq_edge.station.tables import Place
from factories.command_line import run_cli
from factories.parts import write_fitted_engine, write_part
from factories.paths import REPOSITORY
from factories.stations import HAS_TOML
from factories.tiny_engine import write_engine

needs_toml = pytest.mark.skipif(not HAS_TOML, reason="Python reads TOML since 3.11")

GOOD = """
[engines.parts]
file = "engines/parts.onnx"
[sources.inbox]
type = "folder"
folder = "inbox"
[sinks.log]
type = "json-lines"
file = "log.jsonl"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    write_fitted_engine(folder)
    write_engine(folder / "engines" / "unfitted.onnx")
    write_part(folder / "inbox" / "a.png", "bolt", 1)
    write_part(folder / "inbox" / "b.png", "nut", 2, is_defective=True)
    return folder


CAMERA = {"top": {"type": "camera", "device": 0}}


def document(**tables: Any) -> Dict[str, Any]:
    return {
        "engines": {"parts": {"file": "engines/parts.onnx"}},
        "sources": {"inbox": {"type": "folder", "folder": "inbox"}},
        **tables,
    }


MISTAKES = {
    "unknown table": (document(sink={}), ["unknown key 'sink'", "Did you mean sinks?"]),
    "unknown key": (
        document(sources={"inbox": {"type": "folder", "folder": "in", "deadline": 5}}),
        ["[sources.inbox]", "unknown key 'deadline'", "Did you mean deadline_ms?"],
    ),
    "unknown kind": (document(sinks={"x": {"type": "mqqt"}}), ["[sinks.x]", "no sink named 'mqqt'"]),
    "no kind": (document(sinks={"x": {}}), ["[sinks.x]", "lacks the key 'type'", "json-lines"]),
    "missing key": (document(sources={"in": {"type": "folder"}}), ["[sources.in]", "lacks the key 'folder'"]),
    "wrong type": (
        document(store={"keep_days": "thirty"}),
        ["[store]", "keep_days is not a number: 'thirty'"],
    ),
    "true is no number": (document(store={"max_mb": True}), ["max_mb is not a number: True"]),
    "out of range": (document(store={"max_mb": -1}), ["max_mb is -1, not above 0"]),
    "no choice": (
        document(sources={"in": {"type": "folder", "folder": "x", "policy": "oldest"}}),
        ["policy is 'oldest', not one of 'newest', 'wait'"],
    ),
    "no verdict": (
        document(sinks={"x": {"type": "json-lines", "file": "x", "verdicts": ["bad"]}}),
        ["verdicts has 'bad', not one of good, defective"],
    ),
    "no such source": (
        document(sinks={"x": {"type": "json-lines", "file": "x", "sources": ["top"]}}),
        ["no source named 'top'", "Sources: inbox"],
    ),
    "no such engine": (
        document(sources={"in": {"type": "folder", "folder": "x", "engine": "bolts"}}),
        ["no engine named 'bolts'", "Set engine to one of: parts"],
    ),
    "no engine": ({"sources": {}}, ["has no engine", "[engines.NAME]"]),
    "no source": ({**document(), "sources": {}}, ["has no source", "[sources.NAME]"]),
    "a list": (document(sources=[]), ["sources is not a table", "Write [sources.NAME]"]),
    "a name": (document(sinks={"a/b": {"type": "images"}}), ["'a/b' is not a possible name"]),
    "a variable": (
        document(sinks={"x": {"type": "json-lines", "file": "${ADQ_NO_SUCH}"}}),
        ["file needs the environment variable ADQ_NO_SUCH, which is not set"],
    ),
    "no such camera": (
        document(sources={"button": {"type": "stdin", "camera": "tpo"}, **CAMERA}),
        ["[sources.button]", "no camera named 'tpo'", "Set camera to one of: top"],
    ),
    "a trigger of no camera": (
        document(sources={"button": {"type": "http", "camera": "in"}, "in": {"type": "calls"}}),
        ["no camera named 'in'", 'Add [sources.NAME] with type = "camera"'],
    ),
    "a negative number": (
        document(sources={"top": {"type": "camera", "device": -1}}),
        ["[sources.top]", "device is -1, not 0 or more"],
    ),
    "one camera twice": (
        document(sources={**CAMERA, "side": {"type": "camera", "device": "/dev/video0"}}),
        ["[sources.side]", "needs the camera /dev/video0, which [sources.top] has"],
    ),
    "one port twice": (
        document(web={"port": 4840}, sinks={"plc": {"type": "opcua"}}),
        ["needs port 4840, which [sinks.plc] has"],
    ),
    "one file twice": (
        document(
            sinks={"a": {"type": "json-lines", "file": "x"}, "b": {"type": "json-lines", "file": "./x"}}
        ),
        ["[sinks.b]", "needs the file ", "which [sinks.a] has"],
    ),
    "one folder twice": (
        document(sinks={"a": {"type": "images", "folder": "s"}}, store={"folder": "s"}),
        ["[sinks.a]", "needs the folder ", "which [store] has"],
    ),
    "files moved twice": (
        document(sources={name: {"type": "folder", "folder": "x", "after": "move"} for name in ("a", "b")}),
        ["[sources.b]", "needs the files of ", "which [sources.a] has"],
    ),
    "images judged again": (
        document(
            sources={"in": {"type": "folder", "folder": ".", "recursive": True}},
            sinks={"bad": {"type": "images", "folder": "rejects"}},
        ),
        ["[sinks.bad]", "writes images below ", "which [sources.in] watches"],
    ),
    "too high a rate": (
        document(engines={"e": {"file": "x", "false_rejects": 5}}),
        ["[engines.e]", "false_rejects is 5", "to below 100 %"],
    ),
    "a negative area": (
        document(engines={"e": {"file": "x", "min_area": "-1%"}}),
        ["[engines.e]", "min_area is '-1%', not 0 or more pixels"],
    ),
    "no threads": (document(engines={"e": {"file": "x", "threads": 0}}), ["threads is 0, not 1 to"]),
    "no runtime": (
        document(engines={"e": {"file": "x", "runtime": "onnx"}}),
        ["[engines.e]", "runtime is 'onnx', not one of onnxruntime, openvino"],
    ),
    "a secret": (
        document(sinks={"x": {"type": "webhook", "url": "http://a/", "secret": 12345}}),
        ["[sinks.x]: secret is not a text. Correct it."],
    ),
    "a header": (
        document(sinks={"x": {"type": "webhook", "url": "http://a/", "headers": {"X-Key": 12345}}}),
        ["[sinks.x]: headers.X-Key is not a text. Correct it."],
    ),
    "a rate": (
        document(engines={"e": {"file": "x", "false_rejects": "many"}}),
        ["false_rejects: 'many' is not a share"],
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_named_with_its_place_and_what_to_do(name: str, tmp_path: Path):
    values, parts = MISTAKES[name]
    with pytest.raises(AdqError) as caught:
        parse_config(values, Place("station.toml", tmp_path, ""))
    message = str(caught.value)
    assert message.startswith("station.toml: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda values: (
            st.lists(values, max_size=3)
            | st.dictionaries(st.sampled_from(["type", "folder", "file", "a", "device"]), values, max_size=4)
        ),
        max_leaves=12,
    ),
    st.sampled_from(["engines", "sources", "sinks", "store", "station"]),
)
def test_no_value_of_a_table_raises_anything_but_a_line(value: Any, table: str):
    with contextlib.suppress(AdqError):
        parse_config({**document(), table: value}, Place("station.toml", Path("/nowhere"), ""))


def test_paths_start_at_the_file_and_variables_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ADQ_FOLDER", "in 1")
    sources = {"inbox": {"type": "folder", "folder": "${ADQ_FOLDER}/x"}}
    config = parse_config(document(sources=sources), Place("station.toml", tmp_path, ""))
    assert config.sources["inbox"].source.options.folder == tmp_path / "in 1" / "x"
    assert config.engines["parts"].file == tmp_path / "engines" / "parts.onnx"
    assert config.store is not None
    assert config.store.folder == tmp_path / "station-store"
    assert config.sources["inbox"].options.engine == "parts"


@needs_toml
@pytest.mark.parametrize(
    ("content", "part"),
    [(b"[a", "is no TOML"), (b"\xff\xfe\0", "is no text in UTF-8"), (b"a=" + b"[" * 5000, "is no TOML")],
)
def test_file_that_is_no_station_file_is_refused(tmp_path: Path, content: bytes, part: str):
    path = tmp_path / "station.toml"
    path.write_bytes(content)
    with pytest.raises(AdqError, match=part):
        read_config(path)


@needs_toml
def test_check_finds_every_problem_and_starts_nothing(place: Path):
    (place / "good.toml").write_text(GOOD)
    done = run_cli("run", "good.toml", "--check", cwd=place)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["engine", "source", "sink", "store"]
    bad = GOOD.replace("parts.onnx", "unfitted.onnx").replace('"inbox"', '"nowhere"')
    bad = bad.replace('"log.jsonl"', '"engines/parts.onnx/log.jsonl"')
    (place / "bad.toml").write_text(f"{bad}[store]\nfolder = 'engines/parts.onnx'\n")
    done = run_cli("run", "bad.toml", "--check", cwd=place)
    assert (done.returncode, done.stdout) == (2, "")
    problems = done.stderr.splitlines()
    assert len(problems) == 4
    assert "engine parts: " in problems[0]
    assert "has no products. Learn them from good images: adq-edge fit" in problems[0]
    assert "source inbox: " in problems[1]
    assert "no such file or directory" in problems[1]
    assert "sink log: " in problems[2]
    assert "is a file, not a folder" in problems[3]
    assert sorted(path.name for path in place.iterdir()) == [
        "bad.toml",
        "engines",
        "good",
        "good.toml",
        "inbox",
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("/proc/adq-edge", "cannot be written to"),
        ("/proc/adq-edge/store", "cannot be written to"),
        ("file", "is a file, not a folder"),
        ("file/store", "is a file, not a folder"),
        ("nowhere", "is a link to nothing, not a folder"),
        ("x" * 300, "file name too long"),
    ],
)
def test_store_that_cannot_be_created_is_found_before_the_start(tmp_path: Path, name: str, reason: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone" / "store")
    with pytest.raises(StorageError, match=reason):
        check_store(tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "nowhere"]


def test_store_that_cannot_be_used_is_found_before_the_start(tmp_path: Path):
    check_store(tmp_path / "new" / "store")
    assert not list(tmp_path.iterdir())
    (tmp_path / "verdicts.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(AdqError, match="cannot be used as a store"):
        check_store(tmp_path)
    (tmp_path / "verdicts.sqlite").unlink()
    store = Store(tmp_path, StoreOptions(), [], Conditions())
    with pytest.raises(AdqError, match="another station uses this store"):
        check_store(tmp_path)
    store.close()
    check_store(tmp_path)


def test_hints_name_the_keys_of_the_station_file(place: Path):
    engine = place / "engines" / "parts.onnx"
    cases = {
        place / "engines": f'a folder of engines, not an engine. Set file = "{engine}".',
        Path(f"{engine}.json"): f'the sidecar of an engine, not an engine. Set file = "{engine}".',
        place / "inbox" / "a.png": "an image, not an engine. Set file to an engine that build wrote.",
    }
    for file, message in cases.items():
        with pytest.raises(AdqError) as caught:
            open_inspector(EngineOptions(file))
        assert str(caught.value) == f"{file}: {message}"
    with pytest.raises(AdqError, match=r"Omit runtime\b"):
        open_inspector(EngineOptions(engine, runtime="tensorrt"))


def test_folder_that_files_are_moved_to_is_tried(place: Path):
    options = {"type": "folder", "folder": "inbox", "after": "move"}

    def source_to(target: str) -> Source:
        values = document(sources={"in": {**options, "moved_to": target}})
        return parse_config(values, Place("station.toml", place, "")).sources["in"].source

    source_to("done").check()
    source_to("done").probe()
    with pytest.raises(AdqError, match="is the watched folder"):
        source_to("inbox/../inbox").check()
    with pytest.raises(AdqError, match="cannot be written to"):
        source_to("/proc/adq-edge").probe()


def test_video_file_starts_at_the_station_file(tmp_path: Path):
    def device_of(device: Any) -> Any:
        sources = {"in": {"type": "camera", "device": device}}
        config = parse_config(document(sources=sources), Place("station.toml", tmp_path, ""))
        return config.sources["in"].source.options.device

    assert device_of("clips/a.mp4") == str(tmp_path / "clips" / "a.mp4")
    assert device_of("12") == 12  # environment variables are texts
    for device in (0, "/dev/video0", "/abs/a.mp4", "rtsp://host/a.mp4", "videotestsrc ! appsink"):
        assert device_of(device) == device


@needs_toml
def test_replay_judges_each_recorded_image_once_and_keeps_no_store(place: Path):
    (place / "station.toml").write_text(GOOD)
    done = run_cli("run", "station.toml", "--replay", "inbox", "--speed", "0", "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    lines: List[Dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(line["image"]).name: line["verdict"] for line in lines} == {
        "a.png": "good",
        "b.png": "defective",
    }
    assert [json.loads(line) for line in (place / "log.jsonl").read_text().splitlines()] == lines
    assert not (place / "station-store").exists()
    (place / "log.jsonl").unlink()


@needs_toml
def test_station_without_sinks_is_told_where_its_verdicts_stay(place: Path):
    (place / "alone.toml").write_text(GOOD.partition("[sinks.log]")[0])
    done = run_cli("run", "alone.toml", "--replay", "inbox", "--speed", "0", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "note: there are no sinks: verdicts stay in the store. Add [sinks.NAME]" in done.stderr
    (place / "alone.toml").unlink()


def test_first_look_needs_a_source_that_is_there(place: Path):
    engine = "engines/parts.onnx"
    cases = {
        ("--engine", engine): "a station is missing. Name a station file",
        ("--engine", engine, "--source", "nowhere.mp4"): "nowhere.mp4: no such camera or video file",
        ("--engine", "engines/unfitted.onnx", "--source", "inbox"): "has no products",
        ("--engine", engine, "--replay", "engines"): "engines: a folder of engines, not a folder of images",
    }
    for arguments, problem in cases.items():
        done = run_cli("run", *arguments, cwd=place)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert problem in line


@needs_toml
def test_examples_of_the_page_run(place: Path, monkeypatch: pytest.MonkeyPatch):
    page = (REPOSITORY / "docs" / "station.md").read_text(encoding="utf-8")
    whole, *parts = [part.split("```")[0] for part in page.split("```toml\n")[1:]]
    (place / "page.toml").write_text(whole)
    done = run_cli("run", "page.toml", "--check", cwd=place)
    assert done.returncode == 0, done.stderr
    done = run_cli("run", "page.toml", "--replay", "inbox", "--speed", "0", cwd=place)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in (place / "log" / "verdicts.jsonl").read_text().splitlines()]
    assert [record["verdict"] for record in records] == ["good", "defective"]
    assert len(list((place / "rejects").rglob("defective/*.png"))) == 1
    described = re.findall(r"^\| `(\w+)` \|", page.split("## The record")[1], re.MULTILINE)
    fields = (
        (REPOSITORY / "docs" / "predict-json.md").read_text(encoding="utf-8").split("field of a region")[0]
    )
    assert set(records[0]) == {*described, *re.findall(r"^\| `(\w+)` \|", fields, re.MULTILINE)}
    monkeypatch.setenv("STATION_TOKEN", "0123456789abcdef")
    (place / "parts.toml").write_text(GOOD + "\n".join(parts))
    config = read_config(place / "parts.toml")
    assert list(config.sources) == ["inbox", "top-trigger", "top", "button"]
    assert not config.sources["top"].source.needs_engine
    assert set(config.services) == {"web", "health"}
