from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Callable, Iterator, List

import pytest

from factories.images import make_model, write_dataset
from factories.paths import REPOSITORY
from factories.shared import shared_folder

DATA_VARIABLE = "ADQ_EDGE_DATA"

NARROW = (64, 64, 64)
"""Channels of the layers of ResNets where the weights do not matter: a sixth of the usual weights."""

sys.path.append(str(REPOSITORY))  # for benchmarks/ and tools/, which the package does not hold


SLOW_FILES = frozenset(
    {
        "test_analyze",
        "test_bench",
        "test_board_replies",
        "test_build",
        "test_calibrate",
        "test_cli",
        "test_compare",
        "test_connection",
        "test_demo",
        "test_demo_teacher",
        "test_disk_faults",
        "test_emulation",
        "test_dynamic_ranges",
        "test_export",
        "test_failures",
        "test_further_outputs",
        "test_fuzz",
        "test_hostile_checkpoints",
        "test_installation",
        "test_interference",
        "test_interruption",
        "test_jobs",
        "test_kill",
        "test_load",
        "test_options",
        "test_notebooks",
        "test_output",
        "test_peers",
        "test_privacy",
        "test_qat",
        "test_reverse_distillation",
        "test_rtx_kernels",
        "test_search",
        "test_strong_typing",
        "test_study",
        "test_tensorrt",
        "test_training",
        "test_transaction",
        "test_uninformed_students",
    }
)
"""Files of tests that take more than 10 s each on two cores, without `.py`."""


def pytest_collection_modifyitems(items: List[pytest.Item]) -> None:
    """Mark the tests of slow files."""
    for item in items:
        if item.path.stem in SLOW_FILES:
            item.add_marker("slow")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Real images and weights, where they are; their absence skips a test, never fails it."""
    folder = Path(os.environ.get(DATA_VARIABLE, "../shared/data"))
    if not (folder / "inspection").is_dir():
        pytest.skip(f"no real data in {folder} (set {DATA_VARIABLE})")
    return folder.resolve()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Train on one thread: small images gain nothing from more, and waiting costs on a busy machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shared_folder("data", lambda folder: write_dataset(folder / "parts"), tmp_path_factory) / "parts"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    def make(folder: Path) -> None:
        from adq_edge.models.checkpoint import save_checkpoint

        settings = {"data": str(dataset), "categories": ["part0", "part1"]}
        save_checkpoint(folder / "parts.pt", make_model(), {"settings": settings})

    return shared_folder("checkpoints", make, tmp_path_factory) / "parts.pt"


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, checkpoint: Path) -> Path:
    """Return a folder with the checkpoint's bundle and an engine of each precision; tests take copies."""

    return shared_folder("built", lambda folder: build_all(checkpoint, folder), tmp_path_factory)


def build_all(checkpoint: Path, folder: Path) -> None:
    from adq_edge.builders.build import build
    from adq_edge.core.options import COMMON_PRECISIONS
    from adq_edge.onnx_export.export import export

    bundle = export(checkpoint, folder / "bundles" / "parts")
    for precision in COMMON_PRECISIONS:
        build(bundle.path, folder / "engines" / f"parts-{precision.value}.onnx", precision=precision)


@pytest.fixture(scope="session")
def narrow_built(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    """Return the same as `built`, and the checkpoint, of networks with all layers but fewer channels."""

    def make(folder: Path) -> None:
        from adq_edge.models.checkpoint import save_checkpoint

        settings = {"data": str(dataset), "categories": ["part0", "part1"]}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("adq_edge.models.resnet.PLANES", NARROW)
            save_checkpoint(folder / "parts.pt", make_model(), {"settings": settings})
            build_all(folder / "parts.pt", folder)

    return shared_folder("narrow", make, tmp_path_factory)


@pytest.fixture
def narrow_checkpoint(narrow_built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the checkpoint of `narrow_built`, which this process can load during the test."""
    monkeypatch.setattr("adq_edge.models.resnet.PLANES", NARROW)
    return narrow_built / "parts.pt"


@pytest.fixture
def narrow_teacher(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `demo` be a random teacher of fewer channels during the test, as all networks are."""
    import torch

    from adq_edge.models.resnet import ResNet18Trunk

    path = tmp_path_factory.mktemp("teacher") / "narrow.pt"
    monkeypatch.setattr("adq_edge.models.resnet.PLANES", NARROW)
    torch.manual_seed(0)
    torch.save(ResNet18Trunk().state_dict(), str(path))
    monkeypatch.setattr("adq_edge.models.teacher.DEMO_TEACHER", path)


@pytest.fixture(scope="session")
def bundle(built: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a copy of the bundle, with the ranges of its INT8 engine."""
    return copy_bundle(built, tmp_path_factory)


@pytest.fixture(scope="session")
def narrow_bundle(narrow_built: Path, tmp_path_factory: pytest.TempPathFactory):
    return copy_bundle(narrow_built, tmp_path_factory)


def copy_bundle(built: Path, tmp_path_factory: pytest.TempPathFactory):
    from adq_edge.artifacts.bundle import open_bundle

    copy = tmp_path_factory.mktemp("bundles") / "parts"
    shutil.copytree(str(built / "bundles" / "parts"), str(copy))
    return open_bundle(copy)


@pytest.fixture(scope="session")
def tiny_bundle(dataset: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a bundle of a few thousand weights with all operators of the methods; it is built in moments."""

    def make(folder: Path) -> None:
        from factories.tiny_method import export_tiny

        export_tiny(folder, "parts", dataset)

    from adq_edge.artifacts.bundle import open_bundle

    made = shared_folder("tiny", make, tmp_path_factory)
    copy = tmp_path_factory.mktemp("tiny") / "tiny"
    shutil.copytree(str(made), str(copy))
    return open_bundle(copy / "bundle" / "parts")


@pytest.fixture(scope="session")
def engines(built: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a copy of the bundle's engine of each precision."""
    return copy_engines(built, tmp_path_factory)


@pytest.fixture(scope="session")
def narrow_engines(narrow_built: Path, tmp_path_factory: pytest.TempPathFactory):
    return copy_engines(narrow_built, tmp_path_factory)


def copy_engines(built: Path, tmp_path_factory: pytest.TempPathFactory):
    from adq_edge.core.options import COMMON_PRECISIONS

    copy = tmp_path_factory.mktemp("engines") / "engines"
    shutil.copytree(str(built / "engines"), str(copy))
    return {precision: copy / f"parts-{precision.value}.onnx" for precision in COMMON_PRECISIONS}


@pytest.fixture
def engine(engines, tmp_path: Path) -> Path:
    """Return a copy of the INT8 engine that a test may change."""
    from adq_edge.artifacts.sidecar import sidecar_path
    from adq_edge.core.options import Precision

    path = tmp_path / "engine.onnx"
    shutil.copy(str(engines[Precision.INT8]), str(path))
    shutil.copy(str(sidecar_path(engines[Precision.INT8])), str(sidecar_path(path)))
    return path


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Return a function that makes every flush to the disk fail as on a full one."""
    import errno

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "fsync", fail)
