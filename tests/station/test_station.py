"""A running station: one verdict for each trigger by its deadline, in order; sinks that are down."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any, Dict, List

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import StationError
from adq_edge.station.config import StationConfig
from adq_edge.station.events import Decided, Ticket, Trigger
from adq_edge.station.services.base import Service
from adq_edge.station.sinks.base import Refused
from adq_edge.station.station import Station
from adq_edge.station.view import StationView
from factories.parts import write_fitted_engine
from factories.stations import WAIT_S, ListSink, part_image, station_config, with_sinks


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("fitted"))


class Gate:
    """Holds every image in the engine until it is opened."""

    def __init__(self, station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_open, self.entered = threading.Event(), threading.Semaphore(0)
        (engine,) = station.engines.values()
        score = engine.inspector.engine.run

        def run(images: np.ndarray) -> Any:
            self.entered.release()
            assert self.is_open.wait(WAIT_S)
            return score(images)

        monkeypatch.setattr(engine.inspector.engine, "run", run)


def records_of(tickets: List[Ticket]) -> List[Dict[str, Any]]:
    return [dict(ticket.stored.result(WAIT_S)) for ticket in tickets]


def test_each_trigger_has_one_verdict_and_sinks_get_all_in_order(engine: Path, tmp_path: Path):
    sinks = {
        "lines": {"type": "json-lines", "file": "lines.jsonl"},
        "bad": {"type": "images", "folder": "bad"},
    }
    config = station_config(engine, tmp_path, sinks=sinks)
    images = [part_image(n, is_defective=n % 5 == 0) for n in range(19)]
    with Station(config) as station:
        intake = station.intake("line")
        triggers = [Trigger(image=image, fields={"part": str(n)}) for n, image in enumerate(images)]
        tickets = [intake.submit(trigger) for trigger in triggers]
        tickets.append(intake.submit(Trigger(image=b"no image")))
        found = [ticket.decided.result(WAIT_S) for ticket in tickets]
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert lines == found == records_of(tickets)
    assert [line["sequence"] for line in lines] == list(range(1, 21))
    assert [line["id"] for line in lines] == sorted({line["id"] for line in lines})
    verdicts = [line["verdict"] for line in lines]
    assert verdicts == ["defective" if n % 5 == 0 else "good" for n in range(19)] + ["cannot judge"]
    assert all(line["on_time"] and line["latency_ms"] <= line["deadline_ms"] for line in lines)
    assert lines[7]["fields"] == {"part": "7"}
    files = sorted(path.relative_to(tmp_path / "bad") for path in (tmp_path / "bad").rglob("*.*"))
    assert len(files) == 3 * 4 + 1  # image, overlay and record of each defective part
    image = next((tmp_path / "bad").rglob("defective/*-000000001.png"))
    assert np.array_equal(cv2.imread(str(image))[..., ::-1], images[0])
    assert station.snapshot().conditions == ()
    assert not list((tmp_path / "store" / "images").rglob("*.jpg.part"))


def test_image_without_result_by_its_deadline_cannot_be_judged(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = station_config(engine, tmp_path, sources={"line": {"type": "calls", "deadline_ms": 150}})
    sink = ListSink()
    with Station(with_sinks(config, sink)) as station:
        gate = Gate(station, monkeypatch)
        intake = station.intake("line")
        tickets = [intake.submit(Trigger(image=part_image())) for _ in range(4)]
        missed = [ticket.decided.result(WAIT_S) for ticket in tickets]
        assert {record["verdict"] for record in missed} == {"cannot judge"}
        assert {record["reason"] for record in missed} == {"no result within 150 ms"}
        assert all(record["anomalous"] is None for record in missed)
        (problem,) = station.conditions.current
        assert problem.subject == "deadlines of source line"
        assert "the engine hangs or is too slow" in str(problem.problem)
        gate.is_open.set()  # the results of both workers come too late, and change nothing
        last = intake.submit(Trigger(image=part_image())).stored.result(WAIT_S)
    assert [record["sequence"] for record in sink.records] == [1, 2, 3, 4, 5]
    assert sink.records[:4] == missed
    assert last["sequence"] == 5
    assert (last["verdict"] == "good") == (station.snapshot().conditions == ())
    assert station.snapshot().missed >= 4


def test_image_that_would_be_late_gives_way_to_those_that_wait(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    sources = {
        name: {"type": "calls", "queue": 9, "deadline_ms": deadline_ms}
        for name, deadline_ms in {"short": 2_000.0, "long": 60_000.0}.items()
    }
    with Station(station_config(engine, tmp_path, sources=sources)) as station:
        gate = Gate(station, monkeypatch)
        tickets = [station.intake("long").submit(Trigger(image=part_image()))]
        assert gate.entered.acquire(timeout=WAIT_S)
        tickets += [station.intake(name).submit(Trigger(image=part_image())) for name in ("short", "long")]
        time.sleep(1.2)  # what the engine needs for an image: the second one cannot be in time
        gate.is_open.set()
        found = [ticket.decided.result(WAIT_S) for ticket in (tickets[0], tickets[2], tickets[1])]
    assert [one["verdict"] for one in found] == ["good", "good", "cannot judge"]
    assert found[2]["reason"] == "no result within 2000 ms"
    assert found[2]["on_time"]
    assert gate.entered.acquire(blocking=False)
    assert not gate.entered.acquire(blocking=False)  # the engine has seen two images only


def test_full_queue_replaces_images_of_a_free_camera_but_no_trigger(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = {"type": "calls", "queue": 2, "deadline_ms": 6e4}
    config = station_config(engine, tmp_path, sources={"line": source})
    with Station(config) as station:
        gate = Gate(station, monkeypatch)
        intake = station.intake("line")
        busy = [intake.submit(Trigger(image=part_image())) for _ in range(2)]  # one is decoded
        assert gate.entered.acquire(timeout=WAIT_S)
        end = time.monotonic() + WAIT_S
        while station.snapshot().queued["line"]:
            assert time.monotonic() < end
            time.sleep(0.001)
        free = [intake.submit(Trigger(image=part_image(), is_triggered=False)) for _ in range(3)]
        triggered = [intake.submit(Trigger(image=part_image())) for _ in range(3)]
        early = [ticket.decided.result(WAIT_S) for ticket in (*free, triggered[2])]
        assert [record["reason"] for record in early[:3]] == 3 * ["a newer image came first"]
        assert early[3]["reason"] == "the queue is full: 2 images wait for the engine"
        gate.is_open.set()
        judged = records_of([*busy, *triggered[:2]])
        assert {record["verdict"] for record in judged} == {"good"}
    assert station.snapshot().replaced == 4


def test_failing_engine_cannot_judge_and_is_loaded_again(
    engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(images: np.ndarray) -> None:
        raise RuntimeError("the GPU is gone")

    with Station(station_config(engine, tmp_path)) as station:
        monkeypatch.setattr(station.engines["parts"].inspector.engine, "run", fail)
        intake = station.intake("line")
        failed = [intake.submit(Trigger(image=part_image())).decided.result(WAIT_S) for _ in range(3)]
        assert {record["verdict"] for record in failed} == {"cannot judge"}
        assert "RuntimeError: the GPU is gone" in failed[0]["reason"]
        assert station.conditions.current[0].subject == "engine parts"
        good = intake.submit(Trigger(image=part_image())).decided.result(WAIT_S)
        assert good["verdict"] == "good"
        assert station.conditions.current == ()


def test_sink_that_is_down_gets_everything_later_also_after_a_restart(engine: Path, tmp_path: Path):
    first, up = ListSink("peer"), ListSink("up")
    first.is_down = True
    config = station_config(engine, tmp_path, station={"drain_s": 0})
    with Station(with_sinks(config, first, up)) as station:
        for _ in range(5):
            ticket = station.intake("line").submit(Trigger(image=part_image()))
            ticket.stored.result(WAIT_S)
        assert first.attempts.acquire(timeout=WAIT_S)
    assert [record["sequence"] for record in up.records] == [1, 2, 3, 4, 5]
    subjects = {one.subject: one.problem for one in station.snapshot().conditions}
    assert subjects["sink peer"] == "ConnectionError: the peer is down"
    assert subjects["delivery to peer"] == "5 verdicts wait for the next start"
    peer = ListSink("peer")
    with Station(with_sinks(station_config(engine, tmp_path), peer, ListSink("up"))) as station:
        station.intake("line").submit(Trigger(image=part_image())).stored.result(WAIT_S)
    assert peer.records[:5] == up.records
    assert [record["sequence"] for record in peer.records] == [1, 2, 3, 4, 5, 1]
    ids = [record["id"] for record in peer.records]
    assert ids == sorted(set(ids))
    assert station.snapshot().conditions == ()


def test_refused_message_is_kept_as_refused_and_the_next_goes_on(engine: Path, tmp_path: Path):
    class Strict(ListSink):
        def send(self, messages: Any) -> int:
            if messages[0].record["sequence"] == 2:
                raise Refused("400: not for us")
            return super().send(messages[:1])

    sink = Strict("peer")
    with Station(with_sinks(station_config(engine, tmp_path), sink)) as station:
        for _ in range(3):
            station.intake("line").submit(Trigger(image=part_image()))
    assert [record["sequence"] for record in sink.records] == [1, 3]
    assert station.snapshot().refused == {"peer": 1}


def test_trigger_with_the_same_key_is_judged_once_also_after_a_restart(engine: Path, tmp_path: Path):
    sink = ListSink()
    for _ in range(2):
        with Station(with_sinks(station_config(engine, tmp_path), sink)) as station:
            intake = station.intake("line")
            tickets = [intake.submit(Trigger(image=part_image(), key="serial 7")) for _ in range(3)]
            assert len({record["id"] for record in records_of(tickets)}) == 1
    assert len(sink.records) == 1


def test_trigger_of_a_camera_that_is_gone_cannot_be_judged(engine: Path, tmp_path: Path):
    sources = {
        "top": {"type": "camera", "device": "/dev/video-none", "trigger": "software"},
        "line": {"type": "calls", "deadline_ms": 200},
    }
    with Station(station_config(engine, tmp_path, sources=sources)) as station:
        record = station.intake("line").submit(Trigger(camera="top")).decided.result(WAIT_S)
        unknown = station.intake("line").submit(Trigger(camera="side")).decided.result(WAIT_S)
        assert any(one.subject == "source top" for one in station.conditions.current)
    assert (record["verdict"], unknown["verdict"]) == ("cannot judge", "cannot judge")
    assert "source top: /dev/video-none: cannot be opened" in record["reason"]
    assert "no camera named 'side'" in unknown["reason"]


def test_camera_has_the_time_that_is_left_of_the_deadline(engine: Path, tmp_path: Path):
    sources = {
        "top": {"type": "camera", "device": "/dev/video-none", "trigger": "software"},
        "line": {"type": "calls", "deadline_ms": 1e5},
    }
    with Station(station_config(engine, tmp_path, sources=sources)) as station:
        times: List[float] = []
        camera = station.config.sources["top"].source
        camera.capture = lambda timeout_s: times.append(timeout_s) or part_image()  # type: ignore
        for waited_s in (0.0, 50.0, 90.0):
            received = time.monotonic() - waited_s
            station.intake("line").submit(Trigger(camera="top", received=received)).decided.result(WAIT_S)
    assert times == pytest.approx([80.0, 30.0, 0.0], abs=WAIT_S / 2)


def test_service_that_fails_does_not_stop_the_line(engine: Path, tmp_path: Path):
    from adq_edge.station.services.print_lines import PrintLines

    class Broken(PrintLines):
        def observe(self, decided: Any) -> None:
            if decided.frame.sequence == 1:
                raise ZeroDivisionError

    config = station_config(engine, tmp_path)
    config = StationConfig(**{**vars(config), "services": {"page": Broken(None)}})
    with Station(config) as station:
        record = station.intake("line").submit(Trigger(image=part_image())).stored.result(WAIT_S)
        assert record["verdict"] == "good"
        (condition,) = station.conditions.current
        assert condition.subject == "service page"
        station.intake("line").submit(Trigger(image=part_image())).stored.result(WAIT_S)
        assert station.conditions.current == ()


def test_two_stations_cannot_share_a_store(engine: Path, tmp_path: Path):
    second = Station(station_config(engine, tmp_path))
    with Station(station_config(engine, tmp_path)), pytest.raises(StationError, match="another station"):
        second.__enter__()


def test_station_ends_though_the_engine_hangs(engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adq_edge.station.pipeline._WORKER_S", 0.05)
    config = station_config(engine, tmp_path, sources={"line": {"type": "calls", "deadline_ms": 100}})
    sink = ListSink()
    with Station(with_sinks(config, sink)) as station:
        gate = Gate(station, monkeypatch)
        station.intake("line").submit(Trigger(image=part_image()))
        assert gate.entered.acquire(timeout=WAIT_S)
    gate.is_open.set()
    assert [record["reason"] for record in sink.records] == ["no result within 100 ms"]


def test_services_start_before_triggers_and_see_all_verdicts_before_they_are_closed(
    engine: Path, tmp_path: Path
):
    class Observer(Service):
        def start(self, station: StationView) -> None:
            assert station.snapshot().accepted == 0
            self.ticket = station.intake("line").submit(Trigger(image=part_image()))
            self.events: List[str] = []

        def observe(self, decided: Decided) -> None:
            self.events.append(decided.verdict)

        def close(self) -> None:
            self.events.append("closed")

    service = Observer(None)
    config = StationConfig(**{**vars(station_config(engine, tmp_path)), "services": {"page": service}})
    with Station(config) as station:
        station.intake("line").submit(Trigger(image=part_image(is_defective=True)))
    assert service.events == ["good", "defective", "closed"]
    assert station.snapshot().conditions == ()


def test_sources_share_a_station_with_engines_products_and_sinks_of_their_own(engine: Path, tmp_path: Path):
    tables = {
        "engines": {
            "bolts": {"file": str(engine), "product": "bolt"},
            "parts": {"file": str(engine), "streams": 2, "false_rejects": "2%", "min_area": 4},
        },
        "sources": {
            "left": {"type": "calls", "engine": "bolts", "queue": 100, "deadline_ms": 6e4},
            "right": {"type": "calls", "engine": "parts", "queue": 100, "policy": "wait", "deadline_ms": 6e4},
        },
        "sinks": {
            "left": {"type": "json-lines", "file": "left.jsonl", "sources": ["left"]},
            "bad": {"type": "json-lines", "file": "bad.jsonl", "verdicts": ["defective"]},
        },
    }
    with Station(station_config(engine, tmp_path, **tables)) as station:
        left, right = station.intake("left"), station.intake("right")
        for number in range(12):
            left.submit(Trigger(image=part_image(number)))
            right.submit(Trigger(image=part_image(number, is_defective=number == 7), product="bolt"))
        assert left.submit(Trigger(image=part_image(), product="wing")).decided.result(WAIT_S)["reason"]
    of_left = [json.loads(line) for line in (tmp_path / "left.jsonl").read_text().splitlines()]
    (bad,) = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(record["source"], record["sequence"]) for record in of_left] == [
        ("left", n) for n in range(1, 14)
    ]
    assert (bad["source"], bad["sequence"], bad["product"]) == ("right", 8, "bolt")
    assert (of_left[0]["false_rejects"], bad["false_rejects"]) == (0.05, 0.02)
    assert station.snapshot().verdicts["right"] == {"good": 11, "defective": 1}


@pytest.mark.parametrize(
    "values", [{"taken_at": float("nan")}, {"taken_at": 1e18}, {"fields": {"serial": 7}}, {"product": 3}]
)
def test_trigger_with_impossible_values_is_refused_where_it_is_made(values: Any):
    with pytest.raises(ValueError, match="trigger"):
        Trigger(image=part_image(), **values)
