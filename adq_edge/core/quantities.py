"""Shares and areas that a user gives as text: `0.5%`, `0.005`, `40`."""

from __future__ import annotations

import math
from typing import Optional, Tuple

from adq_edge.core.errors import AdqError
from adq_edge.core.text import quoted


def parse_share(text: str, option: str) -> float:
    """Return a share, 0 to 1, given as a percentage (`0.5%`) or as a number (`0.005`).

    The range is not checked: each option has its own.

    Raises:
        AdqError: the text is neither.
    """
    share = _number(text)
    if share is None:
        fix = "Give a percentage such as 0.5%, or a number such as 0.005"
        raise AdqError(f"{quoted(text)} is not a share", where=option, fix=fix)
    return share


def parse_area(text: str, option: str) -> Tuple[float, float]:
    """Return an area as pixels and as a share of the image, 0 to 1; the one that is not given is 0.

    Raises:
        AdqError: the text is neither a number of pixels (`40`) nor a percentage (`1%`).
    """
    value = _number(text)
    if value is None:
        fix = "Give pixels of the image such as 40, or a percentage of it such as 1%"
        raise AdqError(f"{quoted(text)} is not an area", where=option, fix=fix)
    return (0.0, value) if text.strip().endswith("%") else (value, 0.0)


def _number(text: str) -> Optional[float]:
    stripped = text.strip()
    is_percentage = stripped.endswith("%")
    try:
        value = float(stripped[:-1] if is_percentage else stripped)
    except ValueError:
        return None
    if not math.isfinite(value):
        return None
    return value / 100.0 if is_percentage else value
