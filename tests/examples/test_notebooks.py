"""The notebooks run from the first cell to the last, and their stored outputs are real and small."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List

import pytest

from factories.examples import EXAMPLES
from factories.paths import REPOSITORY

nbformat = pytest.importorskip("nbformat")
pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

YOURS = EXAMPLES / "notebooks" / "your_images_in_ten_minutes.ipynb"
COSTS = EXAMPLES / "notebooks" / "what_int8_costs.ipynb"
_LARGEST = 200_000  # bytes of a notebook with its outputs
NARROW = """
import torch
from adq_edge.models import resnet, teacher

resnet.PLANES = (64, 64, 64)
teacher.DEMO_TEACHER = Path("teacher.pth")
torch.manual_seed(0)
torch.save(resnet.ResNet18Trunk().state_dict(), teacher.DEMO_TEACHER)
"""
"""A random teacher of all layers but fewer channels."""
SHORTER = {
    YOURS: {
        "image_size=(128, 128)": "image_size=(64, 64)",
        "epochs=10": "epochs=4",
        "samples=16": "samples=4",
    },
    COSTS: {
        "train=40": "train=16",
        "defective=10": "defective=5",
        "image_size=(96, 96)": "image_size=(64, 64)",
        "epochs=8": "epochs=1",
        "SAMPLES = 8 ": "SAMPLES = 4 ",
        "import adq_edge\n": f"import adq_edge\n{NARROW}",
    },
}
"""What the tests change in the cells: the same steps on less."""


def text(notebook: Any) -> str:
    """Return everything that the cells of a notebook printed."""
    return "".join(output.get("text", "") for output in outputs(notebook))


def outputs(notebook: Any) -> List[Any]:
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def run(path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    from tools.notebooks import run_notebook

    nbformat.write(shortened(path), str(folder / path.name))
    return run_notebook(folder / path.name, folder)


def shortened(path: Path) -> Any:
    notebook = nbformat.read(str(path), as_version=4)
    changes: Dict[str, str] = SHORTER[path]
    for old, new in changes.items():
        (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and old in cell.source]
        cell.source = cell.source.replace(old, new)
    return notebook


def test_your_images_end_in_verdicts_and_heat_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    notebook = run(YOURS, tmp_path, monkeypatch)
    verdicts = re.findall(r"^(bad |good) \S+: (\w+)", text(notebook), re.MULTILINE)
    assert [kind for kind, _ in verdicts].count("bad ") == 6
    assert ("bad ", "defective") in verdicts
    assert ("good", "good") in verdicts
    assert any("image/jpeg" in output.get("data", {}) for output in outputs(notebook))


def test_costs_of_int8_are_measured_as_a_whole_by_layer_and_by_calibrator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    notebook = run(COSTS, tmp_path, monkeypatch)
    printed = text(notebook)
    whole = float(re.search(r"^map SNR +([\d.]+) dB$", printed, re.MULTILINE).group(1))
    by_calibrator = dict(re.findall(r"^(\w+) +map SNR +([\d.]+) dB", printed, re.MULTILINE))
    assert set(by_calibrator) == {"minmax", "percentile", "mse", "lp"}
    assert float(by_calibrator["lp"]) == whole, "the default calibrator is not lp"
    assert len(re.findall(r"^ *[\d.]+ dB +[\d.]+%  \S+$", printed, re.MULTILINE)) == 6, "no table of layers"


@pytest.mark.parametrize("path", [YOURS, COSTS], ids=lambda path: path.stem)
def test_stored_outputs_are_complete_small_and_without_private_paths(path: Path):
    notebook = nbformat.read(str(path), as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1)), "run make notebooks"
    assert not [output for output in outputs(notebook) if output.output_type == "error"]
    errors = "".join(output.text for output in outputs(notebook) if output.get("name") == "stderr")
    assert all(line.startswith("note: ") for line in errors.splitlines()), "progress bars or warnings"
    content = path.read_text(encoding="utf-8")
    assert len(content) < _LARGEST
    assert not re.search(r"/(home|root|tmp|work)/", content)
