"""Errors of boards and connections, derived from the output of ssh and of commands on the board."""

from __future__ import annotations

import errno
import os
import re
from typing import NamedTuple, Optional, Tuple

from adq_edge.core.errors import AdqError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ERROR = re.compile(r"error: ", re.IGNORECASE)
_CONSEQUENCE = re.compile(r"error: (subprocess-exited-with-error|command .* failed)")
"""Errors that report the failure of a subprocess; its own output contains the cause."""


class HostError(AdqError):
    """A board cannot be reached or used; the message contains its name."""


class ConnectionLostError(HostError):
    """A connection failed; a later attempt may succeed."""


class InvalidReplyError(HostError):
    """A board sent something that the agent never sends."""


class StoppedError(Exception):
    """The user ended the run; not an error of a board."""


class _SshFailure(NamedTuple):
    """A failure of ssh.

    Attributes:
        phrases: parts of ssh's messages that identify the failure.
        what: the error message.
        fix: the remedy; `HOST` is replaced by the board's name.
        is_temporary: True if a later attempt may succeed.
    """

    phrases: Tuple[str, ...]
    what: str
    fix: str
    is_temporary: bool = False


# Phrases from OpenSSH's sshconnect.c, sshconnect2.c, ssh.c and misc.c; the first match applies.
_SSH_FAILURES = (
    _SshFailure(
        ("REMOTE HOST IDENTIFICATION HAS CHANGED",),
        "its host key differs from the known one",
        "If the board was installed again, remove the old key with `ssh-keygen -R`; if not, do not connect",
    ),
    _SshFailure(
        ("Host key verification failed", "host key is known for"),
        "its host key is not known here",
        "Connect once with `ssh HOST` and compare the fingerprint",
    ),
    _SshFailure(
        ("Permission denied", "Too many authentication failures"),
        "login refused (wrong password, user or key)",
        "Check that `ssh HOST` works",
    ),
    _SshFailure(
        ("Could not resolve hostname",),
        "there is no host of this name",
        "Check the name, or add it to your ssh configuration",
        is_temporary=True,
    ),
    _SshFailure(
        ("Connection refused", "timed out", "No route to host", "Network is unreachable"),
        "cannot be reached",
        "Check that the board is on, is in this network, and runs an ssh server",
        is_temporary=True,
    ),
)


def login_error(host: str, messages: str) -> HostError:
    """Return the error for a failed connection; a ConnectionLostError if a later attempt may succeed.

    Args:
        host: the board, as the user named it.
        messages: ssh's standard error output.
    """
    for failure in _SSH_FAILURES:
        if any(phrase in messages for phrase in failure.phrases):
            kind = ConnectionLostError if failure.is_temporary else HostError
            return kind(failure.what, where=host, fix=failure.fix.replace("HOST", host))
    lines = messages.strip().splitlines()
    return ConnectionLostError(
        f"no connection ({lines[-1].strip() if lines else 'no message from ssh'})",
        where=host,
        fix=f"Check that `ssh {host}` works",
    )


def disk_full(host: str, what: str = "its disk is full") -> HostError:
    """Return the error for a board without enough disk space."""
    return HostError(what, where=host, fix=f"Free some space: ssh {host} df -h .cache")


def is_disk_full_error(text: str) -> bool:
    """Return True if the output of a program contains an error about missing disk space."""
    return any(os.strerror(number).lower() in text.lower() for number in _FULL)


def last_error(output: str) -> str:
    """Return the last error in the output of a command, or its last line; empty for an empty output.

    The notes and hints that pip prints after an error are ignored.
    """
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first_note = next((n for n, line in enumerate(lines) if line.startswith(("note: ", "hint: "))), None)
    before = [line for line in lines[:first_note] if line != "[end of output]"] or lines
    errors = [line for line in before if _ERROR.search(line) and not _CONSEQUENCE.match(line)]
    return (errors or before or [""])[-1]


def agent_error(host: str, number: Optional[int], text: str, file: str) -> HostError:
    """Return the error for an error reply of the agent.

    Args:
        host: the board.
        number: the number of a system error; None for another error.
        text: the description.
        file: the file with the problem; empty without one.
    """
    if number in _FULL:
        return disk_full(host)
    return HostError(f"{text.lower()}{f' ({file})' if file else ''}", where=host)
