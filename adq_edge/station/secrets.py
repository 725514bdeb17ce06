"""Passwords and keys of a station file: as a text, from an environment variable, or from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from adq_edge.core.errors import StationError, StorageError
from adq_edge.core.reading import read_regular

_LONGEST = 4096


def read_secret(name: str, value: Optional[str], path: Optional[Path]) -> Optional[str]:
    """Return a secret that is given as a text or as a file; None if it is given as neither.

    Args:
        name: the key of the text, such as `password`; that of the file is `<name>_file`.
        value: the text. The station file may take it from the environment: `${MQTT_PASSWORD}`.
        path: the file; white space around its content is ignored.

    Raises:
        StorageError: the file cannot be read.
        StationError: both are given, or the secret is empty or no text; the message does not show it.
    """
    if value is not None and path is not None:
        raise StationError(f"both {name} and {name}_file are given", where=path, fix=f"Remove {name}")
    if path is None:
        secret = value
    else:
        where = f"{name}_file {path}"
        try:
            secret = read_regular(path, _LONGEST).decode("utf-8-sig").strip()
        except StorageError as error:
            raise StorageError(error.what, where=where, fix=error.fix) from error
        except UnicodeDecodeError:
            raise StationError("is no text in UTF-8", where=where, fix=f"Write the {name} into it") from None
    if secret == "":
        named = None if path is None else f"{name}_file {path}"
        raise StationError(f"the {name} is empty", where=named, fix=f"Give a {name}, or remove the key")
    return secret
