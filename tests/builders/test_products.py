"""What a build means for the products of the engine at its path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adq_edge.artifacts.products import Products, products_path
from adq_edge.artifacts.sidecar import read_sidecar
from adq_edge.builders.build import BuiltEngine, build
from adq_edge.core.errors import BuildError, DataError, EngineError, StorageError
from adq_edge.core.options import Precision
from adq_edge.decision.fit import fit
from adq_edge.decision.inspector import load_inspector
from factories.images import leftovers, write_image

RATE = 0.2


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, tiny_bundle, dataset: Path) -> Path:
    """Return a folder with an engine of two products."""
    folder = tmp_path_factory.mktemp("fitted")
    path = build(tiny_bundle.path, folder / "e.onnx", precision=Precision.FP32).path
    fit(path, dataset, false_rejects=RATE, threads=1)
    return folder


@pytest.fixture
def engine(fitted: Path, tmp_path: Path) -> Path:
    shutil.copytree(str(fitted), str(tmp_path / "engines"))
    return tmp_path / "engines" / "e.onnx"


def rebuild(bundle, engine: Path, precision: Precision, **options: object) -> BuiltEngine:
    return build(bundle.path, engine, precision=precision, threads=1, **options)  # type: ignore[arg-type]


def test_engine_that_is_built_the_same_again_keeps_its_products(tiny_bundle, engine: Path):
    before = products_path(engine).read_bytes()
    built = rebuild(tiny_bundle, engine, Precision.FP32)
    assert built.notes == ("the engine is the same as before and keeps its products: part0, part1",)
    assert products_path(engine).read_bytes() == before
    with load_inspector(engine) as inspector:
        assert inspector.products.names == ("part0", "part1")


def test_products_of_another_engine_are_refused_and_come_back_with_it(
    tiny_bundle, engine: Path, dataset: Path
):
    before = products_path(engine).read_bytes()
    built = rebuild(tiny_bundle, engine, Precision.FP16)
    assert built.notes == (
        "its products (part0, part1) were fitted on another engine file and are refused. "
        f"Fit them again: adq-edge fit {engine} --data {dataset}",
    )
    with pytest.raises(EngineError, match="its products were fitted on another engine file"):
        load_inspector(engine)
    assert products_path(engine).read_bytes() == before
    rebuild(tiny_bundle, engine, Precision.FP32)
    load_inspector(engine).close()


def test_engine_for_another_runtime_does_not_keep_the_products(tiny_bundle, engine: Path):
    pytest.importorskip("openvino")
    (note,) = rebuild(tiny_bundle, engine, Precision.FP32, runtime="openvino").notes
    assert " are refused. Fit them again: adq-edge fit " in note


def test_products_are_fitted_with_a_new_engine(tiny_bundle, engine: Path, dataset: Path):
    built = rebuild(tiny_bundle, engine, Precision.FP16, fit=dataset)
    assert built.notes[0] == "its products are fitted: part0, part1"
    assert not any(note.startswith("removed") for note in built.notes)
    assert not leftovers(engine.parent)
    found = Products.read(products_path(engine))
    assert found.engine_sha256 == built.sidecar.engine_sha256 == read_sidecar(engine).engine_sha256
    assert found.false_rejects == RATE, "the rate that was chosen before"
    with load_inspector(engine) as inspector:
        path = next((dataset / "part1" / "train" / "good").iterdir())
        assert inspector.inspect(path).product in ("part0", "part1")
    by_hand = fit(engine, dataset, threads=1).products
    assert by_hand == found, "the same as a fit of the finished engine"


def test_products_that_are_not_learned_with_a_new_engine_are_named(tiny_bundle, engine: Path, dataset: Path):
    built = rebuild(tiny_bundle, engine, Precision.FP16, fit=dataset / "part1")
    assert built.notes[0] == "its products are fitted: part1"
    lost = "removed part0: fitted with another engine file. Fit them again if you need them"
    assert lost in built.notes


def test_engine_is_there_if_its_products_cannot_be_fitted(tiny_bundle, engine: Path, tmp_path: Path):
    few = tmp_path / "few good"
    for number in range(3):
        write_image(few / "bolt" / "train" / "good" / f"{number}.png", number)
    before = products_path(engine).read_bytes()
    with pytest.raises(BuildError) as caught:
        rebuild(tiny_bundle, engine, Precision.FP16, fit=few)
    text = str(caught.value)
    assert text.startswith(f"{engine}: is built, but its products are not fitted: ")
    assert "the product 'bolt' has 3 different good images" in text
    assert text.endswith(f"Then fit them: adq-edge fit {engine} --data '{few}'.")
    assert "\n" not in text
    assert read_sidecar(engine).precision is Precision.FP16
    assert products_path(engine).read_bytes() == before
    with pytest.raises(EngineError, match="fitted on another engine file"):
        load_inspector(engine)


def test_interrupted_fit_changes_neither_engine_nor_products(
    tiny_bundle, engine: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {path: path.read_bytes() for path in engine.parent.iterdir()}

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("adq_edge.decision.fit.learn", stop)
    with pytest.raises(KeyboardInterrupt):
        rebuild(tiny_bundle, engine, Precision.FP16, fit=dataset)
    assert {path: path.read_bytes() for path in engine.parent.iterdir()} == before


@pytest.mark.parametrize("place", ["missing", "empty"])
def test_folder_without_good_images_is_rejected_before_the_build(tiny_bundle, tmp_path: Path, place: str):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=str(tmp_path / place)) as caught:
        rebuild(tiny_bundle, tmp_path / "out" / "e.onnx", Precision.FP32, fit=tmp_path / place)
    assert not (tmp_path / "out").exists()
    assert "--data" not in str(caught.value)


def test_file_of_the_user_in_place_of_the_products_is_never_changed(
    tiny_bundle, tmp_path: Path, dataset: Path
):
    engine, own = tmp_path / "e.onnx", tmp_path / "e.onnx.products"
    own.write_text("bolts, nuts")
    with pytest.raises(StorageError, match="exists and is not an adq-edge/products file"):
        rebuild(tiny_bundle, engine, Precision.FP32, fit=dataset)
    assert not engine.exists()
    (note,) = rebuild(tiny_bundle, engine, Precision.FP32).notes
    assert note.startswith("its products cannot be used (")
    assert own.read_text() == "bolts, nuts"


def test_damaged_products_are_not_replaced(tiny_bundle, engine: Path, dataset: Path):
    path = products_path(engine)
    path.write_bytes(path.read_bytes()[:-100])
    before = path.read_bytes(), engine.read_bytes()
    with pytest.raises(EngineError, match="Restore it, or delete it"):
        rebuild(tiny_bundle, engine, Precision.FP16, fit=dataset)
    assert (path.read_bytes(), engine.read_bytes()) == before
    (note,) = rebuild(tiny_bundle, engine, Precision.FP16).notes
    assert note.startswith("its products cannot be used (")
    assert path.read_bytes() == before[0]


def test_engine_behind_a_link_keeps_its_products(tiny_bundle, engine: Path, tmp_path: Path):
    link = tmp_path / "current.onnx"
    link.symlink_to(engine)
    assert products_path(link) == products_path(engine)
    (note,) = rebuild(tiny_bundle, link, Precision.FP32).notes
    assert "keeps its products" in note
    assert link.is_symlink()
    for path in (link, engine):
        load_inspector(path).close()
