"""Compare imported checkpoints of anomalib with anomalib's own inference, over a grid of settings.

    python -m benchmarks.foreign.checkpoints --anomalib VENV/bin/python [--versions 2.7=FOLDER ...]

Each checkpoint is written by anomalib's own Engine after one training step on random images, with random
backbones. Both tools then get the same images of the input size. The differences of the maps and scores are
published in benchmarks/published/foreign_checkpoints.md and .json.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

THREE = ("layer1", "layer2", "layer3")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LARGEST_DIFFERENCE = 1e-5
_NOTE = """\
In 2.7 the image size of a Reverse Distillation is not restored from a checkpoint: maps are 256x256 then.
So the maps of anomalib are those of the trained model, before it is saved."""
PUBLISHED = Path(__file__).parents[1] / "published" / "foreign_checkpoints"


@dataclasses.dataclass(frozen=True)
class Case:
    """The settings of one checkpoint; a size of None is anomalib's default pre-processing."""

    method: str
    backbone: str = "resnet18"
    layers: Tuple[str, ...] = THREE
    size: Optional[Tuple[int, int]] = None
    crop: Optional[int] = None
    normalize: Any = IMAGENET
    mode: str = "add"

    @property
    def text(self) -> str:
        """The settings that differ from anomalib's defaults."""
        parts = [self.backbone]
        parts += [] if self.layers == THREE else [" ".join(self.layers)]
        parts += [] if self.size is None else ["{}x{}".format(*self.size)]
        parts += [] if self.crop is None else [f"center crop {self.crop}"]
        parts += (
            []
            if self.normalize == IMAGENET
            else ["no Normalize" if self.normalize is None else "other Normalize"]
        )
        parts += [] if self.mode == "add" else [self.mode]
        return ", ".join(parts)


SMALL, OTHER = (64, 96), ((0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
CASES = (
    Case("stfpm"),
    Case("stfpm", "resnet50", size=SMALL),
    Case("stfpm", "wide_resnet50_2", size=SMALL),
    Case("stfpm", "resnet34", size=SMALL),
    Case("stfpm", layers=("layer2", "layer3"), size=SMALL),
    Case("stfpm", "resnet50", layers=("layer1", "layer2"), size=SMALL),
    Case("stfpm", layers=("layer1", "layer2", "layer3", "layer4"), size=SMALL),
    Case("stfpm", layers=("layer4", "layer1"), size=SMALL),
    Case("stfpm", layers=("layer3",), size=SMALL),
    Case("stfpm", size=(128, 128)),
    Case("stfpm", size=(100, 76)),
    Case("stfpm", size=(256, 256), crop=224),
    Case("stfpm", size=(97, 128), crop=64, normalize=OTHER),
    Case("stfpm", size=SMALL, normalize=None),
    Case("stfpm", size=SMALL, normalize=OTHER),
    Case("reverse_distillation"),
    Case("reverse_distillation", "wide_resnet50_2", size=SMALL),
    Case("reverse_distillation", "resnet50", size=SMALL, mode="multiply"),
    Case("reverse_distillation", "resnet34", size=SMALL),
    Case("reverse_distillation", size=SMALL, mode="multiply"),
    Case("reverse_distillation", size=(128, 128), crop=96),
    Case("reverse_distillation", size=(128, 128), crop=96, mode="multiply", normalize=OTHER),
    Case("reverse_distillation", size=SMALL, normalize=None),
)


def write(folder: Path) -> None:
    """Write a checkpoint and anomalib's maps for each case; runs where anomalib is installed."""
    import logging

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    _stand_in_for_missing_libraries()
    import numpy as np
    import timm
    import torch

    image_files = importlib.import_module("PIL.Image")

    create = timm.create_model
    timm.create_model = lambda *args, **named: create(*args, **{**named, "pretrained": False})
    data = folder / "data" / "good"
    data.mkdir(parents=True)
    chance = np.random.default_rng(0)
    for number in range(4):
        image_files.fromarray(chance.integers(0, 256, (64, 64, 3), np.uint8)).save(data / f"{number}.png")
    for number, case in enumerate(CASES):
        torch.manual_seed(number)
        path = folder / f"{number}.ckpt"
        try:
            images, anomaly_map, score = _write_case(case, folder / "data", path)
        except Exception as error:  # reported beside the other cases
            (folder / f"{number}.txt").write_text(f"{type(error).__name__}: {error}"[:300])
            continue
        np.savez(folder / f"{number}.npz", images=images, map=anomaly_map, score=score)


def _stand_in_for_missing_libraries() -> None:
    """Let versions be imported whose libraries are not installed; no checkpoint depends on them."""
    import importlib.machinery
    import importlib.util
    import types

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything

    class Attributes(type):
        def __getattr__(cls, name: str) -> Any:
            return attribute(name)

    class Anything(metaclass=Attributes):
        def __init__(self, *args: Any, **named: Any) -> None:
            pass

    for name in ("openvino.runtime", "imgaug", "imgaug.augmenters"):
        try:
            found = importlib.util.find_spec(name) is not None
        except ImportError:
            found = False
        if not found:
            module = types.ModuleType(name)
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__dict__["__getattr__"] = attribute
            module.__dict__["__path__"] = []
            sys.modules[name] = module


def _write_case(case: Case, data: Path, path: Path) -> Tuple[Any, Any, Any]:
    """Train one step, write the checkpoint, and return images, maps and scores of the loaded checkpoint."""
    import anomalib
    import numpy as np
    import torch
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models import ReverseDistillation, Stfpm

    old = anomalib.__version__.startswith("1.")
    kind = Stfpm if case.method == "stfpm" else ReverseDistillation
    named: Dict[str, Any] = {"backbone": case.backbone, "layers": list(case.layers)}
    if case.method != "stfpm":
        from anomalib.models.image.reverse_distillation.anomaly_map import AnomalyMapGenerationMode

        named.update(anomaly_map_mode=AnomalyMapGenerationMode(case.mode))
    transform = _transform(case)
    if transform is not None and not old:
        from anomalib.pre_processing import PreProcessor

        named["pre_processor"] = PreProcessor(transform=transform)
    model = kind(**named)
    split: Dict[str, Any] = {"val_split_mode": "none", "test_split_mode": "none"}
    if old:
        split["transform"] = transform
        split["task"] = "classification"
    datamodule = Folder("x", root=data, normal_dir="good", train_batch_size=4, num_workers=0, **split)
    with tempfile.TemporaryDirectory() as logs:
        engine = Engine(
            max_steps=1,
            max_epochs=1,
            limit_val_batches=0,
            logger=False,
            accelerator="cpu",
            default_root_dir=logs,
        )
        engine.fit(model, datamodule=datamodule)
        engine.trainer.save_checkpoint(path)
    loaded = model.eval()  # a loaded Reverse Distillation of 2.7 gives maps of 256x256 for all images
    height, width = case.size or (256, 256)
    images = np.random.default_rng(1).integers(0, 256, (2, height, width, 3), np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
    with torch.inference_mode():
        x = (loaded.transform if old else loaded.pre_processor.transform)(x)
        found = loaded.model(x)
    anomaly_map = found if isinstance(found, torch.Tensor) else found.anomaly_map
    anomaly_map = anomaly_map.reshape(len(images), *anomaly_map.shape[-2:])
    return images, anomaly_map.numpy(), anomaly_map.amax((1, 2)).numpy()


def _transform(case: Case) -> Any:
    if case.size is None:
        return None
    transforms = importlib.import_module("torchvision.transforms.v2")
    parts: List[Any] = [transforms.Resize(list(case.size), antialias=True)]
    parts += [] if case.crop is None else [transforms.CenterCrop(case.crop)]
    parts += [] if case.normalize is None else [transforms.Normalize(*map(list, case.normalize))]
    return transforms.Compose(parts)


def compare(folder: Path) -> List[Dict[str, Any]]:
    """Return the differences of adq-edge's maps and scores for the checkpoints in a folder."""
    import numpy as np
    import torch

    from adq_edge.core.errors import AdqError
    from adq_edge.models.checkpoint import load_checkpoint

    rows = []
    for number, case in enumerate(CASES):
        row: Dict[str, Any] = {"method": case.method, "settings": case.text}
        rows.append(row)
        reason = folder / f"{number}.txt"
        if reason.exists():
            row["not_written"] = reason.read_text()
            continue
        reference = np.load(folder / f"{number}.npz")
        try:
            model = load_checkpoint(folder / f"{number}.ckpt").model
        except AdqError as error:
            row["refused"] = error.what
            continue
        with torch.inference_mode():
            anomaly_map, score = (part.numpy() for part in model(torch.from_numpy(reference["images"]))[:2])
        (top, left), (height, width) = model.config.crop_start, model.config.network_size
        inside = anomaly_map[:, top : top + height, left : left + width]
        if inside.shape != reference["map"].shape:
            row["refused"] = "maps of another size: {}x{}".format(*reference["map"].shape[1:])
            continue
        row["map"] = float(np.abs(inside - reference["map"]).max())
        row["score"] = float(np.abs(score - reference["score"]).max())
        row["largest"] = float(reference["map"].max())
        row["equal"] = max(row["map"], row["score"]) <= LARGEST_DIFFERENCE
    return rows


def publish(results: Dict[str, List[Dict[str, Any]]]) -> None:
    """Write the table and its numbers."""
    lines = [
        "# Checkpoints of anomalib: adq-edge's maps beside anomalib's own",
        "",
        "Written by `python -m benchmarks.foreign.checkpoints`. Each checkpoint is from anomalib's own",
        "Engine, after one training step with random weights. Both tools get the same images. Differences",
        f"are absolute; the limit is {LARGEST_DIFFERENCE:g}.",
        "",
        "| anomalib | method | settings | largest map value | map | score | equal |",
        "|---|---|---|---|---|---|---|",
    ]
    for version, rows in results.items():
        for row in rows:
            start = f"| {version} | {row['method']} | {row['settings']} | "
            if "map" in row:
                numbers = f"{row['largest']:.3g} | {row['map']:.1e} | {row['score']:.1e}"
                lines.append(f"{start}{numbers} | {'yes' if row['equal'] else '**no**'} |")
            else:
                text = (
                    f"refused: {row['refused']}" if "refused" in row else f"not written: {row['not_written']}"
                )
                lines.append(f"{start}- | - | - | {text} |")
    PUBLISHED.with_suffix(".md").write_text("\n".join([*lines, "", _NOTE]) + "\n")
    PUBLISHED.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


def main() -> None:
    """Write the checkpoints of each version in anomalib's environment, compare them, and publish."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--anomalib", help="Python of an environment with anomalib and its libraries")
    parser.add_argument(
        "--versions", nargs="*", default=["2.7="], help="VERSION=FOLDER with the package, or VERSION="
    )
    parser.add_argument("--keep", type=Path, help="folder for the checkpoints; they are deleted by default")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write is not None:
        write(given.write)
        return
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for version in given.versions:
            name, _, package = version.partition("=")
            folder = (given.keep or Path(temporary)) / name
            if not folder.exists():
                folder.mkdir(parents=True)
                environment = {**os.environ, "PYTHONPATH": package, "HF_HUB_OFFLINE": "1"}
                command = [given.anomalib, __file__, "--write", str(folder)]
                subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            results[name] = compare(folder)
    publish(results)


if __name__ == "__main__":
    main()
