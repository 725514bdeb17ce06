"""One model's contenders, from a list of names to a table."""

from __future__ import annotations

import contextlib
from typing import Dict, Optional, Sequence

from adq_edge.console import console, progress_bar
from adq_edge.errors import AdqError
from benchmarks.peers.catalogue import TITLES, Contender
from benchmarks.peers.contract import Job
from benchmarks.peers.materials import Model, Pictures
from benchmarks.peers.measuring import Plan, enter, measure
from benchmarks.peers.process import PeerError, start_worker
from benchmarks.peers.tables import Table


def compete(
    model: Model,
    contenders: Sequence[Contender],
    pictures: Pictures,
    plan: Plan,
    pythons: Dict[str, str],
    threads: Optional[int],
    versions: Dict[str, Dict[str, str]],
) -> Table:
    """Prepare, load and time one model's contenders; those that fail before the timing are left out.

    Args:
        model: the model.
        contenders: who is asked.
        pictures: what they are given.
        plan: how much is measured.
        pythons: interpreter by maker.
        threads: CPU threads; each peer's own default if None.
        versions: packages by maker; those that were found are added.

    Raises:
        AdqError: nobody was found.
        PeerError: a contender failed while it was timed.
    """
    left_out: Dict[str, str] = {}
    entrants = []
    with contextlib.ExitStack() as stack:
        for contender in contenders:
            made = model.folder / contender.key
            made.mkdir()
            job = Job(
                contender.peer,
                contender.variant,
                str(model.folder),
                str(pictures.folder),
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
                    # Elsewhere: what it takes is no part of the timed process's peak memory.
                    with start_worker(contender.label, job, python, made) as maker:
                        maker.ask("prepare")
                entrants.append(enter(contender, worker, pictures))
                versions.setdefault(contender.maker, {}).update(found["versions"])
            except PeerError as error:
                left_out[contender.label] = error.what
                console.print(f"left out: {error}", markup=False)
        if not entrants:
            raise AdqError("no contender was found", fix="Install one, or name its interpreter with --python")
        turns = plan.rounds * len(entrants)
        with progress_bar(f"Timing {TITLES[model.name]}", turns, "turns") as advance:
            figures = measure(entrants, model, pictures, plan, model.folder, advance)
    return Table(model.name, [entrant.contender for entrant in entrants], figures, left_out)
