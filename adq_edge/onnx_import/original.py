"""Runs the original model as its own tool does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.tensors import TensorType
from adq_edge.core.errors import ForeignModelError, first_line
from adq_edge.core.limits import runtime_threads
from adq_edge.onnx_import.further_inputs import placeholders
from adq_edge.onnx_import.image_input import ImageInput
from adq_edge.onnx_import.units import Units

_LARGEST_DIFFERENCE = 1e-2
"""Largest difference of equal images in a batch, relative to the largest output."""
_DTYPES = {"float": np.float32, "float16": np.float16, "double": np.float64, "uint8": np.uint8}


def open_session(model: Union[Path, onnx.ModelProto], where: Path) -> onnxruntime.InferenceSession:
    """Open a model with ONNX Runtime.

    Args:
        model: the ONNX file, whose weights may be in other files of its folder; or a model in memory.
        where: the file, for messages.

    Raises:
        ForeignModelError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime_threads() or 0
    options.log_severity_level = 4  # errors are raised
    try:
        content = str(model) if isinstance(model, Path) else model.SerializeToString()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no public base class
        raise ForeignModelError(
            f"ONNX Runtime cannot load it ({_reason(error)})", where=where, fix="Export the model again"
        ) from error


def _reason(error: Exception) -> str:
    """Return the first line of an error of ONNX Runtime, without the place in its source code."""
    return re.sub(r"/onnxruntime_src/\S+ [^(]*\([^)]*\) ?", "", first_line(error))


def run_session(
    session: onnxruntime.InferenceSession,
    names: Sequence[str],
    feed: Mapping[str, np.ndarray],
    where: Path,
    fix: str,
) -> List[np.ndarray]:
    """Return the outputs of a session by name.

    Args:
        session: the model.
        names: the outputs.
        feed: its inputs.
        where: the original file, for messages.
        fix: what to do if it fails.

    Raises:
        ForeignModelError: ONNX Runtime cannot run the model on these inputs.
    """
    try:
        return [np.asarray(value) for value in session.run(list(names), dict(feed))]
    except Exception as error:  # the exceptions of ONNX Runtime have no public base class
        sizes = ", ".join("x".join(str(size) for size in value.shape) for value in feed.values())
        raise ForeignModelError(
            f"ONNX Runtime cannot run it on an image of {sizes} ({_reason(error)})", where=where, fix=fix
        ) from error


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """Return a copy of a model that also returns other tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {item.name for item in copy.graph.output}
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    return copy


def _type_of(item: onnxruntime.NodeArg) -> TensorType:
    """Return the type of an input of a session, such as that of "tensor(int64)"."""
    sizes = tuple(size if isinstance(size, int) else None for size in item.shape)
    return TensorType(item.type[len("tensor(") : -1], sizes)


class OriginalModel:
    """The original model, which takes images as uint8 `[N, H, W, 3]`.

    Args:
        model: the ONNX file, or the model in memory.
        where: the file, for messages.
        image: its image input.
        units: the units of its input.
    """

    def __init__(
        self, model: Union[Path, onnx.ModelProto], where: Path, image: ImageInput, units: Units
    ) -> None:
        self._path, self._image, self._units = where, image, units
        self._session = open_session(model, where)
        others = [item for item in self._session.get_inputs() if item.name != image.name]
        self._others = {item.name: _type_of(item) for item in others}

    @property
    def image_size(self) -> Optional[Tuple[int, int]]:
        """(height, width) of the images that it takes; None for any size."""
        return self._image.fixed_size

    def run(self, images: np.ndarray, names: Sequence[str]) -> Dict[str, np.ndarray]:
        """Return outputs by name, for each image, whatever number of images the model takes at once.

        A batch that is not full is filled with copies of its last image.

        Raises:
            ForeignModelError: the model cannot be run, or gives other outputs for the copies.
        """
        batch = self._image.batch or 1
        parts: Dict[str, List[np.ndarray]] = {name: [] for name in names}
        for start in range(0, len(images), batch):
            chunk = images[start : start + batch]
            fill = [chunk[-1:]] * (batch - len(chunk))
            result = self._run(np.concatenate([chunk, *fill]), names)
            for name, value in zip(names, result):
                rows = value if value.ndim and len(value) == batch else np.repeat(value[None], batch, 0)
                self._require_equal(rows[len(chunk) - 1 :])
                parts[name].append(rows[: len(chunk)])
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}

    def _require_equal(self, rows: np.ndarray) -> None:
        """Refuse different outputs for copies of one image: the bundle has one answer for each image."""
        if np.abs(rows - rows[:1]).max() > _LARGEST_DIFFERENCE * np.abs(rows).max():
            raise ForeignModelError(
                "gives different outputs for equal images of a batch",
                where=self._path,
                fix="Export it so that each image is judged alone, with a dynamic batch",
            )

    def _run(self, images: np.ndarray, names: Sequence[str]) -> List[np.ndarray]:
        values = self._units.apply(images)
        if self._image.layout == "nchw":
            values = values.transpose(0, 3, 1, 2)
        dtype = _DTYPES.get(self._image.kind, np.float32)
        feed = {
            self._image.name: np.ascontiguousarray(values.astype(dtype)),
            **placeholders(self._others, len(images)),
        }
        fix = "Give the size that it was exported for: --image-size HEIGHTxWIDTH"
        return run_session(self._session, names, feed, self._path, fix)
