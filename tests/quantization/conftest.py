"""The graph of the shared bundle, and its activation ranges."""

from __future__ import annotations

import onnx
import pytest

from adq_edge.artifacts.bundle import Bundle
from adq_edge.calibration.sources import image_source
from factories.activations import Ranges, measured_ranges
from factories.images import SIZE


@pytest.fixture(scope="module")
def model(bundle: Bundle) -> onnx.ModelProto:
    return onnx.load(str(bundle.model))


@pytest.fixture(scope="module")
def ranges(model: onnx.ModelProto, dataset) -> Ranges:
    """Return the range of each measured tensor; tests must not change the dictionary."""
    return measured_ranges(model, image_source(dataset, 8).images((SIZE, SIZE)))
