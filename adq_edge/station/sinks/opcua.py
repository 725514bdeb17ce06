"""A sink that is an OPC UA server: the last verdict, the counts and the health as nodes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import logging
import socket
import threading
from concurrent import futures
from pathlib import Path
from typing import Any, Coroutine, Dict, Mapping, Optional, Sequence, Tuple

from adq_edge.core.errors import StationError, first_line
from adq_edge.serving.settings import is_loopback
from adq_edge.station.conditions import Condition
from adq_edge.station.events import VERDICTS, Message
from adq_edge.station.libraries import import_library
from adq_edge.station.secrets import read_secret
from adq_edge.station.sinks.base import Sink
from adq_edge.station.view import StationView

NAMESPACE = "urn:adq-edge:station"
DEFAULT_PORT = 4840
_CALL_S, _START_S = 10.0, 30.0
_TYPES: Mapping[str, Tuple[str, Any]] = {
    "Verdict": ("String", ""),
    "Product": ("String", ""),
    "Reason": ("String", ""),
    "Score": ("Double", float("nan")),
    "Sequence": ("UInt64", 0),
    "DecidedAt": ("String", ""),
    "LatencyMs": ("Double", 0.0),
    "OnTime": ("Boolean", True),
    "Record": ("String", ""),
    **{f"Count.{verdict}": ("UInt64", 0) for verdict in VERDICTS},
    "Id": ("String", ""),
}
"""Type and first value of the nodes of a source, in the order in which they are written: `Id` is the last."""


@dataclasses.dataclass(frozen=True)
class OpcUaOptions:
    """The keys of a sink of type `opcua`.

    Attributes:
        host: the address to listen on; another one than this machine's own needs a password.
        port: the port.
        username: the name that clients must give.
        password: their password, best as "${VARIABLE}".
        password_file: a file with the password instead.
        certificate: the server's certificate, in PEM or DER; connections must then be signed and encrypted.
        key: its private key, in PEM.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    username: Optional[str] = None
    password: Optional[str] = dataclasses.field(default=None, repr=False)
    password_file: Optional[Path] = None
    certificate: Optional[Path] = None
    key: Optional[Path] = None

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not 1 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not 1 to 65535")
        if (self.username is None) != (self.password is None and self.password_file is None):
            raise ValueError("username and password belong together")
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together")
        if self.username is None and not is_loopback(self.host):
            raise ValueError(f"host {self.host} lets other machines in, which needs username and password")


class OpcUaSink(Sink):
    """Writes each verdict to the nodes of its source; it is delivered when they are written."""

    Options = OpcUaOptions
    options: OpcUaOptions

    def __init__(self, name: str, options: OpcUaOptions) -> None:
        super().__init__(name, options)
        self._station: Optional[StationView] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None
        self._thread: Optional[threading.Thread] = None
        self._server: Any = None
        self._nodes: Dict[str, Any] = {}
        self._counts: Dict[str, int] = {}
        self._index = 0

    def check(self) -> None:
        """Check library, password, certificate and port."""
        import_library("asyncua", "OPC UA")
        options = self.options
        read_secret("password", options.password, options.password_file)
        for path in (options.certificate, options.key):
            if path is not None and not path.is_file():
                raise StationError("is no file", where=path, fix="Name certificate and key in PEM")
        if self._loop is None:
            self._check_port()

    def _check_port(self) -> None:
        address = self.options.host, self.options.port
        try:
            with socket.create_server(
                address, family=socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            ):
                return
        except OSError as error:
            what = f"cannot listen there ({(error.strerror or first_line(error)).lower()})"
            fix = "End the program that uses the port, or set another port"
            raise StationError(what, where=self.describe(), fix=fix) from error

    def claims(self) -> Sequence[str]:
        """Return the port."""
        return [f"port {self.options.port}"]

    def attach(self, station: StationView) -> None:
        """Show the sources and the problems of the station."""
        self._station = station
        station.conditions.listen(self._show_change)

    def open(self) -> None:
        """Start the server."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"opcua {self.name}", daemon=True)
        self._thread.start()
        try:
            self._call(self._start(), _START_S)
        except (OSError, futures.TimeoutError) as error:
            reason = (getattr(error, "strerror", None) or first_line(error)).lower()
            fix = "End the program that uses the port, or set another port"
            raise StationError(f"cannot listen there ({reason})", where=self.describe(), fix=fix) from error

    def send(self, messages: Sequence[Message]) -> int:
        """Write verdicts to their nodes, one after another."""
        for message in messages:
            self._call(self._write(message))
        return len(messages)

    def close(self) -> None:
        """Stop the server."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        if self._server is not None:
            with contextlib.suppress(Exception):
                self._call(self._server.stop())
        self._loop = self._server = self._thread = None
        self._nodes = {}
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CALL_S)
        if not thread.is_alive():
            loop.close()

    def describe(self) -> str:
        """Return the address of the server."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"opc.tcp://{host}:{self.options.port}/adq-edge"

    def _call(self, work: Coroutine[Any, Any, Any], timeout_s: float = _CALL_S) -> Any:
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _start(self) -> None:
        asyncua = import_library("asyncua", "OPC UA")
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # its problems are those of the sink
        options = self.options
        server = asyncua.Server(user_manager=_Users(options))
        await server.init()
        server.set_endpoint(self.describe())
        server.set_server_name("adq-edge")
        await self._secure(server, asyncua.ua)
        self._index = await server.register_namespace(NAMESPACE)
        await self._add_nodes(server, asyncua.ua)
        await server.start()
        self._server = server
        await self._write_health()

    async def _secure(self, server: Any, ua: Any) -> None:
        options, policy = self.options, ua.SecurityPolicyType
        if options.certificate is None:
            server.set_security_policy([policy.NoSecurity])
        else:
            server.set_security_policy([policy.Basic256Sha256_SignAndEncrypt])
            await server.load_certificate(str(options.certificate))
            await server.load_private_key(str(options.key))

    async def _add_nodes(self, server: Any, ua: Any) -> None:
        root = await server.nodes.objects.add_object(self._id(ua, "Station"), self._name(ua, "Station"))
        station = "" if self._station is None else self._station.config.station.name
        for name, value, kind in (
            ("Name", station, "String"),
            ("Health", "", "String"),
            ("Problems", [], "String"),
        ):
            await self._add(root, ua, name, name, value, kind)
        for source in self._sources:
            folder = await root.add_object(self._id(ua, source), self._name(ua, source))
            for name, (kind, value) in _TYPES.items():
                await self._add(folder, ua, f"{source}.{name}", name, value, kind)

    @property
    def _sources(self) -> Sequence[str]:
        if self._station is None:
            return ()
        entries = self._station.config.sources
        return [name for name, entry in entries.items() if entry.source.needs_engine]

    async def _add(self, parent: Any, ua: Any, identifier: str, name: str, value: Any, kind: str) -> None:
        variant = ua.Variant(value, getattr(ua.VariantType, kind), is_array=isinstance(value, list))
        place = self._id(ua, identifier), self._name(ua, name)
        self._nodes[identifier] = await parent.add_variable(*place, variant)

    def _id(self, ua: Any, identifier: str) -> Any:
        return ua.NodeId(identifier, self._index)

    def _name(self, ua: Any, name: str) -> Any:
        return ua.QualifiedName(name, self._index)

    async def _write(self, message: Message) -> None:
        record, source = message.record, str(message.record["source"])
        if f"{source}.Id" not in self._nodes:  # a source of an earlier station file
            return
        count = f"{source}.Count.{record['verdict']}"
        self._counts[count] = self._counts.get(count, 0) + 1
        score = record.get("normalized_score")
        values = {
            "Verdict": str(record["verdict"]),
            "Product": str(record.get("product") or ""),
            "Reason": str(record.get("reason") or ""),
            "Score": float("nan") if score is None else float(score),
            "Sequence": int(record["sequence"]),
            "DecidedAt": str(record["decided_at"]),
            "LatencyMs": float(record["latency_ms"]),
            "OnTime": bool(record["on_time"]),
            "Record": message.text,
            f"Count.{record['verdict']}": self._counts[count],
            "Id": message.id,
        }
        for name, value in values.items():
            await self._set(f"{source}.{name}", value, _TYPES[name][0])

    async def _set(self, identifier: str, value: Any, kind: str) -> None:
        ua = import_library("asyncua", "OPC UA").ua
        variant = ua.Variant(value, getattr(ua.VariantType, kind), is_array=isinstance(value, list))
        await self._nodes[identifier].write_value(variant)

    async def _write_health(self) -> None:
        problems = () if self._station is None else self._station.conditions.current
        await self._set("Problems", [f"{one.subject}: {one.problem}" for one in problems], "String")
        await self._set("Health", "degraded" if problems else "running", "String")

    def _show_change(self, change: Condition) -> None:
        loop = self._loop
        if loop is not None and self._server is not None:
            asyncio.run_coroutine_threadsafe(self._write_health(), loop)


class _Users:
    """Lets in those who know the password; everyone where there is none. Nobody may write."""

    def __init__(self, options: OpcUaOptions) -> None:
        users = import_library("asyncua.server.user_managers", "OPC UA")
        self._reader = users.User(role=users.UserRole.User)
        self._username = options.username
        self._password = read_secret("password", options.password, options.password_file) or ""

    def get_user(
        self, iserver: Any, username: Any = None, password: Any = None, certificate: Any = None
    ) -> Any:
        if self._username is None:
            return self._reader
        given = password.decode("utf-8", "replace") if isinstance(password, bytes) else str(password or "")
        is_known = hmac.compare_digest(given.encode("utf-8", "replace"), self._password.encode("utf-8"))
        return self._reader if is_known and username == self._username else None
