"""Image AUROC of two scores: the maximum of the small map, and the maximum after the map is enlarged.

    python -m benchmarks.image_score BUNDLE [BUNDLE ...] --data DIR [--limit N] [--name image_score]

The small map has the size of the finest scale map. For an STFPM it is the product of the scale maps, for a
Reverse Distillation their sum; coarser ones are enlarged bilinearly. Enlarged is the small map of an STFPM,
as the official code has it; of a Reverse Distillation, its anomaly map, whose scale maps are enlarged and
blurred one by one. Bundles run in ONNX Runtime, FP32. Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import INPUT, MAP_OUTPUT, SCALE_MAP_OUTPUT, Bundle, open_bundle
from adq_edge.core.images.imaging import resize_map
from adq_edge.datasets.dataset import read_dataset
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.quality import image_auroc
from benchmarks.command_line import make_parser
from benchmarks.published import publish
from benchmarks.quality import TestImage, load_tests

_SUMMED = "reverse-distillation"
_SCORES = ("small", "enlarged")


def two_maxima(
    anomaly_map: np.ndarray, scale_maps: Sequence[np.ndarray], size: Tuple[int, int], summed: bool
) -> Tuple[float, float]:
    """Return the maxima of the small and the enlarged map of an image.

    Args:
        anomaly_map: `[h, w]`.
        scale_maps: the maps that it is made of, the finest first.
        size: (height, width) of the image.
        summed: True if the scale maps are summed, False if they are multiplied.
    """
    height, width = scale_maps[0].shape
    same = [resize_map(each, (height, width)) for each in scale_maps]
    small = np.sum(same, axis=0) if summed else np.prod(same, axis=0)
    enlarged = anomaly_map if anomaly_map.shape == tuple(size) else resize_map(anomaly_map, size)
    return float(small.max()), float(enlarged.max())


def measure(bundle: Bundle, tests: List[TestImage]) -> Dict[str, Any]:
    """Return the image AUROC of both scores per category, and the median ratio of the scores."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    count, size = len(bundle.manifest.scale_sizes), bundle.manifest.image_size
    names = [MAP_OUTPUT, *(SCALE_MAP_OUTPUT.format(index) for index in range(1, count + 1))]
    summed = bundle.manifest.arch == _SUMMED
    pairs = []
    for test in tests:
        anomaly_map, *scale_maps = (found[0] for found in session.run(names, {INPUT: test.image[None]}))
        pairs.append(two_maxima(anomaly_map, scale_maps, size, summed))
    scores = np.array(pairs)
    of, labels = np.array([test.category for test in tests]), np.array([test.anomalous for test in tests])
    areas = {
        name: {
            str(category): image_auroc(labels[of == category], scores[of == category, index])
            for category in dict.fromkeys(of)
        }
        for index, name in enumerate(_SCORES)
    }
    return {
        "name": bundle.manifest.name,
        "arch": bundle.manifest.arch,
        "origin": bundle.manifest.origin,
        "image_auroc": areas,
        "ratio": float(np.median(scores[:, 1] / scores[:, 0])),
        "images": len(tests),
    }


def row(found: Dict[str, Any], score: str) -> List[str]:
    """Return the table row of a score of a model."""
    areas = found["image_auroc"][score]
    mean = np.mean([value for value in areas.values() if value is not None])
    numbers = [*areas.values(), mean]
    return [
        f"{found['arch']} ({found['origin']})",
        f"{score} map",
        *("-" if number is None else f"{number:.4f}" for number in numbers),
        "1" if score == _SCORES[0] else f"{found['ratio']:.3f}",
    ]


def main() -> None:
    """Measure and publish."""
    parser = make_parser("benchmarks.image_score", __doc__)
    parser.add_argument("bundles", nargs="+", type=Path)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--limit", type=int, help="maximum number of test images; all by default")
    parser.add_argument("--name", default="image_score")
    asked = parser.parse_args()
    bundles = [open_bundle(path) for path in asked.bundles]
    dataset = read_dataset(asked.data)
    found = [
        measure(bundle, load_tests(dataset, bundle.manifest.image_size, asked.limit)) for bundle in bundles
    ]
    categories = list(found[0]["image_auroc"][_SCORES[0]])
    publish(
        asked.name,
        "Image AUROC of the maximum of the small map and of the enlarged map",
        ["model", "score: maximum of the", *categories, "mean", "median ratio of the score"],
        [row(each, score) for each in found for score in _SCORES],
        {"models": found},
        read_environment(),
    )


if __name__ == "__main__":
    main()
