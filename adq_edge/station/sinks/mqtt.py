"""A sink that publishes verdicts to an MQTT broker, and the station's health as a retained message."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import Any, Dict, List, Optional, Sequence

from adq_edge.core.json_lines import json_line
from adq_edge.station.broker import Broker, BrokerOptions, Will, check_topic, topic_of
from adq_edge.station.conditions import Condition
from adq_edge.station.events import Message
from adq_edge.station.sinks.base import Sink
from adq_edge.station.view import StationView

HEALTH_SCHEMA, HEALTH_VERSION = "adq-edge/health", 1
_GOODBYE_S = 2.0


@dataclasses.dataclass(frozen=True)
class MqttSinkOptions(BrokerOptions):
    """The keys of a sink of type `mqtt`, with those of the broker.

    Attributes:
        topic: the topic of verdicts; `{station}` and `{source}` stand for the names.
        health_topic: the topic of the station's health.
    """

    topic: str = "adq-edge/{station}/{source}/verdict"
    health_topic: str = "adq-edge/{station}/health"

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        super().check()
        check_topic("topic", self.topic)
        check_topic("health_topic", self.health_topic)


class MqttSink(Sink):
    """Publishes each verdict with quality of service 1; it is delivered once the broker has confirmed it.

    The health is a retained JSON object with `state`: `running`, `degraded`, `stopped`, or `lost`, which is
    the client's last will.
    """

    Options = MqttSinkOptions
    options: MqttSinkOptions

    def __init__(self, name: str, options: MqttSinkOptions) -> None:
        super().__init__(name, options)
        self._station: Optional[StationView] = None
        self._broker: Optional[Broker] = None

    def check(self) -> None:
        """Check library, password and certificates."""
        Broker(self.options)

    def probe(self) -> None:
        """Connect and disconnect."""
        broker = Broker(self.options)
        try:
            broker.connect()
        finally:
            broker.close()

    def claims(self) -> Sequence[str]:
        """Return the client's identifier: a broker takes one client with it."""
        return self.options.claims()

    def attach(self, station: StationView) -> None:
        """Publish the station's problems from now on."""
        self._station = station
        station.conditions.listen(self._publish_change)

    def open(self) -> None:
        """Connect, and publish the health."""
        will = Will(self._health_topic, self._health("lost"))
        self._broker = Broker(self.options, will, on_connect=self._publish_health)
        self._broker.connect()

    def send(self, messages: Sequence[Message]) -> int:
        """Publish verdicts, and return how many the broker has confirmed."""
        assert self._broker is not None
        receipts: List[Any] = []
        for message in messages:
            station, source = str(message.record["station"]), str(message.record["source"])
            topic = topic_of(self.options.topic, station, source)
            receipts.append(self._broker.publish(topic, message.text))
        return self._broker.wait_for(receipts)

    def require_peer(self) -> None:
        """Raise a StationError if the broker is gone."""
        assert self._broker is not None
        self._broker.require_connection()

    def close(self) -> None:
        """Publish that the station has stopped, if the broker is there, and disconnect."""
        broker, self._broker = self._broker, None
        if broker is None:
            return
        if broker.is_connected:
            with contextlib.suppress(Exception):
                receipt = broker.publish(self._health_topic, self._health("stopped"), retain=True)
                broker.wait_for([receipt], _GOODBYE_S)
        broker.close()

    def describe(self) -> str:
        """Return the broker's address."""
        return self.options.url

    def _publish_change(self, change: Condition) -> None:
        broker = self._broker
        if broker is not None and broker.is_connected:
            self._publish_health(broker)

    def _publish_health(self, broker: Broker) -> None:
        broker.publish(self._health_topic, self._health(), retain=True)

    @property
    def _health_topic(self) -> str:
        return topic_of(self.options.health_topic, self._station_name)

    @property
    def _station_name(self) -> str:
        return "station" if self._station is None else self._station.config.station.name

    def _health(self, state: Optional[str] = None) -> str:
        problems = () if self._station is None else self._station.conditions.current
        fields: Dict[str, Any] = {
            "schema": HEALTH_SCHEMA,
            "version": HEALTH_VERSION,
            "station": self._station_name,
            "state": state or ("degraded" if problems else "running"),
            "at": time.time(),
            "problems": [] if state else [dataclasses.asdict(problem) for problem in problems],
        }
        return json_line(fields)
