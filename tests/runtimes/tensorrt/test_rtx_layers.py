"""The kernels that TensorRT-RTX lists in its log: reading them, counting them, and the warning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.artifacts.sidecar import KernelCount, TensorRTDetails, read_sidecar, sidecar_path
from adq_edge.report.table import Value
from adq_edge.report.tables.engine import kernels_table
from adq_edge.runtimes.tensorrt.inspection import count_kernels, count_precisions, describe_rounding
from adq_edge.runtimes.tensorrt.job import LayerReport
from adq_edge.runtimes.tensorrt.rtx_layers import KernelList, read_kernels
from factories.tensorrt_plans import write_plan

Tensors = List[Tuple[str, str]]

END = "\nI/O Tensors:\n Name: image, IOMode: Input, DataType: UInt8, Dimensions: [1,8,8,3]\n"
FORMATS = {"Int8": "INT8", "Half": "FP16", "Float": "FP32"}
NAMES = st.text("ab/.[]{}():_0, ", min_size=1, max_size=12)
"""Names of nodes and tensors in foreign graphs contain brackets, commas and colons."""
TENSORS = st.lists(st.tuples(NAMES, st.sampled_from(sorted(FORMATS))), max_size=3)


def listed(tensors: Tensors) -> str:
    parts = [
        f" {{ Name: {name}, Dimensions: [1,64,8,8], Strides: [4096,1,512,64], StrideOrder: [3,0,2,1], "
        f"Datatype: {kind}, Format: (NHWC) Channel major format }}"
        for name, kind in tensors
    ]
    return f"[{','.join(parts)}]"


def line(name: str, kind: str, inputs: Tensors, outputs: Tensors, constants: str = "[]") -> str:
    return (
        f"Name: {name}, LayerType: {kind}, Inputs: {listed(inputs)}, Constants: {constants}, "
        f"Outputs: {listed(outputs)}, TacticName: __myelin_CASK_STUB, StreamId: 0, "
        f"Metadata: [ONNX Layer: {name}]"
    )


def message(*lines: str) -> str:
    return "Layers:\n" + "\n".join(lines) + "\n" + END


def convolution(name: str, reads: str, writes: str) -> str:
    return line(name, "correlation", [("x", reads)], [("y", writes)], listed([("w", reads), ("s", "Float")]))


INT8_CHAIN = message(
    line("wait_0", "wait", [], []),
    line("cast", "kgen", [("image", "UInt8")], [("x", "Half")]),
    convolution("first", "Half", "Half"),
    line("round1", "kgen", [("y", "Half")], [("q", "Int8")]),
    convolution("a", "Int8", "Float"),
    line("round2", "kgen", [("y", "Float"), ("q", "Int8")], [("q", "Int8")]),
    convolution("b", "Int8", "Float"),
    line("pool", "maxpool", [("q", "Int8")], [("p", "Int8")]),
    line("score", "kgen", [("y", "Float")], [("map", "Float")]),
)


def test_kernels_of_the_log_are_counted():
    found = read_kernels(INT8_CHAIN)
    assert found is not None
    assert [layer.name for layer in found] == [
        *("cast", "first", "round1", "a", "round2", "b", "pool", "score")
    ]
    assert count_precisions(found) == {"FP16": 2, "FP32": 1, "INT8": 4, "UINT8": 1}
    assert count_kernels(found) == (
        KernelCount("correlation", "FP16", "FP16", 1),
        KernelCount("correlation", "INT8", "FP32", 2),
        KernelCount("kgen", "FP16", "INT8", 1),
        KernelCount("kgen", "FP32", "FP32", 1),
        KernelCount("kgen", "INT8", "INT8", 1),
        KernelCount("kgen", "UINT8", "FP16", 1),
        KernelCount("maxpool", "INT8", "INT8", 1),
    )


def test_separate_rounding_is_a_warning_with_figures():
    found = read_kernels(INT8_CHAIN)
    assert found is not None
    warning = describe_rounding(found)
    assert warning is not None
    assert warning.startswith("2 of 3 layers with weights are INT8, but 2 separate kernels round for them")
    assert "--fp16" in warning


def test_no_warning_where_rounding_is_fused():
    fused = [convolution(str(i), "Int8", "Int8") for i in range(9)]
    once = line("round", "kgen", [("x", "Half")], [("q", "Int8")])
    for kernels in (read_kernels(message(once, *fused)), read_kernels(message(*fused)), ()):
        assert kernels is not None
        assert describe_rounding(kernels) is None


def test_fused_kernels_are_known_by_their_operators():
    fused = line("__myl_CorrAddRelu", "runtime_fusion", [("x", "Half")], [("y", "Half")])
    found = read_kernels(message(fused))
    assert found is not None
    assert found[0].is_product


@given(st.lists(st.tuples(NAMES, st.sampled_from(["kgen", "correlation"]), TENSORS, TENSORS), max_size=5))
def test_any_names_are_read(kernels: List[Tuple[str, str, Tensors, Tensors]]):
    found = read_kernels(message(*(line(*kernel) for kernel in kernels)))
    expected = [kernel for kernel in kernels if kernel[2] or kernel[3]]
    assert [(layer.name, layer.kind) for layer in found or ()] == [kernel[:2] for kernel in expected]
    for layer, (_, _, inputs, outputs) in zip(found or (), expected):
        reads, writes = ({FORMATS[kind] for _, kind in side} for side in (inputs, outputs))
        assert layer.precision in (reads or writes)
        assert layer.writes in (writes or {"unknown"})
        assert ("INT8" in reads) <= (layer.precision == "INT8")


@given(st.text() | st.text().map("Layers:\n".__add__) | st.text().map((INT8_CHAIN[:700] + "\n").__add__))
def test_any_message_is_survived(text: str):
    kernels = KernelList()
    kernels.read(text)
    assert kernels.layers is None or all(isinstance(layer, LayerReport) for layer in kernels.layers)


@pytest.mark.parametrize("changed", ["LayerType", "Inputs", "Outputs"])
def test_list_in_another_form_gives_no_layers(changed: str):
    """Counts of a part of the list would be wrong."""
    first, _, rest = INT8_CHAIN.partition("Name: b,")
    assert read_kernels(f"{first}Name: b,{rest.replace(changed, 'New', 1)}") is None


def test_table_shows_the_most_frequent_kernels_first():
    counts = (KernelCount("kgen", "FP32", "INT8", 2), KernelCount("correlation", "INT8", "FP32", 28))
    details = TensorRTDetails("typed", "8.6", 1, None, {}, (), 64, 1.0, None, (), kernels=counts)
    table = kernels_table(details)
    expected: List[Tuple[Value, ...]] = [(28, "correlation", "INT8", "FP32"), (2, "kgen", "FP32", "INT8")]
    assert list(table.rows) == expected
    assert any("30 kernels" in note for note in table.notes)


def test_sidecar_of_an_earlier_release_has_no_kernels(tmp_path: Path):
    path = write_plan(tmp_path)
    document = json.loads(sidecar_path(path).read_text())
    del document["tensorrt"]["kernels"]
    sidecar_path(path).write_text(json.dumps(document))
    details = read_sidecar(path).tensorrt
    assert details is not None
    assert details.kernels == ()
