"""The result of `predict` for one image, and its JSON line."""

from __future__ import annotations

import dataclasses
from typing import Any, Dict, Optional, Tuple

import numpy as np

from adq_edge.decision.inspector import Inspection, Verdict
from adq_edge.decision.regions import Region

GOOD, ANOMALOUS = "good", "anomalous"
SCHEMA, VERSION = "adq-edge/prediction", 1
"""Schema and version of the JSON lines; docs/predict-json.md describes each field."""

_ANOMALOUS = {Verdict.GOOD: False, Verdict.DEFECTIVE: True}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The result of one image.

    Attributes:
        image: the image file, or `array 0` for the first input if it is an array.
        score: the anomaly score of the engine, finite; None if the image was not scored.
        threshold: the threshold in effect. For an engine with products, higher values of `normalized_score`
            are defective. For others, values of `score` from it on are anomalous. None if there is none.
        anomalous: True if the image is defective or anomalous; None if it is neither that nor good.
        heat_map: the heat-map overlay; None if none was written.
        error: why the image cannot be judged: it could not be read, its score or map is NaN or infinite, or
            the engine has neither products nor a threshold. None if it was judged.
        anomaly_map: the engine's anomaly map, float32 `[h, w]`, finite, of the map size in the engine's
            sidecar; None if the image was not scored.
        inspection: product, p-value, regions and the product's map; None for an engine without products.
    """

    image: str
    score: Optional[float] = None
    threshold: Optional[float] = None
    anomalous: Optional[bool] = None
    heat_map: Optional[str] = None
    error: Optional[str] = None
    anomaly_map: Optional[np.ndarray] = dataclasses.field(default=None, repr=False, compare=False)
    inspection: Optional[Inspection] = None

    @classmethod
    def of(cls, inspection: Inspection) -> Prediction:
        """Return the prediction of an engine with products."""
        cannot_judge = inspection.verdict is Verdict.CANNOT_JUDGE
        return cls(
            image=inspection.image,
            score=inspection.raw_score,
            threshold=inspection.threshold,
            anomalous=_ANOMALOUS.get(inspection.verdict),
            error=inspection.reason if cannot_judge else None,
            anomaly_map=inspection.raw_map,
            inspection=inspection,
        )

    @property
    def verdict(self) -> Optional[str]:
        """The verdict; an image that cannot be judged is never good.

        `good`, `defective`, `unknown product` or `cannot judge` for an engine with products; `good`,
        `anomalous` or None for others.
        """
        if self.inspection is not None:
            return self.inspection.verdict.value
        if self.anomalous is None:
            return None
        return ANOMALOUS if self.anomalous else GOOD

    @property
    def product(self) -> Optional[str]:
        """The product; the nearest one for an unknown product; None if it is not known."""
        return None if self.inspection is None else self.inspection.product

    @property
    def normalized_score(self) -> Optional[float]:
        """The score relative to the product's good images: 0 their median, 1 about a standard deviation."""
        return None if self.inspection is None else self.inspection.score

    @property
    def p_value(self) -> Optional[float]:
        """The share of the product's good images that score as high or higher."""
        return None if self.inspection is None else self.inspection.p_value

    @property
    def regions(self) -> Tuple[Region, ...]:
        """The regions of the product's map above its threshold, highest peak first."""
        return () if self.inspection is None else self.inspection.regions

    def fields(self) -> Dict[str, Any]:
        """Return the fields of the JSON line: all but the maps."""
        found = self.inspection or Inspection(self.image, Verdict.CANNOT_JUDGE, reason=self.error)
        return {
            "schema": SCHEMA,
            "version": VERSION,
            "image": self.image,
            "verdict": self.verdict,
            "score": self.score,
            "threshold": self.threshold,
            "anomalous": self.anomalous,
            "heat_map": self.heat_map,
            "error": self.error,
            "product": found.product,
            "product_distance": found.product_distance,
            "normalized_score": found.score,
            "p_value": found.p_value,
            "p_value_is_estimate": None if found.p_value is None else found.p_value_is_estimate,
            "false_rejects": found.false_rejects,
            "regions": [region.fields() for region in found.regions],
            "reason": found.reason,
        }
