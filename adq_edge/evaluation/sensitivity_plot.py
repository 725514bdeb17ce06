"""Bar chart of the map SNR of each quantized layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np

from adq_edge.core.images.imaging import write_sheet
from adq_edge.core.text import decibels

if TYPE_CHECKING:
    from adq_edge.evaluation.analysis import Analysis, LayerAnalysis

_WHITE, _BLACK, _GRAY = (255, 255, 255), (0, 0, 0), (215, 215, 215)
_BAR, _WHOLE = (120, 160, 205), (200, 30, 30)
_FONT, _SIZE = cv2.FONT_HERSHEY_SIMPLEX, 0.45
_MARGIN, _HEAD, _ROW, _AXIS, _VALUE = 12, 76, 20, 560, 110
_NAME_LENGTH = 60
_LOWEST, _HIGHEST = -40, 120


class _Scale(NamedTuple):
    """The horizontal axis: its ends in dB, and its left end in pixels."""

    left: int
    low: int
    high: int

    def x(self, ratio: float) -> int:
        """Return the position of a ratio in dB, in pixels; a ratio outside the axis is at its end."""
        share = (ratio - self.low) / (self.high - self.low)
        return self.left + round(_AXIS * min(max(share, 0.0), 1.0))


def write_sensitivity_plot(path: Path, analysis: Analysis) -> None:
    """Write a chart with one horizontal bar per layer: SNR of the anomaly maps in dB, worst layer on top.

    A red line marks the SNR with all layers in INT8. An identical layer, or one in float32, has no bar.

    Raises:
        DataError: OpenCV cannot write this format.
        StorageError: the image cannot be written.
    """
    name = f"{Path(analysis.bundle).name} on {analysis.target}"
    title = f"{name}: SNR of the anomaly maps with one layer in INT8; longer is better"
    names = [shorten_name(layer.layer, _NAME_LENGTH) for layer in analysis.layers]
    left = 2 * _MARGIN + max(map(_width, names), default=0)
    scale = _Scale(left, *_ends([analysis.map_snr_db, *(layer.map_snr_db for layer in analysis.layers)]))
    width = max(left + _AXIS + _VALUE, _width(title) + 2 * _MARGIN)
    canvas = np.full((_HEAD + _ROW * len(names) + _MARGIN, width, 3), _WHITE, np.uint8)
    _write(canvas, title, _MARGIN, 20)
    _draw_grid(canvas, scale)
    for row, (name, layer) in enumerate(zip(names, analysis.layers)):
        _draw_bar(canvas, scale, _HEAD + _ROW * row, name, layer)
    if analysis.map_snr_db is not None:
        x = scale.x(analysis.map_snr_db)
        cv2.line(canvas, (x, 46), (x, canvas.shape[0] - _MARGIN), _WHOLE, 2)
        _write(canvas, f"all layers: {decibels(analysis.map_snr_db)}", x + 4, 42, _WHOLE)
    write_sheet(path, canvas)


def _ends(values: Sequence[Optional[float]]) -> Tuple[int, int]:
    """Return the ends of the axis in dB, multiples of 10; they contain 0 and all values within the limits."""
    known = [0.0, *(value for value in values if value is not None)]
    low = max(10 * math.floor(min(known) / 10), _LOWEST)
    high = min(10 * math.ceil(max(known) / 10), _HIGHEST)
    return low, max(high, low + 10)


def _draw_grid(canvas: np.ndarray, scale: _Scale) -> None:
    bottom = canvas.shape[0] - _MARGIN
    for ratio in range(scale.low, scale.high + 1, 10):
        x = scale.x(ratio)
        cv2.line(canvas, (x, _HEAD - 4), (x, bottom), _GRAY, 1)
        label = f"{ratio} dB"
        _write(canvas, label, x - _width(label) // 2, _HEAD - 8)


def _draw_bar(canvas: np.ndarray, scale: _Scale, top: int, name: str, layer: LayerAnalysis) -> None:
    ratio = layer.map_snr_db
    baseline = top + _ROW - 6
    _write(canvas, name, scale.left - _MARGIN - _width(name), baseline)
    zero = end = scale.x(0)
    if ratio is not None:
        end = scale.x(ratio)
        cv2.rectangle(canvas, (zero, top + 3), (end, top + _ROW - 3), _BAR, cv2.FILLED)
    _write(canvas, layer_decibels(layer, ratio), max(zero, end) + 6, baseline)


def _write(
    canvas: np.ndarray, text: str, left: int, baseline: int, color: Tuple[int, int, int] = _BLACK
) -> None:
    cv2.putText(canvas, text, (left, baseline), _FONT, _SIZE, color, 1, cv2.LINE_AA)


def _width(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _SIZE, 1)[0][0])


def shorten_name(name: str, length: int) -> str:
    """Return the end of a name behind "..." if it has more characters than `length`."""
    return name if len(name) <= length else f"...{name[3 - length :]}"


def layer_decibels(layer: LayerAnalysis, value: Optional[float]) -> str:
    """Format the signal-to-noise ratio of a layer; a float32 layer has none."""
    return decibels(value) if layer.quantized else "float32"
