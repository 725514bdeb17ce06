from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from sklearn.metrics import roc_auc_score
from torch import nn
from typer.testing import CliRunner

from adq_edge.cli import app
from adq_edge.core.errors import AdqError, CheckpointError, DataError
from adq_edge.core.images.imaging import load_image
from adq_edge.datasets.dataset import read_dataset
from adq_edge.models import registry
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.onnx_export.export import export
from adq_edge.training.best_weights import BestWeights
from adq_edge.training.data import ImageSets
from adq_edge.training.settings import Selection
from adq_edge.training.sync_batch_norm import SyncBatchNorm, synchronize_batch_norms
from adq_edge.training.train import train, train_each
from factories.two_stages import QuietStages, TwoStages

SIZE = (32, 32)
IMAGES = 11  # one of them is held out
CATEGORIES = ("bolt", "tile")
SETTINGS = {"arch": "stfpm", "batch_size": 5, "image_size": SIZE, "progress": False}
# The validation loss of a whole STFPM then rises after epoch 1; float32 gives this on any machine.
OVERFITS = {"learning_rate": 0.001, "precision": "float32"}


pytestmark = pytest.mark.usefixtures("one_thread")


def write_data(root: Path) -> Path:
    generator = np.random.default_rng(0)
    for category, color in zip(CATEGORIES, ((40, 90, 160), (180, 180, 90))):
        for kind, count in (("train/good", IMAGES), ("test/good", 3), ("test/spot", 3)):
            folder = root / category / kind
            folder.mkdir(parents=True)
            for index in range(count):
                image = np.clip(np.asarray(color) + generator.integers(-30, 30, (*SIZE, 3)), 0, 255)
                if kind == "test/spot":
                    image[10:13, 10:13] += 40
                cv2.imwrite(str(folder / f"{index:03}.png"), image.clip(0, 255).astype(np.uint8))
    return root


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth")


def write_teacher(path: Path) -> Path:
    torch.manual_seed(1)
    torch.save(ResNet18Trunk().state_dict(), str(path))
    return path


@pytest.fixture
def whole_networks(tmp_path, monkeypatch):
    """Return the teacher's weights for a training of networks with all channels."""
    monkeypatch.setattr("adq_edge.models.resnet.PLANES", (64, 128, 256))
    return {"teacher_weights": str(write_teacher(tmp_path / "teacher.pth"))}


@pytest.fixture
def run(data, teacher, tmp_path):
    def call(name="model.pt", root=data, **options):
        given = {"teacher_weights": str(teacher), "epochs": 3, **SETTINGS, **options}
        return train(root, output=tmp_path / name, **given)

    return call


@pytest.fixture
def two_stages(monkeypatch):
    monkeypatch.setitem(registry.METHODS, TwoStages.arch, TwoStages)
    return {"arch": TwoStages.arch, "learning_rate": None, "epochs": 4}


def interrupt_step(monkeypatch, number):
    """Raise KeyboardInterrupt at the `number`-th call of `stage_loss`, counted from 1."""
    calls = []
    loss = TwoStages.stage_loss

    def interrupted(model, stage, images):
        calls.append(stage.name)
        if len(calls) == number:
            raise KeyboardInterrupt
        return loss(model, stage, images)

    monkeypatch.setattr(TwoStages, "stage_loss", interrupted)
    return calls


def rows(path):
    with path.open(newline="") as file:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]


def content(path):
    """Return the checkpoint entries that must not depend on interruptions, flattened."""
    whole = torch.load(str(path), weights_only=True)
    parts = {f"model.{key}": value for key, value in whole["model"].items()}
    parts.update({f"latest.{key}": value for key, value in whole["training"]["latest"].items()})
    for index, state in whole["training"]["optimizer"]["state"].items():
        parts.update({f"optimizer.{index}.{key}": value for key, value in state.items()})
    return parts


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(other[key])), key


def test_stages_run_in_order_and_resume_with_the_same_weights(run, two_stages, tmp_path, monkeypatch):
    """Interruptions in every epoch and between stages do not change the weights or the log."""
    calls = interrupt_step(monkeypatch, 0)
    whole = run("whole.pt", **two_stages)
    per_epoch = 4 + 1  # steps and the batch of the validation images
    assert calls == ["first"] * 2 * per_epoch + ["second"] * 4 * per_epoch
    assert [row["stage"] for row in rows(whole.log)] == ["first"] * 2 + ["second"] * 4
    for epoch in (2, 3, 4, 6):
        with pytest.MonkeyPatch.context() as patch:
            interrupt_step(patch, (epoch - 1) * per_epoch + 3)
            with pytest.raises(KeyboardInterrupt):
                run(f"part{epoch}.pt", **two_stages)
        torch.manual_seed(99)  # random numbers drawn between two runs must not matter
        part = run(f"part{epoch}.pt", **two_stages)
        assert part.resumed_from == epoch - 1
        assert rows(part.log) == rows(whole.log)
        assert_same(content(part.checkpoint), content(whole.checkpoint))


def test_completed_training_does_not_repeat_the_last_stages_measurements(run, two_stages, tmp_path):
    result = run(**two_stages)
    before = content(result.checkpoint)
    assert before["model.offset"] != 0
    assert run(**two_stages).resumed_from == 6
    assert_same(content(result.checkpoint), before)


def test_export_of_an_interrupted_training_measures_the_missing_statistics(run, two_stages, tmp_path):
    """Earlier stages, other categories and held-out images are not measured again."""

    def interrupt(weights, change):
        raise KeyboardInterrupt

    options = {**two_stages, "categories": ["tile"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BestWeights, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(**options)
    before = export(tmp_path / "model.pt", tmp_path / "before")
    run(**options)
    after = export(tmp_path / "model.pt", tmp_path / "after")
    tensors = [
        {
            tensor.name: numpy_helper.to_array(tensor)
            for tensor in onnx.load(str(made.model)).graph.initializer
        }
        for made in (before, after)
    ]
    assert tensors[0].keys() == tensors[1].keys()
    for name, value in tensors[0].items():
        exact = value.ndim > 1  # weights are equal; measured statistics are summed in another order
        np.testing.assert_allclose(tensors[1][name], value, rtol=0 if exact else 1e-5, err_msg=name)


def test_resuming_rejects_more_epochs_for_an_earlier_stage(run, two_stages):
    run(**two_stages)
    with pytest.raises(CheckpointError, match=r"epochs 2 of stage 'first', but --epochs .*--restart"):
        run(**{**two_stages, "epochs": 8})


def test_decaying_learning_rate_resumes_exactly_and_rejects_other_epochs(run, two_stages, monkeypatch):
    whole = run("whole.pt", decay="cosine", **two_stages)
    rates = [float(row["learning_rate"]) for row in rows(whole.log)]
    cosine = [0.5 * (1 + np.cos(np.pi * part)) for part in (0, 1 / 2, 0, 1 / 4, 1 / 2, 3 / 4)]
    assert rates == pytest.approx(0.05 * np.array(cosine))
    with pytest.MonkeyPatch.context() as patch:
        interrupt_step(patch, 23)
        with pytest.raises(KeyboardInterrupt):
            run("part.pt", decay="cosine", **two_stages)
    part = run("part.pt", decay="cosine", **two_stages)
    assert rows(part.log) == rows(whole.log)
    assert_same(content(part.checkpoint), content(whole.checkpoint))
    with pytest.raises(CheckpointError, match="epochs 4, not 5, over which its learning rate falls"):
        run("part.pt", decay="cosine", **{**two_stages, "epochs": 5})


def test_training_with_more_epochs_gives_the_same_weights_as_one_run(run):
    """The number of epochs increases after a finished run whose best epoch stays the best."""
    run("part.pt", epochs=2, **OVERFITS)
    part, whole = run("part.pt", epochs=3, **OVERFITS), run("whole.pt", epochs=3, **OVERFITS)
    assert rows(part.log) == rows(whole.log)
    assert_same(content(part.checkpoint), content(whole.checkpoint))


def test_early_stopping_keeps_the_best_epoch(run, whole_networks, capfd):
    settings = {**OVERFITS, **whole_networks}
    first = run("first.pt", epochs=1, **settings)
    result = run(epochs=10, early_stopping=2, **{**settings, "progress": True})
    assert "stopped early after epoch 3/10: no improvement over epoch 1" in " ".join(
        capfd.readouterr().err.split()
    )
    assert (result.epochs, result.best_epoch, result.images) == (3, 1, 2 * (IMAGES - 1))
    losses = [float(row["validation_loss"]) for row in rows(result.log)]
    assert result.validation_loss == losses[0] == min(losses)
    assert result.stopped is not None
    one, other = load_checkpoint(first.checkpoint).model, load_checkpoint(result.checkpoint).model
    assert_same(one.state_dict(), other.state_dict())
    assert run(epochs=10, early_stopping=2, **settings).resumed_from == 3


def test_validation_loss_uses_the_held_out_images(run, data):
    result = run(epochs=1, validation=0.3, seed=3, **OVERFITS)
    sets = ImageSets.of(read_dataset(data), 0.3, 3, Selection.LOSS)
    model = load_checkpoint(result.checkpoint).model.eval()
    batch = torch.from_numpy(np.stack([load_image(path, SIZE) for path in sets.validation]))
    with torch.no_grad():
        expected = model.loss(model.networks(model.normalize(batch))).item()
    assert result.validation_loss == pytest.approx(expected, rel=1e-5)
    assert run("none.pt", epochs=1, validation=0.0).validation_loss is None


@pytest.mark.parametrize(("part", "expected"), [(0.0, 0), (0.05, 1), (0.1, 1), (0.5, 5), (0.8, 8)])
def test_validation_split_is_disjoint_seeded_and_per_category(data, part, expected):
    dataset = read_dataset(data)
    sets = ImageSets.of(dataset, part, 5, Selection.LOSS)
    assert not set(sets.training) & set(sets.validation)
    assert sorted([*sets.training, *sets.validation]) == dataset.train_images
    assert list(sets.training) == [path for path in dataset.train_images if path in sets.training]
    for category in dataset.categories:
        own = [path for path in sets.validation if path in category.train]
        assert len(own) == expected
        alone = read_dataset(data, [category.name])
        assert list(ImageSets.of(alone, part, 5, Selection.LOSS).validation) == own
    if 0 < expected < IMAGES - 1:
        assert ImageSets.of(dataset, part, 6, Selection.LOSS).validation != sets.validation


def test_selection_by_auroc_keeps_the_best_epoch(run, data):
    result = run(select="auroc", epochs=4, learning_rate=0.02)
    logged = [float(row["auroc"]) for row in rows(result.log)]
    assert result.best_epoch == 1 + logged.index(max(logged))
    model = load_checkpoint(result.checkpoint).model.eval()
    areas = []
    for category in read_dataset(data).categories:
        batch = torch.from_numpy(np.stack([load_image(sample.path, SIZE) for sample in category.test]))
        with torch.no_grad():
            scores = model(batch)[1].numpy()
        areas.append(roc_auc_score([sample.is_anomalous for sample in category.test], scores))
    assert result.auroc == max(logged) == pytest.approx(np.mean(areas))


def test_auroc_is_measured_on_the_finished_model(run, two_stages, data):
    """The final statistics are measured for each AUROC measurement, then restored."""
    by_auroc = run("auroc.pt", select="auroc", **two_stages)
    by_loss = run("loss.pt", **two_stages)
    assert [row["loss"] for row in rows(by_auroc.log)] == [row["loss"] for row in rows(by_loss.log)]
    assert [row["auroc"] != "" for row in rows(by_auroc.log)] == [False] * 2 + [True] * 4


def test_auroc_selection_requires_labeled_images(run, data, tmp_path):
    root = tmp_path / "bare"
    (root / "bolt" / "train").mkdir(parents=True)
    (root / "bolt" / "train" / "good").symlink_to(data / "bolt" / "train" / "good")
    with pytest.raises(DataError, match="no category has both normal and defective test images"):
        run(root=root, select="auroc")


def test_resuming_rejects_changed_images(run, tmp_path):
    root = write_data(tmp_path / "data")
    run(root=root, epochs=1)
    path = root / "tile" / "train" / "good" / "000.png"
    image = path.read_bytes()
    other = (root / "tile" / "train" / "good" / "001.png").read_bytes()
    path.write_bytes(other)
    with pytest.raises(CheckpointError, match=r"model\.pt: was trained with other images .*--restart"):
        run(root=root)
    path.write_bytes(image)
    assert run(root=root, epochs=2).resumed_from == 1
    path.rename(path.with_name("renamed.png"))
    with pytest.raises(CheckpointError, match="other images"):
        run(root=root)


def test_method_options_are_stored_and_compared_when_resuming(run, two_stages):
    result = run(**two_stages, options={"width": 2})
    model = load_checkpoint(result.checkpoint)
    assert model.model.config.options == model.training["settings"]["options"] == {"width": 2}
    with pytest.raises(CheckpointError, match="was trained with width 2, not 4"):
        run(**two_stages)
    assert run(**two_stages, options={"width": 2}).resumed_from == 6


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--patch", "33"], "paste has no option 'patch'. Its options: shared, layers, width."),
        (["--arch", "uninformed-students", "--patch", "40"], "patch is 40. There are networks for"),
        (
            ["--arch", "uninformed-students", "--option", "border=round"],
            "border is 'round'. Choose one of: inside",
        ),
        (["--option", "border"], "--option border does not have the form NAME=VALUE. For example"),
        (["--precision", "int4"], "'int4' is not a valid training precision. Use one of: auto, float32"),
        (["--precision", "float16"], "--precision: float16 needs a CUDA device"),
        (["--compile"], "--compile: needs a CUDA device"),
        (["--select", "best"], "'best' is not a valid selection. Use one of: loss, auroc."),
        (["--validation", "1"], "--validation: needs a fraction from 0 to below 1."),
        (["--validation", "0", "--early-stopping", "2"], "--early-stopping: no validation images"),
        (["--early-stopping", "0"], "--early-stopping: needs at least 1 epoch."),
        (
            ["--image-size", "5000"],
            "--image-size: the model's image size is 5000x5000 pixels; the limits are",
        ),
        (["--batch-size", "1"], "--batch-size: BatchNorm needs at least 2 images per batch."),
        (["--output", "log.csv"], "log.csv: is the name of the log beside the checkpoint"),
    ],
)
def test_invalid_option_is_rejected_with_one_line(data, teacher, tmp_path, monkeypatch, arguments, complaint):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    common = ["train", "--data", str(data), "--teacher-weights", str(teacher), "--image-size", "32"]
    result = CliRunner().invoke(app, [*common, *arguments])
    assert result.exit_code == 2
    assert complaint in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_foreign_csv_file_is_not_replaced(run, tmp_path):
    (tmp_path / "model.csv").write_text("part,weight\nbolt,3\n")
    with pytest.raises(CheckpointError, match=r"model\.csv: is not a training log, and is not replaced"):
        run()


def test_one_class_training_resumes_and_names_the_failing_category(data, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {"teacher_weights": str(teacher), "epochs": 1, **SETTINGS}
    alone = train(data, categories=["tile"], output=tmp_path / "alone.pt", **options)
    first, second = train_each(data, **options)
    assert [result.checkpoint.as_posix() for result in (first, second)] == [
        "checkpoints/stfpm-bolt.pt",
        "checkpoints/stfpm-tile.pt",
    ]
    assert second.loss == alone.loss != first.loss
    assert [result.resumed_from for result in train_each(data, **options)] == [1, 1]
    (tmp_path / "checkpoints" / "stfpm-tile.pt").write_bytes(b"no checkpoint")
    with pytest.raises(AdqError, match=r"stfpm-tile\.pt: category 'tile': .*not replaced"):
        train_each(data, **options)


WORKER = """
import sys

import torch
import torch.distributed as dist
from factories.two_stages import QuietStages
from torch import nn

from adq_edge.models import resnet
from adq_edge.models.registry import METHODS
from adq_edge.training.distributed import open_process_group
from adq_edge.training.train import train
from adq_edge.training.sync_batch_norm import synchronize_batch_norms

torch.set_num_threads(1)
resnet.PLANES = (64, 64, 64)
data, teacher, output, stages, norms = sys.argv[1:]
METHODS[QuietStages.arch] = QuietStages
with open_process_group() as processes:
    given = torch.load(norms)
    module = nn.Sequential(nn.BatchNorm2d(3)).double().train()
    module.load_state_dict(given["state"])
    synchronize_batch_norms(module, processes.device)
    own = given["input"][:5] if processes.is_first else given["input"][5:]
    own.requires_grad_()
    result = module(own)
    weights = given["weights"][:5] if processes.is_first else given["weights"][5:]
    torch.autograd.backward((result * weights).sum())
    found = {"output": result, "gradient": own.grad, "state": module.state_dict()}
    torch.save(found, f"{norms}.{processes.rank}")
    train(data, output=output, arch="stfpm", teacher_weights=teacher, epochs=3, batch_size=5,
          image_size=(32, 32), learning_rate=0.001, precision="float32", progress=True)
    train(data, output=stages, arch=QuietStages.arch, teacher_weights=teacher, epochs=4, batch_size=5,
          image_size=(32, 32), precision="float32", progress=False)
"""


def test_two_processes_give_the_same_weights_as_one_process(run, data, teacher, tmp_path, monkeypatch):
    """torchrun resumes after one process's first epoch; the processes' parts of a batch differ in size.

    The learning rate is small because training amplifies rounding differences from the order of sums.
    """
    one = run("one.pt", **OVERFITS)
    two = run("two.pt", **OVERFITS, epochs=1)
    monkeypatch.setitem(registry.METHODS, QuietStages.arch, QuietStages)
    stages = run("stages.pt", arch=QuietStages.arch, epochs=4, precision="float32")
    generator = torch.Generator().manual_seed(0)
    images = 5.0 + torch.randn(8, 3, 4, 6, dtype=torch.float64, generator=generator)
    weights = torch.randn(images.shape, dtype=torch.float64, generator=generator)
    reference = nn.Sequential(nn.BatchNorm2d(3)).double().train()
    nn.init.normal_(reference[0].weight, generator=generator)
    norms = tmp_path / "norms"
    torch.save({"state": reference.state_dict(), "input": images, "weights": weights}, str(norms))
    (tmp_path / "worker.py").write_text(WORKER)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    joint = tmp_path / "joint.pt"
    arguments = [data, teacher, two.checkpoint, joint, norms]
    finished = subprocess.run(
        [*command, str(tmp_path / "worker.py"), *map(str, arguments)],
        cwd=str(tmp_path),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr.count("continuing after epoch 1") == 1
    for log, other_log, epochs in ((one.log, two.log, 3), (stages.log, joint.with_suffix(".csv"), 2 + 4)):
        assert len(rows(log)) == len(rows(other_log)) == epochs
        for row, other in zip(rows(log), rows(other_log)):
            assert row["stage"] == other["stage"]
            for key in ("loss", "validation_loss"):
                assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-4)
    own, other = (load_checkpoint(path).model.state_dict() for path in (stages.checkpoint, joint))
    for key, value in own.items():
        torch.testing.assert_close(other[key], value, rtol=1e-3, atol=1e-5)

    images.requires_grad_()
    expected = reference(images)
    torch.autograd.backward((expected * weights).sum())
    parts = [torch.load(f"{norms}.{rank}") for rank in (0, 1)]
    torch.testing.assert_close(torch.cat([part["output"] for part in parts]), expected)
    torch.testing.assert_close(torch.cat([part["gradient"] for part in parts]), images.grad)
    for part in parts:
        for key, value in reference.state_dict().items():
            torch.testing.assert_close(part["state"][key], value)


COMMAND = """
from adq_edge.cli import main
from adq_edge.models import resnet

resnet.PLANES = (64, 64, 64)
main()
"""


def test_all_processes_end_after_an_error_and_one_reports_it(data, teacher, tmp_path):
    """An image of the second process is damaged; the first process ends with the same exit code."""
    bad = write_data(tmp_path / "bad")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (bad / "tile" / "train" / "good" / "005.png").write_bytes(b"no image")
    common = [
        "--teacher-weights",
        str(teacher),
        "--image-size",
        "32",
        "--epochs",
        "2",
        "--output",
        "model.pt",
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", COMMAND, "train", "--data", str(root), *common],
            cwd=str(tmp_path),
            env={
                **os.environ,
                "RANK": str(rank),
                "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, root in enumerate((data, bad))
    ]
    try:
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [2, 2], outputs
    lines = [line for output in outputs for line in output.splitlines() if line.startswith("adq-edge:")]
    assert lines == [
        "adq-edge: process 1 and process 0 have different settings, images or teachers. "
        "Give every process the same command and the same files."
    ]
    assert not (tmp_path / "model.pt").exists()


def test_synchronized_norm_equals_batch_norm_in_evaluation_mode():
    module = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    x = torch.randn(2, 3, 5, 5)
    with torch.no_grad():
        expected = module(x)
        synchronize_batch_norms(module, torch.device("cpu"))
        assert isinstance(module[1], SyncBatchNorm)
        assert torch.equal(module(x), expected)
