"""`predict`: judges images one after the other, with the engine's products or its threshold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Iterable, Iterator, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import AdqError, EngineError
from adq_edge.core.files import check_writable
from adq_edge.core.images.arrays import RGB
from adq_edge.core.images.heat_map_files import write_heat_map
from adq_edge.core.images.imaging import overlay
from adq_edge.core.text import command_line
from adq_edge.decision.arguments import check_area, check_rate
from adq_edge.decision.inspector import Inspection, Inspector, Verdict, usable_products
from adq_edge.evaluation.image_inputs import Image, ImageInput, open_inputs, product_of_folder
from adq_edge.evaluation.judge import judge_by_threshold
from adq_edge.evaluation.overlays import draw_inspection, red_level
from adq_edge.evaluation.prediction import Prediction
from adq_edge.evaluation.thresholds import explain_missing_threshold, usable_threshold
from adq_edge.runtimes.base import Engine
from adq_edge.runtimes.registry import load_engine
from adq_edge.runtimes.single_image import run_engine


@dataclasses.dataclass(frozen=True)
class DecisionOptions:
    """How an engine with products decides.

    Attributes:
        false_rejects: share of good parts that may be rejected, above 0 and below 1; that of the products
            file by default.
        min_area: smallest area of a region in pixels of the image; a part without one is not defective.
        min_share: the same as a share of the image, 0 to 1.
        product: the product on all images; recognized by default.
        product_from_folder: True if the nearest folder above an image that has the name of a product
            names its product.
    """

    false_rejects: Optional[float] = None
    min_area: float = 0.0
    min_share: float = 0.0
    product: Optional[str] = None
    product_from_folder: bool = False

    def check(self) -> None:
        """Raise an AdqError if two options exclude each other, or a rate or area is impossible."""
        check_rate(self.false_rejects)
        check_area(self.min_area, self.min_share)
        if self.product is not None and self.product_from_folder:
            raise AdqError("--product and --product-from-folder exclude each other", fix="Give one of them")

    @property
    def _given(self) -> str:
        """The options that are set, for messages."""
        options = {
            "--false-rejects": self.false_rejects is not None,
            "--min-area": self.min_area > 0.0 or self.min_share > 0.0,
            "--product": self.product is not None,
            "--product-from-folder": self.product_from_folder,
        }
        return ", ".join(name for name, is_given in options.items() if is_given)

    def inspector(self, engine: Engine) -> Optional[Inspector]:
        """Return the inspector of an engine; None if it has no products and none of the options is set.

        Raises:
            AdqError: two options exclude each other, or a rate or area is impossible.
            EngineError: an option is set and the engine has no products, or they are of another engine.
        """
        self.check()
        products = usable_products(engine)
        if products is None:
            if not self._given:
                return None
            fix = f"Learn them from good images: {command_line('fit', engine.path, '--data', 'DIR')}"
            raise EngineError(f"{self._given} needs products, it has none", where=engine.path, fix=fix)
        return Inspector(
            engine,
            products,
            false_rejects=self.false_rejects,
            min_area=self.min_area,
            min_share=self.min_share,
            product=self.product,
        )


def predict(
    engine: Optional[Union[Engine, Inspector, str, Path]],
    images: Union[ImageInput, Iterable[ImageInput]],
    *,
    output: Optional[Union[str, Path]] = workspace.PREDICTIONS,
    color: str = RGB,
    false_rejects: Optional[float] = None,
    min_area: float = 0.0,
    min_share: float = 0.0,
    product: Optional[str] = None,
    product_from_folder: bool = False,
) -> Iterator[Prediction]:
    """Judge images one after the other.

    An engine with products (`fit`) judges each image as a part of its product. Any other engine compares the
    score with the threshold that `eval` stored. An image that cannot be read or judged gives a prediction
    with an error; the others go on.

    Args:
        engine: a loaded engine, an inspector, an engine file, or None for the newest in `engines/`. With an
            inspector, the products file is not read again at each call.
        images: an image file, a folder, an image array, or any number of them; a generator is read image by
            image. A folder is read with all folders below it. Hidden files and heat maps of `predict` are
            skipped. An array is uint8 `[H, W, 3]`, or `[H, W]` for a gray image, of any size.
        output: folder for the heat-map overlays; None to write none. Each overlay is a new file, and the
            folders of the images are kept: no file is ever overwritten.
        color: order of the channels of arrays: `rgb`, or `bgr` as OpenCV reads them. Files need no order.
        false_rejects: share of good parts that may be rejected, above 0 and below 1; that of the products
            file by default.
        min_area: smallest area of a region in pixels of the image; a part without one is not defective.
        min_share: the same as a share of the image, 0 to 1.
        product: the product on all images; recognized by default.
        product_from_folder: True if the nearest folder above an image that has the name of a product
            names its product.

    An inspector has its own rate, area and product; these arguments are for the others.

    Returns:
        An iterator with one prediction per image, in order. Each keeps its maps in memory.

    Raises:
        DataError: a folder without images, an array of another type or shape, or no folder above an image
            that names a product.
        EngineError: no such engine, or it cannot be loaded; no such product; its products are damaged or of
            another engine; it has none, and one of the last five arguments is given.
        AdqError: an impossible rate or area.
        StorageError: a heat map cannot be written.
    """
    inputs = open_inputs(images, color)
    folder = None if output is None else Path(output)
    if folder is not None:
        check_writable(folder / "heat_map.png")
    options = DecisionOptions(false_rejects, min_area, min_share, product, product_from_folder)
    options.check()
    if isinstance(engine, Inspector):
        if options != DecisionOptions(product_from_folder=product_from_folder):
            what = "an inspector has its own rate, area and product"
            raise AdqError(what, where="predict", fix="Give them to load_inspector")
        return map(_with_products(engine, product_from_folder, inputs, folder).predict, inputs)
    if isinstance(engine, Engine):
        return map(_predictor(engine, options, inputs, folder).predict, inputs)
    loaded = load_engine(workspace.latest_engine() if engine is None else Path(engine))
    try:
        predictor = _predictor(loaded, options, inputs, folder)
    except BaseException:
        loaded.close()
        raise
    return _predict_and_close(predictor, inputs)


def _predictor(
    engine: Engine, options: DecisionOptions, inputs: Iterable[Image], output: Optional[Path]
) -> Union[_ProductPredictor, _ThresholdPredictor]:
    inspector = options.inspector(engine)
    if inspector is not None:
        return _with_products(inspector, options.product_from_folder, inputs, output)
    threshold = usable_threshold(engine)
    error = explain_missing_threshold(engine) if threshold is None else None
    return _ThresholdPredictor(engine, output, threshold, error)


def _with_products(
    inspector: Inspector, from_folder: bool, inputs: Iterable[Image], output: Optional[Path]
) -> _ProductPredictor:
    names = inspector.products.names if from_folder else None
    if names is not None and isinstance(inputs, Sequence):
        for image in inputs:
            product_of_folder(image, names)
    return _ProductPredictor(inspector.engine, output, inspector, names)


def _predict_and_close(
    predictor: Union[_ProductPredictor, _ThresholdPredictor], images: Iterable[Image]
) -> Iterator[Prediction]:
    with predictor.engine:
        yield from map(predictor.predict, images)


@dataclasses.dataclass(frozen=True)
class _ThresholdPredictor:
    """Judges images with the threshold of an engine without products.

    Attributes:
        engine: the loaded engine.
        output: folder for the heat maps; None to write none.
        threshold: its usable threshold.
        error: why there is no usable threshold; None if there is one.
    """

    engine: Engine
    output: Optional[Path]
    threshold: Optional[Threshold]
    error: Optional[str]

    def predict(self, image: Image) -> Prediction:
        """Return the result of one image."""
        score = None if self.threshold is None else self.threshold.score
        try:
            pixels = image.read()
            output = run_engine(self.engine, pixels, image.name)
        except AdqError as error:
            return Prediction(image.name, threshold=score, error=str(error))
        found = judge_by_threshold(output, image.name, self.threshold, self.error)
        if self.output is None:
            return found
        red = red_level(output.maps[0], self.threshold)
        return _with_heat_map(found, image, overlay(pixels, output.maps[0], 0.0, red), self.output)


@dataclasses.dataclass(frozen=True)
class _ProductPredictor:
    """Judges images with the products of an engine.

    Attributes:
        engine: the loaded engine.
        output: folder for the heat maps; None to write none.
        inspector: engine and products.
        folder_names: the products that folders of images may name; None to ignore the folders.
    """

    engine: Engine
    output: Optional[Path]
    inspector: Inspector
    folder_names: Optional[Tuple[str, ...]]

    def predict(self, image: Image) -> Prediction:
        """Return the result of one image."""
        try:
            index = self.inspector.product_index
            if self.folder_names is not None:
                index = self.inspector.index_of(product_of_folder(image, self.folder_names))
            pixels = image.read()
            inspection = self.inspector.inspect_pixels(pixels, image.name, index)
        except AdqError as error:
            return Prediction.of(Inspection(image.name, Verdict.CANNOT_JUDGE, reason=str(error)))
        found = Prediction.of(inspection)
        if self.output is None or inspection.anomaly_map is None:
            return found
        return _with_heat_map(found, image, draw_inspection(pixels, inspection), self.output)


def _with_heat_map(found: Prediction, image: Image, drawn: np.ndarray, output: Path) -> Prediction:
    heat_map = write_heat_map(output / image.subfolder, image.stem, drawn)
    return dataclasses.replace(found, heat_map=str(heat_map))
