"""`analyze`: the error that INT8 causes in the outputs of a model, as a whole and layer by layer."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import Bundle, FileReference, open_bundle
from adq_edge.artifacts.outputs import choose_result_files
from adq_edge.calibration.calibrated_model import CalibratedModel, apply_trained_ranges, calibrate_model
from adq_edge.calibration.selection import choose_source, default_folder, own_categories
from adq_edge.calibration.sources import IMAGES, RANDOM_NORMAL, SYNTHETIC_DEFECTS, make_source
from adq_edge.calibration.trained_ranges import find_trained_ranges
from adq_edge.core.console import progress_bar
from adq_edge.core.errors import AdqError
from adq_edge.core.files import write_together
from adq_edge.core.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES, Target, choose, cpu_target
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.evaluation.analysis import Analysis, GroupAnalysis, LayerAnalysis, Range
from adq_edge.evaluation.sensitivity_plot import write_sensitivity_plot
from adq_edge.hardware.environment import read_environment
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.layer_groups import group_layers
from adq_edge.quantization.range_propagation import complete_ranges
from adq_edge.quantization.region import NetworkOperator
from adq_edge.quantization.sensitivity import (
    LayerSensitivity,
    SensitivityAnalysis,
)

_SEED = 1
"""Differs from the seed of the calibration: a large folder gives other images than the calibration used."""


class _Images(NamedTuple):
    """The images to analyze and the name of their source."""

    source: str
    arrays: List[np.ndarray]


def analyze(
    bundle: Optional[Union[str, Path]] = None,
    *,
    calib: Optional[str] = None,
    source: str = IMAGES,
    calib_data: Optional[Union[str, Path]] = None,
    samples: int = DEFAULT_SAMPLES,
    images: int = 16,
    target: Optional[Union[Target, str]] = None,
    output: Optional[Union[str, Path]] = None,
    plot: Optional[Union[str, Path]] = None,
    threads: Optional[int] = None,
) -> Analysis:
    """Measure the error that INT8 causes in a model's outputs, as a whole and layer by layer.

    Half of the images are normal, half have synthetic defects. The time is proportional to layers x images.

    Args:
        bundle: the bundle folder; the newest in `bundles/` by default.
        calib: the calibrator, `name` or `name:value`; as for `build`, by default the ranges of the training
            if the model was trained with quantization, else `lp`.
        source: kind of calibration images: `images`, `synthetic-defects`, `random-normal`, a kind of an
            installed package, or several separated by commas.
        calib_data: folder of images to calibrate on and to analyze, or `random-normal` to calibrate on noise;
            by default `calibration_data/`, else the training images of the model.
        samples: the largest number of calibration images.
        images: the largest number of images to analyze.
        target: `x86`, `arm` or `tensorrt`; this machine's CPU by default.
        output: the result file; `benchmarks/results/NAME.analysis.json` by default.
        plot: the plot file, .png or .jpg; beside the result file by default.
        threads: CPU threads; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no images, no such calibrator or source, or unusable activations.
        DataError: an image cannot be read, or the plot is not an image file.
        StorageError: a result cannot be written.
    """
    chosen = cpu_target() if target is None else choose(Target, target)
    if images < 1:
        raise AdqError(f"{images} images asked for", fix="Give 1 or more")
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    files = choose_result_files(result_file(opened, output), plot, ".png", "plot", Analysis.kind())
    analyzed = _load_images(opened, calib_data, images)
    trained = find_trained_ranges(opened, chosen, calib)
    model = FloatModel.load(opened)
    if trained is not None:
        calibrated = apply_trained_ranges(opened, model, trained)
    else:
        calibration = choose_source(opened, source, calib_data, samples)
        calibrated = calibrate_model(opened, model, calib or DEFAULT_CALIBRATOR, calibration, threads=threads)
    analysis = _measure(opened, calibrated, chosen, analyzed, files.image, threads)
    with write_together():
        analysis.write(files.result)
        write_sensitivity_plot(files.image, analysis)
    return analysis


def result_file(bundle: Bundle, output: Optional[Union[str, Path]] = None) -> Path:
    """Return the result file of a bundle; `output` if it is given."""
    return workspace.RESULTS / f"{bundle.manifest.name}.analysis.json" if output is None else Path(output)


def _load_images(bundle: Bundle, calib_data: Optional[Union[str, Path]], count: int) -> _Images:
    """Return normal images and the same images with defects, in turn; a single image is normal."""
    spec = IMAGES if count == 1 else f"{IMAGES},{SYNTHETIC_DEFECTS}"
    with prefer_layout(bundle.manifest.layout):
        folder = default_folder(bundle) if calib_data in (None, RANDOM_NORMAL) else Path(str(calib_data))
        source = make_source(spec, folder, count, _SEED, own_categories(bundle, folder))
    return _Images(source.name, list(source.images(bundle.manifest.image_size)))


def _measure(
    bundle: Bundle,
    calibrated: CalibratedModel,
    target: Target,
    images: _Images,
    plot: Path,
    threads: Optional[int],
) -> Analysis:
    model, rounding = calibrated.float_model, calibrated.rounded_weights
    operators, ranges = model.region.operators, complete_ranges(model.region, calibrated.ranges.tensors)
    outputs = {operator.output: ranges[operator.output] for operator in operators}
    measured = SensitivityAnalysis(model, ranges, target, images.arrays, rounding=rounding, threads=threads)
    clipped, whole = measured.clipped_shares(outputs), measured.whole()
    with progress_bar(f"Analyzing {bundle.manifest.name}", len(operators), "layers") as advance:
        sensitivities = measured.layers(on_layer=advance)
    groups = _measure_groups(measured, group_layers(model))
    layers = [_layer(operator, ranges, clipped, found) for operator, found in zip(operators, sensitivities)]
    return Analysis(
        bundle=str(bundle.path),
        model=FileReference(str(bundle.model), bundle.manifest.model_sha256),
        target=target.value,
        calibration=calibrated.record,
        images=len(images.arrays),
        image_source=images.source,
        map_snr_db=whole.map_snr_db,
        score_bias=whole.score_bias,
        layers=tuple(sorted(layers, key=_worst_first)),
        plot=str(plot),
        environment=read_environment(),
        groups=groups,
    )


def _measure_groups(
    measured: SensitivityAnalysis, groups: Mapping[str, Sequence[str]]
) -> Tuple[GroupAnalysis, ...]:
    """Return the error of each group of layers; none if there is only one."""
    if len(groups) < 2:
        return ()
    found: List[GroupAnalysis] = []
    with progress_bar("Analyzing groups", len(groups), "groups") as advance:
        for name, layers in groups.items():
            error = measured.group(layers)
            found.append(GroupAnalysis(name, len(layers), error.map_snr_db, error.score_bias))
            advance()
    return tuple(found)


def _layer(
    operator: NetworkOperator,
    ranges: Dict[str, Range],
    clipped: Dict[str, float],
    sensitivity: LayerSensitivity,
) -> LayerAnalysis:
    return LayerAnalysis(
        **dataclasses.asdict(sensitivity),
        input_ranges=tuple(ranges[name] for name in operator.inputs),
        output_range=ranges[operator.output],
        clipped=clipped[operator.output],
    )


def _worst_first(layer: LayerAnalysis) -> Tuple[bool, float]:
    return (not layer.quantized, math.inf if layer.map_snr_db is None else layer.map_snr_db)
