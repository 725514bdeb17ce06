from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from adq_edge.core.errors import AdqError, CheckpointError, DataError, StorageError
from adq_edge.models.base import TrainingDefaults
from adq_edge.models.checkpoint import load_checkpoint, save_checkpoint
from adq_edge.models.config import ModelConfig
from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.models.stfpm import STFPM
from adq_edge.training import settings as settings_module
from adq_edge.training.loader import MEASURING_IMAGES, TrainingImages, measuring_batches, shuffled_batches
from adq_edge.training.settings import Balance, TrainingPrecision
from adq_edge.training.train import train

SIZE = (32, 32)
PER_CATEGORY = 6
SETTINGS = {
    "arch": "stfpm",
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.1,
    "image_size": SIZE,
    "progress": False,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for category, color in (("bolt", (40, 90, 160)), ("tile", (180, 180, 90))):
        folder = root / category / "train" / "good"
        folder.mkdir(parents=True)
        for index in range(PER_CATEGORY):
            noise = rng.integers(-30, 30, (*SIZE, 3))
            image = np.clip(np.asarray(color) + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / f"{index:03}.png"), image)
    return root


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher") / "teacher.pth", seed=1)


def write_teacher(path, seed):
    torch.manual_seed(seed)
    torch.save(ResNet18Trunk().state_dict(), str(path))
    return path


@pytest.fixture(scope="module")
def trained_content(data, teacher, tmp_path_factory):
    output = tmp_path_factory.mktemp("trained") / "model.pt"
    train(data, output=output, teacher_weights=str(teacher), **SETTINGS)
    return output.read_bytes()


@pytest.fixture
def trained(trained_content, tmp_path):
    """Return a checkpoint of two epochs at `run`'s default path."""
    path = tmp_path / "model.pt"
    path.write_bytes(trained_content)
    return path


@pytest.fixture
def run(data, teacher, tmp_path):
    """Train two epochs with batches of 4 at 32x32 pixels, unless a test sets other options."""

    def call(name="model.pt", root=data, **options):
        given = {"teacher_weights": str(teacher), **SETTINGS, **options}
        return train(root, output=tmp_path / name, **given)

    return call


def parts(path, prefix):
    model = load_checkpoint(path).model
    return {key: value for key, value in model.state_dict().items() if key.startswith(prefix)}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def assert_untouched_by(path, error, match, call):
    """Check that `call` fails, leaves the file at `path` unchanged and adds no other file."""
    before = path.read_bytes()
    with pytest.raises(error, match=match):
        call()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def break_step(monkeypatch, at, action):
    """Call `action` with the loss at the `at`-th training step, counted from 1."""
    steps = []
    loss = STFPM.stage_loss

    def broken(model, stage, images):
        steps.append(len(images))
        return action(loss(model, stage, images)) if len(steps) == at else loss(model, stage, images)

    monkeypatch.setattr(STFPM, "stage_loss", broken)


def interrupt(_):
    raise KeyboardInterrupt


def test_loss_decreases_and_settings_are_recorded(run, data, teacher):
    result = run(epochs=6)
    training = load_checkpoint(result.checkpoint).training
    losses = [row["loss"] for row in training["log"]]
    assert losses[-1] < 0.8 * losses[0]
    assert (result.loss, result.epochs) == (losses[-1], len(losses))
    assert (result.epochs, result.images, result.resumed_from) == (6, 2 * PER_CATEGORY, 0)
    settings = training["settings"]
    assert settings["data"] == str(data.resolve())
    assert settings["categories"] == ("bolt", "tile")
    assert settings["teacher"] == str(teacher.resolve())
    assert len(settings["teacher_sha256"]) == 64


def test_training_changes_only_the_student(run, teacher):
    result = run(epochs=1)
    assert_equal(
        {f"teacher.{key}": value for key, value in torch.load(str(teacher), weights_only=True).items()},
        parts(result.checkpoint, "teacher."),
    )
    torch.manual_seed(0)
    fresh = ResNet18Trunk().state_dict()
    trained = parts(result.checkpoint, "student.")
    assert int(trained["student.bn1.num_batches_tracked"]) == 3
    assert not torch.equal(trained["student.conv1.weight"], fresh["conv1.weight"])


def test_method_defaults_equal_the_studys_settings(run, monkeypatch):
    defaults = TrainingDefaults(epochs=1, batch_size=3, learning_rate=0.05)
    monkeypatch.setattr(STFPM, "training_defaults", defaults)
    result = run(epochs=None, batch_size=None, learning_rate=None)
    settings = load_checkpoint(result.checkpoint).training["settings"]
    assert {key: settings[key] for key in ("epochs", "batch_size", "learning_rate")} == {
        "epochs": 1,
        "batch_size": 3,
        "learning_rate": 0.05,
    }


def test_same_seed_gives_the_same_weights(run, trained):
    assert_equal(parts(trained, ""), parts(run("same.pt").checkpoint, ""))
    first = load_checkpoint(trained).training["log"][0]["loss"]
    assert run("other.pt", seed=7, epochs=1).loss != first


def test_training_on_all_or_one_category(run, data):
    single = run("single.pt", categories=["tile"], epochs=1)
    own_folder = run("own.pt", root=data / "tile", epochs=1)
    unified = run("unified.pt", epochs=1)
    assert (single.images, own_folder.images, unified.images) == (
        PER_CATEGORY,
        PER_CATEGORY,
        2 * PER_CATEGORY,
    )
    assert own_folder.loss == single.loss != unified.loss


def test_default_output_paths_are_in_the_working_folder(data, teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = {**SETTINGS, "epochs": 1, "teacher_weights": str(teacher)}
    unified, single = train(str(data), **options), train(str(data), categories=["tile"], **options)
    names = [result.checkpoint.as_posix() for result in (unified, single)]
    assert names == ["checkpoints/stfpm.pt", "checkpoints/stfpm-tile.pt"]
    assert all(result.checkpoint.is_file() for result in (unified, single))


@pytest.mark.parametrize("precision", [TrainingPrecision.FLOAT32, TrainingPrecision.BFLOAT16])
def test_resumed_training_gives_the_same_weights(run, precision):
    whole = run("whole.pt", epochs=3, precision=precision)
    run("part.pt", epochs=1, precision=precision)
    torch.manual_seed(99)  # random numbers drawn between two runs must not matter
    part = run("part.pt", epochs=3, precision=precision)
    assert part.resumed_from == 1
    one, other = load_checkpoint(whole.checkpoint), load_checkpoint(part.checkpoint)
    assert [row["loss"] for row in one.training["log"]] == [row["loss"] for row in other.training["log"]]
    assert_equal(one.model.state_dict(), other.model.state_dict())
    states = [checkpoint.training["optimizer"]["state"] for checkpoint in (one, other)]
    for index, state in states[0].items():
        assert torch.equal(state["momentum_buffer"], states[1][index]["momentum_buffer"])


def test_complete_training_returns_without_a_step(run, trained, monkeypatch):
    break_step(monkeypatch, 1, interrupt)
    again = run()
    assert (again.epochs, again.resumed_from) == (2, 2)
    assert again.loss == load_checkpoint(trained).training["log"][-1]["loss"]


@pytest.mark.parametrize("progress", [True, False])
def test_resuming_is_reported_only_with_progress(run, trained, capfd, progress):
    run(epochs=3, progress=progress)
    captured = capfd.readouterr()
    assert ("continuing after epoch 2 of 3" in captured.err) is progress
    assert ("loss" in captured.err) is progress
    assert captured.out == ""


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 3}, "batch size 4, not 3"),
        ({"learning_rate": 0.2}, "learning rate 0.1, not 0.2"),
        ({"seed": 5}, "seed 0, not 5"),
        ({"categories": ["bolt"]}, r"categories \('bolt', 'tile'\), not \('bolt',\)"),
        ({"image_size": (48, 32)}, r"image size \(32, 32\), not \(48, 32\)"),
        ({"precision": TrainingPrecision.BFLOAT16}, "precision 'auto', not 'bfloat16'"),
        ({"epochs": 1}, "epochs 2, not 1"),
    ],
)
def test_resuming_rejects_other_settings(run, trained, options, match):
    assert_untouched_by(trained, CheckpointError, f"{match}.*--restart", lambda: run(**options))


def test_resuming_rejects_another_teacher_and_accepts_a_moved_file(run, trained, teacher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers")
    other = write_teacher(folder / "other.pth", seed=2)
    assert_untouched_by(trained, CheckpointError, "another teacher", lambda: run(teacher_weights=str(other)))
    moved = folder / "moved.pth"
    moved.write_bytes(teacher.read_bytes())
    assert run(teacher_weights=str(moved)).resumed_from == 2


def test_failure_of_the_device_is_not_called_a_damaged_checkpoint(run, trained, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("CUDA error: device lost")

    monkeypatch.setattr("adq_edge.training.trainer.StageSteps", fail)
    with pytest.raises(RuntimeError, match="device lost"):
        run(epochs=3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda training: training["log"].append({"loss": 1}),
        lambda training: training["optimizer"].clear(),
        lambda training: training.update(latest={"student.conv1.weight": torch.zeros(1)}),
        lambda training: training.pop("scaler"),
    ],
)
def test_damaged_training_state_is_refused_in_one_line(run, trained, damage):
    content = torch.load(str(trained), weights_only=True)
    damage(content["training"])
    torch.save(content, str(trained))
    complaint = "its training state cannot be read.*--restart"
    assert_untouched_by(trained, CheckpointError, complaint, lambda: run(epochs=3))


def test_restart_replaces_the_checkpoint(run, trained):
    assert run(seed=2, epochs=1, resume=False).resumed_from == 0
    assert run(seed=2, epochs=1).resumed_from == 1


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("kind", ["image", "truncated", "official", "untrained"])
def test_foreign_file_is_never_replaced(run, tmp_path, kind, resume):
    path = tmp_path / "model.pt"
    model = STFPM(ModelConfig(image_size=SIZE))
    if kind == "image":
        cv2.imwrite(str(tmp_path / "model.png"), np.zeros((8, 8, 3), np.uint8))
        (tmp_path / "model.png").rename(path)
    elif kind == "truncated":
        save_checkpoint(path, model, {})
        path.write_bytes(path.read_bytes()[:100_000])
    elif kind == "official":
        torch.save({"state_dict": {"model.6.1.conv2.weight": torch.zeros(1)}}, str(path))
    else:
        save_checkpoint(path, model, {})
    assert_untouched_by(path, CheckpointError, "not replaced", lambda: run(resume=resume))


def test_output_that_is_a_folder_is_rejected(run, tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        run(".")


def test_interrupt_in_the_first_epoch_leaves_no_file(run, tmp_path, monkeypatch):
    break_step(monkeypatch, 2, interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(tmp_path.iterdir()) == []


def test_interrupt_in_a_later_epoch_keeps_the_last_checkpoint(run, trained, monkeypatch):
    break_step(monkeypatch, 2, interrupt)
    assert_untouched_by(trained, KeyboardInterrupt, None, lambda: run(epochs=3))


def test_full_disk_keeps_the_old_checkpoint(run, trained, full_disk):
    full_disk()
    assert_untouched_by(trained, StorageError, "no space left.*Free some space", lambda: run(epochs=3))


def test_divergence_keeps_the_last_good_checkpoint(run, trained, monkeypatch):
    break_step(monkeypatch, 2, lambda loss: loss * float("nan"))
    match = "diverged in epoch 3.*keeps epoch 2.*lower --learning-rate"
    assert_untouched_by(trained, CheckpointError, match, lambda: run(epochs=4))


def test_infinite_weights_are_not_saved(run, tmp_path, monkeypatch):
    def infinite_gradient(loss):
        loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss

    break_step(monkeypatch, 3, infinite_gradient)  # in the epoch's last step, so every loss is finite
    with pytest.raises(CheckpointError, match="diverged in epoch 1"):
        run()
    assert list(tmp_path.iterdir()) == []


def test_unreadable_image_is_named(run, data, tmp_path):
    root = tmp_path / "data"
    good = root / "bolt" / "train" / "good"
    good.mkdir(parents=True)
    for name in ("000.png", "001.png"):
        (good / name).write_bytes((data / "bolt" / "train" / "good" / name).read_bytes())
    (good / "002.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"002\.png: not a readable image"):
        run(root=root)


def test_training_rejects_a_single_image(run, data, tmp_path):
    good = tmp_path / "data" / "bolt" / "train" / "good"
    good.mkdir(parents=True)
    (good / "000.png").write_bytes((data / "bolt" / "train" / "good" / "000.png").read_bytes())
    with pytest.raises(DataError, match="at least 2"):
        run(root=tmp_path / "data")


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"batch_size": 1}, {"learning_rate": float("nan")}, {"seed": -1}]
)
def test_options_out_of_range_are_rejected(run, options):
    with pytest.raises(AdqError, match=r"^--"):
        run(**options)


def test_batches_are_full_and_contain_no_repeated_image():
    batches = shuffled_batches([6, 4], 4)
    assert [len(batch) for batch in batches] == [4, 4]
    assert len({index for batch in batches for index in batch}) == 8
    assert sorted(shuffled_batches([3], 32)[0]) == [0, 1, 2]


def test_balanced_batches_draw_from_all_categories_equally():
    batches = shuffled_batches([3, 20, 7], 10, Balance.CATEGORIES)
    times = np.bincount(np.concatenate(batches), minlength=30)
    parts = np.split(times, [3, 23])
    assert [part.sum() for part in parts] == [10, 10, 10]
    assert all(part.max() - part.min() <= 1 for part in parts)
    assert len({index // 10 for index in batches[0]}) > 1  # shuffled
    assert batches != shuffled_batches([3, 20, 7], 10, Balance.CATEGORIES)


def test_resuming_rejects_another_balance(run):
    plain, balanced = run("plain.pt"), run("balanced.pt", balance="categories")
    assert balanced.loss != plain.loss
    with pytest.raises(CheckpointError, match="balance 'none', not 'categories'"):
        run("plain.pt", balance="categories")


def test_images_read_from_disk_equal_images_in_memory(data):
    paths = sorted(data.glob("*/train/good/*.png"))
    indices = [[3, 1, 4], [1, 5, 9], [2, 6, 0]]
    read = []
    kept = TrainingImages(paths, (16, 48), read.append)
    streamed = TrainingImages(paths, (16, 48), read.append, memory_limit=1000)
    assert sum(read) == len(paths)
    pairs = list(zip(kept.batches(indices), streamed.batches(indices)))
    assert len(pairs) == len(indices)
    for one, other in pairs:
        assert one.shape == (3, 16, 48, 3)
        assert torch.equal(one, other)


def test_measuring_batches_sample_the_images_evenly():
    few, many = measuring_batches(5, 2), measuring_batches(389, 16)
    assert few == [[0, 1], [2, 3], [4]]
    assert [index for batch in many for index in batch] == list(range(0, 389, 4))
    assert {len(batch) for batch in many[:-1]} == {16}
    assert sum(map(len, measuring_batches(10**4, 64))) <= MEASURING_IMAGES


@pytest.mark.parametrize(("fast", "expected"), [(True, True), (False, False)])
def test_auto_precision_depends_on_the_cpu(monkeypatch, fast, expected):
    monkeypatch.setattr(settings_module, "_multiplies_bfloat16", lambda: fast)
    assert TrainingPrecision.AUTO.uses_bfloat16(torch.device("cpu")) is expected
    assert TrainingPrecision.AUTO.uses_bfloat16(torch.device("cuda")) is False
    assert TrainingPrecision.FLOAT32.uses_bfloat16(torch.device("cpu")) is False
