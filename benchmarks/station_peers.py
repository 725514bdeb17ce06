"""Receivers of a station's verdicts: a real mosquitto and a real HTTP server that go away and come back.

    python -m benchmarks.station_peers watch FOLDER MQTT_PORT HTTP_PORT PERIOD_S TOPIC
    python -m benchmarks.station_peers serve HTTP_PORT FILE

`watch` starts both, and a subscriber with a session that the broker keeps. In each period, each is taken away
and started again. A line on standard input ends the outages; the end of the input ends the process. The HTTP
server is ended by SIGKILL. mosquitto is ended by SIGTERM: killed, it forgets messages that it has confirmed.
FOLDER/mqtt.txt and FOLDER/http.txt hold the sequence number of each verdict, in the order of arrival.
`benchmarks/station.py` uses this file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Iterator, List

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
_WAIT_S = 20.0


class Peers:
    """Both receivers in a process of their own; a context manager that ends them.

    Attributes:
        folder: where they write what arrives.
        mqtt_port, http_port: their ports of 127.0.0.1.
    """

    def __init__(self, folder: Path, period_s: float, topic: str) -> None:
        self.folder, self.mqtt_port, self.http_port = folder, free_port(), free_port()
        arguments = [str(folder), str(self.mqtt_port), str(self.http_port), str(period_s), topic]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.station_peers", "watch", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the receivers did not start")

    def stay(self) -> int:
        """Bring both back for good; return the number of outages that each had."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def sequences(self, name: str, total: int) -> List[int]:
        """Wait for `total` different sequence numbers at `mqtt` or `http`; return those that arrived."""
        end = time.monotonic() + 3.0 * _WAIT_S
        while True:
            found = [int(line) for line in (self.folder / f"{name}.txt").read_text().split()]
            if len(set(found)) >= total or time.monotonic() > end:
                return found
            time.sleep(0.2)

    def __enter__(self) -> Peers:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(_WAIT_S)


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _serve(port: int, path: Path) -> None:
    """Answer posts of verdicts with 204, each after its sequence number is in the file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            os.write(file, f"{json.loads(body)['sequence']}\n".encode())
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            return

    ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()


def _wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + _WAIT_S
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1.0).close()
            return
        time.sleep(0.01)
    raise RuntimeError(f"nothing listens on port {port}")


@contextlib.contextmanager
def _subscribed(port: int, topic: str, path: Path) -> Iterator[None]:
    """Write the sequence number of each message of a topic to a file."""
    import paho.mqtt.client as mqtt

    file = path.open("a", buffering=1)
    versions = getattr(mqtt, "CallbackAPIVersion", None)
    positional = () if versions is None else (versions.VERSION2,)
    client = mqtt.Client(*positional, client_id="benchmark", clean_session=False)
    client.reconnect_delay_set(1, 1)
    is_subscribed = threading.Event()
    client.on_connect = lambda client, *rest: client.subscribe(topic, 1)
    client.on_subscribe = lambda *rest: is_subscribed.set()
    client.on_message = lambda client, data, message: file.write(
        f"{json.loads(message.payload)['sequence']}\n"
    )
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not is_subscribed.wait(_WAIT_S):
        raise RuntimeError("the subscription was not confirmed")
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()
        file.close()


class _Watched:
    """One receiver's process, which can be ended and started again."""

    def __init__(self, command: List[str], port: int, is_killed: bool) -> None:
        self._command, self._port, self._is_killed = command, port, is_killed
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _wait_for_port(self._port, self._process)

    def end(self) -> None:
        if self._is_killed:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait()


def _watch(folder: Path, mqtt_port: int, http_port: int, period_s: float, topic: str) -> None:
    """Start the receivers, and take each away for a third of every period until a line comes."""
    settings = ("allow_anonymous true", "user root", "max_queued_messages 0", "persistence true")
    lines = (f"listener {mqtt_port} 127.0.0.1", *settings, f"persistence_location {folder}/")
    (folder / "mosquitto.conf").write_text("\n".join([*lines, ""]))
    (folder / "http.txt").touch()
    serve = [
        sys.executable,
        "-m",
        "benchmarks.station_peers",
        "serve",
        str(http_port),
        str(folder / "http.txt"),
    ]
    broker = _Watched([str(MOSQUITTO), "-c", str(folder / "mosquitto.conf")], mqtt_port, is_killed=False)
    server = _Watched(serve, http_port, is_killed=True)
    try:
        with _subscribed(mqtt_port, topic, folder / "mqtt.txt"):
            print("ready", flush=True)
            is_over = threading.Event()
            counted: List[int] = []
            thread = threading.Thread(target=_outages, args=([broker, server], period_s, is_over, counted))
            thread.start()
            sys.stdin.readline()
            is_over.set()
            thread.join()
            print(len(counted), flush=True)
            sys.stdin.read()
    finally:
        broker.end()
        server.end()


def _outages(watched: List[_Watched], period_s: float, is_over: threading.Event, counted: List[int]) -> None:
    """Take the receivers away one after the other in each period; they are back at the end."""
    while not is_over.wait(period_s / 6.0):
        for one in watched:
            one.end()
            is_over.wait(period_s / 3.0)
            one.start()
        counted.append(1)
        is_over.wait(period_s / 6.0)


def main(arguments: List[str]) -> None:
    """Run as one of the processes that the module's docstring names."""
    if arguments[0] == "serve":
        _serve(int(arguments[1]), Path(arguments[2]))
        return
    folder, mqtt_port, http_port, period_s, topic = arguments[1:]
    _watch(Path(folder), int(mqtt_port), int(http_port), float(period_s), topic)


if __name__ == "__main__":
    main(sys.argv[1:])
