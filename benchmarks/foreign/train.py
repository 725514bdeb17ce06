"""Train one model with anomalib's Engine and export it; run by anomalib's own interpreter.

    python -m benchmarks.foreign.train STEP KIND,KIND... CATEGORY FOLDER

STEP is `train`, `reference` or `int8`. `FOLDER/KIND_CATEGORY` gets `weights/onnx/model.onnx`,
`weights/openvino/model.xml`, `weights/lightning/model.ckpt`, `reference.npz` (what the tool itself answers
for eight test images) and `about.json`; or `failed.txt` with the tool's error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import torch

from benchmarks.foreign.recipes import RECIPES, Recipe

DATA = Path(os.environ.get("ADQ_EDGE_DATA", "../shared/data"))
_REFERENCES = 8
_TEST_EACH = 16


def replace_downloads() -> None:
    """Make backbones without a download: ResNet-18 with the shared weights up to layer3, others random."""
    import timm
    import torchvision.models as vision

    trunk = torch.load(DATA / "weights" / "resnet18_imagenet_trunk.pth", weights_only=True)
    create = timm.create_model

    def with_trunk(model: Any) -> Any:
        names = set(model.state_dict())
        if "layer1.0.conv1.weight" not in names or "layer1.0.conv3.weight" in names:
            return model
        missing = model.load_state_dict(trunk, strict=False).missing_keys
        assert "layer3.1.conv2.weight" not in missing
        return model

    def create_untrained(name: str, *arguments: Any, **options: Any) -> Any:
        model = create(name, *arguments, **{**options, "pretrained": False})
        return with_trunk(model) if name.startswith("resnet18") else model

    timm.create_model = create_untrained
    for name in ("resnet18", "wide_resnet50_2", "efficientnet_b5"):
        plain = getattr(vision, name)
        setattr(vision, name, lambda weights=None, plain=plain, **kw: with_trunk(plain(**kw)))


def replace_methods(kind: str) -> None:
    """Prevent downloads of weights, and the memory that the coreset takes while gradients are recorded."""
    import anomalib.models.image as zoo

    if kind in ("patchcore", "anomaly_dino"):
        method = getattr(zoo, RECIPES[kind].method)
        method.fit = torch.no_grad()(method.fit)
    if kind == "efficient_ad":
        zoo.EfficientAd.prepare_pretrained_model = lambda self: None
    if kind == "dsr":
        zoo.Dsr.prepare_pretrained_model = staticmethod(lambda: Path("none"))
        from anomalib.models.image.dsr.torch_model import DsrModel

        DsrModel.load_pretrained_discrete_model_weights = lambda self, ckpt, device=None: None


def link_images(category: Path, folder: Path, recipe: Recipe) -> Path:
    """Link some images of a category into a folder in MVTec layout, a few of each defect for tests."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sorted((category / "train" / "good").iterdir())[: recipe.images]:
        link(path, folder / "train" / "good" / path.name)
    defects = sorted(d for d in (category / "test").iterdir() if d.name != "good")
    for path in evenly_spaced(category / "test" / "good", _TEST_EACH):
        link(path, folder / "test" / "good" / path.name)
    for kind in defects:
        for path in evenly_spaced(kind, -(-_TEST_EACH // len(defects))):
            link(path, folder / "test" / "defect" / f"{kind.name}_{path.name}")
            for mask in (category / "ground_truth" / kind.name).glob(f"{path.stem}_mask.png"):
                link(mask, folder / "masks" / f"{kind.name}_{path.name}".replace(".jpg", ".png"))
    return folder


def evenly_spaced(folder: Path, count: int) -> List[Path]:
    """Return `count` files of a folder, evenly spaced by name."""
    paths = sorted(folder.iterdir())
    return [
        paths[i] for i in sorted({int(i) for i in np.linspace(0, len(paths) - 1, min(count, len(paths)))})
    ]


def link(source: Path, target: Path) -> None:
    """Make a symbolic link and its folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.resolve())


def build(kind: str, recipe: Recipe, images: Path) -> Any:
    """Return anomalib's module of a recipe."""
    import anomalib.models.image as zoo

    method = getattr(zoo, recipe.method)
    arguments = dict(recipe.arguments)
    if kind == "efficient_ad":
        arguments["imagenet_dir"] = images / "train"
    if kind == "draem":
        arguments["dtd_dir"] = images / "train"
    if kind == "glass":
        arguments["anomaly_source_path"] = str(images / "train")
    if recipe.size:
        arguments["pre_processor"] = method.configure_pre_processor((recipe.size, recipe.size))
    torch.manual_seed(0)
    return method(visualizer=False, **arguments)


def datamodule(recipe: Recipe, images: Path) -> Any:
    """Return anomalib's data of the linked images; thresholds come from the test images."""
    from anomalib.data import Folder

    return Folder(
        "foreign",
        root=images,
        normal_dir="train/good",
        normal_test_dir="test/good",
        abnormal_dir="test/defect",
        mask_dir="masks" if (images / "masks").exists() else None,
        val_split_mode="same_as_test",
        train_batch_size=recipe.batch,
        eval_batch_size=1,
        num_workers=0,
        seed=0,
    )


def train(model: Any, recipe: Recipe, images: Path, folder: Path) -> Any:
    """Train with the Engine; return it."""
    from anomalib.engine import Engine

    data = datamodule(recipe, images)
    engine = Engine(
        max_epochs=recipe.epochs,
        default_root_dir=folder,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_progress_bar=False,
        check_val_every_n_epoch=recipe.epochs,
    )
    engine.fit(model, datamodule=data)
    return engine


def read_image(path: Path) -> np.ndarray:
    """Read an image as float32 [1, 3, H, W] in 0..1, as anomalib's inferencers take it."""
    from PIL import Image

    image = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255.0
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None])


def open_session(output: Path) -> Any:
    """Open the exported ONNX file in ONNX Runtime, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = output / "weights/onnx/model.onnx"
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_file(session: Any, image: np.ndarray) -> Dict[str, np.ndarray]:
    """Run the exported file; where its batch is fixed, the image is repeated and the first row is kept."""
    given = session.get_inputs()[0]
    repeated = image if isinstance(given.shape[0], str) else np.repeat(image, given.shape[0], 0)
    names = [output.name for output in session.get_outputs()]
    return {name: value[:1] for name, value in zip(names, session.run(None, {given.name: repeated}))}


def run_module(model: Any, image: np.ndarray) -> Dict[str, Dict[str, np.ndarray]]:
    """Run the torch module: its outputs before ("raw") and after post-processing ("torch")."""
    with torch.no_grad():
        tensor = torch.from_numpy(image)
        raw = model.model(model.pre_processor(tensor) if model.pre_processor else tensor)
        return {"raw": arrays(raw._asdict()), "torch": arrays(model(tensor)._asdict())}


def arrays(values: Dict[str, Any]) -> Dict[str, np.ndarray]:
    """Return those values that are tensors, as arrays."""
    return {name: value.detach().numpy() for name, value in values.items() if torch.is_tensor(value)}


def input_size(model: Any) -> List[int]:
    """Return the height and width to which the tool resizes an image."""
    from torchvision.transforms.v2 import Resize

    sizes = [each.size for each in model.pre_processor.transform.transforms if isinstance(each, Resize)]
    return list(sizes[0]) if len(sizes[0]) == 2 else [sizes[0][0]] * 2


def reference(model: Any, output: Path, images: Path) -> Dict[str, Any]:
    """Run the exported file and anomalib's module on eight test images.

    Keys, for image I: `input_I` float32 [1, 3, H, W] in 0..1, as read; `onnx_NAME_I` outputs of the ONNX
    file by ONNX Runtime; `torch_NAME_I` outputs of the module; `raw_NAME_I` the same before post-processing.
    `image_I` uint8 [h, w, 3] is the image resized to the model's size (OpenCV, area); `sized_onnx_NAME_I`
    and `sized_raw_NAME_I` are the answers for it. `paths`: the files.
    """
    import cv2

    session = open_session(output)
    half = _REFERENCES // 2
    paths = evenly_spaced(images / "test" / "good", half) + evenly_spaced(images / "test" / "defect", half)
    found: Dict[str, Any] = {"paths": np.array([str(p.resolve()) for p in paths])}
    height, width = input_size(model)
    for i, path in enumerate(paths):
        image = read_image(path)
        found[f"input_{i}"] = image
        answers = {"onnx": run_file(session, image), **run_module(model, image)}
        pixels = np.uint8(np.round(255 * image[0].transpose(1, 2, 0)))
        found[f"image_{i}"] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        sized = np.ascontiguousarray(np.float32(found[f"image_{i}"]).transpose(2, 0, 1)[None] / 255)
        answers.update(sized_onnx=run_file(session, sized), sized_raw=run_module(model, sized)["raw"])
        for prefix, values in answers.items():
            found.update({f"{prefix}_{name}_{i}": value for name, value in values.items()})
    return found


def predictions(model: Any, engine: Any, paths: Any) -> Dict[str, Any]:
    """Run Engine.predict on the first and the last file: `predict_NAME_I`. Its resize has antialiasing."""
    return {
        f"predict_{name}_{i}": value
        for i, path in ((0, paths[0]), (len(paths) - 1, paths[-1]))
        for prediction in engine.predict(model, data_path=str(path))
        for name, value in arrays(
            {n: getattr(prediction, n, None) for n in ("pred_score", "anomaly_map")}
        ).items()
    }


def largest_difference(found: Dict[str, Any], first: str, second: str, name: str) -> Any:
    """Return the largest difference of an output between two origins, None if one has none."""
    differences = [
        float(np.abs(np.ravel(found[f"{first}_{name}_{i}"]) - np.ravel(found[f"{second}_{name}_{i}"])).max())
        for i in range(_REFERENCES)
        if f"{first}_{name}_{i}" in found
        and f"{second}_{name}_{i}" in found
        and found[f"{first}_{name}_{i}"].size == found[f"{second}_{name}_{i}"].size
    ]
    return max(differences) if differences else None


def main(kind: str, category: str, output: Path) -> None:
    """Train, export, run and describe one model."""
    started = time.process_time()
    recipe = RECIPES[kind]
    images = link_images(DATA / "inspection" / category, output / "images", recipe)
    replace_methods(kind)
    model = build(kind, recipe, images)
    engine = train(model, recipe, images, output / "engine")
    trained = time.process_time() - started
    metrics = dict(engine.trainer.callback_metrics)
    (output / "weights" / "lightning").mkdir(parents=True, exist_ok=True)
    engine.trainer.save_checkpoint(output / "weights" / "lightning" / "model.ckpt", weights_only=True)
    model.cpu().eval()
    engine.export(model, "onnx", export_root=output)
    about = {
        "kind": kind,
        "category": category,
        "recipe": dict(vars(recipe)),
        "metrics": {k: float(v) for k, v in metrics.items()},
        **describe(output),
        "openvino": export_openvino(engine, model, output) if recipe.openvino else "not exported",
    }
    found = reference(model, output, images)
    found.update(predictions(model, engine, found["paths"]))
    np.savez_compressed(output / "reference.npz", **found)
    shutil.rmtree(output / "engine", ignore_errors=True)
    for other in ("torch", "predict"):
        about[f"onnx_to_{other}"] = {
            n: largest_difference(found, "onnx", other, n) for n in ("anomaly_map", "pred_score")
        }
    about["cpu_seconds"] = {"train": round(trained, 1), "all": round(time.process_time() - started, 1)}
    (output / "about.json").write_text(json.dumps(about, indent=1, default=str))
    print(json.dumps({k: about[k] for k in ("kind", "metrics", "megabytes", "openvino", "cpu_seconds")}))


def export_openvino(engine: Any, model: Any, output: Path, **options: Any) -> str:
    """Export to OpenVINO; return "written" or the tool's error."""
    try:
        engine.export(model, "openvino", export_root=output, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return "written"


def describe(output: Path) -> Dict[str, Any]:
    """Return what the exported ONNX file contains."""
    import onnx

    model = onnx.load(output / "weights/onnx/model.onnx", load_external_data=False)
    operators: Dict[str, int] = {}
    for node in model.graph.node:
        operators[node.op_type] = operators.get(node.op_type, 0) + 1

    def shape(value: Any) -> List[Any]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    return {
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "input": shape(model.graph.input[0]),
        "outputs": {o.name: shape(o) for o in model.graph.output},
        "operators": dict(sorted(operators.items(), key=lambda item: -item[1])),
        "megabytes": round(sum(p.stat().st_size for p in (output / "weights/onnx").iterdir()) / 1e6, 1),
    }


def restore(kind: str, output: Path) -> Any:
    """Load the trained module from its checkpoint."""
    import anomalib.models.image as zoo

    replace_methods(kind)
    method = getattr(zoo, RECIPES[kind].method)
    path = output / "weights" / "lightning" / "model.ckpt"
    return method.load_from_checkpoint(path, map_location="cpu", visualizer=False).eval()


def add_references(kind: str, category: str, output: Path) -> None:
    """Write the reference of an exported model again; what Engine.predict answered is kept."""
    with np.load(output / "reference.npz") as before:
        kept = {name: before[name] for name in before.files if name.startswith("predict_")}
    found = reference(restore(kind, output), output, output / "images")
    np.savez_compressed(output / "reference.npz", **found, **kept)


def export_int8(kind: str, category: str, output: Path) -> None:
    """Export with anomalib's INT8_PTQ into `int8/`, calibrated on its validation images."""
    from anomalib.engine import Engine

    data = datamodule(RECIPES[kind], output / "images")
    engine = Engine(default_root_dir=output / "engine", accelerator="cpu", devices=1, logger=False)
    answer = export_openvino(
        engine, restore(kind, output), output / "int8", compression_type="int8_ptq", datamodule=data
    )
    shutil.rmtree(output / "engine", ignore_errors=True)
    print(answer)


STEPS = {"train": main, "reference": add_references, "int8": export_int8}


def run(step: str, kinds: List[str], category: str, folder: Path) -> None:
    """Run a step for several kinds in one process; a failure of one is reported and ends no other."""
    torch.set_num_threads(1)
    replace_downloads()
    for kind in kinds:
        output = folder / f"{kind}_{category}"
        output.mkdir(parents=True, exist_ok=True)
        try:
            STEPS[step](kind, category, output)
        except Exception as error:
            traceback.print_exc()
            (output / "failed.txt").write_text(f"{step}: {type(error).__name__}: {error}"[:1000])
            print(json.dumps({"kind": kind, "failed": f"{type(error).__name__}: {error}"[:300]}))
        shutil.rmtree(output / "engine", ignore_errors=True)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2].split(","), sys.argv[3], Path(sys.argv[4]))
