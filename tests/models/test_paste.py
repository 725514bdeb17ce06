"""PaSTe from training to engines: what is computed, what is trained, and its refusals."""

from __future__ import annotations

import itertools

import numpy as np
import onnxruntime
import pytest
import torch

from adq_edge.builders.build import build
from adq_edge.calibration.calibrated_model import apply_trained_ranges
from adq_edge.calibration.sources import image_source
from adq_edge.calibration.trained_ranges import trained_ranges_file
from adq_edge.core.errors import CheckpointError
from adq_edge.core.options import Arithmetic, Precision, Route, Target
from adq_edge.models.base import STUDENT
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.paste import PaSTe
from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.onnx_export.export import export, to_onnx
from adq_edge.qat import train_quantized
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.passes import pipelines
from adq_edge.quantization.passes.frame import PassContext, run_passes
from adq_edge.training.train import train, train_each

SIZE = (64, 64)
ALL_LAYERS = ["layer1", "layer2", "layer3", "layer1,layer3", "layer2,layer3", "layer1,layer2,layer3"]
pytestmark = pytest.mark.usefixtures("one_thread")


def new_model(seed=0, size=SIZE, **options):
    torch.manual_seed(seed)
    return PaSTe(ModelConfig(image_size=size, options=options))


def images(count=2):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, *SIZE, 3), dtype=torch.uint8, generator=generator)


@pytest.fixture(autouse=True, scope="module")
def narrow_layers():
    """Give layer2 and layer3 as many channels as layer1, which makes training and building fast."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adq_edge.models.resnet.PLANES", (64, 64, 64))
        yield


@pytest.fixture(scope="module")
def teacher(narrow_layers, tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.manual_seed(1)
    torch.save(ResNet18Trunk().state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def trained(dataset, teacher, tmp_path_factory):
    path = tmp_path_factory.mktemp("paste") / "paste.pt"
    options = {"teacher_weights": str(teacher), "image_size": SIZE, "progress": False}
    train(dataset, output=path, arch="paste", epochs=2, batch_size=4, **options)
    return path


@pytest.mark.parametrize(("shared", "layers"), list(itertools.product(["layer1", "layer2"], ALL_LAYERS)))
def test_graph_computes_the_trunk_once_and_nothing_that_no_map_needs(shared: str, layers: str):
    model = new_model(shared=shared, layers=layers, width="0.5")
    convolutions = [node for node in to_onnx(model, SIZE).graph.node if node.op_type == "Conv"]
    deepest = int(layers[-1])
    trunk = [1, 5, 10, 15][deepest]  # convolutions of conv1 up to layer1, layer2 and layer3
    own = list(range(int(shared[-1]) + 1, deepest + 1))
    branches = [level for level in map(int, layers.replace("layer", "").split(",")) if level not in own]
    assert len(convolutions) == trunk + 5 * len(own) + 6 * len(branches)


def test_a_branch_of_the_loss_changes_only_the_student():
    model = new_model(layers="layer1,layer2,layer3")
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    optimizer = model.optimizer(STUDENT, 0.1)
    model.train_stage(STUDENT)
    losses = []
    for _ in range(4):
        loss = model.stage_loss(STUDENT, *model.frozen_features(images()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(parameter.grad is not None for parameter in model.student.parameters())
    assert all(torch.equal(before[key], value) for key, value in model.teacher.state_dict().items())


def test_checkpoint_restores_the_model_and_the_options_are_canonical(tmp_path):
    options = {"shared": "layer1", "layers": "layer3, layer1", "width": 1}
    assert new_model(**options).config.options == {
        "shared": "layer1",
        "layers": "layer1,layer3",
        "width": "1.0",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shared": "layer3"}, "shared is 'layer3'. Choose one of: layer1, layer2"),
        ({"width": "0.3"}, "width is '0.3'. Choose one of: 1.0, 0.5, 0.25"),
        ({"layers": "layer4"}, "layers: there is no layer 'layer4'"),
        ({"layers": " , "}, "layers: no layer is named, so there would be no anomaly map"),
        ({"layers": "layer3,layer3"}, "layers: layer3 is named more than once"),
    ],
)
def test_options_that_do_not_exist_are_refused_in_one_line(options, message):
    with pytest.raises(CheckpointError) as caught:
        new_model(**options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_training_one_model_per_class_and_resuming_give_the_numbers_of_one_run(
    dataset, teacher, trained, tmp_path
):
    options = {
        "arch": "paste",
        "teacher_weights": str(teacher),
        "image_size": SIZE,
        "progress": False,
        "batch_size": 4,
    }
    each = train_each(dataset, output=tmp_path / "each", epochs=1, **options)
    assert [result.checkpoint.name for result in each] == ["paste-part0.pt", "paste-part1.pt"]
    whole = train(dataset, output=tmp_path / "whole.pt", epochs=2, decay="none", **options)
    train(dataset, output=tmp_path / "parts.pt", epochs=1, decay="none", **options)
    resumed = train(dataset, output=tmp_path / "parts.pt", epochs=2, decay="none", **options)
    assert (resumed.resumed_from, resumed.loss) == (1, whole.loss)
    assert load_checkpoint(trained).training["settings"]["decay"] == "cosine"


@pytest.fixture
def bundle(trained, dataset, tmp_path):
    return export(trained, tmp_path / "bundle", data=dataset)


def decibels(reference, actual):
    return 10.0 * np.log10(np.sum(reference**2) / np.sum((reference - actual) ** 2))


def test_integer_engine_reproduces_every_output(bundle, dataset, tmp_path):
    engine = build(bundle.path, tmp_path / "engine.onnx", calib_data=str(dataset))
    feed = {"image": np.stack(list(image_source(dataset, 8).images(SIZE)))}
    sessions = [onnxruntime.InferenceSession(str(path)) for path in (bundle.model, engine.path)]
    for output in sessions[0].get_outputs():
        expected, actual = (session.run([output.name], feed)[0] for session in sessions)
        assert decibels(expected, actual) > 15.0, output.name


def test_quantization_aware_training_for_tensorrt_ends_in_its_graph(trained, dataset, tmp_path):
    result = train_quantized(
        trained,
        target="tensorrt",
        data=dataset,
        output=tmp_path / "qat.pt",
        epochs=1,
        batch_size=4,
        progress=False,
    )
    bundle = export(result.checkpoint, tmp_path / "bundle", data=dataset)
    ranges = trained_ranges_file(bundle.ranges_folder, Arithmetic.TENSORRT)
    prepared = apply_trained_ranges(bundle, FloatModel.load(bundle), ranges)
    context = PassContext(Target.TENSORRT, prepared.ranges.tensors, rounding=prepared.rounded_weights)
    passes = pipelines.TENSORRT[Route.EXPLICIT][Precision.INT8]
    graph = run_passes(prepared.float_model.proto, passes, context)
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    made = {name: node.op_type for node in graph.graph.node for name in node.output}
    kinds = [made[node.input[0]] for node in convolutions]
    assert sorted(kinds) == ["DequantizeLinear"] * (len(kinds) - 1) + ["Mul"]  # the image is not quantized
