"""Training images: read once and kept in memory, or read batch by batch where they would not fit."""

from __future__ import annotations

import math
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Iterable, Iterator, List, Optional, Sequence, Tuple

import numpy as np
import torch

from adq_edge.core.imaging import load_image
from adq_edge.training.settings import Balance

MEMORY_LIMIT = 4 * 10**9  # bytes; 20 000 images of 256x256
MEASURING_IMAGES = 128  # most training images that statistics are measured on
_CHUNK = 64  # images per step of the progress bar while reading


def shuffled_batches(
    counts: Sequence[int], batch_size: int, balance: Balance = Balance.NONE
) -> List[List[int]]:
    """Return an epoch's images, shuffled by torch's global generator, in batches of equal size.

    What does not fill the last batch is left out of this epoch: a batch of one image has no variance to
    normalize by in BatchNorm. A set smaller than one batch is one batch.

    Args:
        counts: images of each category; they are numbered one category after the other.
        batch_size: images in a batch.
        balance: how often an image is drawn.
    """
    count = sum(counts)
    order = torch.randperm(count) if balance is Balance.NONE else _from_each_category(counts)
    size = min(batch_size, count)
    return [order[start : start + size].tolist() for start in range(0, count - size + 1, size)]


def _from_each_category(counts: Sequence[int]) -> torch.Tensor:
    """Draw as many images as there are, from all categories equally often, none again before all others."""
    share = math.ceil(sum(counts) / len(counts))
    drawn, first = [], 0
    for count in counts:
        rounds = [torch.randperm(count) for _ in range(math.ceil(share / count))]
        drawn.append(first + torch.cat(rounds)[:share])
        first += count
    together = torch.cat(drawn)
    return together[torch.randperm(len(together))[: sum(counts)]]


def ordered_batches(count: int, batch_size: int) -> List[List[int]]:
    """Return `0..count-1` in order, in batches of which the last may be smaller."""
    starts = range(0, count, batch_size)
    return [list(range(start, min(start + batch_size, count))) for start in starts]


def measuring_batches(count: int, batch_size: int) -> List[List[int]]:
    """Return `MEASURING_IMAGES` of `0..count-1` at most, evenly over all, in batches."""
    chosen = range(0, count, math.ceil(count / MEASURING_IMAGES))
    return [[chosen[index] for index in batch] for batch in ordered_batches(len(chosen), batch_size)]


class TrainingImages:
    """Normal images as uint8 batches `[N, H, W, 3]` in RGB.

    Args:
        paths: the image files.
        image_size: (height, width) that they are resized to.
        on_read: called with the number of images read, for each step of the first reading.
        memory_limit: bytes that the images may take together; beyond, they are read again for each batch.

    Raises:
        StorageError: a file cannot be read.
        DataError: a file is not a whole image.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: Tuple[int, int],
        on_read: Callable[[int], None],
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self._paths = paths
        self._image_size = image_size
        self._images: Optional[np.ndarray] = None
        shape = (len(paths), *image_size, 3)
        if len(paths) * image_size[0] * image_size[1] * 3 <= memory_limit:
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
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ahead: List[Future[np.ndarray]] = []
            for batch in indices:
                reading = [pool.submit(load_image, self._paths[index], self._image_size) for index in batch]
                if ahead:
                    yield np.stack([future.result() for future in ahead])
                ahead = reading
            if ahead:
                yield np.stack([future.result() for future in ahead])
