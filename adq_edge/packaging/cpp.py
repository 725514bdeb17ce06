"""A C++ program that decides as `predict` does, with the engine and the numbers of its products."""

from __future__ import annotations

from pathlib import Path
from typing import Dict

from adq_edge.core.errors import EngineError
from adq_edge.core.text import command_line
from adq_edge.packaging import decision_file
from adq_edge.packaging.source import Source

FILES = Path(__file__).parent / "files" / "cpp"
_SOURCES = {"onnxruntime": "main.cpp", "tensorrt": "main_tensorrt.cpp"}
_PROJECTS = {"onnxruntime": "CMakeLists.txt", "tensorrt": "CMakeLists_tensorrt.txt"}


def cpp_files(source: Source) -> Dict[str, bytes]:
    """Return the files by path.

    Raises:
        EngineError: an engine of OpenVINO, or one without products.
    """
    source.require_runtime("the C++ program", *_SOURCES)
    if source.judge.inspector is None:
        fix = f"Learn them from good images: {command_line('fit', source.path, '--data', 'DIR')}"
        raise EngineError("has no products, by which the C++ program decides", where=source.path, fix=fix)
    runtime = source.sidecar.runtime
    return {
        "CMakeLists.txt": (FILES / _PROJECTS[runtime]).read_bytes(),
        "main.cpp": (FILES / _SOURCES[runtime]).read_bytes(),
        "decision.hpp": (FILES / "decision.hpp").read_bytes(),
        "images.hpp": (FILES / "images.hpp").read_bytes(),
        decision_file.NAME: decision_file.encode_decisions(source.judge.inspector),
        source.path.name: source.content,
        **source.companions(),
    }
