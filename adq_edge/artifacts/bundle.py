"""The bundle: one exported model, checked against its checkpoint, with the ranges measured on it.

BUNDLE/model.onnx       opset 17; input `image` uint8 [N, H, W, 3], outputs `anomaly_map`, `anomaly_score`
BUNDLE/manifest.json    where the model came from and how well it reproduces its checkpoint
BUNDLE/ranges/*.json    activation ranges, one file per calibration
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Dict, Optional, Tuple, Union

from adq_edge.core.errors import BundleError
from adq_edge.core.files import is_plain_name, sha256
from adq_edge.core.records import Record, record

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
RANGES_FOLDER = "ranges"

INPUT = "image"
MAP_OUTPUT = "anomaly_map"
SCORE_OUTPUT = "anomaly_score"

_REMEDY = "Export the checkpoint again: adq-edge export CHECKPOINT"


@dataclasses.dataclass(frozen=True)
class FileReference:
    """The file that something was made from."""

    name: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class Parity:
    """How far ONNX Runtime on the exported graph is from torch on the checkpoint.

    Attributes:
        images: number of images compared.
        source: where they came from.
        map_difference: largest absolute difference of the anomaly maps.
        score_difference: largest absolute difference of the scores.
        map_largest: largest value of the torch anomaly maps, the scale of both differences.
        tolerance: the largest difference allowed, relative to `map_largest`.
    """

    images: int
    source: str
    map_difference: float
    score_difference: float
    map_largest: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """True if both differences are within the tolerance."""
        worst = max(self.map_difference, self.score_difference)
        return worst <= self.tolerance * self.map_largest


@record(
    "adq-edge/bundle", version=2, error=BundleError, fix=_REMEDY, older={1: {"parity.pictures": "source"}}
)
@dataclasses.dataclass(frozen=True)
class Manifest(Record):
    """What a bundle says about its model.

    Attributes:
        name: the bundle's name, used to name its engines.
        arch: the method.
        origin: the checkpoint format it was imported from.
        fusion: the rule that fuses the layers' maps.
        image_size: (height, width) of the input in pixels.
        map_size: (height, width) of the anomaly map.
        model_sha256: hash of `model.onnx`.
        checkpoint: the checkpoint file.
        categories: the product classes it was trained on, where known.
        data: the dataset folder it was trained on, where known.
        parity: the check against the checkpoint.
        versions: versions of the libraries that made it.
        options: the method's options, those that `export` was asked for included.
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


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A bundle on disk, opened and found whole."""

    path: Path
    manifest: Manifest

    @property
    def model(self) -> Path:
        """The ONNX file."""
        return self.path / MODEL_FILE

    @property
    def ranges_folder(self) -> Path:
        """The folder of ranges files; may not exist yet."""
        return self.path / RANGES_FOLDER


def open_bundle(path: Path) -> Bundle:
    """Open a bundle and check that its model is the one its manifest vouches for.

    Raises:
        BundleError: not a bundle, a file is missing, the model's hash is another, or its name would lead
            what is called after it to another folder.
    """
    if path.suffix == ".onnx":
        raise BundleError(
            "an ONNX file, not a bundle", where=path, fix="Give a folder that `adq-edge export` wrote"
        )
    if not path.is_dir():
        raise BundleError("no such bundle", where=path, fix=_REMEDY)
    for name in (MANIFEST_FILE, MODEL_FILE):
        if not (path / name).is_file():
            raise BundleError(f"bundle has no {name}", where=path, fix=_REMEDY)
    manifest = Manifest.read(path / MANIFEST_FILE)
    if not is_plain_name(manifest.name):
        raise BundleError("its name is no plain file name", where=path / MANIFEST_FILE, fix=_REMEDY)
    if sha256(path / MODEL_FILE) != manifest.model_sha256:
        raise BundleError(
            "is not the model that the manifest describes", where=path / MODEL_FILE, fix=_REMEDY
        )
    return Bundle(path, manifest)
