"""A source that is triggered over MQTT: a message asks for an image of a camera, or is the image."""

from __future__ import annotations

import dataclasses
import socket
from typing import Any, Dict, Optional, Sequence

from adq_edge.core.errors import first_line
from adq_edge.core.text import quoted
from adq_edge.station.broker import Broker, BrokerOptions
from adq_edge.station.events import Ticket, Trigger
from adq_edge.station.intake import Intake, Stopped
from adq_edge.station.sources.base import Source
from adq_edge.station.trigger_fields import check_fields, parse_fields, trigger_of

_ATTENTION_S = 0.5


@dataclasses.dataclass(frozen=True)
class MqttSourceOptions(BrokerOptions):
    """The keys of a source of type `mqtt`, with those of the broker.

    Attributes:
        topic: the topic of the triggers; `+` and `#` are allowed.
        camera: the source of type `camera` that takes the image of a trigger. Without it, each message is an
            encoded image.
    """

    topic: str = ""
    camera: Optional[str] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        super().check()
        if not _is_filter(self.topic):
            raise ValueError(
                f"topic is {quoted(self.topic)}, not a topic such as 'line1/trigger' or 'line1/#'"
            )


def _is_filter(topic: str) -> bool:
    """Return True for a topic of MQTT; a wildcard stands alone between two slashes, `#` at the end."""
    *levels, last = topic.split("/")
    has_wildcards = any("#" in level or ("+" in level and level != "+") for level in levels)
    is_last = last in ("+", "#") or not set(last) & set("+#")
    return bool(topic) and "\0" not in topic and not has_wildcards and is_last


class MqttSource(Source):
    """Submits a trigger for each message.

    Messages that are images wait at the broker while the station is not there, for a day at the most, and are
    confirmed once their verdict is stored. Triggers for a camera do not wait: their part has passed.
    """

    Options = MqttSourceOptions
    options: MqttSourceOptions

    def check(self) -> None:
        """Check library, password and certificates."""
        broker = Broker(self.options)
        if self.options.camera is None:
            broker.acknowledge_by_hand()

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

    def run(self, intake: Intake) -> None:
        """Submit triggers until the station ends; connect again when the broker was away."""
        session = None if self.options.camera else f"adq-edge-{socket.gethostname()}-{self.name}"
        receiver = _Receiver(self.options, intake)
        broker = receiver.broker = Broker(
            self.options, session=session, on_connect=receiver.subscribe, on_message=receiver.receive
        )
        if session is not None:
            broker.acknowledge_by_hand()
        try:
            broker.connect()
            while not intake.wait(_ATTENTION_S):
                receiver.report_connection()
        finally:
            broker.close()

    def describe(self) -> str:
        """Return the broker's address and the topic."""
        return f"{self.options.url} {self.options.topic}"


class _Receiver:
    """The callbacks of a connection."""

    def __init__(self, options: MqttSourceOptions, intake: Intake) -> None:
        self._options, self._intake = options, intake
        self._subscription: Optional[int] = None
        self._open: Dict[int, Ticket] = {}
        self.broker: Broker

    def subscribe(self, broker: Broker) -> None:
        self._subscription = broker.subscribe(self._options.topic)

    def report_connection(self) -> None:
        """Report a broker that is gone, and raise if it refuses the subscription."""
        if self.broker.failure is not None:
            raise self.broker.failure
        number = self._subscription
        if not self.broker.is_connected:
            self._intake.report(f"{self._options.url}: the broker is gone. Start it.")
        elif number is not None:
            self.broker.wait_for_subscription(number)
            self._subscription = None
            self._intake.report(None)

    def receive(self, message: Any) -> None:
        if message.dup and message.mid in self._open:  # it came before the connection was lost
            return
        try:
            ticket = self._intake.submit(self._trigger(message))
        except Stopped:  # not confirmed: the message comes again
            return
        if message.qos and self._options.camera is None:
            self._open[message.mid] = ticket
            ticket.stored.add_done_callback(lambda done: self._confirm(message))

    def _confirm(self, message: Any) -> None:
        self._open.pop(message.mid, None)
        self.broker.acknowledge(message)

    def _trigger(self, message: Any) -> Trigger:
        properties = getattr(getattr(message, "properties", None), "UserProperty", None) or ()
        payload, camera = bytes(message.payload), self._options.camera
        fields: Dict[str, str] = {}
        try:
            fields = check_fields(dict(properties))
            if camera is not None:
                return trigger_of({**fields, **parse_fields(payload)}, camera=camera)
        except ValueError as error:
            return trigger_of(fields, problem=f"the trigger cannot be read: {first_line(error)}")
        if not payload:
            return trigger_of(fields, problem="the message has 0 bytes")
        return trigger_of(fields, image=payload)
