"""The residual trunk (ResNet, ResNeXt) of classifiers and detectors."""

from __future__ import annotations

from typing import List, Sequence

from benchmarks.sketch import Map, Sketch


def resnet_trunk(
    sketch: Sketch,
    blocks: Sequence[int],
    *,
    bottleneck: bool = False,
    stride_first: bool = False,
    groups: int = 1,
    strides: Sequence[int] = (1, 2, 2, 2),
) -> List[Map]:
    """Draw a ResNet without its classifier; return the output of each stage.

    Args:
        blocks: number of blocks of each stage.
        bottleneck: blocks of three convolutions instead of two.
        stride_first: the first convolution of a bottleneck has the stride, not the second.
        groups: groups of the middle convolution; 32 for ResNeXt-50 32x4d, with twice the width.
        strides: stride of each stage.
    """
    x = sketch.max_pool(sketch.conv(sketch.image, 64, 7, 2), 3, 2, 1)
    stages = []
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for number in range(count):
            stride = strides[stage] if number == 0 else 1
            if bottleneck:
                x = _bottleneck(sketch, x, width, stride, groups, stride_first=stride_first)
            else:
                x = _basic(sketch, x, width, stride)
        stages.append(x)
    return stages


def _basic(sketch: Sketch, x: Map, channels: int, stride: int) -> Map:
    y = sketch.conv(x, channels, 3, stride)
    y = sketch.conv(y, channels, 3, activation="")
    return sketch.add(y, _shortcut(sketch, x, channels, stride), "Relu")


def _bottleneck(sketch: Sketch, x: Map, width: int, stride: int, groups: int, *, stride_first: bool) -> Map:
    middle = width * (2 if groups > 1 else 1)
    first, second = (stride, 1) if stride_first else (1, stride)
    y = sketch.conv(x, middle, stride=first)
    y = sketch.conv(y, middle, 3, second, groups=groups)
    y = sketch.conv(y, 4 * width, activation="")
    return sketch.add(y, _shortcut(sketch, x, 4 * width, stride), "Relu")


def _shortcut(sketch: Sketch, x: Map, channels: int, stride: int) -> Map:
    if stride == 1 and x.channels == channels:
        return x
    return sketch.conv(x, channels, stride=stride, activation="")
