"""Encrypted connections to the peers of a station."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Optional

from adq_edge.core.errors import StationError, first_line


def tls_context(ca_file: Optional[Path]) -> ssl.SSLContext:
    """Return a context that checks the peer's certificate and name.

    Args:
        ca_file: the certificates that it is checked against, in PEM; None for those of the system.

    Raises:
        StationError: the file cannot be read, or has no certificate.
    """
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as error:
        what = f"cannot be used as certificates ({first_line(error)})"
        raise StationError(what, where=ca_file, fix="Name a file in PEM") from error


def explain_tls(error: ssl.SSLError, where: str) -> StationError:
    """Return why there is no encrypted connection to a peer, as one line."""
    reason = getattr(error, "verify_message", "") or error.reason or first_line(error)
    return StationError(f"no encrypted connection ({reason})", where=where, fix="Check ca_file and address")
