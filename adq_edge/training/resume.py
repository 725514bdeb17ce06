"""What stands where a training is to write: nothing, an earlier part of it, or something to leave alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Optional, Set

from adq_edge.core.errors import CheckpointError
from adq_edge.core.files import storage_errors
from adq_edge.models.checkpoint import FORMAT, Checkpoint, load_checkpoint
from adq_edge.models.registry import method
from adq_edge.models.torch_files import read_torch_file
from adq_edge.training.log import require_log
from adq_edge.training.schedule import EpochRecord, Schedule
from adq_edge.training.settings import TrainingSettings
from adq_edge.training.trainer import ResumedTraining

RESTART = "Choose another output, or --restart to train from the beginning and replace it"


def find_resumable(output: Path, settings: TrainingSettings, resume: bool) -> Optional[ResumedTraining]:
    """Return what a training with these settings continues at `output`; None to start afresh.

    Raises:
        StorageError: the place cannot be read or written to.
        CheckpointError: the file there is no checkpoint of a training, or one with other settings.
    """
    require_writable(output)
    require_log(output)
    if not output.exists():
        return None
    earlier = read_resumed(output, {"settings", "log", "optimizer"}, "is no checkpoint that adq-edge trained")
    if not resume:
        return None
    difference = settings.difference(earlier.training["settings"])
    if difference is None:
        schedule = Schedule.of(method(settings.arch).stages, settings)
        records = [EpochRecord(**row) for row in earlier.training["log"]]
        difference = schedule.difference(earlier.training["stage"], records)
    if difference is not None:
        raise CheckpointError(f"was trained with {difference}", where=output, fix=RESTART)
    return ResumedTraining(earlier.model.state_dict(), earlier.training)


def require_writable(output: Path) -> None:
    """Find out before an epoch is spent whether its checkpoint can be written.

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
    """Read a checkpoint that a training wrote; what anything else wrote is never replaced.

    Args:
        output: the file.
        state: what the training state of such a checkpoint holds.
        otherwise: what is said of a file that is none.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: it is none.
    """
    what = otherwise
    try:
        # Asked first: recognizing a foreign format may need a teacher and a download.
        if read_torch_file(output).get("format") == FORMAT:
            checkpoint = load_checkpoint(output)
            if state <= set(checkpoint.training):
                return checkpoint
    except CheckpointError as error:
        what = error.what
    raise CheckpointError(
        f"{what}, and is not replaced", where=output, fix="Move it away or choose another output"
    )
