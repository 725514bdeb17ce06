"""Encrypted connections of a station: certificates of its peers, and its own."""

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
        raise StationError(what, where=f"ca_file {ca_file}", fix="Name a file in PEM") from error


def load_certificate(context: ssl.SSLContext, certificate: Path, key: Optional[Path]) -> None:
    """Load an own certificate and its private key into a context.

    Args:
        context: the context.
        certificate: the certificate, in PEM.
        key: its private key, in PEM; None if it is in the file of the certificate.

    Raises:
        StationError: a file cannot be read, is not in PEM, or has a password.
    """
    try:
        context.load_cert_chain(str(certificate), None if key is None else str(key), password="")
    except (OSError, ssl.SSLError) as error:
        what = f"cannot be used as a certificate with its key ({first_line(error)})"
        fix = "Name certificate and key in PEM, without a password"
        raise StationError(what, where=f"certificate {certificate}", fix=fix) from error


def explain_tls(error: ssl.SSLError, where: str) -> StationError:
    """Return why there is no encrypted connection to a peer, as one line."""
    reason = getattr(error, "verify_message", "") or error.reason or first_line(error)
    return StationError(f"no encrypted connection ({reason})", where=where, fix="Check ca_file and address")
