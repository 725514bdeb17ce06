from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any, Dict, List, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import STUDENT
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.importers import ImportRequest
from adq_edge.models.resnet import Backbone
from adq_edge.models.reverse_distillation import IMPORTERS, ReverseDistillation
from adq_edge.models.teacher import DEMO, PUBLISHED, teacher_state
from adq_edge.onnx_export.export import export
from adq_edge.quantization.graph.tensorrt_lint import lint
from factories.images import SIZE

WIDE = (64, 96)
UNUSED = ("conv4.weight", "bn4.weight", "bn4.bias", "bn4.running_mean", "bn4.running_var")


@functools.lru_cache(maxsize=None)
def make_model(fusion: str = "official") -> ReverseDistillation:
    """Return a model with BatchNorm statistics; without them its features grow with depth."""
    torch.manual_seed(0)
    config = ModelConfig(image_size=(SIZE, SIZE), fusion=fusion, options={"backbone": "resnet18"})
    model = ReverseDistillation(config).train()
    with torch.no_grad():
        for _ in range(3):
            model.networks(model.normalize(inputs(4)))
    return model.eval()


def inputs(count: int = 2) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8))


def on_meta(
    backbone: str = "resnet18",
    bottleneck: str = "anomalib",
    size: Tuple[int, int] = WIDE,
    fusion: str = "official",
) -> ReverseDistillation:
    """Return a model on the meta device: its weights have shapes but use no memory."""
    options = {"backbone": backbone, "bottleneck": bottleneck}
    with torch.device("meta"):
        return ReverseDistillation(ModelConfig(image_size=size, fusion=fusion, options=options))


def random_features(height: int, width: int) -> List[torch.Tensor]:
    """Return features of ResNet-18 shapes; decoded ones differ little at some positions, much at others."""
    generator = torch.Generator().manual_seed(1)
    shapes = [(2, 64 * 2**level, height // 4 // 2**level, width // 4 // 2**level) for level in range(3)]
    encoded = [torch.rand(shape, generator=generator) for shape in shapes]
    noise = [torch.rand(shape, generator=generator) ** 4 for shape in shapes]
    return [*encoded, *(e + 3 * n for e, n in zip(encoded, noise))]


def reference_map(features: List[torch.Tensor], size: Tuple[int, int], fusion: str) -> np.ndarray:
    """Compute the map of the two published implementations in float64: upsample, add, then blur."""
    total = torch.zeros(2, 1, *size, dtype=torch.float64)
    for encoded, decoded in zip(features[:3], features[3:]):
        distance = 1 - functional.cosine_similarity(encoded.double(), decoded.double())
        total += functional.interpolate(distance[:, None], size=size, mode="bilinear", align_corners=True)
    if fusion == "official":
        return np.stack([gaussian_filter(image.numpy(), sigma=4) for image in total[:, 0]])
    at = torch.arange(33, dtype=torch.float64) - 16
    kernel = torch.exp(-(at[:, None] ** 2 + at[None, :] ** 2) / (2 * 4.0**2))
    padded = functional.pad(total, (16, 16, 16, 16), mode="reflect")
    return functional.conv2d(padded, (kernel / kernel.sum())[None, None])[:, 0].numpy()


@pytest.mark.parametrize("fusion", ["official", "anomalib"])
def test_score_equals_the_published_implementations(fusion: str):
    features = random_features(*WIDE)
    maps, scores = on_meta(fusion=fusion).score(tuple(features))
    expected = reference_map(features, WIDE, fusion)
    assert maps.shape == (2, *WIDE)
    np.testing.assert_allclose(maps, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores, expected.max((1, 2)), rtol=1e-5)
    other = reference_map(features, WIDE, "anomalib" if fusion == "official" else "official")
    assert np.abs(expected - other).max() > 1e-3  # the border modes give different maps


def test_loss_equals_the_published_implementation():
    features = random_features(*WIDE)
    expected = 0.0
    for encoded, decoded in zip(features[:3], features[3:]):
        e, d = (tensor.double().numpy().reshape(2, -1) for tensor in (encoded, decoded))
        cosine = (e * d).sum(1) / (np.linalg.norm(e, axis=1) * np.linalg.norm(d, axis=1))
        expected += float(np.mean(1 - cosine))
    model = on_meta()
    assert model.loss(tuple(features)).item() == pytest.approx(expected, rel=1e-5)
    half = model.float32_loss(tuple(feature.bfloat16() for feature in features))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(expected, rel=1e-2)


def test_zero_feature_vector_has_a_finite_distance():
    maps, _ = on_meta().score(tuple(torch.zeros_like(feature) for feature in random_features(*WIDE)))
    np.testing.assert_allclose(maps, 3.0, rtol=1e-5)  # cosine 0 in each layer


def test_only_bottleneck_and_decoder_are_trained():
    model = copy.deepcopy(make_model())
    model.train_stage(STUDENT)
    assert [part.training for part in (model.encoder, model.bottleneck, model.decoder)] == [False, True, True]
    optimizer = model.optimizer(STUDENT, 5e-3)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        loss = model.stage_loss(STUDENT, inputs())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(parameter.grad is None for parameter in model.encoder.parameters())
    trained = [*model.bottleneck.parameters(), *model.decoder.parameters()]
    assert all(parameter.grad is not None for parameter in trained)
    group = optimizer.param_groups[0]
    assert [id(p) for p in group["params"]] == [id(p) for p in trained]
    assert (group["betas"], group["weight_decay"]) == ((0.5, 0.999), 1e-5)


# --- files ---------------------------------------------------------------------------------------


def anomalib_state(parts: Dict[str, Dict[str, Any]]) -> Dict[str, Any]:
    """Return a state dict in the layout of anomalib's Lightning module, with unused tensors."""
    state: Dict[str, Any] = {"image_threshold_class": "F1AdaptiveThreshold"}
    names = {"encoder": "encoder.feature_extractor", "bottleneck": "bottleneck", "decoder": "decoder"}
    for part, weights in parts.items():
        state.update({f"model.{names[part]}.{key}": value for key, value in weights.items()})
    state.update({f"model.bottleneck.{key}": torch.zeros(3) for key in UNUSED})
    return state


def rd4ad_content(parts: Dict[str, Dict[str, Any]]) -> Dict[str, Dict[str, Any]]:
    """Return a checkpoint in RD4AD's layout, with the tensors that RD4AD drops when loading."""
    unused = {**dict.fromkeys(UNUSED, torch.zeros(3)), "memory.weight": torch.zeros(3)}
    return {"bn": {**parts["bottleneck"], **unused}, "decoder": parts["decoder"]}


def parts_of(model: ReverseDistillation) -> Dict[str, Dict[str, Any]]:
    return {part: getattr(model, part).state_dict() for part in ("encoder", "bottleneck", "decoder")}


@pytest.mark.parametrize("origin", ["adq-edge", "anomalib Reverse Distillation", "RD4AD"])
def test_checkpoint_of_each_origin_gives_the_same_model(tmp_path: Path, origin: str):
    fusion = "anomalib" if origin.startswith("anomalib") else "official"
    model, path = make_model(fusion), tmp_path / "model.pth"
    parts = parts_of(model)
    torch.save({**parts["encoder"], "fc.weight": torch.zeros(5, 5)}, str(tmp_path / "resnet18.pth"))
    if origin == "adq-edge":
        save_checkpoint(path, model, {})
    elif origin == "RD4AD":
        torch.save(rd4ad_content(parts), str(path))
    else:
        torch.save({"state_dict": anomalib_state(parts), "epoch": 3}, str(path))
    loaded = load_checkpoint(path, teacher_weights=str(tmp_path / "resnet18.pth"), image_size=(SIZE, SIZE))
    assert (loaded.origin, loaded.model.config) == (origin, model.config)
    with torch.inference_mode():
        assert torch.equal(loaded.model(inputs())[0], model(inputs())[0])


@pytest.mark.parametrize(
    ("backbone", "bottleneck"),
    [("resnet50", "anomalib"), ("wide_resnet50_2", "anomalib"), ("wide_resnet50_2", "rd4ad")],
)
@pytest.mark.parametrize("importer", IMPORTERS, ids=[importer.name for importer in IMPORTERS])
@pytest.mark.filterwarnings("ignore:.*copying from a non-meta parameter")
def test_backbone_and_bottleneck_are_identified_by_their_shapes(importer, backbone: str, bottleneck: str):
    def weights(state: Dict[str, Any]) -> Dict[str, Any]:
        return {key: torch.zeros((), device="cpu").expand(value.shape) for key, value in state.items()}

    parts = {part: weights(state) for part, state in parts_of(on_meta(backbone, bottleneck)).items()}
    content = rd4ad_content(parts)
    flat = {f"{name}.{key}": value for name, state in content.items() for key, value in state.items()}
    asked = []

    def teacher(backbone: Backbone) -> Dict[str, Any]:
        asked.append(backbone.value)
        return parts["encoder"]

    state = flat if importer.name == "RD4AD" else anomalib_state(parts)
    with torch.device("meta"):
        model = importer.load(ImportRequest(state, (SIZE, SIZE), teacher))
    assert dict(model.config.options) == {"backbone": backbone, "bottleneck": bottleneck}
    assert asked == ([backbone] if importer.name == "RD4AD" else [])


@pytest.mark.parametrize(("bottleneck", "megabytes", "first"), [("anomalib", 92, 512), ("rd4ad", 120, 1024)])
def test_size_of_the_studys_network_in_int8(bottleneck: str, megabytes: int, first: int):
    model = on_meta("wide_resnet50_2", bottleneck)
    assert sum(tensor.numel() for tensor in model.state_dict().values()) <= megabytes * 1e6
    assert model.bottleneck.state_dict()["bn_layer.0.conv1.weight"].shape == (first, 3072, 1, 1)
    assert len(model.bottleneck.state_dict()) == 84 - len(UNUSED) - 1  # RD4AD's unused tensors, bn4's counter
    assert len(model.decoder.state_dict()) == 252


def foreign(kind: str, model: ReverseDistillation) -> Dict[str, Any]:
    parts = parts_of(model)
    if kind == "deeper":  # ResNet-34 and ResNet-18 decoders have the same first block
        parts["decoder"]["layer1.2.conv1.weight"] = torch.zeros(256, 256, 3, 3)
    elif kind == "other bottleneck":
        parts["bottleneck"]["bn_layer.0.conv1.weight"] = torch.zeros(512, 3072, 1, 1)
    elif kind == "no decoder":
        parts["decoder"] = {}
    elif kind == "missing":
        del parts["bottleneck"]["conv3.weight"]
    return rd4ad_content(parts)


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("deeper", r"unknown backbone \(3, 2, 2 blocks, first convolution \[512, 256, 2, 2\]\)"),
        ("no decoder", r"unknown backbone \(0, 0, 0 blocks, first convolution \[\]\)"),
        ("other bottleneck", r"the bottleneck has 'bn_layer.0.conv1.weight' of shape \[512, 3072, 1, 1\]"),
        ("missing", "the bottleneck lacks 1 of 48 tensors, first 'conv3.weight'"),
    ],
)
def test_incompatible_foreign_file_is_rejected(tmp_path: Path, kind: str, complaint: str):
    torch.save(foreign(kind, make_model()), str(tmp_path / "c.pth"))
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(tmp_path / "c.pth", teacher_weights=DEMO)
    assert str(tmp_path / "c.pth") in str(caught.value)


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        (
            ModelConfig(options={"backbone": "vgg"}),
            "backbone is 'vgg'. Choose one of: resnet18, resnet34, resnet50, resnet101, wide_resnet50_2",
        ),
        (ModelConfig(options={"bottleneck": 3}), "bottleneck is 3. Choose one of: anomalib, rd4ad"),
        (ModelConfig(options={"depth": 3}), "no option 'depth'.*backbone, bottleneck"),
        (ModelConfig(image_size=(256, 272)), "256x272 does not suit.*multiples of 32"),
    ],
)
def test_bad_configuration_is_rejected_with_the_choices(config: ModelConfig, complaint: str):
    with pytest.raises(CheckpointError, match=complaint):
        ReverseDistillation(config)


def test_teacher_weights_must_match_the_backbone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = copy.deepcopy(make_model())
    assert model.teacher_backbone is Backbone.RESNET18
    model.load_teacher(teacher_state(DEMO, model.teacher_backbone))
    with pytest.raises(CheckpointError, match="demo teacher is a resnet18, not a wide_resnet50_2"):
        teacher_state(DEMO, Backbone.WIDE_RESNET50_2)

    def offline(url: str, path: str, hash_prefix: str) -> None:
        assert hash_prefix == "95faca4d"
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(CheckpointError, match="wide_resnet50_2 weights could not be downloaded") as caught:
        teacher_state(None, Backbone.WIDE_RESNET50_2)
    assert PUBLISHED[Backbone.WIDE_RESNET50_2].url in str(caught.value)
    assert DEMO not in str(caught.value)


# --- graph ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("rd")
    model = make_model("anomalib")
    save_checkpoint(folder / "rd.pt", model, {})
    return model, export(folder / "rd.pt", folder / "bundle")


def test_onnx_equals_torch_at_any_batch_size(exported):
    model, bundle = exported
    images = inputs(3)
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    maps, scores, *_ = session.run(None, {"image": images.numpy()})
    with torch.inference_mode():
        expected_maps, expected_scores, *_ = model(images)
    np.testing.assert_allclose(maps, expected_maps, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-4)
    assert (bundle.manifest.arch, bundle.manifest.map_size) == ("reverse-distillation", (SIZE, SIZE))


def test_graph_contains_only_arithmetic_operators(exported):
    graph = onnx.load(str(exported[1].model))
    operators = [node.op_type for node in graph.graph.node]
    assert lint(graph) == []
    assert operators.count("ConvTranspose") == 6
    assert set(operators) == {
        *("Cast", "Transpose", "Sub", "Mul"),
        *("Conv", "ConvTranspose", "Relu", "MaxPool", "Add", "Concat"),
        *("ReduceSum", "ReduceL2", "Clip", "Div", "MatMul", "ReduceMax", "ReduceMean"),
    }


def test_tensorrt_rtx_compiles_the_graph(exported):
    from factories.rtx import compile_engine

    plan = compile_engine(exported[1].model.read_bytes(), "SM86", SIZE)
    assert len(plan) > 10**6


def test_tensorrt_rtx_compiles_the_int8_graph(exported):
    from factories.rtx import compile_engine, typed_integers

    graph = onnx.load(str(exported[1].model))
    integers = typed_integers(graph, inputs(2).numpy())
    made = {name: node.op_type for node in integers.graph.node for name in node.output}
    transposed = [node for node in integers.graph.node if node.op_type == "ConvTranspose"]
    assert {made[name] for node in transposed for name in node.input[:2]} == {"DequantizeLinear"}
    assert len(compile_engine(integers.SerializeToString(), "SM86", SIZE)) < 0.4 * graph.ByteSize()
