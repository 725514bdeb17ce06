"""The settings of a server: its address, its token and its limits."""

from __future__ import annotations

import dataclasses
import hmac
import ipaddress
import re
from pathlib import Path
from typing import Optional

from adq_edge.core.errors import AdqError
from adq_edge.core.reading import read_regular

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
DEFAULT_BODY_MB, DEFAULT_SECONDS = 64, 30
DEFAULT_CONCURRENCY, DEFAULT_QUEUE = 2, 32
MOST_CONNECTIONS = 1024
_BODIES_IN_MEMORY = 4
"""All bodies together take at most as much memory as this number of largest ones."""
_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 4096
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""The characters of a bearer token (RFC 6750)."""
_NEW_TOKEN = "Make one: openssl rand -hex 32 > token; chmod 600 token"


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """The settings of a server.

    Attributes:
        host: the address to listen on.
        port: the port; 0 for a free one.
        token: the token that clients must send; None if they need none.
        body_mb: largest body of a request, in MB (10^6 bytes).
        seconds: a request must arrive within this time, in s.
        concurrency: number of images that are judged at the same time.
        queue: number of further requests that may wait for it.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    body_mb: int = DEFAULT_BODY_MB
    seconds: float = DEFAULT_SECONDS
    concurrency: int = DEFAULT_CONCURRENCY
    queue: int = DEFAULT_QUEUE

    @property
    def most_bytes(self) -> int:
        """The largest body of a request, in bytes."""
        return self.body_mb * 1_000_000

    @property
    def most_held_bytes(self) -> int:
        """The largest size of all bodies in memory, in bytes."""
        return _BODIES_IN_MEMORY * self.most_bytes

    @property
    def is_open(self) -> bool:
        """True if other machines can send requests without a token."""
        return self.token is None and not is_loopback(self.host)

    def accepts(self, authorization: str) -> bool:
        """Return True if the value of an `Authorization` header is the token, or none is needed."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        is_same = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self.token.encode("ascii"))
        return is_same and scheme.lower() == "bearer"


def is_loopback(host: str) -> bool:
    """Return True if only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(path: Path) -> str:
    """Read the token of a file, without the white space around it.

    Raises:
        StorageError: the file cannot be read.
        AdqError: the token is short, long, or has other characters than a bearer token.
    """
    text = read_regular(path, _LONGEST_TOKEN).decode("ascii", "replace").strip()
    if len(text) < _SHORTEST_TOKEN:
        what = f"a token of {len(text)} characters, the least number is {_SHORTEST_TOKEN}"
        raise AdqError(what, where=path, fix=_NEW_TOKEN)
    if not _TOKEN.fullmatch(text):
        raise AdqError("not a token of letters, digits and -._~+/", where=path, fix=_NEW_TOKEN)
    return text
