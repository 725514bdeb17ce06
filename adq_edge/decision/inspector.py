"""Inspect images: product, score, p-value, verdict and regions, from an engine and its products."""

from __future__ import annotations

import dataclasses
import enum
import math
import os
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts.products import (
    FIT_AGAIN,
    LabeledThreshold,
    Product,
    Products,
    listed,
    products_path,
    read_products,
)
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.images.arrays import RGB, as_rgb, check_color, not_an_image
from adq_edge.core.images.imaging import read_product_image, resize_image
from adq_edge.core.text import command_line, number_of
from adq_edge.decision.arguments import check_area, check_rate, require_batch, require_same_sizes
from adq_edge.decision.collection import embeddings_of
from adq_edge.decision.conformal import Calibration, RateThreshold, images_needed, percent
from adq_edge.decision.maps import Maps
from adq_edge.decision.normal import ProductScorer
from adq_edge.decision.recognition import Recognized, Recognizer
from adq_edge.decision.regions import Region, find_regions
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.single_image import is_finite

ImageSource = Union[str, Path, np.ndarray]
"""An image file, or a uint8 array `[H, W, 3]`, or `[H, W]` for a gray image, of any size."""


class Verdict(str, enum.Enum):
    """What an inspection finds."""

    GOOD = "good"
    DEFECTIVE = "defective"
    UNKNOWN_PRODUCT = "unknown product"
    CANNOT_JUDGE = "cannot judge"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """The result of one image.

    Attributes:
        image: the image file, or `array 0` for the first array of a call.
        verdict: the verdict; an image that cannot be judged is never good.
        product: the product; the nearest one for an unknown product; None if the image was not scored.
        product_distance: distance of the image's embedding from the product, 1 for the largest that counts
            as known; None if the image was not scored.
        raw_score: score of the engine.
        score: score relative to the product's good images: 0 is their median, 1 about a standard deviation.
        p_value: share of the product's good images that score as high or higher.
        p_value_is_estimate: True if the p-value is from the estimated tail.
        threshold: images with a higher score are defective.
        false_rejects: the share of good parts that the threshold may reject; None for a threshold that was
            chosen with labeled defects.
        regions: regions of the map above the threshold, highest first.
        reason: why the image cannot be judged, or is of an unknown product.
        map_threshold: values of `anomaly_map` above it belong to a region.
        anomaly_map: the product's map, float32 `[h, w]`, in units of `score`.
        raw_map: the engine's map, float32 `[h, w]`.
    """

    image: str
    verdict: Verdict
    product: Optional[str] = None
    product_distance: Optional[float] = None
    raw_score: Optional[float] = None
    score: Optional[float] = None
    p_value: Optional[float] = None
    p_value_is_estimate: bool = False
    threshold: Optional[float] = None
    false_rejects: Optional[float] = None
    regions: Tuple[Region, ...] = ()
    reason: Optional[str] = None
    map_threshold: Optional[float] = None
    anomaly_map: Optional[np.ndarray] = dataclasses.field(default=None, repr=False, compare=False)
    raw_map: Optional[np.ndarray] = dataclasses.field(default=None, repr=False, compare=False)


@dataclasses.dataclass(frozen=True)
class _Judge:
    """The scorer and thresholds of one product."""

    product: Product
    scorer: ProductScorer
    scores: Calibration
    at_rate: RateThreshold
    map_threshold: float

    @classmethod
    def of(cls, product: Product, rate: float) -> _Judge:
        scores = Calibration(product.scores)
        point = scores.threshold_for(rate)
        peaks = point if product.peaks == product.scores else Calibration(product.peaks).threshold_for(rate)
        return cls(product, ProductScorer(product), scores, point, peaks.score)

    @property
    def has_own_map_score(self) -> bool:
        """True if the score is the largest value of the map."""
        return self.product.peaks == self.product.scores


class Inspector:
    """Inspects images with an engine and its products; a context manager. Any number of threads may call it.

    Args:
        engine: the loaded engine; closed with the inspector.
        products: its products.
        false_rejects: share of good parts that may be rejected; that of the products file by default.
        min_area: smallest area of a region, in pixels of the image. Above 0, an image is defective only
            if it has a region of this size.
        min_share: the same as a share of the image, 0 to 1; the larger of the two areas is used.
        product: the product on all images; by default it is recognized for each image.

    Attributes:
        product_index: position of the product of all images; None if it is recognized.

    Raises:
        EngineError: no products, no such product, or products of an engine with other outputs.
        AdqError: an impossible rate or area.
    """

    def __init__(
        self,
        engine: Engine,
        products: Products,
        *,
        false_rejects: Optional[float] = None,
        min_area: float = 0.0,
        min_share: float = 0.0,
        product: Optional[str] = None,
    ) -> None:
        check_rate(false_rejects)
        check_area(min_area, min_share)
        if not products.products:
            raise EngineError("has no products", where=products_path(engine.path), fix=FIT_AGAIN)
        require_same_sizes(engine, products)
        self.engine, self.products = engine, products
        self.false_rejects = products.false_rejects if false_rejects is None else false_rejects
        self._uses_labels = false_rejects is None
        self._min_area, self._min_share = min_area, min_share
        self._judges = [_Judge.of(one, self.false_rejects) for one in products.products]
        self._recognizer = Recognizer(products.products)
        self.product_index = None if product is None else self.index_of(product)

    def index_of(self, product: str) -> int:
        """Return the position of a product.

        Raises:
            EngineError: no such product.
        """
        if product not in self.products.names:
            known = listed(self.products.names)
            fix = f"Products: {known}. Add it: adq-edge fit ENGINE --product NAME --good DIR"
            raise EngineError(f"has no product {product!r}", where=products_path(self.engine.path), fix=fix)
        return self.products.names.index(product)

    def rate_threshold(self, product: str) -> RateThreshold:
        """Return the threshold of a product for the false-reject rate."""
        return self._judges[self.index_of(product)].at_rate

    @property
    def notes(self) -> List[str]:
        """A note on the products whose threshold is an estimate: too few good images to promise the rate."""
        judges = ((judge, self._thresholds(judge)[2]) for judge in self._judges)
        few = [judge.product for judge, rate in judges if rate is not None and judge.at_rate.is_estimate]
        if not few:
            return []
        names = listed([f"{one.name} (from {number_of(one.images, 'good image')})" for one in few])
        rate, needed = percent(self.false_rejects), images_needed(self.false_rejects)
        return [f"about {rate} of good parts rejected, an estimate, for {names}; {needed} promise {rate}"]

    def thresholds_in_force(self, product: str) -> Tuple[float, float]:
        """Return the thresholds of a product's score and of its map."""
        score, of_map, _ = self._thresholds(self._judges[self.index_of(product)])
        return score, of_map

    def largest_known_distance(self, product: str) -> float:
        """Return the largest distance of an embedding from a product's mean that counts as known."""
        return self._recognizer.largest_known(self.index_of(product))

    def labeled_threshold(self, product: str) -> Optional[LabeledThreshold]:
        """Return a product's threshold from labeled images if it is in force, else None."""
        return self._judges[self.index_of(product)].product.threshold if self._uses_labels else None

    def recognize(self, output: Output, batch: np.ndarray) -> Recognized:
        """Return the product nearest to an image; arguments as in `judge`, with a finite output."""
        return self._recognizer.recognize(embeddings_of(output, batch)[0])

    def inspect(self, image: ImageSource, *, product: Optional[str] = None, color: str = RGB) -> Inspection:
        """Inspect one image.

        A file that cannot be read, or an output that is not finite, gives the verdict `cannot judge`.

        Args:
            image: the image.
            product: the product on it; by default that of the inspector, or the recognized one.
            color: order of the channels of an array: `rgb`, or `bgr` as OpenCV reads them.

        Raises:
            DataError: an array of another type or shape, or neither a path nor an array.
            EngineError: no such product, or the runtime cannot run the engine.
        """
        return self.inspect_batch([image], product=product, color=color)[0]

    def inspect_batch(
        self,
        images: Union[np.ndarray, Sequence[ImageSource]],
        *,
        product: Optional[str] = None,
        color: str = RGB,
    ) -> List[Inspection]:
        """Inspect several images, one after the other; arguments and errors as in `inspect`.

        Args:
            images: files or arrays, also uint8 `[N, H, W, 3]`, or `[N, H, W, 1]` for gray images.
            product: the product on all of them.
            color: order of the channels of all arrays.
        """
        check_color(color)
        require_batch(images)
        index = self.product_index if product is None else self.index_of(product)
        return [self._inspect_source(image, number, index, color) for number, image in enumerate(images)]

    def _inspect_source(
        self, image: ImageSource, number: int, index: Optional[int], color: str
    ) -> Inspection:
        if isinstance(image, np.ndarray):
            name = f"array {number}"
            return self.inspect_pixels(as_rgb(image, color, name), name, index)
        if not isinstance(image, (str, os.PathLike)):
            raise not_an_image(image, f"image {number}")
        try:
            pixels = read_product_image(image)
        except AdqError as error:
            return Inspection(str(image), Verdict.CANNOT_JUDGE, reason=str(error))
        return self.inspect_pixels(pixels, str(image), index)

    def inspect_pixels(self, pixels: np.ndarray, name: str, index: Optional[int] = None) -> Inspection:
        """Inspect a uint8 `[H, W, 3]` RGB image of the product at `index`; None recognizes it."""
        batch = resize_image(pixels, self.engine.sidecar.image_size)[None]
        return self.judge(self.engine.run(batch), batch, (pixels.shape[0], pixels.shape[1]), name, index)

    def judge(
        self,
        output: Output,
        batch: np.ndarray,
        image_size: Tuple[int, int],
        name: str,
        index: Optional[int] = None,
    ) -> Inspection:
        """Judge the engine's output for one image.

        Args:
            output: the output.
            batch: uint8 `[1, H, W, 3]`, the input of the engine.
            image_size: (height, width) of the image in pixels, for the regions.
            name: the name of the image.
            index: position of its product; None to recognize it.
        """
        raw_score, raw_map = float(output.scores[0]), output.maps[0]
        embedding = embeddings_of(output, batch)[0]
        if not is_finite(output):
            why = f"{self.engine.path}: an output is NaN or infinite. Build it in a higher precision."
            return Inspection(name, Verdict.CANNOT_JUDGE, reason=why)
        if index is None:
            found = self._recognizer.recognize(embedding)
        else:
            found = self._recognizer.relative_distance(index, embedding)
        judge = self._judges[found.index]
        with np.errstate(over="ignore", invalid="ignore"):  # huge outputs; the check is below
            fused, scores = judge.scorer.score(Maps.of(output))
        score, product = float(scores[0]), judge.product.name
        if not (math.isfinite(score) and np.isfinite(fused).all()):
            why = f"{self.engine.path}: its score as {product!r} is too large to compare. {FIT_AGAIN}."
            return Inspection(name, Verdict.CANNOT_JUDGE, reason=why)
        p_value, is_estimate = judge.scores.p_value(score)
        threshold, map_threshold, rate = self._thresholds(judge)
        pixels = image_size[0] * image_size[1]
        min_area = max(self._min_area, self._min_share * pixels)
        if min_area >= pixels:
            why = (
                f"no region of the image has the smallest area of {min_area:g} pixels: it has {pixels} pixels"
            )
            return Inspection(name, Verdict.CANNOT_JUDGE, reason=why)
        regions = find_regions(fused[0], map_threshold, image_size, min_area)
        is_unknown = index is None and not found.is_known
        verdict = Verdict.DEFECTIVE if score > threshold else Verdict.GOOD
        if verdict is Verdict.DEFECTIVE and min_area > 0.0 and not regions:
            verdict = Verdict.GOOD
        reason: Optional[str] = None
        if is_unknown:
            verdict = Verdict.UNKNOWN_PRODUCT
            reason = (
                f"{found.distance:.2g} times the largest known distance from the nearest product, {product!r}"
            )
        return Inspection(
            image=name,
            verdict=verdict,
            product=product,
            product_distance=found.distance,
            raw_score=raw_score,
            score=score,
            p_value=p_value,
            p_value_is_estimate=is_estimate,
            threshold=threshold,
            false_rejects=rate,
            regions=regions,
            reason=reason,
            map_threshold=map_threshold,
            anomaly_map=fused[0],
            raw_map=raw_map,
        )

    def _thresholds(self, judge: _Judge) -> Tuple[float, float, Optional[float]]:
        """Return the thresholds of score and map, and their false-reject rate; None if labels chose them."""
        labeled = judge.product.threshold
        if labeled is None or not self._uses_labels:
            return judge.at_rate.score, judge.map_threshold, self.false_rejects
        if judge.has_own_map_score:
            return labeled.score, labeled.score, None
        return labeled.score, judge.map_threshold, None

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def load_inspector(
    engine: Union[str, Path],
    *,
    false_rejects: Optional[float] = None,
    min_area: float = 0.0,
    min_share: float = 0.0,
    product: Optional[str] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
) -> Inspector:
    """Load an engine and its products; arguments and errors as of `Inspector` and `load_engine`.

    Raises:
        EngineError: the engine has no products, or they were fitted on another engine or runtime.
    """
    check_rate(false_rejects)
    loaded = load_engine(Path(engine), runtime=runtime, threads=threads)
    try:
        products = usable_products(loaded)
        if products is None:
            fix = f"Learn them from good images: {command_line('fit', loaded.path, '--data', 'DIR')}"
            raise EngineError("has no products", where=loaded.path, fix=fix)
        return Inspector(
            loaded,
            products,
            false_rejects=false_rejects,
            min_area=min_area,
            min_share=min_share,
            product=product,
        )
    except BaseException:
        loaded.close()
        raise


def usable_products(engine: Engine) -> Optional[Products]:
    """Return the products of a loaded engine; None if none were fitted.

    Raises:
        EngineError: they are damaged, or were fitted on another engine file or runtime.
    """
    products = read_products(engine.path, engine.sidecar.engine_sha256)
    if products is not None and products.runtime != engine.runtime:
        what = f"its products were fitted with {products.runtime}, not with {engine.runtime}"
        raise EngineError(what, where=products_path(engine.path), fix="Omit --runtime, or fit them again")
    return products
