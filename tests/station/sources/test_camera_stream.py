"""A network camera (MJPEG over HTTP, or RTSP) that goes away and comes back."""

from __future__ import annotations

import contextlib
import http.server
import socketserver
import threading
from pathlib import Path
from typing import Any, Callable, List

import cv2
import pytest

from adq_edge.station.conditions import Condition
from adq_edge.station.station import Station
from factories.parts import write_fitted_engine
from factories.rtsp import RtspCamera
from factories.stations import WAIT_S, ListSink, part_image, station_config, with_sinks


class Camera(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """Sends images until it is switched off."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Stream)
        self.is_off = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def port(self) -> int:
        return self.server_port

    def switch_off(self) -> None:
        self.is_off.set()
        self.shutdown()
        self.server_close()


class Stream(http.server.BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
        self.end_headers()
        number = 0
        while not self.server.is_off.wait(0.02):
            number += 1
            content = cv2.imencode(".jpg", part_image(number)[..., ::-1])[1].tobytes()
            head = f"--image\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            with contextlib.suppress(OSError):  # the station has closed the stream
                self.wfile.write(head.encode() + content + b"\r\n")

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


def rtsp_camera(port: int = 0) -> RtspCamera:
    return RtspCamera(part_image, "user:secret", port)


@pytest.mark.parametrize(
    ("scheme", "switch_on", "silent_s"), [("http", Camera, 0.3), ("rtsp", rtsp_camera, 3)]
)
def test_stream_that_goes_away_is_reported_and_judged_again_when_it_is_back(
    tmp_path: Path, capfd: Any, scheme: str, switch_on: Callable[..., Any], silent_s: float
):
    engine, camera, sink = write_fitted_engine(tmp_path), switch_on(), ListSink()
    port, changed = camera.port, threading.Condition()
    device = f"{scheme}://user:secret@127.0.0.1:{port}/live.mjpg"
    sources = {"top": {"type": "camera", "device": device, "silent_s": silent_s}}
    problems: List[Condition] = []

    def listen(condition: Condition) -> None:
        with changed:
            problems.append(condition)
            changed.notify_all()

    def wait_for(count: int) -> None:
        with changed:
            assert changed.wait_for(lambda: len(problems) >= count, WAIT_S), problems

    station = Station(with_sinks(station_config(engine, tmp_path, sources=sources), sink))
    station.conditions.listen(listen)
    with station:
        assert all(sink.attempts.acquire(timeout=WAIT_S) for _ in range(3))
        camera.switch_off()
        wait_for(2)
        camera = switch_on(port)
        wait_for(3)
        count = len(sink.records)
        assert all(sink.attempts.acquire(timeout=WAIT_S) for _ in range(count + 3))
    camera.switch_off()
    texts = [str(one.problem) for one in problems if one.subject == "source top"]
    address = f"{scheme}://127.0.0.1:{port}/live.mjpg"
    assert texts[0] == f"{address}: no image for {silent_s} s. Check the camera."
    assert texts[1] == f"{address}: cannot be opened. Check its address, its password and the network."
    assert texts[-1] == "None"
    assert {record["verdict"] for record in sink.records} == {"good"}
    assert capfd.readouterr().err == ""
