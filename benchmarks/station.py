"""A station under load: what it adds to an inspection, and a soak at the engine's rate minus 20 %.

    python -m benchmarks.station ENGINE [--image FILE] [--minutes 2] [--threads N] [--streams N]

ENGINE has products (`adq-edge fit`). First an inspection alone and one through the station take turns, one
image at a time. Then triggers come at a steady pace, 80 % of the rate that the station reaches with a full
queue and all sinks, for `--minutes` (60 for the published soak). The sinks are a file of JSON lines, MQTT and
a webhook. A real mosquitto and a real HTTP server receive; each goes away and comes back 100 times. The
deadline is three times the median latency of the first part. Before it, triggers come at 1.5 times the rate
of the station, to see how many results it still has in time.
Writes benchmarks/published/NAME.json and .md. Needs mosquitto.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import json
import tempfile
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np
import psutil

from adq_edge.core.images.imaging import read_product_image
from adq_edge.decision.inspector import load_inspector
from adq_edge.hardware.environment import read_environment
from adq_edge.station.config import StationConfig, parse_config
from adq_edge.station.events import Trigger
from adq_edge.station.station import Station
from adq_edge.station.tables import Place
from benchmarks.published import publish
from benchmarks.station_peers import Peers
from benchmarks.timing import times

SHARE = 0.8
DEADLINE_MEDIANS = 3.0
OUTAGES = 100
_QUEUE = 64
_NAME = "benchmark"
_TOPIC = f"adq-edge/{_NAME}/line/verdict"
_OVERLOAD, _OVERLOAD_S = 1.5, 10.0
_SETTLED = 0.1
"""Share of the soak after which the memory is read for the first time."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What the stations of one run have in common: the engine and its key `threads` and `streams`."""

    engine: Path
    threads: Optional[int] = None
    streams: int = 1

    def config(
        self, folder: Path, deadline_ms: float = 60_000.0, peers: Optional[Peers] = None
    ) -> StationConfig:
        """Return a station for calls, with a sink of JSON lines and, if there are peers, one to each."""
        engine = {"file": str(self.engine.absolute()), "streams": self.streams}
        if self.threads is not None:
            engine["threads"] = self.threads
        sinks: Dict[str, Any] = {"lines": {"type": "json-lines", "file": "lines.jsonl", "max_mb": 1e6}}
        if peers is not None:
            sinks["mqtt"] = {"type": "mqtt", "host": "127.0.0.1", "port": peers.mqtt_port}
            sinks["http"] = {"type": "webhook", "url": f"http://127.0.0.1:{peers.http_port}/"}
        document = {
            "engines": {"engine": engine},
            "sources": {"line": {"type": "calls", "queue": _QUEUE, "deadline_ms": deadline_ms}},
            "sinks": sinks,
            "store": {"folder": "store"},
            "station": {"name": _NAME, "drain_s": 120.0},
        }
        return parse_config(document, Place("benchmark", folder, ""))


def measure_overhead(setup: Setup, image: np.ndarray, rounds: int) -> Dict[str, float]:
    """Return the medians of an inspection alone and of one through the station, in ms."""
    with tempfile.TemporaryDirectory() as name, load_inspector(
        setup.engine, threads=setup.threads
    ) as inspector, Station(setup.config(Path(name))) as station:
        intake = station.intake("line")
        found = times(
            {
                "inspect": inspector.inspect,
                "station": lambda pixels: intake.submit(Trigger(image=pixels)).decided.result(),
            },
            image,
            rounds,
        )
    alone, through = np.array(found["inspect"]), np.array(found["station"])
    return {
        "inspect_p50_ms": float(np.median(alone)),
        "station_p50_ms": float(np.median(through)),
        "added_p50_ms": float(np.median(through - alone)),
    }


def measure_rates(setup: Setup, image: np.ndarray, rounds: int) -> Dict[str, float]:
    """Return the median images per second without a station, with one, and with one that has peers.

    The three take turns; in each of `rounds` each judges `_QUEUE` images.
    """
    found: Dict[str, List[float]] = {}
    with contextlib.ExitStack() as stack:
        inspector = stack.enter_context(load_inspector(setup.engine, threads=setup.threads))
        pool = stack.enter_context(ThreadPoolExecutor(setup.streams))
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        peers = stack.enter_context(Peers(folders[1], 1e6, _TOPIC))
        alone = stack.enter_context(Station(setup.config(folders[0])))
        served = stack.enter_context(Station(setup.config(folders[1], peers=peers)))
        kinds: Dict[str, Callable[[], object]] = {
            "inspections_per_s": lambda: list(pool.map(inspector.inspect, [image] * _QUEUE)),
            "station_per_s": lambda: _judge_queue(alone, image),
            "station_with_peers_per_s": lambda: _judge_queue(served, image),
        }
        for _ in range(rounds):
            for kind, run in kinds.items():
                started = time.monotonic()
                run()
                found.setdefault(kind, []).append(_QUEUE / (time.monotonic() - started))
    return {kind: float(np.median(rates)) for kind, rates in found.items()}


def _judge_queue(station: Station, image: np.ndarray) -> None:
    """Fill the queue, and wait for all verdicts."""
    intake = station.intake("line")
    for ticket in [intake.submit(Trigger(image=image)) for _ in range(_QUEUE)]:
        ticket.decided.result()


def measure_overload(setup: Setup, image: np.ndarray, rate: float, deadline_ms: float) -> Dict[str, float]:
    """Return the results per second if triggers come at `rate` per second, more than the engine can score."""
    with tempfile.TemporaryDirectory() as name, Station(setup.config(Path(name), deadline_ms)) as station:
        latencies = np.full(int(rate * _OVERLOAD_S), np.nan)
        _trigger_steadily(station, image, rate, latencies, [])
        missed = station.snapshot().missed
    return {"overload_per_s": rate, "results_at_overload_per_s": (len(latencies) - missed) / _OVERLOAD_S}


def soak(setup: Setup, image: np.ndarray, rate: float, seconds: float, deadline_ms: float) -> Dict[str, Any]:
    """Return the figures of a steady load: lost verdicts, latencies in ms, memory in MB."""
    latencies = np.full(int(rate * seconds), np.nan)  # written now, so that the memory does not grow by it
    memory: List[float] = []
    with tempfile.TemporaryDirectory() as name, Peers(Path(name), seconds / OUTAGES, _TOPIC) as peers:
        with Station(setup.config(Path(name), deadline_ms, peers)) as station:
            _trigger_steadily(station, image, rate, latencies, memory)
            triggers, outages = len(latencies), peers.stay()
        lines = [json.loads(line) for line in (Path(name) / "lines.jsonl").open(encoding="utf-8")]
        arrived = {"lines": [int(line["sequence"]) for line in lines]}
        arrived.update({sink: peers.sequences(sink, triggers) for sink in ("mqtt", "http")})
        snapshot = station.snapshot()
    p50, p99, p999 = np.percentile(latencies, [50.0, 99.0, 99.9])
    return {
        "minutes": seconds / 60.0,
        "triggers_per_s": rate,
        "triggers": triggers,
        "outages_of_each_peer": outages,
        **{f"lost_in_{sink}": triggers - len(set(found)) for sink, found in arrived.items()},
        **{f"doubles_in_{sink}": len(found) - len(set(found)) for sink, found in arrived.items()},
        **{f"out_of_order_in_{sink}": _out_of_order(found) for sink, found in arrived.items()},
        "not_on_time": sum(not line["on_time"] for line in lines),
        "missed_deadlines": snapshot.missed,
        "deadline_ms": deadline_ms,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "memory_growth_mb": memory[-1] - memory[0],
    }


def _out_of_order(sequences: Sequence[int]) -> int:
    """Return how many numbers do not follow the one before, once doubles are dropped."""
    first = list(dict.fromkeys(sequences))
    return sum(after != before + 1 for before, after in zip([0, *first], first))


def _trigger_steadily(
    station: Station, image: np.ndarray, rate: float, latencies: np.ndarray, memory: List[float]
) -> None:
    """Submit a trigger for each place of `latencies` at a steady pace, and fill them."""
    intake, process, started = station.intake("line"), psutil.Process(), time.monotonic()

    def record(number: int, done: Future[Any]) -> None:
        latencies[number] = done.result()["latency_ms"]

    for number in range(len(latencies)):
        intake.wait(max(0.0, started + number / rate - time.monotonic()))
        ticket = intake.submit(Trigger(image=image))
        ticket.decided.add_done_callback(functools.partial(record, number))
        if number == int(_SETTLED * len(latencies)):
            memory.append(process.memory_info().rss / 1e6)
    ticket.decided.result()
    memory.append(process.memory_info().rss / 1e6)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument(
        "--image", type=Path, help="an image of a good part; by default plain gray of the engine's size"
    )
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--name", default="station")
    asked = parser.parse_args()
    if asked.image is not None:
        image = read_product_image(asked.image)
    else:
        with load_inspector(asked.engine) as inspector:
            size = inspector.engine.sidecar.image_size
        image = np.full((*size, 3), 128, np.uint8)
    setup = Setup(asked.engine, asked.threads, asked.streams)
    overhead = measure_overhead(setup, image, asked.rounds)
    rates = measure_rates(setup, image, max(1, asked.rounds // 10))
    deadline_ms = DEADLINE_MEDIANS * overhead["station_p50_ms"]
    rate = SHARE * rates["station_with_peers_per_s"]
    overload = measure_overload(setup, image, _OVERLOAD * rates["station_per_s"], deadline_ms)
    found = soak(setup, image, rate, 60.0 * asked.minutes, deadline_ms)
    figures: Dict[str, Any] = {**overhead, **rates, **overload, **found}
    publish(
        asked.name,
        "The station under load",
        ["figure", "value"],
        [
            [name, f"{value:.3g}" if isinstance(value, float) else str(value)]
            for name, value in figures.items()
        ],
        {"engine": asked.engine.name, "threads": asked.threads, "streams": asked.streams, **figures},
        read_environment(),
    )


if __name__ == "__main__":
    main()
