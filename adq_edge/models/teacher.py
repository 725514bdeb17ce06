"""Where a teacher's weights come from: the user's file, torchvision's published file, or our demo teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping, Optional

import torch

from adq_edge.errors import CheckpointError
from adq_edge.models.torch_files import read_torch_file, state_dict_of

RESNET18_URL = "https://download.pytorch.org/models/resnet18-f37072fd.pth"
RESNET18_SHA256 = "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec"

DEMO = "demo"
DEMO_TEACHER = Path(__file__).parent / "weights" / "demo_teacher.pt"


def teacher_file(weights: Optional[str]) -> Path:
    """Return the file that holds a teacher's ResNet-18 state dict under torchvision's names.

    Args:
        weights: a file with any torchvision ResNet-18 state dict (with or without layer4 and fc); `demo` for
            the small teacher that adq-edge ships; None for torchvision's ImageNet weights, which are
            downloaded once and kept in torch's own cache.

    Raises:
        CheckpointError: the download failed or has another content.
    """
    if weights == DEMO:
        return DEMO_TEACHER
    return _torchvision_file() if weights is None else Path(weights)


def teacher_state(weights: Optional[str]) -> Mapping[str, Any]:
    """Return a ResNet-18 state dict under torchvision's names (see `teacher_file`).

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: it is not a file of weights, or the download failed or has another content.
    """
    path = teacher_file(weights)
    return state_dict_of(read_torch_file(path), path)


def _torchvision_file() -> Path:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / RESNET18_URL.rsplit("/", 1)[1]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(RESNET18_URL, str(path), hash_prefix=RESNET18_SHA256)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(
                f"torchvision's ResNet-18 weights could not be downloaded from {RESNET18_URL} ({error})",
                fix=f"Put that file at {path}, or name a file with --teacher-weights "
                f"({DEMO!r} takes the small teacher shipped for trying things out)",
            ) from error
    return path
