"""Lists the graph passes of each target.

A builder runs the list of its target with `run_passes`. To add a pass, write one file in this folder and add
it to the lists below. Engines of CPU runtimes name their lists in `CpuEngine.passes`.
"""

from __future__ import annotations

from typing import Mapping, Tuple

from adq_edge.core.options import Precision, Route
from adq_edge.quantization.fp8 import insert_fp8
from adq_edge.quantization.passes.average_pooling import convolve_averages
from adq_edge.quantization.passes.batch_norm import fold_batch_norms
from adq_edge.quantization.passes.channels_last import score_channels_last
from adq_edge.quantization.passes.channels_last_normalization import normalize_channels_last
from adq_edge.quantization.passes.common_weight_scale import share_weight_scales
from adq_edge.quantization.passes.constant_folding import fold_constants
from adq_edge.quantization.passes.conv_transpose import keep_transposed_float, replace_conv_transpose
from adq_edge.quantization.passes.depth_to_space import transpose_depth_to_space
from adq_edge.quantization.passes.emulated_float16 import emulate_float16
from adq_edge.quantization.passes.explicit_convolutions import state_kernels_and_pads
from adq_edge.quantization.passes.fixed_shapes import fix_shapes, spell_out
from adq_edge.quantization.passes.flat_gathers import flatten_gather_indices
from adq_edge.quantization.passes.flattened_products import keep_leading_axes
from adq_edge.quantization.passes.float32 import compute_in_float32
from adq_edge.quantization.passes.float_means import keep_means_float
from adq_edge.quantization.passes.float_weights import keep_float_weights
from adq_edge.quantization.passes.fp16_weights import store_weights_as_float16
from adq_edge.quantization.passes.frame import GraphPass
from adq_edge.quantization.passes.grid_weights import put_weights_on_grid
from adq_edge.quantization.passes.identities import drop_identities
from adq_edge.quantization.passes.instance_normalization import split_instance_normalizations
from adq_edge.quantization.passes.joint_rounding import round_jointly
from adq_edge.quantization.passes.layer_normalization import split_layer_normalizations
from adq_edge.quantization.passes.leaky_relu import split_leaky_relus
from adq_edge.quantization.passes.older_opset import lower_opset
from adq_edge.quantization.passes.one_hot import replace_one_hot
from adq_edge.quantization.passes.own_constants import own_constants
from adq_edge.quantization.passes.redundant_qdq import drop_repeated_pairs
from adq_edge.quantization.passes.resize import resize_by_sums
from adq_edge.quantization.passes.short_sortings import shorten_sortings
from adq_edge.quantization.passes.sibling_convolutions import widen_siblings
from adq_edge.quantization.passes.single_choices import squeeze_single_choices
from adq_edge.quantization.passes.single_rounding import round_after_activations
from adq_edge.quantization.passes.small_file import share_constants, shorten_names, store_float_biases
from adq_edge.quantization.passes.strong_typing import type_as_float16
from adq_edge.quantization.passes.training_leftovers import drop_training_leftovers
from adq_edge.quantization.passes.twin_convolutions import merge_twin_convolutions
from adq_edge.quantization.passes.uint8_input import convolve_image_in_integers
from adq_edge.quantization.passes.whole_choices import replace_whole_choices
from adq_edge.quantization.passes.wide_normalization import widen_normalization
from adq_edge.quantization.qdq import insert_qdq

Passes = Tuple[GraphPass, ...]
Pipelines = Mapping[Precision, Passes]

EXPORT: Passes = (
    fold_constants,
    drop_identities,
    own_constants,
    state_kernels_and_pads,
    fold_batch_norms,
)
"""From the exporter's graph to the graph of a bundle."""

IMPORT: Passes = (
    compute_in_float32,
    drop_training_leftovers,
    fix_shapes,
    spell_out,
    lower_opset,
    fix_shapes,
    keep_leading_axes,
    squeeze_single_choices,
    shorten_sortings,
    replace_one_hot,
    replace_whole_choices,
)
"""From another tool's graph, whose input has a fixed shape, to one of opset 17 without computed shapes."""

CPU: Pipelines = {
    Precision.FP32: (),
    Precision.FP16: (store_weights_as_float16,),
    Precision.INT8: (replace_conv_transpose, insert_qdq, widen_normalization, keep_float_weights),
}
"""For a CPU runtime that needs no passes of its own."""

ONNXRUNTIME: Pipelines = {
    Precision.FP32: (*CPU[Precision.FP32], transpose_depth_to_space, score_channels_last),
    Precision.FP16: (*CPU[Precision.FP16], transpose_depth_to_space, score_channels_last),
    Precision.INT8: (
        convolve_averages,
        keep_transposed_float,
        *CPU[Precision.INT8],
        split_leaky_relus,
        transpose_depth_to_space,
        score_channels_last,
        share_constants,
        shorten_names,
    ),
}

OPENVINO: Pipelines = {
    Precision.FP32: (*CPU[Precision.FP32], normalize_channels_last, resize_by_sums),
    Precision.FP16: (*CPU[Precision.FP16], normalize_channels_last, resize_by_sums),
    Precision.BF16: (*CPU[Precision.FP32], normalize_channels_last, resize_by_sums),
    Precision.INT8: (
        *CPU[Precision.INT8],
        round_after_activations,
        flatten_gather_indices,
        convolve_image_in_integers,
        normalize_channels_last,
        drop_repeated_pairs,
        keep_means_float,
        resize_by_sums,
        store_float_biases,
        share_constants,
        shorten_names,
    ),
}

_WITHOUT_NORMALIZATIONS: Passes = (split_layer_normalizations, split_instance_normalizations)
"""TensorRT 8.5 has no importer for one kind of normalization, and a plugin for the other."""

TENSORRT: Mapping[Route, Pipelines] = {
    Route.IMPLICIT: {
        Precision.FP32: _WITHOUT_NORMALIZATIONS,
        Precision.FP16: _WITHOUT_NORMALIZATIONS,
        Precision.INT8: (put_weights_on_grid, *_WITHOUT_NORMALIZATIONS),
    },
    Route.EXPLICIT: {
        Precision.FP32: _WITHOUT_NORMALIZATIONS,
        Precision.FP16: _WITHOUT_NORMALIZATIONS,
        Precision.INT8: (insert_qdq, *_WITHOUT_NORMALIZATIONS),
    },
    Route.TYPED: {
        Precision.FP32: (),
        Precision.FP16: (type_as_float16,),
        Precision.INT8: (insert_qdq, type_as_float16),
        Precision.FP8: (insert_fp8, type_as_float16),
    },
}

TENSORRT_RTX: Pipelines = {
    **TENSORRT[Route.TYPED],
    Precision.INT8: (
        keep_transposed_float,
        replace_conv_transpose,
        insert_qdq,
        widen_siblings,
        merge_twin_convolutions,
        type_as_float16,
        share_weight_scales,
        round_jointly,
    ),
}
"""For TensorRT-RTX, which rounds in kernels of their own and has no integer transposed convolution
(benchmarks/published/rtx_kernels.md)."""

EMULATION: Pipelines = {
    Precision.FP32: (),
    **{
        precision: (*TENSORRT[Route.TYPED][precision], emulate_float16)
        for precision in (Precision.FP16, Precision.INT8, Precision.FP8)
    },
}
"""For the emulation of TensorRT on a CPU: the strongly typed graphs, computed in float32."""
