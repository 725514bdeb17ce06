"""Makes the ids of frames and the records of verdicts."""

from __future__ import annotations

import datetime
import re
from typing import Any, Dict

from adq_edge.evaluation.prediction import Prediction
from adq_edge.station.events import VERDICT_SCHEMA, VERDICT_VERSION, Frame

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
_START_DIGITS = 9
"""Base-32 digits of a start: 45 bits of ms last until the year 3084."""
_FRAME_FILE = re.compile(rf"[{_DIGITS}]{{{_START_DIGITS}}}-[A-Za-z0-9_-]{{1,40}}-\d{{9,}}(\.\w+)+", re.ASCII)


def start_text(start_ms: int) -> str:
    """Return the start of a station, in ms since 1970, as base-32 digits that sort like the number."""
    digits = (_DIGITS[(start_ms >> 5 * place) & 31] for place in reversed(range(_START_DIGITS)))
    return "".join(digits)


def frame_id(start: str, source: str, sequence: int) -> str:
    """Return the id of a frame."""
    return f"{start}-{source}-{sequence:09}"


def is_frame_file(name: str) -> bool:
    """Return True if a file has the name of a frame: no other file is ever deleted."""
    return _FRAME_FILE.fullmatch(name) is not None


def utc_text(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601 in UTC with ms, such as `2026-11-30T14:05:12.345Z`."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def verdict_record(
    station: str,
    frame: Frame,
    prediction: Prediction,
    decided_at: float,
    latency_ms: float,
    is_on_time: bool,
) -> Dict[str, Any]:
    """Return the record of a verdict: the fields of `predict`, and those of the station.

    Args:
        station: name of the station.
        frame: the frame.
        prediction: its verdict.
        decided_at: when it was decided, in seconds since 1970.
        latency_ms: time from the trigger to the verdict.
        is_on_time: True if the verdict came by the deadline.
    """
    found = prediction.fields()
    return {
        **found,
        "schema": VERDICT_SCHEMA,
        "version": VERDICT_VERSION,
        "station": station,
        "source": frame.source,
        "id": frame.id,
        "sequence": frame.sequence,
        "taken_at": utc_text(frame.trigger.taken_at),
        "decided_at": utc_text(decided_at),
        "latency_ms": round(latency_ms, 3),
        "deadline_ms": frame.deadline_ms,
        "on_time": is_on_time,
        "fields": dict(frame.trigger.fields),
    }
