"""A station under load: what it adds to an inspection, and a soak at the engine's rate minus 20 %.

    python -m benchmarks.station ENGINE [--image FILE] [--minutes 2] [--rounds 300] [--name station]

ENGINE has products (`adq-edge fit`). First an inspection alone and one through the station take turns, one
image at a time. Then triggers come at a steady pace, 80 % of the rate that the station reached with a full
queue, for `--minutes` (60 for the published soak). One sink writes JSON lines; the peer of a second one goes
away and comes back 100 times. The deadline is three times the median latency of the first part.
Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import psutil

from adq_edge.core.images.imaging import read_product_image
from adq_edge.decision.inspector import load_inspector
from adq_edge.hardware.environment import read_environment
from adq_edge.station.config import SinkEntry, StationConfig, parse_config
from adq_edge.station.events import Message, Ticket, Trigger
from adq_edge.station.options import SinkOptions
from adq_edge.station.sinks.base import Sink
from adq_edge.station.station import Station
from adq_edge.station.tables import Place
from benchmarks.published import publish
from benchmarks.timing import times

SHARE = 0.8
DEADLINE_MEDIANS = 3.0
OUTAGES = 100
_QUEUE = 64
_SETTLED = 0.1
"""Share of the soak after which the memory is read for the first time."""


class OutageSink(Sink):
    """A sink whose peer goes away and comes back; it counts what arrives, and what arrives out of order."""

    def __init__(self, name: str, period_s: float) -> None:
        super().__init__(name, None)
        self._period_s, self._last = period_s, 0
        self.arrived = self.out_of_order = 0

    def send(self, messages: Sequence[Message]) -> int:
        """Take the messages, in every second half of a period."""
        if time.monotonic() % self._period_s < self._period_s / 2.0:
            raise ConnectionError("the peer is away")
        for message in messages:
            sequence = int(message.record["sequence"])
            self.out_of_order += sequence != self._last + 1
            self._last = sequence
            self.arrived += 1
        return len(messages)


def station_config(engine: Path, folder: Path, deadline_ms: Optional[float], outage: Sink) -> StationConfig:
    """Return a station for calls, with a sink of JSON lines and one with outages."""
    source = {"type": "calls", "queue": _QUEUE, "deadline_ms": deadline_ms or 60_000.0}
    document = {
        "engines": {"engine": {"file": str(engine.absolute())}},
        "sources": {"line": source},
        "sinks": {"lines": {"type": "json-lines", "file": "lines.jsonl", "max_mb": 1e6}},
        "store": {"folder": "store"},
        "station": {"drain_s": 120.0},
    }
    config = parse_config(document, Place("benchmark", folder, ""))
    entry = SinkEntry(outage, SinkOptions("outage"))
    return dataclasses.replace(config, sinks={**config.sinks, outage.name: entry})


def measure_overhead(engine: Path, image: np.ndarray, rounds: int) -> Dict[str, float]:
    """Return medians of an inspection alone and through the station in ms, and the station's rate."""
    with tempfile.TemporaryDirectory() as name, load_inspector(engine) as inspector:
        config = station_config(engine, Path(name), None, OutageSink("outage", 1e-6))
        with Station(config) as station:
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
            started, count = time.monotonic(), max(rounds, 2 * _QUEUE)
            waiting: List[Ticket] = []
            for _ in range(count):
                waiting.append(intake.submit(Trigger(image=image)))
                if len(waiting) >= _QUEUE // 2:
                    waiting.pop(0).decided.result()
            for ticket in waiting:
                ticket.decided.result()
            rate = count / (time.monotonic() - started)
    return {
        "inspect_p50_ms": float(np.median(alone)),
        "station_p50_ms": float(np.median(through)),
        "added_p50_ms": float(np.median(through - alone)),
        "rate_per_s": rate,
    }


def soak(engine: Path, image: np.ndarray, rate: float, seconds: float, deadline_ms: float) -> Dict[str, Any]:
    """Return the figures of a steady load: lost verdicts, latencies in ms, memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        outage = OutageSink("outage", seconds / OUTAGES)
        station = Station(station_config(engine, Path(name), deadline_ms, outage))
        latencies: List[float] = []
        memory: List[float] = []
        with station:
            triggers = _trigger_steadily(station, image, rate, seconds, latencies, memory)
        lines = [json.loads(line) for line in (Path(name) / "lines.jsonl").open(encoding="utf-8")]
        sequences = [int(line["sequence"]) for line in lines]
        snapshot = station.snapshot()
    p50, p99, p999 = np.percentile(latencies, [50.0, 99.0, 99.9])
    return {
        "minutes": seconds / 60.0,
        "triggers_per_s": rate,
        "triggers": triggers,
        "lost_in_lines": triggers - len(set(sequences)),
        "doubles_in_lines": len(sequences) - len(set(sequences)),
        "out_of_order_in_lines": sum(b != a + 1 for a, b in zip([0, *sequences], sequences)),
        "lost_in_outages": triggers - outage.arrived,
        "out_of_order_in_outages": outage.out_of_order,
        "not_on_time": sum(not line["on_time"] for line in lines),
        "missed_deadlines": snapshot.missed,
        "deadline_ms": deadline_ms,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "p999_ms": float(p999),
        "memory_growth_mb": memory[-1] - memory[0],
    }


def _trigger_steadily(
    station: Station,
    image: np.ndarray,
    rate: float,
    seconds: float,
    latencies: List[float],
    memory: List[float],
) -> int:
    """Submit triggers at a steady pace; return their number."""
    intake, process, total = station.intake("line"), psutil.Process(), int(rate * seconds)
    started = time.monotonic()
    for number in range(total):
        intake.wait(max(0.0, started + number / rate - time.monotonic()))
        ticket = intake.submit(Trigger(image=image))
        ticket.decided.add_done_callback(lambda done: latencies.append(float(done.result()["latency_ms"])))
        if number == int(_SETTLED * total):
            memory.append(process.memory_info().rss / 1e6)
    memory.append(process.memory_info().rss / 1e6)
    return total


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
    parser.add_argument("--name", default="station")
    asked = parser.parse_args()
    if asked.image is not None:
        image = read_product_image(asked.image)
    else:
        with load_inspector(asked.engine) as inspector:
            size = inspector.engine.sidecar.image_size
        image = np.full((*size, 3), 128, np.uint8)
    overhead = measure_overhead(asked.engine, image, asked.rounds)
    deadline_ms = DEADLINE_MEDIANS * overhead["station_p50_ms"]
    found = soak(asked.engine, image, SHARE * overhead["rate_per_s"], 60.0 * asked.minutes, deadline_ms)
    figures: Dict[str, Any] = {**overhead, **found}
    publish(
        asked.name,
        "The station under load",
        ["figure", "value"],
        [
            [name, f"{value:.3g}" if isinstance(value, float) else str(value)]
            for name, value in figures.items()
        ],
        {"engine": asked.engine.name, **figures},
        read_environment(),
    )


if __name__ == "__main__":
    main()
