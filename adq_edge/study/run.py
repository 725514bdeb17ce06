"""`study`: runs the matrix cell by cell and skips the cells that an earlier run finished."""

from __future__ import annotations

import datetime
import traceback
from pathlib import Path
from typing import Dict, Sequence

from adq_edge.builders.tensorrt_options import choose_settings
from adq_edge.core.errors import AdqError, MissingDependencyError, StorageError
from adq_edge.core.files import write_bytes, write_together
from adq_edge.core.options import DEFAULT_CALIBRATOR, Device, Precision, TensorRTOptions
from adq_edge.core.text import number_of
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
    """Run or resume a study; `progress` prints a line for each cell on stderr.

    Each finished cell is a file in `OUTPUT/cells`; `OUTPUT/study.json` and `study.md` are rewritten after
    each cell. An interruption loses only the measurements of the current cell; its training is resumed. A
    cell that this machine cannot run is skipped, with the reason. The next run repeats failed cells;
    the traceback of an unexpected error is a file in `OUTPUT/failures`.

    A copy of the folder can be resumed on another machine. On a Jetson without torch, the cells use the
    bundles in the copied folder; `int8-qat` needs a finished `qat-tensorrt` model.

    Raises:
        AdqError: the configuration is invalid.
        DataError: the images are unusable.
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
    result = runner.find(cell)  # also for an absent device: another machine may have run it
    return CellState(cell, result, absent.get(cell.device) if result is None else None)


def _attempt(runner: CellRunner, cell: Cell, failures: Path) -> CellState:
    try:
        return CellState(cell, runner.run(cell))
    except StorageError:
        raise  # a full disk ends the study, because every later cell would fail too
    except (NotPossibleError, MissingDependencyError) as error:
        return CellState(cell, reason=str(error))
    except AdqError as error:
        return CellState(cell, reason=str(error), failed=True)
    except Exception as error:  # an unexpected error must not stop the remaining cells
        path = failures / f"{cell.name}.txt"
        write_bytes(path, traceback.format_exc().encode("utf-8", "backslashreplace"))
        return CellState(cell, reason=f"{type(error).__name__}: {error} (traceback in {path})", failed=True)


def _absent_devices(cells: Sequence[Cell]) -> Dict[Device, str]:
    """Return the devices that cannot be used on this machine, and why."""
    absent = {}
    for device in {cell.device for cell in cells} - {Device.CPU}:
        try:
            choose_settings(device, Precision.FP32, DEFAULT_CALIBRATOR, TensorRTOptions())
        except AdqError as error:
            absent[device] = error.what
    return absent


def _write(output: Path, config: StudyConfig, data: StudyData, states: Dict[Cell, CellState]) -> StudyResult:
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    result = StudyResult(created, config, data, tuple(states.values()))
    with write_together():
        result.write(output / RESULT_FILE)
        write_bytes(output / MARKDOWN_FILE, _markdown(result).encode("utf-8"))
    return result


def _markdown(result: StudyResult) -> str:
    quick = " (quick, not to be quoted)" if result.config.quick else ""
    progress = f"{result.created}: {len(result.results)} of {number_of(len(result.cells), 'cell')}"
    return markdown(f"adq-edge study{quick}", [progress, *notes(result)], study_tables(result))
