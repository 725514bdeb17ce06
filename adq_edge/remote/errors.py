"""What can go wrong between here and a board, and how to mend it."""

from __future__ import annotations

import errno
import os
import re
from typing import Any, Mapping, NamedTuple, Optional, Tuple

from adq_edge.core.errors import AdqError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ERROR = re.compile(r"error: ", re.IGNORECASE)
_MERE_FAILURE = re.compile(r"error: (subprocess-exited-with-error|command .* failed)")
"""Something that was run did not succeed: why, it says itself."""


class HostError(AdqError):
    """A board that cannot be reached or used; the message names it."""


class ConnectionLostError(HostError):
    """No connection, where there may be one again."""


class StoppedError(Exception):
    """The user ended the run; no error of a board."""


class _Complaint(NamedTuple):
    """What ssh says, what that means, what to do (`HOST` stands for the board), and whether it may pass."""

    words: Tuple[str, ...]
    what: str
    fix: str
    passes: bool = False


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
        passes=True,
    ),
    _Complaint(
        ("Connection refused", "timed out", "No route to host", "Network is unreachable"),
        "cannot be reached",
        "Check that the board is on, in this network, and runs an ssh server",
        passes=True,
    ),
)


def login_error(host: str, said: str) -> HostError:
    """Return why ssh made no connection: a ConnectionLostError where it may make one later.

    Args:
        host: the board, as the user named it.
        said: what ssh wrote on standard error.
    """
    for words, what, fix, passes in _COMPLAINTS:
        if any(word in said for word in words):
            kind = ConnectionLostError if passes else HostError
            return kind(what, where=host, fix=fix.replace("HOST", host))
    lines = said.strip().splitlines()
    return ConnectionLostError(
        f"no connection ({lines[-1].strip() if lines else 'ssh says nothing'})",
        where=host,
        fix=f"Check that `ssh {host}` works",
    )


def disk_full(host: str, step: Optional[str] = None) -> HostError:
    """Return the error of a board without space, met in a step of a job there or by a request."""
    what = "its disk is full" if step is None else f"step '{step}' failed there: its disk is full"
    return HostError(what, where=host, fix=f"Free some space: ssh {host} df -h .cache")


def tells_of_full_disk(text: str) -> bool:
    """Return True if a program complains that there is no space."""
    return any(os.strerror(number).lower() in text.lower() for number in _FULL)


def last_error(text: str) -> str:
    """Return the last error in what a command wrote, else its last line; empty where there is none.

    pip's remarks on an error follow it, and are none.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first_remark = next((n for n, line in enumerate(lines) if line.startswith(("note: ", "hint: "))), None)
    before = [line for line in lines[:first_remark] if line != "[end of output]"] or lines
    errors = [line for line in before if _ERROR.search(line) and not _MERE_FAILURE.match(line)]
    return (errors or before or [""])[-1]


def refused(host: str, problem: Mapping[str, Any]) -> HostError:
    """Return the error that a board's agent replied with."""
    number: Optional[int] = problem.get("errno")
    if number in _FULL:
        return disk_full(host)
    place = f" ({problem['file']})" if problem.get("file") else ""
    return HostError(f"{problem['text'].lower()}{place}", where=host)
