"""2:4 sparsity: the pattern, the weights that stay, and that later rounding keeps it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from adq_edge.quantization.passes.frame import run_passes
from adq_edge.quantization.passes.two_of_four import input_axis, keep_two_of_four, prune_two_of_four
from adq_edge.quantization.rounding import round_with_compensation


def groups_of(weight: np.ndarray, axis: int) -> np.ndarray:
    """Return the groups of four consecutive input channels, `[n, 4]`, by a loop over all positions."""
    moved = weight.swapaxes(axis, 0)
    groups = [
        [moved[(channel + k, *position)] for k in range(4)]
        for position in np.ndindex(*moved.shape[1:])
        for channel in range(0, len(moved), 4)
    ]
    return np.array(groups)


@given(st.integers(0, 2**32 - 1), st.sampled_from([((6, 8, 3, 3), 1), ((12, 5), 0), ((3, 4, 1, 1), 1)]))
def test_the_two_largest_of_four_input_channels_stay(seed: int, form):
    shape, axis = form
    weight = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    before, after = groups_of(weight, axis), groups_of(keep_two_of_four(weight, axis), axis)
    assert ((after != 0).sum(1) == 2).all()
    assert (after[after != 0] == before[after != 0]).all()
    np.testing.assert_allclose(np.sort(np.abs(before), 1)[:, 2:], np.sort(np.abs(after), 1)[:, 2:])


def test_layers_that_the_gpu_cannot_skip_stay_dense(model: onnx.ModelProto):
    pruned = run_passes(model, (prune_two_of_four,))
    shares = {}
    for node in pruned.graph.node:
        if node.op_type == "Conv":
            weight = next(
                numpy_helper.to_array(w) for w in pruned.graph.initializer if w.name == node.input[1]
            )
            shares[weight.shape] = float((weight == 0).mean())
    assert shares.pop((64, 3, 7, 7)) == 0.0  # an image has three channels
    assert shares
    assert all(share >= 0.5 for share in shares.values())


@pytest.mark.parametrize(
    ("operator", "group", "axis"), [("ConvTranspose", 1, None), ("Conv", 2, None), ("Conv", 1, 1)]
)
def test_pattern_runs_along_the_input_channels(operator: str, group: int, axis):
    assert input_axis(helper.make_node(operator, ["x", "w"], ["y"], group=group)) == axis


def test_compensated_rounding_keeps_pruned_weights_at_zero():
    generator = np.random.default_rng(0)
    weight = keep_two_of_four(generator.standard_normal((8, 16, 3, 3)).astype(np.float32), 1)
    patches = generator.standard_normal((400, 144)).astype(np.float32)
    rounded = round_with_compensation(weight, patches.T @ patches)
    assert (rounded.levels[weight == 0] == 0).all()
