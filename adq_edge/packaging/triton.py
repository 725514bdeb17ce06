"""A model repository for Triton: the engine, its verdict, and an ensemble of both."""

from __future__ import annotations

from typing import Dict, List, Sequence, Tuple

from adq_edge.artifacts.bundle import INPUT
from adq_edge.packaging.source import Source
from adq_edge.packaging.triton_verdict import ENGINE_FILE

_VERDICT = (
    ("verdict", "TYPE_STRING", (1,)),
    ("product", "TYPE_STRING", (1,)),
    ("normalized_score", "TYPE_FP32", (1,)),
    ("p_value", "TYPE_FP64", (1,)),
    ("prediction", "TYPE_STRING", (1,)),
)
_FILES = {"onnxruntime": "model.onnx", "openvino": "model.onnx", "tensorrt": "model.plan"}
_LARGEST_BATCH = 8
_MODEL = '''"""Verdicts in Triton. Its Python needs adq-edge: pip install adq-edge."""

from adq_edge.packaging.triton_verdict import TritonPythonModel as TritonPythonModel
'''
_VERSION_NOTE = b"Triton needs a version folder for an ensemble, and reads nothing in it.\n"

Tensor = Tuple[str, str, Tuple[int, ...]]
"""Name, type and shape of an image's tensor."""


def triton_files(source: Source) -> Dict[str, bytes]:
    """Return the files of the repository by path."""
    name = source.name
    files = {
        f"models/{name}/config.pbtxt": _engine_config(source).encode(),
        f"models/{name}/1/{_FILES[source.sidecar.runtime]}": source.content,
    }
    if not source.has_verdict:
        return files
    verdict, both = f"models/{name}-verdict", f"models/{name}-inspect"
    files[f"{verdict}/config.pbtxt"] = _verdict_config(source).encode()
    files[f"{verdict}/1/model.py"] = _MODEL.encode()
    files.update({f"{verdict}/1/{file}": data for file, data in source.companions(ENGINE_FILE).items()})
    files[f"{both}/config.pbtxt"] = _ensemble_config(source).encode()
    files[f"{both}/1/README"] = _VERSION_NOTE
    return files


def batch_size(source: Source) -> int:
    """Return the `max_batch_size` of Triton; 0 if Triton makes no batches."""
    if source.sidecar.runtime == "openvino":  # the README of its backend reports faults with batches
        return 0
    details = source.sidecar.tensorrt
    return _LARGEST_BATCH if details is None else details.max_batch


def _engine_config(source: Source) -> str:
    runtime, batch = source.sidecar.runtime, batch_size(source)
    kind = "KIND_GPU" if runtime == "tensorrt" else "KIND_CPU"
    lines = [
        *_head(source, source.name, f'backend: "{runtime}"'),
        f'default_model_filename: "{_FILES[runtime]}"',
        *_tensors("input", [_image(source)], batch),
        *_tensors("output", _outputs(source), batch, reshape=True),
        f"instance_group [ {{ count: 1 kind: {kind} }} ]",
        *_warm_up(source, batch),
    ]
    if runtime == "openvino":
        lines.append('parameters { key: "ENFORCE_BF16" value: { string_value: "NO" } }')
    if batch > 1:
        lines.append("dynamic_batching { }")
    return _text(lines)


def _verdict_config(source: Source) -> str:
    batch = batch_size(source)
    lines = [
        *_head(source, f"{source.name}-verdict", 'backend: "python"'),
        *_tensors("input", _inputs_of_verdict(source), batch),
        *_tensors("output", _VERDICT, batch),
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
    ]
    return _text(lines)


def _ensemble_config(source: Source) -> str:
    batch, inputs = batch_size(source), _inputs_of_verdict(source)
    lines = [
        *_head(source, f"{source.name}-inspect", 'platform: "ensemble"'),
        *_tensors("input", [_image(source)], batch),
        *_tensors("output", [*_VERDICT, *_outputs(source)[:2]], batch),
        "ensemble_scheduling {",
        *_step(source.name, [INPUT], [name for name, _, _ in _outputs(source)]),
        *_step(f"{source.name}-verdict", [name for name, _, _ in inputs], [name for name, _, _ in _VERDICT]),
        "}",
    ]
    return _text(lines)


def _head(source: Source, name: str, backend: str) -> List[str]:
    hash_line = f"# engine_sha256: {source.sidecar.engine_sha256}"
    return [hash_line, f'name: "{name}"', backend, f"max_batch_size: {batch_size(source)}"]


def _image(source: Source) -> Tensor:
    return INPUT, "TYPE_UINT8", (*source.sidecar.image_size, 3)


def _outputs(source: Source) -> List[Tensor]:
    return [(name, "TYPE_FP32", shape) for name, shape in source.outputs.items()]


def _inputs_of_verdict(source: Source) -> List[Tensor]:
    """Return the inputs of the verdict: without an embedding, products are recognized by the image."""
    image = [_image(source)] if source.sidecar.embedding_size is None else []
    return [*image, *_outputs(source)]


def _tensors(field: str, tensors: Sequence[Tensor], batch: int, reshape: bool = False) -> List[str]:
    """Return the inputs or outputs; with batches, the first axis is not named.

    The engine's score has the shape [N]. With batches Triton needs a second axis, which `reshape` makes.
    """
    return [f"{field} [ {{ {_tensor(one, batch, reshape)} }} ]" for one in tensors]


def _tensor(tensor: Tensor, batch: int, reshape: bool) -> str:
    name, kind, shape = tensor
    axes = list(shape) if batch else [-1, *shape]
    made = " reshape: { shape: [ ] }" if reshape and not axes else ""
    return f'name: "{name}" data_type: {kind} dims: {axes or [1]}{made}'


def _step(model: str, inputs: Sequence[str], outputs: Sequence[str]) -> List[str]:
    maps = [
        f'    {field} {{ key: "{name}" value: "{name}" }}'
        for field, names in (("input_map", inputs), ("output_map", outputs))
        for name in names
    ]
    return ["  step [ {", f'    model_name: "{model}"', "    model_version: -1", *maps, "  } ]"]


def _warm_up(source: Source, batch: int) -> List[str]:
    shape = list(_image(source)[2]) if batch else [1, *_image(source)[2]]
    image = f"data_type: TYPE_UINT8 dims: {shape} zero_data: true"
    blank = f'inputs {{ key: "{INPUT}" value: {{ {image} }} }}'
    return [f'model_warmup [ {{ name: "blank" batch_size: 1 {blank} }} ]']


def _text(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
