"""TensorRT's calibrator classes: one that only hands over our cache, and its own three on our images.

Subclasses are made inside functions, because their base classes exist in 8.5 to 10 only. Every one calls
its base's constructor, without which TensorRT crashes, and the caller keeps it alive while TensorRT builds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, List, Optional

import numpy as np

from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.runtimes.tensorrt.release import Release

PERCENTILE = 0.9999
"""The quantile that the percentile calibrator keeps, the default of `--calib percentile`."""
_REGRESSION_CUTOFF = 1.0


def cache_reader(release: Release, cache: bytes) -> Any:
    """Return a calibrator that gives TensorRT a calibration cache and no data.

    TensorRT ignores a cache that does not fit, without a word, and asks for data instead: the attribute
    `asked_for_data` of the calibrator says whether it did.

    Args:
        release: a TensorRT before 11.
        cache: the cache's text, of the class EntropyCalibration2.
    """
    assert release.before(11)
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = release.trt

    class CacheReader(trt.IInt8EntropyCalibrator2):  # type: ignore[misc] # no stubs come with TensorRT
        """Signs as EntropyCalibration2, the class that DLA demands."""

        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self.asked_for_data = False

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            self.asked_for_data = True
            return None

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, written: Any) -> None:
            self.asked_for_data = True

    return CacheReader()


class _Feeder:
    """Copies one image after the other into one buffer on the GPU, as float32, which calibration takes."""

    def __init__(self, images: np.ndarray) -> None:
        import pycuda.driver as cuda

        self._cuda = cuda
        self._images: Iterator[np.ndarray] = iter(images)
        self._buffer = cuda.mem_alloc(images[0].size * np.dtype(np.float32).itemsize)

    def next_batch(self) -> Optional[List[int]]:
        image = next(self._images, None)
        if image is None:
            return None
        self._cuda.memcpy_htod(self._buffer, np.ascontiguousarray(image[None], np.float32))
        return [int(self._buffer)]


def own_calibrator(release: Release, kind: OwnCalibrator, images: np.ndarray) -> Any:
    """Return one of TensorRT's own calibrators; its attribute `cache` holds what TensorRT found.

    Args:
        release: a TensorRT before 11.
        kind: which one.
        images: uint8 `[N, H, W, 3]`; a CUDA context must be current.
    """
    assert release.before(11)
    trt = release.trt
    bases = {
        OwnCalibrator.ENTROPY: trt.IInt8EntropyCalibrator2,
        OwnCalibrator.MINMAX: trt.IInt8MinMaxCalibrator,
        OwnCalibrator.PERCENTILE: trt.IInt8LegacyCalibrator,
    }
    if TYPE_CHECKING:
        from tensorrt import IInt8LegacyCalibrator as Base  # the base with the most methods
    else:
        Base = bases[kind]  # noqa: N806
    feeder = _Feeder(images)

    class Calibrator(Base):  # type: ignore[misc] # no stubs come with TensorRT
        """Never reads a cache; the last four answers are asked of the percentile calibrator only."""

        def __init__(self) -> None:
            Base.__init__(self)
            self.cache = b""

        def get_batch_size(self) -> int:
            return 1

        def get_batch(self, names: List[str]) -> Optional[List[int]]:
            return feeder.next_batch()

        def read_calibration_cache(self) -> None:
            return None

        def write_calibration_cache(self, written: Any) -> None:
            self.cache = bytes(written)

        def get_quantile(self) -> float:
            return PERCENTILE

        def get_regression_cutoff(self) -> float:
            return _REGRESSION_CUTOFF

        def read_histogram_cache(self, length: int) -> None:
            return None

        def write_histogram_cache(self, pointer: Any, length: int) -> None:
            return None

    return Calibrator()
