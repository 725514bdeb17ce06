"""A connection to an MQTT broker, with paho-mqtt 1.6 or 2."""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import ssl
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple

from adq_edge.core.errors import AdqError, MissingDependencyError, StationError, first_line
from adq_edge.core.text import quoted
from adq_edge.station.libraries import import_library
from adq_edge.station.secrets import read_secret
from adq_edge.station.tls import explain_tls, load_certificate, tls_context

PLAIN_PORT, TLS_PORT = 1883, 8883
TIMEOUT_S = 10.0
"""Time for the broker's answer to a connection, a subscription or a message."""
_KEEPALIVE_S = 20
_LONGEST_PAUSE_S = 30
_MOST_IN_FLIGHT = 64
_ATTENTION_S = 0.5
_QOS = 1
_FAILURE = 128
"""The lowest reason code of MQTT 5 that is a failure."""
_WRONG_PASSWORD, _OLD_BROKER = (4, 5, 134, 135), (1, 132)
"""Codes of a refused connection, of MQTT 3.1.1 and 5."""
_SESSION_S = 24 * 3600
_NO_WILDCARDS = str.maketrans({"/": "_", "+": "_", "#": "_", "\0": "_"})


@dataclasses.dataclass(frozen=True)
class BrokerOptions:
    """The keys of a broker.

    Attributes:
        host: name or address of the broker.
        port: its port; by default 1883, with TLS 8883.
        username: the user's name.
        password: the password, best as "${VARIABLE}".
        password_file: a file with the password instead.
        tls: True to encrypt the connection; implied by `ca_file` and `certificate`.
        ca_file: the certificates that the broker's is checked against, in PEM; by default the system's.
        certificate: the client's certificate, in PEM.
        key: the client's private key, in PEM, if it is not in the file of the certificate.
        protocol: version of MQTT, "5" or "3.1.1". With 3.1.1, or with paho-mqtt 1, a broker that does not
            allow the user to write a topic drops the messages without an error.
        client_id: the client's identifier; a random one by default.
    """

    host: str
    port: Optional[int] = None
    username: Optional[str] = None
    password: Optional[str] = dataclasses.field(default=None, repr=False)
    password_file: Optional[Path] = None
    tls: bool = False
    ca_file: Optional[Path] = None
    certificate: Optional[Path] = None
    key: Optional[Path] = None
    protocol: str = "5"
    client_id: Optional[str] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not self.host.strip() or "/" in self.host:
            raise ValueError(f"host is {quoted(self.host)}, not a name or address such as '192.168.0.5'")
        if self.port is not None and not 1 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not 1 to 65535")
        if self.protocol not in ("5", "3.1.1"):
            raise ValueError(f"protocol is {quoted(self.protocol)}, not '5' or '3.1.1'")
        if self.username is None and (self.password or self.password_file):
            raise ValueError("password needs username")

    @property
    def is_encrypted(self) -> bool:
        """True if the connection uses TLS."""
        return self.tls or self.ca_file is not None or self.certificate is not None

    @property
    def address(self) -> Tuple[str, int]:
        """Host and port."""
        return self.host, self.port or (TLS_PORT if self.is_encrypted else PLAIN_PORT)

    @property
    def url(self) -> str:
        """The address for messages."""
        host, port = self.address
        return f"{'mqtts' if self.is_encrypted else 'mqtt'}://{host}:{port}"

    def claims(self) -> Sequence[str]:
        """Return the client's identifier, if it is named: a broker takes one client with it."""
        return [] if self.client_id is None else [f"client_id {quoted(self.client_id)} at {self.url}"]

    def read_password(self) -> Optional[str]:
        """Return the password; errors as of `read_secret`."""
        return read_secret("password", self.password, self.password_file)


@dataclasses.dataclass(frozen=True)
class Will:
    """A retained message that the broker publishes when the connection of its client breaks."""

    topic: str
    text: str


class Broker:
    """A connection to a broker; after the first one, it is made again whenever it breaks.

    Args:
        options: the keys of the broker.
        will: the message for a lost connection.
        session: identifier of a session that the broker keeps for a day; None for one that ends at once.
        on_connect: called at each connection with this object, in a thread of its own.
        on_message: called with each message, in the same thread.

    Attributes:
        failure: the error of a callback, after which no message is received any more; None without one.

    Raises:
        MissingDependencyError: paho-mqtt is not installed.
        AdqError: the password or a certificate cannot be read.
    """

    def __init__(
        self,
        options: BrokerOptions,
        will: Optional[Will] = None,
        session: Optional[str] = None,
        on_connect: Callable[[Broker], None] = lambda broker: None,
        on_message: Callable[[Any], None] = lambda message: None,
    ) -> None:
        self._options, self._session = options, session
        self._on_connect, self._on_message = on_connect, on_message
        self._changed = threading.Condition()
        self._is_connected, self._refusal = False, 0
        self._failures: Dict[int, int] = {}
        self._subscribed: Dict[int, int] = {}
        self._started = False
        self.failure: Optional[Exception] = None
        self._mqtt = import_library("paho.mqtt.client", "MQTT", "paho-mqtt")
        self._client = self._make_client(will)

    def _make_client(self, will: Optional[Will]) -> Any:
        options = self._options
        is_5 = options.protocol == "5"
        identifier = options.client_id or self._session or f"adq-edge-{secrets.token_hex(6)}"
        arguments: Dict[str, Any] = {"client_id": identifier}
        arguments["protocol"] = self._mqtt.MQTTv5 if is_5 else self._mqtt.MQTTv311
        if not is_5:
            arguments["clean_session"] = self._session is None
        versions = getattr(self._mqtt, "CallbackAPIVersion", None)  # from paho-mqtt 2.0 on
        positional = () if versions is None else (versions.VERSION2,)
        client = self._mqtt.Client(*positional, **arguments)
        client.max_inflight_messages_set(_MOST_IN_FLIGHT)
        client.reconnect_delay_set(1, _LONGEST_PAUSE_S)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_publish, client.on_subscribe = self._published, self._granted
        client.on_message = self._received
        if options.username is not None:
            client.username_pw_set(options.username, options.read_password())
        if options.is_encrypted:
            client.tls_set_context(_tls_context(options))
        if will is not None:
            client.will_set(will.topic, will.text, _QOS, retain=True)
        return client

    def acknowledge_by_hand(self) -> None:
        """Leave the confirmation of received messages to `acknowledge`.

        Raises:
            MissingDependencyError: it needs paho-mqtt 2.
        """
        if not hasattr(self._client, "manual_ack_set"):
            fix = "Install it: pip install 'paho-mqtt>=2'"
            raise MissingDependencyError("images over MQTT need paho-mqtt 2", fix=fix)
        self._client.manual_ack_set(True)

    def acknowledge(self, message: Any) -> None:
        """Confirm a received message."""
        self._client.ack(message.mid, message.qos)

    def connect(self) -> None:
        """Connect, and wait until the broker has accepted the client.

        Raises:
            StationError: the broker is not there or refuses the client; one line that says why.
        """
        with self._translated():
            self._client.connect(*self._options.address, keepalive=_KEEPALIVE_S, **self._connect_options())
            self._client.loop_start()
            self._started = True
        with self._changed:
            self._changed.wait_for(lambda: self._is_connected or self._refusal, TIMEOUT_S)
            if self._refusal:
                raise self._explain_refusal(self._refusal)
            if not self._is_connected:
                raise StationError(
                    "no answer of a broker", where=self._options.url, fix="Check host and port"
                )

    def _connect_options(self) -> Dict[str, Any]:
        if self._session is None or self._options.protocol != "5":
            return {}
        properties = import_library("paho.mqtt.properties", "MQTT", "paho-mqtt")
        kinds = import_library("paho.mqtt.packettypes", "MQTT", "paho-mqtt").PacketTypes
        kept = properties.Properties(kinds.CONNECT)
        kept.SessionExpiryInterval = _SESSION_S
        return {"clean_start": False, "properties": kept}

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the errors of sockets and of paho-mqtt into one line."""
        where = self._options.url
        try:
            yield
        except AdqError:
            raise
        except ssl.SSLError as error:
            raise explain_tls(error, where) from error
        except OSError as error:
            reason = (error.strerror or first_line(error)).lower()
            what = f"cannot be reached ({reason})"
            raise StationError(what, where=where, fix="Start the broker, or correct host and port") from error
        except Exception as error:  # of paho-mqtt, about values
            raise StationError(
                first_line(error), where=where, fix="Correct the keys of the broker"
            ) from error

    def _explain_refusal(self, code: int) -> StationError:
        where = self._options.url
        if code in _WRONG_PASSWORD:
            user = "a client without a name" if self._options.username is None else "this user or password"
            fix = 'Set username, and password = "${VARIABLE}" or password_file'
            return StationError(f"the broker refuses {user}", where=where, fix=fix)
        if code in _OLD_BROKER:
            what = f"the broker does not know MQTT {self._options.protocol}"
            return StationError(what, where=where, fix='Set protocol = "3.1.1"')
        return StationError(
            f"the broker refuses the client (code {code})", where=where, fix="See the broker's log"
        )

    def _connected(self, client: Any, data: Any, flags: Any, code: Any, *rest: Any) -> None:
        with self._changed:
            self._refusal = _number(code)
            self._is_connected = not self._refusal
            self._changed.notify_all()
            is_connected = self._is_connected
        if is_connected:
            self._call(self._on_connect, self)

    def _received(self, client: Any, data: Any, message: Any) -> None:
        self._call(self._on_message, message)

    def _call(self, function: Callable[[Any], None], argument: Any) -> None:
        """Call a function of the user of this object; its error must not end the thread of paho-mqtt."""
        try:
            if self.failure is None:
                function(argument)
        except Exception as error:
            self.failure = error

    def _disconnected(self, *arguments: Any) -> None:
        with self._changed:
            self._is_connected = False
            self._changed.notify_all()

    def _published(self, client: Any, data: Any, number: int, *rest: Any) -> None:
        code = _number(rest[0]) if rest else 0
        if code >= _FAILURE:
            self._failures[number] = code

    def _granted(self, client: Any, data: Any, number: int, codes: Any, *rest: Any) -> None:
        with self._changed:
            self._subscribed[number] = _number(codes[0])
            self._changed.notify_all()

    def publish(self, topic: str, text: str, retain: bool = False) -> Any:
        """Send a message and return its receipt for `wait_for`, without waiting for the broker."""
        return self._client.publish(topic, text.encode("utf-8"), _QOS, retain)

    def wait_for(self, receipts: Sequence[Any], timeout_s: float = TIMEOUT_S) -> int:
        """Wait until the broker has confirmed messages; return how many, counted from the first.

        Raises:
            StationError: the broker refuses the first one, is gone, or does not answer in time.
        """
        end = time.monotonic() + timeout_s
        for count, receipt in enumerate(receipts):
            is_confirmed = self._is_confirmed(receipt, end)
            code = self._failures.pop(receipt.mid, 0)
            if is_confirmed and not code:
                continue
            if count:
                return count
            raise self._explain_refusal_of_message(code) if code else self._explain_silence(end, timeout_s)
        return len(receipts)

    def _is_confirmed(self, receipt: Any, end: float) -> bool:
        try:
            while not receipt.is_published():
                if not self._is_connected or time.monotonic() >= end:
                    return False
                receipt.wait_for_publish(_ATTENTION_S)
        except (RuntimeError, ValueError):  # the broker was gone before the message was sent
            return False
        return True

    def _explain_silence(self, end: float, timeout_s: float) -> StationError:
        """Return the error for a broker that did not answer until `end`, as `time.monotonic`, or is gone."""
        is_silent = self._is_connected and time.monotonic() >= end
        what = f"gave no answer within {timeout_s:g} s" if is_silent else "is gone"
        return StationError(f"the broker {what}", where=self._options.url, fix="Start it")

    def _explain_refusal_of_message(self, code: int) -> StationError:
        what = f"the broker refuses the topic (code {code})"
        fix = "Allow the user to use the topic, or set another one"
        return StationError(what, where=self._options.url, fix=fix)

    def subscribe(self, topic: str) -> int:
        """Ask for the messages of a topic, and return the number for `wait_for_subscription`."""
        result, number = self._client.subscribe(topic, _QOS)
        if number is None:
            raise StationError(f"cannot subscribe (code {result})", where=self._options.url, fix="Try again")
        return int(number)

    def wait_for_subscription(self, number: int) -> None:
        """Wait until the broker has accepted a subscription.

        Raises:
            StationError: it refuses the subscription, is gone, or does not answer in time.
        """
        end = time.monotonic() + TIMEOUT_S
        with self._changed:
            self._changed.wait_for(lambda: number in self._subscribed or not self._is_connected, TIMEOUT_S)
            code = self._subscribed.pop(number, None)
        if code is None:
            raise self._explain_silence(end, TIMEOUT_S)
        if code >= _FAILURE:
            raise self._explain_refusal_of_message(code)

    @property
    def is_connected(self) -> bool:
        """True while the broker is there."""
        return self._is_connected

    def require_connection(self) -> None:
        """Raise a StationError if the broker is gone."""
        if not self._is_connected:
            raise StationError("the broker is gone", where=self._options.url, fix="Start it")

    def close(self) -> None:
        """Disconnect; the broker does not publish the will then."""
        self._client.disconnect()
        if self._started:
            self._client.loop_stop()


def _number(code: Any) -> int:
    """Return a code of paho-mqtt, which is a number or an object with one."""
    return int(getattr(code, "value", code))


def _tls_context(options: BrokerOptions) -> ssl.SSLContext:
    context = tls_context(options.ca_file)
    if options.certificate is not None:
        load_certificate(context, options.certificate, options.key)
    return context


def topic_of(template: str, station: str, source: str = "") -> str:
    """Return a topic with the names of station and source in place of `{station}` and `{source}`."""
    names = {"{station}": station, "{source}": source}
    for mark, name in names.items():
        template = template.replace(mark, name.translate(_NO_WILDCARDS))
    return template


def check_topic(name: str, topic: str) -> None:
    """Raise a ValueError if a topic cannot be published to."""
    if not topic or any(letter in topic for letter in "+#\0") or len(topic.encode("utf-8")) > 1000:
        raise ValueError(f"{name} is {quoted(topic)}, not a topic without + and #")
