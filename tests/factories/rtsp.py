"""A network camera that speaks RTSP: motion JPEG (RFC 2435) over RTP in the connection of RTSP (RFC 2326)."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from typing import Callable, Dict, Iterator, List, Tuple

import cv2
import numpy as np

_MOST = 1400
_DESCRIPTION = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 26\r\na=control:track1\r\n"
)


class RtspCamera:
    """Sends images to each client until it is switched off; sides are multiples of 8.

    Args:
        draw: returns the image with a number, uint8 `[H, W, 3]` RGB.
        login: `user:password`.
        port: the port; 0 for a free one.
    """

    def __init__(self, draw: Callable[[int], np.ndarray], login: str, port: int = 0) -> None:
        self._draw, self._login = draw, base64.b64encode(login.encode()).decode()
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._clients: List[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def switch_off(self) -> None:
        for one in (self._listener, *self._clients):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                threading.Thread(target=self._answer_all, args=(client,), daemon=True).start()

    def _answer_all(self, client: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            while True:
                block = client.recv(4096)
                if not block:
                    return
                *requests, data = (data + block).split(b"\r\n\r\n")
                for request in requests:
                    if not request.startswith(b"$"):  # a report of RTCP
                        self._answer(client, request.decode("latin-1").split("\r\n"))

    def _answer(self, client: socket.socket, lines: List[str]) -> None:
        method = lines[0].split(" ")[0]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status, more, body = self._reply(method, headers)
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        head = f"RTSP/1.0 {status}\r\nCSeq: {headers.get('cseq')}\r\nSession: 1\r\n{more}{length}\r\n"
        client.sendall(head.encode() + body)
        if method == "PLAY":
            threading.Thread(target=self._send, args=(client,), daemon=True).start()

    def _reply(self, method: str, headers: Dict[str, str]) -> Tuple[str, str, bytes]:
        if method == "OPTIONS":
            return "200 OK", "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n", b""
        if headers.get("authorization") != f"Basic {self._login}":
            return "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"\r\n', b""
        if method == "DESCRIBE":
            return "200 OK", "Content-Type: application/sdp\r\n", _DESCRIPTION
        if method == "SETUP":
            return "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n", b""
        return "200 OK", "", b""

    def _send(self, client: socket.socket) -> None:
        started, sequence = time.monotonic(), 0
        with contextlib.suppress(OSError):
            for number in range(1_000_000):
                stamp = int(90_000 * (time.monotonic() - started))
                for payload, is_last in _payloads(self._draw(number)):
                    kind = 26 | (0x80 if is_last else 0)
                    packet = struct.pack(">BBHII", 0x80, kind, sequence & 0xFFFF, stamp, 1) + payload
                    client.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                    sequence += 1
                time.sleep(0.04)


def _payloads(image: np.ndarray) -> Iterator[Tuple[bytes, bool]]:
    """Yield the parts of an image as RFC 2435 sends them, and whether one is the last."""
    height, width = image.shape[:2]
    jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    tables, place = b"", 2
    while jpeg[place + 1] != 0xDA:  # up to the start of the scan
        size = struct.unpack(">H", jpeg[place + 2 : place + 4])[0]
        if jpeg[place + 1] == 0xDB:
            segment = jpeg[place + 4 : place + 2 + size]
            tables += b"".join(segment[start + 1 : start + 65] for start in range(0, len(segment), 65))
        place += 2 + size
    scan = jpeg[place + 2 + struct.unpack(">H", jpeg[place + 2 : place + 4])[0] : -2]
    for start in range(0, len(scan), _MOST):
        head = struct.pack(">IBBBB", start, 1, 255, width // 8, height // 8)
        if start == 0:
            head += struct.pack(">HH", 0, len(tables)) + tables
        yield head + scan[start : start + _MOST], start + _MOST >= len(scan)
