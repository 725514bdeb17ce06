"""The weights of teachers: the user's file, torchvision's published file, or the demo teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional

import torch

from adq_edge.core.errors import CheckpointError
from adq_edge.models.resnet import Backbone
from adq_edge.models.state_dicts import state_dict_of
from adq_edge.models.torch_files import read_torch_file


class Published(NamedTuple):
    """A weights file of torchvision: its address and the first digits of its SHA-256, or all."""

    url: str
    sha256: str


PUBLISHED: Dict[Backbone, Published] = {
    Backbone.RESNET18: Published(
        "https://download.pytorch.org/models/resnet18-f37072fd.pth",
        "f37072fd47e89c5e827621c5baffa7500819f7896bbacec160b1a16c560e07ec",
    ),
    Backbone.RESNET34: Published("https://download.pytorch.org/models/resnet34-b627a593.pth", "b627a593"),
    Backbone.RESNET50: Published("https://download.pytorch.org/models/resnet50-0676ba61.pth", "0676ba61"),
    Backbone.RESNET101: Published("https://download.pytorch.org/models/resnet101-63fe2227.pth", "63fe2227"),
    Backbone.WIDE_RESNET50_2: Published(
        "https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth", "95faca4d"
    ),
    Backbone.WIDE_RESNET101_2: Published(
        "https://download.pytorch.org/models/wide_resnet101_2-32ee1156.pth", "32ee1156"
    ),
}
"""torchvision's weights IMAGENET1K_V1, which published checkpoints without a teacher were trained with."""

DEMO = "demo"
_KEY_OF_RESNETS = "layer1.0.conv1.weight"
"""Name of a tensor that every ResNet of torchvision has."""

DEMO_TEACHER = Path(__file__).parent / "weights" / "demo_teacher.pt"
_DEMO_BACKBONE = Backbone.RESNET18


def teacher_file(weights: Optional[str], backbone: Backbone = Backbone.RESNET18) -> Path:
    """Return the file that holds a teacher's ResNet state dict with torchvision's names.

    Args:
        weights: a file with a torchvision state dict of that ResNet (with or without layer4 and fc); `demo`
            for the small ResNet-18 teacher in adq-edge; None for torchvision's ImageNet weights, which are
            downloaded once and stored in torch's cache.
        backbone: the ResNet (see `AnomalyModel.teacher_backbone`).

    Raises:
        CheckpointError: the download failed or has wrong content, or the demo teacher has another backbone.
    """
    if weights is None:
        return _torchvision_file(backbone)
    if weights != DEMO:
        return Path(weights)
    if backbone is not _DEMO_BACKBONE:
        raise CheckpointError(
            f"the demo teacher is a {_DEMO_BACKBONE.value}, not a {backbone.value}",
            fix=f"Name a file with --teacher-weights, or take {_DEMO_BACKBONE.value} as the backbone",
        )
    return DEMO_TEACHER


def teacher_state(weights: Optional[str], backbone: Backbone = Backbone.RESNET18) -> Mapping[str, Any]:
    """Return a ResNet state dict with torchvision's names; the arguments are those of `teacher_file`.

    Raises:
        StorageError: the file cannot be read.
        CheckpointError: the file contains no weights of a ResNet; also the cases of `teacher_file`.
    """
    path = teacher_file(weights, backbone)
    state = state_dict_of(read_torch_file(path), path)
    if not any(key.endswith(_KEY_OF_RESNETS) for key in state):
        fix = f"Give a state dict of torchvision's {backbone.value} with --teacher-weights"
        raise CheckpointError("not the weights of a ResNet", where=path, fix=fix)
    return state


def _torchvision_file(backbone: Backbone) -> Path:
    url, sha256 = PUBLISHED[backbone]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / url.rsplit("/", 1)[1]
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), hash_prefix=sha256)
        except (OSError, RuntimeError) as error:
            demo = f" ({DEMO!r} selects the small teacher in adq-edge)" if backbone is _DEMO_BACKBONE else ""
            raise CheckpointError(
                f"torchvision's {backbone.value} weights could not be downloaded from {url} ({error})",
                fix=f"Put that file at {path}, or name a file with --teacher-weights{demo}",
            ) from error
    return path
