"""`POST /inspect`: an image in, the JSON line of `predict` out, and an HTTP status for each problem."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import io
import json
import queue
import socket
import threading
import zlib
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

import cv2
import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from starlette.requests import Request

from adq_edge.decision.inspector import load_inspector
from adq_edge.evaluation.judge import Judge
from adq_edge.evaluation.prediction import Prediction
from adq_edge.serving.bodies import read_body
from adq_edge.serving.gate import BodyMemory
from adq_edge.serving.problems import RequestError
from adq_edge.serving.settings import ServerSettings
from factories.decisions import good_image
from factories.serving import Answer, Running, bad_image, serving, serving_judge, write_fitted_engine
from factories.threads import run_in_threads
from factories.tiny_engine import write_engine

TOKEN = "0123456789abcdef"


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image[..., ::-1])[1].tobytes()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("engine") / "parts-int8.onnx")


@pytest.fixture(scope="module")
def server(engine: Path) -> Iterator[Running]:
    with serving(engine, body_mb=1) as running:
        yield running


@pytest.mark.parametrize("image", [good_image("bolt", 1, 64), bad_image()], ids=["good", "defective"])
def test_inspect_answers_with_the_fields_of_predict(server: Running, image: np.ndarray):
    expected = server.judge.inspect(image, "part.png").fields()
    answer = server.request("POST", "/inspect?name=part.png", encoded(image))
    assert (answer.status, answer.document) == (200, json.loads(json.dumps(expected)))
    assert answer.document["product"] == "bolt"


def test_inspect_takes_a_form_and_a_compressed_body(server: Running):
    image = encoded(bad_image())
    form = b'--X\r\nContent-Disposition: form-data; name="note"\r\n\r\nline 3\r\n'
    form += b'--X\r\nContent-Disposition: form-data; name="file"; filename="part.png"\r\n\r\n'
    form += image + b"\r\n--X--\r\n"
    in_form = server.request("POST", "/inspect", form, Content_Type="multipart/form-data; boundary=X")
    packed = server.request("POST", "/inspect?name=part.png", gzip.compress(image), Content_Encoding="gzip")
    assert in_form.document == packed.document
    assert (in_form.status, in_form.document["image"]) == (200, "part.png")


def test_inspect_judges_as_the_named_product(server: Running):
    answer = server.request("POST", "/inspect?product=nut", encoded(good_image("bolt", 1, 64)))
    assert (answer.status, answer.document["product"]) == (200, "nut")
    assert answer.document["verdict"] != "unknown product"


def bomb() -> bytes:
    """Return a PNG of a few bytes whose header states 10^10 pixels."""
    chunks = [b"IHDR" + (10**5).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0", b"IDAT", b"IEND"]
    parts = [(len(one) - 4).to_bytes(4, "big") + one + zlib.crc32(one).to_bytes(4, "big") for one in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "text"),
    [
        ("/inspect", b"", {}, 400, "0 bytes"),
        ("/inspect", b"not an image", {}, 415, "not a readable image"),
        ("/inspect", encoded(bad_image())[:-40], {}, 422, "not a readable image"),
        ("/inspect", bomb(), {}, 422, "megapixels"),
        ("/inspect", bytes(1_000_001), {}, 413, "larger than 1 MB"),
        ("/inspect", io.BytesIO(bytes(1_000_001)), {}, 413, "larger than 1 MB"),  # in chunks
        ("/inspect", gzip.compress(bytes(10**7)), {"Content_Encoding": "gzip"}, 413, "larger than 1 MB"),
        ("/inspect", gzip.compress(bytes(99))[:-9], {"Content_Encoding": "gzip"}, 400, "cut off"),
        ("/inspect", b"x" * 20, {"Content_Encoding": "gzip"}, 400, "not gzip"),
        ("/inspect", b"x", {"Content_Encoding": "br"}, 415, "not gzip or deflate"),
        ("/inspect", b"x", {"Content_Type": "multipart/form-data"}, 400, "not a form"),
        ("/inspect", b"--X--\r\n", {"Content_Type": "multipart/form-data; boundary=X"}, 400, "no file"),
        ("/inspect?product=gear", b"x", {}, 400, "No product 'gear'. Products: bolt, nut"),
        ("/inspect?prodct=bolt", b"x", {}, 400, "No parameter 'prodct'. Did you mean product?"),
        ("/inspekt", b"x", {}, 404, "no path '/inspekt'"),
        ("/v2/health/live", b"x", {}, 405, "Method Not Allowed"),
    ],
)
def test_a_wrong_request_gets_its_status_and_one_line(server: Running, path, body, headers, status, text):
    answer = server.request("POST", path, body, **headers)
    assert answer.status == status
    assert text in answer.document["error"]
    assert answer.document.get("verdict", "cannot judge") == "cannot judge"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /v2 HTTP/1.1\r\nHost: a\r\n", b"408"),  # the end of the header is missing
        (b"POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc", b"408"),
        (b"\x16\x03\x01\x02\x00hello\r\n\r\n", b"400"),  # TLS
    ],
)
def test_half_a_request_and_another_protocol_are_answered_in_time(
    engine: Path, sent, status, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adq_edge.serving.connections._LATER", 0.2)
    with serving(engine, seconds=0.4) as running:
        answer = running.raw(sent)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]


class BlockedJudge(Judge):
    """A judge that waits for an event, once it is armed."""

    is_armed, proceed = False, threading.Event()

    def inspect(self, pixels: np.ndarray, name: str, product: Optional[str] = None) -> Prediction:
        assert not BlockedJudge.is_armed or self.proceed.wait(20)
        return super().inspect(pixels, name, product)


def test_more_requests_than_the_queue_holds_get_503_and_the_others_are_judged(engine: Path):
    with load_inspector(engine) as inspector:
        judge = BlockedJudge.of(inspector.engine, inspector)
        with serving_judge(judge, concurrency=1, queue=2) as running:
            BlockedJudge.is_armed = True
            answers: queue.Queue[Answer] = queue.Queue()

            def send() -> None:
                answers.put(running.request("POST", "/inspect", encoded(bad_image())))

            clients = [threading.Thread(target=send) for _ in range(6)]
            for client in clients:
                client.start()
            refused = [answers.get(timeout=20) for _ in range(3)]  # three wait, so the others are refused
            assert [(one.status, one.headers["retry-after"]) for one in refused] == [(503, "1")] * 3
            BlockedJudge.proceed.set()
            assert [answers.get(timeout=20).status for _ in range(3)] == [200] * 3
            for client in clients:
                client.join()


def send_half(running: Running, body: bytes, declared: int) -> socket.socket:
    """Send a request whose body is not complete; return its connection."""
    connection = socket.create_connection(running.address, timeout=20)
    head = f"POST /inspect HTTP/1.1\r\nHost: a\r\nContent-Length: {declared}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def test_clients_that_send_half_a_body_do_not_stop_others(engine: Path):
    with serving(engine, concurrency=1, queue=0, seconds=20) as running, contextlib.ExitStack() as slow:
        for _ in range(40):
            slow.enter_context(send_half(running, b"abc", 100))
        assert running.request("POST", "/inspect", encoded(bad_image())).status == 200


def test_bodies_that_take_too_much_memory_together_are_refused_until_one_ends():
    memory = BodyMemory(100)
    with contextlib.ExitStack() as first:
        add = first.enter_context(memory.hold())
        add(60)
        with memory.hold() as other, pytest.raises(RequestError, match="too much memory"):
            other(41)
        add(40)
    with memory.hold() as other:
        other(100)


def test_a_decompressed_body_counts_with_its_full_size():
    packed, counted = gzip.compress(bytes(10_000)), []

    async def receive() -> Dict[str, Any]:
        return {"type": "http.request", "body": packed}

    request = Request({"type": "http", "headers": [(b"content-encoding", b"gzip")]}, receive)
    body = asyncio.run(read_body(request, ServerSettings(), counted.append))
    assert len(body) == sum(counted) == 10_000


def test_many_clients_at_once_each_get_an_answer(engine: Path):
    with serving(engine, concurrency=2, queue=4) as running:
        image = encoded(bad_image(512))
        answers = run_in_threads(60, lambda _: running.request("POST", "/inspect", image))
        expected = running.judge.inspect(bad_image(512), "image").fields()
        assert {answer.status for answer in answers} <= {200, 503}
        judged = [answer.document for answer in answers if answer.status == 200]
        assert judged
        assert all(document["score"] == expected["score"] for document in judged)
        assert running.request("POST", "/inspect", image).status == 200


def test_token_is_needed_for_all_but_health(engine: Path):
    with serving(engine, token=TOKEN) as running:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
            refused = running.request("POST", "/inspect", b"x", **headers)
            assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert running.request("GET", "/v2/models/parts-int8", **headers).status == 401
        assert running.request("GET", "/v2/health/ready").status == 200
        judged = running.request("POST", "/inspect", encoded(bad_image()), Authorization=f"Bearer {TOKEN}")
        assert judged.status == 200


def test_an_engine_without_products_judges_by_its_threshold_or_says_why_not(tmp_path: Path):
    with serving(write_engine(tmp_path / "plain.onnx")) as running:
        answer = running.request("POST", "/inspect", encoded(bad_image()))
        assert (answer.status, answer.document["verdict"]) == (200, None)
        assert "has no threshold" in answer.document["error"]


class SlowStart(Judge):
    """A judge whose first images wait for an event."""

    proceed = threading.Event()

    def inspect(self, pixels: np.ndarray, name: str, product: Optional[str] = None) -> Prediction:
        assert self.proceed.wait(20)
        return super().inspect(pixels, name, product)


def test_requests_before_the_end_of_the_warm_up_get_503(engine: Path):
    def look(running: Running) -> None:
        for method, path in (("GET", "/v2/health/ready"), ("POST", "/inspect")):
            assert running.request(method, path, encoded(bad_image())).status == 503
        assert running.request("GET", "/v2/health/live").status == 200
        SlowStart.proceed.set()

    with load_inspector(engine) as inspector:
        judge = SlowStart.of(inspector.engine, inspector)
        with serving_judge(judge, while_warming=look) as running:
            assert running.request("GET", "/v2/health/ready").status == 200
            assert running.request("POST", "/inspect", encoded(bad_image())).status == 200


class FaultyJudge(Judge):
    """A judge with a fault in its code."""

    def inspect(self, pixels: np.ndarray, name: str, product: Optional[str] = None) -> Prediction:
        if name == "faulty":
            raise ZeroDivisionError("a fault")
        return super().inspect(pixels, name, product)


def test_an_internal_error_is_one_line_with_status_500_and_the_server_goes_on(engine: Path):
    with load_inspector(engine) as inspector, contextlib.ExitStack() as stack:
        judge = FaultyJudge.of(inspector.engine, inspector)
        running = stack.enter_context(serving_judge(judge))
        answer = running.request("POST", "/inspect?name=faulty", encoded(bad_image()))
        assert (answer.status, "ZeroDivisionError" in answer.document["error"]) == (500, True)
        assert running.request("POST", "/inspect", encoded(bad_image())).status == 200
