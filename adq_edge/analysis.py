"""`analyze`: what INT8 costs a bundle's model, and which layers pay for it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from adq_edge import workspace
from adq_edge.bundle import Bundle, Source, open_bundle
from adq_edge.calibration.prepared import Prepared, prepare, prepare_trained
from adq_edge.calibration.selection import choose_source, default_folder, own_categories
from adq_edge.calibration.sources import IMAGES, SYNTHETIC_DEFECTS, make_source
from adq_edge.calibration.trained_ranges import find_trained_ranges
from adq_edge.console import progress_bar
from adq_edge.drawing.damage_plot import write_damage_plot
from adq_edge.environment import Environment, read_environment
from adq_edge.errors import AdqError, ResultError
from adq_edge.files import atomic_path, read_record, sha256, write_json
from adq_edge.options import DEFAULT_CALIBRATOR, DEFAULT_SAMPLES
from adq_edge.quantization.arithmetic import Target, cpu_target
from adq_edge.quantization.region import QuantizedOperator, find_region
from adq_edge.quantization.sensitivity import LayerDamage, clipped_shares, map_damage, whole_damage
from adq_edge.quantization.shared_ranges import complete_ranges
from adq_edge.result_files import name_results
from adq_edge.runtimes.sidecar import Calibration

_SCHEMA = "adq-edge/analysis"
_VERSION = 2

_SEED = 1
"""Not the calibration's: of a large folder, pictures are measured that were not calibrated on."""

Range = Tuple[float, float]


@dataclasses.dataclass(frozen=True)
class LayerAnalysis:
    """What it costs to quantize one layer alone, all others float32.

    Attributes:
        layer: the node's name.
        operator: the node's operator.
        quantized: False for a layer that the target leaves in float32.
        input_ranges: (low, high) of each activation that it reads, in the activation's own units.
        output_range: (low, high) of what it gives, after its ReLU if it has one.
        clipped: share of its float output values outside that range on the pictures, 0 to 1; a symmetric grid
            reaches as far below zero as above.
        output_snr_db: 10 log10(sum F^2 / sum (F - Q)^2) over all values of its output on all pictures, F in
            float32 and Q quantized, in dB; None: identical.
        map_snr_db: the same ratio of the anomaly maps, in dB; None: identical.
        score_bias: median of (Q - F) / F over the pictures' scores; None if all float scores are 0.
    """

    layer: str
    operator: str
    quantized: bool
    input_ranges: Tuple[Range, ...]
    output_range: Range
    clipped: float
    output_snr_db: Optional[float]
    map_snr_db: Optional[float]
    score_bias: Optional[float]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """What INT8 costs a model on one kind of machine, and where.

    The arithmetic is the target's; it is computed here in float32, not by the target's kernels.

    Attributes:
        bundle: the bundle's folder.
        model: the bundle's ONNX file.
        target: whose integer arithmetic.
        calibration: where the ranges came from.
        pictures: number of pictures measured with.
        picture_source: where they came from.
        map_snr_db: as of `LayerAnalysis`, with every layer quantized that the target quantizes.
        score_bias: as of `LayerAnalysis`, with every layer quantized that the target quantizes.
        layers: the networks' layers, lowest SNR of the maps first; those in float32 last.
        plot: the picture of the layers' damage.
        environment: the machine that measured.
    """

    bundle: str
    model: Source
    target: str
    calibration: Calibration
    pictures: int
    picture_source: str
    map_snr_db: Optional[float]
    score_bias: Optional[float]
    layers: Tuple[LayerAnalysis, ...]
    plot: str
    environment: Environment


class _Pictures(NamedTuple):
    """Pictures to measure with, and where they came from."""

    source: str
    arrays: List[np.ndarray]


def analyze(
    bundle: Optional[Union[str, Path]] = None,
    *,
    calib: Optional[str] = None,
    source: str = IMAGES,
    data: Optional[Union[str, Path]] = None,
    samples: int = DEFAULT_SAMPLES,
    pictures: int = 16,
    target: Optional[Union[Target, str]] = None,
    output: Optional[Union[str, Path]] = None,
    plot: Optional[Union[str, Path]] = None,
    threads: Optional[int] = None,
) -> Analysis:
    """Measure what INT8 costs a bundle's model, layer by layer and as a whole.

    The pictures are half normal, half with synthetic defects. Time grows with layers times pictures.

    Args:
        bundle: the bundle's folder; the newest in `bundles/` by default.
        calib: the calibrator, `name` or `name:value`; as for `build`, by default the ranges that the model
            was trained with, if it was.
        source: what is calibrated on: `images`, `synthetic-defects`, `random-normal`, an installed package's,
            or several with commas between them.
        data: folder of pictures to calibrate on and to measure with; by default `calibration_data/`, else the
            training images of the dataset that the model was trained on.
        samples: the largest number of calibration pictures.
        pictures: the largest number of pictures to measure with.
        target: `x86`, `arm` or `tensorrt`; this machine's CPU by default.
        output: the result file; `benchmarks/results/NAME.analysis.json` by default.
        plot: the plot, a .png or .jpg; beside the result file by default.
        threads: CPU threads; all by default.

    Raises:
        BundleError: the bundle is missing or damaged.
        CalibrationError: no pictures, no such calibrator or source, or unusable activations.
        DataError: a picture cannot be read, or the plot's name is not a picture's.
        StorageError: a result cannot be written.
    """
    chosen = cpu_target() if target is None else _target(target)
    if pictures < 1:
        raise AdqError(f"{pictures} pictures asked for", fix="Give 1 or more")
    opened = open_bundle(workspace.latest_bundle() if bundle is None else Path(bundle))
    default = workspace.RESULTS / f"{opened.manifest.name}.analysis.json"
    files = name_results(default if output is None else output, plot, ".png", "plot")
    measured_with = _load_pictures(opened, data, pictures)
    trained = find_trained_ranges(opened, chosen, calib)
    if trained is not None:
        prepared = prepare_trained(opened, trained)
    else:
        calibration = choose_source(opened, source, data, samples)
        prepared = prepare(opened, calib or DEFAULT_CALIBRATOR, calibration, threads=threads)
    analysis = _measure(opened, prepared, chosen, measured_with, files.picture, threads)
    with atomic_path(files.result) as temporary:  # both or neither
        write_json(temporary, _SCHEMA, _VERSION, dataclasses.asdict(analysis))
        write_damage_plot(files.picture, analysis)
    return analysis


def read_analysis(path: Path) -> Analysis:
    """Read a result file of `analyze`.

    Raises:
        StorageError: the file cannot be read.
        ResultError: not such a file.
    """
    return read_record(
        path, Analysis, _SCHEMA, _VERSION, ResultError, "Analyze again: adq-edge analyze BUNDLE"
    )


def _target(value: Union[Target, str]) -> Target:
    try:
        return Target(value)
    except ValueError:
        names = ", ".join(item.value for item in Target)
        raise AdqError(f"{value!r} is no target", fix=f"There are: {names}") from None


def _load_pictures(bundle: Bundle, data: Optional[Union[str, Path]], count: int) -> _Pictures:
    """Return normal pictures and the same with defects, in turn; one picture alone is a normal one."""
    folder = default_folder(bundle) if data is None else Path(data)
    spec = IMAGES if count == 1 else f"{IMAGES},{SYNTHETIC_DEFECTS}"
    source = make_source(spec, folder, count, _SEED, own_categories(bundle, folder))
    return _Pictures(source.name, list(source.pictures(bundle.manifest.image_size)))


def _measure(
    bundle: Bundle,
    prepared: Prepared,
    target: Target,
    pictures: _Pictures,
    plot: Path,
    threads: Optional[int],
) -> Analysis:
    model, rounding, region = prepared.model, prepared.rounding, find_region(prepared.model)
    operators, ranges = region.operators, complete_ranges(region, prepared.ranges.tensors)
    outputs = {operator.output: ranges[operator.output] for operator in operators}
    clipped = clipped_shares(model, outputs, target, pictures.arrays, threads=threads)
    whole = whole_damage(model, ranges, target, pictures.arrays, rounding=rounding, threads=threads)
    with progress_bar(f"Analyzing {bundle.manifest.name}", len(operators), "layers") as advance:
        damages = map_damage(
            model, ranges, target, pictures.arrays, rounding=rounding, threads=threads, on_layer=advance
        )
    layers = [_layer(operator, ranges, clipped, damage) for operator, damage in zip(operators, damages)]
    calibration = prepared.ranges
    ranges_file = Source(prepared.ranges_file.name, sha256(prepared.ranges_file))
    return Analysis(
        bundle=str(bundle.path),
        model=Source(str(bundle.model), bundle.manifest.model_sha256),
        target=target.value,
        calibration=Calibration(calibration.calibrator, calibration.source, calibration.images, ranges_file),
        pictures=len(pictures.arrays),
        picture_source=pictures.source,
        map_snr_db=whole.map_snr_db,
        score_bias=whole.score_bias,
        layers=tuple(sorted(layers, key=_badness)),
        plot=str(plot),
        environment=read_environment(),
    )


def _layer(
    operator: QuantizedOperator, ranges: Dict[str, Range], clipped: Dict[str, float], damage: LayerDamage
) -> LayerAnalysis:
    return LayerAnalysis(
        layer=damage.layer,
        operator=damage.operator,
        quantized=damage.quantized,
        input_ranges=tuple(ranges[name] for name in operator.inputs),
        output_range=ranges[operator.output],
        clipped=clipped[operator.output],
        output_snr_db=damage.output_snr_db,
        map_snr_db=damage.map_snr_db,
        score_bias=damage.score_bias,
    )


def _badness(layer: LayerAnalysis) -> Tuple[bool, float]:
    return (not layer.quantized, math.inf if layer.map_snr_db is None else layer.map_snr_db)
