"""The table of what each choice of layers costs, shown by the export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Sequence

from adq_edge.report.table import Column, Kind, Table

if TYPE_CHECKING:  # the training half
    from adq_edge.onnx_export.layer_choice import LayerAuroc


def layers_table(choices: Sequence[LayerAuroc]) -> Table:
    """Return the image AUROC of each choice of layers, on average and for each category."""
    categories = list(choices[0].by_category)
    columns = (
        Column("layers", kind=Kind.TEXT),
        Column("mean image AUROC", spec=".4f"),
        *(Column(name, spec=".4f") for name in categories),
    )
    rows = tuple(
        (choice.layers, choice.mean, *(choice.by_category[name] for name in categories)) for choice in choices
    )
    return Table("Layers", columns, rows)
