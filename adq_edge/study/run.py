"""`study`: the whole matrix, cell by cell; what an earlier run finished is not done again."""

from __future__ import annotations

import datetime
import traceback
from pathlib import Path
from typing import Dict, Optional, Sequence

from adq_edge.builders.tensorrt_options import choose_settings
from adq_edge.core.errors import AdqError, MissingDependencyError, StorageError
from adq_edge.core.files import write_bytes
from adq_edge.core.options import DEFAULT_CALIBRATOR, Device, Precision, TensorRTOptions
from adq_edge.report.render.markdown import markdown
from adq_edge.study.artifact_cache import NotPossibleError
from adq_edge.study.captions import notes
from adq_edge.study.cells import CellRunner
from adq_edge.study.checks import check_config
from adq_edge.study.config import StudyConfig
from adq_edge.study.data import StudyData, draw_images, read_data
from adq_edge.study.matrix import Cell, cells_of
from adq_edge.study.progress import StudyProgress
from adq_edge.study.results import CellState, StudyResult
from adq_edge.study.tables import study_tables

RESULT_FILE = "study.json"
MARKDOWN_FILE = "study.md"
_IMAGES = "images"
_FAILURES = "failures"


def study(config: StudyConfig, *, progress: bool = True) -> StudyResult:
    """Run a study, or go on with it.

    Every cell that is done is a file in `OUTPUT/cells`, and `OUTPUT/study.json` and `study.md` are written
    anew after each: an interruption loses the cell in progress alone, but for what it has trained.
    A cell that this machine cannot run is left out with the reason; one that fails is tried again next time,
    and if no error of ours was foreseen for it, its traceback is a file in `OUTPUT/failures`.
    A copy of the folder goes on elsewhere: on a Jetson, which has no torch, the cells of that device are run
    from the bundles that other cells had made; one trained with its rounding needs a finished `qat-tensorrt`.

    Args:
        config: what is studied (see `read_config`).
        progress: print a line for each cell on stderr.

    Raises:
        AdqError: the configuration cannot be used.
        DataError: the images cannot be used.
        StorageError: a file cannot be read or written, or the disk is full.
    """
    check_config(config)
    output = Path(config.output)
    if config.data is None:
        draw_images(output / _IMAGES)
    data = read_data(output / _IMAGES if config.data is None else Path(config.data), config.data is None)
    runner = CellRunner(config, data, output)
    cells = cells_of(config)
    absent = _absent_devices(cells)
    states = {cell: _state_of(cell, runner, absent) for cell in cells}
    todo = [cell for cell in cells if states[cell].result is None and cell.device not in absent]
    shown = StudyProgress(list(states.values()), todo, progress)
    result = _write(output, config, data, states)
    for cell in todo:
        shown.begin(cell)
        states[cell] = _attempt(runner, cell, output / _FAILURES)
        shown.end(states[cell])
        result = _write(output, config, data, states)
    return result


def _state_of(cell: Cell, runner: CellRunner, absent: Dict[Device, str]) -> CellState:
    result = runner.find(cell)  # of an absent device too: another machine may have run it
    return CellState(cell, result, absent.get(cell.device) if result is None else None)


def _attempt(runner: CellRunner, cell: Cell, failures: Path) -> CellState:
    try:
        return CellState(cell, runner.run(cell))
    except StorageError:
        raise  # a full disk ends the study: no cell after this one would do better
    except (NotPossibleError, MissingDependencyError) as error:
        return CellState(cell, reason=str(error))
    except AdqError as error:
        return CellState(cell, reason=str(error), failed=True)
    except Exception as error:  # a library's or our own mistake costs its cell, not the hours after it
        path = failures / f"{cell.name}.txt"
        write_bytes(path, traceback.format_exc().encode("utf-8", "backslashreplace"))
        return CellState(cell, reason=f"{type(error).__name__}: {error} (traceback in {path})", failed=True)


def _absent_devices(cells: Sequence[Cell]) -> Dict[Device, str]:
    """Return why the devices that this machine lacks cannot be used."""
    absent = {}
    for device in dict.fromkeys(cell.device for cell in cells):
        reason = _why_absent(device)
        if reason is not None:
            absent[device] = reason
    return absent


def _why_absent(device: Device) -> Optional[str]:
    if device is Device.CPU:
        return None
    try:
        choose_settings(device, Precision.FP32, DEFAULT_CALIBRATOR, TensorRTOptions())
    except AdqError as error:
        return error.what
    return None


def _write(output: Path, config: StudyConfig, data: StudyData, states: Dict[Cell, CellState]) -> StudyResult:
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    result = StudyResult(created, config, data, tuple(states.values()))
    result.write(output / RESULT_FILE)
    write_bytes(output / MARKDOWN_FILE, _markdown(result).encode("utf-8"))
    return result


def _markdown(result: StudyResult) -> str:
    quick = " (quick, not to be quoted)" if result.config.quick else ""
    progress = f"{result.created}: {len(result.results)} of {len(result.cells)} cells"
    return markdown(f"adq-edge study{quick}", [progress, *notes(result)], study_tables(result))
