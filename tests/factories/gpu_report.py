"""The rows of docs/run-where.md that tests on a GPU retire, and the report on them."""

from __future__ import annotations

import re
from typing import Dict, Iterator, List, Mapping, NamedTuple, Sequence, Tuple

from factories.paths import REPOSITORY

ENGINES = "`build --device jetson` and `cuda`"
RTX = "`build --device rtx`"
GRAPHS = "CUDA graphs by calls of the driver"
DLA_AND_CUDNN = "DLA core of an engine"
ARITHMETIC = "TensorRT's INT8 arithmetic"
BENCH_ON_BOARD = "`bench --host` to a Jetson"
TRAINING = "training on CUDA"

_PAGE = REPOSITORY / "docs" / "run-where.md"
_PARTS = ("Run in part", "Never run")
_ABOUT_GPUS = re.compile(r"jetson|cuda|gpu|rtx|dla|tensorrt's", re.IGNORECASE)


class Outcome(NamedTuple):
    """The outcome of a test: passed, failed or skipped, and the reason of a skip."""

    result: str
    reason: str = ""


def rows() -> List[str]:
    """Return the first cells of the page's tables of parts that a GPU or a Jetson has not run."""
    page = _PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    tables = "".join(section for section in sections if section.startswith(_PARTS))
    cells = re.findall(r"^\| (.+?) \|", tables, re.MULTILINE)
    return [cell for cell in cells if cell != "part" and _ABOUT_GPUS.search(cell)]


def row_of(name: str) -> str:
    """Return the row that begins with a name.

    Raises:
        ValueError: no row does, because the page has changed.
    """
    found = [row for row in rows() if row.startswith(name)]
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows of {_PAGE.name} begin with {name!r}")
    return found[0]


def report(outcomes: Mapping[str, Sequence[Outcome]], minutes: float) -> Iterator[str]:
    """Yield a line for each row: passed, failed, skipped or without a test.

    Args:
        outcomes: the outcomes of the tests by the beginning of their row.
        minutes: duration of the run.
    """
    by_row = {row_of(name): found for name, found in outcomes.items()}
    lines = [(_summary(by_row.get(row, ())), row) for row in rows()]
    passed = sum(summary.startswith("passed") for summary, _ in lines)
    yield f"docs/run-where.md: {passed} of {len(lines)} rows retired in {minutes:.1f} minutes"
    width = max((len(summary) for summary, _ in lines), default=0)
    for summary, row in lines:
        yield f"{summary:<{width}}  {row}"


def _summary(outcomes: Sequence[Outcome]) -> str:
    counts: Dict[str, int] = {}
    for outcome in outcomes:
        counts[outcome.result] = counts.get(outcome.result, 0) + 1
    if not counts:
        return "no test"
    if "failed" in counts:
        return f"FAILED {counts['failed']} of {len(outcomes)}"
    if "passed" not in counts:
        reasons = dict.fromkeys(outcome.reason for outcome in outcomes if outcome.reason)
        return f"skipped ({next(iter(reasons), 'no reason')})"
    skipped = f", {counts['skipped']} skipped" if "skipped" in counts else ""
    return f"passed {counts['passed']}{skipped}"


def outcome_of(was: str, details: Tuple[object, ...]) -> Outcome:
    """Return the outcome of a test.

    Args:
        was: pytest's word for it.
        details: file, line and reason of a skip; empty otherwise.
    """
    reason = str(details[-1]).replace("Skipped: ", "").split(": ")[0] if details else ""
    return Outcome(was, reason)
