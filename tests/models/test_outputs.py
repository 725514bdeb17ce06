"""The embedding and the scale maps of each method."""

from __future__ import annotations

from typing import Any, Callable, Dict

import pytest
import torch
from torch.nn import functional

from adq_edge.models.base import AnomalyModel
from adq_edge.models.config import ModelConfig
from adq_edge.models.paste import PaSTe
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.models.uninformed_students import UninformedStudents


def students(**options: Any) -> UninformedStudents:
    model = UninformedStudents(ModelConfig(image_size=(40, 48), options={"students": 2, **options}))
    for name, value in (
        ("error_mean", 0.5),
        ("error_std", 2.0),
        ("variance_mean", 0.1),
        ("variance_std", 3.0),
    ):
        getattr(model, name).fill_(value)
    return model


METHODS: Dict[str, Callable[[], AnomalyModel]] = {
    "STFPM": lambda: STFPM(ModelConfig(image_size=(32, 64))),
    "STFPM, anomalib": lambda: STFPM(ModelConfig(image_size=(32, 64), fusion="anomalib")),
    "PaSTe": lambda: PaSTe(ModelConfig(image_size=(32, 64))),
    "PaSTe, two maps": lambda: PaSTe(
        ModelConfig(
            image_size=(32, 64), options={"shared": "layer1", "layers": "layer2,layer3", "width": "0.5"}
        )
    ),
    "Reverse Distillation": lambda: ReverseDistillation(
        ModelConfig(image_size=(64, 32), options={"backbone": "resnet18"})
    ),
    "Uninformed Students, four shifted grids": lambda: students(stride=2),
    "Uninformed Students, one grid, leaky": lambda: students(stride=4, decoder="leaky", border="zeros"),
}
SIZES = {
    "STFPM": [(8, 16), (4, 8), (2, 4)],
    "STFPM, anomalib": [(8, 16), (4, 8), (2, 4)],
    "PaSTe": [(8, 16), (4, 8), (2, 4)],
    "PaSTe, two maps": [(4, 8), (2, 4)],
    "Reverse Distillation": [(16, 8), (8, 4), (4, 2)],
    "Uninformed Students, four shifted grids": [(4, 8)] * 2,
    "Uninformed Students, one grid, leaky": [(10, 12)] * 2,
}


def fused(model: AnomalyModel, maps: Any) -> torch.Tensor:
    """Return the anomaly map by the published formula, without its border."""
    height, width = model.config.image_size

    def enlarge(scale_map: torch.Tensor, side: int) -> torch.Tensor:
        size = (side, side * width // height)
        return functional.interpolate(scale_map[:, None], size, mode="bilinear", align_corners=False)[:, 0]

    if isinstance(model, STFPM):
        is_official = model.config.fusion == "official"
        side, factor = (height // 4, 1.0) if is_official else (height, 0.5)
        return torch.stack([enlarge(factor * scale_map, side) for scale_map in maps]).prod(0)
    if isinstance(model, PaSTe):
        side = maps[0].shape[1]
        return enlarge(maps[-1], side) * torch.stack([enlarge(m, side) for m in maps[:-1]]).prod(0).sqrt()
    if isinstance(model, ReverseDistillation):
        return sum(enlarge(scale_map) for enlarge, scale_map in zip(model.enlarge, maps))
    assert isinstance(model, UninformedStudents)
    stride = float(model.grid.stride)
    total = (maps[0] + maps[1])[:, None]
    return functional.interpolate(total, scale_factor=stride, mode="bilinear", align_corners=False)[:, 0]


@pytest.mark.parametrize("name", METHODS)
def test_scale_maps_make_the_map_and_the_embedding_is_the_mean_feature_of_each_image(name: str):
    torch.manual_seed(0)
    model = METHODS[name]().eval()
    images = torch.randint(0, 256, (3, *model.config.image_size, 3), dtype=torch.uint8)
    images[1] //= 8
    with torch.inference_mode():
        anomaly_map, score, embedding, *maps = model(images)
        single = [model(images[i : i + 1]) for i in range(3)]
        features = [model.networks(model.normalize(images[i : i + 1])) for i in range(3)]
    assert len(maps) == model.scales
    assert [tuple(scale_map.shape[1:]) for scale_map in maps] == SIZES[name]
    expected = fused(model, maps)
    margin = (anomaly_map.shape[1] - expected.shape[1]) // 2
    inside = anomaly_map[:, margin : margin + expected.shape[1], margin : margin + expected.shape[2]]
    torch.testing.assert_close(inside, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    torch.testing.assert_close(score, anomaly_map.amax((1, 2)))
    deep = 0 if isinstance(model, UninformedStudents) else model.scales - 1
    means = torch.stack([feature[deep].movedim(1, 0).flatten(1).mean(1) for feature in features])
    torch.testing.assert_close(embedding, means, rtol=1e-4, atol=1e-5)
    for number, outputs in enumerate(single):
        for whole, alone in zip((embedding, *maps), outputs[2:]):
            torch.testing.assert_close(whole[number : number + 1], alone, rtol=1e-3, atol=1e-5)
