"""The MQTT sink against a real broker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest

from adq_edge.core.errors import AdqError
from adq_edge.station.config import parse_config
from adq_edge.station.sinks.mqtt import MqttSink, MqttSinkOptions
from adq_edge.station.tables import Place, parse_table
from factories.brokers import MOSQUITTO, Mosquitto, free_port, listening, password_lines
from factories.station_parts import View, message

mqtt = pytest.importorskip("paho.mqtt.client")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def sink_of(broker_port: int, **keys: Any) -> MqttSink:
    table = {"host": "127.0.0.1", "port": broker_port, **keys}
    sink = MqttSink("plant", parse_table(MqttSinkOptions, table, HERE))
    sink.check()
    return sink


HERE = Place("station.toml", Path(), "sinks.plant")


def documents(received: List[Any]) -> List[Dict[str, Any]]:
    return [json.loads(one.payload) for one in received]


@needs_broker
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_verdicts_arrive_in_order_and_health_follows_the_station(tmp_path: Path, protocol: str) -> None:
    sink, view = MqttSink("plant", MqttSinkOptions("127.0.0.1")), View()
    with Mosquitto(tmp_path) as broker, listening(broker.port, "adq-edge/#") as listener:
        sink = sink_of(broker.port, protocol=protocol)
        sink.attach(view)
        sink.open()
        assert sink.send([message(number) for number in range(1, 65)]) == 64
        view.conditions.report("source top", "no image since 5 s")
        listener.wait_for(lambda: len(listener.received) == 66)
        sink.close()
        listener.wait_for(lambda: len(listener.received) == 67)
        by_topic: Dict[str, List[Dict[str, Any]]] = {}
        for one in listener.received:
            by_topic.setdefault(one.topic, []).append(json.loads(one.payload))
        assert [one["sequence"] for one in by_topic["adq-edge/press 4/top/verdict"]] == list(range(1, 65))
        health = by_topic["adq-edge/press 4/health"]
        assert [one["state"] for one in health] == ["running", "degraded", "stopped"]
        assert health[1]["problems"][0]["problem"] == "no image since 5 s"


@needs_broker
def test_last_will_reports_a_lost_connection(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker, listening(broker.port, "adq-edge/#") as listener:
        sink = sink_of(broker.port)
        sink.attach(View())
        sink.open()
        listener.wait_for(lambda: len(listener.received) == 1)
        sink._broker._client._sock.close()  # as if the machine had lost its power
        listener.wait_for(lambda: "lost" in [one["state"] for one in documents(listener.received)])
        sink.close()


@needs_broker
def test_a_wrong_password_is_one_line_that_does_not_show_it(tmp_path: Path) -> None:
    lines = password_lines(tmp_path, "line4", "correct horse")
    secret = tmp_path / "secret"
    with Mosquitto(tmp_path, *lines) as broker:
        secret.write_text("wrong horse\n")
        sink = sink_of(broker.port, username="line4", password_file=str(secret))
        for attempt in (sink.probe, sink.open):
            with pytest.raises(AdqError, match="the broker refuses this user or password") as found:
                attempt()
            assert "horse" not in str(found.value) + repr(sink.options)
            assert f"mqtt://127.0.0.1:{broker.port}" in str(found.value)
        sink.close()
        with pytest.raises(AdqError, match="refuses a client without a name"):
            sink_of(broker.port).probe()
        secret.write_text("correct horse\n")
        sink.probe()


@needs_broker
@pytest.mark.skipif(not hasattr(mqtt, "CallbackAPIVersion"), reason="paho-mqtt 1 does not report refusals")
def test_verdict_on_a_refused_topic_is_not_delivered(tmp_path: Path) -> None:
    rights = tmp_path / "rights"
    rights.write_text("topic readwrite allowed/#\n")
    with Mosquitto(tmp_path, f"acl_file {rights}") as broker:
        sink = sink_of(broker.port)
        sink.open()
        with pytest.raises(AdqError, match="the broker refuses the topic"):
            sink.send([message(1)])
        sink.close()


@needs_broker
def test_verdicts_wait_while_the_broker_is_away(tmp_path: Path) -> None:
    with Mosquitto(tmp_path) as broker:
        sink = sink_of(broker.port)
        sink.open()
        sink.require_peer()
        broker.kill()
        with pytest.raises(AdqError, match="the broker is gone"):
            sink.send([message(1)])
        lost = sink._broker
        with lost._changed:  # paho's thread notices it a moment later
            assert lost._changed.wait_for(lambda: not lost.is_connected, 20)
        with pytest.raises(AdqError, match="the broker is gone"):
            sink.require_peer()
        sink.close()
        with pytest.raises(AdqError, match="cannot be reached \\(connection refused\\)"):
            sink.open()
        sink.close()
        broker.start()
        sink.open()
        assert sink.send([message(1)]) == 1
        sink.close()


def test_a_broker_that_is_not_there_is_one_line() -> None:
    port = free_port()
    with pytest.raises(AdqError, match=f"mqtt://127.0.0.1:{port}: cannot be reached"):
        sink_of(port).probe()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"topic": "line/#"}, "topic is 'line/#', not a topic without"),
        ({"host": "mqtt://broker"}, "host is 'mqtt://broker', not a name or address"),
        ({"port": 70000}, "port is 70000, not 1 to 65535"),
        ({"password": "secret"}, "password needs username"),
        ({"protocol": "4"}, "protocol is '4', not '5' or '3.1.1'"),
        ({"pasword": "x"}, "unknown key 'pasword'"),
        ({"username": "u", "password_file": "none.txt"}, "none.txt"),
        ({"ca_file": "none.pem"}, "cannot be used as certificates"),
    ],
)
def test_impossible_keys_are_refused_when_the_station_is_checked(keys: Dict[str, Any], problem: str) -> None:
    with pytest.raises(AdqError) as found:
        sink_of(1883, **keys)
    assert problem in str(found.value)


def test_without_paho_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paho.mqtt.client", None)
    with pytest.raises(
        AdqError, match=r"MQTT needs paho-mqtt. Install it: pip install 'adq-edge\[station\]'"
    ):
        sink_of(1883)


def test_the_station_file_takes_the_password_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTT_PASSWORD", "correct horse")
    sink = {"type": "mqtt", "host": "broker", "username": "line4", "password": "${MQTT_PASSWORD}"}
    document = {
        "engines": {"e": {"file": "e.onnx"}},
        "sources": {
            "cam": {"type": "camera", "device": 0, "trigger": "software"},
            "top": {"type": "mqtt", "host": "broker", "topic": "line4/trigger", "camera": "cam"},
        },
        "sinks": {"plant": sink},
    }
    config = parse_config(document, Place("station.toml", Path(), ""))
    options = config.sinks["plant"].sink.options
    assert options.read_password() == "correct horse"
    assert "horse" not in repr(config)
