"""The log of a training: a CSV file beside its checkpoint, one row per epoch.

The checkpoint stores the rows too, and the file is rewritten from them after each epoch. Thus a resumed
training has the same log as an uninterrupted one, except for the times.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import Sequence

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import storage_errors, write_bytes
from adq_edge.training.schedule import EpochRecord

SUFFIX = ".csv"
COLUMNS = tuple(field.name for field in dataclasses.fields(EpochRecord))
_HEADER = ",".join(COLUMNS)


def log_path(checkpoint: Path) -> Path:
    """Return the path of a checkpoint's log."""
    return checkpoint.with_suffix(SUFFIX)


def write_log(checkpoint: Path, records: Sequence[EpochRecord]) -> None:
    """Write a training's log atomically; values that were not measured are empty fields.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(dataclasses.astuple(record) for record in records)
    write_bytes(log_path(checkpoint), text.getvalue().encode("utf-8"))


def require_log(checkpoint: Path) -> None:
    """Check before the first epoch that the log can be written without replacing another file.

    Raises:
        StorageError: the file there cannot be read.
        CheckpointError: the file there is not a log, or the log has the checkpoint's path.
    """
    path = log_path(checkpoint)
    if path == checkpoint:
        raise CheckpointError(
            "is the name of the log beside the checkpoint", where=path, fix="Name a .pt file with --output"
        )
    if path.exists():
        with storage_errors(path), path.open("rb") as file:
            first = file.readline(len(_HEADER) + 2)
        if first.strip() != _HEADER.encode("utf-8"):
            raise CheckpointError(
                "is not a training log, and is not replaced",
                where=path,
                fix="Move it away or choose another output",
            )
