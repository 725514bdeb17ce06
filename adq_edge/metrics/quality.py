"""Exact metrics of image scores: AUROC and the threshold with the highest F1."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import numpy as np

from adq_edge.core.errors import EngineError


def image_auroc(labels: np.ndarray, scores: np.ndarray) -> Optional[float]:
    """Return the exact area under the ROC curve of image scores, 0 to 1; ties count half.

    Args:
        labels: bool `[N]`, True for an anomalous image.
        scores: float `[N]`, higher is more anomalous.

    Returns:
        The probability that an anomalous image scores higher than a normal one (Mann-Whitney U / (N1 * N0);
        Hanley and McNeil, Radiology 1982), or None if only one class is present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape.
    """
    _, normal, anomalous = counts_per_score(labels, scores)
    return auroc_from_counts(normal, anomalous)


def mean_of_measured(values: Sequence[Optional[float]]) -> Optional[float]:
    """Return the mean of the values that are not None; None if there are none."""
    measured = [value for value in values if value is not None]
    return float(np.mean(measured)) if measured else None


def mean_image_auroc(
    categories: Sequence[str], labels: Sequence[bool], scores: Sequence[float]
) -> Optional[float]:
    """Return the mean over categories of the image AUROC, 0 to 1; None if no category has both classes.

    Args:
        categories: the category of each image.
        labels: True for an anomalous image.
        scores: score of each image, higher is more anomalous.

    Raises:
        EngineError: a score is NaN or infinite.
    """
    names, flags, values = np.asarray(categories), np.asarray(labels, bool), np.asarray(scores, np.float64)
    groups = [names == name for name in dict.fromkeys(categories)]
    return mean_of_measured([image_auroc(flags[group], values[group]) for group in groups])


def f1_max_threshold(labels: np.ndarray, scores: np.ndarray) -> Optional[Tuple[float, float]]:
    """Find the threshold with the highest F1; an image is anomalous if score >= threshold.

    The threshold is midway between the lowest anomalous score and the next lower score. It is a float32
    number if one lies between them, so that comparisons in float32 and float64 give the same labels. Among
    thresholds of equal F1 the highest is chosen (fewest alarms). If the best decision is to call every image
    anomalous, the threshold is the lowest score.

    One class alone gives no threshold: F1 is 0 at every threshold without an anomalous image, and 1 at every
    threshold below the scores without a normal one.

    Args:
        labels: bool `[N]`, True for an anomalous image.
        scores: float `[N]`, higher is more anomalous.

    Returns:
        (threshold, F1 of 0 to 1), or None if only one class is present.

    Raises:
        EngineError: a score is NaN or infinite.
        ValueError: `labels` and `scores` differ in shape.
    """
    values, normal, anomalous = counts_per_score(labels, scores)
    total = anomalous.sum()
    if total == 0 or normal.sum() == 0:
        return None
    true_positives = np.cumsum(anomalous[::-1])
    positives = true_positives + np.cumsum(normal[::-1])
    f1 = 2.0 * true_positives / (positives + total)
    best = int(np.argmax(f1))
    index = values.size - 1 - best
    threshold = float(values[index])
    if index > 0:
        threshold = threshold_between(float(values[index - 1]), threshold)
    return threshold, float(f1[best])


def describe_single_class(labels: Sequence[bool]) -> Optional[str]:
    """Return `good` or `defective` if all labels are equal; None for both classes.

    Args:
        labels: True for a defective image; at least one.
    """
    if all(labels):
        return "defective"
    return None if any(labels) else "good"


def threshold_between(low: float, high: float) -> float:
    """Return the float32 nearest to the middle of `low` and `high`; `high` if none lies between them."""
    middle = float(np.float32(low / 2 + high / 2))
    return middle if low < middle <= high else high


def counts_per_score(labels: np.ndarray, scores: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct scores in ascending order, and the normal and anomalous images per score."""
    labels, scores = np.asarray(labels, dtype=bool), np.asarray(scores, dtype=np.float64)
    check_scores(labels, scores, "anomaly scores")
    values, index = np.unique(scores, return_inverse=True)
    normal = np.bincount(index[~labels], minlength=values.size)
    anomalous = np.bincount(index[labels], minlength=values.size)
    return values, normal, anomalous


def check_scores(labels: np.ndarray, scores: np.ndarray, where: str) -> None:
    """Raise an error if scores and labels differ in shape or a score is not finite."""
    if labels.shape != scores.shape:
        raise ValueError(f"{where} have shape {scores.shape}, their labels {labels.shape}")
    finite = np.isfinite(scores)
    if not finite.all():
        raise EngineError(
            f"{scores.size - np.count_nonzero(finite)} of {scores.size} values are NaN or infinite",
            where=where,
            fix="Build the engine in a higher precision",
        )


def check_pixels(mask: np.ndarray, anomaly_map: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return a mask as bool `[h, w]` and its map as float32; errors are those of `check_scores`."""
    defective, values = np.asarray(mask, dtype=bool), np.asarray(anomaly_map, dtype=np.float32)
    check_scores(defective, values, "anomaly map")
    return defective, values


def auroc_from_counts(normal: np.ndarray, anomalous: np.ndarray) -> Optional[float]:
    """Return the AUROC from image or pixel counts `[K]` per score, in ascending order; None for one class."""
    pairs = float(normal.sum()) * float(anomalous.sum())
    if pairs == 0:
        return None
    # Twice the count, so that half ties stay integers: exact in float64 up to 2^52 pairs.
    twice_below = 2 * np.cumsum(normal) - normal
    return float(twice_below.astype(np.float64) @ anomalous.astype(np.float64)) / (2 * pairs)
