"""Small datasets and models that tests share."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = 64


def write_image(path: Path, seed: int, defect: bool = False, size: int = SIZE) -> None:
    """Write a striped image; a defect is a bright square in its middle, with a mask file."""
    generator = np.random.default_rng(seed)
    column = np.arange(size) + generator.integers(8)
    image = np.repeat((100 + 60 * np.sin(column / 3.0))[None, :, None], size, 0).repeat(3, 2)
    image = image + generator.normal(0, 4, image.shape)
    if defect:
        middle = slice(size // 2 - 6, size // 2 + 6)
        image[middle, middle] = 250
        mask = np.zeros((size, size), np.uint8)
        mask[middle, middle] = 255
        mask_path = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask_path), mask)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(image, 0, 255).astype(np.uint8))


def write_dataset(root: Path, categories: int = 2) -> Path:
    for number in range(categories):
        folder = root / f"part{number}"
        for i in range(6):
            write_image(folder / "train" / "good" / f"{i:03}.png", 100 * number + i)
        for i in range(3):
            write_image(folder / "test" / "good" / f"{i:03}.png", 100 * number + 20 + i)
            write_image(folder / "test" / "spot" / f"{i:03}.png", 100 * number + 40 + i, defect=True)
    return root


def make_model(fusion: str = "official", size: int = SIZE, seed: int = 0):
    """Make an STFPM whose student is its teacher plus a little noise: small scores, as after training."""
    import torch

    from adq_edge.models.config import ModelConfig
    from adq_edge.models.stfpm import STFPM

    torch.manual_seed(seed)
    model = STFPM(ModelConfig(image_size=(size, size), fusion=fusion))
    model.student.load_state_dict(model.teacher.state_dict())
    with torch.no_grad():
        for parameter in model.student.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.15 * parameter.std() * torch.randn_like(parameter))
    return model.eval()


def leftovers(folder: Path) -> list:
    """Return the hidden files, which a failed atomic write would leave."""
    return list(folder.rglob(".*"))
