"""The tables of `analyze`."""

from __future__ import annotations

from pathlib import PurePath
from typing import List, Optional, Sequence, Tuple

from adq_edge.core.text import decibels, number_of
from adq_edge.evaluation.analysis import Analysis, GroupAnalysis, LayerAnalysis, Range
from adq_edge.evaluation.sensitivity_plot import layer_decibels
from adq_edge.report.phrasing import calibration_text
from adq_edge.report.table import Column, Field, Table, part, tabulate, text

_FIELDS: Tuple[Field[LayerAnalysis], ...] = (
    (text("layer"), lambda layer: layer.layer),
    (text("operator"), lambda layer: layer.operator),
    (Column("map SNR"), lambda layer: layer_decibels(layer, layer.map_snr_db)),
    (Column("output SNR"), lambda layer: layer_decibels(layer, layer.output_snr_db)),
    (Column("score bias"), lambda layer: _percent(layer.score_bias) if layer.quantized else ""),
    (text("input range"), lambda layer: "; ".join(_range(item) for item in layer.input_ranges)),
    (text("output range"), lambda layer: _range(layer.output_range)),
    (Column("clipped"), lambda layer: f"{100 * layer.clipped:.3f} %"),
)


_GROUP_FIELDS: Tuple[Field[GroupAnalysis], ...] = (
    (text("part"), lambda group: group.group),
    (Column("layers"), lambda group: str(group.layers)),
    (Column("map SNR"), lambda group: "not INT8" if group.map_snr_db is None else decibels(group.map_snr_db)),
    (Column("score bias"), lambda group: _percent(group.score_bias)),
)

_LARGEST_EXPONENT = 100.0
"""Limit of an error in powers of ten, so that no file makes it infinite."""
_COSTS: Tuple[Field[LayerAnalysis], ...] = (
    (text("layer"), lambda layer: layer.layer),
    (text("operator"), lambda layer: layer.operator),
    (Column("error of the map", "%", ".3g"), lambda layer: map_error(layer.map_snr_db)),
    (Column("map SNR", "dB", ".1f"), lambda layer: layer.map_snr_db),
    (Column("output SNR", "dB", ".1f"), lambda layer: layer.output_snr_db),
    (Column("score bias", "%", "+.2f"), lambda layer: _of_hundred(layer.score_bias)),
    (Column("clipped", "%", ".3f"), lambda layer: 100 * layer.clipped),
)


def map_error(snr_db: Optional[float]) -> float:
    """Return the size of an error that has this SNR, in % of the signal (root mean squares)."""
    return 0.0 if snr_db is None else 100.0 * 10.0 ** min(-snr_db / 20.0, _LARGEST_EXPONENT)


def costs_table(analyses: Sequence[Analysis]) -> Table:
    """Return what the quantization of each layer costs, the worst of each model first."""
    pairs = [(one, layer) for one in analyses for layer in one.layers if layer.quantized]
    of_layer: List[Field[Tuple[Analysis, LayerAnalysis]]] = part(lambda pair: pair[1], _COSTS)
    fields = [
        (text("model"), lambda pair: PurePath(pair[0].bundle).name),
        (text("target"), lambda pair: pair[0].target),
        *of_layer,
    ]
    notes = (
        "One layer quantized at a time. The error of the anomaly map is in % of the map (root mean squares).",
        *(
            f"{PurePath(one.bundle).name} on {one.target}, all layers quantized: "
            f"{map_error(one.map_snr_db):.3g} %"
            for one in analyses
        ),
    )
    return tabulate("What the quantization of each layer costs", fields, pairs, notes, key="analysis")


def group_table(analysis: Analysis) -> Table:
    """Return what the quantization of each part of a model costs, in graph order."""
    title = f"what INT8 costs {analysis.bundle} on {analysis.target}, one part quantized at a time"
    return tabulate(title, _GROUP_FIELDS, analysis.groups)


def layer_table(analysis: Analysis, rows: Optional[int] = None) -> Table:
    """Return what the quantization of each layer costs, worst first.

    Args:
        analysis: the result.
        rows: the largest number of layers to show; all by default.
    """
    shown = analysis.layers[:rows]
    left_out = len(analysis.layers) - len(shown)
    note = (
        f"{f'{left_out} more layers: --all; ' if left_out else ''}"
        f"over {number_of(analysis.images, 'image')} ({analysis.image_source}); "
        f"calibrated: {calibration_text(analysis.calibration)}"
    )
    title = f"what INT8 costs {analysis.bundle} on {analysis.target}, one layer quantized at a time"
    table = tabulate(title, _FIELDS, shown)
    whole = (decibels(analysis.map_snr_db), "", _percent(analysis.score_bias))
    rows_shown = (*table.rows, ("all layers quantized", "", *whole, "", "", ""))
    return Table(title, table.columns, rows_shown, (note,), rules=(len(shown) - 1,))


def _percent(value: Optional[float]) -> str:
    return "-" if value is None else f"{100 * value:+.2f} %"


def _of_hundred(value: Optional[float]) -> Optional[float]:
    return None if value is None else 100.0 * value


def _range(value: Range) -> str:
    return f"{value[0]:.3g} .. {value[1]:.3g}"
