"""Judge the outputs of an engine, with its products or with its threshold; for servers and packages."""

from __future__ import annotations

import dataclasses
from typing import Optional, Tuple

import numpy as np

from adq_edge.artifacts.sidecar import Threshold
from adq_edge.core.errors import EngineError
from adq_edge.core.images.imaging import resize_image
from adq_edge.core.text import command_line
from adq_edge.decision.inspector import Inspection, Inspector, Verdict
from adq_edge.evaluation.prediction import Prediction
from adq_edge.evaluation.thresholds import explain_missing_threshold, usable_threshold
from adq_edge.runtimes.base import Engine, Output
from adq_edge.runtimes.single_image import is_finite


@dataclasses.dataclass(frozen=True)
class Judge:
    """An engine and what decides on its outputs; any number of threads may call it.

    Attributes:
        engine: the engine.
        inspector: the engine with its products; None if it has none.
        threshold: the threshold of an engine without products; None if there is none.
        error: why there is no verdict; None if there is one.
    """

    engine: Engine
    inspector: Optional[Inspector]
    threshold: Optional[Threshold]
    error: Optional[str]

    @classmethod
    def of(cls, engine: Engine, inspector: Optional[Inspector]) -> Judge:
        """Return the judge of an engine, with the inspector of its products if it has any."""
        threshold = None if inspector is not None else usable_threshold(engine)
        is_missing = inspector is None and threshold is None
        return cls(engine, inspector, threshold, explain_missing_threshold(engine) if is_missing else None)

    @property
    def products(self) -> Tuple[str, ...]:
        """The names of the products; empty without products."""
        return () if self.inspector is None else self.inspector.products.names

    def inspect(self, pixels: np.ndarray, name: str, product: Optional[str] = None) -> Prediction:
        """Judge an image of any size.

        Args:
            pixels: uint8 `[H, W, 3]` RGB.
            name: the name of the image.
            product: the product on it; recognized by default.

        Raises:
            EngineError: no such product, or the runtime cannot run the engine.
        """
        batch = resize_image(pixels, self.engine.sidecar.image_size)[None]
        size = (pixels.shape[0], pixels.shape[1])
        return self.judge(self.engine.run(batch), batch, size, name, product)

    def judge(
        self,
        output: Output,
        batch: np.ndarray,
        image_size: Tuple[int, int],
        name: str,
        product: Optional[str] = None,
    ) -> Prediction:
        """Judge the output of the engine for one image.

        Args:
            output: the output.
            batch: uint8 `[1, H, W, 3]`, the input of the engine.
            image_size: (height, width) of the image in pixels, for the regions.
            name: the name of the image.
            product: the product on it; recognized by default.

        Raises:
            EngineError: no such product.
        """
        if self.inspector is not None:
            index = self.inspector.product_index if product is None else self.inspector.index_of(product)
            return Prediction.of(self.inspector.judge(output, batch, image_size, name, index))
        if product is not None:
            fix = f"Learn them from good images: {command_line('fit', self.engine.path, '--data', 'DIR')}"
            raise EngineError("has no products", where=self.engine.path, fix=fix)
        return judge_by_threshold(output, name, self.threshold, self.error)

    def refuse(self, name: str, reason: str) -> Prediction:
        """Return the prediction of an image that cannot be judged."""
        if self.inspector is None:
            return Prediction(name, threshold=self._score, error=reason)
        return Prediction.of(Inspection(name, Verdict.CANNOT_JUDGE, reason=reason))

    @property
    def _score(self) -> Optional[float]:
        return None if self.threshold is None else self.threshold.score


def judge_by_threshold(
    output: Output, name: str, threshold: Optional[Threshold], error: Optional[str]
) -> Prediction:
    """Return the prediction of an engine without products for one image.

    Args:
        output: the output.
        name: the name of the image.
        threshold: the threshold of the engine; None if there is none.
        error: why there is none.
    """
    limit = None if threshold is None else threshold.score
    if not is_finite(output):
        reason = "an output is NaN or infinite. Build the engine in a higher precision."
        return Prediction(name, threshold=limit, error=f"{name}: {reason}")
    score = float(output.scores[0])
    return Prediction(
        image=name,
        score=score,
        threshold=limit,
        anomalous=None if limit is None else score >= limit,
        error=error,
        anomaly_map=np.array(output.maps[0]),  # the engine may use its memory again
    )
