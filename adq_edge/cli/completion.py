"""Completion of paths in a shell: the engines, bundles, checkpoints and result files that a verb takes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Callable, Iterator, List

import typer

_UNQUOTED = re.compile(r"[\w./+,:@%=-]+")
"""A path that a shell takes as it is; bash inserts completions without quotes."""


def complete_paths(kind: str) -> Callable[[str], List[str]]:
    """Return a function that completes the paths of a kind.

    It returns nothing if there is no such path; the shell then completes the names of files.

    Args:
        kind: the name of a member of `FileKind`.
    """

    def complete(incomplete: str) -> List[str]:
        found = dict.fromkeys(path for path in _candidates(kind, incomplete) if path.startswith(incomplete))
        return [path for path in found if _UNQUOTED.fullmatch(path)]

    return complete


def complete_engine_then_files(context: typer.Context, incomplete: str) -> List[str]:
    """Complete the first argument of `predict`, an engine; the shell completes the images after it."""
    given: Any = context.params.get("paths")
    return [] if given else complete_paths("ENGINE")(incomplete)


def _candidates(kind: str, incomplete: str) -> Iterator[str]:
    from adq_edge.artifacts import workspace
    from adq_edge.artifacts.file_kinds import FileKind, find_in

    default = {
        "ENGINE": workspace.ENGINES,
        "BUNDLE": workspace.BUNDLES,
        "CHECKPOINT": workspace.CHECKPOINTS,
        "FOREIGN": workspace.BUNDLES.parent,
        "RESULT": workspace.RESULTS,
    }[kind]
    base = incomplete[: incomplete.rfind("/") + 1]
    folders = [base] if base else ["", f"{default}/"]
    for start in folders:
        for path in find_in(Path(start or "."), FileKind[kind]):
            yield start + os.path.relpath(str(path), start or ".")
