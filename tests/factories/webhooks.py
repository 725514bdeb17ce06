"""A real HTTP server that receives webhooks."""

from __future__ import annotations

import contextlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Iterator


class Receiver(BaseHTTPRequestHandler):
    """Records the posts, and answers with the next status of the server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.is_ended:
            self.close_connection = True
            return
        self.server.received.append((dict(self.headers), body))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 0:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        return


@contextlib.contextmanager
def receiving(*statuses: int, port: int = 0) -> Iterator[Any]:
    """Answer posts with these statuses, then with 204; 0 closes the connection without an answer.

    After the block, the port is closed and open connections are answered no more.
    """
    server: Any = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    server.daemon_threads = True
    server.statuses, server.received, server.is_ended = list(statuses), [], False
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.is_ended = True
        server.shutdown()
        server.server_close()
