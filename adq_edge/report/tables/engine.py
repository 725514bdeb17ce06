"""The lines and the table that `build` prints about an engine."""

from __future__ import annotations

from typing import Iterator

from adq_edge.artifacts.sidecar import Sidecar, TensorRTDetails
from adq_edge.report.table import Column, Kind, Table


def engine_lines(sidecar: Sidecar) -> Iterator[str]:
    """Yield lines on the operators or layers that an engine runs."""
    if sidecar.operators:
        yield "operators: " + ", ".join(f"{count} {name}" for name, count in sidecar.operators.items())
    if sidecar.tensorrt is not None:
        yield from _tensorrt_lines(sidecar.tensorrt)


def _tensorrt_lines(details: TensorRTDetails) -> Iterator[str]:
    place = "" if details.dla is None else f", DLA core {details.dla}"
    yield (
        f"{details.route} route, compute capability {details.compute_capability}{place}, "
        f"batches of up to {details.max_batch}"
    )
    peak = "" if details.peak_mb is None else f", builder's peak memory {details.peak_mb:.0f} MB"
    if details.system_mb is not None:
        peak += f" (with the GPU's {details.system_mb:.0f} MB)"
    yield f"built in {details.seconds:.1f} s{peak}, workspace {details.workspace_mb} MB"
    if details.layers is None:
        yield "precision of each layer: not known"
    else:
        yield "layers: " + ", ".join(f"{count} {name}" for name, count in details.layers.items())
    for warning in details.warnings:
        yield f"warning: {warning}"


def kernels_table(details: TensorRTDetails) -> Table:
    """Return the kernels of an engine by type and number formats, the most frequent first."""
    kernels = sorted(details.kernels, key=lambda kernel: -kernel.count)
    total = sum(kernel.count for kernel in kernels)
    columns = (Column("number"), *(Column(name, kind=Kind.TEXT) for name in ("kernel", "reads", "writes")))
    rows = tuple((kernel.count, kernel.kind, kernel.reads, kernel.writes) for kernel in kernels)
    return Table("kernels", columns, rows, (f"{total} kernels; reads and writes: the lowest number format",))
