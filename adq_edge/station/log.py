"""Lines of a station's log in JSON."""

from __future__ import annotations

from typing import Optional

from adq_edge.core.json_lines import json_line
from adq_edge.station.conditions import Condition
from adq_edge.station.records import utc_text


def log_line(station: str, change: Condition, text: Optional[str] = None) -> str:
    """Return the line of a problem that began or ended, or of a message about a part of the station.

    Args:
        station: name of the station.
        change: the problem.
        text: the message; None for a problem.
    """
    fields = {
        "time": utc_text(change.at),
        "level": "info" if change.problem is None else "warning",
        "station": station,
        "subject": change.subject,
        "problem": change.problem,
    }
    return json_line(fields if text is None else {**fields, "message": text})
