"""The webhook sink against a real HTTP server."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from adq_edge.core.errors import AdqError
from adq_edge.station.sinks.base import Refused
from adq_edge.station.sinks.webhook import WebhookOptions, WebhookSink
from adq_edge.station.tables import Place, parse_table
from factories.brokers import free_port
from factories.paths import REPOSITORY
from factories.station_parts import message
from factories.webhooks import receiving


def sink_of(port: int, **keys: Any) -> WebhookSink:
    table = {"url": f"http://127.0.0.1:{port}/verdicts?line=4", "timeout_s": 5, **keys}
    sink = WebhookSink("mes", parse_table(WebhookOptions, table, Place("station.toml", Path(), "sinks.mes")))
    sink.check()
    sink.open()
    return sink


def ids(server: Any) -> List[str]:
    return [headers["webhook-id"] for headers, _ in server.received]


def load_example() -> Callable[[str, Dict[str, str], bytes], bool]:
    """Return the function that docs/station.md gives to receivers."""
    page = (REPOSITORY / "docs" / "station.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "is_genuine" in block
    ]
    names: Dict[str, Any] = {}
    exec(code, names)
    return names["is_genuine"]


verify = load_example()


def test_verdicts_are_posted_in_order_signed_and_with_their_id() -> None:
    with receiving() as server:
        sink = sink_of(server.server_port, secret="s3cret", headers={"X-Line": "4"})
        messages = [message(number) for number in range(1, 11)]
        assert sink.send(messages) == 10
        sink.close()
    assert ids(server) == [one.id for one in messages]
    headers, body = server.received[3]
    assert body.decode() == messages[3].text
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Line"] == "4"
    assert verify("s3cret", headers, body)
    assert not verify("s3cret", headers, body + b" ")
    assert not verify("other", headers, body)
    assert not verify("s3cret", {**headers, "webhook-timestamp": "1"}, body)


def test_a_secret_in_base64_and_one_in_a_file_sign_as_standard_webhooks_do(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("whsec_" + base64.b64encode(b"s3cret").decode() + "\n")
    with receiving() as server:
        sink = sink_of(server.server_port, secret_file=str(tmp_path / "key"))
        assert sink.send([message(1)]) == 1
        sink.close()
    assert verify("s3cret", *server.received[0])


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refused_message_is_reported_once_and_the_next_goes_on(status: int) -> None:
    messages = [message(number) for number in range(1, 5)]
    with receiving(204, status) as server:
        sink = sink_of(server.server_port)
        assert sink.send(messages) == 1
        with pytest.raises(Refused, match=f"answers {status}"):
            sink.send(messages[1:])
        assert sink.send(messages[2:]) == 2
        sink.close()
    assert ids(server) == [one.id for one in messages]


@pytest.mark.parametrize("status", [301, 401, 404, 408, 429, 500, 503])
def test_other_failures_keep_the_message(status: int) -> None:
    with receiving(status) as server:
        sink = sink_of(server.server_port)
        with pytest.raises(AdqError, match=f"answers {status}"):
            sink.send([message(1)])
        sink.close()
        sink.open()
        assert sink.send([message(1)]) == 1
        sink.close()


def test_a_server_that_closes_kept_connections_or_is_away_loses_nothing() -> None:
    with receiving(204, 0) as server:
        sink = sink_of(server.server_port)
        assert sink.send([message(1)]) == 1
        assert sink.send([message(2)]) == 1  # the second attempt, on a new connection
        port = server.server_port
        assert ids(server) == [message(number).id for number in (1, 2, 2)]
    sink.close()
    with pytest.raises(AdqError, match="no answer") as found:
        sink.send([message(3)])
    assert "line=4" not in str(found.value)
    with receiving(port=port) as server:
        assert sink.send([message(3)]) == 1
        sink.close()


def test_a_server_that_does_not_answer_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = sink_of(silent.getsockname()[1], timeout_s=0.2)
        with pytest.raises(AdqError, match="no answer \\(timed out\\)"):
            sink.send([message(1)])
        sink.close()


def test_a_server_that_answers_byte_by_byte_is_given_up_in_time() -> None:
    def drip(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):
            for letter in "HTTP/1.1 200 OK\r\n" + 1000 * "X-A: b\r\n":
                connection.sendall(letter.encode())
                time.sleep(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        sink = sink_of(listener.getsockname()[1], timeout_s=0.6)
        started = time.monotonic()
        with pytest.raises(AdqError, match="no answer \\(timed out\\)"):
            sink.send([message(1)])
        assert time.monotonic() - started < 10.0  # all of it takes 160 s
        sink.close()


def test_the_probe_names_a_server_that_is_not_there() -> None:
    port = free_port()
    with pytest.raises(AdqError, match=f"http://127.0.0.1:{port}/verdicts: no answer"):
        sink_of(port).probe()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"url": "mes.example"}, "url is not an address"),
        ({"url": "ftp://mes.example"}, "url is not an address"),
        ({"url": "http://[::1"}, "url is not an address"),
        ({"url": "http://user:horse@mes.example"}, "url has a password in it"),
        ({"timeout_s": 0}, "timeout_s is 0"),
        ({"secret": "whsec_!"}, "the secret after whsec_ is not base64"),
        ({"secret": ""}, "the secret is empty"),
        ({"headers": {"a": "x\r\ny: z"}}, "headers has 'a'"),
        ({"ca_file": "none.pem", "url": "https://mes.example"}, "none.pem: cannot be used as certificates"),
    ],
)
def test_impossible_keys_are_refused(keys: Dict[str, Any], problem: str) -> None:
    with pytest.raises(AdqError) as found:
        sink_of(80, **keys)
    assert problem in str(found.value)
    assert "horse" not in str(found.value)
