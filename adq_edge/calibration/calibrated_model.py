"""Everything that an INT8 engine of a bundle is made from, measured once and kept in the bundle."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import zipfile
from pathlib import Path
from typing import Any, Dict, NamedTuple, Optional, Tuple

import numpy as np
import onnx

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.ranges import Ranges, WeightRounding, read_ranges
from adq_edge.calibration.calibrate import calibrate_bundle, file_name
from adq_edge.calibration.second_moments import second_moments
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import CalibrationError
from adq_edge.core.files import write_bytes
from adq_edge.core.version import __version__
from adq_edge.quantization.arithmetic import quantize_weight, weight_scales
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.graph.index import GraphIndex
from adq_edge.quantization.region import OUTPUT_AXIS, WEIGHTED, find_region
from adq_edge.quantization.rounding import RoundedWeight, Rounding, round_with_compensation

ROUNDING_IMAGES = 16
"""Images that weights are rounded on: 256 patches each are thousands of rows a layer."""

_KEY = "key"


class CalibratedModel(NamedTuple):
    """What `quantize` takes, for any target.

    Attributes:
        model: the bundle's model, equalized.
        ranges: the activation ranges of that model.
        rounding: its weights' integers.
        ranges_file: the file that holds `ranges`.
    """

    model: onnx.ModelProto
    ranges: Ranges
    rounding: Rounding
    ranges_file: Path


def prepare(
    bundle: Bundle, calib: str, source: CalibrationSource, *, threads: Optional[int] = None
) -> CalibratedModel:
    """Calibrate a bundle and round its weights, unless both are kept from before.

    Args:
        bundle: the model, and where the files go.
        calib: calibrator, `name` or `name:value`.
        source: the images.
        threads: CPU threads; all by default.

    Raises:
        CalibrationError: no such calibrator, no image, or an activation that is not finite.
        DataError: an image cannot be read.
    """
    (path,) = calibrate_bundle(bundle, [calib], source, threads=threads)
    return prepare_from(bundle, path, source, threads=threads)


def prepare_from(
    bundle: Bundle, path: Path, source: CalibrationSource, *, threads: Optional[int] = None
) -> CalibratedModel:
    """Round a bundle's weights to go with the ranges of a file; arguments and errors as of `prepare`.

    Args:
        bundle: the model, and where the files go.
        path: the ranges file.
        source: the images.
        threads: CPU threads; all by default.
    """
    equalized, ranges = _equalized(bundle, path)
    kept = (bundle.ranges_folder / file_name("weights", source)).with_suffix(".npz")
    rounding = _rounding(equalized, kept, source, bundle, threads)
    return CalibratedModel(equalized, ranges, rounding, path)


def prepare_trained(bundle: Bundle, path: Path) -> CalibratedModel:
    """Return what goes with the ranges of `export`: trained weights, which the nearest levels reproduce.

    Args:
        bundle: the model.
        path: the ranges file.

    Raises:
        CalibrationError: not a ranges file of this model's training.
    """
    equalized, ranges = _equalized(bundle, path)
    if ranges.rounding is not WeightRounding.NEAREST:
        raise CalibrationError("ranges that were not trained", where=path, fix="Export the checkpoint again")
    return CalibratedModel(equalized, ranges, _nearest(equalized), path)


def _nearest(model: onnx.ModelProto) -> Rounding:
    """Return the networks' weights at their nearest levels, for passes that rewrite both."""
    index = GraphIndex(model.graph)
    rounding: Dict[str, RoundedWeight] = {}
    for operator in find_region(model).operators:
        weight = index.constant(operator.node.input[1]) if operator.node.op_type in WEIGHTED else None
        if weight is not None and np.isfinite(weight).all():
            axis = OUTPUT_AXIS[operator.node.op_type]
            scales = weight_scales(weight, axis)
            rounding[operator.node.name] = RoundedWeight(quantize_weight(weight, scales, axis), scales)
    return rounding


def _equalized(bundle: Bundle, path: Path) -> Tuple[onnx.ModelProto, Ranges]:
    model = onnx.load(str(bundle.model))
    ranges = read_ranges(path, bundle.manifest.model_sha256, find_region(model).measured)
    return equalize(model, ranges.equalization), ranges


def _rounding(
    model: onnx.ModelProto, kept: Path, source: CalibrationSource, bundle: Bundle, threads: Optional[int]
) -> Rounding:
    """Return the weights' integers: those of `kept` if they are this model's on these images."""
    key = hashlib.sha256(model.SerializeToString(deterministic=True))
    key.update(source.fingerprint().encode())
    key.update(__version__.encode())
    found = _read(kept, key.hexdigest())
    if found is not None:
        return found
    operators = find_region(model).operators
    size = bundle.manifest.image_size
    images = list(itertools.islice(source.images(size), ROUNDING_IMAGES))
    weights = GraphIndex(model.graph)
    rounding: Dict[str, RoundedWeight] = {}
    layers = sum(operator.node.op_type in ("Conv", "ConvTranspose") for operator in operators)
    with progress_bar("Rounding weights", layers, "layers") as advance:
        for node, moments in second_moments(model, operators, images, threads=threads or os.cpu_count() or 1):
            weight = weights.constant(node.input[1])
            if weight is not None and np.isfinite(weight).all():
                rounding[node.name] = round_with_compensation(weight, moments, OUTPUT_AXIS[node.op_type])
            advance()
    _write(kept, key.hexdigest(), rounding)
    return rounding


def _write(path: Path, key: str, rounding: Rounding) -> None:
    arrays: Dict[str, Any] = {_KEY: np.array(key)}
    for name, weight in rounding.items():
        arrays[f"levels:{name}"] = weight.levels
        arrays[f"scales:{name}"] = weight.scales
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def _read(path: Path, key: str) -> Optional[Rounding]:
    """Return what a file keeps; None if it is of another model or other images, or damaged."""
    try:
        arrays = np.load(str(path), allow_pickle=False)
        if not isinstance(arrays, np.lib.npyio.NpzFile):
            return None
        with arrays:
            if str(arrays[_KEY]) != key:
                return None
            names = [name[len("levels:") :] for name in arrays.files if name.startswith("levels:")]
            return {name: RoundedWeight(arrays[f"levels:{name}"], arrays[f"scales:{name}"]) for name in names}
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        return None
