"""The table of boards whose figures others sent in."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from adq_edge.report.machines import SUBMITTED
from adq_edge.report.model import Entry
from adq_edge.report.phrasing import caution_words, yes_or_no
from adq_edge.report.table import Column, Field, Table, part, tabulate, text
from adq_edge.report.tables.bench import ENGINE

_SOFTWARE: Tuple[Field[Entry], ...] = (
    (text("JetPack"), lambda entry: entry.report.environment.jetpack),
    (text("runtime"), lambda entry: f"{entry.engine.runtime} {entry.engine.runtime_version}"),
    (text("power mode"), lambda entry: entry.report.environment.power_mode),
    (text("clocks locked"), lambda entry: _clocks_locked(entry)),
)
_TIMES: List[Field[Entry]] = part(
    lambda entry: entry.latency,
    (
        (Column("p50", "ms", ".2f"), lambda latency: latency.p50_ms),
        (Column("p90", "ms", ".2f"), lambda latency: latency.p90_ms),
        (Column("p99", "ms", ".2f"), lambda latency: latency.p99_ms),
    ),
)
_ENERGY: List[Field[Entry]] = part(
    lambda entry: entry.energy,
    ((Column("energy", "J/image", ".3f"), lambda energy: energy.joules_per_image),),
)
_QUALITY: List[Field[Entry]] = part(
    lambda entry: entry.submitted,
    (
        (Column("image AUROC", spec=".4f"), lambda quality: quality.image_auroc),
        (Column("pixel AUROC", spec=".4f"), lambda quality: quality.pixel_auroc),
        (Column("map SNR", "dB", ".1f"), lambda quality: quality.map_snr_db),
    ),
)


def submissions_table(entries: Sequence[Entry]) -> Table:
    """Return the figures of submissions, one engine a row."""
    caution: Field[Entry] = (text("caution"), lambda entry: caution_words(entry.flags))
    return tabulate(
        "Boards that others measured",
        [*ENGINE, *_SOFTWARE, *_TIMES, *_ENERGY, *_QUALITY, caution],
        [entry for entry in entries if (entry.report.environment.host or "").startswith(SUBMITTED)],
        [
            "From files of bench --submit. Names of engines are method and precision; other models and data "
            "than those of the other rows."
        ],
        key="submissions",
    )


def _clocks_locked(entry: Entry) -> Optional[str]:
    board = entry.report.board_before
    return None if board is None else yes_or_no(board.clocks_locked)
