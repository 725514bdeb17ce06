"""`calibrate`: a bundle and pictures become ranges files, one per calibrator, in one pass."""

from __future__ import annotations

from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Union

from adq_edge import workspace
from adq_edge.bundle import open_bundle
from adq_edge.calibration.calibrate import calibrate as measure
from adq_edge.calibration.ranges import Ranges, read_ranges
from adq_edge.calibration.selection import choose_source
from adq_edge.calibration.sources import IMAGES
from adq_edge.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES


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
        data: folder of calibration pictures; by default `calibration_data/`, else the training images of the
            dataset that the model was trained on.
        samples: the largest number of calibration pictures in total.
        threads: CPU threads; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no pictures, no such calibrator or source, or unusable activations.
        DataError: a picture cannot be read.
    """
    specs = [calib] if isinstance(calib, str) else calib
    names = list(dict.fromkeys(name.strip() for spec in specs for name in spec.split(",")))
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    paths = measure(opened, names, choose_source(opened, source, data, samples), threads=threads)
    sha256 = opened.manifest.model_sha256
    return [CalibratedRanges(path, read_ranges(path, sha256, [])) for path in paths]
