"""The log of a training: a CSV file beside its checkpoint, one row per epoch.

The rows are kept in the checkpoint too and the file is written whole after each epoch, so that it never
says more than the checkpoint holds and a resumed training's log is that of an uninterrupted one.
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
    """Return where the log of a checkpoint is."""
    return checkpoint.with_suffix(SUFFIX)


def write_log(checkpoint: Path, records: Sequence[EpochRecord]) -> None:
    """Write a training's log, atomically; what was not measured is an empty field.

    Raises:
        StorageError: the folder cannot be written to or is full.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    rows.writerows(dataclasses.astuple(record) for record in records)
    write_bytes(log_path(checkpoint), text.getvalue().encode("utf-8"))


def require_log(checkpoint: Path) -> None:
    """Find out before an epoch is spent whether the log's place is free.

    Raises:
        StorageError: the file there cannot be read.
        CheckpointError: something else than a log is there, or the checkpoint itself would be.
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
                "is no log of a training, and is not replaced",
                where=path,
                fix="Move it away or choose another output",
            )
