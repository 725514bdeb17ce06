from __future__ import annotations

import pytest

from adq_edge.quantization.graph.model_file import parse_model
from factories.tiny_engine import make_model


def test_model_with_a_name_that_is_not_utf8_is_refused():
    content = make_model().SerializeToString()
    assert parse_model(content).graph.node
    with pytest.raises(ValueError, match=r"not UTF-8|not an ONNX file"):
        parse_model(content.replace(b"brightest", b"bright\xff\xfet"))
