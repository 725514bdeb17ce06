"""Failures and progress read from the log of a TensorRT build, and layers from its inspector."""

from __future__ import annotations

from adq_edge.runtimes.tensorrt.inspection import count_kinds, count_precisions, read_layers
from adq_edge.runtimes.tensorrt.log import FailureKind, read_failure, read_progress

NO_KERNEL = (
    "[I] Building engine\n"
    "[E] 10: [optimizer.cpp::computeCosts::3628] Error Code 10: Internal Error (Could not find any "
    "implementation for node /student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu.)\n"
    "[!] Invalid Engine. Please ensure the engine was built correctly\n"
)


def test_kinds_of_failure_are_distinguished():
    found = read_failure(NO_KERNEL)
    assert found.kind is FailureKind.NO_IMPLEMENTATION
    assert found.layer == "/student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu"
    assert "\n" not in found.message
    workspace = NO_KERNEL.replace(
        ".)", " due to insufficient workspace. See verbose log for requested sizes.)"
    )
    found = read_failure(workspace)
    assert (found.kind, found.layer) == (
        FailureKind.SMALL_WORKSPACE,
        "/student/layer1/layer1.0/conv1/Conv + /student/layer1/layer1.0/relu/Relu",
    )
    memory = (
        "[E] 2: [virtualMemoryBuffer.cpp::resizePhysical::140] Error Code 2: OutOfMemory (no further info)\n"
    )
    assert read_failure(memory).kind is FailureKind.OUT_OF_MEMORY
    assert read_failure("terminate called after throwing 'std::bad_alloc'").kind is FailureKind.OUT_OF_MEMORY
    driver = "[E] 6: [runtime.cpp] Error Code 6: CUDA initialization failure with error: 35\n"
    assert read_failure(driver).kind is FailureKind.NO_GPU
    assert read_failure("[E] 4: Error Code 4: something new\n") == (FailureKind.OTHER, "something new", None)
    assert read_failure("") == (FailureKind.OTHER, "it printed no message", None)


def test_progress_is_read_from_the_log():
    log = "adq-edge-progress 1 9 Building Engine\n[V] x\nadq-edge-progress 2 9 Tactic Selection\n"
    assert read_progress(log) == ("Tactic Selection", 2, 9)
    assert read_progress("[V] nothing") is None


INSPECTED = """{"Layers": [
 {"Name": "/conv1/Conv", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "a", "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
  "Outputs": [{"Name": "b", "Format/Datatype": "Row major linear FP16 format"}]},
 {"Name": "Reformatting", "LayerType": "Reformat",
  "Inputs": [{"Name": "b", "Format/Datatype": "Row major linear FP32"}], "Outputs": []},
 {"Name": "/norm", "LayerType": "Myelin", "Inputs": [{"Name": "b", "Datatype": "Float"}], "Outputs": []},
 {"Name": "{ForeignNode[a...b]}", "LayerType": "DLA",
  "Inputs": [{"Name": "c", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}],
  "Outputs": []},
 "a name only"], "Bindings": []}"""


def test_layers_of_the_inspector_are_counted():
    found = read_layers(INSPECTED)
    assert [(layer.precision, layer.device) for layer in found] == [
        ("INT8", "GPU"),
        ("FP32", "GPU"),
        ("FP32", "GPU"),
        ("INT8", "DLA"),
        ("unknown", "unknown"),
    ]
    assert count_precisions(found) == {"FP32": 1, "INT8": 2, "unknown": 1, "DLA": 1}
    assert count_kinds(found) == {"CaskConvolution": 1, "DLA": 1, "Myelin": 1, "Reformat": 1, "unknown": 1}
