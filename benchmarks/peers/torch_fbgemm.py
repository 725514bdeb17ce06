"""torch's INT8 with FBGEMM: the student quantized after training in eager mode, the teacher in FP32.

Source: Jena et al., "Unified Anomaly Detection Methods on Edge Device Using Knowledge Distillation and
Quantization", 2024: torch's static quantization of the student is what the study measured.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any, List, Tuple

import torch
from torch import nn
from torch.ao.nn.quantized import FloatFunctional

from adq_edge.core.images.imaging import read_image
from adq_edge.models.resnet import LAYERS, BasicBlock, ResNetTrunk
from benchmarks.peers.contract import Job
from benchmarks.peers.torch_eager import TorchEager

_BACKEND = "fbgemm"
quantization: Any = importlib.import_module("torch.ao.quantization")  # untyped


class Block(nn.Module):
    """A basic block in the form of eager quantization: fused, and with its addition as a module."""

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        parts = dict(block.named_children())
        self.first = nn.Sequential(parts["conv1"], parts["bn1"], nn.ReLU())
        self.second = nn.Sequential(parts["conv2"], parts["bn2"])
        self.identity = nn.Identity() if block.downsample is None else block.downsample
        self.add = FloatFunctional()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute the same function as BasicBlock."""
        return self.add.add_relu(self.second(self.first(x)), self.identity(x))


class Student(nn.Module):
    """A ResNet-18 trunk with a quantized input and one dequantization per layer."""

    def __init__(self, trunk: ResNetTrunk) -> None:
        super().__init__()
        self.quantize = quantization.QuantStub()
        self.stem = nn.Sequential(trunk.conv1, trunk.bn1, nn.ReLU())
        self.pool = trunk.maxpool
        self.layers = nn.ModuleList(
            nn.Sequential(*(Block(block) for block in getattr(trunk, layer))) for layer in LAYERS
        )
        self.dequantize = nn.ModuleList(quantization.DeQuantStub() for _ in LAYERS)

    def forward(self, x: torch.Tensor, last_layer: int = len(LAYERS)) -> List[torch.Tensor]:
        """Map normalized images to float features of the three layers, as `ResNetTrunk` does."""
        if last_layer != len(LAYERS):
            raise ValueError(f"all {len(LAYERS)} layers are quantized, not the first {last_layer}")
        x = self.pool(self.stem(self.quantize(x)))
        features = []
        for layer, dequantize in zip(self.layers, self.dequantize):
            x = layer(x)
            features.append(dequantize(x))
        return features


class TorchFbgemm(TorchEager):
    """The module of the checkpoint with its student in INT8; the variant is `contiguous-SCORING`."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        student = _converted(_observed(self._model.student))
        student.load_state_dict(torch.load(_made(job), weights_only=True))
        self._model.student = student

    @classmethod
    def prepare(cls, job: Job) -> None:
        """Calibrate with FBGEMM's default observers and write the INT8 student."""
        peer = TorchEager(job)
        student = _observed(peer._model.student)
        with torch.inference_mode():
            for path in job.calibration:
                student(peer.feed(read_image(path)))
        torch.save(_converted(student).state_dict(), _made(job))


def _made(job: Job) -> Path:
    return Path(job.made) / "student.pt"


def _observed(trunk: ResNetTrunk) -> nn.Module:
    torch.backends.quantized.engine = _BACKEND
    student = Student(trunk).eval()
    fused: List[Tuple[str, ...]] = []
    for name, module in student.named_modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[0], nn.Conv2d):
            fused.append(tuple(f"{name}.{i}" for i in range(len(module))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but what the study used
        student = quantization.fuse_modules(student, [list(names) for names in fused])
        student.qconfig = quantization.get_default_qconfig(_BACKEND)
        prepared: nn.Module = quantization.prepare(student)
    return prepared


def _converted(student: nn.Module) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about observers without data: their ranges are loaded next
        return quantization.convert(student)


CONTENDER = TorchFbgemm
