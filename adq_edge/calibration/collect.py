"""Activation collection: one pass of the pictures through the float model, one histogram per tensor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Dict, Iterable, List, Optional

import numpy as np
import onnx
import onnxruntime

from adq_edge.bundle import INPUT
from adq_edge.calibration.histogram import Histogram

Progress = Callable[[], None]


def collect(
    model: onnx.ModelProto,
    tensors: List[str],
    pictures: Iterable[np.ndarray],
    *,
    threads: int,
    on_picture: Optional[Progress] = None,
) -> Dict[str, Histogram]:
    """Return the histogram of each tensor over all pictures.

    Pictures go through one at a time and activations are counted and dropped, so memory depends on the
    model and not on the number of pictures.

    Args:
        model: the float model.
        tensors: names of the tensors to observe.
        pictures: uint8 `[H, W, 3]` each.
        threads: threads for inference and, between inferences, for counting.
        on_picture: called after each picture.

    Raises:
        CalibrationError: an activation is NaN or infinite.
    """
    session = _session(observe(model, tensors), threads)
    histograms = [Histogram(name) for name in tensors]
    with ThreadPoolExecutor(threads) as pool:
        for picture in pictures:
            activations = session.run(tensors, {INPUT: picture[None]})
            for _ in pool.map(Histogram.update, histograms, activations):
                pass  # draws out the exceptions
            if on_picture is not None:
                on_picture()
    return dict(zip(tensors, histograms))


def observe(model: onnx.ModelProto, tensors: List[str]) -> onnx.ModelProto:
    """Return a copy of the model whose outputs are the given tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    for name in tensors:
        copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def _session(model: onnx.ModelProto, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
