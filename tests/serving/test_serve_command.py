"""The command `serve`: its messages, its exit code, and its end by a signal."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path
from typing import Iterator, Optional

import cv2
import pytest

pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from adq_edge.core.errors import AdqError
from adq_edge.serving.settings import ServerSettings, read_token
from factories.command_line import run_cli
from factories.decisions import good_image
from factories.serving import write_fitted_engine

WAIT = 30


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fitted_engine(tmp_path_factory.mktemp("engine") / "parts-int8.onnx")


@pytest.fixture
def process(engine: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "adq_edge", "serve", str(engine), "--host", "0.0.0.0", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        yield started
        started.kill()


def test_sigterm_finishes_the_request_that_has_begun_and_exits_with_0(process: subprocess.Popen[str]):
    warning, ready = process.stderr.readline(), process.stderr.readline()
    assert warning.startswith("adq-edge: WARNING: other machines can reach 0.0.0.0, and no token is needed")
    assert ready.startswith("ready: http://0.0.0.0:")
    port = int(ready.split(":")[3].split()[0])
    image = cv2.imencode(".png", good_image("bolt", 1)[..., ::-1])[1].tobytes()
    client = HTTPConnection("127.0.0.1", port, timeout=WAIT)
    client.putrequest("POST", "/inspect")
    client.putheader("Content-Length", str(len(image)))
    client.putheader("Expect", "100-continue")
    client.endheaders()
    assert client.sock.recv(100).startswith(b"HTTP/1.1 100")
    process.send_signal(signal.SIGTERM)
    wait_until_closed(port)
    client.send(image)
    answer = client.getresponse()
    assert (answer.status, json.loads(answer.read())["product"]) == (200, "bolt")
    assert process.wait(WAIT) == 0
    assert process.stderr.read() == ""


def wait_until_closed(port: int) -> None:
    """Return when the port accepts no more connections."""
    for _ in range(1000):
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=WAIT) as probe:
                probe.recv(1)  # ends when the server closes this connection
        except ConnectionRefusedError:
            return
        except OSError:
            continue
    raise AssertionError("the port is still open")


def test_a_port_in_use_is_one_line_and_exit_code_2(engine: Path, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run_cli("serve", engine, "--port", port, cwd=tmp_path)
    assert done.returncode == 2
    message = (
        f"127.0.0.1:{port}: cannot listen there (address already in use). Choose another --port or --host."
    )
    assert done.stderr.endswith(f"adq-edge: {message}\n")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "x" * 300, ""])
def test_an_address_of_another_machine_is_one_line_and_exit_code_2(engine: Path, tmp_path: Path, host: str):
    done = run_cli("serve", engine, "--host", host, "--port", "0", cwd=tmp_path)
    assert done.returncode == 2
    assert "cannot listen there" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "0 characters"),
        ("short", "5 characters"),
        ("a" * 20 + " b", "not a token"),
        ("\xe9" * 20, "not a"),
    ],
)
def test_a_token_that_is_no_bearer_token_is_refused(tmp_path: Path, content: str, text: str):
    path = tmp_path / "token"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(AdqError, match=text):
        read_token(path)
    path.write_text(f"{'a' * 32}\n")
    assert read_token(path) == "a" * 32


@pytest.mark.parametrize("content", [None, "short"])
def test_a_token_file_that_cannot_be_used_is_named_with_its_option(
    engine: Path, tmp_path: Path, content: Optional[str]
):
    if content is not None:
        (tmp_path / "token").write_text(content)
    done = run_cli("serve", engine, "--token-file", "token", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("adq-edge: --token-file token: ")


def test_only_an_address_that_others_reach_without_a_token_is_open():
    assert [ServerSettings(host).is_open for host in ("127.0.0.1", "::1", "localhost")] == [False] * 3
    assert ServerSettings("0.0.0.0").is_open
    assert not ServerSettings("0.0.0.0", token="a" * 16).is_open
    assert "a" * 16 not in repr(ServerSettings(token="a" * 16))


def test_a_missing_library_is_named_with_its_extra(engine: Path, tmp_path: Path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError('x', name='uvicorn')")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-m", "adq_edge", "serve", str(engine)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=WAIT)
    assert done.returncode == 2
    assert done.stderr == "adq-edge: serve needs uvicorn. Install it: pip install 'adq-edge[serve]'.\n"
