"""Quality of INT8 by calibrator, calibration source and target, compared with other quantizers.

    python -m benchmarks.quality --bundle BUNDLE --data DIR [--samples 300] [--name quality]

Every contender of `contenders.py` is measured by the same function on the same test images. Writes
benchmarks/published/NAME.json and .md. For a short trial: --quick --limit 40 --name try.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.core.images.imaging import read_image, read_mask, resize_image, resize_map, resize_mask
from adq_edge.core.options import Target
from adq_edge.datasets.dataset import Category, Dataset, Sample, read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import MapComparison, compare_scores, count_flips
from adq_edge.metrics.pixel import PixelMetrics
from adq_edge.metrics.quality import f1_max_threshold, image_auroc
from benchmarks.contenders import HISTOGRAM_IMAGES, ArtifactCache, Contender, Run, contenders, nncf_version
from benchmarks.published import publish

_SEED = 0


class TestImage(NamedTuple):
    """A test image in memory.

    Attributes:
        category: its category.
        anomalous: True for a defective image.
        image: uint8 of the model's size.
        mask: bool of the same size; None if the category has no masks.
    """

    category: str
    anomalous: bool
    image: np.ndarray
    mask: Optional[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Measured:
    """The results of one engine on all test images; an AUROC is from 0 to 1, None if undefined.

    Attributes:
        labels: bool `[N]`, True for a defective image.
        scores: float32 `[N]`.
        maps: the anomaly maps.
        image_auroc: mean over the categories.
        categories: image AUROC per category.
        pixel_auroc: mean over the categories with masks.
        threshold: F1-max threshold over all images.
    """

    labels: np.ndarray
    scores: np.ndarray
    maps: List[np.ndarray]
    image_auroc: Optional[float]
    categories: Dict[str, Optional[float]]
    pixel_auroc: Optional[float]
    threshold: Optional[float]


def load_tests(dataset: Dataset, size: Tuple[int, int], limit: Optional[int]) -> List[TestImage]:
    """Decode the test images, or `limit` random ones, in the order of the dataset."""
    samples = [(category, sample) for category in dataset.categories for sample in category.test]
    chosen = np.sort(np.random.default_rng(_SEED).permutation(len(samples))[:limit])
    return [_load_test(category, sample, size) for category, sample in (samples[i] for i in chosen)]


def _load_test(category: Category, sample: Sample, size: Tuple[int, int]) -> TestImage:
    image = read_image(sample.path)
    mask = np.zeros(size, bool) if category.has_masks else None
    if mask is not None and sample.mask is not None:
        mask = resize_mask(read_mask(sample.mask, (image.shape[0], image.shape[1])), size)
    return TestImage(category.name, sample.is_anomalous, resize_image(image, size), mask)


def measure(run: Run, tests: List[TestImage]) -> Measured:
    """Run an engine on all test images."""
    outputs = [run(test.image) for test in tests]
    labels = np.array([test.anomalous for test in tests], bool)
    scores = np.array([score for _, score in outputs], np.float32)
    of = np.array([test.category for test in tests])
    pixels: Dict[str, PixelMetrics] = {}
    for test, (anomaly_map, _) in zip(tests, outputs):
        if test.mask is not None:
            upsampled = resize_map(anomaly_map, (test.mask.shape[0], test.mask.shape[1]))
            pixels.setdefault(test.category, PixelMetrics()).update(test.mask, upsampled)
    categories = {name: image_auroc(labels[of == name], scores[of == name]) for name in dict.fromkeys(of)}
    best = f1_max_threshold(labels, scores)
    return Measured(
        labels=labels,
        scores=scores,
        maps=[anomaly_map for anomaly_map, _ in outputs],
        image_auroc=_mean(list(categories.values())),
        categories={str(name): value for name, value in categories.items()},
        pixel_auroc=_mean([metrics.compute().pixel_auroc for metrics in pixels.values()]),
        threshold=None if best is None else best[0],
    )


def _mean(values: List[Optional[float]]) -> Optional[float]:
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def figures(contender: Contender, measured: Measured, reference: Measured) -> Dict[str, Any]:
    """Return the quality of a contender and its differences from FP32; bias and flips in %, SNR in dB."""
    changes = {
        name: value - before
        for name, value in measured.categories.items()
        for before in [reference.categories[name]]
        if value is not None and before is not None
    }
    largest = max(changes, key=lambda name: abs(changes[name]), default=None)
    maps = MapComparison()
    for expected, actual in zip(reference.maps, measured.maps):
        maps.update(expected, actual)
    bias = compare_scores(reference.scores, measured.scores).relative_bias
    return {
        **{key: value for key, value in contender._asdict().items() if key != "run"},
        "total_seconds": sum(contender.seconds.values()),
        "image_auroc": measured.image_auroc,
        "categories": measured.categories,
        "largest_change": None if largest is None else changes[largest],
        "largest_change_in": largest,
        "pixel_auroc": measured.pixel_auroc,
        "map_snr_db": maps.compute().snr_db,
        "score_bias_percent": None if bias is None else 100 * bias,
        "flips_own_percent": _flips(reference, measured, measured.threshold),
        "flips_at_fp32_percent": _flips(reference, measured, reference.threshold),
    }


def _flips(reference: Measured, measured: Measured, threshold: Optional[float]) -> Optional[float]:
    """Return the share of images with another decision than FP32 at its own threshold, in %."""
    if threshold is None or reference.threshold is None:
        return None
    decisions = (reference.scores >= reference.threshold, measured.scores >= threshold)
    flips = count_flips(reference.labels.tolist(), decisions[0].tolist(), decisions[1].tolist())
    return None if flips is None else 100 * flips.count / len(reference.labels)


def row(found: Dict[str, Any]) -> List[str]:
    """Return the table row of a contender."""

    def show(value: Optional[float], form: str = ".4f") -> str:
        return "-" if value is None else format(value, form)

    change = found["largest_change"]
    return [
        found["maker"],
        found["calibrator"],
        f"{found['source']} ({found['images']})" if found["source"] else "-",
        found["target"],
        show(found["image_auroc"]),
        *(show(value) for value in found["categories"].values()),
        f"{change:+.4f} ({found['largest_change_in']})" if change else "-",
        show(found["pixel_auroc"]),
        show(found["map_snr_db"], ".2f"),
        show(found["score_bias_percent"], "+.2f"),
        show(found["flips_own_percent"], ".1f"),
        show(found["flips_at_fp32_percent"], ".1f"),
        show(found["total_seconds"], ".1f") if found["seconds"] else "-",
    ]


def read_options() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bundle", required=True, type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--samples", type=int, default=300, help="maximum number of calibration images")
    parser.add_argument("--name", default="quality", help="name of the files in benchmarks/published")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="maximum number of test images; all by default")
    parser.add_argument("--quick", action="store_true", help="only a few contenders")
    return parser.parse_args()


def measure_all(options: argparse.Namespace) -> List[Dict[str, Any]]:
    """Build and measure every contender on a copy of the bundle, without earlier ranges."""
    found: List[Dict[str, Any]] = []
    reference: Optional[Measured] = None
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(str(options.bundle), str(copy), ignore=shutil.ignore_patterns("ranges"))
        bundle = open_bundle(copy)
        tests = load_tests(read_dataset(options.data), bundle.manifest.image_size, options.limit)
        workshop = ArtifactCache(bundle, options.data, options.samples, options.threads, options.quick)
        for contender in contenders(workshop):
            measured = measure(contender.run, tests)
            reference = measured if reference is None else reference
            found.append({**figures(contender, measured, reference), "images": len(tests)})
            print(" | ".join(row(found[-1])), flush=True)
    return found


def title(images: int) -> str:
    """Return the title of the table and the notes on its columns."""
    return (
        f"INT8 compared with FP32 on {images} test images, by calibrator, source and target\n\n"
        "In brackets: the number of calibration images, and the category whose image AUROC changes most. "
        "Flips: images with another decision than FP32, at the engine's own F1-max threshold and at that of "
        f"FP32. Target {Target.TENSORRT.value} is emulated in float32. Seconds to quantize: adq-edge reads "
        "the images once for all its calibrators, and each of its rows includes that pass. ONNX Runtime's "
        f"entropy and percentile calibrators get at most {HISTOGRAM_IMAGES} images, because they keep all "
        "activations in memory; its entropy has as many bins as levels and so finds the min-max ranges."
    )


def main() -> None:
    """Measure every contender and publish the table."""
    options = read_options()
    found = measure_all(options)
    machine = read_environment()
    machine = dataclasses.replace(machine, packages={**machine.packages, **nncf_version()})
    publish(
        options.name,
        title(found[0]["images"]),
        [
            *("quantizer", "calibrator", "source", "target", "image AUROC"),
            *found[0]["categories"],
            *("largest change", "pixel AUROC", "map SNR dB", "score bias %", "flips % own"),
            *("flips % at FP32's", "seconds"),
        ],
        [row(line) for line in found],
        {"samples": options.samples, "threads": options.threads, "engines": found},
        machine,
    )


if __name__ == "__main__":
    main()
