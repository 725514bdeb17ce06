"""Reverse Distillation: a decoder learns to reconstruct a teacher's features from a one-class embedding.

Source: Deng and Li, "Anomaly Detection via Reverse Distillation from One-Class Embedding", CVPR 2022. Two
implementations are in use, RD4AD (the paper's) and anomalib. They differ in the bottleneck's width and in
the blur.
"""

from __future__ import annotations

import enum
from typing import Any, Literal, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adq_edge.core import methods
from adq_edge.core.errors import CheckpointError
from adq_edge.models.anomalib_settings import read_settings
from adq_edge.models.base import AnomalyModel, Features, Outputs, Stage
from adq_edge.models.config import ModelConfig
from adq_edge.models.importers import Importer, ImportRequest
from adq_edge.models.layers import require_layers, scored_layers, with_config
from adq_edge.models.preprocessing import EXPORT_INSTEAD
from adq_edge.models.resnet import ARCHITECTURES, LAYERS, Architecture, Backbone, ResNetTrunk, trunk_state
from adq_edge.models.reverse_blocks import EMBEDDING_PLANES, BottleneckVariant, Decoder, OneClassBottleneck
from adq_edge.models.state_dicts import State, load_weights, select

_EPSILON = 1e-8  # epsilon of torch.nn.functional.cosine_similarity
_STRIDE = 32  # image pixels per position of the embedding
_SIGMA = 4.0  # standard deviation of the blur, in pixels
_RADIUS = int(4.0 * _SIGMA + 0.5)  # radius of the blur's kernel in pixels, in both implementations


class Fusion(str, enum.Enum):
    """The rule that upsamples, sums and blurs the layers' 1 - cosine maps; the two differ at the border."""

    OFFICIAL = "official"
    """Beyond the border, the map is mirrored, edge pixels repeated (scipy.ndimage.gaussian_filter)."""
    ANOMALIB = "anomalib"
    """Beyond the border, the map is mirrored at its edge pixels (kornia's filter2d)."""
    ANOMALIB_MULTIPLY = "anomalib-multiply"
    """As anomalib, but the maps are multiplied instead of summed (its `anomaly_map_mode`)."""


_Border = Literal["symmetric", "reflect"]
_BORDER: Mapping[Fusion, _Border] = {
    Fusion.OFFICIAL: "symmetric",
    Fusion.ANOMALIB: "reflect",
    Fusion.ANOMALIB_MULTIPLY: "reflect",
}
"""The two border modes, as named by numpy."""


class ReverseDistillation(AnomalyModel):
    """A ResNet teacher as encoder, a one-class bottleneck and a mirrored decoder, compared in 3 layers."""

    arch = "reverse-distillation"
    training_defaults = methods.REVERSE_DISTILLATION.training
    default_options = methods.REVERSE_DISTILLATION.options

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        config.require_multiple(_STRIDE, "Reverse Distillation")
        self._fusion = Fusion(config.fusion)
        self._levels = scored_layers(config.layers)
        self.scales = len(self._levels)
        self._backbone = self.config.choice("backbone", Backbone)
        variant = self.config.choice("bottleneck", BottleneckVariant)
        self.encoder = ResNetTrunk(self._backbone).requires_grad_(False)
        self.bottleneck = OneClassBottleneck(self._backbone, variant)
        self.decoder = Decoder(self._backbone)
        self.enlarge = nn.ModuleList(
            EnlargeAndBlur(config.network_size, 4 * 2**level, self._border) for level in range(len(LAYERS))
        )
        if self._fusion is Fusion.ANOMALIB_MULTIPLY:
            self.blur = EnlargeAndBlur(config.network_size, 1, _BORDER[self._fusion])
        self.eval()

    @property
    def _border(self) -> Optional[_Border]:
        """Where each map is blurred; None if their product is."""
        return None if self._fusion is Fusion.ANOMALIB_MULTIPLY else _BORDER[self._fusion]

    @property
    def teacher_backbone(self) -> Backbone:
        """The encoder's architecture."""
        return self._backbone

    def load_teacher(self, state: State) -> None:
        """Load the encoder; later layers and the classifier may be missing."""
        load_weights(self.encoder, trunk_state(state, LAYERS), f"the {self._backbone.value} teacher")

    def trainable(self, stage: Stage) -> nn.Module:
        """Return the bottleneck and the decoder, together."""
        return nn.ModuleDict({"bottleneck": self.bottleneck, "decoder": self.decoder})

    def optimizer(self, stage: Stage, learning_rate: float) -> torch.optim.Optimizer:
        """Return Adam, betas 0.5 and 0.999 (RD4AD's main.py), with the published weight decay of 1e-5."""
        parameters = self.trainable(stage).parameters()
        return torch.optim.Adam(parameters, learning_rate, betas=(0.5, 0.999), weight_decay=1e-5)

    def networks(self, x: torch.Tensor) -> Features:
        """Map normalized images to the encoder's features of the compared layers, then the decoder's."""
        encoded = self.encoder(x)
        decoded = self.decoder(self.bottleneck(encoded), self._levels[0])
        pairs = (encoded, decoded)
        return tuple(features[level - len(LAYERS) - 1] for features in pairs for level in self._levels)

    @property
    def layers(self) -> Tuple[int, ...]:
        """Numbers of the compared layers."""
        return self._levels

    def with_layers(self, levels: Tuple[int, ...]) -> ReverseDistillation:
        """Return a model that compares some of the layers only."""
        return with_config(self, self.config, require_layers(levels, self._levels))

    def loss(self, features: Features) -> torch.Tensor:
        """Return 1 - cosine of each image's whole feature map: mean over the batch, sum over layers.

        Source: `loss_fucntion` of RD4AD's main.py. The paper's equation 2 has one cosine per position, which
        neither published code uses.
        """
        pairs = [(e.flatten(1), d.flatten(1)) for e, d in _pairs(features)]
        return torch.stack([(1.0 - functional.cosine_similarity(e, d)).mean() for e, d in pairs]).sum()

    def outputs(self, features: Features) -> Outputs:
        """Map features to the map (image size, in 0..6, or 0..8 of a product), its maximum and scale maps.

        The embedding is the mean of the encoder's deepest compared layer, the scale maps are the cosine
        distances.
        """
        distances = tuple(cosine_distance(e, d) for e, d in _pairs(features))
        maps = [self.enlarge[level - 1](distance) for level, distance in zip(self._levels, distances)]
        anomaly_map = self._fuse(maps)
        return Outputs(
            self.in_frame(anomaly_map),
            torch.amax(anomaly_map, dim=(1, 2)),
            embedding=features[self.scales - 1].mean(dim=(2, 3)),
            scale_maps=tuple(self.in_frame(distance) for distance in distances),
        )

    def _fuse(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        fused = maps[0]
        for further in maps[1:]:
            fused = fused * further if self._fusion is Fusion.ANOMALIB_MULTIPLY else fused + further
        if self._fusion is Fusion.ANOMALIB_MULTIPLY:
            fused = self.blur(fused)
        return fused


def _pairs(features: Sequence[torch.Tensor]) -> Sequence[Tuple[torch.Tensor, torch.Tensor]]:
    half = len(features) // 2
    return list(zip(features[:half], features[half:]))


def cosine_distance(encoded: torch.Tensor, decoded: torch.Tensor) -> torch.Tensor:
    """Return 1 - cosine of the feature vectors at each position, `[N, h, w]` in 0..2."""
    product = torch.sum(encoded * decoded, dim=1)
    norms = [torch.linalg.vector_norm(features, dim=1) for features in (encoded, decoded)]
    return 1.0 - product / (torch.clamp_min(norms[0], _EPSILON) * torch.clamp_min(norms[1], _EPSILON))


class EnlargeAndBlur(nn.Module):
    """Bilinear upsampling (corners aligned) to image size and the Gaussian blur, as two matrix products.

    Both are linear and separable, so one matrix does both along height and another one along width. The
    result equals the published function up to the border, although ONNX has no symmetric padding. It takes a
    ninth of the time of Resize, Pad and two 1-D convolutions (ONNX Runtime, 256x256, one thread).

    Args:
        image_size: (height, width) in pixels of the result.
        stride: pixels of the result per value of the map.
        border: what the blur sees beyond the border; None for no blur.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, image_size: Tuple[int, int], stride: int, border: Optional[_Border]) -> None:
        super().__init__()
        height, width = (_enlarge_and_blur(side // stride, side, border) for side in image_size)
        self.register_buffer("rows", torch.from_numpy(height).float(), persistent=False)
        self.register_buffer("columns", torch.from_numpy(width.T.copy()).float(), persistent=False)

    def forward(self, distance: torch.Tensor) -> torch.Tensor:
        """Map `[N, h, w]` to `[N, H, W]`."""
        return torch.matmul(torch.matmul(self.rows, distance), self.columns)


def _enlarge_and_blur(source: int, size: int, border: Optional[_Border]) -> np.ndarray:
    """Return the float64 matrix `[size, source]` that upsamples and blurs one axis."""
    at = np.arange(size) * (source - 1) / (size - 1)
    bilinear = np.maximum(0.0, 1.0 - np.abs(at[:, None] - np.arange(source)))
    if border is None:
        return np.asarray(bilinear)
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / _SIGMA) ** 2)
    padded = np.pad(bilinear, ((_RADIUS, _RADIUS), (0, 0)), mode=border)
    shifted = np.stack([padded[start : start + size] for start in range(len(kernel))])
    return np.asarray(np.tensordot(kernel / kernel.sum(), shifted, 1))


def _from_anomalib(request: ImportRequest) -> ReverseDistillation:
    settings = read_settings(request.content)
    networks = {part: select(request.state, f"model.{part}.") for part in ("bottleneck", "decoder")}
    if settings.layers not in (None, ",".join(LAYERS)):
        what = f"compares {settings.layers}; the networks of Reverse Distillation need {', '.join(LAYERS)}"
        raise CheckpointError(what, fix=EXPORT_INSTEAD)
    fusion = Fusion.ANOMALIB_MULTIPLY if settings.map_mode == "multiply" else Fusion.ANOMALIB
    model = _import(fusion, networks, settings.config(request.image_size))
    if settings.backbone not in (None, model.teacher_backbone):
        what = f"states another backbone than its decoder's, which is {model.teacher_backbone.value}"
        raise CheckpointError(what, fix=EXPORT_INSTEAD)
    encoder = select(request.state, "model.encoder.feature_extractor.")
    load_weights(model.encoder, trunk_state(encoder, LAYERS), "the anomalib encoder")
    return model


def _from_rd4ad(request: ImportRequest) -> ReverseDistillation:
    networks = {"bottleneck": select(request.state, "bn."), "decoder": select(request.state, "decoder.")}
    images = {} if request.image_size is None else {"image_size": request.image_size}
    model = _import(Fusion.OFFICIAL, networks, images)
    model.load_teacher(request.teacher(model.teacher_backbone))
    return model


def _import(
    fusion: Fusion, networks: Mapping[str, Mapping[str, Any]], images: Mapping[str, Any]
) -> ReverseDistillation:
    """Return a model with the trained networks of a foreign file; unused tensors are dropped.

    Args:
        fusion: the rule that fuses the maps.
        networks: the state dicts of `bottleneck` and `decoder`.
        images: the values of `ModelConfig` for the images.
    """
    backbone = _backbone_of(networks["decoder"])
    options = {"backbone": backbone.value, "bottleneck": _variant_of(networks["bottleneck"], backbone).value}
    model = ReverseDistillation(ModelConfig(fusion=fusion.value, options=options, **images))
    load_weights(model.bottleneck, networks["bottleneck"], "the bottleneck")
    load_weights(model.decoder, networks["decoder"], "the decoder")
    return model


def _backbone_of(decoder: Mapping[str, Any]) -> Backbone:
    """Return a decoder's backbone, identified by its depths and the shape of its first convolution."""
    shape = list(getattr(decoder.get("layer1.0.conv1.weight"), "shape", ()))
    blocks = [{key.split(".")[1] for key in decoder if key.startswith(f"{layer}.")} for layer in LAYERS]
    found = (tuple(len(numbers) for numbers in blocks), shape)
    for backbone, architecture in ARCHITECTURES.items():
        if found == (architecture.depths, _first_convolution(architecture)):
            return backbone
    depths = ", ".join(map(str, found[0]))
    raise CheckpointError(
        f"a decoder of an unknown backbone ({depths} blocks, first convolution {shape})",
        fix=f"Known backbones: {', '.join(backbone.value for backbone in Backbone)}",
    )


def _first_convolution(architecture: Architecture) -> Sequence[int]:
    """Return the shape of the weight of a decoder's first convolution."""
    channels = EMBEDDING_PLANES * architecture.expansion
    if architecture.has_bottlenecks:
        return [architecture.width(256), channels, 1, 1]
    return [channels, 256, 2, 2]


def _variant_of(bottleneck: Mapping[str, Any], backbone: Backbone) -> BottleneckVariant:
    """Return the variant of a bottleneck, identified by its width; anomalib's if both have the same width."""
    shape = list(getattr(bottleneck.get("bn_layer.0.conv1.weight"), "shape", ()))
    width = ARCHITECTURES[backbone].width(EMBEDDING_PLANES)
    is_wide = shape[:1] == [width] and width != EMBEDDING_PLANES
    return BottleneckVariant.RD4AD if is_wide else BottleneckVariant.ANOMALIB


IMPORTERS = (
    Importer(
        name="anomalib Reverse Distillation",
        signature=r"model\.bottleneck\.bn_layer\.0\.conv1\.weight",
        load=_from_anomalib,
    ),
    Importer(name="RD4AD", signature=r"bn\.bn_layer\.0\.conv1\.weight", load=_from_rd4ad),
)
