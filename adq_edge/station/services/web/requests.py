"""Requests that trigger an inspection: `POST /trigger/SOURCE` and `POST /images/SOURCE`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Callable, Dict, Mapping, Tuple

from starlette.requests import Request

from adq_edge.core.errors import StationError
from adq_edge.core.text import quoted
from adq_edge.serving.bodies import FORM, read_body
from adq_edge.serving.gate import BodyMemory, Gate
from adq_edge.serving.problems import (
    BAD_REQUEST,
    BUSY,
    NOT_AN_IMAGE,
    NOT_FOUND,
    TOO_LARGE,
    RequestError,
    busy,
)
from adq_edge.serving.settings import ServerSettings
from adq_edge.station.events import Ticket, Trigger
from adq_edge.station.intake import Intake, Stopped
from adq_edge.station.sources.http import HttpSource
from adq_edge.station.trigger_fields import check_fields, parse_fields, trigger_of
from adq_edge.station.view import StationView

_LARGEST_JSON = 100_000
Content = Tuple[Mapping[str, Any], Mapping[str, str]]
"""The content of a trigger, and its further fields."""


class Receiver:
    """Turns requests into triggers, and waits for their verdicts.

    An image that cannot be used is a trigger too: its part has passed, so the sinks get `cannot judge`. Only
    requests that are refused before their image is read, with 401, 404 or 503, are no triggers.

    Args:
        station: the station.
        settings: the limits.
        gate: bounds the number of requests, and has the threads that submit.
    """

    def __init__(self, station: StationView, settings: ServerSettings, gate: Gate) -> None:
        self._station, self._settings, self._gate = station, settings, gate
        self._memory = BodyMemory(settings.most_held_bytes)

    async def trigger(self, request: Request) -> Mapping[str, Any]:
        """Let the camera of a source take an image, and return the verdict's record.

        Raises:
            RequestError: no such source, no camera, or fields that cannot be read; the last is a trigger too.
        """
        source = self._source(request)
        if source.options.camera is None:
            what = f"The source {source.name} has no camera. Set camera, or POST /images/{source.name}."
            raise RequestError(BAD_REQUEST, what)
        camera = source.options.camera
        return await self._judge(
            request, source, _LARGEST_JSON, lambda body: ({"camera": camera}, _parse(body))
        )

    async def image(self, request: Request) -> Mapping[str, Any]:
        """Submit the image in the body of a request, and return the verdict's record.

        Raises:
            RequestError: no such source; or an image of 0 bytes, too large, or cut off, which is a trigger.
        """
        source = self._source(request)
        is_form = request.headers.get("content-type", "").lower().startswith(FORM)
        return await self._judge(
            request, source, self._settings.most_bytes, _refuse_form if is_form else _image
        )

    async def _judge(
        self, request: Request, source: HttpSource, most_bytes: int, read: Callable[[bytes], Content]
    ) -> Mapping[str, Any]:
        """Return the verdict's record for a request.

        Args:
            request: the request.
            source: its source.
            most_bytes: the largest body.
            read: returns the content of the trigger, and further fields, of a body.
        """
        intake = self._intake(source)
        self._gate.require_place()
        fields: Dict[str, str] = {}
        with self._memory.hold() as add:
            try:
                fields = _fields(request)
                content, more = read(await read_limited(request, self._settings, most_bytes, add))
            except RequestError as error:
                if error.status != BUSY:  # then the client sends it again
                    await self._submit(intake, trigger_of(fields, problem=str(error).rstrip(".")))
                raise
            with self._gate.admit():
                ticket = await self._submit(intake, trigger_of({**fields, **more}, **content))
                return await asyncio.wrap_future(ticket.decided)

    def _source(self, request: Request) -> HttpSource:
        name = request.path_params["source"]
        entries = self._station.config.sources
        if name in entries and isinstance(entries[name].source, HttpSource):
            return entries[name].source  # type: ignore[return-value]
        known = [one for one, entry in entries.items() if isinstance(entry.source, HttpSource)]
        names = ", ".join(known) or 'none; add one with type = "http"'
        raise RequestError(NOT_FOUND, f"There is no source {quoted(name)} of type http. Sources: {names}.")

    def _intake(self, source: HttpSource) -> Intake:
        try:
            return self._station.intake(source.name)
        except StationError:
            raise busy("The station is starting. Send it again later.") from None

    async def _submit(self, intake: Intake, trigger: Trigger) -> Ticket:
        try:
            return await self._gate.run(intake.submit, trigger)
        except (Stopped, RuntimeError):  # the threads have ended
            raise busy("The station ends. Send it again later.") from None


def _fields(request: Request) -> Dict[str, str]:
    """Return the fields in the query of a request."""
    try:
        return check_fields(dict(request.query_params))
    except ValueError as error:
        raise RequestError(BAD_REQUEST, f"The query cannot be read: {error}.") from None


def _image(body: bytes) -> Content:
    if not body:
        raise RequestError(BAD_REQUEST, "The image has 0 bytes.")
    return {"image": body}, {}


def _refuse_form(body: bytes) -> Content:
    raise RequestError(NOT_AN_IMAGE, "The body is a form. Send the content of the image file itself.")


def _parse(body: bytes) -> Dict[str, str]:
    try:
        return parse_fields(body)
    except ValueError as error:
        raise RequestError(BAD_REQUEST, f"The body cannot be read: {error}.") from None


async def read_limited(
    request: Request, settings: ServerSettings, most_bytes: int, add: Callable[[int], None]
) -> bytes:
    """Return the body of a request of limited size.

    Args:
        request: the request.
        settings: the limits.
        most_bytes: the largest body.
        add: counts its bytes.

    Raises:
        RequestError: it is too large, arrives too slowly, is cut off, or cannot be decompressed.
    """
    mb = -(-most_bytes // 1_000_000)
    try:
        body = await read_body(request, dataclasses.replace(settings, body_mb=mb), add)
    except RequestError as error:
        if error.status != TOO_LARGE:
            raise
        body = b""
        size = mb * 1_000_000 + 1
    else:
        size = len(body)
    if size > most_bytes:
        limit = f"{mb} MB (max_mb of [web])" if most_bytes == settings.most_bytes else f"{most_bytes} bytes"
        raise RequestError(TOO_LARGE, f"The body is larger than {limit}.", {"Connection": "close"})
    return body
