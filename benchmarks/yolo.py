"""YOLOv8 and YOLO11 for 80 classes at 640x640, after Ultralytics' model files (yolov8.yaml, yolo11.yaml)."""

from __future__ import annotations

from typing import Callable, List, Mapping, NamedTuple, Sequence

import onnx

from benchmarks.sketch import Map, Sketch


class _Scale(NamedTuple):
    depth: float
    width: float
    most: int

    def channels(self, count: int) -> int:
        """Return a number of channels at this scale, a multiple of 8."""
        return int(-(-min(count, self.most) * self.width // 8) * 8)

    def repeats(self, count: int) -> int:
        """Return a number of blocks at this scale."""
        return max(round(count * self.depth), 1)


_SCALES_8: Mapping[str, _Scale] = {"n": _Scale(0.33, 0.25, 1024)}
_SCALES_11: Mapping[str, _Scale] = {
    "n": _Scale(0.5, 0.25, 1024),
    "s": _Scale(0.5, 0.5, 1024),
    "m": _Scale(0.5, 1.0, 512),
    "l": _Scale(1.0, 1.0, 512),
    "x": _Scale(1.0, 1.5, 512),
}
_CLASSES = 80


class _Drawing:
    """A YOLO as it is drawn."""

    def __init__(self, scale: _Scale) -> None:
        self.scale = scale
        self.sketch = Sketch(640, 640)

    def conv(
        self, x: Map, channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, *, silu: bool = True
    ) -> Map:
        return self.sketch.conv(x, channels, kernel, stride, groups=groups, activation="Silu" if silu else "")

    def bottleneck(self, x: Map, hidden: int, *, shortcut: bool) -> Map:
        y = self.conv(self.conv(x, hidden, 3), x.channels, 3)
        return self.sketch.add(x, y) if shortcut else y

    def c2f(self, x: Map, channels: int, count: int, *, shortcut: bool) -> Map:
        half = channels // 2
        parts = self.sketch.split(self.conv(x, 2 * half), half, half)
        for _ in range(count):
            parts.append(self.bottleneck(parts[-1], half, shortcut=shortcut))
        return self.conv(self.sketch.concat(*parts), channels)

    def c3k(self, x: Map) -> Map:
        half = x.channels // 2
        y = self.conv(x, half)
        for _ in range(2):
            y = self.bottleneck(y, half, shortcut=True)
        return self.conv(self.sketch.concat(y, self.conv(x, half)), x.channels)

    def c3k2(self, x: Map, channels: int, share: float, *, nested: bool) -> Map:
        hidden = int(channels * share)
        parts = self.sketch.split(self.conv(x, 2 * hidden), hidden, hidden)
        for _ in range(self.scale.repeats(2)):
            last = parts[-1]
            parts.append(self.c3k(last) if nested else self.bottleneck(last, hidden // 2, shortcut=True))
        return self.conv(self.sketch.concat(*parts), channels)

    def sppf(self, x: Map) -> Map:
        pooled = [self.conv(x, x.channels // 2)]
        for _ in range(3):
            pooled.append(self.sketch.max_pool(pooled[-1], 5, 1, 2))
        return self.conv(self.sketch.concat(*pooled), x.channels)

    def attention(self, x: Map) -> Map:
        """Attention of YOLO11: heads of 64 channels, keys of 32."""
        sketch, channels = self.sketch, x.channels
        heads, positions = channels // 64, x.shape[1] * x.shape[2]
        mixed = self.conv(x, 2 * channels, silu=False)
        q, k, v = sketch.split(
            sketch.reshape(mixed, heads * 128, positions), heads * 32, heads * 32, heads * 64
        )
        q, k, v = (sketch.reshape(one, heads, -1, positions) for one in (q, k, v))
        q = sketch.operator("Transpose", [q], (heads, positions, 32), perm=[0, 1, 3, 2])
        weights = sketch.operator("MatMul", [q, k], (heads, positions, positions))
        weights = sketch.operator("Softmax", [weights], weights.shape, axis=-1)
        weights = sketch.operator("Transpose", [weights], weights.shape, perm=[0, 1, 3, 2])
        y = sketch.reshape(sketch.operator("MatMul", [v, weights], (heads, 64, positions)), *x.shape)
        places = self.conv(sketch.reshape(v, *x.shape), channels, 3, groups=channels, silu=False)
        return self.conv(sketch.add(y, places), channels, silu=False)

    def c2psa(self, x: Map) -> Map:
        half = x.channels // 2
        kept, y = self.sketch.split(self.conv(x, 2 * half), half, half)
        for _ in range(self.scale.repeats(2)):
            y = self.sketch.add(y, self.attention(y))
            y = self.sketch.add(y, self.conv(self.conv(y, 2 * half), half, silu=False))
        return self.conv(self.sketch.concat(kept, y), x.channels)

    def detect(self, levels: Sequence[Map], *, separable: bool) -> onnx.ModelProto:
        sketch, first = self.sketch, levels[0].channels
        boxes, classes = max(16, first // 4, 64), max(first, min(_CLASSES, 100))
        outputs: List[Map] = []
        for x in levels:
            box = self.conv(self.conv(self.conv(x, boxes, 3), boxes, 3), 64, silu=False)
            if separable:
                y = self.conv(self.conv(x, x.channels, 3, groups=x.channels), classes)
                y = self.conv(self.conv(y, classes, 3, groups=classes), classes)
            else:
                y = self.conv(self.conv(x, classes, 3), classes, 3)
            y = sketch.concat(box, self.conv(y, _CLASSES, silu=False))
            outputs.append(sketch.reshape(y, 64 + _CLASSES, y.shape[1] * y.shape[2]))
        return self._decode(sketch.concat(*outputs, axis=2))

    def _decode(self, x: Map) -> onnx.ModelProto:
        sketch, anchors = self.sketch, x.shape[1]
        box, classes = sketch.split(x, 64, _CLASSES)
        box = sketch.operator(
            "Transpose", [sketch.reshape(box, 4, 16, anchors)], (16, 4, anchors), perm=[0, 2, 1, 3]
        )
        box = sketch.operator("Softmax", [box], box.shape, axis=1)
        box = sketch.reshape(sketch.conv(box, 1, activation=""), 4, anchors)
        left, right = sketch.split(box, 2, 2)
        box = sketch.concat(sketch.add(left, right), sketch.operator("Sub", [right, left], right.shape))
        return sketch.model(sketch.concat(box, sketch.activate(classes, "Sigmoid")))


def yolov8(scale: str) -> Callable[[], onnx.ModelProto]:
    """YOLOv8 of a scale."""

    def draw() -> onnx.ModelProto:
        one = _SCALES_8[scale]
        drawing, c, n = _Drawing(one), one.channels, one.repeats
        sketch = drawing.sketch
        x = drawing.conv(drawing.conv(sketch.image, c(64), 3, 2), c(128), 3, 2)
        x = drawing.c2f(x, c(128), n(3), shortcut=True)
        p3 = drawing.c2f(drawing.conv(x, c(256), 3, 2), c(256), n(6), shortcut=True)
        p4 = drawing.c2f(drawing.conv(p3, c(512), 3, 2), c(512), n(6), shortcut=True)
        x = drawing.c2f(drawing.conv(p4, c(1024), 3, 2), c(1024), n(3), shortcut=True)
        p5 = drawing.sppf(x)
        m4 = drawing.c2f(sketch.concat(sketch.upsample(p5, 40, 40), p4), c(512), n(3), shortcut=False)
        s3 = drawing.c2f(sketch.concat(sketch.upsample(m4, 80, 80), p3), c(256), n(3), shortcut=False)
        s4 = sketch.concat(drawing.conv(s3, c(256), 3, 2), m4)
        s4 = drawing.c2f(s4, c(512), n(3), shortcut=False)
        s5 = sketch.concat(drawing.conv(s4, c(512), 3, 2), p5)
        s5 = drawing.c2f(s5, c(1024), n(3), shortcut=False)
        return drawing.detect((s3, s4, s5), separable=False)

    return draw


def yolo11(scale: str) -> Callable[[], onnx.ModelProto]:
    """YOLO11 of a scale; the larger scales have nested blocks everywhere."""

    def draw() -> onnx.ModelProto:
        one, large = _SCALES_11[scale], scale in "mlx"
        drawing, c = _Drawing(one), one.channels
        sketch = drawing.sketch
        x = drawing.conv(drawing.conv(sketch.image, c(64), 3, 2), c(128), 3, 2)
        x = drawing.c3k2(x, c(256), 0.25, nested=large)
        p3 = drawing.c3k2(drawing.conv(x, c(256), 3, 2), c(512), 0.25, nested=large)
        p4 = drawing.c3k2(drawing.conv(p3, c(512), 3, 2), c(512), 0.5, nested=True)
        x = drawing.c3k2(drawing.conv(p4, c(1024), 3, 2), c(1024), 0.5, nested=True)
        p5 = drawing.c2psa(drawing.sppf(x))
        m4 = drawing.c3k2(sketch.concat(sketch.upsample(p5, 40, 40), p4), c(512), 0.5, nested=large)
        s3 = drawing.c3k2(sketch.concat(sketch.upsample(m4, 80, 80), p3), c(256), 0.5, nested=large)
        s4 = sketch.concat(drawing.conv(s3, c(256), 3, 2), m4)
        s4 = drawing.c3k2(s4, c(512), 0.5, nested=large)
        s5 = sketch.concat(drawing.conv(s4, c(512), 3, 2), p5)
        s5 = drawing.c3k2(s5, c(1024), 0.5, nested=True)
        return drawing.detect((s3, s4, s5), separable=True)

    return draw
