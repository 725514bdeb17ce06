from __future__ import annotations

import pytest

from adq_edge.artifacts.ranges import Ranges, WeightRounding
from adq_edge.calibration.trained_ranges import ranges_from_dict, ranges_to_dict
from adq_edge.core.errors import CheckpointError
from adq_edge.core.options import Arithmetic

RANGES = Ranges(
    *("0" * 64, "qat", "images", "f", 4, 0, {"t": (-1.0, 2.5)}, {"t": (1.0, 0.5)}),
    rounding=WeightRounding.NEAREST,
    arithmetic=Arithmetic.CPU,
)


def test_trained_ranges_round_trip():
    assert ranges_from_dict(ranges_to_dict(RANGES)) == RANGES


@pytest.mark.parametrize(
    "change",
    [
        {"rounding": 3},
        {"arithmetic": None},
        {"images": "many"},
        {"tensors": {"t": "ab"}},
        {"tensors": {"t": (float("nan"), 1.0)}},
        {"tensors": {"t": ("x" * 10**6, 1.0)}},
        {"equalization": {"t": (0.0,)}},
        {"equalization": 5},
    ],
)
def test_damaged_ranges_in_a_checkpoint_are_refused_in_one_short_line(change):
    with pytest.raises(CheckpointError, match="its quantization cannot be read") as caught:
        ranges_from_dict({**ranges_to_dict(RANGES), **change})
    assert len(str(caught.value)) < 500
