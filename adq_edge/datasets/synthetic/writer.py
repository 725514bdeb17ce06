"""Write the synthetic set to a folder in MVTec AD layout, in parallel and atomically."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Callable, Generator, Iterator, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from adq_edge.core.console import progress_bar
from adq_edge.core.errors import DataError
from adq_edge.core.files import is_empty, settle, storage_errors, write_together
from adq_edge.core.limits import usable_cpus
from adq_edge.core.records import Record, record
from adq_edge.datasets.dataset import GOOD, Dataset, read_dataset
from adq_edge.datasets.synthetic.catalog import CATEGORIES, Split, check_categories, defects_of, render

_RECORD = "synthetic.json"
_REMEDY = "Choose another folder; adq-edge does not overwrite images"
_SMALLEST = 64
_BATCH = 8


@record("adq-edge/synthetic", version=1, error=DataError, fix=_REMEDY)
@dataclasses.dataclass(frozen=True)
class _Parameters(Record):
    """The parameters that a synthetic set was drawn with."""

    categories: Tuple[str, ...]
    train: int
    good: int
    defective: int
    size: int
    seed: int


@dataclasses.dataclass(frozen=True)
class _Image:
    """One sample to render and its output files."""

    category: str
    split: Split
    index: int
    defect: Optional[str]
    image: Path
    mask: Optional[Path]


def write_synthetic(
    root: Union[str, Path],
    *,
    categories: Optional[Sequence[str]] = None,
    train: int = 14,
    good: int = 6,
    defective: int = 12,
    size: int = 256,
    seed: int = 0,
    workers: Optional[int] = None,
    progress: bool = True,
) -> Dataset:
    """Write the synthetic set to `root`, unless `root` holds a set with the same parameters.

    The images depend on `seed` and `size`, not on `workers`. The folder appears only when it is complete.

    Args:
        root: the folder, absent or empty.
        categories: names in `CATEGORIES`; all by default.
        train: sound training images per category.
        good: sound test images per category.
        defective: defective test images per category, spread over its kinds of defects.
        size: width and height in pixels.
        seed: another seed gives another set of the same products.
        workers: number of processes; by default at most one per CPU core.
        progress: whether to show a progress bar on standard error.

    Raises:
        DataError: an unknown category, a number out of range, or a folder with other content.
        StorageError: the folder cannot be written to or is full.
    """
    root = Path(root)
    names = list(dict.fromkeys(categories)) if categories else list(CATEGORIES)
    check_categories(names)
    _check_number("train", train, 1)
    _check_number("good", good, 0)
    _check_number("defective", defective, 0)
    _check_number("size", size, _SMALLEST)
    _check_number("seed", seed, 0)
    _check_number("workers", 1 if workers is None else workers, 1)
    parameters = _Parameters(tuple(sorted(names)), train, good, defective, size, seed)
    if not _is_written(root, parameters):
        images = [image for name in names for image in _plan(name, train, good, defective)]
        with write_together() as files, files.folder(root) as folder:
            _make_folders(folder, images)
            with progress_bar("synthetic set", len(images), "images", shown=progress) as advance:
                _render_all(folder, images, parameters, workers, advance)
            parameters.write(folder / _RECORD)
    return read_dataset(root)


def _check_number(name: str, value: int, least: int) -> None:
    if value < least:
        raise DataError(f"{name} is {value}", fix=f"Give {least} or more")


def _is_written(root: Path, parameters: _Parameters) -> bool:
    """Return True if `root` holds this set, False if it is empty or absent.

    Raises:
        DataError: the folder has other content.
    """
    settle(root)
    with storage_errors(root):
        if not root.exists() or (root.is_dir() and is_empty(root)):
            return False
    if not (root / _RECORD).is_file():
        raise DataError("not an empty folder and not a synthetic set", where=root, fix=_REMEDY)
    written = dataclasses.asdict(_Parameters.read(root / _RECORD))
    asked = dataclasses.asdict(parameters)
    different = sorted(name for name, value in asked.items() if written[name] != value)
    if different:
        was = ", ".join(f"{name} {written[name]!r}" for name in different)
        raise DataError(f"holds a synthetic set with other parameters ({was})", where=root, fix=_REMEDY)
    return True


def _plan(category: str, train: int, good: int, defective: int) -> Iterator[_Image]:
    folder = Path(category)
    for index in range(train):
        yield _Image(category, Split.TRAIN, index, None, folder / "train" / GOOD / f"{index:03}.png", None)
    for index in range(good):
        yield _Image(category, Split.GOOD, index, None, folder / "test" / GOOD / f"{index:03}.png", None)
    kinds = defects_of(category)
    for index in range(defective):
        kind, number = kinds[index % len(kinds)], index // len(kinds)
        image = folder / "test" / kind / f"{number:03}.png"
        mask = folder / "ground_truth" / kind / f"{number:03}_mask.png"
        yield _Image(category, Split.DEFECTIVE, index, kind, image, mask)


def _make_folders(folder: Path, images: Sequence[_Image]) -> None:
    for image in images:
        for path in (image.image, image.mask):
            if path is not None:
                (folder / path).parent.mkdir(parents=True, exist_ok=True)


def _render_all(
    folder: Path,
    images: Sequence[_Image],
    parameters: _Parameters,
    workers: Optional[int],
    advance: Callable[[], None],
) -> None:
    batches = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    if workers is None:
        # Starting a process takes longer than rendering a few batches.
        workers = min(usable_cpus(), 1 + len(batches) // 8)
    if workers == 1:
        for image in images:
            _render_batch(folder, [image], parameters)
            advance()
        return
    with contextlib.closing(_render_in_processes(folder, batches, parameters, workers)) as finished:
        for count in finished:
            for _ in range(count):
                advance()


def _render_in_processes(
    folder: Path, batches: Sequence[Sequence[_Image]], parameters: _Parameters, workers: int
) -> Generator[int, None, None]:
    """Yield the number of images of each finished batch; no process outlives the generator."""
    pool = ProcessPoolExecutor(
        min(workers, len(batches)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    jobs: List[Future[int]] = []
    try:
        with _without_interrupts():
            for batch in batches:
                jobs.append(pool.submit(_render_batch, folder, batch, parameters))
        for job in as_completed(jobs):
            yield job.result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process ended early",
            fix='Call this under `if __name__ == "__main__":`, or with workers=1',
        ) from error
    finally:
        for job in jobs:
            job.cancel()
        pool.shutdown(wait=True)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Make processes that start in this block ignore Ctrl-C, so that only the parent stops them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent ends; else a pool's worker would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _render_batch(folder: Path, batch: Sequence[_Image], parameters: _Parameters) -> int:
    size, seed = parameters.size, parameters.seed
    for item in batch:
        image, mask = render(item.category, seed, item.index, size, item.defect, split=item.split)
        _write_png(folder / item.image, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        if item.mask is not None:
            _write_png(folder / item.mask, mask.astype(np.uint8) * np.uint8(255))
    return len(batch)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    # Unlike `imaging.write_image`, not atomic and not flushed: this is done once for the whole folder.
    _, content = cv2.imencode(".png", pixels)
    path.write_bytes(content.tobytes())
