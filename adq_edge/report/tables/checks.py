"""The table of `fit --check`: new good images of each product against the calibration images."""

from __future__ import annotations

from pathlib import PurePath
from typing import Optional, Tuple

from adq_edge.benchmark.records import Interval
from adq_edge.decision.check import ExchangeabilityCheck, ProductCheck, RealizedRate
from adq_edge.report.table import Column, Kind, Table, Value, text

_COLUMNS = (
    text("product"),
    text("result"),
    Column("images"),
    Column("rejected"),
    Column("target", "%", ".3g"),
    Column("realized rate", "%", ".3g"),
    Column("realized rate", "%", ".3g", Kind.INTERVAL),
    Column("chance", spec=".2g"),
    Column("unknown"),
    Column("not judged"),
)


def check_table(check: ExchangeabilityCheck) -> Table:
    """Return what new good images say about the false-reject rate of each product."""
    rows = tuple(_row(product, product.in_force) for product in check.products)
    notes = (
        *(f"{product.name}: {product.advice}" for product in check.products),
        "rejected: at the threshold in force, with the 95 % interval of the rate that it stands for; chance: "
        "probability of scores that rank so high, if the new images are like the calibration images",
    )
    return Table(f"{PurePath(check.engine).name}: new good images of {check.data}", _COLUMNS, rows, notes)


def _row(product: ProductCheck, found: RealizedRate) -> Tuple[Value, ...]:
    return (
        product.name,
        product.result.value,
        product.images,
        found.rejected,
        _percent(found.target),
        100.0 * found.rejected / found.images,
        Interval(100.0 * found.low, 100.0 * found.high),
        product.chance,
        product.unknown or None,
        product.not_judged or None,
    )


def _percent(share: Optional[float]) -> Optional[float]:
    return None if share is None else 100.0 * share
