"""Statistics of a float model's activations: histograms and channel maxima, in one pass over the images."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterable, List, Optional

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts.bundle import INPUT
from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.quantization.graph.editor import GraphEditor
from adq_edge.quantization.graph.model_file import run_errors

Progress = Callable[[], None]

_FATAL_ONLY = 4  # every error also raises an exception, which becomes the message
ROW_STEP = 2
"""Counts every second row of a feature map: neighboring rows are similar, and counting is slow."""


def collect(
    model: onnx.ModelProto,
    tensors: List[str],
    images: Iterable[np.ndarray],
    *,
    threads: int,
    on_image: Optional[Progress] = None,
) -> Dict[str, Histogram]:
    """Return the histogram of each tensor over all images.

    The memory needed does not grow with the number of images.

    Args:
        model: the float model.
        tensors: names of the tensors.
        images: uint8 `[H, W, 3]` each.
        threads: threads for inference and, between inferences, for counting.
        on_image: called after each image.

    Raises:
        CalibrationError: an activation is NaN or infinite.
    """
    if not tensors:
        return {}
    session = observing_session(model, tensors, threads)
    histograms = [Histogram(name) for name in tensors]
    buffers: List[np.ndarray] = []
    with ThreadPoolExecutor(threads) as pool:
        for image in images:
            with run_errors():
                if buffers:
                    _run_into(session, image[None], tensors, buffers)
                else:
                    buffers = session.run(tensors, {INPUT: image[None]})
            list(pool.map(Histogram.update, histograms, buffers, itertools.repeat(ROW_STEP)))  # raises errors
            if on_image is not None:
                on_image()
    return dict(zip(tensors, histograms))


def largest_per_channel(
    model: onnx.ModelProto, tensors: List[str], images: Iterable[np.ndarray], *, threads: int
) -> Dict[str, np.ndarray]:
    """Return the largest magnitude of each channel, float32 `[channels]`, over all images.

    Args:
        model: the float model.
        tensors: names of `[N, channels, ...]` activations.
        images: uint8 `[H, W, 3]` each.
        threads: threads for inference.
    """
    if not tensors:
        return {}
    session = observing_session(model, tensors, threads)
    largest: Dict[str, np.ndarray] = {}
    for image in images:
        with run_errors():
            values = session.run(tensors, {INPUT: image[None]})
        for name, value in zip(tensors, values):
            # Two reductions are several times faster than one over the magnitudes.
            rows = value.reshape(value.shape[1], -1)
            magnitude = np.maximum(rows.max(axis=1), -rows.min(axis=1))
            largest[name] = np.maximum(largest.get(name, magnitude), magnitude)
    return largest


def _run_into(
    session: onnxruntime.InferenceSession, image: np.ndarray, tensors: List[str], buffers: List[np.ndarray]
) -> None:
    """Run into existing buffers: allocating tens of MB of activations per image is slow."""
    binding = session.io_binding()
    binding.bind_cpu_input(INPUT, image)
    for name, buffer in zip(tensors, buffers):
        binding.bind_output(name, "cpu", 0, np.float32, buffer.shape, buffer.ctypes.data)
    session.run_with_iobinding(binding)


def observe(model: onnx.ModelProto, tensors: List[str]) -> onnx.ModelProto:
    """Return a copy of a model whose outputs are the given tensors, without the nodes that none needs."""
    editor = GraphEditor(model)
    editor.results.clear()
    editor.outputs.clear()
    editor.observe(*tensors)
    editor.clean_up()
    return editor.model()


def observing_session(
    model: onnx.ModelProto, tensors: List[str], threads: int
) -> onnxruntime.InferenceSession:
    """Return an inference session whose outputs are the given tensors.

    Raises:
        CalibrationError: ONNX Runtime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = _FATAL_ONLY
    # Threads that spin while they wait for the next image would slow down the counting.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    with run_errors():
        return onnxruntime.InferenceSession(
            observe(model, tensors).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
