from __future__ import annotations

import pickle
from pathlib import Path
from typing import Dict

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from adq_edge.core.errors import CheckpointError, StorageError
from adq_edge.models.base import STUDENT
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.resnet import LAYERS, Backbone, ResNet18Trunk, trunk_state
from adq_edge.models.stfpm import STFPM
from adq_edge.models.teacher import PUBLISHED, teacher_state
from factories.images import SIZE, make_model

POSITIONS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}


def inputs(count: int = 2, size: int = SIZE) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8))


def anomalib_state(model: STFPM) -> Dict[str, object]:
    """Return a state dict in the layout of anomalib's Lightning module, with the strings that v1 adds."""
    state: Dict[str, object] = {"image_threshold_class": "F1AdaptiveThreshold"}
    for part, trunk in (("teacher", model.teacher), ("student", model.student)):
        for key, value in trunk.state_dict().items():
            state[f"model.{part}_model.feature_extractor.{key}"] = value
    return state


def official_state(student: ResNet18Trunk) -> Dict[str, torch.Tensor]:
    """Return a student's state dict in the layout of the official nn.Sequential, with its unused layer4."""
    state = {}
    for key, value in student.state_dict().items():
        head, _, rest = key.partition(".")
        state[f"model.{POSITIONS[head]}.{rest}"] = value
    state["model.7.0.conv1.weight"] = torch.zeros(512, 256, 3, 3)
    return state


def reference_scores(model: STFPM, images: torch.Tensor, fusion: str):
    """Compute scores in float64 numpy, from the two published implementations, without adq-edge's code."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy(((images.numpy() / 255.0 - mean) / std).transpose(0, 3, 1, 2).copy())
    maps = []
    for teacher, student in zip(model.double().teacher(x), model.student(x)):
        unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (teacher.numpy(), student.numpy())]
        squared = ((unit[0] - unit[1]) ** 2).sum(1)
        maps.append(squared if fusion == "official" else 0.5 * squared)
    size = maps[0].shape[1] if fusion == "official" else images.shape[1]
    product = np.prod([bilinear(level, size) for level in maps], axis=0)
    return product, product.max((1, 2))


def bilinear(maps: np.ndarray, size: int) -> np.ndarray:
    """Upsample `[N, h, h]` with half-pixel centers by two matrix products."""
    source = maps.shape[1]
    at = np.clip((np.arange(size) + 0.5) * source / size - 0.5, 0, source - 1)
    low = np.minimum(at.astype(int), source - 2) if source > 1 else np.zeros(size, int)
    weights = np.zeros((size, source))
    weights[np.arange(size), low] = 1 - (at - low)
    if source > 1:
        weights[np.arange(size), low + 1] += at - low
    return np.einsum("ih,nhw,jw->nij", weights, maps, weights)


@pytest.mark.parametrize("fusion", ["official", "anomalib"])
def test_score_equals_the_published_formula(fusion: str):
    model, images = make_model(fusion), inputs()
    with torch.inference_mode():
        maps, scores = model(images)[:2]
        expected_maps, expected_scores = reference_scores(make_model(fusion), images, fusion)
    assert maps.shape[1:] == ((SIZE // 4,) * 2 if fusion == "official" else (SIZE, SIZE))
    np.testing.assert_allclose(maps, expected_maps, rtol=2e-3, atol=1e-6 * expected_maps.max())
    np.testing.assert_allclose(scores, expected_scores, rtol=2e-3)


def test_checkpoint_round_trip_keeps_the_model(tmp_path: Path):
    model = make_model("anomalib")
    save_checkpoint(tmp_path / "c.pt", model, {"settings": {"data": "x"}})
    loaded = load_checkpoint(tmp_path / "c.pt")
    assert (loaded.origin, loaded.model.config, loaded.training) == (
        "adq-edge",
        model.config,
        {"settings": {"data": "x"}},
    )
    with torch.inference_mode():
        assert torch.equal(loaded.model(inputs())[0], model(inputs())[0])


def test_anomalib_checkpoint_keeps_its_fusion_and_teacher(tmp_path: Path):
    model = make_model("anomalib")
    torch.save({"state_dict": anomalib_state(model), "epoch": 3}, str(tmp_path / "model.ckpt"))
    loaded = load_checkpoint(tmp_path / "model.ckpt", image_size=(SIZE, SIZE))
    assert loaded.origin == "anomalib STFPM"
    with torch.inference_mode():
        assert torch.equal(loaded.model(inputs())[0], model(inputs())[0])


@pytest.mark.parametrize("wrapped", [True, False], ids=["official", "the paper's bare state dict"])
def test_official_checkpoint_uses_the_named_teacher(tmp_path: Path, wrapped: bool):
    model = make_model()
    state = official_state(model.student)
    torch.save({"category": "all", "state_dict": state} if wrapped else state, str(tmp_path / "best.pth.tar"))
    torch.save({**model.teacher.state_dict(), "fc.weight": torch.zeros(5, 5)}, str(tmp_path / "resnet18.pth"))
    loaded = load_checkpoint(
        tmp_path / "best.pth.tar", teacher_weights=str(tmp_path / "resnet18.pth"), image_size=(SIZE, SIZE)
    )
    assert loaded.origin == "official STFPM"
    with torch.inference_mode():
        assert torch.equal(loaded.model(inputs())[0], model(inputs())[0])


def test_teacher_with_folded_batch_norm_gives_the_same_features():
    trunk = make_model().teacher
    folded = {}
    for key, module in trunk.named_modules():
        if not isinstance(module, torch.nn.Conv2d):
            continue
        norm = trunk.get_submodule(key[:-1] + "1" if "downsample" in key else key.replace("conv", "bn"))
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        folded[f"{key}.weight"] = module.weight * gain[:, None, None, None]
        folded[f"{key}.bias"] = norm.bias - norm.running_mean * gain
    other = ResNet18Trunk().eval()
    other.load_state_dict(trunk_state(folded, LAYERS), strict=False)
    x = torch.randn(1, 3, SIZE, SIZE)
    with torch.inference_mode():
        for ours, theirs in zip(other(x), trunk(x)):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_only_the_student_has_gradients():
    model = make_model()
    model.train_stage(STUDENT)
    assert model.student.training
    assert not model.teacher.training
    model.stage_loss(STUDENT, inputs()).backward()
    assert all(p.grad is None for p in model.teacher.parameters())
    assert all(p.grad is not None for p in model.student.parameters())


class Evil:
    def __reduce__(self):
        return (print, ("this code was run",))


def write_bad_checkpoint(path: Path, kind: str) -> None:
    model = make_model()
    if kind == "truncated":
        save_checkpoint(path, model, {})
        path.write_bytes(path.read_bytes()[:100_000])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a checkpoint")
    elif kind == "pickled code":
        path.write_bytes(pickle.dumps({"state_dict": Evil()}))
    elif kind == "pickled module":
        torch.save(model, str(path))
    elif kind == "tensor":
        torch.save(torch.zeros(3), str(path))
    elif kind == "no weights":
        torch.save({"epoch": 3}, str(path))
    elif kind == "other architecture":
        torch.save({"state_dict": {"features.0.weight": torch.zeros(3)}}, str(path))
    elif kind == "missing tensor":
        state = anomalib_state(model)
        del state["model.teacher_model.feature_extractor.layer2.0.conv1.weight"]
        torch.save({"state_dict": state}, str(path))
    elif kind == "other shape":
        state = anomalib_state(model)
        state["model.teacher_model.feature_extractor.conv1.weight"] = torch.zeros(64, 3, 3, 3)
        torch.save({"state_dict": state}, str(path))
    elif kind == "nan":
        with torch.no_grad():
            model.student.conv1.weight[0] = float("nan")
        save_checkpoint(path, model, {})
    elif kind in ("unknown fusion", "list for weights", "text for settings"):
        save_checkpoint(path, model, {})
        content = torch.load(str(path), weights_only=True)
        if kind == "unknown fusion":
            content["config"]["fusion"] = "cold"
        elif kind == "list for weights":
            content["model"] = [1, 2]
        else:
            content["training"] = {"settings": "none"}
        torch.save(content, str(path))
    elif kind == "future version":
        torch.save({"format": "adq-edge/checkpoint", "version": 99}, str(path))


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("truncated", "not a whole file"),
        ("empty", "not a whole file|not a file"),
        ("text", "not a file written by torch.save"),
        ("pickled code", "is a pickle, but not one written by torch.save"),
        ("pickled module", "another architecture"),
        ("tensor", "holds a Tensor"),
        ("no weights", "holds no weights"),
        ("other architecture", "another architecture.*features.0.weight"),
        ("missing tensor", "lacks 1 of 90 tensors"),
        ("other shape", r"'conv1.weight' of shape \[64, 3, 3, 3\], expected \[64, 3, 7, 7\]"),
        ("nan", "NaN or infinite values in 'student.conv1.weight'"),
        ("future version", "format version is 99"),
        ("unknown fusion", "configuration cannot be used .*'cold'"),
        ("list for weights", "the checkpoint lacks"),
        ("text for settings", "training state 'settings' cannot be read"),
    ],
)
def test_bad_checkpoint_is_rejected_with_one_line(tmp_path: Path, capsys, kind: str, complaint: str):
    path = tmp_path / "bad.ckpt"
    write_bad_checkpoint(path, kind)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "this code was run" not in capsys.readouterr().out


def test_missing_checkpoint_is_rejected(tmp_path: Path):
    with pytest.raises(StorageError, match="no such file"):
        load_checkpoint(tmp_path / "none.pt")


def test_option_of_another_method_is_rejected():
    with pytest.raises(CheckpointError, match="stfpm has no option 'patch'"):
        STFPM(ModelConfig(options={"patch": 33}))


def test_image_size_must_be_a_multiple_of_the_stride():
    with pytest.raises(CheckpointError, match="multiples of 16"):
        STFPM(ModelConfig(image_size=(100, 256)))


def test_failed_teacher_download_names_the_address_and_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError) as caught:
        teacher_state(None)
    assert PUBLISHED[Backbone.RESNET18].url in str(caught.value)
    assert str(tmp_path / "checkpoints" / "resnet18-f37072fd.pth") in str(caught.value)


def test_imported_student_scores_real_defects_higher(real_data: Path):
    """Import a trained student in the official format and check its scores on real images."""
    from adq_edge.core.images.folders import find_images
    from adq_edge.core.images.imaging import load_image

    loaded = load_checkpoint(
        real_data / "weights" / "stfpm_student_unified4.pth.tar",
        teacher_weights=str(real_data / "weights" / "resnet18_imagenet_trunk.pth"),
    )
    folder = real_data / "inspection" / "cookie" / "test"
    labels, scores = [], []
    for kind in ("good", "broken"):
        for path in find_images(folder / kind):
            with torch.inference_mode():
                scores.append(float(loaded.model(torch.from_numpy(load_image(path, (256, 256))[None]))[1]))
            labels.append(kind == "broken")
    assert roc_auc_score(labels, scores) > 0.9  # others measured 0.942 on a part of these images


def test_weights_that_are_no_resnet_are_named_as_the_file_at_fault(tmp_path: Path):
    torch.save({"model.0.weight": torch.zeros(1)}, str(tmp_path / "student.pth"))
    with pytest.raises(
        CheckpointError, match=r"student\.pth: not the weights of a ResNet\. Give a state dict"
    ):
        teacher_state(str(tmp_path / "student.pth"))
