"""The keys of `[web]`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Optional

from adq_edge.core.errors import StationError
from adq_edge.serving.settings import ServerSettings, is_loopback
from adq_edge.station.secrets import read_secret

SHORTEST_TOKEN = 12
_REQUESTS, _THREADS = 64, 8


@dataclasses.dataclass(frozen=True)
class WebOptions:
    """The keys of `[web]`.

    Attributes:
        host: the address to listen on; another one than this machine's own needs a token.
        port: the port; 0 for a free one.
        token: what browsers and programs must give, 12 characters or more; best as "${VARIABLE}".
        token_file: a file with the token instead.
        certificate: the server's certificate, in PEM, to encrypt the connections.
        key: its private key, in PEM.
        max_mb: largest image in a request, in MB (10^6 bytes).
        timeout_s: a request must arrive within this time, in s.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: Optional[str] = dataclasses.field(default=None, repr=False)
    token_file: Optional[Path] = None
    certificate: Optional[Path] = None
    key: Optional[Path] = None
    max_mb: int = 64
    timeout_s: float = 30.0

    def check(self) -> None:
        """Raise a ValueError if a value is impossible."""
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}, not 0 to 65535")
        if not 1 <= self.max_mb <= 1000:
            raise ValueError(f"max_mb is {self.max_mb}, not 1 to 1000")
        if not 0.1 <= self.timeout_s <= 3600.0:
            raise ValueError(f"timeout_s is {self.timeout_s:g}, not 0.1 to 3600")
        if self.key is not None and self.certificate is None:
            raise ValueError("key needs certificate")

    def settings(self) -> ServerSettings:
        """Return address, token and limits for a server.

        Raises:
            AdqError: the token cannot be read or is too short, or others can reach the server without one.
        """
        token = read_secret("token", self.token, self.token_file)
        where = f"[web] host = {self.host!r}"
        if token is None and not is_loopback(self.host):
            fix = 'Set token = "${VARIABLE}" or token_file, or host = "127.0.0.1"'
            raise StationError("other machines could use the station without a token", where=where, fix=fix)
        if token is not None and not (token.isascii() and token.isprintable() and " " not in token):
            raise StationError(
                "the token has spaces or letters outside ASCII", where="[web]", fix="Change it"
            )
        if token is not None and len(token) < SHORTEST_TOKEN:
            what = f"the token has {len(token)} characters, the least number is {SHORTEST_TOKEN}"
            raise StationError(what, where="[web]", fix="Make one: openssl rand -hex 16")
        queue = _REQUESTS - _THREADS
        return ServerSettings(self.host, self.port, token, self.max_mb, self.timeout_s, _THREADS, queue)
