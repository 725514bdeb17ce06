"""Small anomaly models in the forms of other tools' methods, as graphs of a bundle.

Each takes an image of 32 x 32 pixels; weights are random.
"""

from __future__ import annotations

import functools
import io
import math
import warnings
from typing import Dict, Tuple, Type

import onnx
import torch
from torch import nn
from torch.nn import functional

from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import run_passes

SIZE = 32

Outputs = Tuple[torch.Tensor, torch.Tensor]


def block(inputs: int, outputs: int, stride: int = 1, activation: Type[nn.Module] = nn.ReLU) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.normal_(norm.bias, std=0.3)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), norm, activation())


class ForeignModel(nn.Module):
    """The head of every bundle: a uint8 image, normalized; `score` gives map and score."""

    def forward(self, image: torch.Tensor) -> Outputs:
        anomaly_map = self.score((image.float().permute(0, 3, 1, 2) - 120.0) * (1 / 60.0))
        return anomaly_map, torch.amax(anomaly_map, dim=(1, 2))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError


class Backbone(nn.Module):
    """Two feature maps, 16 x 16 and 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = block(3, 16, 2), block(16, 16), block(16, 24, 2)

    def forward(self, x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor]:
        first = self.first(self.stem(x))
        return first, self.second(first)


class Embedding(ForeignModel):
    """Features of two scales, resized and concatenated, as PaDiM and PatchCore use them."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (functional.avg_pool2d(f, 3, 1, 1) for f in self.backbone(x))
        return torch.cat([first, functional.interpolate(second, size=first.shape[2:], mode="bilinear")], 1)


class Mahalanobis(Embedding):
    """PaDiM: one covariance matrix a position."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(40, 256))
        self.register_buffer("inverse", torch.eye(40).repeat(256, 1, 1) + 0.01 * torch.rand(256, 40, 40))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        delta = (self.embed(x).flatten(2) - self.mean).permute(2, 0, 1)
        return (torch.matmul(delta, self.inverse) * delta).sum(2).permute(1, 0).sqrt().reshape(-1, 16, 16)


class SharedCovariance(Embedding):
    """One covariance matrix for all positions."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(40))
        self.register_buffer("inverse", torch.eye(40) + 0.01 * torch.rand(40, 40))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        delta = self.embed(x).permute(0, 2, 3, 1) - self.mean
        return (torch.matmul(delta, self.inverse) * delta).sum(3).clamp(min=0).sqrt()


class NearestNeighbor(Embedding):
    """PatchCore: the distance to the nearest member of a memory bank, weighted by its neighbors."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("bank", torch.rand(50, 40))

    def distances(self, rows: torch.Tensor) -> torch.Tensor:
        squares = rows.pow(2).sum(-1, keepdim=True) + self.bank.pow(2).sum(-1)[None]
        return (squares - 2 * torch.matmul(rows, self.bank.T)).clamp_min(0).sqrt()

    def forward(self, image: torch.Tensor) -> Outputs:
        x = (image.float().permute(0, 3, 1, 2) - 120.0) * (1 / 60.0)
        rows = self.embed(x).permute(0, 2, 3, 1).reshape(-1, 40)
        distances, places = self.distances(rows).min(1)
        anomaly_map = distances.reshape(-1, 16, 16)
        largest = anomaly_map.flatten(1).argmax(1)
        nearest = self.bank[places.reshape(-1, 256).gather(1, largest[:, None])[:, 0]]
        support = self.distances(nearest).topk(3, largest=False)[0]
        weight = 1 - functional.softmax(support, 1)[:, 0]
        return anomaly_map, weight * anomaly_map.flatten(1).amax(1)


class Flow(Embedding):
    """FastFlow: two coupling blocks with a permutation between them."""

    def __init__(self) -> None:
        super().__init__()
        self.subnets = nn.ModuleList(
            nn.Sequential(nn.Conv2d(20, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 40, 3, padding=1))
            for _ in range(2)
        )
        self.register_buffer("permutation", torch.eye(40)[torch.randperm(40)].reshape(40, 40, 1, 1))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        z = functional.layer_norm(self.embed(x), (40, 16, 16))
        for subnet in self.subnets:
            first, second = torch.split(z, [20, 20], 1)
            scale, shift = torch.split(0.1 * subnet(first), [20, 20], 1)
            z = torch.cat([first, second * torch.exp(2.0 * torch.tanh(scale)) + shift], 1)
            z = functional.conv2d(z, self.permutation)
        return 1 - torch.exp(-0.5 * z.pow(2).mean(1))


class PrincipalComponents(Embedding):
    """DFM: the error of a reconstruction from principal components."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.rand(40))
        self.register_buffer("components", torch.linalg.qr(torch.rand(40, 10))[0])

    def score(self, x: torch.Tensor) -> torch.Tensor:
        centered = self.embed(x).permute(0, 2, 3, 1) - self.mean
        back = torch.matmul(torch.matmul(centered, self.components), self.components.T)
        return (centered - back).pow(2).sum(3)


class Density(ForeignModel):
    """DFKDE: a Gaussian kernel density of pooled features; the map is a single value."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.register_buffer("components", torch.rand(24, 8))
        self.register_buffer("data", torch.rand(20, 8))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        rows = functional.adaptive_avg_pool2d(self.backbone(x)[1], 1).flatten(1) @ self.components
        density = torch.exp(-0.5 * (rows[:, None] - self.data[None]).pow(2).sum(2)).mean(1)
        return (1 / (1 + torch.exp(10 * density - 5))).reshape(-1, 1, 1)


class TeacherStudent(ForeignModel):
    """EfficientAD: a teacher, a student of twice the channels, and an autoencoder with linear resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.student = (self.description(outputs) for outputs in (16, 32))
        self.encoder = nn.Sequential(block(3, 16, 2), block(16, 24, 2))
        self.decoder = nn.ModuleList([block(24, 16), nn.Conv2d(16, 16, 3, padding=1)])

    @staticmethod
    def description(outputs: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(3, 16, 4, padding=3), nn.ReLU(), nn.AvgPool2d(2, 2, 1),
            nn.Conv2d(16, 24, 4, padding=3), nn.ReLU(), nn.AvgPool2d(2, 2, 1, count_include_pad=False),
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, outputs, 4, padding=1),
        )  # fmt: skip

    def score(self, x: torch.Tensor) -> torch.Tensor:
        teacher, student = self.teacher(x), self.student(x)
        rebuilt = functional.interpolate(self.encoder(x), size=(5, 5), mode="bilinear")
        rebuilt = functional.interpolate(self.decoder[0](rebuilt), size=teacher.shape[2:], mode="bilinear")
        rebuilt = self.decoder[1](rebuilt)
        difference = (teacher - student[:, :16]).pow(2).mean(1, keepdim=True)
        difference = 0.5 * difference + 0.5 * (rebuilt - student[:, 16:]).pow(2).mean(1, keepdim=True)
        return functional.interpolate(difference, size=(SIZE, SIZE), mode="bilinear")[:, 0]


class UNet(nn.Module):
    """A U-shaped network: pooling, linear resizing, a concatenation, a last convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.down, self.bottom, self.up = block(inputs, 16), block(16, 24), block(24, 16)
        self.joined, self.last = block(32, 16), nn.Conv2d(16, outputs, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down(x)
        bottom = self.bottom(functional.max_pool2d(first, 2))
        up = self.up(functional.interpolate(bottom, scale_factor=2.0, mode="bilinear", align_corners=True))
        return self.last(self.joined(torch.cat([first, up], 1)))


class TwoUNets(ForeignModel):
    """DRAEM: a reconstruction, then a segmentation of image and reconstruction, then a blur."""

    def __init__(self) -> None:
        super().__init__()
        self.rebuild, self.segment = UNet(3, 3), UNet(6, 2)
        self.blur = nn.Conv2d(1, 1, 5, padding=2, bias=False)
        nn.init.constant_(self.blur.weight, 1 / 25)

    def score(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.segment(torch.cat([x, self.rebuild(x)], 1))
        return self.blur(torch.softmax(logits, 1)[:, 1:])[:, 0]


class Codebook(ForeignModel):
    """DSR: features are replaced by the nearest vectors of a codebook before they are decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = block(3, 16, 2), block(16, 16)
        self.last = nn.Conv2d(16, 3, 3, padding=1)
        self.register_buffer("book", torch.rand(12, 16))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.encoder(x).permute(0, 2, 3, 1).reshape(-1, 16)
        distances = rows.pow(2).sum(1, keepdim=True) + self.book.pow(2).sum(1) - 2 * rows @ self.book.T
        chosen = self.book[distances.argmin(1)].reshape(-1, 16, 16, 16).permute(0, 3, 1, 2)
        rebuilt = functional.interpolate(self.last(self.decoder(chosen)), scale_factor=2.0, mode="nearest")
        return (x - rebuilt).abs().mean(1)


class Adversarial(ForeignModel):
    """GANomaly: encoder, decoder of transposed convolutions and second encoder; one value as a map."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.again = (self.encoder_of() for _ in range(2))
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(20, 24, 8, 1, 0, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.ConvTranspose2d(24, 16, 4, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip

    @staticmethod
    def encoder_of() -> nn.Sequential:
        leaky = functools.partial(nn.LeakyReLU, 0.2)
        return nn.Sequential(block(3, 16, 2, leaky), block(16, 24, 2, leaky), nn.Conv2d(24, 20, 8))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        latent = self.encoder(x)
        return (latent - self.again(self.decoder(latent))).pow(2).flatten(1).mean(1).reshape(-1, 1, 1)


class Discriminator(Embedding):
    """SuperSimpleNet: an adaptor, a segmentation head, and a classification head of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.adaptor = nn.Conv2d(40, 40, 1)
        self.segment = nn.Sequential(
            block(40, 24, 1, functools.partial(nn.LeakyReLU, 0.2)), nn.Conv2d(24, 1, 1)
        )
        self.classify = nn.Sequential(
            nn.Linear(41, 16), nn.LeakyReLU(0.2), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 1)
        )

    def forward(self, image: torch.Tensor) -> Outputs:
        features = self.adaptor(self.embed((image.float().permute(0, 3, 1, 2) - 120.0) * (1 / 60.0)))
        anomaly_map = self.segment(features)
        pooled = torch.cat([features, anomaly_map], 1).mean(dim=(2, 3))
        return torch.sigmoid(anomaly_map)[:, 0], torch.sigmoid(self.classify(pooled))[:, 0]


class Attention(nn.Module):
    """A block of a vision transformer."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.project = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm1(x)).reshape(-1, 16, 3, 2, 16).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(2, 3) / math.sqrt(16), 3)
        x = x + self.project((weights @ v).transpose(1, 2).reshape(-1, 16, 32))
        return x + self.shrink(functional.gelu(self.grow(self.norm2(x))))


class Transformer(ForeignModel):
    """Dinomaly: the cosine of the features of an encoder and a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 8, 8)
        self.position = nn.Parameter(torch.rand(1, 16, 32))
        self.encoder, self.decoder = (nn.ModuleList(Attention() for _ in range(2)) for _ in range(2))

    def score(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for layer in self.encoder:
            tokens = layer(tokens)
        rebuilt = tokens
        for layer in self.decoder:
            rebuilt = layer(rebuilt)
        return (1 - functional.cosine_similarity(tokens, rebuilt, dim=2)).reshape(-1, 4, 4)


class Squeeze(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Conv2d(channels, 8, 1), nn.Conv2d(8, channels, 1)
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = functional.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.wide(torch.relu(self.narrow(pooled))))


class MobileBlock(nn.Module):
    """An inverted residual: expansion, depthwise convolution, squeeze-and-excitation, projection."""

    def __init__(self, activation: Type[nn.Module], gate: nn.Module) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(16, 48, 1), activation())
        self.depthwise = nn.Sequential(nn.Conv2d(48, 48, 3, padding=1, groups=48), activation())
        self.squeeze, self.project = Squeeze(48, gate), nn.Conv2d(48, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.project(self.squeeze(self.depthwise(self.expand(x))))


class Mobile(ForeignModel):
    """A teacher and a student of inverted residuals."""

    activation: Type[nn.Module] = nn.Hardswish
    gate: Type[nn.Module] = nn.Hardsigmoid

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(
                block(3, 16, 2, self.activation),
                MobileBlock(self.activation, self.gate()),
                MobileBlock(self.activation, self.gate()),
            )
            for _ in range(2)
        )

    def score(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (network(x) for network in self.networks)
        return (first - second).pow(2).mean(1)


class Mobile2(Mobile):
    """MobileNetV2's activation function, with a sigmoid gate."""

    activation, gate = nn.ReLU6, nn.Sigmoid


class Efficient(Mobile):
    """EfficientNet's activation function."""

    activation, gate = nn.SiLU, nn.Sigmoid


class NextBlock(nn.Module):
    """A block of ConvNeXt: a depthwise convolution, then matrix products channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(16, 16, 7, padding=3, groups=16), nn.LayerNorm(16)
        self.grow, self.shrink = nn.Linear(16, 64), nn.Linear(64, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.shrink(functional.gelu(self.grow(y))).permute(0, 3, 1, 2)


class Next(ForeignModel):
    """Two networks of ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(3, 16, 4, 4), NextBlock(), NextBlock(), nn.Conv2d(16, 16, 2, 2))
            for _ in range(2)
        )

    def score(self, x: torch.Tensor) -> torch.Tensor:
        first, second = (network(x) for network in self.networks)
        return (first - second).pow(2).mean(1)


class PreActivated(ForeignModel):
    """Networks whose batch normalization comes before the convolution, and sums of three branches."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm, self.middle = nn.BatchNorm2d(16), nn.Conv2d(16, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=4)
        self.student = nn.Sequential(
            block(3, 16, 2, nn.ELU), block(16, 16, 1, nn.Tanh), nn.Conv2d(16, 16, 3, 1, 1)
        )

    def score(self, x: torch.Tensor) -> torch.Tensor:
        stem = self.stem(x)
        y = self.middle(torch.relu(self.norm(stem)))
        y = stem + y + self.grouped(functional.hardtanh(y))
        return torch.linalg.norm(y - self.student(x), dim=1)


KINDS: Dict[str, Type[ForeignModel]] = {
    kind.__name__: kind
    for kind in (
        Mahalanobis, SharedCovariance, NearestNeighbor, Flow, PrincipalComponents, Density, TeacherStudent,
        TwoUNets, Codebook, Adversarial, Discriminator, Transformer, Mobile, Mobile2, Efficient, Next,
        PreActivated,
    )
}  # fmt: skip


@functools.lru_cache(maxsize=None)
def foreign_graph(kind: str) -> onnx.ModelProto:
    """Return the graph of a kind in `KINDS`; callers must not change it."""
    torch.manual_seed(0)
    buffer, names = io.BytesIO(), ["image", "anomaly_map", "anomaly_score"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            KINDS[kind]().eval(), (torch.zeros(1, SIZE, SIZE, 3, dtype=torch.uint8),), buffer,
            opset_version=17, dynamo=False, input_names=names[:1], output_names=names[1:],
            dynamic_axes={name: {0: "N"} for name in names},
        )  # fmt: skip
    return run_passes(onnx.load_model_from_string(buffer.getvalue()), pipelines.EXPORT)
