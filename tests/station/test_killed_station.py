"""SIGKILL at random moments while a sink is down: acknowledged triggers are delivered, once and in order."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from factories.brokers import free_port
from factories.parts import write_fitted_engine
from factories.stations import HAS_TOML, WAIT_S
from factories.webhooks import receiving

pytestmark = pytest.mark.skipif(not HAS_TOML, reason="Python reads TOML since 3.11")

KILLS = int(os.environ.get("ADQ_EDGE_KILLS", "3"))
IMAGES = 40
STATION = """
[station]
drain_s = 30
[engines.parts]
file = "engines/parts.onnx"
threads = 1
[sources.inbox]
type = "folder"
folder = "inbox"
after = "move"
poll_ms = 5
settle_ms = 5
deadline_ms = 60000
[sinks.up]
type = "json-lines"
file = "up/up.jsonl"
[sinks.down]
type = "webhook"
url = "http://127.0.0.1:${PORT}/"
"""


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "adq_edge", "run", "station.toml"]
    environment = {**os.environ, "PORT": str(port)}
    return subprocess.Popen(command, cwd=str(folder), stderr=subprocess.PIPE, env=environment)


def wait_until(is_done: Callable[[], bool], station: subprocess.Popen[bytes]) -> None:
    """Wait for something that the station does while it lives."""
    end = time.monotonic() + 4 * WAIT_S
    while not is_done():
        assert station.poll() is None
        assert time.monotonic() < end
        time.sleep(0.002)


def records(path: Path) -> List[Dict[str, Any]]:
    """Return the whole lines of a file, which may be written at this moment."""
    text = path.read_text() if path.is_file() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def test_killed_station_delivers_every_acknowledged_trigger_once_and_in_order(tmp_path: Path):
    write_fitted_engine(tmp_path)
    (tmp_path / "station.toml").write_text(STATION)
    inbox, moment = tmp_path / "inbox", random.Random(7)
    done = inbox / "done"  # where a file is once its trigger is acknowledged
    done.mkdir(parents=True)
    image = next((tmp_path / "good" / "bolt").iterdir()).read_bytes()
    port = free_port()  # where nothing listens yet
    for kill in range(KILLS):
        station = start(tmp_path, port)
        for number in range(IMAGES):
            partial = inbox / f"{kill:03}-{number:03}.part"
            partial.write_bytes(image)
            partial.rename(partial.with_suffix(".png"))
        count = kill * IMAGES + moment.randint(1, IMAGES // 2)
        wait_until(lambda: len(list(done.iterdir())) >= count, station)  # noqa: B023
        time.sleep(moment.uniform(0.0, 0.05))
        station.kill()
        station.wait()
        assert station.stderr is not None
        station.stderr.close()
    with receiving(port=port) as server:
        station = start(tmp_path, port)
        total = KILLS * IMAGES
        wait_until(lambda: len(list(done.iterdir())) == len(server.received) == total, station)
        station.send_signal(signal.SIGTERM)
        errors = station.communicate(timeout=4 * WAIT_S)[1].decode()
    assert station.returncode == 0, errors
    judged = {path.name for path in done.iterdir()}
    assert judged == {f"{kill:03}-{number:03}.png" for kill in range(KILLS) for number in range(IMAGES)}
    up = records(tmp_path / "up" / "up.jsonl")
    down = [json.loads(body) for _, body in server.received]
    assert {record["verdict"] for record in up} == {"good"}
    assert sorted(Path(record["image"]).name for record in down) == sorted(judged)
    assert down == up
    ids = [record["id"] for record in up]
    assert ids == sorted(set(ids))
