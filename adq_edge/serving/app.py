"""The routes of the server: KServe's open inference protocol v2 over REST, and `POST /inspect`."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, AsyncIterator, Awaitable, Callable, List, Optional

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from adq_edge.artifacts.products import listed
from adq_edge.core.nearest import did_you_mean
from adq_edge.core.text import LONGEST_WORD, printable, quoted
from adq_edge.serving.answers import error_handlers, json_answer
from adq_edge.serving.bodies import FORM, file_of_form, read_body
from adq_edge.serving.gate import BodyMemory, Gate
from adq_edge.serving.model import ServedModel, server_metadata
from adq_edge.serving.problems import (
    BAD_REQUEST,
    JSON_TYPE,
    NOT_FOUND,
    UNAUTHORIZED,
    RequestError,
    busy,
)
from adq_edge.serving.settings import ServerSettings
from adq_edge.serving.tensors import LENGTH_HEADER, encode_response, parse_request

Handler = Callable[[Request], Awaitable[Response]]
_UNNAMED = "image"
_PARAMETERS = ("product", "name")
_PATHS = "/inspect, /v2, /v2/health/live, /v2/health/ready, /v2/models/NAME, /v2/models/NAME/infer"


class Service:
    """The handlers of the routes.

    Args:
        model: the engine.
        settings: the limits and the token.

    Attributes:
        failure: the error of the warm-up; None if there is none.
    """

    def __init__(self, model: ServedModel, settings: ServerSettings) -> None:
        self._model, self._settings = model, settings
        self._gate = Gate(settings.concurrency, settings.queue)
        self._memory = BodyMemory(settings.most_held_bytes)
        self._is_ready = False
        self.failure: Optional[Exception] = None

    def app(self, on_ready: Callable[[], None]) -> Starlette:
        """Return the application; `on_ready` is called after the warm-up, also after a failed one."""

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            warming = asyncio.ensure_future(self._warm_up(on_ready))
            yield
            warming.cancel()
            self._gate.close()

        handlers = error_handlers(_PATHS, "server", "The engine failed: ")
        return Starlette(routes=self._routes(), exception_handlers=handlers, lifespan=lifespan)

    def _routes(self) -> List[Route]:
        routes = [
            Route("/inspect", self._inspect, methods=["POST"]),
            Route("/v2", self._server),
            Route("/v2/health/live", self._live),
            Route("/v2/health/ready", self._ready),
        ]
        for model in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
            routes += [
                Route(model, self._metadata),
                Route(f"{model}/ready", self._ready),
                Route(f"{model}/infer", self._infer, methods=["POST"]),
            ]
        return routes

    async def _warm_up(self, on_ready: Callable[[], None]) -> None:
        try:
            await self._gate.run_on_each(self._model.warm_up)
            self._is_ready = True
        except Exception as error:  # raised again by `serve`
            self.failure = error
        on_ready()

    async def _live(self, request: Request) -> Response:
        return json_answer({"live": True})

    async def _ready(self, request: Request) -> Response:
        self._require_model(request)
        return json_answer({"ready": self._is_ready}, 200 if self._is_ready else 503)

    async def _server(self, request: Request) -> Response:
        self._require_token(request)
        return json_answer(server_metadata())

    async def _metadata(self, request: Request) -> Response:
        self._require_token(request)
        self._require_model(request)
        return json_answer(self._model.metadata())

    async def _infer(self, request: Request) -> Response:
        self._require_token(request)
        self._require_model(request)
        length = request.headers.get(LENGTH_HEADER)
        content, header_length = await self._work(request, self._infer_body, length)
        if header_length is None:
            return Response(content, media_type=JSON_TYPE)
        headers = {LENGTH_HEADER: str(header_length)}
        return Response(content, media_type="application/octet-stream", headers=headers)

    def _infer_body(self, body: bytes, length: Optional[str]) -> Any:
        model = self._model
        asked = parse_request(body, length, model.engine.sidecar.image_size, list(model.outputs))
        return encode_response(model.name, asked, model.infer(asked))

    async def _inspect(self, request: Request) -> Response:
        self._require_token(request)
        _require_parameters(request)
        product = request.query_params.get("product")
        self._require_product(product)
        kind = request.headers.get("content-type", "")
        name = request.query_params.get("name", _UNNAMED)
        status, fields = await self._work(request, self._inspect_body, kind, name, product)
        return json_answer(fields, status)

    async def _work(self, request: Request, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of a function of the body and the arguments, called by a thread.

        Raises:
            RequestError: the engine is not warm, too many requests wait, or the body cannot be read.
        """
        if not self._is_ready:
            raise busy("The engine is warming up. Send it again later.")
        self._gate.require_place()
        with self._memory.hold() as add:
            body = await read_body(request, self._settings, add)
            with self._gate.admit():
                return await self._gate.run(function, body, *arguments)

    def _inspect_body(self, body: bytes, kind: str, name: str, product: Optional[str]) -> Any:
        if kind.lower().startswith(FORM):
            given, body = file_of_form(body, kind)
            name = given if given and name == _UNNAMED else name
        if not body:
            raise RequestError(BAD_REQUEST, "The body has 0 bytes. Send the content of an image file.")
        return self._model.inspect(body, printable(name, LONGEST_WORD), product)

    def _require_token(self, request: Request) -> None:
        if not self._settings.accepts(request.headers.get("authorization", "")):
            what = "The token is missing or wrong. Send the header Authorization: Bearer TOKEN."
            raise RequestError(UNAUTHORIZED, what, {"WWW-Authenticate": "Bearer"})

    def _require_model(self, request: Request) -> None:
        name, version = request.path_params.get("name"), request.path_params.get("version", "1")
        if name not in (None, self._model.name) or version != "1":
            what = f"There is no model {quoted(name)}, version {quoted(version)}"
            raise RequestError(NOT_FOUND, f"{what}. Use {self._model.name}, version 1.")

    def _require_product(self, product: Optional[str]) -> None:
        known = self._model.judge.products
        if product is not None and product not in known:
            raise RequestError(BAD_REQUEST, f"No product {quoted(product)}. Products: {listed(known)}.")


def _require_parameters(request: Request) -> None:
    """Raise a RequestError for an unknown parameter: a mistyped product must not be recognized instead."""
    for name in request.query_params:
        if name not in _PARAMETERS:
            near = did_you_mean(name, _PARAMETERS) or f"Use {' or '.join(_PARAMETERS)}."
            raise RequestError(BAD_REQUEST, f"No parameter {quoted(name)}. {near}")
