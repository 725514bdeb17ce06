"""The bundle: a folder with an exported model and the ranges measured on it.

BUNDLE/model.onnx       opset 17; input `image` uint8 [N, H, W, 3], outputs as in `tensors.py`
BUNDLE/manifest.json    the model's origin, and its numerical difference from the checkpoint
BUNDLE/ranges/*.json    activation ranges, one file per calibration
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

from adq_edge.artifacts.content_kinds import name_content
from adq_edge.core.errors import BundleError
from adq_edge.core.files import is_plain_name, read_consistently, settle, sha256
from adq_edge.core.images.sizes import check_size
from adq_edge.core.records import Record, record
from adq_edge.core.text import command_line

CHECKPOINT_SUFFIXES = frozenset({".pt", ".pth", ".ckpt", ".safetensors", ".tar"})
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
RANGES_FOLDER = "ranges"

INPUT = "image"
MAP_OUTPUT = "anomaly_map"
SCORE_OUTPUT = "anomaly_score"
EMBEDDING_OUTPUT = "embedding"
SCALE_MAP_OUTPUT = "scale_map_{}"
"""The name of a scale map's output; they are numbered from 1, shallow layers first."""

_LONGEST_EMBEDDING = 2**16
_MOST_SCALES = 16

REMEDY = "Export the checkpoint again: adq-edge export CHECKPOINT"
_GIVE_FOLDER = "Give a folder that `adq-edge export` wrote"


@dataclasses.dataclass(frozen=True)
class FileReference:
    """Name and SHA-256 of a source file."""

    name: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Parity:
    """Differences between ONNX Runtime on the exported graph and torch on the checkpoint.

    Attributes:
        images: number of images compared.
        source: origin of the images.
        map_difference: largest absolute difference of the anomaly maps.
        score_difference: largest absolute difference of the scores.
        map_largest: largest value of the torch anomaly maps.
        tolerance: the largest allowed difference, relative to the largest value.
        score_largest: largest score, for models whose score has other units than the map; None for others.
    """

    images: int
    source: str
    map_difference: float
    score_difference: float
    map_largest: float
    tolerance: float
    score_largest: Optional[float] = None

    @property
    def holds(self) -> bool:
        """True if both differences are within the tolerance."""
        score_largest = self.map_largest if self.score_largest is None else self.score_largest
        is_map_equal = self.map_difference <= self.tolerance * self.map_largest
        return is_map_equal and self.score_difference <= self.tolerance * score_largest


@dataclasses.dataclass(frozen=True)
class ImportedModel:
    """What was recognized in a model of another tool.

    Attributes:
        input: the input in words, such as "input: float [N, 3, H, W], RGB".
        pixels: what the model gets for a pixel, in words.
        resize: how the tool resizes an image, in words.
        map: the output of the map, and what was peeled off behind it, in words.
        score: the same for the score.
        assumed: what the file does not state and was assumed, with the option that changes it.
        numbers: numbers of the tool's post-processing, such as its thresholds, by name.
        resize_difference: median relative difference of the score that the other way of resizing causes; None
            if it was not measured.
        unused: the outputs that are neither map nor score, in words, such as "pred_label bool [N, 1]".
    """

    input: str
    pixels: str
    resize: str
    map: str
    score: str
    assumed: Tuple[str, ...] = ()
    numbers: Dict[str, float] = dataclasses.field(default_factory=dict)
    resize_difference: Optional[float] = None
    unused: Tuple[str, ...] = ()


@record("adq-edge/bundle", version=2, error=BundleError, fix=REMEDY, older={1: {"parity.pictures": "source"}})
@dataclasses.dataclass(frozen=True)
class Manifest(Record):
    """The description of a bundle.

    Attributes:
        name: the bundle's name, the prefix of its engines' names.
        arch: the anomaly detection method.
        origin: format of the checkpoint.
        fusion: the rule for combining the layers' anomaly maps.
        image_size: (height, width) of the input in pixels.
        map_size: (height, width) of the anomaly map in pixels.
        model_sha256: hash of `model.onnx`.
        checkpoint: the checkpoint file.
        categories: categories of the training dataset, where known.
        data: folder of the training dataset, where known; of an imported model the dataset given to `import`.
        parity: the comparison with the checkpoint.
        versions: versions of the libraries that exported the model.
        options: the method's options, including those given to `export`.
        unfinished: how far the training is, such as "2 of 4 epochs"; None if it is finished or not known.
        embedding_size: numbers in the embedding of an image; None if the model has no such output.
        scale_sizes: (height, width) of each scale map, shallow layers first; empty if the model has none.
        imported: what was recognized in a model of another tool; None for a checkpoint.
        convention: the settings of a checkpoint of another tool, in one line; None for others.
        layout: the layout of the training dataset, if it was named; None if it was found by the folders.
    """

    name: str
    arch: str
    origin: str
    fusion: str
    image_size: Tuple[int, int]
    map_size: Tuple[int, int]
    model_sha256: str
    checkpoint: FileReference
    categories: Tuple[str, ...]
    data: Optional[str]
    parity: Parity
    versions: Dict[str, str]
    options: Dict[str, Union[int, str]] = dataclasses.field(default_factory=dict)
    unfinished: Optional[str] = None
    embedding_size: Optional[int] = None
    scale_sizes: Tuple[Tuple[int, int], ...] = ()
    imported: Optional[ImportedModel] = None
    convention: Optional[str] = None
    layout: Optional[str] = None

    def check(self) -> None:
        """Raise a ValueError if a size is impossible."""
        check_size("its image size", self.image_size)
        check_size("its map size", self.map_size)
        check_further_sizes(self.embedding_size, self.scale_sizes)


def check_further_sizes(embedding_size: Optional[int], scale_sizes: Tuple[Tuple[int, int], ...]) -> None:
    """Raise a ValueError if the embedding or the scale maps of a model cannot have these sizes."""
    if embedding_size is not None and not 1 <= embedding_size <= _LONGEST_EMBEDDING:
        raise ValueError(f"its embedding has {embedding_size} numbers; limits: 1 to {_LONGEST_EMBEDDING}")
    if len(scale_sizes) > _MOST_SCALES:
        raise ValueError(f"it has {len(scale_sizes)} scale maps; the limit is {_MOST_SCALES}")
    for number, size in enumerate(scale_sizes, 1):
        check_size(f"the size of its scale map {number}", size)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A complete bundle on disk.

    Attributes:
        path: its folder.
        manifest: its manifest.
        variant: name of a changed form of the model, whose ranges lie apart; empty for the model itself.
    """

    path: Path
    manifest: Manifest
    variant: str = ""

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    @property
    def ranges_folder(self) -> Path:
        """The folder of ranges files; may not exist yet."""
        return self.path / RANGES_FOLDER / self.variant

    def changed_model_error(self) -> BundleError:
        """Return the error for an ONNX file that differs from the hash in the manifest."""
        what = "is not the model that the manifest describes"
        return BundleError(what, where=self.model, fix=REMEDY)


def open_bundle(path: Union[str, Path]) -> Bundle:
    """Open a bundle and compare the hash of its model with the manifest.

    Raises:
        BundleError: not a bundle, a file is missing, the hash differs, or the bundle's name contains a path.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        fix = f"Make a bundle from it: {command_line('import', path)}"
        if (path.parent / MANIFEST_FILE).is_file():
            fix = f"Name its folder: {path.parent}"
        raise BundleError("an ONNX file, not a bundle", where=path, fix=fix)
    if path.suffix in CHECKPOINT_SUFFIXES and path.is_file():
        fix = f"Make a bundle from it: {command_line('export', path)}"
        raise BundleError("a checkpoint, not a bundle", where=path, fix=fix)
    return read_consistently((path / MANIFEST_FILE, path / MODEL_FILE), lambda: _open_once(path))


def _open_once(path: Path) -> Bundle:
    settle(path / MANIFEST_FILE)
    if not path.is_dir():
        kind = name_content(path)
        if kind is not None:
            raise BundleError(f"{kind}, not a bundle", where=path, fix=_GIVE_FOLDER)
        fix = "Check the path, or make it: adq-edge export CHECKPOINT"
        raise BundleError("no such bundle", where=path, fix=fix)
    if not any((path / name).exists() for name in (MANIFEST_FILE, MODEL_FILE)):
        raise BundleError("a folder, not a bundle", where=path, fix=_GIVE_FOLDER)
    for name in (MANIFEST_FILE, MODEL_FILE):
        if not (path / name).is_file():
            raise BundleError(f"bundle has no {name}", where=path, fix=REMEDY)
    manifest = Manifest.read(path / MANIFEST_FILE)
    if not is_plain_name(manifest.name):
        raise BundleError("its name is not a plain file name", where=path / MANIFEST_FILE, fix=REMEDY)
    bundle = Bundle(path, manifest)
    if sha256(bundle.model) != manifest.model_sha256:
        raise bundle.changed_model_error()
    return bundle
