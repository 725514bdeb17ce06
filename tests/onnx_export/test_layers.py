"""`export --layers`: the maps of some layers alone, and nothing that these do not need."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from adq_edge.cli import app
from adq_edge.core.errors import CheckpointError
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.feature_matching import upsample
from adq_edge.models.paste import PaSTe
from adq_edge.models.reverse_distillation import ReverseDistillation
from adq_edge.models.stfpm import STFPM
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.onnx_export.export import export, to_onnx

SIZE = (64, 64)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def narrow_layers(monkeypatch):
    for module in ("resnet", "reverse_blocks"):
        monkeypatch.setattr(f"adq_edge.models.{module}.PLANES", (64, 64, 64))


def new(kind, **values):
    torch.manual_seed(0)
    return kind(ModelConfig(image_size=SIZE, **values))


def convolutions(model):
    return sum(node.op_type in ("Conv", "ConvTranspose") for node in to_onnx(model, SIZE).graph.node)


MODELS = {
    "STFPM": lambda: new(STFPM),
    "PaSTe": lambda: new(PaSTe, options={"shared": "layer1", "width": "0.5"}),
    "Reverse Distillation": lambda: new(ReverseDistillation, options={"backbone": "resnet18"}),
}
COUNTS = {  # of layer3; layer2 and layer3; layer1 and layer2
    "STFPM": (30, 30, 20),
    "PaSTe": (25, 25, 21),
    "Reverse Distillation": (28, 33, 38),
}


@pytest.mark.parametrize("name", MODELS)
def test_graph_of_some_layers_computes_nothing_that_no_map_needs(name: str):
    model = MODELS[name]()
    chosen = [(3,), (2, 3), (1, 2)]
    assert tuple(convolutions(model.with_layers(levels)) for levels in chosen) == COUNTS[name]


@pytest.mark.parametrize("name", MODELS)
def test_scale_maps_of_some_layers_are_those_of_the_whole_model(name: str):
    model = MODELS[name]()
    images = torch.randint(0, 256, (2, *SIZE, 3), dtype=torch.uint8)
    with torch.inference_mode():
        whole = model(images)[3:]
        for levels in ((3,), (2, 3), (1, 3)):
            part = model.with_layers(levels)(images)
            assert len(part) == 3 + len(levels)
            for level, scale_map in zip(levels, part[3:]):
                torch.testing.assert_close(scale_map, whole[level - 1])
            if name == "STFPM":
                first = levels[0]
                maps = [
                    upsample(m[:, None], 2 ** (level - first))[:, 0] for level, m in zip(levels, part[3:])
                ]
                torch.testing.assert_close(part[0], torch.stack(maps).prod(0))


@pytest.fixture
def checkpoint(dataset, tmp_path):
    path = tmp_path / "model.pt"
    save_checkpoint(path, new(STFPM), {"settings": {"data": str(dataset), "categories": ["part0", "part1"]}})
    return path


def test_export_shows_the_auroc_of_each_choice_and_writes_the_chosen_map(checkpoint, tmp_path):
    arguments = ["export", str(checkpoint), "-o", str(tmp_path / "bundle"), "--layers", "layer3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    lines = [line.replace("│", " ").split() for line in result.output.splitlines()]
    rows = [cells for cells in lines if cells and cells[0].startswith("layer")]
    assert [row[0] for row in rows[-3:]] == ["layer1,layer2,layer3", "layer2,layer3", "layer3"]
    values = np.array([[float(cell) for cell in row[1:]] for row in rows[-3:]])
    np.testing.assert_allclose(values[:, 0], values[:, 1:].mean(1), atol=1e-4)
    graph = onnx.load(str(tmp_path / "bundle" / "model.onnx")).graph
    assert [output.name for output in graph.output] == [
        "anomaly_map",
        "anomaly_score",
        "embedding",
        "scale_map_1",
    ]


def test_the_checkpoint_keeps_its_own_scoring_without_the_option(checkpoint, tmp_path):
    assert export(checkpoint, tmp_path / "bundle").manifest.map_size == (16, 16)
    manifest = export(checkpoint, tmp_path / "bundle", layers="layer3").manifest
    assert (manifest.map_size, manifest.options) == ((4, 4), {"backbone": "resnet18", "layers": "layer3"})
    assert load_checkpoint(checkpoint).model.layers == (1, 2, 3)


def test_choices_are_measured_on_the_categories_of_the_checkpoint(dataset, tmp_path):
    path, shown = tmp_path / "model.pt", []
    save_checkpoint(path, new(STFPM), {"settings": {"data": str(dataset), "categories": ["part1"]}})
    export(path, tmp_path / "bundle", layers="layer3", show_choices=shown.extend)
    assert [list(choice.by_category) for choice in shown] == [["part1"]] * 3


@pytest.mark.parametrize(
    ("model", "layers", "message"),
    [
        (MODELS["STFPM"], "layer4", "layers: the checkpoint has no map of layer4"),
        (MODELS["STFPM"], ",", "layers: no layer is named, so there would be no anomaly map"),
        (
            lambda: new(PaSTe, options={"layers": "layer3"}),
            "layer1",
            "layers: the checkpoint has no map of layer1. Choose from layer3",
        ),
        (
            lambda: new(UninformedStudents, options={"students": 1}),
            "layer3",
            "uninformed-students has no maps of layers to choose from. Omit --layers",
        ),
    ],
)
def test_layers_that_are_not_there_are_refused_in_one_line(model, layers, message, tmp_path):
    save_checkpoint(tmp_path / "model.pt", model(), {})
    with pytest.raises(CheckpointError) as caught:
        export(tmp_path / "model.pt", tmp_path / "bundle", layers=layers)
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "bundle").exists()
