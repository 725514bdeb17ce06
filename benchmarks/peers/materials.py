"""The inputs of all contenders: weights, images, and the outputs of FP32 as the reference."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, TypeVar

import numpy as np
import torch
from torch import nn

from adq_edge.core.errors import AdqError
from adq_edge.core.files import write_bytes
from adq_edge.core.images.imaging import load_image, resize_image, write_image
from adq_edge.datasets.dataset import read_dataset
from adq_edge.datasets.synthetic.catalog import render
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.paste import PaSTe
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.onnx_export.export import export
from benchmarks.peers.catalog import ANOMALIB, OFFICIAL
from benchmarks.peers.contract import CALIBRATION, VALIDATION

CHECK_IMAGES = 8
"""Number of test images for the timing and for the comparison with FP32."""
LARGE_PIXELS = 1024

Item = TypeVar("Item")

_SETTLING_IMAGES = 16
_HEADROOM = 1.25  # ratio of anomalib's normalization to the largest map value of the check images


@dataclasses.dataclass(frozen=True)
class Images:
    """The image files.

    Attributes:
        folder: the folder of `CALIBRATION`.
        check: a .npy file, uint8 `[N, H, W, 3]`.
        files: encoded photographs by heading of the table, of the input's size and of `LARGE_PIXELS`.
    """

    folder: Path
    check: Path
    files: Dict[str, Path]


@dataclasses.dataclass(frozen=True)
class Model:
    """The folder of a model."""

    name: str
    folder: Path
    image_size: Tuple[int, int]

    def reference(self, scoring: str) -> Any:
        """Return the FP32 maps `[N, h, w]` and scores `[N]` of the check images with a scoring."""
        return np.load(self.folder / f"{scoring}.npz")


def make_images(data: Path, folder: Path, size: Tuple[int, int], calibration: int) -> Images:
    """Resize the images of a dataset for all contenders, and encode a photograph.

    Args:
        data: a dataset in MVTec AD layout.
        folder: output folder.
        size: (height, width) of the model's input.
        calibration: maximum number of calibration images, and of validation images.
    """
    dataset = read_dataset(data)
    for number, path in enumerate(_evenly(dataset.train_images, calibration)):
        write_image(folder / CALIBRATION / f"{number:04}.png", load_image(path, size))
    test = [sample for category in dataset.categories for sample in category.test]
    chosen = _evenly(test, CHECK_IMAGES)
    np.save(folder / "check.npy", np.stack([load_image(sample.path, size) for sample in chosen]))
    rest = [sample for sample in test if sample not in chosen]
    for number, sample in enumerate(_evenly(rest, calibration)):
        kind = "defect" if sample.is_anomalous else "good"
        write_image(folder / VALIDATION / kind / f"{number:04}.png", load_image(sample.path, size))
    photograph = render("circuit_board", seed=0, index=0, size=LARGE_PIXELS)[0]
    small, large = resize_image(photograph, size), photograph
    files = {
        f"{size[1]} px JPEG": _encode(folder / "small.jpg", small),
        f"{LARGE_PIXELS} px JPEG": _encode(folder / "large.jpg", large),
        f"{LARGE_PIXELS} px PNG": _encode(folder / "large.png", large),
    }
    return Images(folder, folder / "check.npy", files)


def _encode(path: Path, image: np.ndarray) -> Path:
    write_image(path, image)
    return path


def _evenly(items: Sequence[Item], count: int) -> List[Item]:
    if not items:
        raise AdqError("the dataset has no training or no test images", fix="Use a dataset with both")
    indices = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))
    return [items[i] for i in indices]


def load_stfpm(checkpoint: Path, teacher_weights: Optional[str]) -> AnomalyModel:
    """Load the STFPM checkpoint.

    Raises:
        AdqError: the checkpoint is of another method, or cannot be read.
    """
    model = load_checkpoint(checkpoint, teacher_weights=teacher_weights).model
    if not isinstance(model, STFPM):
        raise AdqError(f"a {model.arch}, not an STFPM", where=checkpoint, fix="Use an STFPM checkpoint")
    return model


def load_paste(checkpoint: Path) -> AnomalyModel:
    """Load the PaSTe checkpoint.

    Raises:
        AdqError: the checkpoint is of another method, or cannot be read.
    """
    model = load_checkpoint(checkpoint).model
    if not isinstance(model, PaSTe):
        raise AdqError(f"a {model.arch}, not a PaSTe", where=checkpoint, fix="Use a PaSTe checkpoint")
    return model


def random_rd(images: Images, size: Tuple[int, int]) -> AnomalyModel:
    """Make anomalib's default Reverse Distillation (WideResNet-50-2) with random weights, seed 0.

    BatchNorm's statistics are computed from images, so that activations are as large as in a trained network.
    Otherwise they grow from block to block, and INT8 ranges are meaningless.
    """
    torch.manual_seed(0)
    model = ReverseDistillation(ModelConfig(image_size=size, fusion=ANOMALIB))
    paths = _evenly(sorted((images.folder / CALIBRATION).glob("*.png")), _SETTLING_IMAGES)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over all batches
            module.train()
    with torch.no_grad():
        for start in range(0, len(paths), 8):
            batch = np.stack([load_image(path, size) for path in paths[start : start + 8]])
            model(torch.from_numpy(batch))
    return model.eval()


def make_model(name: str, model: AnomalyModel, folder: Path, images: Images) -> Model:
    """Write the checkpoint of a model, its weights with anomalib's names, bundles and references."""
    folder.mkdir(parents=True)
    scorings = (ANOMALIB,) if isinstance(model, ReverseDistillation) else (OFFICIAL, ANOMALIB)
    for scoring in scorings:
        variant = type(model)(dataclasses.replace(model.config, fusion=scoring))
        variant.load_state_dict(model.state_dict())
        add_variant(folder, scoring, variant.eval(), images)
    with np.load(folder / f"{ANOMALIB}.npz") as reference:
        largest = float(max(reference["maps"].max(), reference["scores"].max())) * _HEADROOM
    write_bytes(folder / "scale.json", json.dumps({"largest_map": largest}).encode())
    torch.save(anomalib_names(model), folder / "weights.pt")
    return Model(name, folder, model.config.image_size)


def add_variant(folder: Path, scoring: str, model: AnomalyModel, images: Images) -> None:
    """Write checkpoint, bundle and reference of a model under the name of its scoring."""
    save_checkpoint(folder / f"{scoring}.pt", model, {})
    export(folder / f"{scoring}.pt", folder / scoring)
    _write_reference(model, folder / f"{scoring}.npz", images)


def _write_reference(model: AnomalyModel, path: Path, images: Images) -> None:
    with torch.inference_mode():
        outputs = [model(torch.from_numpy(image[None]))[:2] for image in np.load(images.check)]
    maps, scores = (np.concatenate([part.numpy() for part in parts]) for parts in zip(*outputs))
    np.savez(path, maps=maps, scores=scores)


def anomalib_names(model: AnomalyModel) -> Dict[str, torch.Tensor]:
    """Return the weights of a model with the names of anomalib's checkpoints; others are omitted."""
    prefixes = {
        "teacher.": "model.teacher_model.feature_extractor.",
        "student.": "model.student_model.feature_extractor.",
        "encoder.": "model.encoder.feature_extractor.",
        "bottleneck.": "model.bottleneck.",
        "decoder.": "model.decoder.",
    }
    renamed = {}
    for key, tensor in model.state_dict().items():
        ours = next((prefix for prefix in prefixes if key.startswith(prefix)), None)
        if ours is not None:
            renamed[prefixes[ours] + key[len(ours) :]] = tensor
    return renamed
