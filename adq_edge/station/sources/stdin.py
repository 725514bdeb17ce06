"""Triggers from standard input, one a line."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, Optional

from adq_edge.core.errors import StationError
from adq_edge.core.text import quoted
from adq_edge.station.events import Trigger
from adq_edge.station.intake import Intake
from adq_edge.station.sources.base import Policy, Source

_LONGEST_LINE = 1 << 20
_PAUSE_S = 0.2
_KEYS = ("image", "camera", "product", "key", "fields")


@dataclasses.dataclass(frozen=True)
class StdinOptions:
    """The keys of triggers from standard input.

    Attributes:
        camera: the camera that an empty line triggers.
    """

    camera: Optional[str] = None


class StdinSource(Source):
    """Reads one trigger a line: an image file, a JSON object, or an empty line for the camera.

    The keys of the JSON object are `image` (a file) or `camera`, `product`, `key`, and `fields` with texts.
    The source ends with its input.
    """

    Options = StdinOptions
    policy = Policy.WAIT

    def run(self, intake: Intake) -> None:
        """Submit a trigger for each line."""
        for line in _read_lines(intake):
            intake.submit(parse_trigger(line, self.options.camera))


def parse_trigger(line: str, camera: Optional[str]) -> Trigger:
    """Return the trigger in a line; one with a problem if the line is none.

    Args:
        line: a path, a JSON object, or nothing.
        camera: the camera that takes the image if the line names no image.
    """
    line = line.strip()
    try:
        values: Dict[str, Any] = json.loads(line) if line.startswith("{") else {"image": line} if line else {}
        unknown = [name for name in values if name not in _KEYS]
        if unknown:
            raise ValueError(f"unknown key {quoted(unknown[0])}")
        fields = values.pop("fields", {})
        texts = [*values.values(), *(fields.values() if isinstance(fields, dict) else [fields, None])]
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("a value is no text")
        if any("\0" in text for text in texts if isinstance(text, str)):
            raise ValueError("a value has a NUL character")
    except (ValueError, RecursionError) as error:
        return Trigger(problem=f"not a trigger: {quoted(line)} ({error})")
    image = values.get("image")
    return Trigger(
        image=None if image is None else Path(image),
        camera=values.get("camera", camera) if image is None else None,
        problem=None if image or values.get("camera", camera) else "the trigger names no image and no camera",
        name=image,
        product=values.get("product"),
        key=values.get("key"),
        fields=fields,
    )


def _read_lines(intake: Intake) -> Iterator[str]:
    """Yield the lines of standard input until it ends or the station does."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError) as error:
        raise StationError("standard input is closed", fix="Remove the source of type 'stdin'") from error
    rest = b""
    while not intake.is_stopping:
        if not select.select([descriptor], [], [], _PAUSE_S)[0]:
            continue
        block = os.read(descriptor, 1 << 16)
        *lines, rest = (rest + block).split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in lines)
        if not block or len(rest) > _LONGEST_LINE:
            yield from ([rest.decode("utf-8", "replace")] if rest else [])
            rest = b""
        if not block:
            return
