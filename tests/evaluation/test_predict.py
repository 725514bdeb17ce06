"""`predict`: verdicts that fail safe, files and arrays as inputs, heat maps that overwrite nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

import adq_edge
from adq_edge.artifacts.sidecar import Threshold, read_sidecar, sidecar_path
from adq_edge.core.errors import DataError, EngineError, StorageError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import read_image, write_sheet
from adq_edge.evaluation.evaluate import evaluate
from adq_edge.evaluation.predict import predict
from adq_edge.evaluation.predict_arguments import split_arguments
from adq_edge.runtimes.registry import load_engine
from factories.command_line import run_cli
from factories.images import leftovers
from factories.tiny_engine import SIZE, write_engine

THRESHOLD = 100.0
DARK, BRIGHT, NOT_FINITE = 50, 200, 255


def change_sidecar(engine: Path, **fields: object) -> None:
    dataclasses.replace(read_sidecar(engine, trust=True), **fields).write(sidecar_path(engine))


@pytest.fixture(scope="module")
def judging_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine whose score is the brightest pixel; NaN for a white one. Its threshold is 100."""
    path = write_engine(tmp_path_factory.mktemp("judge") / "engines" / "judge.onnx")
    model = onnx.load(str(path))
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[NOT_FINITE] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    onnx.save(model, str(path))
    threshold = Threshold(THRESHOLD, 1.0, 4, "data")
    change_sidecar(path, engine_sha256=sha256(path), threshold=threshold)
    return path


def paint(path: Path, brightness: int, size: int = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size, size, 3), brightness, np.uint8))
    return path


def verdicts(results) -> list:
    return [result.verdict for result in results]


# --- verdicts ----------------------------------------------------------------------------------------


def test_predict_returns_scores_verdicts_and_maps(engine: Path, dataset: Path, tmp_path: Path):
    evaluation = evaluate(engine, dataset, output=tmp_path / "r.json")
    with load_engine(engine) as loaded:
        results = list(predict(loaded, dataset / "part0" / "test" / "spot", output=tmp_path / "maps"))
        scores = {row.image: row.score for row in evaluation.scores}
        assert len(results) == 3
        for result in results:
            assert result.score == scores[result.image]
            assert result.anomalous == (result.score >= evaluation.threshold)
            assert result.verdict == ("anomalous" if result.anomalous else "good")
            image = read_image(Path(result.image))
            assert read_image(Path(result.heat_map)).shape == image.shape
            np.testing.assert_array_equal(result.anomaly_map, loaded.run(image[None]).maps[0])


def test_images_that_cannot_be_judged_have_an_error_and_the_others_go_on(judging_engine, tmp_path: Path):
    paint(tmp_path / "white.png", NOT_FINITE)
    paint(tmp_path / "dark.png", DARK)
    paint(tmp_path / "bright.png", BRIGHT)
    (tmp_path / "text.png").write_text("text")
    names = ["white.png", "text.png", "none.png", "n" * 300 + ".png", "dark.png", "bright.png"]
    results = list(predict(judging_engine, [tmp_path / name for name in names], output=tmp_path / "maps"))
    assert verdicts(results) == [None, None, None, None, "good", "anomalous"]
    complaints = ("is NaN or infinite", "not a readable image", "no such file", "file name too long")
    for result, complaint in zip(results, complaints):
        assert complaint in result.error
        assert (result.score, result.anomalous, result.heat_map, result.anomaly_map) == (None,) * 4
    assert [result.error for result in results[4:]] == [None, None]
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_engine_without_a_threshold_gives_scores_without_verdicts(tmp_path: Path):
    engine = write_engine(tmp_path / "engines" / "new.onnx")
    result = run_cli("predict", paint(tmp_path / "a.png", BRIGHT), cwd=tmp_path)
    assert result.returncode == 1
    line = json.loads(result.stdout)
    assert (line["verdict"], line["anomalous"], line["score"]) == (None, None, BRIGHT)
    assert "has no threshold. Measure it: adq-edge eval engines/new.onnx" in line["error"]
    assert result.stderr.splitlines()[-1].startswith("adq-edge: 1 of 1 image not judged. ")
    change_sidecar(engine, threshold=Threshold(THRESHOLD, 1.0, 4, "data"))
    assert run_cli("predict", "a.png", cwd=tmp_path).returncode == 0


def test_threshold_of_another_runtime_is_not_used(judging_engine, tmp_path: Path):
    pytest.importorskip("openvino")
    image = paint(tmp_path / "a.png", BRIGHT)
    result = run_cli("predict", "--runtime", "openvino", judging_engine, image, cwd=tmp_path)
    line = json.loads(result.stdout)
    assert result.returncode == 1
    assert (line["verdict"], line["threshold"]) == (None, None)
    assert line["score"] == pytest.approx(BRIGHT)
    assert "measured with ONNX Runtime, not with OpenVINO" in line["error"]


def test_threshold_of_another_engine_file_is_not_used(judging_engine, tmp_path: Path):
    engine = tmp_path / "changed.onnx"
    shutil.copy(str(sidecar_path(judging_engine)), str(sidecar_path(engine)))
    shutil.copy(str(write_engine(tmp_path / "other.onnx")), str(engine))
    image = paint(tmp_path / "a.png", BRIGHT)
    assert run_cli("predict", engine, image, cwd=tmp_path).returncode == 2
    result = run_cli("predict", "--trust", engine, image, cwd=tmp_path)
    assert result.returncode == 1
    assert (json.loads(result.stdout)["verdict"], json.loads(result.stdout)["score"]) == (None, BRIGHT)
    assert f"has no threshold. Measure it: adq-edge eval {engine} --data DIR" in result.stderr


# --- JSON lines --------------------------------------------------------------------------------------


def test_command_prints_a_line_of_valid_json_per_image(judging_engine, tmp_path: Path):
    name = "größe\N{RIGHT-TO-LEFT OVERRIDE}\x1b[31m\x9b31m.png"
    paint(tmp_path / "white.png", NOT_FINITE)
    shutil.copy(str(paint(tmp_path / "dark.png", DARK)), str(tmp_path / name))
    raw = os.fsencode(str(tmp_path)) + b"/\xff.png"
    shutil.copy(str(tmp_path / "dark.png").encode(), raw)
    images = [tmp_path / name, os.fsdecode(raw), tmp_path / "white.png", tmp_path / "text.png"]
    (tmp_path / "text.png").write_text("no image")
    result = run_cli("predict", judging_engine, *images, "--no-heat-maps", cwd=tmp_path)
    assert result.returncode == 1
    result.stdout.encode("utf-8")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]
    assert len(lines) == len(images)
    assert lines[0]["image"] == str(tmp_path / name)
    assert "größe" in result.stdout
    assert not set("\x1b\x9b\N{RIGHT-TO-LEFT OVERRIDE}") & set(result.stdout)
    assert [line["verdict"] for line in lines] == ["good", "good", None, None]
    for line in lines:
        assert (line["product"], line["regions"], line["reason"]) == (None, [], line["error"])
        assert (line["verdict"] is None) == (line["error"] is not None)
    assert "adq-edge: 2 of 4 images not judged. " in result.stderr


def test_path_that_does_not_exist_ends_predict_before_any_image_is_judged(judging_engine, tmp_path: Path):
    paint(tmp_path / "part-1.png", BRIGHT)
    for name, hint in (("part-2.png", "Did you mean part-1.png?"), ("x" * 300, "file name too long")):
        result = run_cli("predict", judging_engine, "part-1.png", name, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert hint in result.stderr
    assert not (tmp_path / "predictions").exists()


def test_image_that_is_named_more_than_once_is_judged_once(judging_engine, tmp_path: Path):
    paint(tmp_path / "in" / "a.png", BRIGHT)
    paint(tmp_path / "in" / "b" / "b.png", DARK)
    paths = ["in", "in/b", tmp_path / "in" / "a.png", "./in/a.png"]
    result = run_cli("predict", judging_engine, *paths, "--no-heat-maps", cwd=tmp_path)
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()] == ["in/a.png", "in/b/b.png"]
    assert "note: 3 images named more than once, judged once" in result.stderr


# --- folders and files -------------------------------------------------------------------------------


def test_folders_are_read_with_all_folders_below(judging_engine, tmp_path: Path):
    folder = tmp_path / "images"
    wanted = ["a/000.png", "a/deep/000.png", "b/000.jpg", "top.png"]
    others = [".hidden/000.png", "a/.thumb.png", "a/test/x.png", "a/ground_truth/x/000_mask.png"]
    for name in [*wanted, *others]:
        paint(folder / name, DARK)
    (folder / "a" / "notes.txt").write_text("text")
    results = list(predict(judging_engine, folder, output=tmp_path / "maps"))
    found = sorted(str(Path(result.image).relative_to(folder)) for result in results)
    assert found == sorted([*wanted, "a/test/x.png"])
    for result in results:  # the folders of the heat maps are those of the images
        image, heat_map = Path(result.image), Path(result.heat_map)
        assert heat_map.parent == tmp_path / "maps" / image.parent.relative_to(folder)
        assert heat_map.name == f"{image.stem}_heat_map.png"


def test_a_folder_without_images_is_rejected_before_any_image_is_judged(judging_engine, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    images = [paint(tmp_path / "a.png", DARK), tmp_path / "empty"]
    with pytest.raises(DataError, match="empty: no images in this folder"):
        predict(judging_engine, images, output=tmp_path / "maps")
    with pytest.raises(DataError, match="no image given"):
        predict(judging_engine, [])
    assert not (tmp_path / "maps").exists()


def test_text_paths_are_accepted_wherever_paths_are(judging_engine, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paint(tmp_path / "part.png", DARK)
    with load_engine(str(judging_engine)) as loaded:
        for images in ("part.png", Path("part.png"), ["part.png"], ("part.png",), iter(["part.png"])):
            (result,) = adq_edge.predict(loaded, images, output="maps")
            assert (result.image, result.verdict) == ("part.png", "good")
            assert Path(result.heat_map).parent == Path("maps")
    assert verdicts(adq_edge.predict(str(judging_engine), "part.png", output=None)) == ["good"]
    assert not (tmp_path / "predictions").exists()


def test_newest_engine_is_the_default(judging_engine, tmp_path: Path, monkeypatch):
    image = paint(tmp_path / "part.png", BRIGHT)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineError, match="no engine found here"):
        predict(None, image)
    assert "engines: no engine found here" in run_cli("predict", image, cwd=tmp_path).stderr
    monkeypatch.chdir(judging_engine.parent.parent)
    assert verdicts(predict(None, image, output=tmp_path / "maps")) == ["anomalous"]
    result = run_cli("predict", image, "-o", tmp_path / "maps", cwd=judging_engine.parent.parent)
    assert result.returncode == 0
    assert "engine: engines/judge.onnx" in result.stderr


def test_first_argument_is_an_engine_unless_it_is_an_image_or_a_folder(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("images", "bundle"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    (tmp_path / "e.onnx").write_text("engine")

    def split(*names: str):
        engine, images = split_arguments([Path(name) for name in names])
        return (None if engine is None else str(engine), [str(image) for image in images])

    assert split("a.png", "b.PNG") == (None, ["a.png", "b.PNG"])
    assert split("images") == (None, ["images"])
    long = "n" * 300 + ".png"
    assert split("e.onnx", "images", ".", "/", "..", long) == ("e.onnx", ["images", ".", "/", "..", long])
    assert split(".") == (None, ["."])
    assert split("bundle", "a.png") == ("bundle", ["a.png"])  # the engine's reader says what it is
    with pytest.raises(DataError, match=r"e\.onnx: an image is missing"):
        split("e.onnx")
    with pytest.raises(DataError, match="typo: no such file or folder"):
        split("typo")
    with pytest.raises(EngineError, match="bundle: a bundle, not an engine"):
        split("bundle")
    (tmp_path / "e.onnx.json").write_text("{}")
    for arguments in (("a.png", "e.onnx"), ("e.onnx", "e.onnx", "a.png")):
        with pytest.raises(DataError, match=r"e\.onnx: an engine among the images"):
            split(*arguments)


# --- arrays ------------------------------------------------------------------------------------------


def test_arrays_are_judged_as_their_files_are(engines, dataset: Path, tmp_path: Path):
    from adq_edge.core.options import Precision

    path = next((dataset / "part0" / "test" / "spot").iterdir())
    rgb = read_image(path)
    rgb[..., 0] //= 2  # the order of the channels matters
    colored = tmp_path / "colored.png"
    cv2.imwrite(str(colored), rgb[..., ::-1])
    with load_engine(engines[Precision.FP32]) as engine:
        (expected,) = predict(engine, colored, output=None)
        (as_rgb,) = predict(engine, rgb, output=tmp_path / "maps")
        (as_bgr,) = predict(engine, cv2.imread(str(colored)), color="bgr", output=None)
        (swapped,) = predict(engine, cv2.imread(str(colored)), output=None)
        assert expected.score == as_rgb.score == as_bgr.score != swapped.score
        np.testing.assert_array_equal(expected.anomaly_map, as_bgr.anomaly_map)
        assert (as_rgb.image, Path(as_rgb.heat_map).name) == ("array 0", "array-000_heat_map.png")
        gray = rgb[..., 1]
        scores = [
            result.score
            for result in predict(engine, [gray, gray[..., None], np.dstack([gray] * 3)], output=None)
        ]
        assert scores[0] == scores[1] == scores[2]


def test_a_generator_of_frames_is_read_frame_by_frame(judging_engine):
    taken = []

    def frames():
        for brightness in (DARK, BRIGHT, NOT_FINITE):
            taken.append(brightness)
            yield np.full((20, 30, 3), brightness, np.uint8)

    with load_engine(judging_engine) as engine:
        results = predict(engine, frames(), color="bgr", output=None)
        assert next(results).verdict == "good"
        assert taken == [DARK]
        assert verdicts(results) == ["anomalous", None]


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((8, 8, 3), np.float32), "its type is float32"),
        (np.zeros((8, 8, 3), np.uint16), "its type is uint16"),
        (np.zeros((8, 8, 3), bool), "its type is bool"),
        (np.zeros((8, 8, 4), np.uint8), r"\[8, 8, 4\]. Remove the fourth channel"),
        (np.zeros((3, 8, 8), np.uint8), r"its shape is \[3, 8, 8\]"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"Give a list of images: list\(array\)"),
        (np.zeros((0, 8, 3), np.uint8), r"its shape is \[0, 8, 3\]"),
        (np.zeros(3, np.uint8), r"its shape is \[3\]"),
        (np.uint8(3), "uint8, neither a path nor a numpy array"),
        (None, "None, neither a path nor a numpy array"),
        ({}, "dict, neither a path nor a numpy array"),
        ("", "image 0: an empty path"),
    ],
)
def test_other_arrays_and_objects_are_rejected(judging_engine, array, complaint: str):
    with load_engine(judging_engine) as engine:
        with pytest.raises(DataError, match=complaint):
            predict(engine, [array], output=None)
        if not isinstance(array, dict):
            with pytest.raises(DataError, match=complaint):
                predict(engine, array, output=None)
    with pytest.raises(DataError, match="'rbg' is not an order of channels"):
        predict(None, np.zeros((8, 8, 3), np.uint8), color="rbg")


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 70), width=st.integers(1, 70), color=st.sampled_from(["rgb", "bgr"]))
def test_arrays_of_any_size_get_a_verdict(judging_engine, height: int, width: int, color: str):
    """Also arrays that are views with negative or wide steps."""
    wide = np.full((2 * height, width, 3), DARK, np.uint8)
    with load_engine(judging_engine) as engine:
        assert verdicts(predict(engine, wide[::-2], color=color, output=None)) == ["good"]


# --- heat maps ---------------------------------------------------------------------------------------


def test_no_two_results_share_a_heat_map(judging_engine, tmp_path: Path):
    names = ["a/000.png", "b/000.png", "b/000.jpg", "000.png"]
    images = [paint(tmp_path / name, DARK) for name in names]
    output = tmp_path / "maps"
    with load_engine(judging_engine) as engine:
        runs = [list(predict(engine, images, output=output)) for _ in range(2)]
    heat_maps = [result.heat_map for results in runs for result in results]
    assert len(set(heat_maps)) == len(list(output.iterdir())) == 8
    assert [Path(name).name for name in heat_maps[:2]] == ["000_heat_map.png", "000_heat_map-2.png"]
    assert not leftovers(output)


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_files_of_the_user_are_never_overwritten(judging_engine, tmp_path: Path, kind: str):
    image, taken = paint(tmp_path / "a.png", DARK), tmp_path / "a_heat_map.png"
    if kind == "file":
        paint(taken, BRIGHT)
    elif kind == "folder":
        taken.mkdir()
    else:
        taken.symlink_to(tmp_path / "nowhere.png")
    before = taken.read_bytes() if kind == "file" else None
    (result,) = predict(judging_engine, image, output=tmp_path)
    assert Path(result.heat_map).name == "a_heat_map-2.png"
    assert taken.is_symlink() == (kind == "link")
    assert not (tmp_path / "nowhere.png").exists()
    if before is not None:
        assert taken.read_bytes() == before
        results = list(predict(judging_engine, tmp_path, output=tmp_path))
        assert verdicts(results) == ["good", "anomalous"]  # the user's file is an image, the heat map is none


def test_own_heat_maps_are_not_judged(judging_engine, tmp_path: Path):
    paint(tmp_path / "a.png", DARK)
    for _ in range(2):
        (result,) = predict(judging_engine, tmp_path, output=tmp_path / "predictions")
        assert result.image == str(tmp_path / "a.png")
    (named,) = predict(judging_engine, result.heat_map, output=tmp_path / "maps")
    assert named.verdict is None
    assert "a heat map that predict wrote" in named.error
    with pytest.raises(DataError, match="no images in this folder, not counting heat maps and sheets"):
        predict(judging_engine, tmp_path / "predictions")


@pytest.mark.parametrize("stem", ["x" * 250, "ü" * 120, "-", "a.b"])
def test_any_name_of_an_image_gives_a_heat_map(judging_engine, tmp_path: Path, stem: str):
    image = paint(tmp_path / "image.png", DARK)
    named: Optional[Path] = image.rename(tmp_path / f"{stem}.png")
    (result,) = predict(judging_engine, named, output=tmp_path / "maps")
    assert read_image(Path(result.heat_map)).shape == (SIZE, SIZE, 3)


def test_unusable_output_folder_is_rejected_before_any_image_is_judged(judging_engine, tmp_path: Path):
    image = paint(tmp_path / "a.png", DARK)
    with pytest.raises(StorageError, match=r"a\.png: the folder is not writable|not a folder"):
        predict(judging_engine, image, output=image)


def test_unread_formats_get_an_error_and_sheets_are_left_out(judging_engine, tmp_path: Path):
    paint(tmp_path / "a.png", DARK)
    (tmp_path / "b.heic").write_bytes(b"content")
    write_sheet(tmp_path / "a-vs-b.compare.jpg", np.full((SIZE, SIZE, 3), BRIGHT, np.uint8))
    write_sheet(tmp_path / "my sheet.png", np.full((SIZE, SIZE, 3), BRIGHT, np.uint8))
    results = list(predict(judging_engine, tmp_path, output=None))
    assert [Path(result.image).name for result in results] == ["a.png", "b.heic", "my sheet.png"]
    assert verdicts(results) == ["good", None, None]
    assert "HEIC, an image format that is not read. Convert it" in results[1].error
    assert "a sheet or plot that adq-edge wrote" in results[2].error


def test_end_of_the_reader_ends_predict_with_the_code_of_a_broken_pipe(judging_engine, tmp_path: Path):
    image = paint(tmp_path / "a.png", DARK)
    command = [
        sys.executable,
        "-m",
        "adq_edge",
        "predict",
        str(judging_engine),
        str(image),
        "--no-heat-maps",
        "-q",
    ]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 141)
