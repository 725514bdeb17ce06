"""Sources: watched folders, video files, cameras that freeze or vanish, triggers from standard input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, List, Optional

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.core.errors import AdqError
from adq_edge.station.conditions import Condition
from adq_edge.station.engines import StationEngine
from adq_edge.station.events import Trigger
from adq_edge.station.sources import camera as camera_module
from adq_edge.station.sources import folder as folder_module
from adq_edge.station.sources.stdin import parse_trigger
from adq_edge.station.sources.video_capture import Settings, open_capture, show_device
from adq_edge.station.station import Station
from factories.command_line import run_cli
from factories.parts import draw_part, write_fitted_engine
from factories.stations import WAIT_S, ListSink, part_image, station_config, with_sinks


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("fitted"))


class WaitingSink(ListSink):
    """A list that a test can wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Condition()

    def send(self, messages: Any) -> int:
        with self.arrived:
            count = super().send(messages)
            self.arrived.notify_all()
        return count

    def wait_for(self, count: int) -> List[Any]:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.records) >= count, WAIT_S), self.records
        return self.records


def encoded(number: int) -> bytes:
    return cv2.imencode(".png", part_image(number)[..., ::-1])[1].tobytes()


def wait_until(is_done: Callable[[], bool], station: Station) -> None:
    """Wait for something that the station does in its own time."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if is_done():
            return
        pause.wait(0.01)
    raise AssertionError(station.snapshot())


def folder_table(folder: Path, **keys: Any) -> Any:
    return {"inbox": {"type": "folder", "folder": str(folder), "poll_ms": 5, "settle_ms": 30, **keys}}


def test_folder_judges_each_complete_file_once_and_moves_it_when_its_verdict_is_stored(
    engine: Path, tmp_path: Path
):
    inbox, sink = tmp_path / "inbox", WaitingSink()
    inbox.mkdir()
    sources = folder_table(inbox, after="move")
    with Station(with_sinks(station_config(engine, tmp_path, sources=sources), sink)) as station:
        for number in range(3):
            (inbox / f"{number}.png").write_bytes(encoded(number))
        (inbox / "text.txt").write_text("no image")
        (inbox / ".hidden.png").write_bytes(encoded(9))
        whole = encoded(3)
        with (inbox / "slow.png").open("wb") as file:
            file.write(whole[:1000])
            file.flush()
            assert len(sink.wait_for(3)) == 3
            file.write(whole[1000:])
        assert Path(sink.wait_for(4)[3]["image"]).name == "slow.png"
        wait_until(lambda: len(list((inbox / "done").glob("*"))) == 4, station)
        (inbox / "0.png").write_bytes(encoded(7))  # a new image under an old name
        sink.wait_for(5)
        wait_until(lambda: (inbox / "done" / "0-2.png").exists(), station)
    assert {record["verdict"] for record in sink.records} == {"good"}
    assert sorted(path.name for path in inbox.iterdir()) == [".hidden.png", "done", "text.txt"]


def test_folder_whose_files_stay_is_not_judged_again_after_a_restart(engine: Path, tmp_path: Path):
    inbox, sink = tmp_path / "inbox", WaitingSink()
    inbox.mkdir()
    for start in range(2):
        (inbox / f"{start}.png").write_bytes(encoded(start))
        sources = folder_table(inbox)
        with Station(with_sinks(station_config(engine, tmp_path, sources=sources), sink)):
            sink.wait_for(start + 1)
    assert [Path(record["image"]).name for record in sink.records] == ["0.png", "1.png"]


def test_file_that_stays_incomplete_cannot_be_judged(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adq_edge.station.sources.folder._INCOMPLETE_S", 0.1)
    inbox, sink = tmp_path / "inbox", WaitingSink()
    inbox.mkdir()
    (inbox / "half.png").write_bytes(encoded(1)[:1000])
    (inbox / "empty.jpg").write_bytes(b"")
    config = station_config(engine, tmp_path, sources=folder_table(inbox))
    with Station(with_sinks(config, sink)):
        records = sink.wait_for(2)
    assert {record["verdict"] for record in records} == {"cannot judge"}
    assert all("not a readable image" in record["reason"] for record in records)


def test_every_image_of_a_video_file_is_judged(engine: Path, tmp_path: Path):
    path = tmp_path / "line.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 64))
    for number in range(8):
        writer.write(draw_part("bolt", number, is_defective=number == 5, size=64)[..., ::-1])
    writer.release()
    done = run_cli("run", "-q", "--source", "line.avi", "--engine", engine, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["verdict"] for line in lines] == ["defective" if n == 5 else "good" for n in range(8)]


def test_video_file_that_ends_early_is_a_problem_of_the_station(engine: Path, tmp_path: Path):
    path = tmp_path / "cut.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25.0, (64, 64))
    for number in range(40):
        writer.write(draw_part("bolt", number, size=64)[..., ::-1])
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = run_cli("run", "-q", "--source", "cut.avi", "--engine", engine, cwd=tmp_path)
    assert done.returncode == 1
    assert 0 < len(done.stdout.splitlines()) < 36
    (line,) = done.stderr.splitlines()
    assert re.search(r"source first: cut\.avi ends after \d+ of 40 images\. It is damaged", line)


def test_files_with_any_name_or_in_a_format_that_is_not_read_have_a_verdict(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(folder_module, "_INCOMPLETE_S", 0.1)
    inbox, sink = tmp_path / "inbox", WaitingSink()
    (inbox / "sub").mkdir(parents=True)
    names = [b"\xff\xfe.png", b"line\nbreak.png", b"sub/\x1b[31m.png", "größe\u202e.png".encode()]
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(str(inbox)) + b"/" + name)).write_bytes(encoded(number))
    (inbox / "raw.dng").write_bytes(b"II*\0 no picture")
    sources = folder_table(inbox, after="move", recursive=True, moved_to=str(inbox / ".." / "inbox" / "done"))
    for _ in range(2):  # nothing is left for the second start
        with Station(with_sinks(station_config(engine, tmp_path, sources=sources), sink)) as station:
            records = sink.wait_for(5)
            wait_until(lambda: sum(one.is_file() for one in (inbox / "done").rglob("*")) == 5, station)
    verdicts = {Path(record["image"]).suffix: record["verdict"] for record in records}
    assert verdicts == {".png": "good", ".dng": "cannot judge"}
    assert len(records) == 5


def test_files_are_moved_while_others_wait(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for number in range(30):
        (inbox / f"{number:02}.png").write_bytes(encoded(number))
    proceed = threading.Semaphore(0)
    inspect = StationEngine.inspect

    def waiting(self: StationEngine, *arguments: Any) -> Any:
        proceed.acquire(timeout=WAIT_S)
        return inspect(self, *arguments)

    monkeypatch.setattr(StationEngine, "inspect", waiting)
    sources = folder_table(inbox, after="delete", queue=2)
    with Station(station_config(engine, tmp_path, sources=sources)) as station:
        for _ in range(10):
            proceed.release()
        wait_until(lambda: len(list(inbox.iterdir())) <= 24, station)
        for _ in range(40):
            proceed.release()
        wait_until(lambda: not list(inbox.iterdir()), station)


class FakeCapture:
    """A camera whose images a test gives out; None for a failure."""

    def __init__(self) -> None:
        self.image: Optional[np.ndarray] = None

    def read(self) -> Any:
        threading.Event().wait(0.002)
        return self.image is not None, self.image

    def release(self) -> None:
        self.image = None


def test_camera_that_is_gone_or_frozen_is_reported_and_opened_again(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    opened: List[FakeCapture] = []

    def open_fake(*arguments: Any) -> FakeCapture:
        opened.append(FakeCapture())
        opened[-1].image = part_image(len(opened))[..., ::-1]
        return opened[-1]

    monkeypatch.setattr(camera_module, "open_capture", open_fake)
    monkeypatch.setattr("adq_edge.station.source_runner._FIRST_PAUSE_S", 0.01)
    sources = {
        "top": {"type": "camera", "device": 0, "trigger": "software", "silent_s": 0.05, "frozen_s": 0.2},
        "line": {"type": "calls"},
    }
    problems: List[Condition] = []

    def judge(station: Station) -> str:
        ticket = station.intake("line").submit(Trigger(camera="top"))
        record = ticket.decided.result(WAIT_S)
        return str(record["reason"] or record["verdict"])

    station = Station(station_config(engine, tmp_path, sources=sources))
    station.conditions.listen(problems.append)
    with station:
        wait_until(lambda: judge(station) == "good", station)
        wait_until(lambda: "frozen: the same image for 0.2 s" in judge(station), station)
        count = len(opened)
        opened[-1].image = None
        wait_until(lambda: len(opened) > count, station)
        wait_until(lambda: judge(station) == "good", station)
    texts = [str(one.problem) for one in problems if one.subject == "source top"]
    assert any("frozen" in text for text in texts)
    assert any("camera 0: no image for 0.05 s" in text for text in texts)


def test_camera_that_does_not_answer_is_reported(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    proceed = threading.Event()

    class Hanging(FakeCapture):
        def read(self) -> Any:
            proceed.wait(WAIT_S)
            return True, part_image(1)[..., ::-1]

    monkeypatch.setattr(camera_module, "open_capture", lambda *arguments: Hanging())
    monkeypatch.setattr(camera_module, "_HANGS_S", 0.1)
    monkeypatch.setattr(camera_module.CameraSource, "probe", lambda self: None)
    sources = {"top": {"type": "camera", "device": 0, "silent_s": 0.05, "frozen_s": 0}}
    with Station(station_config(engine, tmp_path, sources=sources)) as station:
        wait_until(lambda: "camera 0: does not answer" in str(station.conditions.current), station)
        proceed.set()
        wait_until(lambda: not station.conditions.current, station)


def test_free_camera_judges_its_newest_image_whenever_the_engine_is_ready(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Counting(FakeCapture):
        count = 0

        def read(self) -> Any:
            self.count += 1
            return True, part_image(self.count)[..., ::-1]

    monkeypatch.setattr(camera_module, "open_capture", lambda *arguments: Counting())
    sink = WaitingSink()
    sources = {"top": {"type": "camera", "device": 0, "rate": 200}}
    with Station(with_sinks(station_config(engine, tmp_path, sources=sources), sink)) as station:
        records = list(sink.wait_for(10))
        assert station.snapshot().replaced == 0
    assert [record["sequence"] for record in records[:10]] == list(range(1, 11))
    assert {record["verdict"] for record in records} == {"good"}


@settings(deadline=None)
@given(st.text(max_size=60) | st.dictionaries(st.text(max_size=8), st.integers() | st.text()).map(json.dumps))
def test_any_line_is_a_trigger_or_one_with_a_problem(line: str):
    trigger = parse_trigger(line, None)
    assert (trigger.image is not None) + (trigger.problem is not None) == 1


def test_lines_of_standard_input_are_triggers(engine: Path, tmp_path: Path):
    (tmp_path / "part.png").write_bytes(encoded(1))
    lines = [
        "part.png",
        json.dumps({"image": "part.png", "product": "bolt", "fields": {"serial": "7"}}),
        json.dumps({"image": "part.png", "product": "washer"}),
        json.dumps({"picture": "part.png"}),
        "",
        "missing.png",
    ]
    command = [sys.executable, "-m", "adq_edge", "run", "--source", "-", "--engine", str(engine), "-q"]
    done = subprocess.run(
        command, input="\n".join(lines), text=True, capture_output=True, cwd=str(tmp_path), timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["verdict"] for record in records] == 2 * ["good"] + 4 * ["cannot judge"]
    assert records[1]["fields"] == {"serial": "7"}
    reasons = [record["reason"] for record in records[2:]]
    assert "has no product 'washer'" in reasons[0]
    assert "unknown key 'picture'" in reasons[1]
    assert reasons[2] == "the trigger names no image and no camera"
    assert "missing.png" in reasons[3]


def test_pipeline_that_cannot_be_opened_is_not_taken_for_a_device():
    with pytest.raises(AdqError, match=r"OpenCV with GStreamer|end it with appsink"):
        open_capture("nosuchelement ! appsink", Settings(), 1.0)


def test_password_of_a_camera_is_not_shown():
    assert show_device("rtsp://user:secret@10.0.0.5/live") == "rtsp://10.0.0.5/live"
    for device in (
        "rtsp://user:secr@et@10.0.0.5/live",
        "rtsp://user:secr/et@10.0.0.5/live",
        "http://10.0.0.5/video?user=a&pwd=secret",
        "rtspsrc location=rtsp://user:secret@10.0.0.5/live ! appsink",
        "rtspsrc location=rtsp://10.0.0.5/live user-id=a user-pw=secret ! appsink",
    ):
        assert "10.0.0.5" in show_device(device)
        assert "secr" not in show_device(device)
    assert show_device(0) == "camera 0"
    assert show_device("rtsp://10.0.0.5/live@1") == "rtsp://10.0.0.5/live@1"
    assert show_device("/videos/a@b?.mp4") == "/videos/a@b?.mp4"
