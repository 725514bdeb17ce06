"""What was recognized in a model of another tool, shown by `import` and `import --inspect`."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from adq_edge.artifacts.bundle import ImportedModel
from adq_edge.onnx_import.inspection import Inspection, IntegerPart
from adq_edge.report.table import Table, prose, text

_MOST_NAMES = 6


def recognized_lines(found: ImportedModel) -> List[Tuple[str, str]]:
    """Return names and texts of what was recognized."""
    return [
        ("image", found.input),
        ("pixels", found.pixels),
        ("resize", found.resize),
        ("map", found.map),
        ("score", found.score),
        *([("unused", _first(found.unused))] if found.unused else []),
        *((name, f"{value:.6g}") for name, value in found.numbers.items()),
        *(("assumed", assumption) for assumption in found.assumed),
    ]


def inspection_table(found: Inspection) -> Table:
    """Return the table of an inspection."""
    rows: List[Tuple[str, str]] = [
        ("method", f"{found.arch}, {found.origin}"),
        *recognized_lines(found.imported),
    ]
    if found.map_size is not None:
        rows.append(("bundle", f"image {_size(found.image_size)}, map {_size(found.map_size)}"))
    if found.int8 is not None:
        rows.extend(_integer_rows(found.int8))
    rows.extend(("not supported", problem) for problem in found.problems)
    return Table(found.path, (text("part"), prose("recognized")), tuple(rows))


def _first(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _integer_rows(part: IntegerPart) -> List[Tuple[str, str]]:
    return [
        ("INT8", f"{_counts(part.operators)}; {part.share:.1%} of the multiplications"),
        ("float32", _counts(part.float_operators)),
    ]


def _counts(operators: Dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operators.items()) or "none"


def _size(size: Tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
