"""KServe's open inference protocol v2: tensors as JSON and as bytes, and NVIDIA's client where installed."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("uvicorn", reason="needs the extra 'serve'")

from adq_edge.runtimes.base import Output
from adq_edge.serving.problems import RequestError
from adq_edge.serving.tensors import Tensor, encode_response, parse_request
from factories.decisions import defective_image, good_image
from factories.serving import Running, serving, write_fitted_engine
from factories.tiny_engine import SIZE, write_engine

INFER = "/v2/models/parts-int8/infer"
IMAGES = np.stack([good_image("bolt", 1), defective_image("nut", 2), np.full((SIZE, SIZE, 3), 255, np.uint8)])
"""The last image is white: its map is infinite."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("engine")
    with serving(write_fitted_engine(folder / "parts-int8.onnx")) as running:
        yield running


def as_json(images: np.ndarray, **changes: Any) -> Dict[str, Any]:
    """Return a request with the images as JSON numbers."""
    given = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.tolist()}
    return {"inputs": [{**given, **changes}]}


def by_name(document: Dict[str, Any]) -> Dict[str, List[Any]]:
    return {one["name"]: one["data"] for one in document["outputs"]}


def test_json_tensors_are_those_of_the_engine_and_verdicts_those_of_the_inspector(server: Running):
    answer = server.request("POST", INFER, json.dumps({**as_json(IMAGES[:2]), "id": "7"}))
    assert (answer.status, answer.document["id"], answer.document["model_name"]) == (200, "7", "parts-int8")
    found, output = by_name(answer.document), server.judge.engine.run(IMAGES[:2])
    for name, array in zip(server.judge.engine.outputs, output.arrays):
        assert np.array_equal(np.array(found[name], np.float32), array.ravel())
    expected = [server.judge.inspect(image, f"image {number}") for number, image in enumerate(IMAGES[:2])]
    assert found["verdict"] == [one.verdict for one in expected]
    assert found["product"] == ["bolt", "nut"]
    assert found["p_value"] == [one.p_value for one in expected]
    assert list(map(json.loads, found["prediction"])) == [
        json.loads(json.dumps(one.fields())) for one in expected
    ]


def test_an_infinite_output_is_null_in_json_and_cannot_be_judged(server: Running):
    wanted = [{"name": name} for name in ("anomaly_score", "normalized_score", "verdict")]
    answer = server.request("POST", INFER, json.dumps({**as_json(IMAGES[2:]), "outputs": wanted}))
    assert by_name(answer.document) == {
        "anomaly_score": [None],
        "normalized_score": [None],
        "verdict": ["cannot judge"],
    }


def test_metadata_names_inputs_outputs_and_the_hash_of_the_engine(server: Running):
    for path in ("/v2/models/parts-int8", "/v2/models/parts-int8/versions/1"):
        document = server.request("GET", path).document
        assert document["inputs"] == [{"name": "image", "datatype": "UINT8", "shape": [-1, SIZE, SIZE, 3]}]
        assert document["parameters"] == {"engine_sha256": server.judge.engine.sidecar.engine_sha256}
    assert server.request("GET", "/v2").document["extensions"] == ["binary_tensor_data"]
    assert server.request("GET", "/v2/models/other").status == 404
    assert server.request("GET", "/v2/models/parts-int8/versions/2/ready").status == 404


def test_an_engine_without_products_has_the_outputs_of_the_engine_only(tmp_path: Path):
    with serving(write_engine(tmp_path / "plain.onnx")) as running:
        document = running.request("GET", "/v2/models/plain").document
        assert [one["name"] for one in document["outputs"]] == ["anomaly_map", "anomaly_score"]
        answer = running.request("POST", "/v2/models/plain/infer", json.dumps(as_json(IMAGES[:1])))
        assert by_name(answer.document)["anomaly_score"] == running.judge.engine.run(IMAGES[:1]).scores


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": "picture"}, "one input image"),
        ({"datatype": "FP32"}, "one input image"),
        ({"shape": [1, SIZE, SIZE]}, "one input image"),
        ({"shape": [1, 64, 64, 3]}, f"[N, {SIZE}, {SIZE}, 3]"),
        ({"shape": [True, SIZE, SIZE, 3]}, "one input image"),
        ({"shape": [0, SIZE, SIZE, 3], "data": []}, "1 to 256 images"),
        ({"shape": [10**9, SIZE, SIZE, 3]}, "1 to 256 images"),
        ({"data": [1, 2]}, "whole numbers"),
        ({"data": [[1], [1, 2]]}, "whole numbers"),
        ({"data": "abc"}, "whole numbers"),
        ({"data": [0.5] * (SIZE * SIZE * 3)}, "whole numbers"),
        ({"data": [256] * (SIZE * SIZE * 3)}, "not 0 to 255"),
        ({"parameters": {"binary_data_size": 5}}, "both data and a binary size"),
        ({"parameters": {"shared_memory_region": "a"}}, "not supported"),
    ],
)
def test_an_input_that_does_not_fit_gets_400(server: Running, changes: Dict[str, Any], text: str):
    answer = server.request("POST", INFER, json.dumps(as_json(IMAGES[:1], **changes)))
    assert answer.status == 400
    assert text in answer.document["error"]


def binary_request(images: np.ndarray, **names: bool) -> bytes:
    """Return the JSON header and the bytes of images, as NVIDIA's client sends them."""
    given = as_json(images)
    given["inputs"][0]["parameters"] = {"binary_data_size": images.size}
    del given["inputs"][0]["data"]
    if names:
        given["outputs"] = [{"name": name, "parameters": {"binary_data": on}} for name, on in names.items()]
    else:
        given["parameters"] = {"binary_data_output": True}
    return json.dumps(given, separators=(",", ":")).encode()


def parse(header: bytes, rest: bytes, length: str = ""):
    names = ["anomaly_map", "anomaly_score"]
    return parse_request(header + rest, length or str(len(header)), (SIZE, SIZE), names)


def test_binary_tensors_are_read_and_written_as_the_extension_defines():
    request = parse(binary_request(IMAGES, anomaly_score=True, anomaly_map=False), IMAGES.tobytes())
    assert np.array_equal(request.images, IMAGES)
    score = Tensor("anomaly_score", "FP32", (2,), np.array([0.1, np.nan], np.float32))
    text = Tensor("anomaly_map", "BYTES", (1,), ["gr\u00fcn"])
    body, length = encode_response("m", request, {"anomaly_score": score, "anomaly_map": text})
    header = json.loads(body[:length])
    assert header["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert header["outputs"][1]["data"] == ["gr\u00fcn"]
    assert np.array_equal(np.frombuffer(body[length:], np.float32), score.values, equal_nan=True)
    assert text.content() == struct.pack("<I", 5) + "gr\u00fcn".encode()


@pytest.mark.parametrize("length", ["-1", "9" * 11, "9" * 40, "\u00b2", "x", "1.0"])
def test_an_impossible_length_of_the_header_is_refused(length: str):
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse(binary_request(IMAGES), IMAGES.tobytes(), length)


def test_bytes_that_do_not_fit_the_shape_are_refused():
    for rest in (b"", IMAGES.tobytes()[:-1], IMAGES.tobytes() + b"x"):
        with pytest.raises(RequestError, match="bytes by its shape"):
            parse(binary_request(IMAGES), rest)
    with pytest.raises(RequestError, match="states no size"):
        parse(json.dumps(as_json(IMAGES[:1])).encode(), b"x")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = ("name", "datatype", "shape", "data", "parameters", "id", "inputs", "outputs", "binary_data_size")


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(KEYS), JSON), st.dictionaries(st.sampled_from(KEYS), JSON))
def test_any_json_is_answered_with_an_error_of_the_protocol(outer: Dict[str, Any], inner: Dict[str, Any]):
    document = {"inputs": [{**as_json(IMAGES[:1, :1, :1])["inputs"][0], **inner}], **outer}
    body = json.dumps(document).encode()
    with pytest.raises(RequestError):
        parse_request(body, None, (SIZE, SIZE), ["anomaly_map"])


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=64), st.none() | st.text(max_size=4))
def test_any_bytes_are_answered_with_an_error_of_the_protocol(body: bytes, length):
    with pytest.raises(RequestError):
        parse_request(body, length, (SIZE, SIZE), ["anomaly_map"])


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_nvidias_client_gets_bit_equal_tensors_and_the_verdicts(server: Running, algorithm):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is a tool for developers")
    host, port = server.address
    client = http.InferenceServerClient(f"{host}:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("parts-int8")
    assert client.get_server_metadata()["name"] == "adq-edge"
    assert client.get_model_metadata("parts-int8")["versions"] == ["1"]
    given = http.InferInput("image", list(IMAGES.shape), "UINT8")
    given.set_data_from_numpy(IMAGES)
    found = client.infer("parts-int8", [given], request_compression_algorithm=algorithm)
    output: Output = server.judge.engine.run(IMAGES)
    for name, array in zip(server.judge.engine.outputs, output.arrays):
        assert np.array_equal(found.as_numpy(name), array), name
    assert found.as_numpy("product").tolist() == [b"bolt", b"nut", b""]
    assert found.as_numpy("verdict").tolist()[-1] == b"cannot judge"
    as_text = http.InferRequestedOutput("verdict", binary_data=False)
    given.set_data_from_numpy(IMAGES, binary_data=False)
    again = client.infer("parts-int8", [given], outputs=[as_text], request_id="part 1")
    assert again.get_response()["id"] == "part 1"
    assert [one.encode() for one in again.as_numpy("verdict")] == found.as_numpy("verdict").tolist()
    with pytest.raises(http.InferenceServerException, match="There is no model 'other'"):
        client.infer("other", [given])
