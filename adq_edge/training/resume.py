"""Resuming from the checkpoint at a training's output path, and protection of other files there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Optional, Set

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import storage_errors
from adq_edge.models.checkpoint import FORMAT, Checkpoint, load_checkpoint
from adq_edge.models.registry import method
from adq_edge.models.torch_files import read_plain_torch_file
from adq_edge.training.log import require_log
from adq_edge.training.schedule import EpochRecord, Schedule
from adq_edge.training.settings import TrainingSettings
from adq_edge.training.state_errors import RESTART, state_errors
from adq_edge.training.trainer import ResumedTraining


def find_resumable(output: Path, settings: TrainingSettings, resume: bool) -> Optional[ResumedTraining]:
    """Return the earlier training at `output` to continue from; None to start from the beginning.

    Raises:
        StorageError: `output` cannot be read or written to.
        CheckpointError: the file is not a training's checkpoint, or one with other settings.
    """
    require_writable(output)
    require_log(output)
    if not output.exists():
        return None
    earlier = read_resumed(output, {"settings", "log", "optimizer"}, "is not a checkpoint of a training")
    if not resume:
        return None
    with state_errors(output):
        difference = settings.difference(earlier.training["settings"])
        if difference is None:
            schedule = Schedule.of(method(settings.arch).stages, settings)
            records = [EpochRecord(**row) for row in earlier.training["log"]]
            difference = schedule.difference(earlier.training["stage"], records)
    if difference is not None:
        raise CheckpointError(f"was trained with {difference}", where=output, fix=RESTART)
    return ResumedTraining(output, earlier.model.state_dict(), earlier.training)


def require_writable(output: Path) -> None:
    """Check before the first epoch that a checkpoint can be written.

    Raises:
        StorageError: the folder cannot be written to.
        CheckpointError: `output` is a folder.
    """
    if output.is_dir():
        raise CheckpointError(
            "is a folder, not a checkpoint file",
            where=output,
            fix=f"Name a file, such as {output / 'model.pt'}",
        )
    with storage_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=str(output.parent)):
            pass


def read_resumed(output: Path, state: Set[str], otherwise: str) -> Checkpoint:
    """Read the checkpoint of an earlier training; any other file is an error, so it is never replaced.

    Args:
        output: the file.
        state: keys that its training state must contain.
        otherwise: error message for a file that is not such a checkpoint.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: the file is not such a checkpoint.
    """
    message = otherwise
    try:
        # Checked first: loading another tool's format may need a teacher and a download.
        if read_plain_torch_file(output).get("format") == FORMAT:
            checkpoint = load_checkpoint(output)
            if state <= set(checkpoint.training):
                return checkpoint
    except CheckpointError as error:
        message = error.what
    raise CheckpointError(
        f"{message}, and is not replaced", where=output, fix="Move it away or choose another output"
    )
