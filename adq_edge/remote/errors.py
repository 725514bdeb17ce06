"""What can go wrong between here and a board, and how to mend it."""

from __future__ import annotations

import errno
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from adq_edge.errors import AdqError


class HostError(AdqError):
    """A board that cannot be reached or used; the message names it."""


class ConnectionLostError(HostError):
    """A connection that ended, and may come back."""


class StoppedError(Exception):
    """The user ended the run; no error of a board."""


class _Complaint(NamedTuple):
    """What ssh says, what that means, and what to do; `HOST` stands for the board."""

    words: Tuple[str, ...]
    what: str
    fix: str


# The client's own words (OpenSSH's sshconnect.c, sshconnect2.c, ssh.c and misc.c); the first match decides.
_COMPLAINTS = (
    _Complaint(
        ("REMOTE HOST IDENTIFICATION HAS CHANGED",),
        "its host key is another than the one known here",
        "If the board was set up anew, forget its old key with `ssh-keygen -R`; if not, trust nobody there",
    ),
    _Complaint(
        ("Host key verification failed", "host key is known for"),
        "its host key is not known here",
        "Connect once with `ssh HOST` and compare the fingerprint",
    ),
    _Complaint(
        ("Permission denied", "Too many authentication failures"),
        "login refused (wrong password, user or key)",
        "Check that `ssh HOST` works",
    ),
    _Complaint(
        ("Could not resolve hostname",),
        "no host of this name",
        "Check the name, or add it to your ssh configuration",
    ),
    _Complaint(
        ("Connection refused", "timed out", "No route to host", "Network is unreachable"),
        "cannot be reached",
        "Check that the board is on, in this network, and runs an ssh server",
    ),
)


def login_error(host: str, said: str) -> HostError:
    """Return why ssh made no connection.

    Args:
        host: the board, as the user named it.
        said: what ssh wrote on standard error.
    """
    for words, what, fix in _COMPLAINTS:
        if any(word in said for word in words):
            return HostError(what, where=host, fix=fix.replace("HOST", host))
    lines = said.strip().splitlines()
    return HostError(
        f"no connection ({lines[-1].strip() if lines else 'ssh says nothing'})",
        where=host,
        fix=f"Check that `ssh {host}` works",
    )


def refused(host: str, problem: Mapping[str, Any]) -> HostError:
    """Return the error that a board's agent replied with."""
    number: Optional[int] = problem.get("errno")
    if number in (errno.ENOSPC, errno.EDQUOT):
        return HostError("its disk is full", where=host, fix=f"Free some space: ssh {host} df -h .cache")
    place = f" ({problem['file']})" if problem.get("file") else ""
    return HostError(f"{problem['text'].lower()}{place}", where=host)
