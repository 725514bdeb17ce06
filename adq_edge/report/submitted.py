"""Shows a submission as the run of `bench` that it was made from, for a report beside other runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Dict, Optional

from adq_edge.artifacts.bundle import FileReference
from adq_edge.benchmark.records import Comparison, EngineBenchmark, OfflineEnd
from adq_edge.benchmark.results import BenchmarkReport, Interference, Settings
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment
from adq_edge.hardware.power import PowerMode
from adq_edge.hardware.telemetry.recording import Energy, Recording, Series
from adq_edge.report.machines import SUBMITTED
from adq_edge.report.submission import (
    BoardSettings,
    Submission,
    SubmittedEngine,
    SubmittedQuality,
    SubmittedSensors,
)

_NOT_TOLD = "unknown"


def run_of(submission: Submission) -> BenchmarkReport:
    """Return the run of a submission; its host is the submission's hash."""
    board, settings, other = submission.board, submission.settings, submission.interference
    identity, first = _identity(submission), next((engine.name for engine in submission.engines), "")
    return BenchmarkReport(
        run=f"{SUBMITTED}{identity}",
        created=submission.date,
        quick=submission.quick,
        settings=Settings(
            settings.device.value,
            settings.threads,
            settings.queries,
            settings.seconds,
            settings.offline_seconds,
            "image of the submitter" if settings.own_image else "synthetic",
            settings.image_pixels,
            settings.image_mb,
        ),
        environment=Environment(
            cpu=board.cpu or board.architecture or _NOT_TOLD,
            architecture=board.architecture or _NOT_TOLD,
            board=board.name,
            instruction_sets=board.instruction_sets,
            logical_cores=board.logical_cores,
            physical_cores=None,
            cpu_quota=None,
            memory_mb=None if board.memory_gb is None else 1000 * board.memory_gb,
            os=board.system or _NOT_TOLD,
            kernel="kernel not told",
            python=board.python or _NOT_TOLD,
            packages=board.packages,
            gpu=None,
            power_mode=board.mode,
            host=f"{SUBMITTED}{identity}",
            l4t=board.l4t,
            jetpack=board.jetpack,
            cuda=board.cuda,
        ),
        engines=tuple(_engine(identity, first, engine) for engine in submission.engines),
        interference=Interference(
            other.is_quiet,
            () if other.is_quiet else ("other work on the board",),
            other.other_cpu_percent,
            other.stolen_percent,
            other.drift_percent,
            other.governor,
        ),
        board_before=_state(board.before),
        board_after=_state(board.after),
    )


def qualities_of(submission: Submission) -> Dict[str, SubmittedQuality]:
    """Return the quality of each evaluated engine by the SHA-256 that the engine has in `run_of`."""
    identity = _identity(submission)
    return {
        _engine_id(identity, engine): engine.quality
        for engine in submission.engines
        if engine.quality is not None
    }


def _identity(submission: Submission) -> str:
    return hashlib.sha256(json.dumps(submission.document()).encode()).hexdigest()[:8]


def _engine_id(identity: str, engine: SubmittedEngine) -> str:
    """Return a text in place of the SHA-256 of an engine file, which a submission lacks."""
    return hashlib.sha256(f"{identity} {engine.name}".encode()).hexdigest()


def _engine(identity: str, first: str, engine: SubmittedEngine) -> EngineBenchmark:
    """Return an engine; `first` is the name of the first engine, the baseline of the others."""
    has_failed = engine.offline_end is OfflineEnd.FAILED
    return EngineBenchmark(
        name=engine.name,
        engine=FileReference(engine.name, _engine_id(identity, engine)),
        model_sha256=hashlib.sha256(f"{identity} {engine.model}".encode()).hexdigest(),
        precision=engine.precision.value,
        arch=engine.method,
        image_size=engine.image_size,
        engine_mb=engine.engine_mb,
        runtime=engine.runtime,
        runtime_version=engine.runtime_version or _NOT_TOLD,
        load_ms=engine.load_ms,
        single_stream=engine.single_stream,
        end_to_end=engine.end_to_end,
        offline=engine.offline,
        memory=engine.memory,
        comparison=None if engine.ratio is None else Comparison(first, **vars(engine.ratio)),
        recording=None if engine.sensors is None else _recording(engine.sensors),
        offline_warm_up=engine.offline_warm_up,
        offline_end=engine.offline_end,
        build_seconds=engine.build_seconds,
        layers=engine.layers,
        cuda_graph=engine.cuda_graph,
        offline_failure="(the submission does not tell why)" if has_failed else None,
        enqueue_ms=engine.enqueue_ms,
        gpu_wait=engine.gpu_wait,
    )


def _recording(sensors: SubmittedSensors) -> Recording:
    hottest = () if sensors.hottest_degc is None else (Series("hottest", "degC", (sensors.hottest_degc,)),)
    return Recording(
        source="submission",
        hertz=sensors.hertz,
        cost_percent=sensors.cost_percent,
        seconds=(0.0,) if hottest else (),
        power=(),
        temperatures=hottest,
        clocks=(),
        throttled=sensors.throttled,
        throttle_reasons=(),
        energy=None if sensors.energy is None else Energy(**vars(sensors.energy)),
    )


def _state(settings: Optional[BoardSettings]) -> Optional[BoardState]:
    if settings is None:
        return None
    values = dataclasses.asdict(settings)
    mode = {name[len("mode_") :]: values.pop(name) for name in list(values) if name.startswith("mode_")}
    name, number = values.pop("mode"), mode.pop("id")
    return BoardState(None if name is None else PowerMode(number or 0, name, **mode), **values)
