"""Errors of a damaged training state, as one line about the checkpoint that holds it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterator

import torch

from adq_edge.core.errors import CheckpointError

RESTART = "Choose another output, or --restart to train from the beginning and replace it"


@contextlib.contextmanager
def state_errors(output: Path) -> Iterator[None]:
    """Convert errors of reading the training state in the checkpoint `output` into a CheckpointError.

    Only reading belongs into the block: torch raises a RuntimeError for weights of another shape, but also
    for a device that fails.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError("its training state cannot be read", where=output, fix=RESTART) from error
