"""A real MQTT broker (mosquitto) that can be killed and started again on its port."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Iterator, List, Optional

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
PASSWD = shutil.which("mosquitto_passwd")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Mosquitto:
    """A broker on a free port of 127.0.0.1; a context manager that starts and ends it."""

    def __init__(self, folder: Path, *lines: str, tls: bool = False) -> None:
        self.port = free_port()
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._config = folder / "mosquitto.conf"
        text: List[str] = [f"listener {self.port} 127.0.0.1", "user root"]
        if not any(line.startswith("allow_anonymous") for line in lines):
            text.append("allow_anonymous true")
        self._config.write_text("\n".join([*text, *lines, ""]))

    def start(self) -> None:
        self._process = subprocess.Popen(
            [str(MOSQUITTO), "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            assert self._process.poll() is None, self._config.read_text()
            assert time.monotonic() < end
            time.sleep(0.01)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """End the broker in order: it saves its sessions."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait()

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()


def password_lines(folder: Path, user: str, password: str) -> List[str]:
    """Write a password file, and return the lines of the configuration that ask for it."""
    path = folder / "passwords"
    subprocess.run([str(PASSWD), "-b", "-c", str(path), user, password], check=True)
    return ["allow_anonymous false", f"password_file {path}"]


class Listener:
    """A client of a broker that records what it receives."""

    def __init__(self, port: int, topic: str, session: Optional[str] = None) -> None:
        import paho.mqtt.client as mqtt

        self.received: List[object] = []
        self._changed = threading.Condition()
        self._is_subscribed = False
        versions = getattr(mqtt, "CallbackAPIVersion", None)
        positional = () if versions is None else (versions.VERSION2,)
        self._client = mqtt.Client(*positional, client_id=session or "", clean_session=session is None)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *rest: client.subscribe(topic, 1)
        self._client.on_message = self._record
        self._client.on_subscribe = self._subscribed
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self.wait_for(lambda: self._is_subscribed)

    def _subscribed(self, *arguments: object) -> None:
        with self._changed:
            self._is_subscribed = True
            self._changed.notify_all()

    def _record(self, client: object, data: object, message: object) -> None:
        with self._changed:
            self.received.append(message)
            self._changed.notify_all()

    def publish(self, topic: str, payload: bytes = b"", qos: int = 1) -> None:
        self._client.publish(topic, payload, qos).wait_for_publish(10)

    def wait_for(self, is_done: object, seconds: float = 20.0) -> None:
        with self._changed:
            assert self._changed.wait_for(is_done, seconds), self.received

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def listening(port: int, topic: str, session: Optional[str] = None) -> Iterator[Listener]:
    """Listen to a topic; with the name of a session, the broker keeps the messages of an absence."""
    listener = Listener(port, topic, session)
    try:
        yield listener
    finally:
        listener.close()
