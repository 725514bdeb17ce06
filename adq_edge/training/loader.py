"""Loading of training images: kept in memory if they fit, otherwise read again for each batch."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from adq_edge.core.images.imaging import load_image
from adq_edge.core.limits import usable_cpus
from adq_edge.hardware.memory import usable_memory_mb
from adq_edge.training.settings import Balance

MEMORY_LIMIT = 4 * 10**9  # bytes; 20 000 images of 256x256
_SHARE_OF_MEMORY = 0.5  # the rest is for the networks
MEASURING_IMAGES = 128  # largest number of training images to measure statistics on
_CHUNK = 64  # images per step of the progress bar while reading


def shuffled_batches(
    counts: Sequence[int], batch_size: int, balance: Balance = Balance.NONE
) -> List[List[int]]:
    """Return the image indices of an epoch, shuffled by torch's global generator, in batches of equal size.

    An incomplete last batch is dropped, because BatchNorm cannot normalize a batch of one image. With fewer
    images than `batch_size`, all are one batch.

    Args:
        counts: number of images in each category; indices run through one category after the other.
        batch_size: images in a batch.
        balance: how often an image is drawn.
    """
    count = sum(counts)
    order = torch.randperm(count) if balance is Balance.NONE else _balanced_indices(counts)
    size = min(batch_size, count)
    return [order[start : start + size].tolist() for start in range(0, count - size + 1, size)]


def _balanced_indices(counts: Sequence[int]) -> torch.Tensor:
    """Draw `sum(counts)` indices, equally many per category, repeating one only after all of its category."""
    share = math.ceil(sum(counts) / len(counts))
    drawn, first = [], 0
    for count in counts:
        rounds = [torch.randperm(count) for _ in range(math.ceil(share / count))]
        drawn.append(first + torch.cat(rounds)[:share])
        first += count
    together = torch.cat(drawn)
    return together[torch.randperm(len(together))[: sum(counts)]]


def ordered_batches(count: int, batch_size: int) -> List[List[int]]:
    """Return `0..count-1` in order, in batches; the last may be smaller."""
    starts = range(0, count, batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


def measuring_batches(count: int, batch_size: int) -> List[List[int]]:
    """Return at most `MEASURING_IMAGES` of `0..count-1`, evenly spaced, in batches."""
    chosen = range(0, count, math.ceil(count / MEASURING_IMAGES))
    return [[chosen[index] for index in batch] for batch in ordered_batches(len(chosen), batch_size)]


def image_memory_limit(processes: int = 1) -> int:
    """Return the memory for training images in bytes, if `processes` share the memory of this machine."""
    usable_mb = usable_memory_mb()
    share = MEMORY_LIMIT if usable_mb is None else int(_SHARE_OF_MEMORY * usable_mb * 1e6)
    return min(MEMORY_LIMIT, share) // processes


class TrainingImages:
    """Normal images as uint8 batches `[N, H, W, 3]` in RGB.

    Args:
        paths: the image files.
        image_size: (height, width) in pixels to resize them to.
        on_read: called with the number of images after each chunk while they are read into memory.
        memory_limit: bytes; images that need more in total are read again for each batch. By default that of
            `image_memory_limit`.

    Raises:
        StorageError: a file cannot be read.
        DataError: a file is not a complete image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: Tuple[int, int],
        on_read: Callable[[int], None],
        memory_limit: Optional[int] = None,
    ) -> None:
        self._paths = paths
        self._image_size = image_size
        self._images: Optional[np.ndarray] = None
        shape = (len(paths), *image_size, 3)
        limit = image_memory_limit() if memory_limit is None else memory_limit
        if len(paths) * image_size[0] * image_size[1] * 3 <= limit:
            self._images = self._read_all(np.empty(shape, np.uint8), on_read)

    def __len__(self) -> int:
        return len(self._paths)

    def batches(self, indices: Iterable[Sequence[int]]) -> Iterator[torch.Tensor]:
        """Yield one uint8 `[N, H, W, 3]` tensor for each list of indices."""
        if self._images is None:
            yield from map(torch.from_numpy, self._read(indices))
        else:
            for batch in indices:
                yield torch.from_numpy(self._images[list(batch)])

    def _read_all(self, images: np.ndarray, on_read: Callable[[int], None]) -> np.ndarray:
        starts = range(0, len(self._paths), _CHUNK)
        chunks = [range(start, min(start + _CHUNK, len(self._paths))) for start in starts]
        for chunk, read in zip(chunks, self._read(chunks)):
            images[chunk.start : chunk.stop] = read
            on_read(len(chunk))
        return images

    def _read(self, indices: Iterable[Sequence[int]]) -> Iterator[np.ndarray]:
        """Yield the images of each batch while the next batch is being read."""
        with ThreadPoolExecutor(usable_cpus()) as pool:
            ahead: List[Future[np.ndarray]] = []
            for batch in indices:
                reading = [pool.submit(load_image, self._paths[index], self._image_size) for index in batch]
                if ahead:
                    yield np.stack([future.result() for future in ahead])
                ahead = reading
            if ahead:
                yield np.stack([future.result() for future in ahead])
