"""Object detectors of MLPerf Inference with residual trunks."""

from __future__ import annotations

import onnx

from benchmarks.residual import resnet_trunk
from benchmarks.sketch import Map, Sketch


def retinanet() -> onnx.ModelProto:
    """RetinaNet, ResNeXt-50 32x4d, 264 classes, 800x800 (mlcommons/inference, vision, openimages)."""
    sketch = Sketch(800, 800)
    _, *trunk = resnet_trunk(sketch, (3, 4, 6, 3), bottleneck=True, groups=32)
    top = sketch.conv(trunk[2], 256, activation="")
    levels = [top]
    for stage in (trunk[1], trunk[0]):
        size = stage.shape[1:]
        up = sketch.upsample(levels[0], *size)
        levels.insert(0, sketch.add(sketch.conv(stage, 256, activation=""), up))
    levels = [sketch.conv(level, 256, 3, activation="") for level in levels]
    sixth = sketch.conv(levels[-1], 256, 3, 2, activation="")
    levels += [sixth, sketch.conv(sketch.activate(sixth, "Relu"), 256, 3, 2, activation="")]
    return sketch.model(*(_head(sketch, level, outputs) for level in levels for outputs in (9 * 264, 9 * 4)))


def _head(sketch: Sketch, x: Map, outputs: int) -> Map:
    for _ in range(4):
        x = sketch.conv(x, 256, 3)
    return sketch.conv(x, outputs, 3, activation="")


def ssd_resnet34() -> onnx.ModelProto:
    """SSD-ResNet34, 81 classes, 1200x1200 (mlcommons/inference, vision: the third stage keeps its size)."""
    sketch = Sketch(1200, 1200)
    x = resnet_trunk(sketch, (3, 4, 6), strides=(1, 2, 1))[-1]
    outputs = []
    for number, (anchors, stride) in enumerate(((4, 3), (6, 3), (6, 2), (6, 2), (4, 2), (4, 2))):
        outputs += [sketch.conv(x, anchors * size, 3, stride, activation="") for size in (4, 81)]
        if number < 5:
            middle, wide = ((256, 512), (256, 512), (128, 256), (128, 256), (128, 256))[number]
            x = sketch.conv(sketch.conv(x, middle), wide, 3, 2)
    return sketch.model(*outputs)
