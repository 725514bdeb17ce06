from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.onnx_export.export import export
from factories.anomalib_files import checkpoint, compose, crop, normalize, resize, save
from factories.command_line import run_cli
from factories.images import make_model

SIZE, CROPPED = (96, 128), 64


def test_export_of_a_cropping_checkpoint_judges_the_crop_and_states_its_settings(tmp_path: Path):
    model = make_model("anomalib", size=CROPPED)
    state = {
        f"model.{part}_model.feature_extractor.{key}": value
        for part in ("teacher", "student")
        for key, value in getattr(model, part).state_dict().items()
    }
    transform = compose(resize(*SIZE), crop(CROPPED), normalize())
    path = save(tmp_path / "model.ckpt", checkpoint(state, transform, "1.2", backbone="resnet18"))
    result = run_cli("export", path, "-o", tmp_path / "bundle", cwd=tmp_path)
    assert "center crop 64x64 (nothing outside of it is judged), ImageNet's mean and std" in result.stdout
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest.image_size == bundle.manifest.map_size == SIZE
    assert bundle.manifest.convention is not None
    images = np.random.default_rng(0).integers(0, 256, (2, *SIZE, 3), np.uint8)
    session = onnxruntime.InferenceSession(
        str(bundle.path / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    found, score = session.run(["anomaly_map", "anomaly_score"], {"image": images})
    part = images[:, 16:80, 32:96]
    with torch.inference_mode():
        expected = model(torch.from_numpy(part.copy()))[0].numpy()
    np.testing.assert_allclose(found[:, 16:80, 32:96], expected, atol=1e-6, rtol=1e-3)
    np.testing.assert_allclose(score, expected.max((1, 2)), rtol=1e-3)
    found[:, 16:80, 32:96] = 0
    assert not found.any()


def test_export_of_our_own_checkpoint_states_no_convention(tmp_path: Path, checkpoint: Path):
    assert export(checkpoint, tmp_path / "bundle").manifest.convention is None
