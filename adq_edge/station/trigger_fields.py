"""The fields that a message or request gives to its trigger: product, name, key, and further ones."""

from __future__ import annotations

from typing import Any, Dict, Mapping

from adq_edge.core.reading import parse_json
from adq_edge.core.text import printable, quoted
from adq_edge.station.events import Trigger

_LARGEST, _MOST, _LONGEST = 64 * 1024, 32, 200
_KNOWN = ("product", "name", "key")


def parse_fields(content: bytes) -> Dict[str, str]:
    """Return the fields of a JSON object, such as `{"product": "bolt", "serial": 17}`; none of no content.

    Numbers become texts. An object within it, such as `{"fields": {"serial": 17}}`, is not kept apart.

    Raises:
        ValueError: it is no JSON object of texts and numbers, or too large.
    """
    if not content.strip():
        return {}
    if len(content) > _LARGEST:
        raise ValueError(f"it has {len(content)} bytes, at most {_LARGEST} are read")
    try:
        document = parse_json(content)
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    return check_fields(_flat(document))


def _flat(document: Mapping[str, Any]) -> Dict[str, Any]:
    inner = document.get("fields", {})
    if not isinstance(inner, dict):
        raise ValueError("its fields are no JSON object")
    return {**inner, **{name: value for name, value in document.items() if name != "fields"}}


def check_fields(fields: Mapping[str, Any]) -> Dict[str, str]:
    """Return fields as texts.

    Raises:
        ValueError: there are too many, or one is no text or number, or too long.
    """
    if len(fields) > _MOST:
        raise ValueError(f"it has {len(fields)} fields, at most {_MOST} are read")
    found: Dict[str, str] = {}
    for name, value in fields.items():
        if value is None:
            continue
        if not isinstance(value, (str, int, float)):
            raise ValueError(f"its field {quoted(name)} is no text or number")
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if max(len(text), len(name)) > _LONGEST:
            raise ValueError(f"its field {quoted(name)} has more than {_LONGEST} characters")
        found[name] = text
    return found


def trigger_of(fields: Mapping[str, str], **content: Any) -> Trigger:
    """Return a trigger with fields; those named product, name and key are the trigger's own.

    Args:
        fields: the fields.
        content: `image`, `camera` or `problem` of the trigger.
    """
    own: Dict[str, Any] = {name: printable(fields[name]) for name in _KNOWN if fields.get(name)}
    others = {name: value for name, value in fields.items() if name not in _KNOWN}
    return Trigger(fields=others, **own, **content)
