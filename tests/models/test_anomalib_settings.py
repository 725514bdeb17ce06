from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch.nn import functional

from adq_edge.core.errors import CheckpointError
from adq_edge.models import resnet
from adq_edge.models.anomalib_settings import read_settings
from adq_edge.models.base import AnomalyModel
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.importers import ImportRequest
from adq_edge.models.pickles import Record
from adq_edge.models.resnet import Backbone, ResNetTrunk
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from factories.anomalib_files import (
    LAYOUTS,
    MODES,
    ByName,
    Member,
    checkpoint,
    compose,
    crop,
    module,
    network,
    normalize,
    pickled,
    pre_processor,
    resize,
    save,
    spec,
)

THREE = ["layer1", "layer2", "layer3"]
OTHER = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
DEFAULT = compose(resize(64, 64), normalize())


def record(name: str, fields: Dict[str, Any]) -> Record:
    made = Record(f"torchvision.transforms.v2.{name}", tuple(fields.values()))
    made.state = fields
    return made


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ResNets have a sixth of their weights."""
    monkeypatch.setattr(resnet, "PLANES", (64, 64, 64))


def stfpm_state(backbone: str = "resnet18", layers: Tuple[str, ...] = tuple(THREE)) -> Dict[str, Any]:
    """Return the state dict of anomalib's STFPM with random weights; timm drops the later layers."""
    return dict(_stfpm_state(backbone, max(int(layer[-1]) for layer in layers), resnet.PLANES))


@functools.lru_cache(maxsize=None)
def _stfpm_state(backbone: str, depth: int, planes: Tuple[int, ...]) -> Dict[str, Any]:
    torch.manual_seed(0)
    return {
        f"model.{part}_model.feature_extractor.{key}": value
        for part in ("teacher", "student")
        for key, value in ResNetTrunk(Backbone(backbone), depth).state_dict().items()
    }


def images(height: int, width: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, height, width, 3), np.uint8))


def anomalib_map(
    model: STFPM, batch: torch.Tensor, layers: Tuple[str, ...], size: Optional[int], values: Any
) -> torch.Tensor:
    """Return the map of anomalib's formulas: its transforms, features, distances and their product."""
    x = batch.permute(0, 3, 1, 2).float() / 255.0
    if size is not None:
        top, left = (round((side - size) / 2) for side in x.shape[2:])
        x = x[:, :, top : top + size, left : left + size]
    mean, std = (torch.tensor(value)[:, None, None] for value in values)
    x = (x - mean) / std
    product = torch.ones(len(x), 1, *x.shape[2:])
    features = [trunk(x, int(max(layers)[-1])) for trunk in (model.teacher, model.student)]
    for layer in layers:
        teacher, student = (functional.normalize(found[int(layer[-1]) - 1]) for found in features)
        distance = 0.5 * torch.norm(teacher - student, p=2, dim=-3, keepdim=True) ** 2
        product *= functional.interpolate(distance, size=x.shape[2:], align_corners=False, mode="bilinear")
    return product[:, 0]


@pytest.mark.parametrize(
    ("backbone", "layers", "size", "cropped", "values"),
    [
        ("resnet18", ("layer2", "layer3"), (64, 64), None, OTHER),
        ("resnet50", ("layer1", "layer2"), (64, 96), None, OTHER),
        ("resnet18", ("layer4", "layer1"), (97, 128), 64, ([0.0] * 3, [1.0] * 3)),
        ("wide_resnet50_2", ("layer1",), (50, 76), None, OTHER),
    ],
)
def test_map_follows_the_settings_in_the_file(
    tmp_path: Path, backbone: str, layers: Tuple[str, ...], size, cropped, values
):
    parts = [resize(*size), *([] if cropped is None else [crop(cropped)])]
    parts += [] if values[1] == [1.0] * 3 else [normalize(*values)]
    content = checkpoint(
        stfpm_state(backbone, layers), compose(*parts), backbone=f"{backbone}.a1_in1k", layers=list(layers)
    )
    loaded = load_checkpoint(save(tmp_path / "model.ckpt", content))
    batch = images(*size)
    with torch.inference_mode():
        found = loaded.model.outputs(loaded.model.features(batch))
        expected = anomalib_map(loaded.model, batch, layers, cropped, values)
    assert found.anomaly_map.shape[1:] == size
    outside = torch.ones(found.anomaly_map.shape, dtype=torch.bool)
    (top, left), (height, width) = loaded.model.config.crop_start, loaded.model.config.network_size
    outside[:, top : top + height, left : left + width] = False
    assert not found.anomaly_map[outside].any()
    inside = found.anomaly_map[:, top : top + height, left : left + width]
    torch.testing.assert_close(inside, expected, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.score, expected.amax((1, 2)), atol=1e-6, rtol=1e-4)


@pytest.mark.usefixtures("narrow")
def test_settings_are_the_same_in_the_layout_of_every_version(tmp_path: Path):
    description = compose(resize(96, 64), crop(64), normalize(*OTHER))
    named = {"backbone": "resnet18", "layers": ["layer1", "layer2"]}
    state = stfpm_state(layers=("layer1", "layer2"))
    configs, lines = [], []
    for layout in LAYOUTS:
        path = save(tmp_path / layout, checkpoint(state, description, layout, **named))
        loaded = load_checkpoint(path)
        configs.append(loaded.model.config)
        lines.append(loaded.convention)
    assert configs == [configs[0]] * len(LAYOUTS)
    assert (configs[0].image_size, configs[0].crop, configs[0].layers) == (
        (96, 64),
        (64, 64),
        "layer1,layer2",
    )
    assert set(lines) == {
        "read from the file: resnet18, images of 96x64 pixels, center crop 64x64 (nothing outside of it is "
        "judged), mean 0.5 0.4 0.3, std 0.2 0.3 0.4, layer1,layer2, anomalib fusion of the maps"
    }


@pytest.mark.usefixtures("narrow")
def test_exported_module_is_read_without_its_classes(tmp_path: Path):
    model = STFPM(ModelConfig(image_size=(64, 96), fusion="anomalib", layers="layer2,layer3", std=(1.0,) * 3))
    extractor = "anomalib.models.components.feature_extractors.timm.TimmFeatureExtractor"
    networks = {
        f"{part}_model": module(
            extractor,
            {"feature_extractor": network(getattr(model, part))},
            backbone="resnet18",
            layers=["layer2", "layer3"],
        )
        for part in ("teacher", "student")
    }
    inner = module("anomalib.models.image.stfpm.torch_model.STFPMModel", networks, backbone="resnet18")
    transform = compose(resize(64, 96), normalize(model.config.mean, model.config.std))
    whole = module(
        "anomalib.models.image.stfpm.lightning_model.Stfpm",
        {"model": inner, "pre_processor": pre_processor(transform)},
    )
    loaded = load_checkpoint(save(tmp_path / "model.pt", {"model": whole}))
    assert loaded.model.config == model.config
    batch = images(64, 96)
    with torch.inference_mode():
        assert torch.equal(loaded.model(batch)[0], model(batch)[0])


@pytest.mark.parametrize(("name", "stated"), [("anomalib.models.Stfpm", True), ("train.STFPM", False)])
def test_settings_are_read_from_pickled_modules_of_anomalib_alone(name: str, stated: bool):
    request = ImportRequest({}, None, lambda backbone: {}, {"model": Record(name)})
    assert request.states_settings is stated


def rd_checkpoint(mode: Any, **settings: Any) -> Tuple[ReverseDistillation, Dict[str, Any]]:
    torch.manual_seed(1)
    model = ReverseDistillation(
        ModelConfig(image_size=(64, 64), fusion="anomalib", options={"backbone": "resnet18"})
    )
    state = {
        ("model." + key).replace("model.encoder", "model.encoder.feature_extractor"): value
        for key, value in model.state_dict().items()
    }
    return model, checkpoint(state, DEFAULT, anomaly_map_mode=mode, **settings)


@pytest.mark.parametrize(
    "mode",
    ["multiply", ByName(MODES, "multiply"), Member(MODES, "MULTIPLY")],
    ids=["text", "value", "name"],
)
def test_maps_are_multiplied_before_the_blur(tmp_path: Path, mode: Any):
    model, content = rd_checkpoint(mode, backbone="resnet18", layers=THREE)
    loaded = load_checkpoint(save(tmp_path / "model.ckpt", content))
    batch = images(64, 64)
    with torch.inference_mode():
        found = loaded.model(batch)[0]
        distances = model.outputs(model.features(batch)).scale_maps
    product = torch.ones(2, 1, 64, 64)
    for distance in distances:
        product *= functional.interpolate(
            distance[:, None], size=(64, 64), mode="bilinear", align_corners=True
        )
    at = torch.arange(-16, 17.0)
    kernel = torch.exp(-0.5 * (at / 4) ** 2)
    kernel = torch.outer(kernel, kernel) / kernel.sum() ** 2
    blurred = functional.conv2d(functional.pad(product, (16,) * 4, "reflect"), kernel[None, None])
    torch.testing.assert_close(found, blurred[:, 0], atol=1e-6, rtol=1e-4)


def test_default_reverse_distillation_is_read_as_a_sum(tmp_path: Path):
    model, content = rd_checkpoint(ByName(MODES, "add"), backbone="resnet18", layers=THREE)
    loaded = load_checkpoint(save(tmp_path / "model.ckpt", content))
    assert loaded.model.config.fusion == "anomalib"
    with torch.inference_mode():
        assert torch.equal(loaded.model(images(64, 64))[0], model(images(64, 64))[0])


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("rename", ["model._orig_mod.", "module.model.", "_orig_mod.module.model."])
def test_names_that_wrappers_add_are_dropped(tmp_path: Path, rename: str):
    state = {key.replace("model.", rename, 1): value for key, value in stfpm_state().items()}
    loaded = load_checkpoint(save(tmp_path / "model.ckpt", checkpoint(state, DEFAULT, backbone="resnet18")))
    assert loaded.origin == "anomalib STFPM"


def without_layer4(content: Dict[str, Any]) -> None:
    del content["hyper_parameters"]
    key = "model.student_model.feature_extractor.layer4.0.conv1.weight"
    content["state_dict"][key] = torch.zeros(1)


def transforms(*parts: Any) -> Callable[[Dict[str, Any]], None]:
    def change(content: Dict[str, Any]) -> None:
        content["anomalib_pre_processor_config"] = {"transform": compose(*parts)}

    return change


def setting(name: str, value: Any) -> Callable[[Dict[str, Any]], None]:
    def change(content: Dict[str, Any]) -> None:
        content["hyper_parameters"][name] = value

    return change


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            setting("backbone", "efficientnet_b5"),
            "its backbone is 'efficientnet_b5'. Known backbones: resnet18,",
        ),
        (setting("backbone", "resnetaa50"), "its backbone is 'resnetaa50'"),
        (
            setting("backbone", ByName("torchvision.models.resnet.ResNet")),
            r"its backbone is a torchvision\.models",
        ),
        (setting("layers", ["act1", "layer2"]), r"compares the layers \['act1', 'layer2'\]"),
        (setting("layers", ["layer1", "layer1"]), "each once"),
        (setting("layers", []), "compares the layers"),
        (transforms(resize(256), crop(224), normalize()), "shorter side of an image to 256 pixels"),
        (transforms(normalize()), "does not resize images"),
        (transforms(resize(64, 64), spec("Grayscale")), "has the transform Grayscale"),
        (transforms(spec("SquarePad"), resize(64, 64)), "has the transform SquarePad"),
        (transforms(crop(32), resize(64, 64)), "a CenterCrop before a Resize"),
        (transforms(resize(64, 64), resize(32, 32)), "a Resize after another Resize"),
        (transforms(resize(64, 64), crop(96)), "which adds a border"),
        (transforms(resize(64, 64), normalize(), normalize()), "two of Normalize"),
        (transforms(resize(64, 64), normalize([0.5], ["a"])), "a Normalize with std"),
        (transforms(resize(64, 64), normalize([float("nan")], [1.0])), "a Normalize with mean"),
        (transforms(spec("Resize", size=[64, 64], interpolation="nearest")), "to the nearest pixel"),
        (transforms(spec("Resize", size="big")), "a Resize of size 'big'"),
        (transforms("flip"), "has 'flip', which cannot be repeated"),
        (transforms(resize(64, 64), normalize([0.5], [0.0])), "std is"),
        (
            lambda c: c["anomalib_pre_processor_config"].update(transform=None),
            "one that anomalib does not save",
        ),
        (lambda c: c.pop("anomalib_pre_processor_config"), "one that anomalib does not save"),
        (lambda c: c["anomalib_components_enabled"].update(pre_processor=False), "does not resize images"),
        (without_layer4, "but not which layers are compared"),
        (
            lambda c: c.update(state_dict=ByName("quantized.Weights")),
            r"its weights in a pickled quantized\.Weights.*torch\.load\(FILE, weights_only=False\)",
        ),
    ],
)
def test_setting_that_cannot_be_followed_is_refused_by_name(tmp_path: Path, change, complaint: str):
    content = checkpoint(stfpm_state(), DEFAULT, backbone="resnet18", layers=THREE)
    change(content)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(save(tmp_path / "model.ckpt", content))
    assert str(tmp_path / "model.ckpt") in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"backbone": "resnet18", "layers": ["layer2", "layer3"]}, "need layer1, layer2, layer3"),
        ({"backbone": "resnet34", "layers": THREE}, "another backbone than its decoder's, which is resnet18"),
    ],
)
def test_reverse_distillation_of_other_networks_is_refused(tmp_path: Path, settings: Dict, complaint: str):
    _, content = rd_checkpoint("add", **settings)
    with pytest.raises(CheckpointError, match=complaint):
        load_checkpoint(save(tmp_path / "model.ckpt", content))


NAMES = st.sampled_from(["Resize", "CenterCrop", "Normalize", "Compose", "ToTensor", "Pad"])
FIELDS = st.sampled_from(["size", "mean", "std", "interpolation", "max_size", "transforms", "_modules"])
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 300), st.floats(), st.text(max_size=3)),
    lambda inside: st.one_of(
        st.lists(inside, max_size=3),
        st.dictionaries(FIELDS, inside, max_size=3),
        st.builds(spec, NAMES, size=inside, mean=inside, std=inside, transforms=inside),
        st.builds(record, NAMES, st.dictionaries(FIELDS, inside, max_size=3)),
    ),
    max_leaves=8,
)


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.too_slow], deadline=None)
@hypothesis.given(
    settings=st.one_of(
        ANYTHING,
        st.fixed_dictionaries(
            {},
            optional=dict.fromkeys(("backbone", "layers", "anomaly_map_mode", "pre_processor"), ANYTHING),
        ),
    ),
    config=ANYTHING,
    transform=ANYTHING,
)
def test_any_settings_are_followed_or_refused(settings: Any, config: Any, transform: Any):
    content = {
        "hyper_parameters": settings,
        "anomalib_pre_processor_config": config,
        "anomalib_components_enabled": config,
        "transform": transform,
        "model": settings,
    }
    for kept in (list(content), ["hyper_parameters", "transform"], ["model"]):
        with contextlib.suppress(CheckpointError):
            ModelConfig(**read_settings({name: content[name] for name in kept}).config((64, 64)))


def test_image_size_is_needed_only_where_the_file_has_none(tmp_path: Path):
    content = checkpoint(stfpm_state(), compose(resize(64), normalize()), backbone="resnet18")
    path = save(tmp_path / "side.ckpt", content)
    assert load_checkpoint(path, image_size=(64, 64)).model.config.image_size == (64, 64)
    with pytest.raises(CheckpointError, match=r"to 64 pixels, not to 96. Give --image-size 64"):
        load_checkpoint(path, image_size=(96, 96))
    path = save(tmp_path / "both.ckpt", checkpoint(stfpm_state(), DEFAULT, backbone="resnet18"))
    with pytest.raises(CheckpointError, match=r"images have 64x64 pixels. Omit --image-size"):
        load_checkpoint(path, image_size=(96, 96))


def test_transform_of_one_number_for_all_channels_is_followed(tmp_path: Path):
    content = checkpoint(stfpm_state(), compose(resize(64, 64), normalize([0.5], [0.25])), "1.2")
    assert isinstance(content["transform"], type(pickled(DEFAULT)))
    config = load_checkpoint(save(tmp_path / "model.ckpt", content)).model.config
    assert (config.mean, config.std) == ((0.5,) * 3, (0.25,) * 3)


WRITTEN = sorted(Path(os.environ.get("ADQ_EDGE_ANOMALIB_CHECKPOINTS", "none")).glob("*/*.ckpt"))
"""The folder is one that `benchmarks.foreign.checkpoints --keep` wrote."""


@pytest.mark.skipif(not WRITTEN, reason="no checkpoints written by anomalib")
@pytest.mark.parametrize("path", WRITTEN, ids=str)
def test_file_that_anomalib_wrote_gives_its_map(path: Path):
    reference = np.load(path.with_suffix(".npz"))
    model: AnomalyModel = load_checkpoint(path).model
    with torch.inference_mode():
        found = model(torch.from_numpy(reference["images"]))[0].numpy()
    (top, left), (height, width) = model.config.crop_start, model.config.network_size
    inside = found[:, top : top + height, left : left + width]
    np.testing.assert_allclose(inside, reference["map"], atol=1e-5, rtol=0)
