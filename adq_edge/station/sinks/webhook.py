"""A sink that posts each verdict to a web server, signed as of Standard Webhooks (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import hmac
import http.client
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Sequence, Tuple
from urllib.parse import urlsplit

from adq_edge.core.errors import StationError, first_line
from adq_edge.core.text import printable, quoted
from adq_edge.core.version import __version__
from adq_edge.station.events import Message
from adq_edge.station.secrets import read_secret
from adq_edge.station.sinks.base import Refused, Sink
from adq_edge.station.tls import explain_tls, tls_context

ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
_BASE64_SECRET = "whsec_"
_ABOUT_THE_MESSAGE = frozenset(
    {400, 406, 409, 410, 411, 412, 413, 414, 415, 416, 417, 422, 424, 428, 431, 451}
)
"""Statuses after which the same message would be refused again; after others it is sent again."""
_MOST_ANSWER = 65536
_FIXES: Mapping[int, str] = {
    401: "Correct the secret or the headers",
    403: "Correct the secret or the headers",
    404: "Correct the url",
    405: "Correct the url",
}


@dataclasses.dataclass(frozen=True)
class WebhookOptions:
    """The keys of a sink of type `webhook`.

    Attributes:
        url: where verdicts are posted, http or https.
        secret: the key of the signature, best as "${VARIABLE}"; "whsec_..." is base64. Without it nothing is
            signed.
        secret_file: a file with the secret instead.
        headers: further headers of each request, such as Authorization.
        timeout_s: time for an answer, in s.
        ca_file: the certificates that the server's is checked against, in PEM; by default the system's.
    """

    url: str
    secret: Optional[str] = dataclasses.field(default=None, repr=False)
    secret_file: Optional[Path] = None
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    timeout_s: float = 10.0
    ca_file: Optional[Path] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        try:
            parts = urlsplit(self.url)
            is_usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_usable = False
        if not is_usable or not self.url.isascii() or not self.url.isprintable() or " " in self.url:
            raise ValueError("url is not an address such as 'https://mes.example/verdicts'")
        if parts.username is not None:
            raise ValueError("url has a password in it; use headers with Authorization")
        if not 0.1 <= self.timeout_s <= 600.0:
            raise ValueError(f"timeout_s is {self.timeout_s:g}, not 0.1 to 600")
        for name, value in self.headers.items():
            if not (name and name.isascii() and name.isprintable() and value.isprintable()):
                raise ValueError(f"headers has {quoted(name)}, which is no possible header")


class WebhookSink(Sink):
    """Posts one verdict after another on one connection; the server confirms each with a status 200 to 299.

    After a status about the message itself, such as 400 or 422, the message counts as refused and the next
    one is sent. After all others, such as 401, 404, 429 or 503, the message is sent again.
    """

    Options = WebhookOptions
    options: WebhookOptions

    def __init__(self, name: str, options: WebhookOptions) -> None:
        super().__init__(name, options)
        self._connection: Optional[http.client.HTTPConnection] = None
        self._key: Optional[bytes] = None
        self._refused: Optional[Tuple[str, str]] = None

    def check(self) -> None:
        """Check secret and certificates."""
        self._read_key()
        self._connect()

    def probe(self) -> None:
        """Open a connection; nothing is posted."""
        connection = self._connect()
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            raise self._explain(error) from error
        finally:
            connection.close()

    def open(self) -> None:
        """Prepare the connection; it is made by the first request."""
        self._key, self._connection = self._read_key(), self._connect()

    def send(self, messages: Sequence[Message]) -> int:
        """Post verdicts one by one, and return how many were confirmed before the first problem."""
        for count, message in enumerate(messages):
            try:
                self._post(message)
            except (Refused, StationError):
                if count == 0:
                    raise
                return count
        return len(messages)

    def _post(self, message: Message) -> None:
        if self._refused is not None and self._refused[0] == message.id:
            raise Refused(self._refused[1])  # in the call before, behind confirmed messages
        try:
            status, reason = self._request(message)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self._explain(error) from error
        answer = printable(f"answers {status} {reason}", 200)
        if status in _ABOUT_THE_MESSAGE:
            self._refused = message.id, answer
            raise Refused(answer)
        if not 200 <= status <= 299:
            fix = "Set url to the address that it redirects to" if 300 <= status <= 399 else None
            fix = fix or _FIXES.get(status, "Repair the server; the verdict is sent again")
            raise StationError(answer, where=self.describe(), fix=fix)

    def _request(self, message: Message) -> Tuple[int, str]:
        """Post a verdict and return status and reason; try again if a kept connection was closed."""
        assert self._connection is not None
        body = message.text.encode("utf-8")
        is_kept = self._connection.sock is not None
        try:
            return self._request_once(message.id, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self._connection.close()
            if not is_kept:
                raise
            return self._request_once(message.id, body)

    def _request_once(self, identifier: str, body: bytes) -> Tuple[int, str]:
        connection = self._connection
        assert connection is not None
        parts = urlsplit(self.options.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        with _limited(connection, self.options.timeout_s):
            connection.request("POST", target, body, self._headers(identifier, body))
            answer = connection.getresponse()
            answer.read(_MOST_ANSWER)
        if not answer.isclosed():  # more than anyone should answer
            connection.close()
        return answer.status, answer.reason

    def _headers(self, identifier: str, body: bytes) -> Dict[str, str]:
        seconds = str(int(time.time()))
        headers = {
            "User-Agent": f"adq-edge/{__version__}",
            **self.options.headers,
            "Content-Type": "application/json",
            ID_HEADER: identifier,
            TIME_HEADER: seconds,
        }
        if self._key is not None:
            headers[SIGNATURE_HEADER] = sign(self._key, identifier, seconds, body)
        return headers

    def _read_key(self) -> Optional[bytes]:
        secret = read_secret("secret", self.options.secret, self.options.secret_file)
        if secret is None or not secret.startswith(_BASE64_SECRET):
            return None if secret is None else secret.encode("utf-8")
        try:
            return base64.b64decode(secret[len(_BASE64_SECRET) :], validate=True)
        except (binascii.Error, ValueError):
            what, fix = "the secret after whsec_ is not base64", "Copy it from the server again"
            raise StationError(what, where=self.describe(), fix=fix) from None

    def _connect(self) -> http.client.HTTPConnection:
        parts, timeout_s = urlsplit(self.options.url), self.options.timeout_s
        assert parts.hostname is not None
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        context = tls_context(self.options.ca_file)
        return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout_s, context=context)

    def _explain(self, error: Exception) -> StationError:
        if isinstance(error, ssl.SSLError):
            return explain_tls(error, self.describe())
        reason = (getattr(error, "strerror", None) or first_line(error)).lower()
        fix = "Start the server, or correct the url"
        return StationError(f"no answer ({reason})", where=self.describe(), fix=fix)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def describe(self) -> str:
        """Return the address, without its query, which may hold a key."""
        return self.options.url.partition("?")[0]


@contextlib.contextmanager
def _limited(connection: http.client.HTTPConnection, timeout_s: float) -> Iterator[None]:
    """Raise a TimeoutError if the block takes longer; the limit of a socket starts again at each byte."""
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        with contextlib.suppress(OSError):
            if connection.sock is not None:
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)  # also below TLS

    timer = threading.Timer(timeout_s, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_late.is_set():
            raise
    finally:
        timer.cancel()
    if is_late.is_set():
        raise TimeoutError("timed out")


def sign(key: bytes, identifier: str, seconds: str, body: bytes) -> str:
    """Return the signature of a request: `v1,` and HMAC-SHA256 of id, time and body in base64.

    Args:
        key: the secret.
        identifier: the message's id, the value of `webhook-id`.
        seconds: seconds since 1970, the value of `webhook-timestamp`.
        body: the body of the request.
    """
    signed = b".".join((identifier.encode("utf-8"), seconds.encode("ascii"), body))
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
