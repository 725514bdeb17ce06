"""`calibrate`: images in, ranges files out; several calibrators share one pass over the images."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union
from urllib.parse import quote

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import Ranges, read_ranges
from adq_edge.calibration.activations import collect
from adq_edge.calibration.calibrators.histogram import BINS, Histogram
from adq_edge.calibration.calibrators.registry import Calibrator, make_calibrator
from adq_edge.calibration.channel_maxima import largest_per_channel
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import IMAGES, RANDOM_NORMAL, CalibrationSource
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import AdqError, CalibrationError
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES
from adq_edge.core.version import __version__
from adq_edge.quantization.equalization import channel_groups, equalization_scales, equalize
from adq_edge.quantization.float_model import FloatModel

SURVEY_IMAGES = 64
"""Images that the equalization looks at before the pass that measures ranges."""


class CalibratedRanges(NamedTuple):
    """A ranges file and what it holds."""

    path: Path
    ranges: Ranges


def calibrate(
    bundle: Optional[Union[str, Path]] = None,
    calib: Union[str, Sequence[str]] = DEFAULT_CALIBRATOR,
    *,
    source: str = IMAGES,
    data: Optional[Union[str, Path]] = None,
    samples: int = DEFAULT_SAMPLES,
    threads: Optional[int] = None,
) -> List[CalibratedRanges]:
    """Measure activation ranges of a bundle's model with one or more calibrators.

    `build` finds the files here and does not calibrate again.

    Args:
        bundle: the bundle's folder; the newest in `bundles/` by default.
        calib: calibrators, `name` or `name:value`: one, several with commas between them, or a sequence.
        source: what is calibrated on: `images`, `synthetic-defects`, `random-normal`, an installed package's,
            or several with commas between them, which then share the samples equally.
        data: folder of calibration images; by default `calibration_data/`, else the training images of the
            dataset that the model was trained on.
        samples: the largest number of calibration images in total.
        threads: CPU threads; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no images, no such calibrator or source, or unusable activations.
        DataError: an image cannot be read.
    """
    specs = [calib] if isinstance(calib, str) else calib
    names = list(dict.fromkeys(name.strip() for spec in specs for name in spec.split(",")))
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    images = choose_source(opened, source, data, samples)
    paths = calibrate_bundle(opened, FloatModel.load(opened), names, images, threads=threads)
    sha256 = opened.manifest.model_sha256
    return [CalibratedRanges(path, read_ranges(path, sha256, [])) for path in paths]


def calibrate_bundle(
    bundle: Bundle,
    model: FloatModel,
    calibrators: Sequence[str],
    source: CalibrationSource,
    *,
    threads: Optional[int] = None,
) -> List[Path]:
    """Measure activation ranges of a bundle's model; return the ranges files, one per calibrator.

    A file that the same calibration wrote before is kept; if all are there, no image is read.

    Args:
        bundle: the bundle, which keeps the ranges files.
        model: its model.
        calibrators: names of calibrators, `name` or `name:value`.
        source: the images.
        threads: CPU threads; all by default.

    Raises:
        CalibrationError: no such calibrator or one that gives an impossible range, no image or one that
            does not suit the model, or an activation that is not finite.
        DataError: an image cannot be read.
    """
    if len(source) < 1:
        raise CalibrationError("calibration needs at least one image", fix="Give --samples 1 or more")
    makers = {spec: make_calibrator(spec) for spec in calibrators}
    paths = {spec: bundle.ranges_folder / file_name(spec, source) for spec in calibrators}
    tensors = model.region.measured
    fingerprint = source.fingerprint()
    wanted = [
        spec
        for spec, path in paths.items()
        if not _is_done(path, model, tensors, bundle.manifest.model_sha256, (spec, fingerprint, len(source)))
    ]
    if wanted:
        cores = threads or os.cpu_count() or 1
        equalization: Dict[str, Tuple[float, ...]] = {}
        if source.name != RANDOM_NORMAL:  # noise leaves channels silent that real images use
            equalization = _survey(model, tensors, _checked(source, bundle.manifest.image_size), cores)
        with progress_bar("Calibrating", len(source), "images") as advance:
            histograms = collect(
                equalize(model, equalization).proto,
                tensors,
                _checked(source, bundle.manifest.image_size),
                threads=cores,
                on_image=advance,
            )
        for spec in wanted:
            computed = {
                name: _compute_range(spec, makers[spec], histogram) for name, histogram in histograms.items()
            }
            ranges = Ranges(
                bundle.manifest.model_sha256,
                spec,
                source.name,
                fingerprint,
                len(source),
                BINS,
                computed,
                equalization,
                release=__version__,
            )
            ranges.write(paths[spec])
    return [paths[spec] for spec in calibrators]


def _survey(
    model: FloatModel, tensors: Sequence[str], images: Iterator[np.ndarray], threads: int
) -> Dict[str, Tuple[float, ...]]:
    """Return equalization scales from the first images: a channel's size needs fewer than its range."""
    groups = channel_groups(model)
    grouped = {name for members in groups for name in members}
    surveyed = [name for name in tensors if name in grouped]
    largest = largest_per_channel(
        model.proto, surveyed, itertools.islice(images, SURVEY_IMAGES), threads=threads
    )
    return equalization_scales(groups, largest)


def _checked(source: CalibrationSource, size: Tuple[int, int]) -> Iterator[np.ndarray]:
    """Yield the source's images after a look at each: it may be a third party's."""
    count = 0
    for image in _drawn(source, size):
        array = np.asarray(image)
        if array.dtype != np.uint8 or array.shape != (*size, 3):
            raise CalibrationError(
                f"source {source.name!r} gave an image of {array.dtype} {array.shape}",
                fix=f"It must be uint8 {(*size, 3)}",
            )
        count += 1
        yield np.ascontiguousarray(array)
    if count != len(source):
        raise CalibrationError(
            f"source {source.name!r} gave {count} images, not the {len(source)} it announced"
        )


def _drawn(source: CalibrationSource, size: Tuple[int, int]) -> Iterator[np.ndarray]:
    try:
        yield from source.images(size)
    except AdqError:
        raise
    except Exception as error:  # a third party's can fail in any way
        raise CalibrationError(
            f"source {source.name!r} fails ({type(error).__name__}: {error})",
            fix="Take another one with --source",
        ) from error


def _compute_range(spec: str, calibrator: Calibrator, histogram: Histogram) -> Tuple[float, float]:
    try:
        low, high = map(float, calibrator.compute_range(histogram))
    except AdqError:
        raise
    except Exception as error:  # a third party's can fail in any way
        raise CalibrationError(
            f"calibrator {spec!r} fails on tensor {histogram.name!r} ({type(error).__name__}: {error})",
            fix="Take another one with --calib",
        ) from error
    if not (math.isfinite(low) and math.isfinite(high) and low <= 0.0 <= high):
        raise CalibrationError(
            f"calibrator {spec!r} gave the range [{low:g}, {high:g}] for tensor {histogram.name!r}",
            fix="A range must be finite and hold zero",
        )
    return low, high


def file_name(spec: str, source: CalibrationSource) -> str:
    """Return the name of a ranges file, legal on any system.

    Another calibrator or another mixture gives another name. No name of a calibrator holds the equals sign;
    what a file system might refuse is percent-encoded.
    """
    return f"{quote(spec.replace(':', '='), safe='=')}-{quote(source.name, safe='+')}-{len(source)}.json"


def _is_done(
    path: Path, model: FloatModel, tensors: Sequence[str], sha256: str, asked: Tuple[str, str, int]
) -> bool:
    """Return True if a file holds what was asked for: calibrator, fingerprint and number of images."""
    if not path.is_file():
        return False
    try:
        ranges = read_ranges(path, sha256, tensors)
        if not ranges.is_result_of(*asked):
            return False
        equalize(model, ranges.equalization)
    except CalibrationError:
        return False  # of an earlier export, or damaged; it is ours to replace
    return True
