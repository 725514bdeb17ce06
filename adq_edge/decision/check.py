"""`fit --check`: compare new good images of a product with its calibration images.

A false-reject rate holds if new good images are exchangeable with the calibration images: if only chance
decides the order of their scores. Two tests find new images that score higher:

- The rank sum finds a shift of all scores (Mann and Whitney, Annals of Mathematical Statistics 18, 1947).
- The number of false rejects finds a change of the highest scores. Among exchangeable images it has a
  beta-binomial distribution, whatever the distribution of the scores.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import math
import shlex
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Set, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.products import Product
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import AdqError, DataError, ResultError
from adq_edge.core.files import sha256
from adq_edge.core.images.folders import find_images, is_folder
from adq_edge.core.records import Record, record
from adq_edge.datasets.dataset import is_dataset, print_notes, read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.decision.conformal import Calibration, percent
from adq_edge.decision.inspector import Inspector, Verdict, load_inspector
from adq_edge.metrics.intervals import clopper_pearson_interval

CHECKED_RATES = (0.01, 0.02, 0.05)
FEWEST_NEW_IMAGES = 10
"""With fewer new images, only large differences are found."""
_FALSE_ALARMS = 0.05
_LARGEST_EXACT = 8  # images of the smaller sample, as in scipy


class Exchangeability(str, enum.Enum):
    """What the check found."""

    NO_DIFFERENCE = "no difference found"
    HIGHER = "new images score higher"
    TOO_FEW = "too few new images"


@dataclasses.dataclass(frozen=True)
class RealizedRate:
    """The false rejects among new good images at one threshold.

    Attributes:
        target: the false-reject rate of the threshold, 0 to 1; None for a threshold from labeled defects.
        is_estimate: True if the threshold is an estimate: too few images to promise the rate.
        threshold: images with a higher score are defective.
        rejected: number of new good images above the threshold.
        images: number of new good images.
        low: lower end of the 95 % interval of the realized rate (Clopper-Pearson), 0 to 1.
        high: upper end.
        chance: probability of so many false rejects or more if the images are exchangeable; None for an
            estimated threshold, and for a threshold from labeled defects.
    """

    target: Optional[float]
    is_estimate: bool
    threshold: float
    rejected: int
    images: int
    low: float
    high: float
    chance: Optional[float]


@dataclasses.dataclass(frozen=True)
class ProductCheck:
    """The check of one product.

    Attributes:
        name: the product.
        images: number of new good images that were judged.
        calibration_images: number of good images from which the threshold was found.
        in_force: false rejects at the threshold in force.
        rates: false rejects at 1, 2 and 5 %.
        chance: probability of scores that rank as high or higher, if the images are exchangeable.
        unknown: number of new images that are not recognized as the product.
        not_judged: number of images that cannot be judged.
        result: what was found, after a correction for the number of tests and products.
        advice: what it means and what to do, in sentences.
    """

    name: str
    images: int
    calibration_images: int
    in_force: RealizedRate
    rates: Tuple[RealizedRate, ...]
    chance: float
    unknown: int
    not_judged: int
    result: Exchangeability
    advice: str


@record("adq-edge/check", version=1, error=ResultError, fix="Check again: adq-edge fit ENGINE --check DIR")
@dataclasses.dataclass(frozen=True)
class ExchangeabilityCheck(Record):
    """The check of an engine's products with new good images.

    Attributes:
        engine: the engine file.
        engine_sha256: its hash.
        runtime: the runtime.
        data: the folder of the new good images.
        products: the check of each product with images in `data`.
    """

    engine: str
    engine_sha256: str
    runtime: str
    data: str
    products: Tuple[ProductCheck, ...]

    @property
    def has_difference(self) -> bool:
        """True if the new images of a product score higher."""
        return any(one.result is Exchangeability.HIGHER for one in self.products)


def check_exchangeability(
    engine: Optional[Union[str, Path]],
    data: Union[str, Path],
    product: Optional[str] = None,
    *,
    false_rejects: Optional[float] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
) -> ExchangeabilityCheck:
    """Return the comparison of new good images with the calibration images of each product.

    Args:
        engine: the engine file; the newest in `engines/` by default.
        data: a folder of new good images of one product, or a dataset. Of a dataset, the normal test images
            of each category that is a product are checked.
        product: the product in the folder, or the only category to check. Not needed if the engine has one.
        false_rejects: the rate in force; that of the products file by default.
        runtime: name of the runtime; the one that the engine was built for by default.
        threads: CPU threads; all by default.

    Raises:
        DataError: no such folder, no good images, no image that can be judged, or the images of the fit.
        EngineError: the engine has no products, or no product of this name.
    """
    path = workspace.latest_engine() if engine is None else Path(engine)
    with load_inspector(path, false_rejects=false_rejects, runtime=runtime, threads=threads) as inspector:
        with prefer_layout(inspector.engine.sidecar.layout, needs_labels=True):
            folders = _new_images(inspector, Path(data), product)
        alpha = _FALSE_ALARMS / (2 * len(folders))
        checks = tuple(_check(inspector, name, images, alpha) for name, images in folders.items())
        sha, name = inspector.products.engine_sha256, inspector.products.runtime
    return ExchangeabilityCheck(str(path), sha, name, str(data), checks)


def _new_images(inspector: Inspector, data: Path, product: Optional[str]) -> Dict[str, List[Path]]:
    """Return the new good images of each product."""
    names = inspector.products.names
    if product is not None:
        inspector.index_of(product)
    if not is_folder(data):
        raise DataError("no such folder of good images", where=data, fix="Name a folder with --check")
    if is_dataset(data):
        return _images_of_dataset(data, names if product is None else (product,))
    if product is None and len(names) > 1:
        fix = f"Name it with --product: {', '.join(names)}"
        raise DataError("not a dataset, and the product of its images is not given", where=data, fix=fix)
    name = product or names[0]
    found = find_images(data)
    if not found:
        raise DataError("no images in this folder", where=data, fix="Name a folder of good images")
    fitted = _fitted_images(inspector.products.named(name))
    repeated = sum(path.resolve() in fitted for path in found)
    if repeated:
        what = f"{repeated} of {len(found)} images are in the folders that {name!r} was fitted with"
        raise DataError(what, where=data, fix="Give good images that came later, in a folder of their own")
    return {name: found}


def _fitted_images(product: Product) -> Set[Path]:
    """Return the image files in the folders that a product was fitted with, as far as they are there."""
    found: Set[Path] = set()
    for source in map(Path, product.sources):
        with contextlib.suppress(AdqError):
            if is_dataset(source):
                categories = read_dataset(source, [product.name], needs_training=False).categories
                found.update(path.resolve() for one in categories for path in one.train)
            elif is_folder(source):
                found.update(path.resolve() for path in find_images(source))
    return found


def _images_of_dataset(data: Path, names: Sequence[str]) -> Dict[str, List[Path]]:
    dataset = read_dataset(data, needs_training=False)
    print_notes(dataset)
    good = {
        one.name: [sample.path for sample in one.test if not sample.is_anomalous]
        for one in dataset.categories
        if one.name in names
    }
    found = {name: paths for name, paths in good.items() if paths}
    if not found:
        what = "no normal test images of a product"
        raise DataError(what, where=data, fix=f"Products: {', '.join(names)}. Expected: PRODUCT/test/good")
    return found


def _check(inspector: Inspector, name: str, paths: Sequence[Path], alpha: float) -> ProductCheck:
    product = inspector.products.named(name)
    scores, thresholds, unknown, seen = [], set(), 0, set()
    with progress_bar(f"Checking {name}", len(paths), "images") as advance:
        for path in paths:
            advance()
            content = sha256(path)
            if content in seen:
                continue
            seen.add(content)
            found = inspector.inspect(path, product=name)
            if found.score is None or found.threshold is None:
                continue
            scores.append(found.score)
            thresholds.add((found.threshold, found.false_rejects))
            unknown += inspector.inspect(path).verdict is Verdict.UNKNOWN_PRODUCT
    if not scores:
        raise DataError(
            f"no image of {name!r} can be judged", where=paths[0].parent, fix="Check one with predict"
        )
    array = np.array(scores)
    threshold, rate = thresholds.pop()
    calibration = Calibration(product.scores)
    in_force = _realized_rate(calibration, array, rate, threshold)
    rates = tuple(_realized_rate(calibration, array, target, None) for target in CHECKED_RATES)
    chance = rank_sum_chance(array, np.array(product.scores))
    result = _judge(len(array), chance, in_force, alpha)
    return ProductCheck(
        name=name,
        images=len(array),
        calibration_images=product.images,
        in_force=in_force,
        rates=rates,
        chance=chance,
        unknown=unknown,
        not_judged=len(seen) - len(array),
        result=result,
        advice=_advise(name, result, in_force, chance, product.sources),
    )


def _realized_rate(
    calibration: Calibration, scores: np.ndarray, rate: Optional[float], threshold: Optional[float]
) -> RealizedRate:
    """Return the false rejects at a threshold; None takes the threshold of the rate."""
    point = None if rate is None else calibration.threshold_for(rate)
    if threshold is None:
        assert point is not None
        threshold = point.score
    rejected, images = int((scores > threshold).sum()), len(scores)
    low, high = clopper_pearson_interval(rejected, images)
    chance = None
    if point is not None and not point.is_estimate:
        chance = false_reject_chance(rejected, images, point.rate, point.images)
    is_estimate = point is not None and point.is_estimate
    return RealizedRate(rate, is_estimate, threshold, rejected, images, low, high, chance)


def _judge(images: int, chance: float, in_force: RealizedRate, alpha: float) -> Exchangeability:
    if min(chance, 1.0 if in_force.chance is None else in_force.chance) <= alpha:
        return Exchangeability.HIGHER
    return Exchangeability.TOO_FEW if images < FEWEST_NEW_IMAGES else Exchangeability.NO_DIFFERENCE


def _advise(
    name: str, result: Exchangeability, found: RealizedRate, chance: float, sources: Sequence[str]
) -> str:
    interval = f"95 % interval {percent(found.low)} to {percent(found.high)}"
    target = "" if found.target is None else f" at {percent(found.target)}"
    counted = f"{found.rejected} of {found.images} new good images rejected{target} ({interval})"
    if result is Exchangeability.NO_DIFFERENCE:
        return f"{counted}. No difference from the calibration images was found."
    if result is Exchangeability.TOO_FEW:
        return f"{counted}. Give {FEWEST_NEW_IMAGES} new images or more: fewer show only large differences."
    rarest = min(chance, 1.0 if found.chance is None else found.chance)
    folders = [source for source in sources if is_folder(Path(source)) and not is_dataset(Path(source))]
    old = " ".join(f"--good {shlex.quote(source)}" for source in folders) or "--good OLD"
    return (
        f"{counted}. The new images score higher than the calibration images (chance {rarest:.2g}), so the "
        f"rate may not hold for them. If they are good, fit again with both: adq-edge fit ENGINE --product "
        f"{shlex.quote(name)} {old} --good NEW."
    )


def rank_sum_chance(new: np.ndarray, calibration: np.ndarray) -> float:
    """Return the probability that exchangeable scores rank as high as the new ones or higher.

    One-sided Mann-Whitney test: exact for a sample of at most 8 scores without ties, else the normal
    approximation with the corrections for ties and continuity, as `scipy.stats.mannwhitneyu`.

    Args:
        new: scores `[M]` of new good images.
        calibration: scores `[N]` of the calibration images.
    """
    new, calibration = (np.asarray(values, np.float32) for values in (new, calibration))
    ordered = np.sort(calibration)
    below, not_above = (np.searchsorted(ordered, new, side) for side in ("left", "right"))
    wins = float((below + not_above).sum()) / 2.0
    m, n = len(new), len(calibration)
    _, repeats = np.unique(np.concatenate([new, calibration]), return_counts=True)
    if min(m, n) <= _LARGEST_EXACT and repeats.max() == 1:
        counts = _rank_sum_counts(m, n)
        return float(counts[int(wins) :].sum() / counts.sum())
    total = m + n
    ties = float((repeats.astype(float) ** 3 - repeats).sum()) / (total * (total - 1.0))
    deviation = math.sqrt(max(0.0, m * n / 12.0 * (total + 1.0 - ties)))
    if deviation == 0.0:
        return 1.0
    return 0.5 * math.erfc((wins - m * n / 2.0 - 0.5) / deviation / math.sqrt(2.0))


def _rank_sum_counts(m: int, n: int) -> np.ndarray:
    """Return numbers proportional to the orders of m + n scores with 0 to m * n wins, `[m * n + 1]`.

    They are the coefficients of the product of (1 - q^(n + i)) / (1 - q^i), i from 1 to the smaller number.
    """
    small, large = sorted((m, n))
    counts = np.zeros(m * n + 1)
    counts[0] = 1.0
    for i in range(1, small + 1):
        shifted = counts.copy()
        shifted[large + i :] -= counts[: len(counts) - large - i]
        for start in range(i):  # division by 1 - q^i: running sums with a step of i
            shifted[start::i] = np.cumsum(shifted[start::i])
        counts = shifted
    return counts


def false_reject_chance(rejected: int, images: int, rate: float, calibration_images: int) -> float:
    """Return the probability of so many false rejects or more among exchangeable images.

    Args:
        rejected: number of false rejects.
        images: number of new good images.
        rate: the false-reject rate that the calibration images promise.
        calibration_images: number of calibration images.
    """
    above = min(math.floor(rate * (calibration_images + 1) + 1e-9), calibration_images)
    a, b = float(above), float(calibration_images + 1 - above)

    def log_beta(x: float, y: float) -> float:
        return math.lgamma(x) + math.lgamma(y) - math.lgamma(x + y)

    terms = [
        math.lgamma(images + 1.0)
        - math.lgamma(count + 1.0)
        - math.lgamma(images - count + 1.0)
        + log_beta(count + a, images - count + b)
        - log_beta(a, b)
        for count in range(rejected, images + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, terms)))
