"""`bench --submit`: writes the figures of a board into one file without names of persons or places."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Type, TypeVar

from adq_edge.artifacts import workspace
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.benchmark.records import EndToEnd, EngineBenchmark, Latency
from adq_edge.benchmark.results import BenchmarkReport
from adq_edge.core.errors import AdqError, ResultError
from adq_edge.core.files import check_writable
from adq_edge.core.methods import METHODS
from adq_edge.core.options import CARD_DEVICES, Device, Precision, choose
from adq_edge.core.records import Record
from adq_edge.core.runtimes import RUNTIMES
from adq_edge.core.version import __version__
from adq_edge.evaluation.compare import Comparison
from adq_edge.evaluation.evaluate import Evaluation
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment, read_environment
from adq_edge.hardware.jetson import Jetson, family_of, read_jetson
from adq_edge.hardware.telemetry.recording import Recording
from adq_edge.report.load import Collection
from adq_edge.report.machines import same_machine
from adq_edge.report.merge import merge
from adq_edge.report.model import Entry
from adq_edge.report.public_texts import public_text, public_texts, short_version
from adq_edge.report.submission import (
    BoardSettings,
    LatencyRatio,
    Submission,
    SubmittedBoard,
    SubmittedEnergy,
    SubmittedEngine,
    SubmittedInterference,
    SubmittedQuality,
    SubmittedSensors,
    SubmittedSettings,
)

_CUSTOM = "custom"
_BOARDS = "a Jetson, a Raspberry Pi, or an NVIDIA card with --device cuda or rtx"

AnyRecord = TypeVar("AnyRecord", bound=Record)


def check_board(engines: Sequence[Path], device: Optional[Device]) -> None:
    """Check before a measurement on this machine that its submission can be written.

    Args:
        engines: the engine files; the newest in `engines/` if empty.
        device: the device to measure; that of the first engine if None.

    Raises:
        AdqError: this machine is not a board, or the first engine cannot be read.
        StorageError: the folder of submissions cannot be written to.
    """
    check_folder()
    if device is None:
        device = choose(Device, read_sidecar(engines[0] if engines else workspace.latest_engine()).device)
    _board_name(read_environment(), read_jetson(), device.value)


def check_folder(folder: Path = workspace.SUBMISSIONS) -> None:
    """Raise a StorageError if no submission can be written to a folder."""
    check_writable(folder / "submission.json")


def write_submission(
    results: Sequence[Path],
    jetson: Optional[Jetson],
    others: Iterable[Path] = (),
    folder: Path = workspace.SUBMISSIONS,
) -> Path:
    """Write the submission of a run of `bench`, and return its path; no existing file is replaced.

    Args:
        results: the result files of the run.
        jetson: the Jetson that was measured; None for another board, or if it is not known.
        others: result files of `eval` and `compare`, of which those of the measured engines count.
        folder: the folder of the submission.

    Raises:
        ResultError: the run was not measured on a board, or a result file is not valid.
        StorageError: a file cannot be read or written.
    """
    reports = [BenchmarkReport.read(path) for path in results]
    paths = list(others)
    collection = Collection(
        runs=tuple(dataclasses.replace(one, engines=(engine,)) for one in reports for engine in one.engines),
        evaluations=tuple(_valid(Evaluation, paths)),
        comparisons=tuple(_valid(Comparison, paths)),
        estimates=(),
        sources=(),
        notes=(),
    )
    submission = make_submission(collection, jetson)
    path = _free_path(folder, submission)
    submission.write(path)
    return path


def evaluations_in(folder: Path = workspace.RESULTS) -> List[Path]:
    """Return the result files of `eval` and `compare` in a folder."""
    return [path for kind in ("eval", "compare") for path in sorted(folder.glob(f"*.{kind}.json"))]


def make_submission(collection: Collection, jetson: Optional[Jetson]) -> Submission:
    """Return the submission of a run.

    Raises:
        ResultError: the run was not measured on a board.
    """
    entries = [entry for device in merge(collection) for entry in device.entries]
    run = entries[0].report
    ordered = sorted(entries, key=lambda entry: entry.engine.comparison is not None)  # the baseline is first
    models: Dict[str, int] = {}
    names: List[str] = []
    engines = []
    for entry in ordered:
        number = models.setdefault(entry.engine.model_sha256, len(models) + 1)
        names.append(_engine_name(entry.engine, names))
        engines.append(_engine(entry, names[-1], number, collection.comparisons))
    settings, other = run.settings, run.interference
    submission = Submission(
        release=public_text(Submission, "release", __version__, "0.0"),
        date=public_text(Submission, "date", run.created[:10], "2000-01-01"),
        quick=run.quick,
        board=_board(run, jetson),
        settings=SubmittedSettings(
            choose(Device, settings.device),
            settings.threads,
            settings.queries,
            settings.seconds,
            settings.offline_seconds,
            not settings.image.startswith("synthetic "),
            settings.image_pixels,
            settings.image_mb,
        ),
        interference=SubmittedInterference(
            other.is_quiet,
            other.other_cpu_percent,
            other.stolen_percent,
            other.drift_percent,
            public_text(SubmittedInterference, "governor", other.governor),
        ),
        engines=tuple(engines),
    )
    submission.check()
    return submission


def _valid(kind: Type[AnyRecord], paths: Sequence[Path]) -> Iterator[AnyRecord]:
    """Yield the records of a kind; files of other kinds and damaged ones are left out."""
    for path in paths:
        with contextlib.suppress(AdqError):
            yield kind.read(path)


def _free_path(folder: Path, submission: Submission) -> Path:
    """Return the first path that does not exist: board, power mode, date, and a number if needed."""
    parts = (submission.board.name, submission.board.mode or "", submission.date)
    stem = "-".join(re.sub(r"[^a-z0-9]+", "-", part.lower()) for part in parts if part)
    numbered = (folder / f"{stem}{suffix}.json" for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(
        path for path in itertools.chain(numbered, (folder / f"{stem}-1000.json",)) if not path.exists()
    )


def _board_name(environment: Environment, jetson: Optional[Jetson], device: str) -> str:
    """Return the name of the measured board, which names no person or product.

    Raises:
        ResultError: it is not a board.
    """
    model = environment.board or ""
    names = (
        environment.gpu if device in [card.value for card in CARD_DEVICES] else None,
        None if jetson is None else jetson.family,
        family_of(model),
        " ".join(model.split()[:3]),
        " ".join(model.split()[:5]),  # Raspberry Pi Compute Module 4
    )
    found = next((name for name in names if public_text(SubmittedBoard, "name", name)), None)
    if found is None:
        fix = f"Measure on {_BOARDS}; over the network: adq-edge bench --host user@board --submit"
        raise ResultError("--submit is for figures of a board, and this is not a known one", fix=fix)
    return found


def _board(run: BenchmarkReport, jetson: Optional[Jetson]) -> SubmittedBoard:
    environment = run.environment

    def allowed(name: str, text: Optional[str], otherwise: Optional[str] = None) -> Optional[str]:
        found: Optional[str] = public_text(SubmittedBoard, name, text, otherwise)
        return found

    system = re.match(r"\D+\d+(\.\d+)*", environment.os)
    packages = {name: short_version(version) for name, version in environment.packages.items()}
    return SubmittedBoard(
        name=_board_name(environment, jetson, run.settings.device),
        module=None if jetson is None else allowed("module", jetson.module),
        cpu=allowed("cpu", environment.cpu),
        architecture=allowed("architecture", environment.architecture),
        instruction_sets=public_texts(SubmittedBoard, "instruction_sets", environment.instruction_sets),
        logical_cores=environment.logical_cores,
        memory_gb=None if environment.memory_mb is None else round(environment.memory_mb / 1000, 1),
        mode=_mode(environment.power_mode),
        system=allowed("system", None if system is None else system.group()),
        l4t=allowed("l4t", environment.l4t),
        jetpack=allowed("jetpack", environment.jetpack),
        cuda=allowed("cuda", environment.cuda),
        python=allowed("python", short_version(environment.python)),
        packages={
            name: version
            for name, version in packages.items()
            if len(public_texts(SubmittedBoard, "packages", (name, version))) == 2
        },
        before=_settings(run.board_before),
        after=_settings(run.board_after),
    )


def _mode(name: Optional[str]) -> Optional[str]:
    return None if name is None else public_text(BoardSettings, "mode", name, _CUSTOM)


def _settings(state: Optional[BoardState]) -> Optional[BoardSettings]:
    if state is None:
        return None
    mode = state.power_mode
    return BoardSettings(
        mode=None if mode is None else _mode(mode.name),
        mode_id=None if mode is None else mode.id,
        mode_cores=None if mode is None else mode.cores,
        mode_gpu_max_mhz=None if mode is None else mode.gpu_max_mhz,
        mode_emc_max_mhz=None if mode is None else mode.emc_max_mhz,
        mode_cpu_max_mhz=None if mode is None else mode.cpu_max_mhz,
        clocks_locked=state.clocks_locked,
        gpu_mhz=state.gpu_mhz,
        emc_mhz=state.emc_mhz,
        hottest_degc=state.hottest_degc,
    )


def _engine_name(engine: EngineBenchmark, taken: Sequence[str]) -> str:
    name = f"{_method(engine)}-{choose(Precision, engine.precision).value}"
    numbered = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 2)))
    return next(one for one in numbered if one not in taken)


def _method(engine: EngineBenchmark) -> str:
    return engine.arch if engine.arch in METHODS else "imported"


def _engine(entry: Entry, name: str, model: int, comparisons: Sequence[Comparison]) -> SubmittedEngine:
    engine = entry.engine
    stages, ratio = engine.end_to_end, engine.comparison
    layers = public_texts(SubmittedEngine, "layers", engine.layers)
    return SubmittedEngine(
        name=name,
        method=_method(engine),
        precision=choose(Precision, engine.precision),
        model=model,
        image_size=engine.image_size,
        runtime=engine.runtime if engine.runtime in RUNTIMES else "other",
        runtime_version=public_text(
            SubmittedEngine, "runtime_version", short_version(engine.runtime_version)
        ),
        engine_mb=engine.engine_mb,
        load_ms=engine.load_ms,
        build_seconds=engine.build_seconds,
        layers={kind: engine.layers[kind] for kind in layers},
        cuda_graph=engine.cuda_graph,
        enqueue_ms=engine.enqueue_ms,
        gpu_wait=public_text(SubmittedEngine, "gpu_wait", engine.gpu_wait),
        single_stream=engine.single_stream,
        end_to_end=None if stages is None else _without_distribution(stages),
        offline=engine.offline,
        offline_end=engine.offline_end,
        offline_warm_up=engine.offline_warm_up,
        memory=engine.memory,
        ratio=None
        if ratio is None
        else LatencyRatio(
            ratio.latency_ratio,
            ratio.latency_ratio_interval,
            ratio.latency_ratio_p5,
            ratio.latency_ratio_p95,
            ratio.rounds,
        ),
        sensors=None if engine.recording is None else _sensors(engine.recording),
        quality=_quality(entry, comparisons),
    )


def _without_distribution(part: EndToEnd) -> EndToEnd:
    """Return the stages of an image with the percentiles alone, for a short file."""
    latencies: Dict[str, Any] = {
        field.name: dataclasses.replace(value, quantiles_ms=())
        for field in dataclasses.fields(part)
        for value in (getattr(part, field.name),)
        if isinstance(value, Latency)
    }
    return dataclasses.replace(part, **latencies)


def _sensors(recording: Recording) -> SubmittedSensors:
    energy = recording.energy
    return SubmittedSensors(
        recording.hertz,
        recording.cost_percent,
        recording.hottest,
        recording.throttled,
        None
        if energy is None
        else SubmittedEnergy(
            public_text(SubmittedEnergy, "rail", energy.rail, "input"),
            energy.idle_w,
            energy.mean_w,
            energy.joules_per_image,
            energy.joules_per_image_above_idle,
        ),
    )


def _quality(entry: Entry, comparisons: Sequence[Comparison]) -> Optional[SubmittedQuality]:
    """Return the quality that was measured on the same machine; None without one."""
    quality = entry.quality if not entry.quality_flags else None
    environment, sha256 = entry.report.environment, entry.engine.engine.sha256
    compared = [
        one
        for one in comparisons
        if one.engine_b.engine.sha256 == sha256
        and one.engine_a.precision == Precision.FP32.value
        and same_machine(one.environment, environment)
    ]
    if quality is None and not compared:
        return None
    return SubmittedQuality(
        images=len(compared[0].images) if quality is None else len(quality.scores),
        image_auroc=None if quality is None else quality.image_auroc,
        pixel_auroc=None if quality is None else quality.pixel_auroc,
        aupro=None if quality is None else quality.aupro,
        map_snr_db=compared[0].maps.snr_db if compared else None,
    )
