"""The features of the frozen teacher are computed once for each image, wherever they are kept."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest
import torch

from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.paste import PaSTe
from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.training.feature_store import DiskStore, _free_bytes, open_store
from adq_edge.training.train import train
from factories.images import write_dataset

IMAGES, EPOCHS = 12, 3
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Train on 12 images, 2 of them held out; return weights, result and number of computed features."""
    root = tmp_path_factory.mktemp("frozen")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adq_edge.models.resnet.PLANES", (64, 64, 64))
        torch.manual_seed(1)
        torch.save(ResNet18Trunk().state_dict(), str(root / "teacher.pth"))
        data = write_dataset(root / "data", categories=2)
        computed = []
        frozen = PaSTe.frozen_features

        def count(model, images):
            computed.append(len(images))
            return frozen(model, images)

        patch.setattr(PaSTe, "frozen_features", count)

        def call(name, seed=0):
            computed.clear()
            result = train(
                data,
                output=root / name,
                arch="paste",
                teacher_weights=str(root / "teacher.pth"),
                image_size=(32, 32),
                epochs=EPOCHS,
                batch_size=4,
                validation=0.17,
                seed=seed,
            )
            return load_checkpoint(result.checkpoint).model.state_dict(), result, sum(computed)

        yield call


@pytest.fixture(scope="module")
def in_memory(run):
    return run("memory.pt")


def assert_same(one, other):
    assert (one[1].loss, one[1].validation_loss) == (other[1].loss, other[1].validation_loss)
    for key, value in one[0].items():
        assert torch.equal(value, other[0][key]), key


def printed(capfd):
    """Return standard error as one line."""
    return " ".join(capfd.readouterr().err.split())


def without_memory(monkeypatch):
    monkeypatch.setattr("adq_edge.training.inputs.image_memory_limit", lambda processes: 0)


def test_the_teacher_computes_each_image_once(in_memory):
    assert in_memory[2] == IMAGES + 1  # an image of zeros, to find the shapes


def test_features_on_disk_give_bit_identical_weights(run, in_memory, monkeypatch, capfd):
    without_memory(monkeypatch)
    on_disk = run("disk.pt")
    assert_same(in_memory, on_disk)
    assert on_disk[2] == in_memory[2]
    assert "the teacher's features take 0.0 GB in " in printed(capfd)


def test_without_room_on_disk_features_are_computed_in_every_epoch_with_the_same_result(
    run, in_memory, monkeypatch, capfd
):
    without_memory(monkeypatch)
    monkeypatch.setattr("adq_edge.training.feature_store._SHARE_OF_DISK", 0.0)
    again = run("again.pt")
    assert_same(in_memory, again)
    assert again[2] > 2 * IMAGES
    assert printed(capfd).count("computed again in every epoch. To keep them, set TMPDIR") == 1


def test_a_disk_that_fills_up_prints_one_line_and_changes_no_number(run, in_memory, monkeypatch, capfd):
    without_memory(monkeypatch)
    write, calls = os.pwrite, []

    def fail(*arguments):
        if len(arguments[1]) > 10_000:  # features, not what other files are written with
            calls.append(arguments)
        if len(calls) > 5 and len(arguments[1]) > 10_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*arguments)

    monkeypatch.setattr(os, "pwrite", fail)
    full = run("full.pt")
    assert_same(in_memory, full)
    assert len(calls) == 6
    assert printed(capfd).count("no space left on device. No more of the teacher's features are kept") == 1


def test_a_training_with_another_seed_uses_its_own_features(run, in_memory):
    other = run("seed.pt", seed=1)
    assert other[2] == in_memory[2]
    assert other[1].loss != in_memory[1].loss


def test_stores_of_all_processes_take_at_most_half_of_the_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    values, notes = int(0.3 * _free_bytes(str(tmp_path)) / 4), []
    store = open_store(1, values, 0, notes.append)
    assert isinstance(store, DiskStore)
    store.close()
    assert open_store(1, values, 0, notes.append, processes=2) is None
    assert len(notes) == 2
    assert "of which half may be used" in notes[1]


def test_store_that_the_process_may_not_allocate_is_not_kept_in_memory():
    notes = []
    assert open_store(1, 2**58, 2**62, notes.append) is None  # numpy raises MemoryError
    assert len(notes) == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs at a known place")
def test_store_in_a_tmpfs_takes_at_most_half_of_the_usable_memory(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    monkeypatch.setattr("adq_edge.training.feature_store.usable_memory_mb", lambda: 1.0)
    notes = []
    assert open_store(1, 200_000, 0, notes.append) is None
    store = open_store(1, 100_000, 0, notes.append)
    assert isinstance(store, DiskStore)
    store.close()
