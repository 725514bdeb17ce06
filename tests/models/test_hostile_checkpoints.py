from __future__ import annotations

import collections
import contextlib
import os
import pickle
import random
import signal
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict

import pytest
import torch

from adq_edge.core.errors import AdqError, CheckpointError, StorageError
from adq_edge.core.files import write_bytes, write_together
from adq_edge.models.anomalib_settings import read_settings
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.pickles import Record
from adq_edge.models.torch_files import read_torch_file
from factories.images import leftovers
from factories.limits import little_memory

HUGE = 2**33


def rewritten(
    path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED
) -> Path:
    """Write the archive again with changed entries."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


def saved(path: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


class Call:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def laughs() -> Any:
    """Return 2^64 values in a few hundred bytes."""
    value: Any = ["ha"]
    for _ in range(64):
        value = [value, value]
    return value


def cycle() -> Any:
    value: Dict[str, Any] = {}
    value["self"] = value
    return value


@pytest.fixture(autouse=True)
def _little_memory():
    with little_memory():
        yield


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (torch.zeros(1).expand(HUGE), "larger than its data"),
        (torch.zeros(2, dtype=torch.complex64), "complex"),
        (laughs(), "holds too many values"),
        (cycle(), "holds too many values"),
        ([10**400], "is an integer of 1329 bits"),
    ],
    ids=["expanded", "complex", "laughs", "cycle", "integer"],
)
def test_values_that_take_memory_without_data_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value, complaint: str, zipped: bool
):
    monkeypatch.setattr("adq_edge.models.torch_files._MOST_VALUES", 10**4)  # counted in a moment
    path = saved(tmp_path / "c.pt", {"weight": torch.ones(3), "value": value}, zipped=zipped)
    with pytest.raises(CheckpointError, match=complaint):
        read_torch_file(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        torch.zeros(3, device="meta"),
        torch.eye(2).to_sparse(),
        Call(bytearray, HUGE),
        Call(torch.FloatTensor, HUGE),
        collections.Counter("ab"),
        Call(os.getpid),
    ],
    ids=["meta", "sparse", "bytearray", "call", "counter", "code"],
)
def test_objects_of_other_classes_are_not_made_and_not_taken_for_weights(
    tmp_path: Path, narrow_checkpoint: Path, value, zipped: bool
):
    path = saved(tmp_path / "c.pt", {"weight": torch.ones(3), "value": value}, zipped=zipped)
    assert isinstance(read_torch_file(path)["value"], Record)
    content = torch.load(narrow_checkpoint, weights_only=True)
    content["model"]["student.conv1.weight"] = value
    with pytest.raises(CheckpointError, match=r"'student.conv1.weight' is a pickled .*, which is never run"):
        load_checkpoint(saved(tmp_path / "own.pt", content, zipped=zipped))


def test_module_that_contains_itself_is_refused(tmp_path: Path):
    module = torch.nn.Module()
    module.register_buffer("x", torch.zeros(1))
    module._modules["model"] = module
    path = saved(tmp_path / "c.pt", {"model": module})
    with pytest.raises(CheckpointError, match="contains itself"):
        load_checkpoint(path)
    assert read_settings(read_torch_file(path)).backbone is None


def test_compressed_archive_is_refused_before_it_is_read(tmp_path: Path):
    path = saved(tmp_path / "c.pt", {"weight": torch.zeros(2**20)})
    rewritten(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(CheckpointError, match="compressed archive"):
        read_torch_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"\x80", b"PK\x03\x04", b"PK\x03\x04" + b"\0" * 500, b"text\n", pickle.dumps({"a": 1})]
)
def test_other_content_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "c.pt").write_bytes(content)
    with pytest.raises(CheckpointError):
        read_torch_file(tmp_path / "c.pt")


def test_safetensors_file_is_named_with_its_conversion(tmp_path: Path):
    safetensors = pytest.importorskip("safetensors.torch")
    safetensors.save_file({"conv1.weight": torch.ones(2)}, str(tmp_path / "w.safetensors"))
    with pytest.raises(CheckpointError, match=r"is a safetensors file.*Convert it: torch\.save"):
        load_checkpoint(tmp_path / "w.safetensors")


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_and_mutated_files_are_refused_or_read(tmp_path: Path, zipped: bool):
    content = saved(tmp_path / "c.pt", {"a": {"w": torch.ones(3, 2)}, "n": [1, 2.0, "x"]}, zipped=zipped)
    whole = content.read_bytes()
    generator = random.Random(5)
    for number in range(300):
        damaged = bytearray(whole[: generator.randrange(len(whole))] if number % 3 == 0 else whole)
        for _ in range(generator.randrange(4)):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        (tmp_path / "d.pt").write_bytes(damaged)
        with contextlib.suppress(AdqError):
            read_torch_file(tmp_path / "d.pt")


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.pt")
    for path in (tmp_path / "pipe.pt", Path("/dev/zero"), tmp_path / "none.pt"):
        with pytest.raises(StorageError):
            load_checkpoint(path)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c["config"].update(image_size=[32, 160_000]), "image size is 32x160000"),
        (lambda c: c["config"].update(image_size=[2**40, 2**40]), "image size is"),
        (lambda c: c["config"].update(image_size=[True, 64]), "expected 2 positive numbers"),
        (lambda c: c["config"].update(image_size="64"), "expected 2 numbers"),
        (lambda c: c["config"].update(mean=[float("nan")] * 3), "expected 3 positive numbers"),
        (lambda c: c["config"].update(mean=laughs()), "expected 3 numbers|too many values"),
        (lambda c: c["config"].update(std=[1e-30] * 3), "std is"),
        (lambda c: c["config"].update(options={"students": 10**8}), "no option"),
        (lambda c: c["config"].update(options=[1]), "options are"),
        (lambda c: c["config"].pop("std"), "lacks 'std'"),
        (lambda c: c.update(version=[1]), "format version"),
        (lambda c: c.update(arch="x" * 10**6), "no method named"),
        (lambda c: c["training"].update(stage="a"), "training state 'stage'"),
        (lambda c: c["training"].update(stage=7), "training state cannot be read"),
        (lambda c: c["training"].update(settings=3), "training state 'settings'"),
        (lambda c: c["training"].update(settings={"data": 3}), "training state 'data'"),
        (lambda c: c["training"].update(settings={"categories": [3]}), "training state cannot be read"),
        (lambda c: c["model"].update({"student.conv1.weight": "x"}), "of shape str"),
        (lambda c: c["model"]["student.bn1.running_var"].fill_(-1.0), "negative values"),
        (lambda c: c["model"]["student.bn1.weight"].fill_(float("inf")), "NaN or infinite values"),
        (lambda c: c["model"].update({"student.bn1.weight": torch.ones(64, dtype=torch.int64)}), "of type"),
        (
            lambda c: c["model"].update(
                {"student.bn1.weight": torch.full((64,), 1e300, dtype=torch.float64)}
            ),
            "NaN or",
        ),
    ],
)
def test_impossible_checkpoint_is_refused_in_one_short_line(
    tmp_path: Path, narrow_checkpoint: Path, change, complaint: str
):
    content = torch.load(narrow_checkpoint, weights_only=True)
    change(content)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_checkpoint(saved(tmp_path / "c.pt", content))
    assert len(str(caught.value)) < 800
    assert str(tmp_path) in str(caught.value)


def test_state_dict_with_foreign_values_and_keys_is_refused(tmp_path: Path):
    keys = {
        "decode.weight": "x",
        5: torch.ones(1),
        "model.6.1.conv2.weight": [1],
        "bn.bn_layer.0.conv1.weight": 3,
    }
    with pytest.raises(CheckpointError):
        load_checkpoint(saved(tmp_path / "c.pt", keys))
    names = [
        "teacher_" + "9" * 5000 + "_net/conv1.weight",
        "bn.bn_layer.0.conv1.weight",
        "model.6.1.conv2.weight",
    ]
    for name in names:
        with pytest.raises(CheckpointError):
            load_checkpoint(saved(tmp_path / "c.pt", {name: torch.ones(1)}), teacher_weights="demo")


def test_interrupted_save_of_checkpoint_and_log_is_completed_before_it_is_read(tmp_path: Path):
    content = {}
    for state in ("old", "new"):
        content[state] = saved(tmp_path / state, {"state": state}).read_bytes()
    (tmp_path / "c.pt").write_bytes(content["old"])
    child = os.fork()
    if child == 0:
        replace = Path.replace

        def kill_after(source: Path, target: Path) -> None:
            replace(source, target)
            os.kill(os.getpid(), signal.SIGKILL)

        Path.replace = kill_after
        with write_together():
            write_bytes(tmp_path / "c.log", b"new")
            write_bytes(tmp_path / "c.pt", content["new"])
    os.waitpid(child, 0)
    assert (tmp_path / "c.pt").read_bytes() == content["old"]
    assert read_torch_file(tmp_path / "c.pt") == {"state": "new"}
    assert not leftovers(tmp_path)
