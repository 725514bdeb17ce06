"""What products learned from good images buy, and whether their promises hold.

    python -m benchmarks.decision ENGINE --data DIR [--other ENGINE] [--tensorrt BUNDLE] [--unseen DIR]
        [--name decision]

Everything is measured on the engine itself: image AUROC of each way to score, pixel AUROC and AUPRO of the
product's map, false rejects over random splits of the good images, missed defects, recognition with one
product left out, verdicts that flip between two engines, and cleaning of good images with planted defects.
`--other` is a second engine of the same model (FP32 beside INT8). `--tensorrt` compares it with TensorRT's
INT8, emulated from its bundle. `--unseen` adds the products of another dataset to the recognition. Writes
benchmarks/published/NAME.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.products import Product
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.calibration.calibrated_model import calibrate_model
from adq_edge.calibration.sources import make_source
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import load_image, read_mask, resize_map, resize_mask
from adq_edge.core.options import DEFAULT_CALIBRATOR, Precision, Target
from adq_edge.datasets.dataset import Category, read_dataset
from adq_edge.decision.collection import collect, embeddings_of
from adq_edge.decision.conformal import Calibration
from adq_edge.decision.learning import WAYS, GoodImages, PastedImages, find_doubtful, find_unsuspicious, learn
from adq_edge.decision.maps import Maps
from adq_edge.decision.normal import ProductScorer
from adq_edge.decision.recognition import Recognizer
from adq_edge.hardware.environment import read_environment
from adq_edge.metrics.agreement import spearman
from adq_edge.metrics.intervals import clopper_pearson_interval
from adq_edge.metrics.pixel import PixelMetrics
from adq_edge.metrics.quality import image_auroc
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.qdq import quantize
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.emulation import EmulatedEngine
from adq_edge.runtimes.registry import load_engine
from benchmarks.published import publish

RATES = (0.01, 0.02, 0.05)
_SPLITS = 20
_FEWEST_FOR_COVERAGE = 60
_PLANTED = 0.1
_CALIBRATION_IMAGES = 48


class Measured(NamedTuple):
    """The outputs of an engine on one category.

    Attributes:
        name: the category.
        good: its normal training images.
        pasted: those with pasted defects.
        test: its test images.
        maps: full maps of the test images, as the engine gives them.
        labels: True for a defective test image.
        masks: mask of each test image at the size of the input; None if the category has none.
        seconds: duration of the collection.
    """

    name: str
    good: GoodImages
    pasted: PastedImages
    test: GoodImages
    maps: List[np.ndarray]
    labels: np.ndarray
    masks: Optional[List[np.ndarray]]
    seconds: float


def measure(engine: Engine, category: Category) -> Measured:
    """Run an engine on the images of a category."""
    started = time.monotonic()
    good, pasted, _ = collect(engine, category.name, category.train, lambda: None)
    assert pasted is not None
    seconds = time.monotonic() - started
    size = engine.sidecar.image_size
    outputs = []
    for sample in category.test:
        batch = load_image(sample.path, size)[None]
        output = engine.run(batch)
        outputs.append((Maps.of(output), embeddings_of(output, batch), np.array(output.maps[0])))
    masks = None
    if category.has_masks:
        masks = [
            np.zeros(size, bool) if sample.mask is None else resize_mask(read_mask(sample.mask), size)
            for sample in category.test
        ]
    names = tuple(str(sample.path) for sample in category.test)
    test = GoodImages(
        names, Maps.join([maps for maps, _, _ in outputs]), np.concatenate([one for _, one, _ in outputs])
    )
    labels = np.array([sample.is_anomalous for sample in category.test])
    return Measured(category.name, good, pasted, test, [raw for _, _, raw in outputs], labels, masks, seconds)


def quality(measured: Measured, product: Product, size: Tuple[int, int]) -> Dict[str, Any]:
    """Return the AUROC of the engine's score, of the product's, and of every other way to score."""
    fused, scores = ProductScorer(product).score(measured.test.maps)
    found: Dict[str, Any] = {
        "way": "+".join(one.kind.value for one in product.evidence),
        "raw": image_auroc(measured.labels, measured.test.maps.scores),
        "product": image_auroc(measured.labels, scores),
        "ways": {},
    }
    for kinds in WAYS:
        forced = learn(measured.name, measured.good, measured.pasted, [], ways=(kinds,))
        _, others = ProductScorer(forced).score(measured.test.maps)
        found["ways"]["+".join(kinds)] = image_auroc(measured.labels, others)
    if measured.masks is not None:
        for key, maps in (("raw_pixel", measured.maps), ("product_pixel", list(fused))):
            meter = PixelMetrics()
            for one, mask, sample_defective in zip(maps, measured.masks, measured.labels):
                if sample_defective and not mask.any():
                    continue
                meter.update(mask, resize_map(one, size))
            result = meter.compute()
            found[key] = [result.pixel_auroc, result.aupro]
    return found


def coverage(measured: Measured, generator: np.random.Generator) -> Iterator[Dict[str, Any]]:
    """Yield rejected and all good images of each random split, for each rate, and the missed defects."""
    labels = measured.labels
    good = _concatenate(measured.good, measured.test.select(np.flatnonzero(~labels)))
    defective = measured.test.select(np.flatnonzero(labels))
    for _ in range(_SPLITS):
        order = generator.permutation(len(good))
        fitted, held_out = np.sort(order[: len(good) // 2]), np.sort(order[len(good) // 2 :])
        pasted = measured.pasted.from_images(fitted[fitted < len(measured.good)])
        places = np.searchsorted(fitted, fitted[fitted < len(measured.good)])
        pasted = PastedImages(pasted.maps, places[pasted.origins])
        product = learn(measured.name, good.select(fitted), pasted, [])
        scorer = ProductScorer(product)
        fresh = scorer.score(good.select(held_out).maps)[1]
        missed = scorer.score(defective.maps)[1]
        own = np.sort(good.select(fitted).maps.scores.astype(np.float64))
        for rate in RATES:
            point = Calibration(product.scores).threshold_for(rate)
            own_point = Calibration(tuple(own)).threshold_for(rate)
            yield {
                "rate": rate,
                "is_estimate": point.is_estimate,
                "rejected": int((fresh > point.score).sum()),
                "good": len(held_out),
                "missed": int((missed <= point.score).sum()),
                "raw_missed": int((defective.maps.scores <= own_point.score).sum()),
                "defective": len(defective),
            }


def recognition(sets: Sequence[Measured], products: Sequence[Product]) -> Dict[str, Any]:
    """Return how many test images are recognized, and how many of a product that was left out are unknown."""
    whole = Recognizer(products)
    right = known_good = good = images = unknown_defective = 0
    caught: Dict[str, float] = {}
    for index, measured in enumerate(sets):
        found = [whole.recognize(embedding) for embedding in measured.test.embeddings]
        right += sum(one.index == index for one in found)
        images += len(found)
        good += int((~measured.labels).sum())
        known_good += sum(one.is_known for one, label in zip(found, measured.labels) if not label)
        unknown_defective += sum(not one.is_known for one, label in zip(found, measured.labels) if label)
        others = Recognizer([*products[:index], *products[index + 1 :]])
        unknown = [not others.recognize(embedding).is_known for embedding in measured.test.embeddings]
        caught[measured.name] = float(np.mean(unknown))
    return {
        "images": images,
        "recognized": right,
        "good": good,
        "good_unknown": good - known_good,
        "defective": images - good,
        "defective_unknown": unknown_defective,
        "left_out_caught": caught,
    }


def flips(
    a: Sequence[Measured], b: Sequence[Measured], of_a: Sequence[Product], of_b: Sequence[Product]
) -> Dict[str, Any]:
    """Return the verdicts that differ between two engines, each with products of its own."""
    found: Dict[str, Any] = {"images": sum(len(one.test) for one in a)}
    p_values: Tuple[List[float], List[float]] = ([], [])
    for one, other, product, other_product in zip(a, b, of_a, of_b):
        scores = [
            ProductScorer(of).score(measured.test.maps)[1]
            for measured, of in ((one, product), (other, other_product))
        ]
        calibrations = [Calibration(product.scores), Calibration(other_product.scores)]
        for rate in RATES:
            verdicts = [
                values > calibration.threshold_for(rate).score
                for values, calibration in zip(scores, calibrations)
            ]
            key = f"flips_at_{rate:g}"
            found[key] = found.get(key, 0) + int((verdicts[0] != verdicts[1]).sum())
        ps = [
            [calibration.p_value(float(value))[0] for value in values]
            for values, calibration in zip(scores, calibrations)
        ]
        for whole, part in zip(p_values, ps):
            whole.extend(part)
        found[f"rank_correlation_{one.name}"] = spearman(*map(np.array, ps))
    found["rank_correlation"] = spearman(*map(np.array, p_values))
    return found


def contamination(measured: Measured, generator: np.random.Generator) -> Optional[Dict[str, Any]]:
    """Return what planted defective images do, with and without cleaning."""
    count = round(_PLANTED * len(measured.good) / (1.0 - _PLANTED))
    defective = np.flatnonzero(measured.labels)
    if len(defective) < 2 * count:
        return None
    chosen = generator.permutation(defective)
    planted, others = measured.test.select(chosen[:count]), chosen[count:]
    rest = np.sort(np.concatenate([np.flatnonzero(~measured.labels), others]))
    mixed = _concatenate(measured.good, planted)
    kept = find_unsuspicious(mixed)
    listed = set(mixed.names) - {mixed.names[index] for index in kept}
    doubtful = {mixed.names[kept[index]] for index in find_doubtful(mixed.select(kept))}
    found: Dict[str, Any] = {
        "planted": count,
        "listed": len(listed & set(planted.names)),
        "good_listed": len(listed - set(planted.names)),
        "doubtful": len(doubtful & set(planted.names)),
        "good_doubtful": len(doubtful - set(planted.names)),
        "good": len(measured.good),
    }
    labels, test = measured.labels[rest], measured.test.select(rest)
    for key, images, clean in (
        ("without_defects", measured.good, False),
        ("contaminated", mixed, False),
        ("cleaned", mixed, True),
    ):
        product = learn(measured.name, images, measured.pasted, [], clean=clean)
        scores = ProductScorer(product).score(test.maps)[1]
        point = Calibration(product.scores).threshold_for(0.05)
        found[key] = {
            "auroc": image_auroc(labels, scores),
            "false_rejects": float((scores[~labels] > point.score).mean()),
        }
    return found


def _concatenate(first: GoodImages, second: GoodImages) -> GoodImages:
    return GoodImages(
        (*first.names, *second.names),
        Maps.join([first.maps, second.maps]),
        np.concatenate([first.embeddings, second.embeddings]),
    )


def _measure_all(
    engine: Union[Path, Engine], data: str
) -> Tuple[List[Measured], List[Product], Tuple[int, int]]:
    with load_engine(engine) if isinstance(engine, Path) else engine as loaded:
        sets = [measure(loaded, category) for category in read_dataset(data).categories]
        size = loaded.sidecar.image_size
    return sets, [learn(one.name, one.good, one.pasted, []) for one in sets], size


def _emulate_tensorrt(bundle: Bundle, like: Sidecar, data: str, folder: Path) -> Engine:
    """Return TensorRT's INT8 of a bundle, in ONNX Runtime without integer kernels."""
    model = FloatModel.load(bundle)
    source = make_source("images", Path(data), _CALIBRATION_IMAGES)
    prepared = calibrate_model(bundle, model, DEFAULT_CALIBRATOR, source)
    graph = quantize(
        prepared.float_model, prepared.ranges.tensors, Target.TENSORRT, rounding=prepared.rounded_weights
    )
    path = folder / "tensorrt.onnx"
    path.write_bytes(graph.SerializeToString())
    sidecar = dataclasses.replace(like, engine_sha256=sha256(path), precision=Precision.INT8)
    return EmulatedEngine(EngineFile(path, sidecar.engine_sha256), sidecar)


def main() -> None:
    """Measure and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--data", required=True)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--tensorrt", type=Path)
    parser.add_argument("--unseen")
    parser.add_argument("--name", default="decision")
    asked = parser.parse_args()
    generator = np.random.default_rng(0)
    sets, products, size = _measure_all(asked.engine, asked.data)
    figures: Dict[str, Any] = {"engine": asked.engine.name, "products": {}}
    rows = []
    for measured, product in zip(sets, products):
        found = quality(measured, product, size)
        found["coverage"] = list(coverage(measured, generator))
        found["contamination"] = contamination(measured, generator)
        found["collection_seconds"] = measured.seconds
        found["file_bytes"] = len(json.dumps(product, default=lambda one: one.__dict__))
        figures["products"][measured.name] = found
        rows.append(_row(measured, found))
    if asked.other is not None:
        other_sets, other_products, _ = _measure_all(asked.other, asked.data)
        figures["flips"] = flips(sets, other_sets, products, other_products)
        if asked.tensorrt is not None:
            with tempfile.TemporaryDirectory() as folder:
                like = read_sidecar(asked.other)
                emulated = _emulate_tensorrt(open_bundle(asked.tensorrt), like, asked.data, Path(folder))
                tensorrt_sets, tensorrt_products, _ = _measure_all(emulated, asked.data)
            figures["flips_tensorrt"] = flips(tensorrt_sets, other_sets, tensorrt_products, other_products)
    if asked.unseen is not None:
        more_sets, more_products, _ = _measure_all(asked.engine, asked.unseen)
        sets, products = [*sets, *more_sets], [*products, *more_products]
    figures["recognition"] = recognition(sets, products)
    headings = [
        "product",
        "good images",
        "way to score",
        "AUROC raw",
        "product",
        "pixel AUROC raw",
        "product",
    ]
    headings += ["AUPRO raw", "product", "rejected at 1 %", "at 2 %", "at 5 %", "missed at 5 %", "raw"]
    title = f"Decisions of {asked.engine.name}: products learned from good images alone"
    publish(asked.name, title, headings, rows, figures, read_environment())
    print(
        json.dumps(
            {key: figures[key] for key in ("flips", "flips_tensorrt", "recognition") if key in figures},
            indent=1,
        )
    )
    print(json.dumps({name: one["contamination"] for name, one in figures["products"].items()}, indent=1))


def _row(measured: Measured, found: Dict[str, Any]) -> List[str]:
    def number(value: Optional[float]) -> str:
        return "-" if value is None else f"{value:.3f}"

    pixel = found.get("raw_pixel", (None, None)), found.get("product_pixel", (None, None))
    rejected = []
    for rate in RATES:
        splits = [one for one in found["coverage"] if one["rate"] == rate]
        count, total = (sum(one[key] for one in splits) for key in ("rejected", "good"))
        low, high = clopper_pearson_interval(round(count / _SPLITS), round(total / _SPLITS))
        estimate = " (estimate)" if splits[0]["is_estimate"] else ""
        rejected.append(f"{100 * count / total:.1f} % ({100 * low:.1f} to {100 * high:.1f}){estimate}")
    splits = [one for one in found["coverage"] if one["rate"] == RATES[-1]]
    missed = [
        sum(one[key] for one in splits) / sum(one["defective"] for one in splits)
        for key in ("missed", "raw_missed")
    ]
    return [
        measured.name,
        str(len(measured.good)),
        found["way"],
        number(found["raw"]),
        number(found["product"]),
        *(number(value[place]) for place in (0, 1) for value in pixel),
        *rejected,
        *(f"{100 * value:.0f} %" for value in missed),
    ]


if __name__ == "__main__":
    main()
