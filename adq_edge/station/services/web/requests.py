"""Requests that trigger an inspection: `POST /trigger/SOURCE` and `POST /images/SOURCE`."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Dict, Mapping

from starlette.requests import Request

from adq_edge.core.errors import StationError
from adq_edge.core.text import quoted
from adq_edge.serving.bodies import read_body
from adq_edge.serving.gate import Gate
from adq_edge.serving.problems import BAD_REQUEST, NOT_FOUND, TOO_LARGE, RequestError, busy
from adq_edge.serving.settings import ServerSettings
from adq_edge.station.events import Ticket, Trigger
from adq_edge.station.intake import Intake, Stopped
from adq_edge.station.sources.http import HttpSource
from adq_edge.station.trigger_fields import check_fields, parse_fields, trigger_of
from adq_edge.station.view import StationView

_LARGEST_JSON = 100_000


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

    async def trigger(self, request: Request) -> Mapping[str, Any]:
        """Let the camera of a source take an image, and return the verdict's record.

        Raises:
            RequestError: no such source, no camera, or fields that cannot be read; the last is a trigger too.
        """
        source = self._source(request)
        if source.options.camera is None:
            what = f"The source {source.name} has no camera. Set camera, or POST /images/{source.name}."
            raise RequestError(BAD_REQUEST, what)
        intake = self._intake(source)
        with self._gate.admit():
            fields: Dict[str, str] = {}
            try:
                fields = _fields(request)
                fields.update(_parse(await read_limited(request, self._settings, _LARGEST_JSON)))
            except RequestError as error:
                await self._submit(intake, trigger_of(fields, problem=_reason(error)))
                raise
            return await self._judge(intake, trigger_of(fields, camera=source.options.camera))

    async def image(self, request: Request) -> Mapping[str, Any]:
        """Submit the image in the body of a request, and return the verdict's record.

        Raises:
            RequestError: no such source; or an image of 0 bytes, too large, or cut off, which is a trigger.
        """
        intake = self._intake(self._source(request))
        with self._gate.admit():
            fields: Dict[str, str] = {}
            try:
                fields = _fields(request)
                body = await read_limited(request, self._settings, self._settings.most_bytes)
                if not body:
                    raise RequestError(BAD_REQUEST, "The image has 0 bytes.")
            except RequestError as error:
                await self._submit(intake, trigger_of(fields, problem=_reason(error)))
                raise
            return await self._judge(intake, trigger_of(fields, image=body))

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

    async def _judge(self, intake: Intake, trigger: Trigger) -> Mapping[str, Any]:
        ticket = await self._submit(intake, trigger)
        return await asyncio.wrap_future(ticket.decided)


def _reason(error: RequestError) -> str:
    return str(error).rstrip(".")


def _fields(request: Request) -> Dict[str, str]:
    """Return the fields in the query of a request."""
    try:
        return check_fields(dict(request.query_params))
    except ValueError as error:
        raise RequestError(BAD_REQUEST, f"The query cannot be read: {error}.") from None


def _parse(body: bytes) -> Dict[str, str]:
    try:
        return parse_fields(body)
    except ValueError as error:
        raise RequestError(BAD_REQUEST, f"The body cannot be read: {error}.") from None


async def read_limited(request: Request, settings: ServerSettings, most_bytes: int) -> bytes:
    """Return the body of a request of limited size.

    Raises:
        RequestError: it is too large, arrives too slowly, is cut off, or cannot be decompressed.
    """
    mb = -(-most_bytes // 1_000_000)
    try:
        body = await read_body(request, dataclasses.replace(settings, body_mb=mb))
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
