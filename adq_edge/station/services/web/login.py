"""Who may use the server: a bearer token, a cookie made from it, or a browser on this machine."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import SplitResult, urlsplit

from starlette.requests import Request

from adq_edge.serving.problems import UNAUTHORIZED, RequestError
from adq_edge.serving.settings import ServerSettings, is_loopback

_COOKIE = "adq-edge-login"
COOKIE_S = 30 * 24 * 3600
FORBIDDEN = 403


def require_user(request: Request, settings: ServerSettings) -> None:
    """Raise a RequestError unless a request comes from a user of the station.

    Without a token, only pages of this machine may use the server: the header `Host` names it, so a page of
    another site whose name leads here is refused. A request that another site's page sends is refused too.
    """
    require_own_page(request)
    if settings.token is None:
        host = _split(f"//{request.headers.get('host', '')}").hostname or ""
        if not (is_loopback(host) or host == settings.host.lower()):
            raise RequestError(FORBIDDEN, "The header Host names another machine. Set a token in [web].")
        return
    cookie = request.cookies.get(cookie_name(request), "")
    if not (settings.accepts(request.headers.get("authorization", "")) or is_valid(cookie, settings.token)):
        what = "The token is missing or wrong. Send the header Authorization: Bearer TOKEN, or log in."
        raise RequestError(UNAUTHORIZED, what, {"WWW-Authenticate": "Bearer"})


def require_own_page(request: Request) -> None:
    """Raise a RequestError for a request that the page of another site sends.

    Browsers send `Origin` with requests that change something, and `Sec-Fetch-Site` with all of them, such as
    those for an image: fetching verdicts acknowledges them.
    """
    origin = request.headers.get("origin")
    is_foreign = origin is not None and _split(origin).netloc != request.headers.get("host", "")
    if is_foreign or request.headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        raise RequestError(FORBIDDEN, "Pages of other sites may not use the station.")


def cookie_name(request: Request) -> str:
    """Return the name of the cookie: browsers send a cookie to all ports, and each may be another station."""
    try:
        port = _split(f"//{request.headers.get('host', '')}").port
    except ValueError:  # no number from 0 to 65535
        port = None
    return f"{_COOKIE}-{port or request.scope['scheme']}"


def _split(address: str) -> SplitResult:
    """Return the parts of an address that a client has sent; empty ones if it is impossible."""
    try:
        return urlsplit(address)
    except ValueError:
        return urlsplit("")


def make_cookie(token: str) -> str:
    """Return the value of a cookie that is valid for 30 days, also after a restart."""
    end = str(int(time.time()) + COOKIE_S)
    return f"{end}.{_seal(end, token)}"


def is_valid(cookie: str, token: str) -> bool:
    """Return True if a cookie was made from the token and has not expired."""
    end, _, seal = cookie.partition(".")
    if not (end.isascii() and end.isdigit() and len(end) < 12 and int(end) > time.time()):
        return False
    return hmac.compare_digest(seal.encode("utf-8", "replace"), _seal(end, token).encode("ascii"))


def _seal(end: str, token: str) -> str:
    return hmac.new(token.encode("ascii"), f"{_COOKIE}.{end}".encode("ascii"), hashlib.sha256).hexdigest()
