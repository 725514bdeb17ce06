"""The MQTT source against a real broker."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any, Iterator

import pytest

from adq_edge.core.errors import AdqError
from adq_edge.station.sources.mqtt import MqttSource, MqttSourceOptions
from adq_edge.station.tables import Place, parse_table
from factories.brokers import MOSQUITTO, Mosquitto, listening
from factories.station_parts import RecordingIntake

mqtt = pytest.importorskip("paho.mqtt.client")
needs_paho_2 = pytest.mark.skipif(not hasattr(mqtt, "CallbackAPIVersion"), reason="needs paho-mqtt 2")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def source_of(port: int, **keys: Any) -> MqttSource:
    table = {"host": "127.0.0.1", "port": port, "topic": "line4/trigger", **keys}
    return MqttSource("top", parse_table(MqttSourceOptions, table, Place("station.toml", Path(), "")))


@contextlib.contextmanager
def running(source: MqttSource, intake: RecordingIntake) -> Iterator[None]:
    thread = threading.Thread(target=source.run, args=(intake,))
    thread.start()
    try:
        with intake.changed:
            assert intake.changed.wait_for(lambda: None in intake.problems, 20)
        yield
    finally:
        intake.stop.set()
        thread.join()


def test_a_message_asks_for_an_image_of_the_camera_and_names_the_part(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with Mosquitto(tmp_path) as broker, listening(broker.port, "x") as client:
        with running(source_of(broker.port, camera="front"), intake):
            client.publish("line4/trigger")
            client.publish("line4/trigger", b'{"product": "bolt", "key": "p-1", "fields": {"serial": 17}}')
            client.publish("line4/trigger", b"{broken")
            intake.wait_for(3)
        empty, named, broken = intake.triggers
        assert (empty.camera, empty.product, empty.problem) == ("front", None, None)
        assert (named.camera, named.product, named.key, named.fields) == (
            "front",
            "bolt",
            "p-1",
            {"serial": "17"},
        )
        assert broken.camera is None
        assert broken.problem == "the trigger cannot be read: it is no JSON"
        client.publish("line4/trigger", b'{"name": "gone before the station came back"}')
        later = RecordingIntake()
        with running(source_of(broker.port, camera="front"), later):
            client.publish("line4/trigger", b'{"name": "in time"}')
            later.wait_for(1)
        assert [one.name for one in later.triggers] == ["in time"]


@needs_paho_2
def test_images_are_confirmed_when_their_verdict_is_stored_and_wait_for_the_station(tmp_path: Path) -> None:
    intake, second = RecordingIntake(), RecordingIntake()
    with Mosquitto(tmp_path) as broker, listening(broker.port, "x") as client:
        with running(source_of(broker.port), intake):
            for payload in (b"image 1", b"image 2", b""):
                client.publish("line4/trigger", payload)
            intake.wait_for(3)
            intake.tickets[0].stored.set_result({})
        client.publish("line4/trigger", b"image 4")
        with running(source_of(broker.port), second):
            second.wait_for(3)
        assert [one.image for one in intake.triggers] == [b"image 1", b"image 2", None]
        assert intake.triggers[2].problem == "the message has 0 bytes"
        assert [one.image for one in second.triggers] == [b"image 2", None, b"image 4"]


@needs_paho_2
def test_an_image_that_comes_again_after_a_lost_connection_is_judged_once(tmp_path: Path) -> None:
    intake = RecordingIntake()
    with Mosquitto(tmp_path, "persistence true", f"persistence_location {tmp_path}/") as broker:
        source = source_of(broker.port)
        with listening(broker.port, "x") as client, running(source, intake):
            client.publish("line4/trigger", b"image 1")
            intake.wait_for(1)
            broker.terminate()
            broker.start()
            with intake.changed:
                assert intake.changed.wait_for(lambda: intake.problems.count(None) == 2, 20), intake.problems
            client.publish("line4/trigger", b"image 2")
            intake.wait_for(2)
            for ticket in intake.tickets:
                ticket.stored.set_result({})
        assert [one.image for one in intake.triggers] == [b"image 1", b"image 2"]
        assert "the broker is gone" in str(intake.problems)


@pytest.mark.parametrize("topic", ["", "a/#/b", "a#", "a/b+", "+a/b", "a\0"])
def test_impossible_topic_is_refused(topic: str) -> None:
    with pytest.raises(AdqError, match=r"topic is .*, not a topic such as 'line1/trigger'"):
        source_of(1883, topic=topic)


@pytest.mark.parametrize("topic", ["#", "+", "a/+/b", "a/#", "/a", "a/"])
def test_topic_with_wildcards_is_taken(topic: str) -> None:
    assert source_of(1883, topic=topic).options.topic == topic
