"""Calibrators for TensorRT 8.5 to 10: one that passes a calibration cache, and TensorRT's own three.

The classes are defined in functions, because their base classes exist in these releases only. Each calls the
constructor of its base, without which TensorRT crashes. The caller keeps a reference during the build.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Iterator, List, Optional

import numpy as np

from adq_edge.runtimes.tensorrt.job import OwnCalibrator
from adq_edge.runtimes.tensorrt.release import Release

PERCENTILE = 0.9999
"""Quantile of the percentile calibrator, the same as the default of `--calib percentile`."""
_REGRESSION_CUTOFF = 1.0


def cache_reader(release: Release, cache: bytes) -> Any:
    """Return a calibrator that gives TensorRT a calibration cache and no data.

    TensorRT silently ignores a cache that does not match and requests data. The attribute `asked_for_data` of
    the calibrator is True if this happened.

    Args:
        release: a TensorRT before 11.
        cache: the text of the cache, for the class EntropyCalibration2.
    """
    assert release.before(11)
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = release.trt

    class CacheReader(trt.IInt8EntropyCalibrator2):  # type: ignore[misc] # no stubs come with TensorRT
        """Has the class EntropyCalibration2, which DLA requires."""

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
    """Copies images one by one into a buffer on the GPU, as float32 for the calibration."""

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
    """Return one of TensorRT's own calibrators; its attribute `cache` is the resulting calibration cache.

    Args:
        release: a TensorRT before 11.
        kind: the calibrator.
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
        Base = bases[kind]  # noqa: N806  # a class, as in the branch above
    feeder = _Feeder(images)

    class Calibrator(Base):  # type: ignore[misc] # no stubs come with TensorRT
        """Reads no cache; only the percentile calibrator uses the last four methods."""

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
