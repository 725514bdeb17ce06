"""The table made from a result file of `analyze`."""

from __future__ import annotations

from typing import Optional

from rich.table import Table

from adq_edge.core.console import decibels
from adq_edge.evaluation.analysis import Analysis, Range
from adq_edge.evaluation.sensitivity_plot import layer_decibels


def layer_table(analysis: Analysis, rows: Optional[int] = None) -> Table:
    """Show what each layer's quantization costs, worst first.

    Args:
        analysis: the result.
        rows: the largest number of layers to show; all by default.
    """
    calibration = analysis.calibration
    table = Table(
        title=f"what INT8 costs {analysis.bundle} on {analysis.target}, one layer quantized at a time",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("layer", no_wrap=True)
    table.add_column("operator")
    for heading in ("map SNR", "output SNR", "score bias", "input range", "output range", "clipped"):
        table.add_column(heading, justify="right", no_wrap=True)
    shown = analysis.layers[:rows]
    for layer in shown:
        table.add_row(
            layer.layer,
            layer.operator,
            layer_decibels(layer, layer.map_snr_db),
            layer_decibels(layer, layer.output_snr_db),
            _percent(layer.score_bias) if layer.quantized else "",
            "; ".join(_range(item) for item in layer.input_ranges),
            _range(layer.output_range),
            f"{100 * layer.clipped:.3f} %",
        )
    table.add_section()
    bias = _percent(analysis.score_bias)
    table.add_row("all layers quantized", "", decibels(analysis.map_snr_db), "", bias, "", "", "")
    left_out = len(analysis.layers) - len(shown)
    table.caption = (
        f"{f'{left_out} more layers: --all; ' if left_out else ''}"
        f"over {analysis.images} images ({analysis.image_source}); "
        f"calibrated: {calibration.calibrator} over {calibration.images} x {calibration.source}"
    )
    return table


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


def _range(value: Range) -> str:
    return f"{value[0]:.3g} .. {value[1]:.3g}"
