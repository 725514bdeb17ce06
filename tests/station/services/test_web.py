"""The station's server: requests that trigger, verdicts to fetch, metrics, login, and hostile requests."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Tuple

import cv2
import numpy as np
import pytest

from adq_edge.core.errors import AdqError
from adq_edge.station.config import parse_config
from adq_edge.station.station import Station
from adq_edge.station.tables import Place
from factories.parts import write_fitted_engine
from factories.stations import WAIT_S, part_image, station_config

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
TOKEN = "0123456789abcdef"


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def document(self) -> Dict[str, Any]:
        return json.loads(self.body)


class Client:
    """Plain HTTP requests to a station."""

    def __init__(self, station: Station) -> None:
        self.station = station
        url = station.config.services["web"].describe()
        assert url is not None
        host, _, port = url.split("//")[1].rpartition(":")
        self.address: Tuple[str, int] = (host, int(port))

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection(*self.address, timeout=WAIT_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): v for name, v in headers.items()})
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.headers))

    def state_with(self, frame: str) -> Dict[str, Any]:
        """Return the state as soon as it has a frame: it comes a moment after the verdict."""
        pause = threading.Event()
        for _ in range(400):
            state = self.request("GET", "/state").document
            if frame in [one["last"] and one["last"]["id"] for one in state["sources"]]:
                return state
            pause.wait(0.05)
        raise AssertionError(state)

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(self.address, timeout=WAIT_S) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@contextlib.contextmanager
def running(engine: Path, folder: Path, **tables: Any) -> Iterator[Client]:
    sources = {
        "gate": {"type": "http", "deadline_ms": 5000, "queue": 100},
        "top": {"type": "http", "camera": "cam"},
        "cam": {"type": "camera", "device": str(folder / "none.avi"), "trigger": "software"},
        "line": {"type": "calls"},
    }
    web = {"port": 0, **tables.pop("web", {})}
    sinks = {"pull": {"type": "rest"}, **tables.pop("sinks", {})}
    config = station_config(engine, folder, sources=sources, sinks=sinks, web=web, **tables)
    with Station(config) as station:
        yield Client(station)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("fitted"))


@pytest.fixture(scope="module")
def client(engine: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with running(engine, tmp_path_factory.mktemp("station"), web={"port": 0, "max_mb": 1}) as found:
        yield found


def png(number: int = 0, is_defective: bool = False) -> bytes:
    image = part_image(number, is_defective)
    return bytes(cv2.imencode(".png", image[..., ::-1])[1].tobytes())


def test_an_image_in_a_request_is_answered_with_its_verdict(client: Client) -> None:
    answer = client.request("POST", "/images/gate?product=bolt&name=part.png&serial=17", png(1, True))
    assert answer.status == 200
    record = answer.document
    assert (record["verdict"], record["product"], record["image"]) == ("defective", "bolt", "part.png")
    assert (record["source"], record["fields"], record["on_time"]) == ("gate", {"serial": "17"}, True)
    assert client.request("POST", "/images/gate", png(2)).document["verdict"] == "good"


def test_a_trigger_that_gets_no_image_of_its_camera_is_not_judged(client: Client) -> None:
    answer = client.request("POST", "/trigger/top", b'{"fields": {"serial": 5}}')
    assert answer.status == 200
    assert (answer.document["verdict"], answer.document["fields"]) == ("cannot judge", {"serial": "5"})


def test_unusable_images_are_refused_and_are_verdicts_for_the_sinks(client: Client) -> None:
    before = client.station.snapshot().count("cannot judge")
    assert client.request("POST", "/images/gate", b"").status == 400
    assert client.request("POST", "/images/gate", b"x" * 1_000_001).status == 413
    form = client.request("POST", "/images/gate", png(), content_type="multipart/form-data; boundary=x")
    assert form.status == 415
    head = b"POST /images/gate HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    huge = client.raw(head + b"Content-Length: 1000000000\r\n\r\n")
    assert huge.startswith(b"HTTP/1.1 413 ")
    assert b"larger than 1 MB (max_mb of [web])" in huge
    with socket.create_connection(client.address) as cut:  # half of an image, then the client is gone
        cut.sendall(head + b"Content-Length: 1000\r\n\r\nhalf")
    assert client.request("POST", "/images/gate", b"no image").document["verdict"] == "cannot judge"
    end = threading.Event()
    for _ in range(400):
        if client.station.snapshot().count("cannot judge") == before + 6:
            break
        end.wait(0.05)
    assert client.station.snapshot().count("cannot judge") == before + 6


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("POST", "/images/none", 404, "There is no source 'none' of type http. Sources: gate, top."),
        ("POST", "/images/line", 404, "There is no source 'line' of type http"),
        ("POST", "/trigger/gate", 400, "The source gate has no camera"),
        ("GET", "/images/gate", 405, "Method Not Allowed"),
        ("GET", "/nothing", 404, "There is no path '/nothing'. Paths:"),
        ("GET", "/verdicts/other", 404, "There is no such sink of type rest. Sinks: /verdicts/pull."),
        ("GET", "/verdicts?after=-1", 400, "after is '-1', not a whole number"),
        ("GET", "/frames/none", 404, "This image is not kept any more."),
    ],
)
def test_impossible_requests_are_answered_with_one_line(
    client: Client, method: str, path: str, status: int, words: str
) -> None:
    answer = client.request(method, path)
    assert answer.status == status
    assert words in answer.document["error"]


def test_pages_of_other_sites_and_foreign_names_are_refused(client: Client) -> None:
    assert client.request("POST", "/images/gate", png(), Origin="http://evil.example").status == 403
    assert client.request("GET", "/state", Host="evil.example").status == 403
    host = f"127.0.0.1:{client.address[1]}"
    assert client.request("GET", "/state", Host=host, Origin=f"http://{host}").status == 200
    for name in ("[::1", "a:99999999", "", "\xff"):
        assert client.request("GET", "/state", Host=name).status == 403
        assert client.request("GET", "/nothing", Host=name).status == 404
        assert client.request("POST", "/login", b"", Host=host, Origin=f"http://{name}").status == 403
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        headers = {"Host": host, "Sec-Fetch-Site": site}  # an image of another page sends no Origin
        assert client.request("GET", "/verdicts?after=0", **headers).status == status


def test_state_and_events_have_the_last_verdict_and_the_figures(client: Client) -> None:
    record = client.request("POST", "/images/gate?product=nut", png(3, True)).document
    state = client.state_with(record["id"])
    gate = next(one for one in state["sources"] if one["name"] == "gate")
    assert gate["last_reject"]["id"] == record["id"]
    assert gate["last"]["regions"][0]["box"] == record["regions"][0]["box"]
    assert gate["recent"][-1] == "defective"
    assert state["products"][-1]["name"] == "nut"
    assert state["products"][-1]["target"] == record["false_rejects"]
    assert [one["name"] for one in state["sources"]] == ["gate", "top", "line"]
    plain, mapped = (client.request("GET", f"/frames/{record['id']}{query}") for query in ("", "?map=1"))
    assert plain.headers["content-type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(plain.body, np.uint8), cv2.IMREAD_COLOR).shape == (64, 64, 3)
    assert plain.body != mapped.body
    connection = http.client.HTTPConnection(*client.address, timeout=WAIT_S)
    with contextlib.closing(connection):
        connection.request("GET", "/events")
        stream = connection.getresponse()
        assert stream.headers["content-type"].startswith("text/event-stream")
        first = json.loads(stream.readline()[len(b"data: ") :])
        client.request("POST", "/images/gate", png(4))
        assert stream.readline() == b"\n"
        second = json.loads(stream.readline()[len(b"data: ") :])
    assert second["decided"] > first["decided"]


def test_verdicts_are_fetched_by_a_cursor_that_acknowledges(engine: Path, tmp_path: Path) -> None:
    with running(engine, tmp_path) as client:
        sent = [client.request("POST", "/images/gate", png(number)).document for number in range(5)]
        rest: List[Any] = []
        after = 0
        while len(rest) < 5:
            more = client.request("GET", f"/verdicts/pull?after={after}&limit=3&wait=10").document
            assert 1 <= len(more["verdicts"]) <= 3
            rest, after = rest + more["verdicts"], more["after"]
        assert [row["record"] for row in rest] == sent
        assert client.request("GET", f"/verdicts?after={rest[3]['number']}").document["after"] == after
    with running(engine, tmp_path) as client:  # the last one was not acknowledged: it comes again
        again = client.request("GET", "/verdicts?wait=10").document
        assert [row["record"] for row in again["verdicts"]] == sent[4:]


def test_many_clients_at_once_are_all_answered(client: Client) -> None:
    statuses: List[int] = []
    image = png(5)

    def post() -> None:
        statuses.append(client.request("POST", "/images/gate", image).status)

    threads = [threading.Thread(target=post) for _ in range(150)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(statuses) == 150
    assert set(statuses) <= {200, 503}
    assert statuses.count(200) >= 32
    assert client.request("POST", "/images/gate", image).status == 200


def test_metrics_are_in_the_format_of_prometheus(client: Client) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    record = client.request("POST", "/images/gate?product=bolt", png(6)).document
    verdict = record["verdict"]
    client.state_with(record["id"])
    answer = client.request("GET", "/metrics")
    assert answer.status == 200
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in parser.text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    found = client.station.snapshot()
    assert samples["adq_edge_triggers_total", ()] == found.accepted
    key = "adq_edge_verdicts_total", (("source", "gate"), ("verdict", verdict))
    assert samples[key] == found.verdicts["gate"][verdict]
    assert samples["adq_edge_latency_seconds_count", (("source", "gate"),)] == sum(
        found.verdicts["gate"].values()
    )
    assert ("adq_edge_sink_waiting", (("sink", "pull"),)) in samples


def test_the_token_is_needed_as_header_or_cookie(engine: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    web = {"host": "0.0.0.0", "token_file": "token"}
    with running(engine, tmp_path, web=web) as client:
        for path in ("/state", "/events", "/metrics", "/verdicts", "/frames/x"):
            assert client.request("GET", path).status == 401
        assert client.request("POST", "/images/gate", png()).status == 401
        assert client.station.snapshot().accepted == 0
        assert client.request("GET", "/").status == 200  # the page, which asks for the token
        assert client.request("GET", "/state", Authorization="Bearer wrong").status == 401
        assert client.request("GET", "/state", Authorization=f"Bearer {TOKEN}").status == 200
        assert client.request("POST", "/login", "wrong").status == 401
        login = client.request("POST", "/login", TOKEN)
        assert login.status == 204
        cookie = login.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert TOKEN not in cookie
        value = cookie.partition(";")[0]
        assert client.request("GET", "/state", Cookie=value).status == 200
        name, _, seal = value.partition("=")
        forged = f"{name}={int(seal.split('.')[0]) + 1}.{seal.split('.')[1]}"
        assert client.request("GET", "/state", Cookie=forged).status == 401


@pytest.mark.parametrize(
    ("web", "problem"),
    [
        ({"host": "0.0.0.0"}, "other machines could use the station without a token"),
        ({"host": "0.0.0.0", "token": "short"}, "the token has 5 characters, the least number is 12"),
        ({"token": "with a space in it"}, "the token has spaces"),
        ({"host": "203.0.113.1", "token": TOKEN}, "cannot listen there"),
        ({"certificate": "none.pem"}, "none.pem: cannot be used as a certificate"),
        ({"token_file": "none"}, "none: no such file or directory. Check the path."),
        ({"port": 80800}, "port is 80800, not 0 to 65535"),
        ({"tokn": TOKEN}, "unknown key 'tokn'. Did you mean token?"),
    ],
)
def test_a_server_that_cannot_start_is_one_line(web: Dict[str, Any], problem: str, tmp_path: Path) -> None:
    with pytest.raises(AdqError) as found:
        station_config(Path("e.onnx"), tmp_path, web={"port": 0, **web}).services["web"].check()
    assert problem in str(found.value)
    assert TOKEN not in str(found.value)


def test_a_port_in_use_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        web = station_config(Path("e.onnx"), tmp_path, web={"port": port}).services["web"]
        with pytest.raises(AdqError, match=f"127.0.0.1:{port}: cannot listen there .*another port in .web."):
            web.check()


def test_a_source_that_needs_the_server_starts_it() -> None:
    document = {
        "engines": {"e": {"file": "e.onnx"}},
        "sources": {"gate": {"type": "http"}},
    }
    assert list(parse_config(document, Place("s.toml", Path(), "")).services) == ["web"]
