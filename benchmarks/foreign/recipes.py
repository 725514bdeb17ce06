"""Recipes of the foreign models, as data: how each kind is built, trained and exported by its own tool.

No import of adq-edge and none of anomalib: both interpreters read this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Tuple

_RESNET = {"backbone": "resnet18"}


@dataclass(frozen=True)
class Recipe:
    """One kind of model.

    Args:
        method: class in `anomalib.models.image`.
        arguments: arguments of that class.
        epochs: epochs of training; 0 is the method's own number (one pass that collects features).
        batch: images per training step.
        images: training images, the first of the category by name.
        size: side of the model's input in pixels; 0 is the method's own.
        weights: origin of the backbone's weights, for the table.
        dominated: "convolutions", "attention" or "scoring": the part that takes most of the time.
        openvino: export to OpenVINO as well.
    """

    method: str
    arguments: Dict[str, Any] = field(default_factory=dict)
    epochs: int = 1
    batch: int = 8
    images: int = 31
    size: int = 256
    weights: str = "ImageNet to layer3"
    dominated: str = "convolutions"
    openvino: bool = False


RECIPES: Dict[str, Recipe] = {
    "padim": Recipe("Padim", _RESNET, openvino=True),
    "patchcore": Recipe(
        "Patchcore",
        {**_RESNET, "coreset_sampling_ratio": 0.05},
        images=12,
        dominated="scoring",
        openvino=True,
    ),
    "stfpm": Recipe("Stfpm", {}, epochs=16, openvino=True),
    "reverse_distillation": Recipe("ReverseDistillation", _RESNET, epochs=8, openvino=True),
    "efficient_ad": Recipe("EfficientAd", {}, epochs=1, batch=1, weights="random"),
    "fastflow": Recipe("Fastflow", {**_RESNET, "flow_steps": 4}, epochs=2),
    "supersimplenet": Recipe("Supersimplenet", _RESNET, epochs=3),
    "draem": Recipe("Draem", {}, epochs=1, batch=2, images=8, weights="none"),
    "cfa": Recipe("Cfa", _RESNET, epochs=1, images=12),
    "dfm": Recipe("Dfm", {**_RESNET, "pre_trained": True}),
    "dfkde": Recipe("Dfkde", {**_RESNET, "layers": ["layer3"], "n_pca_components": 8}),
    "ganomaly": Recipe("Ganomaly", {"batch_size": 4}, epochs=1, batch=4, images=8, size=128, weights="none"),
    "fre": Recipe("Fre", {**_RESNET, "input_dim": 16384, "latent_dim": 64}, epochs=3),
    "cflow": Recipe(
        "Cflow", {**_RESNET, "layers": ["layer2", "layer3"], "coupling_blocks": 4}, batch=4, images=16
    ),
    "dsr": Recipe("Dsr", {}, epochs=3, batch=2, images=4, weights="random"),
    "uninet": Recipe("UniNet", {}, batch=2, images=4, weights="random"),
    "dinomaly": Recipe(
        "Dinomaly",
        {"encoder_name": "vit_small_patch14_reg4_dinov2"},
        batch=4,
        images=8,
        size=0,
        weights="random",
        dominated="attention",
    ),
    "glass": Recipe("Glass", _RESNET, epochs=1, batch=2, images=8, size=0),
    "csflow": Recipe("Csflow", {}, batch=2, images=8, size=256, weights="random"),
    "uflow": Recipe("Uflow", {**_RESNET, "flow_steps": 2}, batch=2, images=16),
    "anomaly_dino": Recipe(
        "AnomalyDINO",
        {"encoder_name": "vit_small_patch14_dinov2", "coreset_subsampling": True, "sampling_ratio": 0.05},
        batch=4,
        images=8,
        size=252,
        weights="random",
        dominated="attention",
    ),
}

ANOMAVISION: Tuple[str, ...] = ("anomavision_padim", "anomavision_patchcore", "anomavision_efficientad")
"""Kinds of AnomaVision, exported by `anomavision.py`."""

CATEGORIES: Tuple[str, ...] = ("cookie", "magnetic_tile")
