"""A search for fast models: what is searched, what is kept, and what the user is told."""

from __future__ import annotations

import functools
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from adq_edge.artifacts.bundle import open_bundle
from adq_edge.benchmark.bench import bench
from adq_edge.builders.build import build
from adq_edge.cli import app
from adq_edge.cli.find_fast import search
from adq_edge.core.errors import AdqError, CheckpointError, DataError
from adq_edge.core.images.imaging import write_image
from adq_edge.core.options import Precision
from adq_edge.datasets.layouts.registry import use_layout
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.models.checkpoint import load_checkpoint
from adq_edge.models.resnet import ResNet18Trunk
from adq_edge.onnx_export.export import export
from adq_edge.runtimes.registry import load_engine
from adq_edge.study import fast_engines, fast_images
from adq_edge.study import find_fast as module
from adq_edge.study.fast_points import WORST, Point, ScoredPoint, choose_promising, find_front
from adq_edge.study.fast_results import FastSearch
from adq_edge.study.fast_training import all_layers, all_students, different_choices
from adq_edge.study.find_fast import find_fast

pytestmark = pytest.mark.usefixtures("one_thread")
FIGURES = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 100)), min_size=1, max_size=30)


def points(figures):
    return [
        ScoredPoint(Point(256, "layer2", "1.0", "layer3"), cost, auroc / 100, {"a": auroc / 100}, 1)
        for cost, auroc in figures
    ]


@given(FIGURES)
def test_front_holds_exactly_the_points_that_no_other_beats(figures):
    front = find_front(figures, figures)
    for cost, quality in figures:
        beaten = any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in figures)
        assert ((cost, quality) in front) is not beaten
    assert front == sorted(set(front))


@given(FIGURES, st.integers(1, 5))
def test_promising_points_are_few_on_the_front_and_contain_the_best(figures, most):
    scored = points(figures)
    chosen = choose_promising(scored, most)
    best = max(one.auroc for one in scored)
    assert 1 <= len(chosen) <= most
    assert chosen[-1].auroc == best
    assert all(one.auroc > best - WORST for one in chosen)
    assert chosen == find_front(chosen, [one.cost_and_quality for one in chosen])


def test_choices_with_the_same_networks_are_tried_once():
    choices = different_choices(all_students(None, None), all_layers())
    assert len(choices) == len(set(choices)) == 33
    assert sum(levels == (1,) for _, levels in choices) == 1  # a branch alone, whatever the student


@pytest.fixture(scope="module")
def searched(dataset, tmp_path_factory):
    """Search two sizes on the dataset of the tests, twice; return folder, results and number of trainings."""
    root = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adq_edge.models.resnet.PLANES", (64, 64, 64))
        patch.setattr(module, "MOST_ENGINES", 2)
        patch.setattr(fast_engines, "bench", functools.partial(bench))
        patch.setattr(fast_engines, "QUERIES", 2)
        patch.setattr(fast_engines, "SECONDS", 0.0)
        torch.manual_seed(1)
        torch.save(ResNet18Trunk().state_dict(), str(root / "teacher.pth"))
        built = []

        def count(*arguments, **options):
            built.append(arguments)
            return build(*arguments, **options)

        patch.setattr(fast_engines, "build", count)
        run = functools.partial(
            find_fast,
            dataset,
            output=root / "out put",
            teacher_weights=str(root / "teacher.pth"),
            image_sizes=(32, 48),
            width="0.25",
            epochs=2,
        )
        first, builds = run(), len(built)
        second = run()
        yield root / "out put", first, second, builds, len(built)


def test_search_keeps_an_engine_of_each_point_that_has_the_stated_quality(searched, dataset):
    folder, found, again, builds, _ = searched
    assert 1 <= builds == len(found.engines) <= 2
    assert [one.p50_ms for one in found.engines] == sorted(one.p50_ms for one in found.engines)
    assert found.front
    assert not found.pasted
    for one in found.engines:
        assert one.auroc == evaluate(one.engine, dataset).image_auroc
        with load_engine(Path(one.engine)) as engine:
            assert engine.sidecar.precision.value == "int8"
            assert engine.sidecar.image_size == (one.point.image_size,) * 2
        options = load_checkpoint(Path(one.checkpoint)).model.config.options
        assert options == {"shared": one.point.shared, "width": "0.25", "layers": one.point.layers}
    assert FastSearch.read(folder / "find_fast.json") == again
    assert "find\\_fast" not in (folder / "find_fast.md").read_text()
    page = (folder / "report.html").read_text()
    assert all(Path(one.engine).stem.split("-int8")[0] in page for one in found.engines)


def test_second_run_trains_and_builds_nothing(searched):
    _, first, second, builds, all_builds = searched
    assert builds == all_builds
    assert second.second_round == first.second_round
    files = [sorted(one.engine_sha256 for one in search.engines) for search in (first, second)]
    assert files[0] == files[1]


def test_engine_of_another_precision_by_the_name_of_a_point_is_replaced(searched):
    folder, found, *_ = searched
    one, again = found.engines[0], Path(str(folder) + " again")
    shutil.copytree(folder, again)
    engine = again / "engines" / Path(one.engine).name
    build(one.bundle, engine, precision=Precision.FP32)
    assert not fast_engines._is_usable(engine, open_bundle(one.bundle).manifest.model_sha256)
    assert fast_engines._is_usable(Path(one.engine), open_bundle(one.bundle).manifest.model_sha256)


def test_every_size_and_student_is_trained_and_some_of_them_longer(searched):
    _, found, *_ = searched
    assert {(one.point.image_size, one.epochs) for one in found.first_round} == {(32, 1), (48, 1)}
    assert {one.point.shared for one in found.first_round} == {"layer1", "layer2"}
    assert {one.epochs for one in found.second_round} == {2}


def test_checkpoint_of_all_students_is_refused_by_export_in_one_line(searched):
    folder, *_ = searched
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("adq_edge.models.resnet.PLANES", (64, 64, 64))
        with pytest.raises(CheckpointError, match="holds several students of a search, not one model"):
            export(next((folder / "checkpoints" / "families").glob("*.pt")), folder / "no")


def test_search_of_other_images_teacher_or_seed_is_refused_though_it_trains_other_students(
    searched, dataset, tmp_path, monkeypatch
):
    folder, *_ = searched
    teacher = tmp_path / "teacher.pth"
    teacher.write_bytes(b"another")
    moved = shutil.copytree(str(dataset), str(tmp_path / "moved"))
    monkeypatch.setattr(module, "_search", lambda *_: "searched")
    before = sorted(folder.rglob("*"))
    same = {"output": folder, "teacher_weights": str(folder.parent / "teacher.pth")}
    run = functools.partial(find_fast, image_sizes=(64,), width="1.0", epochs=3)
    for changed, difference in (
        ({"data": moved}, f"data {str(dataset.resolve())!r}, not {moved!r}"),
        ({"categories": ["part1"]}, "categories ('part0', 'part1'), not ('part1',)"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"teacher_weights": str(teacher)}, f"another teacher ({folder.parent / 'teacher.pth'})"),
    ):
        with pytest.raises(CheckpointError, match="holds a search that was trained with") as caught:
            run(**{"data": dataset, **same, **changed})
        assert difference in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    assert run(dataset, **same) == "searched"
    assert run(moved, **same, restart=True) == "searched"


@pytest.mark.parametrize("name", ["find_fast.json", "find_fast.md", "report.html"])
def test_folder_with_another_file_by_the_name_of_a_result_is_refused_before_the_search(
    name, dataset, tmp_path
):
    (tmp_path / name).write_text("[1]")
    with pytest.raises(AdqError, match=name):
        find_fast(dataset, output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_commands_are_those_that_train_the_point(searched):
    _, found, *_ = searched
    words = shlex.split(found.engines[0].commands[0])
    assert words[:2] == ["adq-edge", "train"]
    assert words[words.index("--image-size") + 1] == str(found.engines[0].point.image_size)
    assert words[words.index("--category") + 1] == found.categories[0]


def test_next_command_reads_the_dataset_in_the_named_layout(searched, dataset, monkeypatch):
    _, found, *_ = searched
    monkeypatch.setattr(module, "find_fast", lambda *_, **__: found)
    with use_layout("mpdd"):
        shown = search(True, [], None, dataset)
    assert shown.next_step[-4:] == ("--data", dataset, "--layout", "mvtec-ad")


def test_sizes_are_required_and_tried_once(dataset, tmp_path, monkeypatch):
    with pytest.raises(AdqError, match="--image-size: needs at least one size"):
        find_fast(dataset, output=tmp_path / "no", image_sizes=())
    assert not (tmp_path / "no").exists()
    monkeypatch.setattr(module, "_search", lambda _, images, sizes, *__: sizes)
    assert find_fast(dataset, output=tmp_path, image_sizes=(48, 32, 48)) == [32, 48]


def test_best_engine_within_a_latency(searched):
    _, found, *_ = searched
    slowest = found.engines[-1]
    assert found.best_within(slowest.p50_ms).auroc == max(one.auroc for one in found.engines)
    assert found.best_within(0.5 * found.engines[0].p50_ms) is None


def write_good_images(folder, count):
    generator = np.random.default_rng(0)
    for number in range(count):
        write_image(folder / f"{number}.png", generator.integers(90, 110, (48, 48, 3), np.uint8))


def test_good_images_alone_are_pasted_on_and_never_trained_on(tmp_path: Path):
    write_good_images(tmp_path / "data" / "good", 24)
    dataset = fast_images.read_dataset(tmp_path / "data")
    labeled = fast_images.find_labeled_images(dataset, tmp_path / "pasted", 0)
    assert labeled.pasted
    kinds = [sample.is_anomalous for sample in labeled.samples]
    assert (kinds.count(False), kinds.count(True)) == (6, 18)
    assert labeled.validation == fast_images.HELD_OUT
    for path in list((tmp_path / "data" / "good").iterdir())[4:]:
        path.unlink()
    with pytest.raises(DataError, match="no labeled test images, and too few good ones to hold some out"):
        fast_images.find_labeled_images(fast_images.read_dataset(tmp_path / "data"), tmp_path / "other", 0)


def test_images_that_were_pasted_for_other_categories_are_not_scored(tmp_path):
    for category in ("bolt", "nut"):
        write_good_images(tmp_path / "data" / category / "good", 20)
    both = fast_images.read_dataset(tmp_path / "data")
    assert fast_images.find_labeled_images(both, tmp_path / "pasted", 0).categories == ["bolt", "nut"]
    one = fast_images.read_dataset(tmp_path / "data", ["nut"])
    labeled = fast_images.find_labeled_images(one, tmp_path / "pasted", 0)
    assert labeled.categories == ["nut"]
    assert [one.name for one in fast_images.read_dataset(labeled.root).categories] == ["nut"]


def test_pasted_images_are_read_whatever_layout_the_user_named(tmp_path):
    write_good_images(tmp_path / "data" / "bolt" / "good", 20)
    with use_layout("good-and-bad"):
        dataset = fast_images.read_dataset(tmp_path / "data")
        labeled = fast_images.find_labeled_images(dataset, tmp_path / "pasted", 0)
        with labeled.own_layout():
            assert fast_images.read_dataset(labeled.root).categories[0].test
    assert labeled.categories == ["bolt"]


def test_category_with_too_few_images_to_hold_one_out_is_named(tmp_path, capsys):
    write_good_images(tmp_path / "data" / "bolt" / "good", 24)
    write_good_images(tmp_path / "data" / "nut" / "good", 3)
    dataset = fast_images.read_dataset(tmp_path / "data")
    labeled = fast_images.find_labeled_images(dataset, tmp_path / "pasted", 0)
    assert labeled.categories == ["bolt"]
    note = "note: nut: not in the AUROC: 3 good images, too few to hold some out"
    assert note in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--within", "2"], "--within is for --find-fast"),
        (["--find-fast", "--arch", "stfpm"], "--arch cannot be combined with --find-fast"),
        (["--find-fast", "--batch-size", "4"], "--batch-size cannot be combined with --find-fast"),
        (["--find-fast", "--within", "0"], "--within: needs a latency above 0 ms"),
        (["--find-fast", "--width", "0.3"], "width is '0.3'. Choose one of: 1.0, 0.5, 0.25"),
        (["--find-fast", "--layers", "layer4"], "layers: there is no layer 'layer4'"),
        (["--find-fast", "--image-size", "100"], "--image-size: an input of 100 px does not suit PaSTe"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_written(arguments, message, dataset, tmp_path):
    command = ["train", "--data", str(dataset), "-o", str(tmp_path / "out"), *arguments]
    result = CliRunner().invoke(app, command)
    error = str(result.exception) if isinstance(result.exception, AdqError) else result.output
    assert message in error
    assert not (tmp_path / "out").exists()
