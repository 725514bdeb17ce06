"""Tensors of KServe's open inference protocol v2: JSON, and the extension for binary tensors.

With the extension, a body is a JSON header and the bytes of the tensors behind it. The HTTP header
`Inference-Header-Content-Length` states the length of the JSON header.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import struct
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from adq_edge.artifacts.bundle import INPUT
from adq_edge.core.reading import parse_json
from adq_edge.core.text import quoted
from adq_edge.serving.problems import BAD_REQUEST, RequestError, encode_line

LENGTH_HEADER = "Inference-Header-Content-Length"
MOST_IMAGES = 256
"""Images in one request."""
BYTES = "BYTES"
_IMAGE_TYPE = "UINT8"
_TYPES: Mapping[str, str] = {"FP32": "<f4", "FP64": "<f8"}
_UNSUPPORTED = ("shared_memory_region", "classification")


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An output.

    Attributes:
        name: its name.
        datatype: `FP32`, `FP64` or `BYTES`.
        shape: its shape; -1 in metadata for the number of images.
        values: the values; texts for `BYTES`.
    """

    name: str
    datatype: str
    shape: Tuple[int, ...]
    values: Sequence[Any] = ()

    def metadata(self) -> Dict[str, Any]:
        """Return name, type and shape for JSON."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}

    def numbers(self) -> List[Any]:
        """Return the values for JSON, row by row; null for a number that is NaN or infinite."""
        if self.datatype == BYTES:
            return list(self.values)
        flat = np.asarray(self.values).ravel().tolist()
        return [value if math.isfinite(value) else None for value in flat]

    def content(self) -> bytes:
        """Return the values as bytes: little-endian numbers, or texts with their length in front."""
        if self.datatype != BYTES:
            numbers: np.ndarray = np.asarray(self.values, _TYPES[self.datatype])
            return numbers.tobytes()
        texts = [str(value).encode("utf-8") for value in self.values]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@dataclasses.dataclass(frozen=True)
class InferRequest:
    """A request for inference.

    Attributes:
        id: the client's identifier; None if it gave none.
        images: uint8 `[N, H, W, 3]` RGB.
        outputs: the requested outputs by name, True for binary ones.
    """

    id: Optional[str]
    images: np.ndarray
    outputs: Mapping[str, bool]


def parse_request(
    body: bytes, header_length: Optional[str], image_size: Tuple[int, int], outputs: Sequence[str]
) -> InferRequest:
    """Return the content of a request.

    Args:
        body: the body.
        header_length: value of the HTTP header `LENGTH_HEADER`; None without it.
        image_size: (height, width) of the engine's input.
        outputs: the names of the outputs, which all are returned if the request names none.

    Raises:
        RequestError: the request is not of the protocol, or its input does not fit the engine.
    """
    end = _header_end(header_length, len(body))
    try:
        header = parse_json(body[:end])
    except ValueError as error:
        raise _problem(f"the request is not JSON: {str(error)[:200]}") from error
    if not isinstance(header, dict):
        raise _problem("the request is not a JSON object")
    identifier = header.get("id")
    if identifier is not None and not isinstance(identifier, str):
        raise _problem("its id is not a text")
    images = _read_images(header.get("inputs"), body[end:], image_size)
    all_binary = _parameters(header).get("binary_data_output") is True
    return InferRequest(identifier, images, _read_outputs(header.get("outputs"), outputs, all_binary))


def _header_end(length: Optional[str], size: int) -> int:
    if length is None:
        return size
    if not (length.isdigit() and length.isascii() and len(length) < 12 and int(length) <= size):
        raise _problem(f"{LENGTH_HEADER} is {quoted(length)}, the body has {size} bytes")
    return int(length)


def _problem(what: str) -> RequestError:
    return RequestError(BAD_REQUEST, f"{what[:1].upper()}{what[1:]}.")


def _parameters(part: Mapping[str, Any]) -> Mapping[str, Any]:
    found = part.get("parameters", {})
    if not isinstance(found, dict):
        raise _problem("its parameters are not a JSON object")
    for name in _UNSUPPORTED:
        if name in found:
            raise _problem(f"the parameter {name} is not supported")
    return found


def _read_images(inputs: Any, rest: bytes, image_size: Tuple[int, int]) -> np.ndarray:
    height, width = image_size
    wanted = f"one input {INPUT}, {_IMAGE_TYPE} of shape [N, {height}, {width}, 3]"
    if not isinstance(inputs, tuple) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise _problem(f"the engine takes {wanted}")
    given: Mapping[str, Any] = inputs[0]
    shape: Any = given.get("shape")
    if given.get("name") != INPUT or given.get("datatype") != _IMAGE_TYPE or not _is_shape(shape, image_size):
        named = f"{quoted(str(given.get('name')))}, {quoted(str(given.get('datatype')))}"
        raise _problem(f"the engine takes {wanted}; the request has {named} of shape {_listed(shape)}")
    if not 1 <= shape[0] <= MOST_IMAGES:
        raise _problem(f"a request has 1 to {MOST_IMAGES} images, this one {shape[0]}")
    size, binary = math.prod(shape), _parameters(given).get("binary_data_size")
    if binary is None:
        if rest:
            raise _problem(f"{len(rest)} bytes follow the JSON header, but its input states no size of them")
        return np.reshape(_from_numbers(given.get("data"), size), shape)
    if "data" in given:
        raise _problem("the input has both data and a binary size")
    if isinstance(binary, bool) or binary != size or len(rest) != size:
        what = f"the input has {size} bytes by its shape, {str(binary)[:20]} by its binary size"
        raise _problem(f"{what}, and {len(rest)} were sent")
    return np.reshape(np.frombuffer(rest, np.uint8), shape)


def _is_shape(shape: Any, image_size: Tuple[int, int]) -> bool:
    if not isinstance(shape, tuple) or len(shape) != 4 or not all(type(side) is int for side in shape):
        return False
    return shape[1:] == (*image_size, 3)


def _listed(shape: Any) -> str:
    return str(list(shape))[:80] if isinstance(shape, tuple) else quoted(str(shape))


def _from_numbers(data: Any, size: int) -> np.ndarray:
    """Return JSON numbers, nested or not, as uint8 `[size]`."""
    rows = data
    while isinstance(rows, (tuple, list)) and rows and all(isinstance(row, tuple) for row in rows):
        rows = list(itertools.chain.from_iterable(rows))
    is_flat = isinstance(rows, (tuple, list)) and not any(isinstance(row, (tuple, dict)) for row in rows)
    values = np.asarray(rows if is_flat else ())
    if values.dtype.kind not in "iu" or values.size != size:
        raise _problem(f"the input needs {size} whole numbers, row by row")
    if values.min() < 0 or values.max() > 255:
        raise _problem("a value of the input is not 0 to 255")
    return np.asarray(values, np.uint8).ravel()


def _read_outputs(given: Any, known: Sequence[str], all_binary: bool) -> Dict[str, bool]:
    if not given:
        return dict.fromkeys(known, all_binary)
    if not isinstance(given, tuple) or not all(isinstance(one, dict) for one in given):
        raise _problem("its outputs are not a list of JSON objects")
    found: Dict[str, bool] = {}
    for one in given:
        name = one.get("name")
        if name not in known:
            raise _problem(f"there is no output {quoted(str(name))}. Outputs: {', '.join(known)}")
        found[name] = bool(_parameters(one).get("binary_data", all_binary))
    return found


def encode_response(
    model: str, request: InferRequest, outputs: Mapping[str, Tensor]
) -> Tuple[bytes, Optional[int]]:
    """Return the body of an answer and the length of its JSON header; None if all of it is JSON.

    Args:
        model: the name of the model.
        request: the request.
        outputs: all requested outputs by name.
    """
    documents, contents = [], []
    for name, is_binary in request.outputs.items():
        document = outputs[name].metadata()
        if is_binary:
            contents.append(outputs[name].content())
            document["parameters"] = {"binary_data_size": len(contents[-1])}
        else:
            document["data"] = outputs[name].numbers()
        documents.append(document)
    identifier = {} if request.id is None else {"id": request.id}
    header = encode_line({"model_name": model, "model_version": "1", **identifier, "outputs": documents})
    if not contents:
        return header, None
    return b"".join([header, *contents]), len(header)
