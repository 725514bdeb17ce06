"""Public networks whose latency on a Jetson is published, drawn from their papers' tables.

`PUBLISHED` holds their multiply-adds as published; tests/roofline/test_published_networks.py compares.
"""

from __future__ import annotations

from typing import Callable, Mapping, Sequence

import onnx

from benchmarks.detectors import retinanet, ssd_resnet34
from benchmarks.residual import resnet_trunk
from benchmarks.sketch import Map, Sketch
from benchmarks.yolo import yolo11, yolov8

Network = Callable[[], onnx.ModelProto]


def resnet(blocks: Sequence[int], *, bottleneck: bool = False, stride_first: bool = False) -> Network:
    """ResNet (arXiv 1512.03385) at 224x224; `stride_first` as in the paper, else version 1.5."""

    def draw() -> onnx.ModelProto:
        sketch = Sketch(224, 224)
        trunk = resnet_trunk(sketch, blocks, bottleneck=bottleneck, stride_first=stride_first)
        return sketch.model(sketch.classify(trunk[-1]))

    return draw


def mobilenet_v2() -> onnx.ModelProto:
    """MobileNetV2 (arXiv 1801.04381, table 2) at 224x224."""
    sketch = Sketch(224, 224)
    x = sketch.conv(sketch.image, 32, 3, 2, activation="Clip")
    for factor, channels, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for number in range(count):
            x = _inverted_residual(sketch, x, factor, channels, stride if number == 0 else 1, 3, "Clip")
    return sketch.model(sketch.classify(sketch.conv(x, 1280, activation="Clip")))


def mnasnet() -> onnx.ModelProto:
    """MnasNet-B1 1.0 (arXiv 1807.11626, as in torchvision) at 224x224."""
    sketch = Sketch(224, 224)
    x = sketch.conv(sketch.image, 32, 3, 2)
    x = sketch.conv(sketch.conv(x, 32, 3, groups=32), 16, activation="")
    for factor, channels, count, stride, kernel in (
        (3, 24, 3, 2, 3),
        (3, 40, 3, 2, 5),
        (6, 80, 3, 2, 5),
        (6, 96, 2, 1, 3),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ):
        for number in range(count):
            x = _inverted_residual(sketch, x, factor, channels, stride if number == 0 else 1, kernel, "Relu")
    return sketch.model(sketch.classify(sketch.conv(x, 1280)))


def _inverted_residual(
    sketch: Sketch, x: Map, factor: int, channels: int, stride: int, kernel: int, activation: str
) -> Map:
    wide = factor * x.channels
    y = sketch.conv(x, wide, activation=activation) if factor > 1 else x
    y = sketch.conv(y, wide, kernel, stride, groups=wide, activation=activation)
    y = sketch.conv(y, channels, activation="")
    return sketch.add(x, y) if stride == 1 and x.channels == channels else y


def vgg(counts: Sequence[int]) -> Network:
    """VGG (arXiv 1409.1556, table 1) at 224x224."""

    def draw() -> onnx.ModelProto:
        sketch = Sketch(224, 224)
        x = sketch.image
        for channels, count in zip((64, 128, 256, 512, 512), counts):
            for _ in range(count):
                x = sketch.conv(x, channels, 3)
            x = sketch.max_pool(x, 2, 2)
        x = sketch.linear(sketch.linear(x, 4096, "Relu"), 4096, "Relu")
        return sketch.model(sketch.linear(x, 1000))

    return draw


def alexnet() -> onnx.ModelProto:
    """AlexNet (arXiv 1404.5997, as in torchvision) at 224x224."""
    sketch = Sketch(224, 224)
    x = sketch.max_pool(sketch.conv(sketch.image, 64, 11, 4, padding=2), 3, 2)
    x = sketch.max_pool(sketch.conv(x, 192, 5), 3, 2)
    for channels in (384, 256, 256):
        x = sketch.conv(x, channels, 3)
    x = sketch.max_pool(x, 3, 2)
    x = sketch.linear(sketch.linear(x, 4096, "Relu"), 4096, "Relu")
    return sketch.model(sketch.linear(x, 1000))


def squeezenet(*, late_pooling: bool) -> Network:
    """SqueezeNet (arXiv 1602.07360) at 224x224: 1.0 with late pooling, else 1.1."""

    def draw() -> onnx.ModelProto:
        sketch = Sketch(224, 224)
        if late_pooling:
            x, pooled = sketch.conv(sketch.image, 96, 7, 2, padding=0), (2, 6)
        else:
            x, pooled = sketch.conv(sketch.image, 64, 3, 2, padding=0), (1, 3)
        x = sketch.max_pool(x, 3, 2, ceil=True)
        for number, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
            x = sketch.conv(x, squeezed)
            x = sketch.concat(sketch.conv(x, 4 * squeezed), sketch.conv(x, 4 * squeezed, 3))
            if number in pooled:
                x = sketch.max_pool(x, 3, 2, ceil=True)
        x = sketch.conv(x, 1000)
        return sketch.model(sketch.operator("GlobalAveragePool", [x], (1000, 1, 1)))

    return draw


NETWORKS: Mapping[str, Network] = {
    "alexnet": alexnet,
    "mnasnet1_0": mnasnet,
    "mobilenet_v2": mobilenet_v2,
    "resnet18": resnet((2, 2, 2, 2)),
    "resnet34": resnet((3, 4, 6, 3)),
    "resnet50": resnet((3, 4, 6, 3), bottleneck=True),
    "resnet50-v1": resnet((3, 4, 6, 3), bottleneck=True, stride_first=True),
    "resnet101": resnet((3, 4, 23, 3), bottleneck=True),
    "resnet152": resnet((3, 8, 36, 3), bottleneck=True),
    "retinanet": retinanet,
    "squeezenet1_0": squeezenet(late_pooling=True),
    "squeezenet1_1": squeezenet(late_pooling=False),
    "ssd-resnet34": ssd_resnet34,
    "vgg11": vgg((1, 1, 2, 2, 2)),
    "vgg16": vgg((2, 2, 3, 3, 3)),
    "vgg19": vgg((2, 2, 4, 4, 4)),
    **{f"yolo11{scale}": yolo11(scale) for scale in "nsmlx"},
    "yolov8n": yolov8("n"),
}

PUBLISHED: Mapping[str, float] = {
    "alexnet": 0.714,
    "mnasnet1_0": 0.314,
    "mobilenet_v2": 0.301,
    "resnet18": 1.814,
    "resnet34": 3.664,
    "resnet50": 4.089,
    "resnet50-v1": 3.86,
    "resnet101": 7.801,
    "resnet152": 11.514,
    "squeezenet1_0": 0.819,
    "squeezenet1_1": 0.349,
    "ssd-resnet34": 433 / 2,
    "vgg11": 7.609,
    "vgg16": 15.470,
    "vgg19": 19.632,
    "yolo11n": 6.5 / 2,
    "yolo11s": 21.5 / 2,
    "yolo11m": 68.0 / 2,
    "yolo11l": 86.9 / 2,
    "yolo11x": 194.9 / 2,
    "yolov8n": 8.7 / 2,
}
"""10^9 multiply-adds, half of the operations: torchvision's table of weights (ResNet, VGG, AlexNet,
SqueezeNet, MobileNetV2, MnasNet), Ultralytics' tables of models (YOLO), MLPerf's table of models
(SSD-ResNet34), and the ResNet paper (v1)."""
