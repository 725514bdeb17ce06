"""`serve`: answers requests until a signal, then finishes the requests that have begun."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import threading
from typing import Callable, Iterator, Optional

import uvicorn

from adq_edge.core.errors import AdqError, first_line
from adq_edge.evaluation.judge import Judge
from adq_edge.serving.app import Service
from adq_edge.serving.connections import BoundedProtocol
from adq_edge.serving.model import ServedModel
from adq_edge.serving.settings import MOST_CONNECTIONS, ServerSettings

_BACKLOG = 512
_DRAIN_SECONDS = 30
_OTHER_FILES = 256
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Server(uvicorn.Server):  # type: ignore[misc]  # mypy does not read uvicorn
    """A server that finishes its requests after a signal, and then returns to its caller."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End the server on a signal while the block runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        caught = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
        for number in caught:
            signal.signal(number, self.handle_exit)
        try:
            yield
        finally:
            for number in caught:
                signal.signal(number, before[number])


def serve(
    judge: Judge,
    settings: ServerSettings,
    on_ready: Optional[Callable[[str], None]] = None,
    on_start: Optional[Callable[[Server, str], None]] = None,
) -> None:
    """Serve an engine until a signal ends it.

    Args:
        judge: the engine and what decides on its outputs.
        settings: address, token and limits.
        on_ready: called with the URL when the engine is warm.
        on_start: called with the server and the URL before it starts; `server.should_exit = True` ends it.

    Raises:
        AdqError: the address cannot be used.
        EngineError: the runtime cannot run the engine.
    """
    with contextlib.closing(bind(settings)) as listener:
        url = _url(listener)
        service = Service(ServedModel(judge), settings)

        def ready() -> None:
            if service.failure is not None:
                server.should_exit = True
            elif on_ready is not None:
                on_ready(url)

        protocol = type("Protocol", (BoundedProtocol,), {"settings": settings})
        config = uvicorn.Config(
            service.app(ready),
            http=protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_DRAIN_SECONDS,
        )
        server = Server(config)
        if on_start is not None:
            on_start(server, url)
        _allow_connections()
        asyncio.run(server.serve(sockets=[listener]))
    if service.failure is not None:
        raise service.failure


def bind(settings: ServerSettings) -> socket.socket:
    """Return a socket that is bound to the address.

    Raises:
        AdqError: the address is not one of this machine, or the port is in use or not allowed.
    """
    where = f"{settings.host}:{settings.port}"
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)  # fails here if another process listens
        except BaseException:
            listener.close()
            raise
    except (OSError, UnicodeError) as error:
        reason = (getattr(error, "strerror", None) or first_line(error)).lower()
        what = f"cannot listen there ({reason})"
        raise AdqError(what, where=where, fix="Choose another --port or --host") from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _allow_connections() -> None:
    """Allow as many open files as connections; many systems allow 1024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + _OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
