"""The most important figures of each engine, and the findings in sentences."""

from __future__ import annotations

import collections
from typing import Dict, List, Optional, Sequence, Tuple

from adq_edge.core.text import printable
from adq_edge.report.model import Device, Entry
from adq_edge.report.phrasing import caution_words, comparison_flags, comparison_phrase, finding
from adq_edge.report.table import Column, Field, Table, part, prose, tabulate, text
from adq_edge.report.tables.bench import ENGINE

_TIMES: List[Field[Entry]] = part(
    lambda entry: entry.latency,
    (
        (Column("p50", "ms", ".2f"), lambda latency: latency.p50_ms),
        (Column("p90", "ms", ".2f"), lambda latency: latency.p90_ms),
    ),
)
_THROUGHPUT: List[Field[Entry]] = part(
    lambda entry: entry.engine.best_offline,
    ((Column("throughput", "images/s", ".1f"), lambda load: load.images_per_second),),
)
_ENERGY: List[Field[Entry]] = part(
    lambda entry: entry.energy,
    ((Column("energy", "J/image", ".3f"), lambda energy: energy.joules_per_image),),
)
_RATIO: List[Field[Entry]] = part(
    lambda entry: entry.speed, ((Column("latency ratio", spec=".3f"), lambda speed: speed.ratio),)
)
_RESOURCES: Tuple[Field[Entry], ...] = (
    *_THROUGHPUT,
    (Column("engine", "MB", ".1f"), lambda entry: entry.engine.engine_mb),
    (Column("peak RSS", "MB", ".0f"), lambda entry: entry.engine.memory.peak_rss_batch_1_mb),
)
_IMAGE_AUROC: Field[Entry] = (Column("image AUROC", spec=".4f"), lambda entry: entry.image_auroc)
_AREAS: List[Field[Entry]] = part(
    lambda entry: entry.quality,
    (
        (Column("pixel AUROC", spec=".4f"), lambda quality: quality.pixel_auroc),
        (Column("AUPRO", spec=".4f"), lambda quality: quality.aupro),
    ),
)


def headline_table(devices: Sequence[Device]) -> Table:
    """Return the most important figures, one engine a row."""
    fields: Tuple[Field[Entry], ...] = (
        *ENGINE,
        _IMAGE_AUROC,
        (Column("AUROC change", spec=".4f"), lambda entry: entry.auroc_change),
        *_TIMES,
        *_RATIO,
        *_RESOURCES,
        *_ENERGY,
        (text("method"), lambda entry: entry.method),
        (text("runtime"), lambda entry: f"{entry.engine.runtime} {entry.engine.runtime_version}"),
        (prose("in words"), comparison_phrase),
        (text("caution"), lambda entry: caution_words(comparison_flags(entry))),
    )
    return tabulate(
        "Quality and speed of the same engines",
        fields,
        [entry for device in devices for entry in device.entries],
        [
            "p50 and p90: SingleStream, batch 1, the engine call only. Latency ratio: to the FP32 engine of "
            "the same model. AUROC: measured on the same engine file as the speed."
        ],
        key="headline",
    )


def summary_table(entries: Sequence[Entry], caveat: Optional[str]) -> Table:
    """Return what quantization cost and gained on one device, one engine a row."""
    fields: Tuple[Field[Entry], ...] = (
        (text("precision"), lambda entry: entry.engine.precision),
        _IMAGE_AUROC,
        *_AREAS,
        *_TIMES,
        *_RESOURCES,
    )
    notes = [] if caveat is None else [caveat]
    return tabulate("quality and speed of the same engines", fields, entries, notes)


def findings(devices: Sequence[Device]) -> List[str]:
    """Return a sentence for each engine that was compared with its baseline, quotable ones first."""
    found: List[Tuple[bool, str]] = []
    for device in devices:
        for model in device.models:
            for entry in model.entries:
                phrase = finding(entry)
                if phrase is not None:
                    words = caution_words(comparison_flags(entry))
                    caution = f" (caution: {words})" if words else ""
                    found.append(
                        (entry.quotable, printable(f"{device.name}, {model.name}: {phrase}{caution}."))
                    )
    return [sentence for _, sentence in sorted(found, key=lambda item: not item[0])]


def count_flags(devices: Sequence[Device]) -> Dict[str, int]:
    """Return the number of engines with each reason for caution."""
    entries = (entry for device in devices for entry in device.entries)
    return dict(collections.Counter(flag.word for entry in entries for flag in entry.all_flags))
