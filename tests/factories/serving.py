"""A server of a small engine with products, in a thread, and plain HTTP requests to it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

import numpy as np

from adq_edge.artifacts.products import products_path
from adq_edge.core.files import sha256
from adq_edge.decision.collection import embeddings_of
from adq_edge.decision.inspector import Inspector, load_inspector
from adq_edge.evaluation.judge import Judge
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from factories.decisions import defective_image, good_image, products_of, random_product, write_scaled_engine


class Answer(NamedTuple):
    status: int
    document: Dict[str, Any]
    headers: Mapping[str, str]


@dataclasses.dataclass
class Running:
    """A server that runs, its URL, and the judge that it uses."""

    url: str
    judge: Judge
    server: Any

    @property
    def address(self) -> Tuple[str, int]:
        host, port = self.url.split("//")[1].split(":")
        return host, int(port)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request; underscores in the names of headers stand for hyphens."""
        connection = HTTPConnection(*self.address, timeout=30)
        with contextlib.closing(connection):
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            content = answer.read()
        assert content.endswith(b"\n")
        assert content.count(b"\n") == 1
        return Answer(answer.status, json.loads(content), dict(answer.headers))

    def raw(self, data: bytes) -> bytes:
        """Send bytes on a connection of its own, and return all that comes back."""
        with socket.create_connection(self.address, timeout=30) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def write_fitted_engine(path: Path) -> Path:
    """Write the engine of `write_scaled_engine` with two products that know the images of the factories."""
    write_scaled_engine(path)
    products = []
    with load_engine(path) as engine:
        for number, name in enumerate(("bolt", "nut")):
            image = good_image(name, 1)[None]
            mean = tuple(map(float, embeddings_of(engine.run(image), image)[0]))
            product = random_product(name, number)
            recognition = dataclasses.replace(product.recognition, mean=mean)
            products.append(dataclasses.replace(product, recognition=recognition).sealed())
    products_of(sha256(path), *products).write(products_path(path))
    return path


@contextlib.contextmanager
def serving(engine: Path, **settings: Any) -> Iterator[Running]:
    """Serve an engine, with products if it has any, on a free port until the block ends."""
    has_products = products_path(engine).exists()
    inspector: Optional[Inspector] = load_inspector(engine) if has_products else None
    loaded: Engine = load_engine(engine) if inspector is None else inspector.engine
    with loaded, serving_judge(Judge.of(loaded, inspector), **settings) as running:
        yield running


@contextlib.contextmanager
def serving_judge(
    judge: Judge, *, while_warming: Callable[[Running], None] = lambda running: None, **settings: Any
) -> Iterator[Running]:
    """Serve an engine; `while_warming` is called as soon as the port is open."""
    from adq_edge.serving.server import serve
    from adq_edge.serving.settings import ServerSettings

    started, ready, running = threading.Event(), threading.Event(), Running("", judge, None)

    def on_start(server: Any, url: str) -> None:
        running.server, running.url = server, url
        started.set()

    arguments = (judge, ServerSettings(port=0, **settings), lambda url: ready.set(), on_start)
    thread = threading.Thread(target=serve, args=arguments, daemon=True)
    thread.start()
    assert started.wait(30)
    try:
        while_warming(running)
        assert ready.wait(30)
        yield running
    finally:
        running.server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def bad_image(size: int = 64) -> np.ndarray:
    return defective_image("bolt", 1, size)
