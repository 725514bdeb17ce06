"""The test of drift: false alarms, and alarms before the AUROC falls, on real images and a trained engine.

    python -m benchmarks.drift ENGINE --data DIR [--repeats 20] [--measured FILE] [--name drift]

ENGINE has products of the dataset DIR (`adq-edge fit`). Images are judged and measured at a number of amounts
of light, blur and shift: all test images, and up to 40 training images of each product. The good images are
divided at random: from one half the statistics and p-values are learned, the other half are the images of the
line. A ramp is a stream of these: after 200 unchanged images the amount rises evenly; 2 % of the images are
defective. Scores and measures between two judged amounts are interpolated; small amounts are judged more
closely. A ramp is found in time if an alarm comes on it before the product's AUROC on the test images has
fallen by 0.02. False alarms are counted on unchanged images in random order, with 10 % defects, and in
batches of like parts; and on simulated measures. `--measured` keeps the judged images in a file (.npz).
Writes benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.products import Product, plain
from adq_edge.core.console import progress_bar
from adq_edge.core.images.imaging import read_product_image, resize_image
from adq_edge.datasets.dataset import read_dataset
from adq_edge.decision.conformal import Calibration
from adq_edge.decision.health.drift import DriftMonitor
from adq_edge.decision.health.measures import ImageMeasures, learn_statistics, measure_image
from adq_edge.decision.inspector import Inspector, load_inspector
from adq_edge.evaluation.stress_changes import change_named
from adq_edge.evaluation.stress_result import find_crossing
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.quality import image_auroc
from benchmarks.published import publish

LEVELS = 9
"""Judged amounts of a ramp; the share of the largest amount is the square of the level's share."""
_STEPS = 400
"""Steps of a ramp at which the AUROC is computed."""
TRAINING = 40
"""Training images of each product that are used."""
LOSS = 0.02
BEFORE, LENGTHS = 200, (2000, 20_000)
STREAM = 10_000


class Ramp(NamedTuple):
    """A change whose amount rises."""

    title: str
    change: str
    largest: float
    unit: str
    chosen: float = 0.0


RAMPS = (
    Ramp("less light", "less-light", 80.0, "%"),
    Ramp("more light", "more-light", 100.0, "%"),
    Ramp("out of focus", "defocus", 5.0, "px"),
    Ramp("motion blur", "motion", 12.0, "px"),
    Ramp("shift to the right", "shift", 24.0, "px"),
    Ramp("shift down", "shift", 24.0, "px", 0.25),
)


class Seen(NamedTuple):
    """An image at each level of a ramp."""

    is_defective: bool
    is_test: bool
    scores: np.ndarray
    values: np.ndarray
    profiles: np.ndarray

    @property
    def still(self) -> ImageMeasures:
        """The measures of the unchanged image."""
        return ImageMeasures._make((*self.values[0].tolist(), *self.profiles[0]))

    def at(self, share: float) -> Tuple[float, ImageMeasures]:
        """Return score and measures at a share of the largest amount, interpolated."""
        shares = _shares()
        low = min(int(np.searchsorted(shares, share, "right")) - 1, LEVELS - 2)
        weight = (share - shares[low]) / (shares[low + 1] - shares[low])
        weights = np.array([1.0 - weight, weight])
        score, values, (rows, columns) = (
            np.tensordot(weights, array[low : low + 2], 1)
            for array in (self.scores, self.values, self.profiles)
        )
        return float(score), ImageMeasures._make((*values.tolist(), rows, columns))


def _shares() -> np.ndarray:
    """Return the judged shares of the largest amount, from 0 to 1."""
    return np.linspace(0.0, 1.0, LEVELS) ** 2


Table = Dict[Tuple[str, str], List[Seen]]
"""The images by product and ramp."""


def judge_all(inspector: Inspector, data: Path, kept: Optional[Path]) -> Table:
    """Judge and measure images at every level of every ramp; what is in the file `kept` is not repeated."""
    found: Table = load(kept) if kept is not None and kept.exists() else {}
    for category in read_dataset(data, inspector.products.names).categories:
        step = max(1, len(category.train) // TRAINING)
        training = category.train[::step][:TRAINING]
        if (category.name, RAMPS[0].title) not in found:
            tests = [(sample.path, sample.is_anomalous, True) for sample in category.test]
            images = [*tests, *((path, False, False) for path in training)]
            found.update(judge_category(inspector, category.name, images, RAMPS))
        if kept is not None:
            save(found, kept)
    return found


def judge_category(
    inspector: Inspector, name: str, images: Sequence[Tuple[Path, bool, bool]], ramps: Sequence[Ramp]
) -> Table:
    """Judge and measure images of a category; of each: file, True if defective, True if a test image."""
    found: Table = {}
    with progress_bar(f"Judging {name}", len(ramps) * len(images), "images") as advance:
        for path, is_defective, is_test in images:
            image = read_product_image(path)
            for ramp in ramps:
                measured = judge(inspector, inspector.index_of(name), image, ramp)
                found.setdefault((name, ramp.title), []).append(Seen(is_defective, is_test, *measured))
                advance()
    return found


def judge(
    inspector: Inspector, index: int, image: np.ndarray, ramp: Ramp
) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the scores, measures and profiles of an image at each level of a ramp."""
    size, full = inspector.engine.sidecar.image_size, (image.shape[0], image.shape[1])
    scale = (full[0] * full[1] / (size[0] * size[1])) ** 0.5
    scores, measures = [], []
    for amount in _shares() * ramp.largest:
        changed = change_named(ramp.change).apply(image, amount, scale, ramp.chosen) if amount else image
        batch = resize_image(changed, size)[None]
        score = inspector.judge(inspector.engine.run(batch), batch, full, "", index).score
        scores.append(np.nan if score is None else score)
        measures.append(measure_image(batch[0]))
    values = np.array([one[:7] for one in measures])
    return np.array(scores), values, np.array([one[7:] for one in measures])


def save(table: Table, path: Path) -> None:
    """Write the judged images to a file."""
    arrays = {
        f"{product}|{ramp}|{name}": np.array([getattr(one, name) for one in images])
        for (product, ramp), images in table.items()
        for name in Seen._fields
    }
    np.savez(str(path), **arrays)  # type: ignore[arg-type]  # numpy declares a keyword of its own


def load(path: Path) -> Table:
    """Read the judged images of `save`."""
    found: Table = {}
    with np.load(str(path), allow_pickle=False) as file:
        for product, ramp in dict.fromkeys(tuple(key.split("|")[:2]) for key in file.files):
            arrays = (file[f"{product}|{ramp}|{name}"] for name in Seen._fields)
            found[product, ramp] = [Seen(*one) for one in zip(*arrays)]
    return found


def fall(images: Sequence[Seen]) -> Optional[float]:
    """Return the share of the largest amount at which the AUROC has fallen by 0.02; None if it never does."""
    tests = [one for one in images if one.is_test]
    labels, steps = np.array([one.is_defective for one in tests], bool), np.linspace(0.0, 1.0, _STEPS + 1)
    scores = [np.interp(steps, _shares(), one.scores) for one in tests]
    areas = [image_auroc(labels, np.array([one[step] for one in scores])) for step in range(_STEPS + 1)]
    whole = areas[0]
    losses = [None if whole is None or area is None else whole - area for area in areas]
    return find_crossing(steps.tolist(), losses, LOSS)


class Line(NamedTuple):
    """A product that was learned from one half of the good images, and the images of the line."""

    product: Product
    good: List[Seen]
    defective: List[Seen]

    @classmethod
    def of(cls, product: Product, table: Table, ramp: Ramp, generator: np.random.Generator) -> Line:
        """Divide the good images at random."""
        images = table[product.name, ramp.title]
        good = [one for one in images if not one.is_defective]
        good = [good[index] for index in generator.permutation(len(good))]
        half = len(good) // 2
        fitted = good[:half]
        statistics = learn_statistics([one.still for one in fitted])
        scores = plain(sorted(one.scores[0] for one in fitted))
        own = dataclasses.replace(product, images=len(fitted), scores=scores, image_statistics=statistics)
        return cls(own, good[half:], [one for one in images if one.is_defective])

    def stream(
        self, shares: Sequence[float], generator: np.random.Generator, defects: float, batch: int = 1
    ) -> Iterator[Tuple[float, ImageMeasures]]:
        """Yield the p-value and the measures of an image for each share of the largest amount.

        Args:
            shares: the shares, in the order of the images.
            generator: chooses the images.
            defects: share of defective images.
            batch: number of images of a batch, in which two parts take turns; 1 for any order.
        """
        calibration, few = Calibration(self.product.scores), self.good
        for number, share in enumerate(shares):
            if batch > 1 and number % batch == 0:
                few = [self.good[index] for index in generator.integers(len(self.good), size=2)]
            source = self.defective if generator.random() < defects else few
            score, measures = source[generator.integers(len(source))].at(share)
            yield calibration.p_value(score)[0], measures


def find_alarms(product: Product, seen: Iterator[Tuple[float, ImageMeasures]]) -> Iterator[Tuple[int, str]]:
    """Yield the number of each image that raises an alarm, and the measure; the test then starts again."""
    monitor = DriftMonitor([product])
    for number, (p_value, measures) in enumerate(seen):
        alarm = monitor.update(product.name, p_value, measures, float(number))
        if alarm is not None:
            yield number, alarm.measure
            monitor.reset(product.name)


def run_ramps(products: Sequence[Product], table: Table, repeats: int) -> List[Dict[str, Any]]:
    """Return the figures of each ramp, product and length."""
    found = []
    for product in products:
        for ramp in RAMPS:
            for length in LENGTHS:
                found.append(ramp_figures(product, ramp, table, length, repeats))
    return found


def ramp_figures(product: Product, ramp: Ramp, table: Table, length: int, repeats: int) -> Dict[str, Any]:
    """Return when the AUROC falls and when alarms come, in images after the start of the ramp."""
    share = fall(table[product.name, ramp.title])
    shares = [*[0.0] * BEFORE, *np.linspace(0.0, 1.0, length).tolist()]
    alarms: List[Optional[int]] = []
    measures: List[Optional[str]] = []
    for repeat in range(repeats):
        generator = np.random.default_rng([repeat, length, RAMPS.index(ramp)])
        line = Line.of(product, table, ramp, generator)
        found = find_alarms(line.product, line.stream(shares, generator, 0.02))
        first = next(((number, measure) for number, measure in found if number >= BEFORE), None)
        alarms.append(None if first is None else first[0] - BEFORE)
        measures.append(None if first is None else first[1])
    fallen = None if share is None else share * length
    in_time = [fallen is not None and one is not None and one < fallen for one in alarms]
    return {
        "product": product.name,
        "ramp": ramp.title,
        "length": length,
        "fallen_at": fallen,
        "fallen_amount": None if share is None else share * ramp.largest,
        "alarms": alarms,
        "measures": measures,
        "in_time": sum(in_time),
    }


def run_unchanged(products: Sequence[Product], table: Table, repeats: int) -> Dict[str, List[str]]:
    """Return the false alarms on unchanged images: `repeats` streams of 10,000 images for each kind."""
    kinds = {"random order": (0.0, 1), "10 % defects": (0.1, 1), "batches of 20 like parts": (0.02, 20)}
    found: Dict[str, List[str]] = {}
    for kind, (defects, batch) in kinds.items():
        alarms = found.setdefault(kind, [])
        for repeat in range(repeats):
            for product in products:
                generator = np.random.default_rng([repeat, batch])
                line = Line.of(product, table, RAMPS[0], generator)
                shares = [0.0] * (STREAM // len(products))
                seen = line.stream(shares, generator, defects, batch)
                alarms += [f"{product.name}: {measure}" for _, measure in find_alarms(line.product, seen)]
    return found


def simulated(product: Product, images: int, seed: int, correlation: float, heavy: bool) -> List[str]:
    """Return the false alarms of a simulated product in 10,000 good images.

    Args:
        product: any product, for the fields that do not matter.
        images: number of good images of the fit.
        seed: a number.
        correlation: of each measure with that of the image before.
        heavy: a distribution with heavy tails on one side, instead of a normal one.
    """
    generator = np.random.default_rng([seed, images])

    def values(count: int) -> np.ndarray:
        normal = generator.standard_normal((count, 6))
        for number in range(1, count):
            normal[number] = correlation * normal[number - 1] + (1 - correlation**2) ** 0.5 * normal[number]
        return np.exp(normal * 0.8) if heavy else normal

    flat = np.full(128, 100.0, np.float32)

    def measures(row: np.ndarray) -> ImageMeasures:
        return ImageMeasures._make((*row[:5].tolist(), 0.0, 0.0, flat, flat))

    correlation, kept = 0.0, correlation  # the images of the fit are independent
    fitted = values(images)
    correlation = kept
    scores = plain(np.sort(fitted[:, 5]))
    normal = learn_statistics([measures(row) for row in fitted])
    own = dataclasses.replace(product, images=images, scores=scores, image_statistics=normal)
    calibration = Calibration(scores)
    seen = ((calibration.p_value(row[5])[0], measures(row)) for row in values(STREAM))
    return [measure for _, measure in find_alarms(own, seen)]


def run_simulated(product: Product, repeats: int) -> Dict[str, float]:
    """Return the false alarms in 10,000 good images, the mean over simulated products."""
    found = {}
    for images in (20, 200):
        for heavy in (False, True):
            for correlation in (0.0, 0.5, 0.8):
                alarms = [
                    len(simulated(product, images, seed, correlation, heavy)) for seed in range(repeats)
                ]
                kind = f"{images} images, {'log-normal' if heavy else 'normal'}, correlation {correlation:g}"
                found[kind] = float(np.mean(alarms))
    return found


def ramp_rows(figures: Sequence[Dict[str, Any]], repeats: int) -> Iterator[List[str]]:
    """Yield a table row for each ramp and length."""
    for ramp in RAMPS:
        for length in LENGTHS:
            some = [one for one in figures if one["ramp"] == ramp.title and one["length"] == length]
            falling = [one for one in some if one["fallen_at"] is not None]
            early = [alarm for one in some for alarm in one["alarms"] if alarm is not None]
            ahead = [
                one["fallen_at"] - alarm for one in falling for alarm in one["alarms"] if alarm is not None
            ]
            amounts = ", ".join(f"{one['product']} {one['fallen_amount']:.3g}" for one in falling)
            yield [
                f"{ramp.title}, 0 to {ramp.largest:g} {ramp.unit} in {length} images",
                amounts or "never",
                f"{sum(one['in_time'] for one in falling)} of {repeats * len(falling)}" if falling else "-",
                f"{np.median(early) / length * ramp.largest:.3g} {ramp.unit}" if early else "-",
                f"{np.median(ahead):.0f}" if ahead else "-",
            ]


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--measured", type=Path)
    parser.add_argument("--name", default="drift")
    options = parser.parse_args()
    with load_inspector(options.engine, threads=1) as inspector:
        products, sidecar = inspector.products.products, inspector.engine.sidecar
        table = judge_all(inspector, options.data, options.measured)
    figures = run_ramps(products, table, options.repeats)
    unchanged = run_unchanged(products, table, options.repeats)
    model = run_simulated(products[0], options.repeats)
    falling = [one for one in figures if one["fallen_at"] is not None]
    in_time, ramps = sum(one["in_time"] for one in falling), options.repeats * len(falling)
    rows = [
        *ramp_rows(figures, options.repeats),
        [
            "**all ramps on which the AUROC falls**",
            "",
            f"{in_time} of {ramps} ({in_time / ramps:.1%})",
            "",
            "",
        ],
        *(
            [
                f"no change, {kind}",
                "-",
                f"{len(alarms)} false alarms in {STREAM * options.repeats:,} images",
                "-",
                "-",
            ]
            for kind, alarms in unchanged.items()
        ),
        *(
            [
                f"no change, simulated, fit with {kind}",
                "-",
                f"{alarms:.2f} false alarms in {STREAM:,} images",
                "-",
                "-",
            ]
            for kind, alarms in model.items()
        ),
    ]
    publish(
        options.name,
        f"Drift of a line: {sidecar.arch}, {sidecar.precision.value}, {options.repeats} streams each",
        ["stream", "AUROC falls by 0.02 at", "found in time", "median amount at the alarm", "images ahead"],
        rows,
        {"ramps": figures, "unchanged": unchanged, "simulated": model},
        read_environment(),
    )


if __name__ == "__main__":
    main()
