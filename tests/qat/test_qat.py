from __future__ import annotations

import csv
import functools
import json
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from adq_edge.artifacts.ranges import Ranges, WeightRounding, read_ranges
from adq_edge.builders.build import build
from adq_edge.calibration.activations import collect
from adq_edge.calibration.calibrated_model import apply_trained_ranges
from adq_edge.calibration.calibrators.histogram import BINS
from adq_edge.calibration.sources import image_source
from adq_edge.calibration.trained_ranges import ranges_from_dict, trained_ranges_file
from adq_edge.cli import app
from adq_edge.core.errors import AdqError, CheckpointError
from adq_edge.core.methods import QAT
from adq_edge.core.options import Arithmetic, Target
from adq_edge.evaluation.analyze import analyze
from adq_edge.models.base import STUDENT
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.patch_network import interleave
from adq_edge.models.registry import METHODS
from adq_edge.models.uninformed_students import UninformedStudents
from adq_edge.onnx_export.export import export
from adq_edge.qat import train_quantized
from adq_edge.qat.batch_norm_folding import fold_batch_norms
from adq_edge.qat.fake_quantize import LearnedRange, fake_quantize, fake_quantize_weight
from adq_edge.qat.initialize import quantize_after_training
from adq_edge.qat.onnx_operators import require_known, run_node
from adq_edge.qat.quantized_model import QuantizedModel
from adq_edge.qat.trainer import QatTrainer
from adq_edge.qat.weight_tracing import trace
from adq_edge.quantization.arithmetic import GRIDS, quantize_weight, scale_and_zero_point, weight_scales
from adq_edge.quantization.float_model import FloatModel
from adq_edge.quantization.qdq import quantize
from factories.images import make_model, write_dataset
from factories.tiny_method import TinyMethod, trained_tiny

SIZE = (32, 32)
AGREEMENT_DB = 40.0


@pytest.fixture(scope="module", autouse=True)
def tiny_is_a_method():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a second thread slows down such small layers
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, TinyMethod.arch, TinyMethod)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("qat") / "parts")


@pytest.fixture(scope="module")
def images(parts):
    return torch.from_numpy(np.stack(list(image_source(parts, 12).images(SIZE))))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, parts, images):
    path = tmp_path_factory.mktemp("trained") / "tiny.pt"
    model = trained_tiny(ModelConfig(image_size=SIZE), images)
    save_checkpoint(path, model, {"settings": {"data": str(parts), "categories": ["part0", "part1"]}})
    return path


@pytest.fixture(scope="module", params=list(Arithmetic))
def quantized(request, tmp_path_factory, trained):
    """Return the arithmetic, the result of quantization-aware training and its exported bundle."""
    folder = tmp_path_factory.mktemp(request.param.value)
    result = train_quantized(
        trained, target=request.param, output=folder / "qat.pt", epochs=3, batch_size=4, progress=False
    )
    return request.param, result, export(result.checkpoint, folder / "bundle")


def load_quantized(path):
    checkpoint = load_checkpoint(path)
    return QuantizedModel(checkpoint.model, ranges_from_dict(checkpoint.training["quantization"])).model


def decibels(reference, actual):
    return 10.0 * np.log10((reference**2).sum() / ((reference - actual) ** 2).sum())


def test_engine_output_equals_the_fake_quantized_model(quantized, images, tmp_path):
    arithmetic, result, bundle = quantized
    model = load_quantized(result.checkpoint)
    with torch.inference_mode():
        expected = model(images)[0].numpy()
    feed = {"image": images.numpy()}
    if arithmetic is Arithmetic.CPU:
        built = build(bundle.path, tmp_path / "engine.onnx")
        assert built.sidecar.calibration.calibrator == "qat"
        session = onnxruntime.InferenceSession(str(built.path))
    else:
        prepared = apply_trained_ranges(
            bundle, FloatModel.load(bundle), trained_ranges_file(bundle.ranges_folder, arithmetic)
        )
        graph = quantize(
            prepared.float_model, prepared.ranges.tensors, Target.TENSORRT, rounding=prepared.rounded_weights
        )
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options)
    actual = session.run(["anomaly_map"], feed)[0]
    plain = load_checkpoint(result.checkpoint).model
    with torch.inference_mode():
        unrounded = plain(images)[0].numpy()
    assert decibels(expected, actual) >= AGREEMENT_DB
    assert decibels(expected, actual) > decibels(unrounded, actual) + 6.0  # needs the rounding


def rounded_students(size, images, **options):
    """Return Uninformed Students with the rounding of an engine with wide ranges."""
    torch.manual_seed(0)
    model = UninformedStudents(ModelConfig(image_size=size, options=options))
    graph = trace(model).graph
    histograms = collect(graph.proto, graph.region.measured, images, threads=1)
    ranges = {name: (9 * float(found.low), 9 * float(found.high)) for name, found in histograms.items()}
    origin = Ranges("", "minmax", "images", "", len(images), BINS, ranges, {}, arithmetic=Arithmetic.CPU)
    return QuantizedModel(model, origin).model


@pytest.mark.parametrize("stride", [1, 2])
def test_excerpt_has_the_same_features_as_in_the_whole_image(stride):
    size = (104, 104)
    at = np.stack(np.broadcast_arrays(*np.ogrid[: size[0], : size[1]]), 2)
    noise = np.random.default_rng(0).integers(0, 256, (*size, 1))
    image = np.concatenate([at, noise], 2).astype(np.uint8)
    model = rounded_students(size, [image], students=1, stride=stride)
    batch = torch.from_numpy(image)[None]
    while True:
        part = model.excerpt(batch)
        top, left = (int(first) for first in part[0, 0, 0, :2])
        if top % stride == left % stride == 0 < min(top, left) and max(top, left) <= 8:
            break
    maps = []
    with torch.inference_mode():
        for images in (batch, part):
            channel = model.features(images)[1][:, 7]
            height, width = channel.shape[1:]
            maps.append(interleave(channel, (height, width), model.grid.levels)[0].numpy())
    whole, own = maps
    place = whole[top // stride :, left // stride :][: own.shape[0], : own.shape[1]]
    assert own.shape == place.shape == (64 // stride, 64 // stride)
    assert np.abs(own - place).max() < 1e-4 * np.abs(whole).max()


def test_score_statistics_are_measured_with_rounding(parts):
    size = (48, 48)
    images = list(image_source(parts, 6).images(size))
    rounded = rounded_students(size, images, students=2, stride=4)
    batch = torch.from_numpy(np.stack(images))
    rounded.finish_stage(STUDENT, lambda: iter(batch[:, None]))
    means = []
    with torch.inference_mode():
        for features in (rounded.features(batch), rounded.networks(rounded.normalize(batch))):
            teacher, *students = (feature.double() for feature in features)
            means.append(float((torch.stack(students).mean(0) - teacher).square().sum(1).mean()))
    assert float(rounded.error_mean) == pytest.approx(means[0], rel=1e-4)
    assert abs(means[1] - means[0]) > 1e-3 * means[0]


def test_export_rejects_training_interrupted_before_score_normalization(parts, tmp_path, monkeypatch):
    class Normalized(TinyMethod):
        def finish_stage(self, stage, inputs):
            """Override the method, so that the model measures statistics."""

    def interrupt(trainer, images):
        raise KeyboardInterrupt

    monkeypatch.setitem(METHODS, TinyMethod.arch, Normalized)
    torch.manual_seed(0)
    save_checkpoint(tmp_path / "tiny.pt", Normalized(ModelConfig(image_size=SIZE)), {})
    run = functools.partial(
        train_quantized,
        tmp_path / "tiny.pt",
        target="cpu",
        data=parts,
        output=tmp_path / "qat.pt",
        epochs=2,
        progress=False,
    )
    with monkeypatch.context() as patch:
        patch.setattr(QatTrainer, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run()
    with pytest.raises(CheckpointError, match=r"qat\.pt: .*interrupted before.*train --qat"):
        export(tmp_path / "qat.pt", tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    assert run().resumed_from == 1
    export(tmp_path / "qat.pt", tmp_path / "bundle")


def test_analysis_uses_the_trained_ranges(quantized, parts, tmp_path):
    arithmetic, _, bundle = quantized
    target = "x86" if arithmetic is Arithmetic.CPU else "tensorrt"
    analyses = {
        calib: analyze(
            bundle.path,
            target=target,
            calib=calib,
            calib_data=parts,
            samples=4,
            images=4,
            output=tmp_path / f"{calib}.analysis.json",
        )
        for calib in (None, "minmax")
    }
    assert analyses[None].calibration.calibrator == "qat"
    assert analyses["minmax"].calibration.calibrator == "minmax"
    assert analyses[None].map_snr_db > 10.0


def test_training_reduces_the_loss_of_the_quantized_student(quantized, trained, parts, images):
    arithmetic, result, _ = quantized
    start = quantize_after_training(
        load_checkpoint(trained).model, arithmetic, image_source(parts, 12), parts
    )
    before = QuantizedModel(*start).model
    after = load_quantized(result.checkpoint)
    losses = [float(model.stage_loss(STUDENT, images).detach()) for model in (before, after)]
    assert losses[1] < losses[0]
    teachers = [model.features(images)[0] for model in (before, after)]
    assert torch.equal(*teachers)  # the teacher was quantized before training and did not change


def test_resumed_training_gives_the_same_weights(quantized, trained, tmp_path, monkeypatch):
    arithmetic, whole, _ = quantized
    train_epoch = QatTrainer.train_epoch

    def interrupt(trainer, *arguments):
        if trainer.records:
            raise KeyboardInterrupt
        train_epoch(trainer, *arguments)

    options = {"target": arithmetic, "output": tmp_path / "qat.pt", "epochs": 3, "batch_size": 4}
    monkeypatch.setattr(QatTrainer, "train_epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train_quantized(trained, progress=False, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["qat.csv", "qat.pt"]
    monkeypatch.setattr(QatTrainer, "train_epoch", train_epoch)
    result = train_quantized(trained, progress=False, **options)
    assert (result.resumed_from, result.epochs) == (1, 3)
    first, second = (load_checkpoint(path) for path in (whole.checkpoint, result.checkpoint))
    assert all(map(torch.equal, first.model.state_dict().values(), second.model.state_dict().values()))
    assert first.training["quantization"] == second.training["quantization"]
    rows = [list(csv.DictReader(path.log.open(newline=""))) for path in (whole, result)]
    assert [row["epoch"] for row in rows[0]] == ["1", "2", "3"]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    assert float(rows[0][2]["loss"]) == whole.loss
    assert float(rows[0][0]["learning_rate"]) == QAT.learning_rate > float(rows[0][2]["learning_rate"])
    again = train_quantized(trained, progress=False, **options)
    assert (again.resumed_from, again.epochs) == (3, 3)
    assert_not_continued(trained, options)


def assert_not_continued(trained, options):
    """Check that resuming rejects another seed, batch size, checkpoint and other images."""
    for change, message in (({"seed": 1}, "seed 0, not 1"), ({"batch_size": 2}, "batch size 4, not 2")):
        with pytest.raises(CheckpointError, match=message):
            train_quantized(trained, progress=False, **{**options, **change})
    before = options["output"].read_bytes()
    other = options["output"].with_name("other.pt")
    loaded = load_checkpoint(trained)
    save_checkpoint(other, loaded.model, {**loaded.training, "note": "another file"})
    with pytest.raises(CheckpointError, match=r"with another checkpoint.*--restart"):
        train_quantized(other, progress=False, **options)
    image = next(Path(loaded.training["settings"]["data"]).rglob("train/good/*.png"))
    changed = image.stat().st_mtime_ns
    os.utime(image, ns=(changed, changed + 10**9))
    with pytest.raises(CheckpointError, match=r"with other images.*--restart"):
        train_quantized(trained, progress=False, **options)
    os.utime(image, ns=(changed, changed))
    assert options["output"].read_bytes() == before


def test_incompatible_targets_checkpoints_and_graphs_are_rejected(quantized, trained, checkpoint, tmp_path):
    arithmetic, result, bundle = quantized
    with pytest.raises(CheckpointError, match="already"):
        train_quantized(result.checkpoint, target=arithmetic)
    with pytest.raises(CheckpointError, match="not replaced"):
        train_quantized(trained, target=arithmetic, output=checkpoint)
    save_checkpoint(tmp_path / "unknown.pt", load_checkpoint(trained).model, {})
    with pytest.raises(AdqError, match="--data"):
        train_quantized(tmp_path / "unknown.pt", target=arithmetic)
    with pytest.raises(AdqError, match=r"Use one of: cpu, tensorrt"):
        train_quantized(trained, target="gpu")
    plain = export(trained, tmp_path / "plain")
    with pytest.raises(AdqError, match=r"train --qat CHECKPOINT --target cpu"):
        build(plain.path, tmp_path / "engine.onnx", calib="qat")
    if arithmetic is Arithmetic.TENSORRT:
        with pytest.raises(
            AdqError, match=r"trained with quantization for tensorrt, not for cpu.*--calib lp"
        ):
            build(bundle.path, tmp_path / "engine.onnx")
        built = build(bundle.path, tmp_path / "engine.onnx", calib="lp")
        assert built.sidecar.calibration.calibrator == "lp"
    save_checkpoint(tmp_path / "us.pt", UninformedStudents(ModelConfig()), {"quantization": {}})
    with pytest.raises(CheckpointError, match=r"at stride 1, not 4\. Omit --stride"):
        export(tmp_path / "us.pt", tmp_path / "none", stride=4)
    damaged = load_checkpoint(result.checkpoint)
    quantization = {**damaged.training["quantization"], "tensors": {}}
    save_checkpoint(tmp_path / "qat.pt", damaged.model, {**damaged.training, "quantization": quantization})
    with pytest.raises(CheckpointError, match="does not fit the graph"):
        export(tmp_path / "qat.pt", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_train_command_resumes_and_rejects_invalid_options(quantized, trained, monkeypatch):
    arithmetic, result, _ = quantized
    own = ["train", "--qat", str(trained), "--target", arithmetic.value, "--output", str(result.checkpoint)]
    done = CliRunner().invoke(app, [*own, "--epochs", "3", "--batch-size", "4"])
    assert done.exit_code == 0
    assert f"3 epochs of 12 images quantized for {arithmetic.value}, loss " in done.output
    monkeypatch.setenv("WORLD_SIZE", "2")
    for arguments, message in (
        (own, "one process"),
        ([*own, "--patch", "33"], "--patch cannot be combined with --qat"),
        ([*own, "--early-stopping", "3"], "--early-stopping cannot be combined with --qat"),
        (["train", "--qat", str(trained)], "Add --target cpu or --target tensorrt"),
        (["train", "--target", "cpu"], "--target is for --qat"),
        (["train"], "Name a dataset with --data"),
    ):
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 2
        assert message in refused.output


def test_old_ranges_file_without_rounding_gets_the_default(quantized, tmp_path):
    arithmetic, _, bundle = quantized
    path = trained_ranges_file(bundle.ranges_folder, arithmetic)
    document = json.loads(path.read_text())
    assert document["rounding"] == "nearest"
    assert document.pop("arithmetic") == arithmetic.value
    del document["rounding"]
    (tmp_path / "old.json").write_text(json.dumps(document))
    old = read_ranges(tmp_path / "old.json", bundle.manifest.model_sha256, document["tensors"])
    assert (old.rounding, old.arithmetic) == (WeightRounding.COMPENSATED, None)


@pytest.mark.parametrize("target", [Target.X86, Target.TENSORRT])
@pytest.mark.parametrize(("low", "high"), [(-0.7, 2.3), (0.0, 3.1), (-1.5, 0.0)])
def test_fake_quantization_equals_the_targets_arithmetic(target, low, high):
    grid = GRIDS[target]
    x = np.random.default_rng(0).normal(0.0, 1.5, (4, 500)).astype(np.float32)
    x[0, :100] = (np.arange(100) - 30.5) * scale_and_zero_point(low, high, grid)[0]  # ties
    scale, zero_point = scale_and_zero_point(low, high, grid)
    kind = helper.np_dtype_to_tensor_dtype(zero_point.dtype)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    floats = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "s", "y")]
    zero = helper.make_tensor_value_info("z", kind, None)
    graph = helper.make_graph(nodes, "pair", [floats[0], floats[1], zero], [floats[2]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": x, "s": scale, "z": zero_point})
    bounds = torch.tensor([low, high], dtype=torch.float64, requires_grad=True)
    inputs = torch.tensor(x, requires_grad=True)
    actual = fake_quantize(inputs, bounds, grid)
    np.testing.assert_array_equal(actual.detach().numpy(), expected)
    actual.backward(torch.ones_like(actual))
    steps = x.astype(np.float64) / float(scale)
    lowest, highest = grid.lowest - int(zero_point), grid.highest - int(zero_point)
    below, above = np.rint(steps) < lowest, np.rint(steps) > highest
    np.testing.assert_array_equal(inputs.grad.numpy(), ~(below | above))
    steps = (x / scale).astype(np.float64)  # rounded to float32 as in the forward pass
    error = np.where(below | above, 0.0, np.rint(steps) - steps).sum()
    if grid.symmetric:
        gradient = [0.0, error / 127.0 + above.sum() - below.sum() * 128.0 / 127.0]
    else:
        gradient = [below.sum() - error / 255.0, above.sum() + error / 255.0]
    np.testing.assert_allclose(bounds.grad.numpy(), gradient, rtol=1e-4, atol=1e-3)


def test_learned_range_keeps_a_minimum_width_and_its_sign_constraints():
    beneath_relu = LearnedRange(0.0, 4.0, GRIDS[Target.X86], trained=True)
    both = LearnedRange(-3.0, 2.0, GRIDS[Target.TENSORRT], trained=True)
    for learned in (beneath_relu, both):
        with torch.no_grad():
            learned.offset.fill_(-1e6)
    low, high = beneath_relu.bounds().tolist()
    assert low == 0.0
    assert 0.0 < high < 0.1
    low, high = both.bounds().tolist()
    assert low == -high < 0.0


@pytest.mark.parametrize("axis", [0, 1])
def test_fake_quantized_weights_equal_the_engines_weights(axis):
    weight = np.random.default_rng(1).normal(size=(6, 5, 3, 3)).astype(np.float32)
    weight[2] = 0.0
    scales = weight_scales(weight, axis)
    shape = [1] * 4
    shape[axis] = -1
    expected = quantize_weight(weight, scales, axis) * scales.reshape(shape)
    latent = torch.tensor(weight, requires_grad=True)
    actual = fake_quantize_weight(latent, axis)
    np.testing.assert_array_equal(actual.detach().numpy(), expected)
    actual.sum().backward()
    assert torch.equal(latent.grad, torch.ones_like(latent))


def test_folding_keeps_the_outputs_and_rejects_unsupported_models():
    torch.manual_seed(0)
    model = make_model(size=32)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_()
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model.networks(x)
        pairs = fold_batch_norms(model)
        after = model.networks(x)
    assert len(pairs) == 30
    for expected, actual in zip(before, after):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)
    twice = TinyMethod(ModelConfig(image_size=SIZE))
    twice.first[1].running_var.fill_(4.0)
    # One consumer of the convolution is not a BatchNorm.
    twice.networks = lambda x: (twice.first(x), twice.first[0](x))
    with pytest.raises(CheckpointError, match="cannot be folded"):
        fold_batch_norms(twice)


def random(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


OPERATORS = [
    ("Conv", {"pads": [1, 0, 0, 2], "strides": [2, 1], "group": 2}, [random(2, 4, 7, 8), random(6, 2, 3, 3)]),
    (
        "Conv",
        {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
        [random(1, 4, 7, 8), random(3, 4, 3, 3), random(3)],
    ),
    (
        "ConvTranspose",
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
        [random(1, 4, 5, 6), random(4, 3, 3, 3), random(3)],
    ),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, [random(1, 2, 8, 9)]),
    ("MaxPool", {"kernel_shape": [2, 2], "pads": [0, 1, 1, 0]}, [random(1, 2, 8, 9)]),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, [random(1, 2, 8, 8)]),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, [random(1, 2, 8, 9)]),
    ("LeakyRelu", {"alpha": 0.2}, [random(2, 3)]),
    ("Concat", {"axis": 1}, [random(2, 3, 4), random(2, 1, 4)]),
    ("Pad", {}, [random(1, 2, 4, 5), ints(0, 0, 1, 2, 0, 1, 0, 3)]),
    ("Pad", {"mode": "reflect"}, [random(1, 2, 4, 5), ints(0, 0, 1, 2, 0, 0, 0, 3)]),
    ("Slice", {}, [random(4, 6), ints(1, -4), ints(9, -1), ints(0, 1), ints(2, 1)]),
    ("Split", {"axis": 1}, [random(2, 6), ints(2, 4)]),
    ("Reshape", {}, [random(2, 3, 4), ints(0, -1)]),
    ("Transpose", {"perm": [0, 2, 1]}, [random(2, 3, 4)]),
    ("DepthToSpace", {"blocksize": 2}, [random(1, 8, 3, 2)]),
    ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}, [random(1, 8, 3, 2)]),
    ("SpaceToDepth", {"blocksize": 2}, [random(1, 2, 4, 6)]),
    ("Squeeze", {}, [random(2, 1, 3, 1), ints(1, -1)]),
    ("Unsqueeze", {}, [random(2, 3), ints(0, -1)]),
    (
        "Resize",
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
        [random(1, 2, 4, 5), None, np.array([1, 1, 2, 3], np.float32)],
    ),
    (
        "Resize",
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        [random(1, 2, 4, 5), None, np.array([1, 1, 2, 2], np.float32)],
    ),
]


@pytest.mark.parametrize(("kind", "attributes", "values"), OPERATORS, ids=lambda value: str(value)[:20])
def test_operators_equal_onnx_runtime(kind, attributes, values):
    names = ["" if value is None else f"input{i}" for i, value in enumerate(values)]
    outputs = ["a", "b"] if kind == "Split" else ["a"]
    node = helper.make_node(kind, names, outputs, kind, **attributes)
    first = helper.make_tensor_value_info(names[0], TensorProto.FLOAT, values[0].shape)
    constants = [numpy_helper.from_array(v, n) for n, v in list(zip(names, values))[1:] if v is not None]
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph([node], "one", [first], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {names[0]: values[0]})
    made = run_node(node, [None if value is None else torch.from_numpy(value) for value in values])
    for wanted, actual in zip(expected, made if isinstance(made, tuple) else [made]):
        np.testing.assert_allclose(actual.numpy(), wanted, rtol=1e-5, atol=1e-5)


def test_unknown_operator_is_rejected_by_name():
    node = onnx.helper.make_node("Einsum", ["x"], ["y"], "/layer/Einsum", equation="ij->ji")
    with pytest.raises(CheckpointError, match=r"operator Einsum \(/layer/Einsum\)"):
        require_known([node])
