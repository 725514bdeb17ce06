"""Prepare, time and tabulate the contenders of one model."""

from __future__ import annotations

import contextlib
from typing import Collection, Dict, Optional, Sequence

from adq_edge.benchmark.interference import drift_percent, find_interference, read_cpu_times, read_governor
from adq_edge.core.console import console, progress_bar
from adq_edge.core.errors import AdqError
from benchmarks.peers.catalog import MAKERS, TITLES, Contender
from benchmarks.peers.contract import Job
from benchmarks.peers.materials import Images, Model
from benchmarks.peers.measuring import Plan, enter, measure
from benchmarks.peers.process import PeerError, start_worker
from benchmarks.peers.tables import Table


def compete(
    model: Model,
    contenders: Sequence[Contender],
    images: Images,
    plan: Plan,
    pythons: Dict[str, str],
    threads: Optional[int],
    versions: Dict[str, Dict[str, str]],
    makers: Collection[str] = MAKERS,
) -> Table:
    """Prepare, load and time the contenders of one model; list those that fail before the timing.

    Args:
        model: the model.
        contenders: all contenders.
        images: input images.
        plan: amount of measurement.
        pythons: Python interpreter by maker.
        threads: CPU threads; the default of each peer if None.
        versions: package versions by maker; extended by this function.
        makers: makers whose contenders run.

    Raises:
        AdqError: no contender was found.
        PeerError: a contender failed during the timing.
    """
    left_out: Dict[str, str] = {}
    entrants = []
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            if contender.maker not in makers:
                left_out[contender.label] = "not selected"
                continue
            made = model.folder / contender.key
            made.mkdir()
            job = Job(
                contender.peer,
                contender.variant,
                str(model.folder),
                str(images.folder),
                str(made),
                model.image_size,
                threads,
            )
            python = pythons[contender.maker]
            try:
                console.print(
                    f"{TITLES[model.name].split(',')[0]}: preparing {contender.label}", markup=False
                )
                worker = stack.enter_context(start_worker(contender.label, job, python, made))
                found = worker.ask("find")
                if found["prepares"]:
                    # In another process, so that it does not raise the peak memory of the timed one.
                    with start_worker(contender.label, job, python, made) as maker:
                        maker.ask("prepare")
                entrants.append(enter(contender, worker, images))
                versions.setdefault(contender.maker, {}).update(found["versions"])
            except PeerError as error:
                left_out[contender.label] = error.what
                console.print(f"Skipping: {error}", markup=False)
        if not entrants:
            raise AdqError("no contender was found", fix="Install one, or name its interpreter with --python")
        workers = [entrant.worker.pid for entrant in entrants]
        before = read_cpu_times(workers)
        turns = plan.rounds * len(entrants)
        with progress_bar(f"Timing {TITLES[model.name]}", turns, "turns") as advance:
            figures = measure(entrants, model, images, plan, model.folder, advance)
        after = read_cpu_times(workers)
    drift = max(drift_percent(each.engine.rounds_ms) for each in figures)
    interference = find_interference(before, after, drift, read_governor())
    return Table(model.name, [entrant.contender for entrant in entrants], figures, left_out, interference)
