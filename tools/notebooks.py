"""Run the notebooks of `examples/` and store their outputs: `make notebooks`.

The documentation shows the stored outputs. Numbers depend a little on the machine, so the tests run the
notebooks but do not compare the outputs with the stored ones.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
_LONGEST_CELL = 300  # seconds


def run_notebook(path: Path, folder: Path) -> Any:
    """Run a notebook in a folder and return it with its outputs.

    Raises:
        CellExecutionError: a cell raised an exception.
    """
    notebook = nbformat.read(str(path), as_version=4)
    NotebookClient(
        notebook,
        timeout=_LONGEST_CELL,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    return notebook


def record() -> None:
    """Run each notebook in an empty folder and write it back with its outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = run_notebook(path, Path(folder))
        notebook.metadata["language_info"] = {"name": "python"}  # without the version of this machine
        nbformat.write(notebook, str(path))


if __name__ == "__main__":
    record()
