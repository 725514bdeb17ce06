"""Decisions run on a board: they need numpy and OpenCV only."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Iterator

import adq_edge
from factories.images import write_image
from factories.tiny_engine import write_engine

ROOM = Path(adq_edge.__file__).parent / "decision"
FIT_AND_INSPECT = """
import sys
from adq_edge.decision.fit import fit
from adq_edge.decision.inspector import load_inspector
engine, folder, image = sys.argv[1:]
fit(engine, good={"bolt": folder}, threads=1)
with load_inspector(engine, threads=1) as inspector:
    print(inspector.inspect(image).product)
assert not {"torch", "scipy", "sklearn", "matplotlib", "PIL"} & set(sys.modules)
"""


def imported(path: Path) -> Iterator[str]:
    """Yield the first word of every module that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module).partition(".")[0]


def test_decisions_import_numpy_and_opencv_only():
    standard = {
        "__future__",
        "ast",
        "collections",
        "contextlib",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "itertools",
        "typing",
    }
    standard |= {"json", "math", "numbers", "os", "pathlib", "re", "shlex", "statistics", "threading"}
    for path in (*ROOM.glob("*.py"), ROOM.parent / "artifacts" / "products.py"):
        assert set(imported(path)) <= standard | {"adq_edge", "numpy", "cv2"}, path


def test_products_are_fitted_and_used_without_the_training_half(tmp_path: Path):
    engine = write_engine(tmp_path / "e.onnx")
    for number in range(5):
        write_image(tmp_path / "good" / f"{number}.png", number)
    command = [sys.executable, "-c", FIT_AND_INSPECT, engine, tmp_path / "good", tmp_path / "good" / "0.png"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, check=True, text=True)
    assert done.stdout == "bolt\n"
