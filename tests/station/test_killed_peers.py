"""A station whose real broker and real web server are killed and started again while verdicts flow."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Dict, List

import pytest

from adq_edge.station.events import Trigger
from adq_edge.station.station import Station
from factories.brokers import MOSQUITTO, Mosquitto, free_port, listening
from factories.parts import write_fitted_engine
from factories.stations import WAIT_S, part_image, station_config
from factories.webhooks import receiving

pytest.importorskip("paho.mqtt.client")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")
OUTAGES, BATCH = 6, 40


def once(records: List[Dict[str, Any]]) -> List[str]:
    """Return the ids in the order of their first arrival, as a receiver that drops doubles sees them."""
    return list(dict.fromkeys(record["id"] for record in records))


def test_no_verdict_is_lost_or_out_of_order(tmp_path: Path) -> None:
    engine, port = write_fitted_engine(tmp_path), free_port()
    posted: List[Dict[str, Any]] = []
    lines = ("persistence true", f"persistence_location {tmp_path}/", "max_queued_messages 0")
    broker = Mosquitto(tmp_path, *lines)  # 1000 by default: it drops what a client fetches too slowly
    sinks = {
        "plant": {"type": "mqtt", "host": "127.0.0.1", "port": broker.port},
        "mes": {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "secret": "s3cret"},
    }
    sources = {name: {"type": "calls", "queue": 1000, "deadline_ms": 60000} for name in ("left", "right")}
    config = station_config(
        engine, tmp_path, sources=sources, sinks=sinks, station={"name": "p4", "drain_s": 60.0}
    )
    kept: Dict[str, List[str]] = {name: [] for name in sources}
    with broker, Station(config) as station, listening(
        broker.port, "adq-edge/p4/+/verdict", session="test"
    ) as client:
        for outage in range(OUTAGES):
            with receiving(port=port) as server:
                tickets = [
                    (source, station.intake(source).submit(Trigger(image=part_image(number % 5))))
                    for number in range(BATCH)
                    for source in sources
                ]
                for _, ticket in tickets[: random.Random(outage).randrange(len(tickets))]:
                    ticket.stored.result(WAIT_S)
                broker.terminate()  # killed, it forgets messages that it has confirmed
                for source, ticket in tickets:
                    kept[source].append(ticket.stored.result(WAIT_S)["id"])
            posted += [json.loads(body) for _, body in server.received]
            broker.start()
        with receiving(port=port) as server:
            total = 2 * OUTAGES * BATCH
            client.wait_for(
                lambda: len({json.loads(one.payload)["id"] for one in client.received}) == total, 60
            )
            for _ in range(600):
                if not station.snapshot().waiting["mes"]:
                    break
                station.wait(0.1)
            posted += [json.loads(body) for _, body in server.received]
        published = [json.loads(one.payload) for one in client.received]
    for records in (published, posted):
        for source in sources:
            assert once([one for one in records if one["source"] == source]) == kept[source]
    assert station.snapshot().refused == {"plant": 0, "mes": 0}
