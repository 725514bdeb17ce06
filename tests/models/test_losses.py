from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from adq_edge.models.config import ModelConfig
from adq_edge.models.registry import METHODS
from adq_edge.models.resnet import ResNet18Trunk

SMALL = {
    "stfpm": {},
    "paste": {},
    "reverse-distillation": {"backbone": "resnet18"},
    "uninformed-students": {"patch": 17, "students": 2},
}
OF_LOSSES = ("mm", "bmm", "sum", "mean", "topk", "linalg_vector_norm")
"""Operators that occur only in losses."""

pytestmark = pytest.mark.usefixtures("one_thread")


class Inputs(TorchDispatchMode):
    """Record the operators of a computation with the number formats of their inputs."""

    def __init__(self):
        super().__init__()
        self.read = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        self.read.append((func.overloadpacket.__name__, {tensor.dtype for tensor in tensors}))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("arch", sorted(METHODS))
def test_networks_train_in_bfloat16_and_losses_in_float32(arch):
    torch.manual_seed(0)
    model = METHODS[arch](ModelConfig(image_size=(32, 32), options=SMALL[arch]))
    model.load_teacher(ResNet18Trunk().state_dict())
    images = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8)
    for stage in model.stages:
        model.train_stage(stage)
        with Inputs() as inputs, torch.autocast("cpu", torch.bfloat16):
            loss = model.stage_loss(stage, *model.frozen_features(images))
        assert loss.dtype == torch.float32
        assert ("convolution", {torch.bfloat16}) in inputs.read
        of_loss = [(name, kinds) for name, kinds in inputs.read if name in OF_LOSSES]
        assert of_loss
        assert [(name, kinds) for name, kinds in of_loss if torch.bfloat16 in kinds] == []
