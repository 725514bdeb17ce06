from __future__ import annotations

import os
from pathlib import Path
from typing import Callable, Iterator

import cv2
import numpy as np
import pytest

DATA_VARIABLE = "ADQ_EDGE_DATA"
SIZE = 64


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images and weights, where they are; their absence skips a test, never fails it."""
    folder = Path(os.environ.get(DATA_VARIABLE, "../shared/data"))
    if not (folder / "inspection").is_dir():
        pytest.skip(f"no real data in {folder} (set {DATA_VARIABLE})")
    return folder.resolve()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train on one thread: small pictures gain nothing from more, and waiting costs on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_picture(path: Path, seed: int, defect: bool = False, size: int = SIZE) -> None:
    """Write a stripy picture; a defect is a bright square in its middle, a mask is written beside."""
    generator = np.random.default_rng(seed)
    column = np.arange(size) + generator.integers(8)
    picture = np.repeat((100 + 60 * np.sin(column / 3.0))[None, :, None], size, 0).repeat(3, 2)
    picture = picture + generator.normal(0, 4, picture.shape)
    if defect:
        middle = slice(size // 2 - 6, size // 2 + 6)
        picture[middle, middle] = 250
        mask = np.zeros((size, size), np.uint8)
        mask[middle, middle] = 255
        mask_path = path.parents[2] / "ground_truth" / path.parent.name / f"{path.stem}_mask.png"
        mask_path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(mask_path), mask)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.clip(picture, 0, 255).astype(np.uint8))


def write_dataset(root: Path, categories: int = 2) -> Path:
    for number in range(categories):
        folder = root / f"part{number}"
        for i in range(6):
            write_picture(folder / "train" / "good" / f"{i:03}.png", 100 * number + i)
        for i in range(3):
            write_picture(folder / "test" / "good" / f"{i:03}.png", 100 * number + 20 + i)
            write_picture(folder / "test" / "spot" / f"{i:03}.png", 100 * number + 40 + i, defect=True)
    return root


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "parts")


def make_model(fusion: str = "official", size: int = SIZE, seed: int = 0):
    """Make an STFPM whose student is its teacher plus a little noise: small maps, as of a trained one."""
    import torch

    from adq_edge.models.base import ModelConfig
    from adq_edge.models.stfpm import STFPM

    torch.manual_seed(seed)
    model = STFPM(ModelConfig(image_size=(size, size), fusion=fusion))
    model.student.load_state_dict(model.teacher.state_dict())
    with torch.no_grad():
        for parameter in model.student.parameters():
            if parameter.ndim > 1:
                parameter.add_(0.15 * parameter.std() * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    from adq_edge.models.checkpoint import save_checkpoint

    path = tmp_path_factory.mktemp("checkpoints") / "parts.pt"
    settings = {"data": str(dataset), "categories": ["part0", "part1"]}
    save_checkpoint(path, make_model(), {"settings": settings})
    return path


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path):
    from adq_edge.exporting import export

    return export(checkpoint, tmp_path_factory.mktemp("bundles") / "parts")


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory, bundle):
    """One engine per precision, built from the same bundle."""
    from adq_edge.building import build
    from adq_edge.options import Precision

    folder = tmp_path_factory.mktemp("engines")
    return {p: build(bundle.path, folder / f"parts-{p.value}.onnx", precision=p).path for p in Precision}


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes every flush to the disk fail as on a full one."""
    import errno

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "fsync", fail)


def leftovers(folder: Path) -> list:
    """Return hidden files: what an atomic write that went wrong would leave."""
    return list(folder.rglob(".*"))
