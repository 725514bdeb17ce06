"""The `export` command: convert a checkpoint to a bundle and compare the graph with the checkpoint.

The TorchScript exporter is required: at opset 17 it writes the axes of reductions as attributes. TensorRT 8.5
reads only this form correctly.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import math
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import (
    EMBEDDING_OUTPUT,
    INPUT,
    MANIFEST_FILE,
    MAP_OUTPUT,
    MODEL_FILE,
    RANGES_FOLDER,
    SCORE_OUTPUT,
    Bundle,
    FileReference,
    Manifest,
    Parity,
    open_bundle,
)
from adq_edge.artifacts.bundle_folder import refuse_foreign_folder, stale_ranges
from adq_edge.artifacts.ranges import Ranges, read_ranges
from adq_edge.artifacts.tensors import scale_map_names
from adq_edge.calibration.trained_ranges import QUANTIZATION, ranges_from_dict, write_trained_ranges
from adq_edge.core.console import is_verbose, pulsing_bar
from adq_edge.core.errors import BundleError, CalibrationError, CheckpointError, DataError
from adq_edge.core.files import sha256, write_together
from adq_edge.core.images.imaging import load_image, resize_image
from adq_edge.core.interruption import delayed_signals
from adq_edge.core.limits import runtime_threads
from adq_edge.core.text import number_of
from adq_edge.core.version import __version__
from adq_edge.datasets.dataset import read_dataset
from adq_edge.datasets.layouts.registry import prefer_layout
from adq_edge.datasets.synthetic import CATEGORIES, render
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import Checkpoint, load_checkpoint, network_files
from adq_edge.models.config import Option
from adq_edge.models.threads import limit_torch_threads
from adq_edge.onnx_export.layer_choice import LayerAuroc, choose_layers, measure_choices
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import check_for_tensorrt
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import run_passes
from adq_edge.training.score_statistics import measure_statistics

OPSET = 17
PARITY_IMAGES = 8
_QAT_STATE = "qat"
"""The key of the state of quantization-aware training in a checkpoint."""
PARITY_TOLERANCE = 1e-3
"""Largest allowed difference of an output, relative to the largest value of its kind.

The score is relative to the map, each scale map to all scale maps.

Reordered float32 sums cause differences ten times smaller, INT8 causes differences a thousand times larger.
"""

_REPORT = "Please report this with the versions of torch and onnxruntime"


def export(
    checkpoint: Optional[Union[str, Path]] = None,
    output: Optional[Union[str, Path]] = None,
    *,
    teacher_weights: Optional[str] = None,
    data: Optional[Union[str, Path]] = None,
    image_size: Optional[Tuple[int, int]] = None,
    stride: Optional[int] = None,
    layers: Optional[str] = None,
    show_choices: Callable[[Sequence[LayerAuroc]], None] = lambda choices: None,
) -> Bundle:
    """Export a checkpoint to a bundle and check ONNX against torch on images.

    Args:
        checkpoint: an adq-edge checkpoint or a foreign one; the newest in `checkpoints/` by default.
        output: the bundle's folder, replaced if it is a bundle; `bundles/NAME` by default.
        teacher_weights: for checkpoints that hold only the student: the teacher's ResNet file, `demo`, or
            None for torchvision's.
        data: dataset folder with the images of the comparison. By default the training data if the folder
            exists, else synthetic images. If the checkpoint lacks the statistics that normalize the
            score, they are measured on its training images.
        image_size: (height, width) in pixels for checkpoints without it.
        stride: pixels between compared patches, for methods with this option; replaces the checkpoint's
            value. The size of the map does not change.
        layers: layers of the teacher whose maps are scored, separated by commas, for methods that compare
            layers. Nothing is computed that no map needs. All of the checkpoint by default.
        show_choices: called with the image AUROC of the choices of layers, if `layers` is given and the
            dataset has labeled test images.

    Raises:
        CheckpointError: the checkpoint cannot be read or recognized, or has no map of a layer.
        BundleError: the exported graph does not reproduce the checkpoint, or `output` is not a bundle.
    """
    limit_torch_threads()
    source = workspace.latest_checkpoint() if checkpoint is None else Path(checkpoint)
    loaded = load_checkpoint(source, teacher_weights=teacher_weights, image_size=image_size)
    if stride is not None:
        loaded = dataclasses.replace(loaded, model=_with_stride(loaded, stride, source))
    whole = loaded.model
    if layers is not None:
        loaded = dataclasses.replace(loaded, model=choose_layers(loaded, layers, source))
    folder = workspace.BUNDLES / source.name.split(".")[0] if output is None else Path(output)
    refuse_foreign_folder(folder)
    settings = loaded.training.get("settings", {})
    training_data = settings.get("data")
    with prefer_layout(settings.get("layout")):
        if loaded.unmeasured:
            measure_statistics(loaded, source, data or training_data)
        if layers is not None:
            labeled = data or training_data
            if labeled is not None and Path(labeled).is_dir():
                categories = settings.get("categories") or ()
                show_choices(measure_choices(whole, layers, Path(labeled), categories))
        images, described = _images(data, training_data, loaded.model.config.image_size)
    bar = pulsing_bar(f"Exporting {source.name}")
    with bar, write_together() as files, files.folder(folder) as fresh:
        _write_onnx(loaded.model, fresh / MODEL_FILE)
        parity = _check_parity(loaded.model, fresh / MODEL_FILE, images, described)
        _manifest(folder, source, loaded, fresh / MODEL_FILE, parity).write(fresh / MANIFEST_FILE)
        if QUANTIZATION in loaded.training:
            _write_trained_ranges(fresh, ranges_from_dict(loaded.training[QUANTIZATION]))
        for path in stale_ranges(folder, sha256(fresh / MODEL_FILE)):
            files.remove(path)
    return open_bundle(folder)


def _with_stride(loaded: Checkpoint, stride: int, source: Path) -> AnomalyModel:
    model = loaded.model
    if QUANTIZATION in loaded.training and stride != model.config.options.get("stride", stride):
        raise CheckpointError(
            f"was trained with quantization at stride {model.config.options['stride']}, not {stride}",
            where=source,
            fix="Omit --stride, or export the checkpoint that it was made from",
        )
    options = {**model.config.options, "stride": stride}
    other = type(model)(dataclasses.replace(model.config, options=options))
    other.load_state_dict(model.state_dict())
    return other


def _write_trained_ranges(folder: Path, trained: Ranges) -> None:
    """Write the ranges of a model that was trained with quantization, checked against its graph."""
    model = FloatModel.of(onnx.load(str(folder / MODEL_FILE)))
    ranges = dataclasses.replace(trained, model_sha256=sha256(folder / MODEL_FILE))
    try:
        path = write_trained_ranges(folder / RANGES_FOLDER, ranges)
        read_ranges(path, ranges.model_sha256, model.region.measured)
        equalize(model, ranges.equalization)
    except CalibrationError as error:
        raise CheckpointError(
            f"its quantization does not fit the graph that torch {torch.__version__} exports ({error.what})",
            fix="Train it again with this torch: adq-edge train --qat CHECKPOINT",
        ) from error


def _images(
    data: Optional[Union[str, Path]], training_data: Optional[str], size: Tuple[int, int]
) -> Tuple[np.ndarray, str]:
    """Return uint8 `[N, H, W, 3]` images, normal and defective, and their source for the manifest."""
    if data is None and training_data is not None and Path(training_data).is_dir():
        data = Path(training_data)
    if data is None:
        drawn = [render(name, 0, 0, max(size), None)[0] for name in CATEGORIES[:PARITY_IMAGES]]
        return np.stack([resize_image(image, size) for image in drawn]), "drawn by adq-edge"
    dataset = read_dataset(Path(data))
    paths: List[Path] = [
        *(sample.path for c in dataset.categories for sample in c.test),
        *dataset.train_images,
    ]
    chosen = paths[:: max(1, len(paths) // PARITY_IMAGES)][:PARITY_IMAGES]
    if not chosen:
        raise DataError("no images to check the export on", where=data)
    return np.stack([load_image(path, size) for path in chosen]), str(data)


def _write_onnx(model: AnomalyModel, path: Path) -> None:
    """Export to opset 17 with a dynamic batch, and check that TensorRT 8.5 can read the graph."""
    graph = to_onnx(model, model.config.image_size)
    check_for_tensorrt(graph)
    onnx.save(graph, str(path))


def to_onnx(model: nn.Module, image_size: Tuple[int, int]) -> onnx.ModelProto:
    """Return a model's simplified graph; the model may return more tensors after the named ones."""
    example = torch.zeros(1, *image_size, 3, dtype=torch.uint8)
    names = _output_names(model)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        if not is_verbose():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with (
            delayed_signals()
        ):  # an exception from a signal, raised in a callback of torch, would abort the process
            torch.onnx.export(
                model,
                (example,),
                buffer,  # type: ignore[arg-type]  # torch's type hint lacks buffers
                opset_version=OPSET,
                dynamo=False,
                input_names=[INPUT],
                output_names=names,
                dynamic_axes={name: {0: "N"} for name in (INPUT, *names)},
            )
    return run_passes(onnx.load_model_from_string(buffer.getvalue()), pipelines.EXPORT)


def _output_names(model: nn.Module) -> List[str]:
    further = (EMBEDDING_OUTPUT, *scale_map_names(model.scales)) if isinstance(model, AnomalyModel) else ()
    return [MAP_OUTPUT, SCORE_OUTPUT, *further]


def _check_parity(model: AnomalyModel, path: Path, images: np.ndarray, described: str) -> Parity:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = runtime_threads() or 0
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    pairs = [images[start : start + 2] for start in range(0, len(images), 2)]  # low memory use, but N > 1
    with torch.inference_mode():
        expected = _joined([model(torch.from_numpy(pair)) for pair in pairs])
    names = _output_names(model)
    found = _joined([session.run(names, {INPUT: pair}) for pair in pairs])
    if not all(np.isfinite(array).all() for array in (*expected, *found)):
        raise CheckpointError("the model gives NaN or infinite maps", fix="Train it again")
    differences = [_difference(*pair) for pair in zip(expected, found)]
    parity = Parity(
        images=len(images),
        source=described,
        map_difference=differences[0],
        score_difference=differences[1],
        map_largest=float(np.abs(expected[0]).max()),
        tolerance=PARITY_TOLERANCE,
    )
    if not parity.holds:
        raise BundleError(
            f"the exported graph differs from the checkpoint: map by {parity.map_difference:.3g}, score by "
            f"{parity.score_difference:.3g}, largest map value {parity.map_largest:.3g}",
            fix=_REPORT,
        )
    embedding, *scale_maps = (float(np.abs(array).max()) for array in expected[2:])
    largest = [embedding, *[max(scale_maps, default=0.0)] * len(scale_maps)]
    for name, difference, value in zip(names[2:], differences[2:], largest):
        if difference > PARITY_TOLERANCE * value:
            what = f"{name} by {difference:.3g}, largest value {value:.3g}"
            raise BundleError(f"the exported graph differs from the checkpoint: {what}", fix=_REPORT)
    return parity


def _joined(results: Sequence[Sequence[Any]]) -> List[np.ndarray]:
    return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*results)]


def _difference(expected: np.ndarray, found: np.ndarray) -> float:
    """Return the largest absolute difference of two arrays; infinite if their shapes differ."""
    return float(np.abs(expected - found).max()) if expected.shape == found.shape else math.inf


def _sizes(model: AnomalyModel) -> Dict[str, Any]:
    """Return the sizes of the outputs as fields of the manifest."""
    height, width = model.config.image_size
    with torch.inference_mode():
        outputs = model.outputs(model.features(torch.zeros(1, height, width, 3, dtype=torch.uint8)))
    return {
        "map_size": tuple(outputs.anomaly_map.shape[1:]),
        "embedding_size": int(outputs.embedding.shape[1]),
        "scale_sizes": tuple(tuple(scale_map.shape[1:]) for scale_map in outputs.scale_maps),
    }


def digest(source: Path) -> str:
    """Return the SHA-256 of a file; for a folder, that of its networks' digests and names."""
    if not source.is_dir():
        return sha256(source)
    lines = [f"{sha256(file)}  {file.name}\n" for file in network_files(source)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _manifest(folder: Path, source: Path, loaded: Checkpoint, model: Path, parity: Parity) -> Manifest:
    settings = loaded.training.get("settings", {})
    data = settings.get("data")
    return Manifest(
        name=folder.name,
        arch=loaded.model.arch,
        origin=loaded.origin,
        fusion=loaded.model.config.fusion,
        image_size=loaded.model.config.image_size,
        **_sizes(loaded.model),
        model_sha256=sha256(model),
        checkpoint=FileReference(source.name, digest(source)),
        categories=tuple(settings.get("categories") or ()),
        data=None if data is None else str(data),
        parity=parity,
        versions={"adq-edge": __version__, "torch": torch.__version__, "onnx": onnx.__version__},
        options=_options(loaded.model),
        unfinished=_unfinished(loaded),
        convention=loaded.convention,
        layout=settings.get("layout"),
    )


def _options(model: AnomalyModel) -> Dict[str, Option]:
    """Return the options of a model, with the layers that it scores if these are not all."""
    layers: Dict[str, Option] = {"layers": model.config.layers} if model.config.layers else {}
    return {**model.config.options, **layers}


def _unfinished(loaded: Checkpoint) -> Optional[str]:
    """Return the epochs of a training that is not finished, such as "2 of 4 epochs"; None for others."""
    training = loaded.training
    if training.get("finished", True):
        return None
    quantized = training.get(_QAT_STATE)
    state = training if quantized is None else quantized
    epochs = state.get("settings", {}).get("epochs")
    done = number_of(len(state.get("log", ())), "epoch")
    if not isinstance(epochs, int):
        return done
    shares = [1.0] if quantized is not None else [stage.share for stage in loaded.model.stages]
    return done.replace(" ", f" of {sum(max(1, round(share * epochs)) for share in shares)} ")
