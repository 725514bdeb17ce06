"""`bench`: latency, throughput, memory and power of engines in turns, each in its own process."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from pathlib import Path
from typing import Optional, Sequence, Tuple, Union

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar
from adq_edge.benchmark.device_check import check_device
from adq_edge.benchmark.quotable import QUOTABLE_QUERIES, QUOTABLE_SECONDS
from adq_edge.benchmark.results import BenchmarkReport, Settings
from adq_edge.benchmark.runner import measure
from adq_edge.benchmark.sample_image import SampleImage, open_sample_image
from adq_edge.benchmark.schedule import Plan, make_plan
from adq_edge.benchmark.summary import summarize, summarize_interference
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import EngineError, ResultError, StorageError
from adq_edge.core.files import check_writable, write_together
from adq_edge.core.limits import requested_threads
from adq_edge.core.options import Device, Scenario, choose
from adq_edge.core.runtimes import find_runtime
from adq_edge.hardware.board_state import read_board_state
from adq_edge.hardware.environment import read_environment

_SUFFIX = ".bench.json"
_QUICK_SUFFIX = ".quick.bench.json"  # a quick run must not replace quotable results


class UnsavedReportError(StorageError):
    """A result file cannot be written after the measurement.

    Args:
        problem: the reason.
        report: the measured results.
    """

    def __init__(self, problem: StorageError, report: BenchmarkReport) -> None:
        super().__init__(problem.what, where=problem.where, fix=problem.fix)
        self.report = report


def bench(
    engines: Optional[Union[str, Path, Sequence[Union[str, Path]]]] = None,
    *,
    device: Optional[Union[Device, str]] = None,
    runtime: Optional[str] = None,
    threads: Optional[int] = None,
    queries: int = QUOTABLE_QUERIES,
    seconds: float = QUOTABLE_SECONDS,
    quick: bool = False,
    scenarios: Optional[Union[Scenario, str, Sequence[Union[Scenario, str]]]] = None,
    batches: Optional[Sequence[int]] = None,
    image: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    progress: bool = True,
    cuda_graph: bool = True,
) -> BenchmarkReport:
    """Measure engines in turns and write one result file for each.

    Args:
        engines: the engine file or files; the first one is the baseline of the comparisons. The newest in
            `engines/` by default.
        device: the device, for which all engines must be built; that of the first engine by default.
        runtime: another runtime than the engines' own.
        threads: CPU threads; by default OMP_NUM_THREADS, or the runtime's default if it is not set.
        queries: minimum number of SingleStream queries per engine.
        seconds: minimum duration of SingleStream per engine; the other measurements take about as long.
        quick: measure for 3 to 5 s per engine; the results are marked as not to be quoted.
        scenarios: MLPerf's names of the scenarios; SingleStream and Offline by default.
        batches: batch sizes of Offline; by default 1, 2, 4 and so on until throughput stops rising.
        image: an encoded image for end to end; by default a synthetic one of 1024x1024 pixels.
        output: the result file (.json) of a single engine, or the folder for the files of several engines;
            `benchmarks/results/NAME.bench.json` by default, `NAME.quick.bench.json` of a quick run.
        progress: whether to show a progress bar.
        cuda_graph: False to start each kernel of a GPU by itself, for comparison.

    Raises:
        AdqError: nothing to measure (no queries, or a batch size below 1), a batch size that an engine does
            not accept, or the device is not here.
        DataError: `image` is not an image.
        EngineError: an engine is missing, damaged or built for another device, or fails outside Offline. A
            failure in Offline ends Offline for this engine and is part of its results.
        MissingDependencyError: the runtime is not installed.
        ResultError: several engines, but `output` is one file.
        StorageError: a file cannot be read or written. After the measurement an UnsavedReportError, which has
            the report.
    """
    if device is not None:
        device = choose(Device, device)
        check_device(device)
    files = [engines] if isinstance(engines, (str, Path)) else engines or [workspace.latest_engine()]
    paths = [Path(engine) for engine in files]
    if runtime is not None:
        find_runtime(runtime)
    names = [scenarios] if isinstance(scenarios, str) else scenarios or Scenario
    chosen = tuple(choose(Scenario, name) for name in names)
    plan = make_plan(queries, seconds, quick, chosen, batches)
    sidecars = [read_sidecar(path) for path in paths]  # check all of them before anything is started
    if device is None:
        device = choose(Device, sidecars[0].device)
        check_device(device)
    _check_devices(paths, sidecars, device)
    if threads is None and device is Device.CPU:
        threads = requested_threads()
    target = _prepare_output(workspace.RESULTS if output is None else Path(output), len(paths))
    what = paths[0].name if len(paths) == 1 else f"{len(paths)} engines"  # names would not fit beside the bar
    task = f"Benchmarking {what}{' (quick)' if quick else ''}"
    environment = read_environment()
    turns = len(paths) * plan.turns
    board_before = read_board_state()
    bar = progress_bar(task, turns, "turns", shown=progress, auto_refresh=False)
    with open_sample_image(image) as sample, bar as advance:
        measured = measure(paths, plan, runtime, threads, sample.path, advance, cuda_graph)
    report = BenchmarkReport(
        run=uuid.uuid4().hex,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        quick=quick,
        settings=_settings(device, threads, plan, sample),
        environment=environment,
        engines=summarize(measured),
        interference=summarize_interference(measured),
        board_before=board_before,
        board_after=read_board_state(),
    )
    try:
        with write_together():
            for engine, path in zip(report.engines, result_files(report, target)):
                dataclasses.replace(report, engines=(engine,)).write(path)
    except StorageError as problem:
        raise UnsavedReportError(problem, report) from problem
    return report


def _check_devices(paths: Sequence[Path], sidecars: Sequence[Sidecar], device: Device) -> None:
    for path, sidecar in zip(paths, sidecars):
        if find_runtime(sidecar.runtime).is_emulation:
            what = "emulates an engine of another device, whose speed it does not have"
            fix = "Measure an engine that was built for the device, or estimate: bench --estimate BUNDLE"
            raise EngineError(what, where=path, fix=fix)
        if sidecar.device != device.value:
            raise EngineError(
                f"built for {sidecar.device}, not for {device.value}",
                where=path,
                fix=f"Build it: adq-edge build BUNDLE --device {device.value}",
            )


def _settings(device: Device, threads: Optional[int], plan: Plan, sample: SampleImage) -> Settings:
    return Settings(
        device=device.value,
        threads=threads,
        queries=plan.queries,
        seconds=plan.seconds,
        offline_seconds=plan.offline_seconds,
        image=sample.name,
        image_pixels=sample.pixels,
        image_mb=sample.size_mb,
    )


def _prepare_output(target: Path, engines: int) -> Path:
    """Return the result file or folder; check before the measurement that it can be written."""
    if _is_file(target) and engines > 1:
        raise ResultError("each engine has its own result file", where=target, fix="Name a folder")
    check_writable(target if _is_file(target) else target / _SUFFIX)
    return target


def _is_file(target: Path) -> bool:
    return target.suffix == ".json"


def result_files(report: BenchmarkReport, output: Union[str, Path] = workspace.RESULTS) -> Tuple[Path, ...]:
    """Return the result files of a run, one for each engine; `output` is that of `bench`."""
    target = Path(output)
    if _is_file(target):
        return (target,)
    suffix = _QUICK_SUFFIX if report.quick else _SUFFIX
    return tuple(target / f"{engine.name}{suffix}" for engine in report.engines)
