from __future__ import annotations

from pathlib import Path
from typing import Dict, Tuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

from adq_edge.cli import app
from adq_edge.core.errors import CheckpointError
from adq_edge.models.base import Stage
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.patch_grid import Grid, random_crops
from adq_edge.models.patch_network import DESCRIPTOR, LAYERS
from adq_edge.models.resnet import BasicBlock, ResNet18Trunk
from adq_edge.models.teacher_distillation import DistillationSource, cut_squares, distillation_loss
from adq_edge.models.uninformed_students import TEACHER, UninformedStudents
from adq_edge.onnx_export.export import export, to_onnx
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.graph.tensorrt_lint import lint
from factories.images import leftovers

SIZE = (40, 48)
POOLED = {17: (), 33: (1, 2), 65: (1, 2, 3)}


def make_students(size: Tuple[int, int] = SIZE, seed: int = 0, **options) -> UninformedStudents:
    torch.manual_seed(seed)
    options = {"students": 2, **options}
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3} if options.get("decoder") == "leaky" else {}
    return UninformedStudents(ModelConfig(image_size=size, options=options, **half))


def inputs(count: int = 2, size: Tuple[int, int] = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (count, *size, 3), np.uint8))


@pytest.fixture
def few_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a training step take a quarter of the usual random parts of images."""
    monkeypatch.setattr("adq_edge.models.uninformed_students._SQUARES", 4)


def measure(model: UninformedStudents, images: torch.Tensor) -> None:
    for stage in model.stages:
        model.finish_stage(stage, lambda: iter(images[:, None]))


def descriptors(
    state: Dict[str, torch.Tensor], patch: int, leaky: bool, images: np.ndarray, at: np.ndarray
) -> np.ndarray:
    """Run the published network in float64 on single patches, cut from zero-padded images."""
    half = patch // 2
    padded = np.pad(images, ((0, 0), (0, 0), (half, half), (half, half)))
    x = torch.from_numpy(np.stack([padded[:, :, y : y + patch, x : x + patch] for y, x in at], 1)).float()
    x = x.flatten(0, 1)
    for number in range(1, 1 + sum(key.startswith("conv") for key in state) // 2):
        x = functional.conv2d(x, state[f"conv{number}.weight"], state[f"conv{number}.bias"])
        x = functional.leaky_relu(x, 5e-3)
        if number in POOLED[patch]:
            x = functional.max_pool2d(x, 2, 2)
    assert x.shape[1:] == (128, 1, 1)
    x = functional.linear(x.flatten(1), state["decode.weight"].flatten(1), state["decode.bias"])
    return (functional.leaky_relu(x, 5e-3) if leaky else x).double().numpy().reshape(len(images), len(at), -1)


def published_map(model: UninformedStudents, images: torch.Tensor, at: np.ndarray) -> np.ndarray:
    """Compute the scores of pixels `at` patch by patch, as in the published anomaly_detection.py."""
    leaky, patch = model.config.options["decoder"] == "leaky", model.config.options["patch"]
    mean, std = np.array(model.config.mean), np.array(model.config.std)
    x = ((images.numpy() / 255.0 - mean) / std).transpose(0, 3, 1, 2)
    teacher, *students = (
        descriptors(network.state_dict(), int(patch), leaky, x, at)
        for network in (model.teacher, *model.students)
    )
    if leaky:
        buffers = model.descriptor_mean.double(), model.descriptor_std.double()
        teacher = (teacher - buffers[0].flatten().numpy()) / buffers[1].flatten().numpy()
    stacked = np.stack(students, 1)
    error = ((stacked.mean(1) - teacher) ** 2).sum(-1)
    variance = (stacked**2).sum(-1).mean(1) - (stacked.mean(1) ** 2).sum(-1)
    numbers = {name: float(buffer) for name, buffer in model.named_buffers() if buffer.numel() == 1}
    error = (error - numbers["error_mean"]) / numbers["error_std"]
    return error + (variance - numbers["variance_mean"]) / numbers["variance_std"]


def grid_points(size: Tuple[int, int], stride: int, margin: int = 0) -> np.ndarray:
    lines = [range(margin + stride // 2, side - margin, stride) for side in size]
    return np.array([(y, x) for y in lines[0] for x in lines[1]])


@pytest.mark.parametrize(
    ("patch", "stride", "decoder", "border", "size"),
    [
        (17, 1, "linear", "inside", (24, 20)),
        (17, 1, "leaky", "zeros", (4, 8)),
        (33, 1, "linear", "inside", (36, 40)),
        (33, 2, "leaky", "zeros", (8, 16)),
        (33, 2, "linear", "inside", SIZE),
        (33, 4, "linear", "inside", SIZE),
        (65, 1, "linear", "zeros", (8, 8)),
        (65, 4, "linear", "inside", (80, 72)),
    ],
)
def test_dense_map_equals_patch_by_patch_evaluation(
    patch: int, stride: int, decoder: str, border: str, size: Tuple[int, int]
):
    options = {"patch": patch, "stride": stride, "decoder": decoder, "border": border}
    model = make_students(size, students=1 + (patch == 33), **options)
    images = inputs(2, size)
    measure(model, inputs(4, size, seed=1))
    with torch.inference_mode():
        maps, scores = (result.numpy() for result in model(images)[:2])
    margin = patch // 2 if border == "inside" else 0
    at = grid_points(size, stride, margin)
    inside = [(side - 2 * margin) // stride for side in size]
    coarse = published_map(model, images, at).reshape(2, *inside)
    expected = np.stack([np.pad(bilinear(one, stride), margin, "edge") for one in coarse])
    assert maps.shape == (2, *size)
    np.testing.assert_allclose(maps, expected, atol=1e-4 * np.abs(expected).max())
    np.testing.assert_allclose(scores, expected.max((1, 2)), rtol=1e-4)


def bilinear(values: np.ndarray, factor: int) -> np.ndarray:
    """Upsample `[h, w]` bilinearly with half-pixel centers."""
    for axis in (0, 1):
        count = values.shape[axis]
        at = np.clip((np.arange(count * factor) + 0.5) / factor - 0.5, 0, count - 1)
        values = np.apply_along_axis(
            lambda line, p=at: np.interp(p, np.arange(len(line)), line), axis, values
        )
    return values


@pytest.mark.parametrize("stride", [1, 4])
def test_exported_graph_has_static_shapes_and_any_batch_size(tmp_path: Path, stride: int, dataset: Path):
    model = make_students(seed=1, students=1)
    measure(model, inputs(4))
    save_checkpoint(tmp_path / "us.pt", model, {})
    bundle = export(tmp_path / "us.pt", tmp_path / "b", data=dataset, stride=stride)
    assert bundle.manifest.map_size == SIZE
    assert bundle.manifest.options["stride"] == stride
    graph = onnx.load(str(bundle.model))
    assert lint(graph) == []
    shapes = onnx.shape_inference.infer_shapes(graph, strict_mode=True).graph.value_info
    ends = [[dim.dim_value for dim in shape.type.tensor_type.shape.dim[-2:]] for shape in shapes]
    assert all(all(sizes) for sizes in ends if sizes[-1] != DESCRIPTOR), "except of the mean descriptors"
    between = [node.op_type for node in graph.graph.node if node.name.startswith(("/teacher", "/students"))]
    assert set(between) <= {"Conv", "LeakyRelu", "MaxPool", "Slice", "Concat"}
    convolutions = {node.name for node in graph.graph.node if node.op_type == "Conv"}
    assert convolutions <= {operator.node.name for operator in FloatModel.of(graph).region.operators}
    images = inputs(3, seed=2)
    session = onnxruntime.InferenceSession(str(bundle.model), providers=["CPUExecutionProvider"])
    maps, scores, *_ = session.run(None, {"image": images.numpy()})
    same = make_students(students=1, stride=stride)
    same.load_state_dict(model.state_dict())
    with torch.inference_mode():
        expected = same(images)
    np.testing.assert_allclose(maps, expected[0], atol=1e-4 * float(expected[0].abs().max()))
    np.testing.assert_allclose(scores, expected[1], rtol=1e-4)


@pytest.mark.parametrize("stride", [1, 4])
def test_tensorrt_rtx_compiles_the_int8_graph(stride: int):
    from factories.rtx import compile_engine, typed_integers

    graph = to_onnx(make_students((40, 40), students=1, stride=stride), (40, 40))
    integers = typed_integers(graph, inputs(2, (40, 40)).numpy())
    assert len(compile_engine(integers.SerializeToString(), "SM86", 40)) < 0.6 * graph.ByteSize()


def resnet18_state(whole: bool) -> Dict[str, torch.Tensor]:
    state = dict(ResNet18Trunk().state_dict())
    if whole:
        layer4 = torch.nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        state.update({f"layer4.{key}": value for key, value in layer4.state_dict().items()})
    return state


def loss_of_the_same_parts(model: UninformedStudents, stage: Stage, images: torch.Tensor) -> float:
    torch.manual_seed(7)
    with torch.no_grad():
        return model.stage_loss(stage, images).item()


@pytest.mark.usefixtures("few_squares")
def test_two_stage_training_normalizes_the_statistics(tmp_path: Path):
    size = (20, 24)
    images, model = inputs(3, size), make_students(size, patch=17)
    with pytest.raises(CheckpointError, match="no ResNet-18 to be distilled from"):
        model.stage_loss(TEACHER, images)
    model.load_teacher(resnet18_state(whole=False))
    for stage in model.stages:
        model.begin_stage(stage, lambda: iter(images.split(2)))
        model.train_stage(stage)
        before = loss_of_the_same_parts(model, stage, images)
        optimizer = model.optimizer(stage, 1e-3)
        for _ in range(12):
            loss = model.stage_loss(stage, images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        idle = model.students if stage == TEACHER else model.teacher
        assert all(parameter.grad is None for parameter in idle.parameters())
        assert all(parameter.grad is not None for parameter in model.trainable(stage).parameters())
        assert loss_of_the_same_parts(model, stage, images) < 0.98 * before
        for parameter in model.parameters():
            parameter.grad = None
        model.finish_stage(stage, lambda: iter(images.split(2)))
    with torch.inference_mode():
        teacher, *students = (d.double().numpy() for d in model.networks(model.normalize(images)))
    np.testing.assert_allclose(teacher.mean((0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(teacher.std((0, 2, 3)), 1, rtol=1e-4)
    error = ((np.mean(students, 0) - teacher) ** 2).sum(1)
    variance = np.var(students, 0).sum(1)
    found = [model.error_mean, model.error_std, model.variance_mean, model.variance_std]
    np.testing.assert_allclose(found, [error.mean(), error.std(), variance.mean(), variance.std()], rtol=1e-4)
    assert variance.mean() > 1e-3 * error.mean()  # all students differ
    save_checkpoint(tmp_path / "us.pt", model, {})
    assert (tmp_path / "us.pt").stat().st_size < 1.02 * sum(4 * p.numel() for p in model.parameters())
    with torch.inference_mode():
        assert torch.equal(load_checkpoint(tmp_path / "us.pt").model(images)[0], model(images)[0])


@pytest.mark.parametrize("whole", [True, False], ids=["with layer4", "to layer3"])
def test_patches_are_described_by_512_numbers(whole: bool):
    state, grid = resnet18_state(whole), Grid(33, 4)
    source = DistillationSource(state)
    patches = torch.randn(3, 3, 33, 33)
    described = source(patches, grid)
    assert described.shape == (3, 512, 1, 1)
    assert not described.requires_grad
    x = source.trunk(functional.interpolate(patches, (64, 64), mode="bilinear"))[-1]
    parts = (
        [source.layer4(x).mean((2, 3))] if whole else [x.mean((2, 3)), x.flatten(2).std(2, unbiased=False)]
    )
    torch.testing.assert_close(described[:, :, 0, 0], torch.cat(parts, 1), rtol=1e-3, atol=1e-5)
    many = torch.randn(60, 3, 33, 33) * torch.linspace(0.1, 3.0, 60).view(-1, 1, 1, 1)
    source.standardize(many.split(7), grid)
    described = source(many, grid).flatten(1).double().numpy()
    np.testing.assert_allclose(described.mean(0), 0, atol=1e-3)
    deviation = described.std(0)  # 1, except for nearly constant features
    assert np.median(deviation) == pytest.approx(1, abs=1e-3)
    assert deviation.max() < 1 + 1e-3


@pytest.mark.parametrize("patch", [17, 33, 65])
def test_patch_of_a_square_has_the_features_of_its_part(patch: int):
    """A patch covers 4x4 positions of layer3; features are interpolated between two positions."""
    grid, side = Grid(patch, 1).coarse, 9
    source = DistillationSource(resnet18_state(whole=False))
    squares = torch.randn(1, 3, 8 * grid.stride + patch, 8 * grid.stride + patch)
    described = source(squares, grid)[0].double().numpy()
    zoom = 64 / (patch - 1)
    size = round(zoom * (squares.shape[2] - 1))
    layer3 = source.trunk(functional.interpolate(squares, (size, size), mode="bilinear"))[-1][0]
    layer3 = layer3.double().numpy()
    windows = np.lib.stride_tricks.sliding_window_view(layer3, (4, 4), (1, 2))
    features = np.concatenate([windows.mean((-2, -1)), windows.std((-2, -1))])
    at = np.arange(side) * grid.stride * zoom / 16
    assert at[-1] == features.shape[1] - 1
    for axis in (1, 2):
        features = np.apply_along_axis(lambda line: np.interp(at, range(len(line)), line), axis, features)
    np.testing.assert_allclose(described, features, rtol=1e-3, atol=1e-4)


def test_students_loss_gives_more_weight_to_the_largest_errors():
    rng = np.random.default_rng(0)
    features = [rng.normal(size=(2, 512, 3, 7)).astype(np.float32) for _ in range(3)]
    errors = [((student - features[0]).astype(np.float64) ** 2).sum(1).ravel() for student in features[1:]]
    hardest = [np.sort(error)[-5:].mean() for error in errors]  # a tenth of 42 places, rounded up
    loss = make_students(patch=17).loss(tuple(torch.from_numpy(feature) for feature in features))
    np.testing.assert_allclose(loss.item(), np.mean(errors) + np.mean(hardest), rtol=1e-5)


def test_distillation_loss_equals_the_papers_formula():
    generator = np.random.default_rng(0)
    anchors, positives, target = generator.normal(0, 1, (3, 6, 5, 2, 3))
    near = ((anchors - positives) ** 2).sum(1)
    negatives = np.roll(anchors, 1, 0)
    far = np.minimum(((anchors - negatives) ** 2).sum(1), ((positives - negatives) ** 2).sum(1))
    channels = anchors.transpose(1, 0, 2, 3).reshape(5, -1)
    correlation = np.corrcoef(channels)[~np.eye(5, dtype=bool)]
    expected = ((anchors - target) ** 2).sum(1).mean()
    expected += np.maximum(0, 10 + near - far).mean() + (correlation**2).mean()
    actual = distillation_loss(*(torch.from_numpy(values).float() for values in (anchors, positives, target)))
    assert float(actual) == pytest.approx(expected, rel=1e-5)


def test_positives_are_shifted_within_the_limit():
    """On a linear ramp, a square's mean equals its position, so the shift of positives can be measured."""
    torch.manual_seed(0)
    ramp = torch.linspace(0, 1, 400).expand(2, 3, 400, 400).contiguous()
    squares = cut_squares(ramp, 33, 8.0, 100)
    assert squares.anchors.shape == squares.positives.shape == (100, 3, 33, 33)
    distance = (squares.anchors.mean((1, 2, 3)) - squares.positives.mean((1, 2, 3))).abs()
    assert float(distance.max()) < 0.1 + 8 / 400 + 0.01  # allowed difference from luminance, shift and noise
    assert float(distance.median()) > 0
    assert not torch.equal(squares.anchors[:50], squares.anchors[50:])


def test_random_crops_have_the_descriptors_of_the_dense_grid():
    model, grid = make_students((44, 40), patch=33), Grid(33, 1)
    x = model.normalize(inputs(1, (44, 40)))
    with torch.inference_mode():
        dense = model.networks(x)[0].permute(0, 2, 3, 1).reshape(-1, 512)
        found = []
        for _ in range(4):
            crop = model.teacher(random_crops(x, grid.coarse, 2))
            assert crop.shape == (1, 512, 2, 2)
            difference = crop.permute(0, 2, 3, 1).reshape(-1, 1, 512) - dense
            found.append(difference.abs().amax(2).min(1))
    assert max(float(nearest.values.max()) for nearest in found) < 1e-5
    assert len({int(index) for nearest in found for index in nearest.indices}) > 4


def test_random_crops_cover_the_border_as_often_as_other_parts():
    torch.manual_seed(0)
    grid, size = Grid(33, 1).coarse, 160
    rows = torch.arange(size, dtype=torch.float32).view(1, 1, size, 1).expand(1000, 1, size, size)
    crops = random_crops(rows.contiguous(), grid, 9)
    first = crops[:, 0, 0, 0].long() // grid.stride  # the patch starts at the crop's first pixel
    times = torch.bincount((first[:, None] + torch.arange(9)).flatten())
    assert len(times) == grid.descriptors(size) == 32
    assert float(times[[0, -1]].min()) > 0.7 * float(times[12:20].float().mean())


@pytest.mark.usefixtures("few_squares")
def test_training_uses_only_torchs_random_generator():
    model, images = make_students((44, 44), students=1), inputs(2, (44, 44))
    model.load_teacher(resnet18_state(whole=False))
    for stage in model.stages:
        losses = []
        for seed in (1, 1, 2):
            np.random.default_rng()
            torch.manual_seed(seed)
            losses.append(model.stage_loss(stage, images).item())
        assert losses[0] == losses[1] != losses[2]


def write_published(folder: Path, model: UninformedStudents, first: int = 0) -> Path:
    """Write files in the published format: one state dict per network, the last layer an nn.Linear."""
    folder.mkdir(exist_ok=True)
    patch = model.config.options["patch"]
    names = [
        f"teacher_{patch}_net",
        *(f"student_{patch}_net_{first + i}" for i in range(len(model.students))),
    ]
    for name, network in zip(names, (model.teacher, *model.students)):
        state = {key: value.clone() for key, value in network.state_dict().items()}
        state["decode.weight"] = state["decode.weight"].flatten(1)
        torch.save(state, str(folder / f"{name}.pt"))
    return folder


def test_published_folder_is_imported_and_measured_on_training_images(tmp_path: Path, dataset: Path):
    size = (16, 16)
    model = make_students(size, decoder="leaky", border="zeros", patch=17)
    folder = write_published(tmp_path / "carpet", model)
    torch.save(ResNet18Trunk().state_dict(), str(folder / "resnet18.pt"))  # written by the published code
    with pytest.raises(CheckpointError, match=r"carpet: lacks the statistics .* --data DATASET") as caught:
        export(folder, tmp_path / "b", image_size=size)
    assert "\n" not in str(caught.value)
    assert not leftovers(tmp_path)
    result = CliRunner().invoke(
        app,
        ["export", str(folder), "-o", str(tmp_path / "b"), "--data", str(dataset), "--image-size", "16"],
    )
    assert result.exit_code == 0, result.output
    assert "Uninformed Students folder" in result.output
    from adq_edge.core.images.imaging import load_image
    from adq_edge.datasets.dataset import read_dataset

    train = np.stack([load_image(path, size) for path in read_dataset(dataset).train_images])
    measure(model, torch.from_numpy(train))
    images = inputs(1, size)
    session = onnxruntime.InferenceSession(str(tmp_path / "b" / "model.onnx"))
    (maps, *_), at = session.run(None, {"image": images.numpy()}), grid_points(size, 1)
    expected = published_map(model, images, at).reshape(1, *size)
    np.testing.assert_allclose(maps, expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("finished", [False, True])
def test_export_measures_statistics_of_an_unfinished_training(tmp_path: Path, dataset: Path, finished: bool):
    size = (20, 24)
    model = make_students(size, patch=17, students=1)
    training = {"settings": {"data": str(dataset)}, "finished": finished}
    save_checkpoint(tmp_path / "c.pt", model, training)
    export(tmp_path / "c.pt", tmp_path / "bundle")
    session = onnxruntime.InferenceSession(str(tmp_path / "bundle" / "model.onnx"))
    images = inputs(2, size)
    maps = session.run(["anomaly_map"], {"image": images.numpy()})[0]
    with torch.inference_mode():
        unmeasured = model(images)[0].numpy()
    assert np.allclose(maps, unmeasured, rtol=1e-3, atol=1e-3 * np.abs(unmeasured).max()) is finished


def broken_folder(folder: Path, kind: str) -> Path:
    if kind == "empty":
        folder.mkdir()
        return folder
    write_published(folder, make_students(patch=33, students=1))
    if kind == "two sizes":
        write_published(folder, make_students(patch=17, students=1), first=1)
    elif kind == "no teacher":
        (folder / "teacher_33_net.pt").unlink()
    elif kind == "no student":
        (folder / "student_33_net_0.pt").unlink()
    elif kind == "renamed size":
        (folder / "student_33_net_0.pt").unlink()
        other = write_published(folder.parent / "other", make_students(patch=65, students=1, border="zeros"))
        (other / "student_65_net_0.pt").rename(folder / "student_33_net_0.pt")
    elif kind == "truncated":
        path = folder / "student_33_net_0.pt"
        path.write_bytes(path.read_bytes()[:1000])
    return folder


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("empty", "is a folder without .pt files"),
        ("two sizes", r"patches of different sizes \(17, 33\)"),
        ("no teacher", "lacks teacher_PATCH_net.pt"),
        ("no student", "lacks student_PATCH_net_NUMBER.pt"),
        ("renamed size", r"student_33_net_0.pt has 'conv2.weight' of shape"),
        ("truncated", r"student_33_net_0.pt: not a whole file"),
        ("one file", "is one network of Uninformed Students. Give the folder"),
    ],
)
def test_bad_folder_is_rejected_with_one_line(tmp_path: Path, kind: str, complaint: str):
    folder = broken_folder(tmp_path / "files", kind)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(folder / "teacher_33_net.pt" if kind == "one file" else folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "size", "complaint"),
    [
        ({"patch": 40}, SIZE, "patch is 40. There are networks for patches of 17, 33, 65 pixels"),
        ({"patch": "33"}, SIZE, "patch is '33', not a whole number"),
        ({"border": "mirror"}, SIZE, "border is 'mirror'. Choose one of: inside, zeros"),
        ({"decoder": 5}, SIZE, "decoder is 5. Choose one of: linear, leaky"),
        ({}, (32, 40), "32x40 is too small for patches of 33 pixels. Height and width must be 36 or more"),
        ({"patch": 65}, (80, 64), "80x64 is too small .* 72 or more"),
        ({"students": 0}, SIZE, "students is 0"),
        ({"stride": 3}, SIZE, "stride is 3. Patches of 33 pixels offer: 1, 2, 4"),
        ({"patch": 17, "stride": 2}, SIZE, "stride is 2. Patches of 17 pixels offer: 1"),
        ({}, (30, 32), "image size 30x32 does not suit patches of 33 pixels. .* multiples of 4"),
        ({"patch": 65}, (12, 16), "multiples of 8"),
    ],
)
def test_invalid_options_are_rejected(options: Dict, size: Tuple[int, int], complaint: str):
    with pytest.raises(CheckpointError, match=complaint):
        make_students(size, **options)


def test_stride_for_a_method_without_it_is_rejected(tmp_path: Path, checkpoint: Path):
    with pytest.raises(CheckpointError, match="stfpm has no option 'stride'"):
        export(checkpoint, tmp_path / "b", stride=4)
    assert not (tmp_path / "b").exists()


def test_every_network_maps_a_patch_to_one_descriptor():
    for patch in LAYERS:
        model = make_students((72, 72), patch=patch, students=1)
        assert model.teacher(torch.zeros(1, 3, patch, patch)).shape == (1, 512, 1, 1)
