"""Checkpoints of interrupted trainings, and their readers: those of a resumed training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def write_trainings(folder: Path, data: Path) -> None:
    """Write the checkpoints `training.pt` and `qat.pt` of the tiny method, interrupted after some epochs.

    Args:
        folder: a new folder.
        data: the dataset that the ranges are measured on.
    """
    import torch

    from adq_edge.calibration.sources import ImageSource
    from adq_edge.core.options import Arithmetic
    from adq_edge.datasets.dataset import read_dataset
    from adq_edge.models.registry import METHODS
    from adq_edge.qat.initialize import quantize_after_training
    from adq_edge.qat.trainer import QatTrainer
    from adq_edge.training.trainer import Trainer
    from factories.tiny_method import TinyMethod, trained_tiny

    folder.mkdir()
    images = torch.randint(0, 256, (4, *_config().image_size, 3), dtype=torch.uint8)
    trainer = Trainer(_settings(), trained_tiny(_config(), images, steps=2), _alone(), None)
    for epoch, validation_loss in (
        (1, 0.5),
        (2, 0.75),
    ):  # the best epoch is not the latest
        trainer._weights.keep()
        trainer._steps.step((images,), 1.0)
        trainer.records.append(_epoch(epoch, validation_loss))
    trainer.save(folder / "training.pt")
    source = ImageSource(tuple(read_dataset(data).train_images[:2]))
    tiny = trained_tiny(_config(), images, steps=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, TinyMethod.arch, TinyMethod)
        model, ranges = quantize_after_training(tiny, Arithmetic.CPU, source, data)
    quantized = QatTrainer(_qat_settings(), model, ranges, {"data": "data", "categories": ["part0"]})
    quantized._step(images)
    quantized.records.append(_epoch(1, None))
    quantized.save(folder / "qat.pt")


def resume_training(folder: Path, name: str) -> None:
    """Read the state of a training as `train` does before it continues."""
    from adq_edge.training.resume import find_resumable
    from adq_edge.training.trainer import Trainer
    from factories.tiny_method import TinyMethod

    earlier = find_resumable(folder / name, _settings(), True)
    trainer = Trainer(_settings(), TinyMethod(_config()), _alone(), earlier)
    assert (trainer.complete, trainer.stopped, trainer.best) is not None


def resume_qat(folder: Path, name: str) -> None:
    """Read the state of a quantization-aware training as `train --qat` does before it continues."""
    from adq_edge.qat.train import find_resumable
    from adq_edge.qat.trainer import QatTrainer

    earlier = find_resumable(folder / name, _qat_settings(), True)
    assert earlier is not None
    QatTrainer.from_checkpoint(_qat_settings(), earlier, folder / name)


def _config() -> Any:
    from adq_edge.models.config import ModelConfig
    from factories.images import SIZE

    return ModelConfig(image_size=(SIZE, SIZE))


def _alone() -> Any:
    import torch

    from adq_edge.training.distributed import ProcessGroup

    return ProcessGroup(0, 1, 1, torch.device("cpu"))


def _epoch(number: int, validation_loss: Any) -> Any:
    from adq_edge.training.schedule import EpochRecord

    return EpochRecord("student", number, 0.5, validation_loss, None, 0.1, 1.0)


def _settings() -> Any:
    from adq_edge.training.settings import TrainingSettings

    return TrainingSettings(
        arch="tiny",
        data="data",
        categories=("part0",),
        image_size=_config().image_size,
        batch_size=4,
        learning_rate=0.1,
        seed=0,
        precision="float32",
        options={},
        validation=0.5,
        select="loss",
        compile=False,
        decay="none",
        balance="none",
        epochs=4,
        early_stopping=3,
        images=4,
    )


def _qat_settings() -> Any:
    from adq_edge.qat.settings import QatSettings

    return QatSettings(
        checkpoint_sha256="0" * 64,
        target="cpu",
        data="data",
        categories=("part0",),
        images=4,
        fingerprint="0" * 64,
        epochs=3,
        batch_size=4,
        learning_rate=0.02,
        seed=0,
    )
