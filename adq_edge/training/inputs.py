"""The inputs of a training's loss, batch by batch: images, or frozen features that are computed once."""

from __future__ import annotations

from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch

from adq_edge.models.base import AnomalyModel, Features
from adq_edge.training.data import TrainingData
from adq_edge.training.distributed import ProcessGroup
from adq_edge.training.feature_store import FeatureStore, open_store
from adq_edge.training.loader import TrainingImages, image_memory_limit

Shapes = Tuple[Tuple[int, ...], ...]


class TrainingInputs:
    """The inputs of `AnomalyModel.stage_loss` for batches of images.

    A method with frozen features gets them in float32. Each image's features are computed alone, so the
    numbers do not depend on the batch or on the store.

    Args:
        model: the model, on the device that computes.
        images: the images.
        device: the device that computes.
        shapes: shapes `(h, w, C)` of the frozen features of one image; empty for a method without them.
        store: keeps the features; None to compute them whenever they are needed.
        first: number of the first image in the store.
    """

    def __init__(
        self,
        model: AnomalyModel,
        images: TrainingImages,
        device: torch.device,
        shapes: Shapes = (),
        store: Optional[FeatureStore] = None,
        first: int = 0,
    ) -> None:
        self._model = model
        self._images = images
        self._device = device
        self._store = store
        self._first = first
        self._shapes = shapes

    def __len__(self) -> int:
        return len(self._images)

    def batches(self, indices: Iterable[Sequence[int]]) -> Iterator[Features]:
        """Yield the inputs for each list of image numbers, on the device."""
        if not self._shapes:
            for images in self._images.batches(indices):
                yield (images.to(self._device),)
            return
        batches = [list(batch) for batch in indices]
        missing = [[index for index in batch if not self._is_stored(index)] for batch in batches]
        read = self._images.batches([batch for batch in missing if batch])
        for batch, absent in zip(batches, missing):
            computed = dict(zip(absent, map(self._compute, next(read)))) if absent else {}
            records = [computed[index] if index in computed else self._stored(index) for index in batch]
            self._keep(computed)
            yield _to_features(np.stack(records), self._shapes, self._device)

    def _is_stored(self, index: int) -> bool:
        return self._store is not None and self._store.holds(self._first + index)

    def _stored(self, index: int) -> np.ndarray:
        assert self._store is not None  # `_is_stored` was true
        return self._store.read(self._first + index)

    def _keep(self, computed: Dict[int, np.ndarray]) -> None:
        if self._store is not None:
            for index, record in computed.items():
                self._store.write(self._first + index, record)

    def _compute(self, image: torch.Tensor) -> np.ndarray:
        features = self._model.frozen_features(image[None].to(self._device))
        # Channels last, as the networks compute during training.
        return np.concatenate([feature.permute(0, 2, 3, 1).cpu().numpy().ravel() for feature in features])


class StepInputs(NamedTuple):
    """The inputs of a training's steps and of its validation.

    Attributes:
        training: the inputs of the steps.
        validation: those of the validation images; None without such images.
        store: keeps their frozen features; None if they are not kept.
    """

    training: TrainingInputs
    validation: Optional[TrainingInputs]
    store: Optional[FeatureStore]

    @classmethod
    def of(
        cls,
        model: AnomalyModel,
        data: TrainingData,
        processes: ProcessGroup,
        note: Callable[[str], None],
    ) -> StepInputs:
        """Return the inputs that are made of a training's images, with a store for frozen features.

        Args:
            model: the model, on the device that computes.
            data: the images.
            processes: the processes that share the memory of this machine.
            note: prints a line about the store.
        """
        held_out, count = data.validation, len(data.training)
        shapes, store = _frozen_shapes(model), None
        if shapes:
            values = sum(int(np.prod(shape)) for shape in shapes)
            total = count + (0 if held_out is None else len(held_out))
            memory = image_memory_limit(processes.local_size)
            store = open_store(total, values, memory, note, processes.local_size)
        training = TrainingInputs(model, data.training, processes.device, shapes, store)
        if held_out is None:
            return cls(training, None, store)
        return cls(training, TrainingInputs(model, held_out, processes.device, shapes, store, count), store)

    def close(self) -> None:
        """Delete the store."""
        if self.store is not None:
            self.store.close()


def _frozen_shapes(model: AnomalyModel) -> Shapes:
    """Return the shapes `(h, w, C)` of the frozen features of one image; empty if training keeps none."""
    if not model.caches_frozen:
        return ()
    height, width = model.config.image_size
    image = torch.zeros(1, height, width, 3, dtype=torch.uint8, device=model.pixel_mean.device)
    return tuple(
        (int(feature.shape[2]), int(feature.shape[3]), int(feature.shape[1]))
        for feature in model.frozen_features(image)
    )


def _to_features(records: np.ndarray, shapes: Shapes, device: torch.device) -> Features:
    """Cut float32 records `[N, values]` into features `[N, C, h, w]`."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts: List[np.ndarray] = np.split(records, ends[:-1], axis=1)
    return tuple(
        torch.from_numpy(np.ascontiguousarray(part)).view(-1, *shape).permute(0, 3, 1, 2).to(device)
        for part, shape in zip(parts, shapes)
    )
