"""The `import` command: convert an ONNX model of another tool to a bundle, and compare both."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np
import onnx
import onnxruntime

from adq_edge.artifacts import workspace
from adq_edge.artifacts.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    Bundle,
    FileReference,
    ImportedModel,
    Manifest,
    Parity,
    open_bundle,
)
from adq_edge.artifacts.bundle_folder import refuse_foreign_folder, stale_ranges
from adq_edge.core.console import pulsing_bar
from adq_edge.core.errors import DataError
from adq_edge.core.files import sha256, write_together
from adq_edge.core.images.imaging import load_image, resize_image
from adq_edge.core.version import __version__
from adq_edge.datasets.dataset import read_dataset
from adq_edge.datasets.layouts.registry import chosen_layout_name
from adq_edge.datasets.synthetic import CATEGORIES, render
from adq_edge.onnx_import.conversion import Converted, convert
from adq_edge.onnx_import.description import describe
from adq_edge.onnx_import.names import name_in_file
from adq_edge.onnx_import.options import ImportOptions
from adq_edge.onnx_import.original import OriginalModel, with_outputs
from adq_edge.onnx_import.parity import (
    FLOAT16_TOLERANCE,
    TOLERANCE,
    Wanted,
    measure_parity,
    resize_difference,
)
from adq_edge.onnx_import.recognition import Recognized, recognize
from adq_edge.onnx_import.source import Source, errors_of, read_source
from adq_edge.quantization.passes.float32 import has_half_floats

PARITY_IMAGES = 8
_FEWEST_IMAGES = 3
_DRAWN = "drawn by adq-edge"


def import_model(
    source: Union[str, Path],
    output: Optional[Union[str, Path]] = None,
    *,
    data: Optional[Union[str, Path]] = None,
    options: Optional[ImportOptions] = None,
) -> Bundle:
    """Convert an ONNX model of another tool to a bundle, and compare it with the original on images.

    Args:
        source: an ONNX file, or the folder that another tool exported to.
        output: the bundle's folder, replaced if it is a bundle; `bundles/NAME` by default.
        data: dataset folder with the images of the comparison; drawn images by default.
        options: what the model does not state.

    Raises:
        ForeignModelError: the model is damaged, not supported, or not an anomaly model; the message names
            what was found and the option that helps.
        BundleError: `output` exists and is not a bundle.
    """
    path = Path(source)
    options = options or ImportOptions()
    with pulsing_bar(f"Reading {path.name}"):
        read = read_source(path, options.constants)
        with errors_of(read):
            found = recognize(read, options)
    folder = workspace.BUNDLES / bundle_name(read.path, found) if output is None else Path(output)
    refuse_foreign_folder(folder)
    images, described, paths = comparison_images(data, found.image_size)
    with pulsing_bar(f"Importing {path.name}"), errors_of(read):
        converted = convert(found, read, options)
        found = converted.found
    with pulsing_bar(f"Comparing {path.name}"), write_together() as files, files.folder(folder) as fresh:
        wanted = _wanted(read, found)
        parity = measure_parity(converted.model, wanted, images, described, read.path)
        difference = resize_difference(converted.model, wanted, paths, found.image_size, read.path)
        onnx.save(converted.model, str(fresh / MODEL_FILE))
        imported = describe(found, difference, converted.assumed, data is not None)
        manifest = _manifest(folder, read, found, converted, fresh / MODEL_FILE, parity, imported, data)
        manifest.write(fresh / MANIFEST_FILE)
        for stale in stale_ranges(folder, sha256(fresh / MODEL_FILE)):
            files.remove(stale)
    return open_bundle(folder)


_GENERIC_NAMES = frozenset({"exported", "latest", "model", "onnx", "openvino", "output", "weights"})


def bundle_name(path: Path, found: Recognized) -> str:
    """Return a name for a bundle: that of the file, or of the first folder above with a name of its own."""
    names = [path.stem, *(parent.name for parent in path.absolute().parents)]
    own = next((name for name in names if name and name.lower() not in _GENERIC_NAMES), found.tool.arch)
    return own.split(".")[0] or found.tool.arch


def comparison_images(
    data: Optional[Union[str, Path]], size: Tuple[int, int]
) -> Tuple[np.ndarray, str, Sequence[Path]]:
    """Return uint8 `[N, H, W, 3]` images, their source for the manifest, and their files, if any.

    A dataset of few images is completed with drawn ones: one image cannot show that a bundle mixes images.
    """
    if data is None:
        return _draw(PARITY_IMAGES, size), _DRAWN, ()
    dataset = read_dataset(Path(data), needs_training=False)
    paths: List[Path] = [
        *(sample.path for category in dataset.categories for sample in category.test),
        *dataset.train_images,
    ]
    chosen = paths[:: max(1, len(paths) // PARITY_IMAGES)][:PARITY_IMAGES]
    if not chosen:
        raise DataError("no images to check the import on", where=data)
    images = np.stack([load_image(path, size) for path in chosen])
    missing = _FEWEST_IMAGES - len(chosen)
    if missing <= 0:
        return images, str(data), chosen
    return np.concatenate([images, _draw(missing, size)]), f"{data}; {missing} {_DRAWN}", chosen


def _draw(count: int, size: Tuple[int, int]) -> np.ndarray:
    """Return drawn images `[N, H, W, 3]`, each of another category."""
    drawn = [render(name, 0, 0, max(size), None)[0] for name in CATEGORIES[:count]]
    return np.stack([resize_image(image, size) for image in drawn])


def _wanted(source: Source, found: Recognized) -> Wanted:
    raw = [name_in_file(post.raw) for post in (found.map, found.score) if post is not None]
    in_file = original = _as_in_file(source, found, raw)
    if found.sized is not found.flat:
        image = dataclasses.replace(found.image, size=found.image_size)
        original = OriginalModel(with_outputs(found.sized, raw), source.path, image, found.units)
    tolerance = FLOAT16_TOLERANCE if has_half_floats(source.model) else TOLERANCE
    start = (0, 0) if found.map is None else found.frame.padding(found.map_size)[:2]
    is_resized = found.resizing is not None and found.resizing.is_replaced
    return Wanted(
        original, in_file if is_resized else None, found.outputs, found.map, found.score, found.map_size,
        start, tolerance,
    )  # fmt: skip


def _as_in_file(source: Source, found: Recognized, raw: Sequence[str]) -> OriginalModel:
    """Return the model of the file, which also gives the raw map and score."""
    outputs = {item.name for item in source.model.graph.output}
    inside = {name for node in source.model.graph.node for name in node.output}
    whole = source.model if inside.issuperset(raw) else found.flat  # tensors within functions have no names
    is_complete = outputs.issuperset(raw) and not source.is_changed
    model = source.path if is_complete else with_outputs(whole, raw)
    return OriginalModel(model, source.path, found.image, found.units)


def _manifest(
    folder: Path,
    source: Source,
    found: Recognized,
    converted: Converted,
    model: Path,
    parity: Parity,
    imported: ImportedModel,
    data: Optional[Union[str, Path]],
) -> Manifest:
    return Manifest(
        name=folder.name,
        arch=found.tool.arch,
        origin=found.tool.origin,
        fusion="imported",
        image_size=found.image_size,
        map_size=converted.map_size,
        model_sha256=sha256(model),
        checkpoint=FileReference(source.path.name, source.sha256),
        categories=(),
        data=None if data is None else str(data),
        embedding_size=converted.embedding_size,
        parity=parity,
        versions={"adq-edge": __version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__},
        imported=imported,
        layout=None if data is None else chosen_layout_name(),
    )
