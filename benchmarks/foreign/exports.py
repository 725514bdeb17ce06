"""The exports of other tools in a folder, and the start of their own interpreters that make missing ones."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from adq_edge.core.errors import AdqError
from adq_edge.core.images.imaging import resize_image
from adq_edge.onnx_import.tools import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.foreign.recipes import ANOMAVISION, RECIPES

_ROOT = Path(__file__).resolve().parents[2]
_ERROR_LINES = 3
_SIZE = (224, 224)
_MEAN, _STD = (np.array(each, np.float32).reshape(3, 1, 1) for each in (IMAGENET_MEAN, IMAGENET_STD))


@dataclasses.dataclass(frozen=True)
class Export:
    """A model that its own tool trained on a category and exported.

    Attributes:
        kind: name in `RECIPES`.
        category: category of the dataset.
        folder: what `train.py` wrote.
    """

    kind: str
    category: str
    folder: Path

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / "weights" / "onnx" / "model.onnx"

    @property
    def int8_model(self) -> Path:
        """The model of the tool's own INT8 export, for OpenVINO."""
        return self.folder / "int8" / "weights" / "openvino" / "model.xml"

    @property
    def failure(self) -> Optional[str]:
        """What the tool answered instead of an export; None if there is one."""
        path = self.folder / "failed.txt"
        return path.read_text().splitlines()[0] if path.exists() and not self.model.exists() else None

    def about(self) -> Dict[str, Any]:
        """Read what `train.py` wrote about the export."""
        path = self.folder / "about.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def reference(self) -> Dict[str, np.ndarray]:
        """Read the tool's own answers for its eight test images; empty if there are none."""
        path = self.folder / "reference.npz"
        if not path.exists():
            return {}
        with np.load(path) as found:
            return {
                name: found[name]
                for name in found.files
                if "_map_" in name or "_score_" in name or "image" in name
            }

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return what the exported file gets for an image, uint8 `[H, W, 3]`: float32 `[1, 3, H, W]`."""
        return np.ascontiguousarray(np.float32(image).transpose(2, 0, 1)[None] / 255)


class AnomaVisionExport(Export):
    """A model of AnomaVision, which resizes and normalizes the image before its graph."""

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.folder / "model.onnx"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Return the resized and normalized image."""
        return np.asarray((super().prepare(resize_image(image, _SIZE)) - _MEAN) / _STD)

    def reference(self) -> Dict[str, np.ndarray]:
        """Read the tool's answers; the images are computed from the recorded inputs, which are exact."""
        found: Dict[str, np.ndarray] = {}
        with np.load(self.folder / "reference.npz") as stored:
            for i in range(sum(name.startswith("input_") for name in stored.files)):
                pixels = (stored[f"input_{i}"] * _STD + _MEAN) * 255
                found[f"image_{i}"] = pixels[0].transpose(1, 2, 0).round().astype(np.uint8)
                found[f"sized_raw_pred_score_{i}"] = stored[f"torch_output_0_{i}"]
                found[f"sized_raw_anomaly_map_{i}"] = stored[f"torch_output_1_{i}"]
        return found


def list_exports(folder: Path, kinds: Sequence[str], categories: Sequence[str]) -> List[Export]:
    """Return the exports of kinds and categories, whether they exist or not."""
    return [
        (AnomaVisionExport if kind in ANOMAVISION else Export)(kind, category, folder / f"{kind}_{category}")
        for kind in kinds
        for category in categories
    ]


def run_tool(step: str, exports: Sequence[Export], python: Path, data: Path) -> None:
    """Run a step of `train.py` for exports of one category, by the tool's interpreter.

    Raises:
        AdqError: the interpreter cannot be started, or its process ended early.
    """
    kinds = ",".join(export.kind for export in exports)
    command = [
        str(python),
        "-W",
        "ignore",
        "-m",
        "benchmarks.foreign.train",
        step,
        kinds,
        exports[0].category,
    ]
    environment = {**os.environ, "ADQ_EDGE_DATA": str(data.resolve().parent), "PYTHONPATH": str(_ROOT)}
    done = subprocess.run(
        [*command, str(exports[0].folder.parent.resolve())],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()[-_ERROR_LINES:]
        raise AdqError(
            f"the step {step} ended with exit code {done.returncode}: {' '.join(lines)}", where=python
        )


def make_missing(exports: Sequence[Export], python: Path, data: Path, int8: bool) -> None:
    """Train and export what is missing, and with `int8` the tool's own INT8 models."""
    for category in dict.fromkeys(export.category for export in exports):
        of = [export for export in exports if export.category == category and export.kind in RECIPES]
        missing = [export for export in of if not export.model.exists() and export.failure is None]
        if missing:
            run_tool("train", missing, python, data)
        plain = [export for export in of if export.model.exists() and not export.int8_model.exists()]
        if int8 and plain:
            run_tool("int8", plain, python, data)
