"""`calibrate`: measures the activation ranges of a model on images and writes ranges files."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import quote

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import MEASUREMENT, Ranges, read_ranges
from adq_edge.calibration.activations import Progress, collect, largest_per_channel
from adq_edge.calibration.calibrators.histogram import BINS, Histogram
from adq_edge.calibration.calibrators.registry import Calibrator, make_calibrator
from adq_edge.calibration.range_limits import limit_range
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import IMAGES, RANDOM_NORMAL, CalibrationSource
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import CalibrationError
from adq_edge.core.limits import requested_threads, usable_cpus
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES
from adq_edge.core.plugins import plugin_errors
from adq_edge.core.text import number_of
from adq_edge.core.version import __version__
from adq_edge.quantization.addends import observe_kept_parts
from adq_edge.quantization.equalization import channel_groups, equalization_scales, equalize
from adq_edge.quantization.float_model import FloatModel

EQUALIZATION_IMAGES = 16
"""Number of images for the equalization, which runs before the ranges are measured.

Categories take turns in the order of the images, so these are of all categories, up to 16.
"""


class CalibratedRanges(NamedTuple):
    """A ranges file and its content."""

    path: Path
    ranges: Ranges


class MeasuredRanges(NamedTuple):
    """A ranges file, its content, and the equalized model that the ranges were measured on."""

    path: Path
    ranges: Ranges
    equalized: FloatModel


def calibrate(
    bundle: Optional[Union[str, Path]] = None,
    calib: Union[str, Sequence[str]] = DEFAULT_CALIBRATOR,
    *,
    source: str = IMAGES,
    calib_data: Optional[Union[str, Path]] = None,
    samples: int = DEFAULT_SAMPLES,
    threads: Optional[int] = None,
) -> List[CalibratedRanges]:
    """Measure activation ranges of a bundle's model with one or more calibrators, for `build`.

    Args:
        bundle: the bundle's folder; the newest in `bundles/` by default.
        calib: calibrators, `name` or `name:value`, separated by commas or in a sequence.
        source: source of calibration images: `images`, `synthetic-defects`, `random-normal`, one of an
            installed package, or several separated by commas, which share the samples equally.
        calib_data: folder of calibration images, or `random-normal`; by default `calibration_data/`, else the
            training images.
        samples: the largest number of calibration images in total.
        threads: CPU threads; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no images, no such calibrator or source, or an activation is not finite.
        DataError: an image cannot be read.
    """
    specs = [calib] if isinstance(calib, str) else calib
    names = list(dict.fromkeys(name.strip() for spec in specs for name in spec.split(",")))
    for name in names:
        make_calibrator(name)  # its errors come before the search for images
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    images = choose_source(opened, source, calib_data, samples)
    measured = calibrate_bundle(opened, FloatModel.load(opened), names, images, threads=threads)
    return [CalibratedRanges(one.path, one.ranges) for one in measured]


def calibrate_bundle(
    bundle: Bundle,
    model: FloatModel,
    calibrators: Sequence[str],
    source: CalibrationSource,
    *,
    threads: Optional[int] = None,
) -> List[MeasuredRanges]:
    """Measure activation ranges in one pass over the images, and write a ranges file for each calibrator.

    Files of an earlier calibration with the same calibrator and images are reused.

    Args:
        bundle: the bundle; the ranges files are written into it.
        model: its model.
        calibrators: calibrators, `name` or `name:value`.
        source: the images.
        threads: CPU threads; all by default.

    Raises:
        CalibrationError: no such calibrator, an impossible range, no image, an image of another size, an
            activation is not finite, or the model has no layers to quantize.
        DataError: an image cannot be read.
    """
    if len(source) < 1:
        raise CalibrationError("calibration needs at least one image", fix="Give --samples 1 or more")
    if not model.region.operators:
        what = "the model has no layer that INT8 engines compute in integers"
        raise CalibrationError(what, where=bundle.path, fix="Build it with --fp32 or --fp16")
    loaded = {spec: make_calibrator(spec) for spec in calibrators}
    paths = {spec: bundle.ranges_folder / file_name(spec, source) for spec in calibrators}
    sha256, fingerprint = bundle.manifest.model_sha256, source.fingerprint()
    measured: Dict[str, MeasuredRanges] = {}
    for spec, path in paths.items():
        earlier = _read_earlier(path, model, sha256, (spec, fingerprint, len(source)))
        if earlier is not None:
            measured[spec] = earlier
    missing = [spec for spec in calibrators if spec not in measured]
    if missing:
        size, cores = bundle.manifest.image_size, threads or requested_threads() or usable_cpus()
        images = _checked_images(source, size)
        equalization: Dict[str, Tuple[float, ...]] = {}
        if source.name != RANDOM_NORMAL:  # some channels are silent on noise and active on real images
            first = list(itertools.islice(images, EQUALIZATION_IMAGES))
            images = itertools.chain(first, images)
            equalization = _measure_equalization(model, first, cores)
        equalized = equalize(model, equalization)
        with progress_bar("Calibrating", len(source), "images") as advance:
            histograms = measure_histograms(equalized, images, threads=cores, on_image=advance)
        for spec in missing:
            origin = (sha256, spec, source.name, fingerprint, len(source), BINS)
            tensors = {name: _compute_range(spec, loaded[spec], found) for name, found in histograms.items()}
            ranges = Ranges(*origin, tensors, equalization, release=__version__, measurement=MEASUREMENT)
            ranges.write(paths[spec])
            measured[spec] = MeasuredRanges(paths[spec], ranges, equalized)
    return [measured[spec] for spec in calibrators]


def measure_histograms(
    model: FloatModel,
    images: Iterable[np.ndarray],
    *,
    threads: int,
    on_image: Optional[Progress] = None,
) -> Dict[str, Histogram]:
    """Return the histogram of each tensor in `region.measured`; of addends, that of the kept part.

    Args:
        model: the equalized model.
        images: uint8 `[H, W, 3]` each.
        threads: CPU threads.
        on_image: called after each image.

    Raises:
        CalibrationError: an activation is NaN or infinite.
    """
    observed, kept = observe_kept_parts(model)
    names = model.region.measured
    tensors = [kept.get(name, name) for name in names]
    histograms = collect(observed, tensors, images, threads=threads, on_image=on_image)
    return dict(zip(names, histograms.values()))


def _measure_equalization(
    model: FloatModel, images: Sequence[np.ndarray], threads: int
) -> Dict[str, Tuple[float, ...]]:
    """Return equalization scales from a few images: channel maxima need fewer images than ranges."""
    groups = channel_groups(model.region, model.index)
    grouped = {name for members in groups for name in members}
    names = [name for name in model.region.measured if name in grouped]
    return equalization_scales(groups, largest_per_channel(model.proto, names, images, threads=threads))


def _checked_images(source: CalibrationSource, size: Tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the source's images after checking their type, shape and number."""
    count = 0
    with plugin_errors(f"source {source.name!r} fails", fix="Use another one with --source"):
        for image in source.images(size):
            array = np.asarray(image)
            if array.dtype != np.uint8 or array.shape != (*size, 3):
                raise CalibrationError(
                    f"source {source.name!r} gave an image of {array.dtype} {array.shape}",
                    fix=f"It must be uint8 {(*size, 3)}",
                )
            count += 1
            yield np.ascontiguousarray(array)
    if count != len(source):
        given = number_of(count, "image")
        raise CalibrationError(f"source {source.name!r} gave {given}, but its length is {len(source)}")


def _compute_range(spec: str, calibrator: Calibrator, histogram: Histogram) -> Tuple[float, float]:
    """Return a tensor's range, limited by `limit_range` unless the user chose the calibrator's value."""
    failure = f"calibrator {spec!r} fails on tensor {histogram.name!r}"
    with plugin_errors(failure, fix="Use another one with --calib"):
        low, high = map(float, calibrator.compute_range(histogram))
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0.0 <= high):
        raise CalibrationError(
            f"calibrator {spec!r} gave the range [{low:g}, {high:g}] for tensor {histogram.name!r}",
            fix="A range must be finite and contain zero",
        )
    return (low, high) if ":" in spec else limit_range(histogram, low, high)


def file_name(spec: str, source: CalibrationSource) -> str:
    """Return the name of a ranges file, percent-encoded where a file system might refuse a character."""
    return f"{quote(spec.replace(':', '='), safe='=')}-{quote(source.name, safe='+')}-{len(source)}.json"


def _read_earlier(
    path: Path, model: FloatModel, sha256: str, request: Tuple[str, str, int]
) -> Optional[MeasuredRanges]:
    """Return the content of a file if it is the result for (calibrator, fingerprint, number of images)."""
    if not path.is_file():
        return None
    try:
        ranges = read_ranges(path, sha256, model.region.measured)
        if not ranges.is_result_of(*request):
            return None
        return MeasuredRanges(path, ranges, equalize(model, ranges.equalization))
    except CalibrationError:
        return None  # from an earlier export, or damaged: calibrate again
