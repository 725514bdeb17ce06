"""What flows through a station: triggers, frames, verdicts and stored messages."""

from __future__ import annotations

import dataclasses
import math
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Optional, Union

import numpy as np

if TYPE_CHECKING:
    from adq_edge.evaluation.prediction import Prediction

VERDICT_SCHEMA, VERDICT_VERSION = "adq-edge/verdict", 1
"""Schema and version of a verdict's record; docs/station.md describes each field."""
VERDICTS = ("good", "defective", "unknown product", "cannot judge")

_YEAR_9999 = 253_370_764_800.0

Image = Union[np.ndarray, bytes, Path]
"""uint8 `[H, W, 3]` RGB of any size, an encoded image (PNG, JPEG, ...), or an image file."""


@dataclasses.dataclass(frozen=True)
class Trigger:
    """A request of a source for one verdict.

    Attributes:
        image: the image; None if `camera` or `problem` is given.
        camera: the source of kind `camera` that takes the image now; None if there is an image.
        problem: why there is no image. The verdict is then `cannot judge`, with this reason.
        name: the image's name in the record, such as its file; the frame's id by default.
        product: the product on the image; by default that of the engine's table, or the recognized one.
        key: a name that the source gives to this trigger. A second trigger of the source with the same key
            is not judged: its ticket has the first verdict's record.
        fields: further fields of the record, such as a serial number.
        taken_at: when the image was taken, in seconds since 1970 (UTC).
        received: when the request arrived, as `time.monotonic`: the deadline counts from here.
        is_triggered: False for an image of a camera that runs freely, which a newer one may replace.

    Raises:
        ValueError: a text is none, or a time is impossible.
    """

    image: Optional[Image] = None
    camera: Optional[str] = None
    problem: Optional[str] = None
    name: Optional[str] = None
    product: Optional[str] = None
    key: Optional[str] = None
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)
    taken_at: float = dataclasses.field(default_factory=time.time)
    received: float = dataclasses.field(default_factory=time.monotonic)
    is_triggered: bool = True

    def __post_init__(self) -> None:
        names = (self.camera, self.problem, self.name, self.product, self.key)
        texts = (*(name for name in names if name is not None), *self.fields, *self.fields.values())
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("camera, problem, name, product, key and fields of a trigger are texts")
        if not (0.0 <= self.taken_at < _YEAR_9999 and math.isfinite(self.received)):
            raise ValueError(f"a trigger cannot be of the time {self.taken_at}")


@dataclasses.dataclass(frozen=True)
class Frame:
    """A trigger that the station has accepted: it gets exactly one verdict.

    Attributes:
        id: a name that no other frame has, also after a restart. Frames of one source sort by it.
        source: the name of the source.
        sequence: number of the frame among those of the source since the start, from 1, without gaps.
        due: when the verdict is due, as `time.monotonic`.
        deadline_ms: time from the request to `due`.
        trigger: the trigger.
    """

    id: str
    source: str
    sequence: int
    due: float
    deadline_ms: float
    trigger: Trigger

    @property
    def name(self) -> str:
        """The image's name in the record."""
        return self.id if self.trigger.name is None else self.trigger.name


@dataclasses.dataclass(frozen=True)
class Decided:
    """A frame with its verdict.

    Attributes:
        frame: the frame.
        prediction: verdict, scores and regions; its inspection has the product's map.
        record: the JSON object that sinks get: the fields of `predict`, and those of the station.
        pixels: the image, uint8 `[H, W, 3]` RGB; None if it was not decoded.
        latency_ms: time from the request to the verdict.
        is_on_time: True if the verdict came by the deadline.
    """

    frame: Frame
    prediction: Prediction
    record: Mapping[str, Any]
    pixels: Optional[np.ndarray]
    latency_ms: float
    is_on_time: bool

    @property
    def verdict(self) -> str:
        """The verdict: `good`, `defective`, `unknown product` or `cannot judge`."""
        return str(self.record["verdict"])


def _open_future() -> Future[Mapping[str, Any]]:
    """Return a future that cannot be cancelled: a verdict comes in any case."""
    future: Future[Mapping[str, Any]] = Future()
    future.set_running_or_notify_cancel()
    return future


@dataclasses.dataclass(frozen=True)
class Ticket:
    """A receipt for an accepted trigger.

    Attributes:
        id: the id of the frame; that of the first one for a repeated key.
        decided: has the verdict's record as soon as it is known, at the deadline at the latest.
        stored: has the same record once it cannot be lost. A source acknowledges its trigger then.
    """

    id: str
    decided: Future[Mapping[str, Any]] = dataclasses.field(default_factory=_open_future)
    stored: Future[Mapping[str, Any]] = dataclasses.field(default_factory=_open_future)


@dataclasses.dataclass(frozen=True)
class Message:
    """A stored record on its way to one sink.

    Attributes:
        number: position in the store; rises in the order of delivery.
        record: the JSON object; `record["id"]` lets a receiver drop one that arrives twice.
        text: the record as one line of JSON, without a line break.
        image: the file of the image; None if it is not kept.
        overlay: the file of the image with the map and the regions over it; None if it is not kept.
    """

    number: int
    record: Mapping[str, Any]
    text: str
    image: Optional[Path] = None
    overlay: Optional[Path] = None

    @property
    def id(self) -> str:
        """The id of the frame."""
        return str(self.record["id"])
