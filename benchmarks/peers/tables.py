"""Write the measurements as JSON and as a table in Markdown."""

from __future__ import annotations

import dataclasses
import datetime
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from adq_edge.benchmark.results import Interference
from adq_edge.core.files import write_bytes
from adq_edge.core.records import write_json
from adq_edge.hardware.environment import Environment, read_environment
from benchmarks.peers.catalog import ANOMALIB_MAKER, NNCF, RD, STFPM, TITLES, TORCH, Contender
from benchmarks.peers.measuring import Figures, Ratio, Timing, ratio

_ENGINE = "engine only"
_JPEG, _PNG = "1024 px JPEG", "1024 px PNG"
_MEMORY, _FILE = "peak RSS MB", "file MB"
_MISSING = "-"


@dataclasses.dataclass(frozen=True)
class Table:
    """The run of one model: its contenders, their measurements, and the reasons why others are missing.

    `interference` is that of the machine during the timing.
    """

    model: str
    contenders: Sequence[Contender]
    figures: Sequence[Figures]
    left_out: Dict[str, str]
    interference: Interference

    @property
    def best(self) -> int:
        """The index of adq-edge's fastest INT8 engine with the scoring of the first row; 0 without one."""
        scoring = self.contenders[0].scoring
        ours = [
            i
            for i, contender in enumerate(self.contenders)
            if contender.is_ours and contender.precision == "int8" and contender.scoring == scoring
        ]
        return min(ours, key=lambda i: self.figures[i].engine.p50_ms, default=0)

    def timings(self, index: int) -> Dict[str, Timing]:
        """Return a contender's timings: engine only, then each file."""
        return {_ENGINE: self.figures[index].engine, **self.figures[index].files}


@dataclasses.dataclass(frozen=True)
class Bar:
    """A required ratio and the measured one.

    Attributes:
        text: description.
        limit: largest ratio that meets the requirement.
        ratio: time of adq-edge's best engine over the peer's, in one interleaved run; None without the peer.
    """

    text: str
    limit: float
    ratio: Optional[Ratio]


_BARS: Tuple[Tuple[str, str, str, float], ...] = (
    (STFPM, NNCF, _ENGINE, 0.62),
    (STFPM, ANOMALIB_MAKER, _ENGINE, 0.45),
    (STFPM, ANOMALIB_MAKER, _JPEG, 0.40),
    (STFPM, ANOMALIB_MAKER, _PNG, 0.60),
    (STFPM, TORCH, _ENGINE, 0.25),
    (RD, ANOMALIB_MAKER, _ENGINE, 0.85),
)
"""Model, peer, kind of task and limit, for the peer's fastest INT8 engine and torch's contiguous FP32."""

_SIZES: Tuple[Tuple[str, str, float], ...] = ((STFPM, _MEMORY, 150.0), (STFPM, _FILE, 5.0))
"""Model, figure of adq-edge's best engine and limit."""


def bars(tables: Sequence[Table]) -> List[Bar]:
    """Compare adq-edge's best engine with the limits, for the measured models."""
    found = []
    for model, maker, work, limit in _BARS:
        for table in tables:
            if table.model == model:
                text = f"{TITLES[model].split(',')[0]} INT8 against {_rival_name(maker)}, {work}"
                found.append(Bar(text, limit, _against(table, maker, work)))
    for model, figure, limit in _SIZES:
        for table in tables:
            if table.model == model and table.contenders[table.best].is_ours:
                best = table.figures[table.best]
                value = best.peak_rss_mb if figure == _MEMORY else best.file_mb
                text = f"{TITLES[model].split(',')[0]} INT8, {figure}"
                found.append(Bar(text, limit, None if value is None else Ratio(value, None)))
    return found


def _rival_name(maker: str) -> str:
    return "torch eager FP32" if maker == TORCH else f"{maker} INT8"


def _against(table: Table, maker: str, work: str) -> Optional[Ratio]:
    wanted = {TORCH: ("torch_eager", "fp32"), NNCF: ("nncf_openvino", "int8")}.get(
        maker, ("anomalib_int8", "int8")
    )
    rivals = [
        table.timings(i)[work]
        for i, contender in enumerate(table.contenders)
        if (contender.peer, contender.precision) == wanted
        and "channels_last" not in contender.variant
        and work in table.timings(i)
    ]
    if not rivals or not table.contenders[table.best].is_ours or work not in table.timings(table.best):
        return None
    return ratio(table.timings(table.best)[work], min(rivals, key=lambda timing: timing.p50_ms))


def write(folder: Path, name: str, tables: Sequence[Table], settings: Dict[str, Any]) -> str:
    """Write NAME.json and NAME.md to a folder and return the text of the latter."""
    machine = read_environment()
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    found = bars(tables)
    content = {
        "date": date,
        **settings,
        "bars": [dataclasses.asdict(bar) for bar in found],
        "tables": {table.model: _plain(table) for table in tables},
        "environment": dataclasses.asdict(machine),
    }
    write_json(folder / f"{name}.json", "adq-edge/peers", 1, content)
    lines = ["# adq-edge beside its peers", ""]
    if settings["quick"]:
        lines += ["**A quick look: not to be quoted.**", ""]
    for table in tables:
        lines += [*_markdown(table), ""]
    lines += [
        "## Bars",
        "",
        "| adq-edge's best over the peer's, or its size | limit | measured (95 % interval over rounds) |",
        "|---|---|---|",
    ]
    lines += [f"| {bar.text} | {bar.limit:.2f} | {_bar_value(bar.ratio)} |" for bar in found]
    text = "\n".join([*lines, *_legend(settings, date, machine)])
    write_bytes(folder / f"{name}.md", text.encode())
    return text


def _bar_value(found: Optional[Ratio]) -> str:
    if found is None or found.interval is None:
        return _MISSING if found is None else f"{found.value:.3f}"
    return f"{found.value:.3f} ({found.interval.low:.3f} to {found.interval.high:.3f})"


def _legend(settings: Dict[str, Any], date: str, machine: Environment) -> List[str]:
    """Return the notes below the tables: method, date, machine and versions."""
    threads = "each peer's default number of" if settings["threads"] is None else settings["threads"]
    versions = "; ".join(
        f"{maker}: {', '.join(f'{package} {version}' for package, version in packages.items())}"
        for maker, packages in settings["versions"].items()
    )
    return [
        "",
        "SingleStream, batch 1: one interleaved run per model, each contender in its own process, with at "
        f"least {settings['queries']} queries and {settings['seconds']:.0f} s of its engine, and a "
        "quarter of that for each file. A ratio is the time of adq-edge's best INT8 engine (in bold) over "
        "that of the row, the median over rounds: below 1, adq-edge is faster. End to end is from a file in "
        "the system's cache to a score and a map of the input's size. SNR and bias: maps and scores of "
        f"{settings['check_images']} test images compared with torch FP32 with the same scoring, medians "
        "over images; with random weights they mean little.",
        "",
        f"{date}, {machine.cpu}, {machine.logical_cores} cores ({', '.join(machine.instruction_sets)}), "
        f"{threads} threads, load average before: {settings['load_average']}. {versions}.",
        "Made by `python -m benchmarks.peers`.",
        "",
    ]


def _plain(table: Table) -> Dict[str, Any]:
    return {
        "title": TITLES[table.model],
        "best": table.contenders[table.best].label,
        "left_out": table.left_out,
        "interference": dataclasses.asdict(table.interference),
        "contenders": [
            {**dataclasses.asdict(contender), **dataclasses.asdict(figures)}
            for contender, figures in zip(table.contenders, table.figures)
        ],
    }


def _markdown(table: Table) -> Iterator[str]:
    kinds = max((list(table.timings(i)) for i in range(len(table.figures))), key=len)
    headings = ["contender"]
    for kind in kinds:
        headings += [f"{kind} p50 / p90 ms", "ratio"]
    headings += [_MEMORY, _FILE, "map SNR dB", "score bias"]
    yield f"## {TITLES[table.model]}"
    yield ""
    yield "| " + " | ".join(headings) + " |"
    yield "|" + "---|" * len(headings)
    best = table.best
    order = [best, *(i for i in range(len(table.figures)) if i != best)]
    for i in order:
        yield "| " + " | ".join(_row(table, i, kinds)) + " |"
    for name, reason in table.left_out.items():
        yield ""
        yield f"Not measured: {name} ({reason})"
    yield ""
    reasons = "; ".join(table.interference.reasons)
    yield f"Interference: {reasons}." if reasons else "No interference was found."


def _row(table: Table, index: int, kinds: Sequence[str]) -> Iterator[str]:
    figures, timings, best = table.figures[index], table.timings(index), table.timings(table.best)
    label = table.contenders[index].label
    yield f"**{label}**" if index == table.best else label
    for kind in kinds:
        timing = timings.get(kind)
        yield _MISSING if timing is None else f"{timing.p50_ms:.2f} / {timing.p90_ms:.2f}"
        yield _MISSING if timing is None or kind not in best else f"{ratio(best[kind], timing).value:.3f}"
    yield f"{figures.peak_rss_mb:.0f}"
    yield _number(figures.file_mb, ".2f")
    yield _number(figures.map_snr_db, ".1f")
    yield _number(None if figures.score_bias is None else 100 * figures.score_bias, "+.1f", " %")


def _number(value: Optional[float], form: str, unit: str = "") -> str:
    return _MISSING if value is None else f"{value:{form}}{unit}"
