"""The engines of a station: loaded with their products, warmed up, and loaded again if they fail."""

from __future__ import annotations

import collections
import contextlib
import re
import statistics
import threading
import time
from pathlib import Path
from typing import Callable, Deque, Iterator, List, Match, Optional, Tuple

import numpy as np

from adq_edge.artifacts.file_kinds import BESIDE_ENGINE, FileKind, describe_path, find_in
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import storage_errors
from adq_edge.core.images.imaging import resize_image
from adq_edge.core.limits import requested_threads, usable_cpus
from adq_edge.decision.inspector import Inspection, Inspector, load_inspector
from adq_edge.runtimes.base import Output
from adq_edge.station.conditions import Conditions
from adq_edge.station.options import EngineOptions

_WARM_UPS = 3
"""Least number of images of the warm-up."""
_WARM_UP_S = 2.0
_STEADY = 1.1
_OPTION = re.compile(r"--(false-rejects|min-area|runtime|threads)\b")
_ORIGINS = (FileKind.BUNDLE, FileKind.MODEL, FileKind.MANIFEST, FileKind.CHECKPOINT, FileKind.RANGES)
"""The kinds of files that an engine is made from."""
_RECENT = 5
"""Images whose shortest time is the least time of the next one."""
_FAILURES = 3
"""Failures in a row after which the engine is loaded again."""


def open_inspector(options: EngineOptions) -> Inspector:
    """Load an engine and its products as the station file says.

    Raises:
        EngineError: the engine or its products are missing, damaged or of another machine.
        AdqError: an impossible rate, area or number of threads.
    """
    pixels, share = options.areas
    with _in_keys():
        _require_engine(options.file)
        return load_inspector(
            options.file,
            false_rejects=options.rate,
            min_area=pixels,
            min_share=share,
            product=options.product,
            runtime=options.runtime,
            threads=_threads(options),
        )


@contextlib.contextmanager
def _in_keys() -> Iterator[None]:
    """Let errors name the keys of `[engines.NAME]` instead of the options of other verbs."""
    try:
        yield
    except AdqError as error:
        what, where, fix = (None if text is None else _OPTION.sub(_key, text) for text in _parts(error))
        raise type(error)(str(what), where=where, fix=fix) from error


def _parts(error: AdqError) -> Tuple[str, Optional[str], Optional[str]]:
    return error.what, error.where, error.fix


def _key(option: Match[str]) -> str:
    return option.group(1).replace("-", "_")


def _require_engine(path: Path) -> None:
    """Raise an EngineError if a path exists and is of another kind."""
    with storage_errors(path):
        known = describe_path(path)
    if known is None or known.kind is FileKind.ENGINE:
        return
    inside = next(find_in(path, FileKind.ENGINE), None) if path.is_dir() else None
    engine = path.with_suffix("") if known.kind in BESIDE_ENGINE else inside
    fix = "Set file to an engine that build wrote" if engine is None else f'Set file = "{engine}"'
    if engine is None and known.kind in _ORIGINS:
        fix = known.fix or fix
    raise EngineError(f"{known.name}, not an engine", where=path, fix=fix)


def _threads(options: EngineOptions) -> Optional[int]:
    if options.threads is not None or options.streams == 1:
        return options.threads
    return max(1, (requested_threads() or usable_cpus()) // options.streams)


class TooLateError(Exception):
    """An image was not scored: its result would come after its deadline, and others are waiting."""


class StationEngine:
    """An engine that any number of threads may call; `streams` images are scored at the same time.

    Attributes:
        name: its name in the station file.
        options: its table of the station file.
        inspector: the engine and its products; another one once the engine was loaded again.
        image_ms: median time of an image, measured by `warm_up`.
    """

    def __init__(self, name: str, options: EngineOptions, conditions: Conditions) -> None:
        self.name, self.options = name, options
        self.image_ms = 0.0
        self._conditions = conditions
        self.inspector = open_inspector(options)
        self._gate = threading.BoundedSemaphore(options.streams)
        self._lock = threading.Lock()
        self._failures = self._waiting = 0
        self._recent_ms: Deque[float] = collections.deque(maxlen=_RECENT)

    def index_of(self, product: Optional[str]) -> Optional[int]:
        """Return the position of a product; None if it is to be recognized.

        Raises:
            EngineError: no such product.
        """
        inspector = self.inspector
        return inspector.product_index if product is None else inspector.index_of(product)

    def warm_up(self) -> None:
        """Score gray images until the time for one is steady.

        Raises:
            EngineError: the runtime cannot run the engine.
        """
        height, width = self.inspector.engine.sidecar.image_size
        image = np.full((height, width, 3), 128, np.uint8)
        times: List[float] = []
        end = time.monotonic() + _WARM_UP_S
        while len(times) < _WARM_UPS or not (_is_steady(times) or time.monotonic() > end):
            started = time.monotonic()
            self.inspector.inspect_pixels(image, "warm-up")
            times.append(1000.0 * (time.monotonic() - started))
        self.image_ms = statistics.median(times[-_WARM_UPS:])

    def inspect(
        self,
        pixels: np.ndarray,
        name: str,
        index: Optional[int],
        is_late: Callable[[float, bool], bool],
    ) -> Inspection:
        """Inspect a uint8 `[H, W, 3]` RGB image of the product at `index`; None recognizes it.

        Args:
            pixels: the image.
            name: its name.
            index: position of the product.
            is_late: called before the image is scored, with the least time that it takes in ms, and True if
                another image waits for the engine; it returns True if the image is not worth that time.

        Raises:
            EngineError: the runtime cannot run the engine.
            TooLateError: `is_late` returned True.
        """
        inspector = self.inspector
        batch = resize_image(pixels, inspector.engine.sidecar.image_size)[np.newaxis]
        with self._turn():
            with self._lock:
                least_ms, others_wait = min(self._recent_ms, default=0.0), self._waiting > 0
            if is_late(least_ms, others_wait):
                raise TooLateError
            output = self._score(inspector, batch)
        if self._failures:
            self._failures = 0
            self._conditions.report(f"engine {self.name}", None)
        return inspector.judge(output, batch, (pixels.shape[0], pixels.shape[1]), name, index)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Wait until fewer than `streams` images are being scored."""
        with self._lock:
            self._waiting += 1
        with self._gate:
            with self._lock:
                self._waiting -= 1
            yield

    def _score(self, inspector: Inspector, batch: np.ndarray) -> Output:
        started = time.monotonic()
        try:
            output = inspector.engine.run(batch)
        except BaseException:
            self._count_failure(inspector)
            raise
        with self._lock:
            self._recent_ms.append(1000.0 * (time.monotonic() - started))
        return output

    def _count_failure(self, inspector: Inspector) -> None:
        """Count a failure; after a few in a row, load the engine again."""
        with self._lock:
            self._failures += 1
            if self._failures % _FAILURES or inspector is not self.inspector:
                return
            self._conditions.report(f"engine {self.name}", "fails repeatedly; it was loaded again")
            try:
                self.inspector = open_inspector(self.options)
            except AdqError as error:
                self._conditions.report(f"engine {self.name}", str(error))
                return
        inspector.close()

    def close(self) -> None:
        """Release the engine."""
        self.inspector.close()


def _is_steady(times: List[float]) -> bool:
    last = times[-_WARM_UPS:]
    return max(last) <= _STEADY * min(last)
