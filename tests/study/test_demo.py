from __future__ import annotations

import functools
import shutil
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest

from adq_edge.benchmark.bench import bench
from adq_edge.core.errors import DataError
from adq_edge.core.images.imaging import read_image
from adq_edge.datasets.dataset import read_dataset
from adq_edge.report.tables.headline import summary_table
from adq_edge.study import demo as demo_module
from adq_edge.study.own_images import choose_samples, judge
from factories.tiny_engine import write_engine


@pytest.fixture
def short_demo(narrow_teacher: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "TRAINED_IMAGES", 12)
    monkeypatch.setattr(demo_module, "IMAGE_SIZE", (64, 64))
    monkeypatch.setattr(demo_module, "bench", functools.partial(bench, queries=2, seconds=0))


@pytest.fixture(scope="module")
def parts() -> List[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(90, 110, (70 + 3 * number, 80, 3), np.uint8) for number in range(11)]


def write(folder: Path, images: List[np.ndarray], suffixes: str) -> None:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        suffix = suffixes.split()[number % len(suffixes.split())]
        (folder / f"Bild {number} ü{suffix}").write_bytes(cv2.imencode(suffix.lower(), image)[1].tobytes())


@pytest.mark.usefixtures("short_demo")
def test_demo_builds_and_measures_and_a_second_run_does_not_train(parts, tmp_path: Path, capsys):
    """Own images: mixed sizes and formats, files that are no images, blanks and umlauts in the names."""
    data = tmp_path / "Teile für Halle 3"
    write(data / "OK Teile", parts, ".png .JPG .bmp .tiff")
    write(
        data / "NG" / "Riß",
        [np.where(image > 100, image, 255).astype(np.uint8) for image in parts[:2]],
        ".png",
    )
    (data / "NG" / ".DS_Store").write_bytes(b"x")
    (data / "notes.txt").write_bytes(b"x")
    first = demo_module.demo(tmp_path / "demo", data)
    assert [row.engine.precision for row in first.rows] == ["fp32", "int8"]
    for row, path in zip(first.rows, first.engines):
        assert row.quality.engine.sha256 == row.engine.engine.sha256  # quality and speed of the same file
        assert row.quality.decisions is not None
        assert path.is_file()
    assert len(summary_table(first.rows, first.caveat).rows) == 2
    assert "not to be quoted" in first.caveat
    assert read_image(first.heat_maps).shape[1] == 4 * 256
    assert [line.split(" of ")[0][:-2] for line in first.verdicts] == ["good images:", "defective images:"]
    heat_maps = sorted((tmp_path / "demo" / "heat_maps").rglob("*.png"))
    assert [path.parent.name for path in heat_maps] == ["NG"] * 2 + ["good"] * 3
    output = capsys.readouterr().err
    assert output.count("3 of 11 normal images are held out") == 1
    assert "8 good images to train on; test images: good 3, NG 2" in output
    checkpoint = tmp_path / "demo" / "checkpoints" / f"stfpm-{data.name}.pt"
    before = checkpoint.read_bytes()
    second = demo_module.demo(tmp_path / "demo", data)
    assert checkpoint.read_bytes() == before
    assert second.rows[0].quality.scores == first.rows[0].quality.scores
    assert sorted((tmp_path / "demo" / "heat_maps").rglob("*.png")) == heat_maps


@pytest.mark.usefixtures("short_demo")
def test_demo_without_bad_images_pastes_defects_and_trains_again_when_images_are_added(
    parts, tmp_path: Path, capsys, monkeypatch
):
    data = tmp_path / "parts"
    write(data / "good", parts[:6], ".png")
    result = demo_module.demo(tmp_path / "demo", data)
    assert [row.quality for row in result.rows] == [None, None]
    assert len(summary_table(result.rows, result.caveat).rows) == 2
    assert result.verdicts[0].endswith(" of 6 rejected")
    assert result.verdicts[0].startswith("images with a pasted defect: ")
    assert read_image(result.heat_maps).shape[0] == 24 + 6 * 256
    shutil.copy(str(data / "good" / "Bild 0 ü.png"), str(data / "good" / "new.png"))
    monkeypatch.setattr(demo_module, "export", None)
    with pytest.raises(TypeError):  # behind the training
        demo_module.demo(tmp_path / "demo", data)
    assert "Training from the beginning" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("good", "broken", "message"),
    [
        (4, None, r"has 4 good images to train on\. Give at least 5; 99 promise"),
        (7, "bad", "bad/broken.png: not a readable image"),
    ],
)
def test_unusable_images_are_refused_before_the_training(
    parts, tmp_path: Path, monkeypatch, good: int, broken: str, message: str
):
    monkeypatch.setattr(demo_module, "train", None)
    write(tmp_path / "parts" / "good", parts[:good], ".png")
    if broken:
        write(tmp_path / "parts" / broken, [], ".png")
        (tmp_path / "parts" / broken / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=message):
        demo_module.demo(tmp_path / "demo", tmp_path / "parts")


def test_sheet_shows_different_defects_of_all_categories_first(dataset: Path):
    read = read_dataset(dataset)
    shown = choose_samples(read, 4)
    assert {sample.category for sample in shown[:2]} == {category.name for category in read.categories}
    assert all(sample.is_anomalous for sample in shown)


def test_own_folder_named_pasted_is_a_kind_of_defect_and_judged_once(parts, tmp_path: Path):
    write(tmp_path / "data" / "good", parts, ".png")
    write(tmp_path / "data" / "pasted", parts[:2], ".png")
    dataset = read_dataset(tmp_path / "data")
    engine = write_engine(tmp_path / "e.onnx")
    verdicts = judge(engine, dataset, [], tmp_path / "heat_maps")
    assert [line.split(" ")[:5] for line in verdicts if line.startswith("defective")] == [
        ["defective", "images:", "2", "of", "2"]
    ]
