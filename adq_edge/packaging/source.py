"""The engine that is packaged: its files, its description, and what decides on its outputs."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Dict, Optional, Tuple

from adq_edge.artifacts.engine_file import EngineFile
from adq_edge.artifacts.products import products_path
from adq_edge.artifacts.sidecar import Sidecar, read_sidecar, sidecar_path
from adq_edge.artifacts.tensors import output_shapes
from adq_edge.core.errors import EngineError
from adq_edge.core.reading import LARGEST_JSON, read_regular
from adq_edge.evaluation.judge import Judge
from adq_edge.packaging.outputs_only import load_judge

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RUNTIMES = ("onnxruntime", "openvino", "tensorrt")


@dataclasses.dataclass(frozen=True)
class Source:
    """An engine to package.

    Attributes:
        path: the engine file.
        sidecar: its sidecar.
        content: the bytes of the engine, whose hash is that of the sidecar.
        judge: what decides on its outputs; it does not run the engine.
    """

    path: Path
    sidecar: Sidecar
    content: bytes = dataclasses.field(repr=False)
    judge: Judge

    @classmethod
    def read(cls, engine: Path) -> Source:
        """Read an engine, its sidecar and its products.

        Raises:
            EngineError: the engine is missing, was changed, or its products belong to another engine.
        """
        sidecar = read_sidecar(engine)
        if sidecar.runtime not in _RUNTIMES:
            what = f"an engine of {sidecar.runtime}, which cannot be packaged"
            raise EngineError(what, where=engine, fix=f"Package an engine of {', '.join(_RUNTIMES)}")
        content = EngineFile(engine, sidecar.engine_sha256).read()
        return cls(engine, sidecar, content, load_judge(engine, sidecar))

    @property
    def name(self) -> str:
        """The name of the model in servers: that of the engine file without its suffix."""
        return self.path.stem

    @property
    def outputs(self) -> Dict[str, Tuple[int, ...]]:
        """The shapes of the outputs of an image by name."""
        return output_shapes(self.sidecar)

    @property
    def has_verdict(self) -> bool:
        """True if the engine has products, or a threshold."""
        return self.judge.error is None

    def companions(self, name: Optional[str] = None) -> Dict[str, bytes]:
        """Return the sidecar, and the products if there are any, by file name.

        Args:
            name: the name of the engine file in the package; its own by default.
        """
        name = name or self.path.name
        found = {f"{name}.json": read_regular(sidecar_path(self.path), LARGEST_JSON)}
        if self.judge.inspector is not None:
            found[f"{name}.products"] = read_regular(products_path(self.path), LARGEST_JSON)
        return found

    def require_runtime(self, target: str, *names: str) -> None:
        """Raise an EngineError if the engine is of another runtime than a target runs."""
        if self.sidecar.runtime not in names:
            what = f"an engine of {self.sidecar.runtime}; {target} runs engines of {' and '.join(names)}"
            fix = f"Build one for it: adq-edge build BUNDLE --runtime {names[0]}"
            raise EngineError(what, where=self.path, fix=fix)

    def require_plain_name(self) -> None:
        """Raise an EngineError if the file's name needs quotation marks in a shell or a configuration."""
        if not _PLAIN_NAME.fullmatch(self.path.name):
            what = "its name has other characters than A-Z, a-z, 0-9 and ._-"
            fix = "Copy the engine, its sidecar and its products under another name"
            raise EngineError(what, where=self.path, fix=fix)
