"""`adq-edge run`."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List, Optional

import typer

from adq_edge.cli import options
from adq_edge.cli.output import Output
from adq_edge.core.errors import AdqError
from adq_edge.core.text import number_of

if TYPE_CHECKING:
    from adq_edge.station.conditions import Condition
    from adq_edge.station.config import StationConfig
    from adq_edge.station.station import Station
    from adq_edge.station.view import Snapshot

DEGRADED = 1
PROBLEMS = 2
_REFRESH_S, _LINE_S = 0.25, 60.0


def run(
    station: Optional[Path] = typer.Argument(
        None, metavar="STATION.toml", help="Station file: engines, sources, sinks. See docs/station.md."
    ),
    source: Optional[str] = typer.Option(
        None,
        metavar="SOURCE",
        help="Camera number, address (rtsp://...), GStreamer pipeline, video file or folder to watch; - for "
        "triggers from standard input. Default: the sources of the station file.",
    ),
    engine: Optional[Path] = typer.Option(
        None, metavar=options.FILE, help="Engine of --source. Default: the newest in engines/."
    ),
    web: Optional[int] = typer.Option(
        None,
        metavar=options.NUMBER,
        min=0,
        max=65535,
        help="Port of a live page and of Prometheus metrics; 0 for a free one. Default: that of [web] in the "
        "station file, or no page.",
    ),
    check: bool = typer.Option(False, "--check", help="Check every part, and start nothing."),
    replay: Optional[Path] = typer.Option(
        None,
        metavar=options.FOLDER,
        help="Play recorded images instead of the sources, at the pace of the recording. Default: none.",
    ),
    speed: float = typer.Option(
        1.0, metavar=options.NUMBER, help="Pace of --replay: 2 is twice as fast, 0 is without pauses."
    ),
    as_json: bool = False,
) -> Optional[Output]:
    """Run an inspection station, from camera to verdict.

    Each trigger or camera image has its verdict by its deadline. Verdicts are stored until every sink has
    acknowledged them. An image without a result by its deadline is "cannot judge". With --source or --json,
    each verdict is a line of JSON on standard output.

    Exit code: 0 at the end of the sources or after a signal. 1 if the station is degraded then: a part has a
    problem, or verdicts wait for a sink. 2 if it cannot start, or --check finds a problem.
    """
    if station is None and source is None and replay is not None:
        source = str(replay)
    config = _config(station, source, engine)
    if replay is not None:
        from adq_edge.station.quick import replay_config

        config = replay_config(config, replay, speed)
    if web is not None:
        config = _with_page(config, web)
    if check:
        return _check(config)
    if station is None or as_json:
        config = _with_lines(config)
    _run(config)
    return None


def _config(station: Optional[Path], source: Optional[str], engine: Optional[Path]) -> StationConfig:
    """Return the station of the file, or of the options."""
    if station is not None:
        from adq_edge.station.config import read_config

        if source is not None or engine is not None:
            raise AdqError("--source and --engine exclude a station file", fix="Give one of them")
        return read_config(station)
    from adq_edge.artifacts import workspace
    from adq_edge.station.quick import quick_config

    if source is None:
        fix = "Name a station file: adq-edge run STATION.toml. Or give --source 0 for the first camera"
        raise AdqError("a station is missing", fix=fix)
    return quick_config(workspace.latest_engine() if engine is None else engine, source)


def _check(config: StationConfig) -> Output:
    from adq_edge.station.check import check_station

    findings = check_station(config)
    problems = [one for one in findings if one.problem is not None]
    document = {
        "schema": "adq-edge/station-check",
        "version": 1,
        "findings": [dataclasses.asdict(one) for one in findings],
    }
    return Output(
        document,
        lines=[f"ok  {one.part}  {one.detail}".rstrip() for one in findings if one.problem is None],
        failures=[f"{one.part}: {one.problem}" for one in problems],
        exit_code=PROBLEMS if problems else 0,
    )


def _with_page(config: StationConfig, port: int) -> StationConfig:
    """Return the station with a page on another port, or with one on this machine if it had none."""
    from adq_edge.station.services.web.options import WebOptions
    from adq_edge.station.services.web.service import WebService

    found = config.services.get("web")
    options = found.options if isinstance(found, WebService) else WebOptions()
    page = WebService(dataclasses.replace(options, port=port))
    return dataclasses.replace(config, services={**config.services, "web": page})


def _with_lines(config: StationConfig) -> StationConfig:
    """Return the station with a service that prints the verdicts."""
    from adq_edge.station.services.print_lines import PrintLines

    return dataclasses.replace(config, services={**config.services, "print": PrintLines(None)})


def _run(config: StationConfig) -> None:
    """Run a station until its sources or a signal end it; exit with 1 if it is degraded at its end."""
    from adq_edge.core.console import pulsing_bar
    from adq_edge.core.interruption import call_on_signals
    from adq_edge.station.station import Station

    station = Station(config)
    station.conditions.listen(partial(_print_condition, config))
    with call_on_signals(station.request_stop), contextlib.ExitStack() as running:
        with pulsing_bar("Starting"):
            running.enter_context(station)
        _print_addresses(config)
        if not config.sinks and "print" not in config.services:
            _print_note(config, "there are no sinks: verdicts stay in the store. Add [sinks.NAME]")
        with _status(station):
            station.wait()
        with pulsing_bar("Delivering the last verdicts"):
            running.close()
    _print_end(station)


def _print_addresses(config: StationConfig) -> None:
    from adq_edge.core.console import console
    from adq_edge.station.conditions import Condition

    for name, service in config.services.items():
        address = service.describe()
        if address is not None and config.station.log == "json":
            _print_log_line(config, Condition(f"service {name}", None, time.time()), address)
        elif address is not None:
            console.print(f"{name}: {address}", soft_wrap=True)


def _print_note(config: StationConfig, note: str) -> None:
    from adq_edge.core.console import console
    from adq_edge.station.conditions import Condition

    if config.station.log == "json":
        _print_log_line(config, Condition("station", None, time.time()), note)
    else:
        console.print(f"note: {note}", soft_wrap=True)


def _print_log_line(config: StationConfig, change: Condition, text: Optional[str] = None) -> None:
    from adq_edge.station.log import log_line

    typer.echo(log_line(config.station.name, change, text), err=True)


def _print_condition(config: StationConfig, condition: Condition) -> None:
    from adq_edge.core.console import console

    if config.station.log == "json":
        _print_log_line(config, condition)
        return
    moment = time.strftime("%H:%M:%S", time.localtime(condition.at))
    text = "no problem any more" if condition.problem is None else condition.problem
    console.print(f"{moment} {condition.subject}: {text}", soft_wrap=True)


@contextlib.contextmanager
def _status(station: Station) -> Iterator[None]:
    """Show one live line on a terminal; elsewhere print a line each minute."""
    import threading

    from rich.live import Live

    from adq_edge.core.console import console

    ended = threading.Event()
    live = Live(
        console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    )

    def show() -> None:
        if not console.is_terminal:
            while not ended.wait(_LINE_S):
                console.print(status_line(station.snapshot()), soft_wrap=True)
            return
        with live:
            while not ended.wait(_REFRESH_S):
                live.update(status_line(station.snapshot()), refresh=True)

    thread = threading.Thread(target=show, name="status", daemon=True)
    if not (console.quiet or station.config.station.log == "json"):
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()


def status_line(snapshot: Snapshot) -> str:
    """Return the figures of a station on one line."""
    parts: List[str] = [number_of(snapshot.decided, "verdict")]
    for verdict in ("defective", "unknown product", "cannot judge"):
        count = snapshot.count(verdict)
        parts += [f"{count:,} {verdict}"] if count else []
    if snapshot.decided:
        parts.append(f"p50 {snapshot.latency.p50:.1f} ms, p99.9 {snapshot.latency.p999:.1f} ms")
    failing = {one.subject for one in snapshot.conditions}
    waiting = {sink: count for sink, count in snapshot.waiting.items() if f"sink {sink}" in failing}
    parts += [f"{count:,} wait for {sink}" for sink, count in waiting.items()]
    parts += [f"{snapshot.unstored:,} not stored"] if snapshot.unstored else []
    if snapshot.conditions:
        parts.append("degraded: " + ", ".join(one.subject for one in snapshot.conditions))
    return " | ".join(parts)


def _print_end(station: Station) -> None:
    from adq_edge.core.console import console
    from adq_edge.station.conditions import Condition

    snapshot = station.snapshot()
    problems = "; ".join(f"{one.subject}: {one.problem}" for one in snapshot.conditions)
    if station.config.station.log == "json":
        end = Condition("station", f"degraded at the end: {problems}" if problems else None, time.time())
        _print_log_line(station.config, end, status_line(snapshot))
    else:
        console.print(status_line(snapshot), soft_wrap=True)
        if problems:
            typer.echo(f"adq-edge: degraded at the end: {problems}", err=True)
    if problems:
        raise typer.Exit(DEGRADED)
