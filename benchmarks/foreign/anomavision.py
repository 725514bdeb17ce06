"""Fit AnomaVision's three methods and export them with its ModelExporter; run by its own interpreter.

    python -m benchmarks.foreign.anomavision METHOD CATEGORY OUTPUT

AnomaVision resizes, scales and normalises an image outside of its graph: the graph's input is
`input` float32 [N, 3, 224, 224], normalised with ImageNet's mean and standard deviation; its outputs are
`output_0` (score [N]) and `output_1` (map [N, H, W]).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch

from benchmarks.foreign.recipes import RECIPES
from benchmarks.foreign.train import DATA, evenly_spaced, link_images, replace_downloads

_SIZE = 224


def build(method: str) -> Any:
    """Return an unfitted model of AnomaVision."""
    import anomavision

    if method == "patchcore":
        return anomavision.PatchCore(backbone="resnet18", layer_indices=[1, 2], coreset_ratio=0.02)
    if method == "efficientad":
        return anomavision.EfficientAD(backbone="resnet18", epochs=5)
    return anomavision.Padim(backbone="resnet18", layer_indices=[0, 1], feat_dim=50)


def main(method: str, category: str, output: Path) -> None:
    """Fit, export and record the answers for eight test images."""
    replace_downloads()  # before AnomaVision takes the functions by name
    import anomavision
    import onnxruntime
    from anomavision.export import ModelExporter
    from anomavision.utils import create_image_transform, get_logger
    from PIL import Image
    from torch.utils.data import DataLoader

    started = time.process_time()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = link_images(DATA / "inspection" / category, output / "images", RECIPES["padim"])
    data = anomavision.AnodetDataset(str(images / "train" / "good"), resize=[_SIZE, _SIZE], crop_size=None)
    model = build(method)
    model.fit(DataLoader(data, batch_size=4, shuffle=False))
    torch.save(model, output / "model.pt")
    exporter = ModelExporter(output / "model.pt", output, get_logger("export"), device="cpu")
    path = exporter.export_onnx(input_shape=(1, 3, _SIZE, _SIZE), output_name="model.onnx")
    (output / "model.pt").unlink()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    transform = create_image_transform(resize=[_SIZE, _SIZE], crop_size=None)
    found: Dict[str, Any] = {}
    paths = evenly_spaced(images / "test" / "good", 4) + evenly_spaced(images / "test" / "defect", 4)
    found["paths"] = np.array([str(p.resolve()) for p in paths])
    for i, each in enumerate(paths):
        tensor = transform(Image.open(each).convert("RGB"))[None]
        found[f"input_{i}"] = tensor.numpy()
        for info, value in zip(session.get_outputs(), session.run(None, {"input": tensor.numpy()})):
            found[f"onnx_{info.name}_{i}"] = value
        with torch.no_grad():
            scores, maps = model.predict(tensor)
        found[f"torch_output_0_{i}"], found[f"torch_output_1_{i}"] = scores.numpy(), maps.numpy()
    np.savez_compressed(output / "reference.npz", **found)
    about = {
        "kind": f"anomavision_{method}",
        "category": category,
        "onnx_to_torch": {
            name: max(
                float(np.abs(found[f"onnx_{name}_{i}"] - found[f"torch_{name}_{i}"]).max()) for i in range(8)
            )
            for name in ("output_0", "output_1")
        },
        "scores": [float(found[f"torch_output_0_{i}"][0]) for i in range(8)],
        "cpu_seconds": round(time.process_time() - started, 1),
    }
    (output / "about.json").write_text(json.dumps(about, indent=1))
    print(json.dumps(about))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
