"""The service `[web]`: one server for the page, for requests that trigger, for verdicts and for metrics."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Any, Optional, Sequence

from adq_edge.core.errors import AdqError, MissingDependencyError, StationError
from adq_edge.station.events import Decided
from adq_edge.station.libraries import import_library
from adq_edge.station.services.base import Service
from adq_edge.station.services.web.gallery import Gallery
from adq_edge.station.services.web.options import WebOptions
from adq_edge.station.tls import load_certificate
from adq_edge.station.view import StationView

if TYPE_CHECKING:
    import socket

    from adq_edge.station.services.web.metrics import Metrics

_START_S, _END_S = 20.0, 5.0
_BACKLOG = 512


class WebService(Service):
    """Runs the server in a thread of its own."""

    Options = WebOptions
    options: WebOptions

    def __init__(self, options: Optional[WebOptions]) -> None:
        super().__init__(options or WebOptions())
        self._gallery = Gallery()
        self._metrics: Optional[Metrics] = None
        self._server: Any = None
        self._app: Any = None
        self._thread: Optional[threading.Thread] = None
        self._url: Optional[str] = None

    def check(self) -> None:
        """Check libraries, token, certificate and port."""
        self._import_libraries()
        self._certificates()
        self._bind().close()

    def claims(self) -> Sequence[str]:
        """Return the port."""
        return [f"port {self.options.port}"] if self.options.port else ()

    def start(self, station: StationView) -> None:
        """Start the server, and return once it answers."""
        self._import_libraries()
        from adq_edge.station.services.web.app import App
        from adq_edge.station.services.web.metrics import Metrics

        metrics: Any
        try:
            metrics = self._metrics = Metrics(station)
        except MissingDependencyError as error:
            metrics = error
        settings = self.options.settings()
        listener = self._bind()
        self._app = App(station, settings, self._gallery, metrics)
        self._url = self._url_of(*listener.getsockname()[:2])
        started = threading.Event()
        self._server = self._make_server(settings)
        self._thread = threading.Thread(
            target=self._run, args=(listener, started), name="web server", daemon=True
        )
        self._thread.start()
        if not (started.wait(_START_S) and self._server.started):
            raise StationError(
                "the server does not start", where=self._url, fix="Free the machine, try again"
            )

    def _import_libraries(self) -> None:
        import_library("starlette.applications", "[web]", "starlette")
        import_library("uvicorn", "[web]")

    def _certificates(self) -> Optional[ssl.SSLContext]:
        options = self.options
        if options.certificate is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        load_certificate(context, options.certificate, options.key)
        return context

    def _bind(self) -> socket.socket:
        from adq_edge.serving.server import bind

        settings = self.options.settings()
        try:
            return bind(settings)
        except AdqError as error:
            fix = "End the program that uses the port, or set another port in [web]"
            raise StationError(error.what, where=error.where, fix=fix) from error

    def _url_of(self, host: str, port: int) -> str:
        scheme = "http" if self.options.certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def _make_server(self, settings: Any) -> Any:
        from adq_edge.serving.connections import BoundedProtocol
        from adq_edge.serving.server import Server

        uvicorn = import_library("uvicorn", "[web]")
        config = uvicorn.Config(
            self._app.routes(),
            http=type("Protocol", (BoundedProtocol,), {"settings": settings}),
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=int(_END_S),
        )
        config.load()
        config.ssl = self._certificates()
        return Server(config)

    def _run(self, listener: socket.socket, started: threading.Event) -> None:
        async def serve() -> None:
            serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
            while not (self._server.started or serving.done()):
                await asyncio.sleep(0.005)
            started.set()
            await serving

        with contextlib.closing(listener), contextlib.suppress(asyncio.CancelledError):
            asyncio.run(serve())

    def observe(self, decided: Decided) -> None:
        """Keep a verdict for the page."""
        self._gallery.observe(decided)
        if self._metrics is not None:
            self._metrics.observe(decided)

    def close(self) -> None:
        """End the server; requests that it has begun are answered first."""
        if self._app is not None:
            self._app.close()
        if self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_END_S + 2.0)

    def describe(self) -> Optional[str]:
        """Return the address of the page."""
        return self._url or self._url_of(self.options.host, self.options.port)
