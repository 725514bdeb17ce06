"""Calibrates a bundle's model: equalization, activation ranges and rounded weights.

BUNDLE/ranges/*.npz    rounded weights, reused by the next build
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from adq_edge.artifacts.bundle import Bundle, FileReference
from adq_edge.artifacts.ranges import Ranges, WeightRounding, read_ranges
from adq_edge.artifacts.sidecar import Calibration
from adq_edge.calibration.calibrate import MeasuredRanges, calibrate_bundle, file_name
from adq_edge.calibration.second_moments import second_moments
from adq_edge.calibration.sources import CalibrationSource
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import CalibrationError
from adq_edge.core.files import sha256, write_bytes
from adq_edge.core.limits import requested_threads, usable_cpus
from adq_edge.core.reading import open_regular, require_uncompressed
from adq_edge.core.version import __version__
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.network_layers import WEIGHTED
from adq_edge.quantization.region import output_axis
from adq_edge.quantization.rounding import RoundedWeight, Rounding, round_to_nearest, round_with_compensation

ROUNDING_IMAGES = 16
"""Number of images for the rounding of weights; each contributes 64 to 225 patches per layer."""

_KEY = "key"
_LARGEST_WEIGHTS = 2**31
"""Bytes of the file of rounded weights."""


@dataclasses.dataclass(frozen=True)
class CalibratedModel:
    """The input of `quantize`, for any target.

    Attributes:
        float_model: the bundle's model, equalized.
        ranges: its activation ranges.
        rounded_weights: its weights on the integer grid, by node.
        ranges_file: the file that holds `ranges`.
    """

    float_model: FloatModel
    ranges: Ranges
    rounded_weights: Rounding
    ranges_file: Path

    @property
    def record(self) -> Calibration:
        """The calibration, as sidecars and analyses record it."""
        source = FileReference(self.ranges_file.name, sha256(self.ranges_file))
        return Calibration(self.ranges.calibrator, self.ranges.source, self.ranges.images, source)


def calibrate_model(
    bundle: Bundle, model: FloatModel, calib: str, source: CalibrationSource, *, threads: Optional[int] = None
) -> CalibratedModel:
    """Calibrate a bundle's model and round its weights; results stored in the bundle are reused.

    Args:
        bundle: the bundle.
        model: its model.
        calib: calibrator, `name` or `name:value`.
        source: the images.
        threads: CPU threads; all by default.

    Raises:
        CalibrationError: no such calibrator, no image, or an activation is not finite.
        DataError: an image cannot be read.
    """
    (measured,) = calibrate_bundle(bundle, model, [calib], source, threads=threads)
    return apply_ranges(bundle, measured, source, threads=threads)


def apply_ranges(
    bundle: Bundle, measured: MeasuredRanges, source: CalibrationSource, *, threads: Optional[int] = None
) -> CalibratedModel:
    """Round the weights of a bundle's equalized model on images.

    Raises:
        DataError: an image cannot be read.
    """
    rounded_weights = _round_weights(
        measured.equalized, source, bundle, threads or requested_threads() or usable_cpus()
    )
    return CalibratedModel(measured.equalized, measured.ranges, rounded_weights, measured.path)


def apply_trained_ranges(bundle: Bundle, model: FloatModel, path: Path) -> CalibratedModel:
    """Equalize a model that was trained with quantization, and round its weights to the nearest levels.

    Raises:
        CalibrationError: not a trained ranges file of this model.
    """
    ranges = read_ranges(path, bundle.manifest.model_sha256, model.region.measured)
    if ranges.rounding is not WeightRounding.NEAREST:
        raise CalibrationError(
            "these ranges come from calibration, not from training",
            where=path,
            fix="Export the checkpoint again",
        )
    equalized = equalize(model, ranges.equalization)
    return CalibratedModel(equalized, ranges, _round_to_nearest(equalized), path)


def _round_to_nearest(model: FloatModel) -> Rounding:
    """Return the networks' weights at their nearest levels."""
    rounded: Dict[str, RoundedWeight] = {}
    for operator in model.region.operators:
        weight = model.index.constant(operator.node.input[1]) if operator.node.op_type in WEIGHTED else None
        if weight is not None and np.isfinite(weight).all():
            rounded[operator.node.name] = round_to_nearest(weight, output_axis(operator.node))
    return rounded


def _round_weights(model: FloatModel, source: CalibrationSource, bundle: Bundle, threads: int) -> Rounding:
    """Round weights with error compensation, or read weights stored for the same model and images."""
    digest = hashlib.sha256(model.proto.SerializeToString(deterministic=True))
    digest.update(source.fingerprint().encode())
    digest.update(__version__.encode())
    key, path = digest.hexdigest(), (bundle.ranges_folder / file_name("weights", source)).with_suffix(".npz")
    kept = read_weights(path, key, model)
    if kept is not None:
        return kept
    operators = model.region.operators
    images = list(itertools.islice(source.images(bundle.manifest.image_size), ROUNDING_IMAGES))
    rounded: Dict[str, RoundedWeight] = {}
    layers = sum(operator.node.op_type in ("Conv", "ConvTranspose") for operator in operators)
    with progress_bar("Rounding weights", layers, "layers") as advance:
        for node, moments in second_moments(model.proto, operators, images, threads=threads):
            weight = model.index.constant(node.input[1])
            if weight is not None and np.isfinite(weight).all():
                rounded[node.name] = round_with_compensation(weight, moments, output_axis(node))
            advance()
    _write_weights(path, key, rounded)
    return rounded


def _write_weights(path: Path, key: str, rounded: Rounding) -> None:
    arrays: Dict[str, Any] = {_KEY: np.array(key)}
    for name, weight in rounded.items():
        arrays[f"levels:{name}"] = weight.levels
        arrays[f"scales:{name}"] = weight.scales
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_weights(path: Path, key: str, model: FloatModel) -> Optional[Rounding]:
    """Read a model's rounded weights; None if the key of model and images differs or the file is damaged."""
    try:
        with open_regular(path, _LARGEST_WEIGHTS) as file:
            require_uncompressed(file)
            with np.load(file, allow_pickle=False) as arrays:
                if str(arrays[_KEY]) != key:
                    return None
                names = [name[len("levels:") :] for name in arrays.files if name.startswith("levels:")]
                rounded = {
                    name: RoundedWeight(arrays[f"levels:{name}"], arrays[f"scales:{name}"]) for name in names
                }
    except Exception:  # numpy and zipfile raise nearly any kind for damaged files
        return None
    return rounded if _fits(rounded, model) else None


def _fits(rounded: Rounding, model: FloatModel) -> bool:
    """Return True if each rounded weight has the type, shape and channels of a weight of the model."""
    nodes = {operator.node.name: operator.node for operator in model.region.operators}
    for name, (levels, scales) in rounded.items():
        node = nodes.get(name)
        if node is None or node.op_type not in WEIGHTED:
            return False
        weight = model.index.constant(node.input[1])
        if weight is None or not _is_array(levels, np.int8, weight.shape):
            return False
        if not _is_array(scales, np.float32, (weight.shape[output_axis(node)],)):
            return False
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            return False
    return True


def _is_array(value: object, kind: type, shape: Tuple[int, ...]) -> bool:
    """Return True for an array of a type and shape; numpy gives a damaged entry of an archive as bytes."""
    return isinstance(value, np.ndarray) and value.dtype == kind and value.shape == shape
