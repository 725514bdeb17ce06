"""Holds a bundle's model in memory, for calibration, builders and analysis."""

from __future__ import annotations

import dataclasses
import hashlib

import onnx

from adq_edge.artifacts.bundle import REMEDY, Bundle
from adq_edge.artifacts.engine_file import LARGEST
from adq_edge.artifacts.tensors import find_mismatch
from adq_edge.core.errors import BundleError
from adq_edge.core.files import storage_errors
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.graph.model_file import check_model, input_types, output_types, parse_model
from adq_edge.quantization.region import Region, find_region


@dataclasses.dataclass(frozen=True)
class FloatModel:
    """A float32 model in the form that `export` writes; passes edit copies of it.

    Attributes:
        proto: the ONNX model.
        index: producers, consumers and constants of its graph.
        region: the networks, which INT8 engines quantize.
    """

    proto: onnx.ModelProto
    index: GraphIndex
    region: Region

    @classmethod
    def of(cls, proto: onnx.ModelProto) -> FloatModel:
        """Return the model of an ONNX graph and find its region."""
        index = GraphIndex(proto.graph)
        return cls(proto, index, find_region(index))

    @classmethod
    def load(cls, bundle: Bundle) -> FloatModel:
        """Load the model of a bundle; errors are those of `read_model`."""
        return cls.of(read_model(bundle))


def read_model(bundle: Bundle) -> onnx.ModelProto:
    """Read the ONNX model of a bundle and compare it with the manifest.

    Raises:
        BundleError: the file has another hash, is not a valid ONNX model, keeps weights in other files, or
            has other inputs or outputs than the manifest describes.
        StorageError: the file cannot be read.
    """
    with storage_errors(bundle.model):
        if bundle.model.stat().st_size >= LARGEST:
            raise BundleError("is too large for an ONNX file", where=bundle.model, fix=REMEDY)
        content = bundle.model.read_bytes()  # the bytes that are hashed are those that are parsed
    if hashlib.sha256(content).hexdigest() != bundle.manifest.model_sha256:
        raise bundle.changed_model_error()
    try:
        model = parse_model(content)
        check_model(model)
    except ValueError as error:
        raise BundleError(str(error), where=bundle.model, fix=REMEDY) from error
    mismatch = find_mismatch(input_types(model), output_types(model), bundle.manifest)
    if mismatch is not None:
        raise BundleError(mismatch, where=bundle.model, fix=REMEDY)
    return model
