"""Handles Ctrl-C while the command loads its first modules; imports no module that takes time to load."""

from __future__ import annotations

import os
import sys

_INTERRUPTED = 130
"""Exit code after SIGINT: 128 + its number."""
_COMMANDS = ("adq-edge", "__main__.py", "-m")
"""Names of the running program, of which `python -m` is called `-m` until the module is found."""


class LoadingCommand:
    """Ends the command with one line if the user interrupts the block; does nothing in other programs."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is KeyboardInterrupt and sys.argv[0].rpartition(os.sep)[2] in _COMMANDS:
            sys.stderr.write("adq-edge: interrupted\n")
            raise SystemExit(_INTERRUPTED) from None
