"""The tables of a report's context: engines as built, boards, machines, cautions and source files."""

from __future__ import annotations

from typing import Iterator, List, NamedTuple, Sequence, Tuple

from adq_edge.core.text import number_of
from adq_edge.hardware.board_state import BoardState
from adq_edge.hardware.environment import Environment
from adq_edge.report.load import Collection
from adq_edge.report.model import Device, Entry
from adq_edge.report.phrasing import yes_or_no
from adq_edge.report.table import Column, Field, Table, part, prose, tabulate, text
from adq_edge.report.tables.bench import BUILD, ENGINE


def engines_table(entries: Sequence[Entry]) -> Table:
    """Return how each engine was built; engines without such data are left out."""
    layers: Field[Entry] = (prose("layers"), _layers)
    built = [entry for entry in entries if entry.engine.layers or any(read(entry) for _, read in BUILD)]
    note = (
        "Layers that the runtime executes: by number format where TensorRT reports it, else by the runtime's "
        "own names for its operators."
    )
    return tabulate("Engines as they were built", [*ENGINE, *BUILD, layers], built, [note], key="engines")


def _layers(entry: Entry) -> str:
    return ", ".join(f"{count} {name}" for name, count in entry.engine.layers.items())


class _State(NamedTuple):
    """The settings of a board before or after a run."""

    entry: Entry
    when: str
    board: BoardState


def board_table(entries: Sequence[Entry]) -> Table:
    """Return the settings of each engine's board before and after its run."""
    states = [
        _State(entry, when, board)
        for entry in entries
        for when, board in (("before", entry.report.board_before), ("after", entry.report.board_after))
        if board is not None
    ]
    engine: List[Field[_State]] = part(lambda state: state.entry, ENGINE)
    when: Field[_State] = (text("when"), lambda state: state.when)
    settings: List[Field[_State]] = part(
        lambda state: state.board,
        (
            (text("power mode"), lambda board: None if board.power_mode is None else board.power_mode.label),
            (text("clocks locked"), lambda board: yes_or_no(board.clocks_locked)),
            (Column("GPU", "MHz", ".0f"), lambda board: board.gpu_mhz),
            (Column("memory", "MHz", ".0f"), lambda board: board.emc_mhz),
            (Column("hottest", "°C", ".1f"), lambda board: board.hottest_degc),
        ),
    )
    note = "Settings during the engine's own run. A power mode's watts limit clocks; they are not measured."
    return tabulate("The board before and after", [*engine, when, *settings], states, [note], key="board")


def environment_table(devices: Sequence[Device]) -> Table:
    """Return machines and software; where runs differ, every value."""
    rows = []
    for device in devices:
        lists = [dict(_properties(environment)) for environment in device.environments]
        for name in dict.fromkeys(name for properties in lists for name in properties):
            values = dict.fromkeys(properties[name] for properties in lists if name in properties)
            rows.append((device.name, name, "; ".join(values)))
        governors = {entry.report.interference.governor for entry in device.entries} - {None}
        if governors:
            rows.append((device.name, "clock governor", "; ".join(sorted(map(str, governors)))))
    columns = (text("device"), text("what"), prose("value"))
    return Table("Machines and software", columns, tuple(rows), key="environment")


def _properties(environment: Environment) -> Iterator[Tuple[str, str]]:
    physical = "" if environment.physical_cores is None else f", {environment.physical_cores} physical"
    jetpack = environment.jetpack or "not known"
    l4t, quota, memory = environment.l4t, environment.cpu_quota, environment.memory_mb
    optional = (
        ("host", environment.host),
        ("board", environment.board),
        ("Jetson Linux", None if l4t is None else f"L4T {l4t}, JetPack {jetpack}"),
        ("CUDA", environment.cuda),
        ("power mode", environment.power_mode),
        ("graphics card", environment.gpu),
        ("processor", f"{environment.cpu} ({environment.architecture})"),
        ("cores", f"{environment.logical_cores} logical{physical}"),
        ("container's CPU limit", None if quota is None else number_of(quota, "core")),
        ("memory", None if memory is None else f"{memory / 1000:.1f} GB"),
        ("instruction sets", ", ".join(environment.instruction_sets) or "not known"),
        ("system", f"{environment.os}, {environment.kernel}"),
        ("Python", environment.python),
    )
    yield from ((name, value) for name, value in optional if value is not None)
    yield from environment.packages.items()


def caution_table(entries: Sequence[Entry]) -> Table:
    """Return every reason for caution, engine by engine."""
    rows = tuple(
        (flag.word, entry.engine.name, entry.device, flag.reason)
        for entry in entries
        for flag in entry.all_flags
    )
    columns = (text("caution"), text("engine"), text("device"), prose("why"))
    return Table("Reasons for caution", columns, rows, key="cautions")


def sources_table(collection: Collection) -> Table:
    """Return the result files that a report was made from."""
    rows = tuple((path.name, digest) for path, digest in collection.sources)
    columns = (text("file"), text("SHA-256"))
    return Table("Result files", columns, rows, collection.notes, key="sources")
