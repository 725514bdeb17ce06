"""`predict` with products: verdicts, JSON lines, exit codes, regions on heat maps, threads."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Dict, List

import cv2
import numpy as np
import pytest

import adq_edge
from adq_edge.artifacts.products import products_path
from adq_edge.artifacts.sidecar import Threshold, read_sidecar, sidecar_path
from adq_edge.core.errors import AdqError, DataError, EngineError
from adq_edge.core.files import sha256
from adq_edge.core.images.imaging import read_image
from adq_edge.evaluation.image_inputs import ImageFile, product_of_folder
from adq_edge.evaluation.overlays import draw_inspection
from adq_edge.evaluation.predict import predict
from factories.command_line import run_cli
from factories.parts import draw_part, write_fitted_engine, write_part
from factories.paths import REPOSITORY
from factories.threads import run_in_threads
from factories.tiny_engine import SIZE, write_engine

SCHEMA = REPOSITORY / "docs" / "predict-json.md"
TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "list": list,
    "null": type(None),
}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an engine with the products bolt and nut; tests must not change it."""
    return write_fitted_engine(tmp_path_factory.mktemp("fitted"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    write_part(folder / "bolt" / "bad.png", "bolt", 900, is_defective=True, size=64)
    write_part(folder / "bolt" / "good.png", "bolt", 3)
    write_part(folder / "nut" / "good.png", "nut", 3)
    write_part(folder / "washer.png", "washer", 1)
    (folder / "text.png").write_text("text")
    return folder


def lines_of(result) -> List[dict]:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    return [json.loads(line, parse_constant=refuse) for line in result.stdout.splitlines()]


def described_fields() -> List[Dict[str, tuple]]:
    """Return name and types of the fields in the tables of the documentation: of a line, and of a region."""
    tables: List[Dict[str, tuple]] = []
    for line in SCHEMA.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| field"):
            tables.append({})
        elif line.startswith("| `"):
            kinds = cells[1].split(" or ")
            tables[-1][cells[0].strip("`")] = tuple(TYPES[kind] for kind in kinds)
    return tables


def check_fields(found: dict, described: Dict[str, tuple]) -> None:
    assert list(found) == list(described)
    for name, kinds in described.items():
        assert isinstance(found[name], tuple(np.hstack([np.array(kind, object) for kind in kinds]))), name
        if isinstance(found[name], bool):
            assert bool in kinds, name


def test_each_product_has_its_verdict_and_lines_follow_the_documented_schema(fitted, images: Path):
    result = run_cli("predict", fitted, images, cwd=images.parent)
    assert result.returncode == 1  # the text file cannot be judged
    lines = lines_of(result)
    found = {Path(line["image"]).relative_to(images).as_posix(): line for line in lines}
    assert {name: line["verdict"] for name, line in found.items()} == {
        "bolt/bad.png": "defective",
        "bolt/good.png": "good",
        "nut/good.png": "good",
        "text.png": "cannot judge",
        "washer.png": "unknown product",
    }
    line_fields, region_fields = described_fields()
    for line in lines:
        check_fields(line, line_fields)
        for region in line["regions"]:
            check_fields(region, region_fields)
    bad, good, text, unknown = (
        found[name] for name in ("bolt/bad.png", "bolt/good.png", "text.png", "washer.png")
    )
    assert (bad["product"], bad["anomalous"], bad["false_rejects"]) == ("bolt", True, 0.05)
    assert bad["normalized_score"] > bad["threshold"] == good["threshold"] >= good["normalized_score"]
    assert bad["p_value"] <= 0.05 < good["p_value"]
    assert bad["score"] == pytest.approx(250.0)
    assert "not a readable image" in text["error"] == text["reason"]
    assert (unknown["anomalous"], unknown["error"]) == (None, None)
    assert unknown["product_distance"] > 1.0
    assert "from the nearest product" in unknown["reason"]
    left, top, width, height = bad["regions"][0]["box"]  # in pixels of the image of 64 x 64
    assert abs(left - 32) + abs(top - 16) + abs(width - 8) + abs(height - 8) <= 16
    assert result.stderr.splitlines()[-1].startswith("adq-edge: 1 of 5 images not judged. ")


@pytest.mark.parametrize(
    ("names", "fail_on", "code"),
    [
        ("bolt/good.png", "any", 0),
        ("bolt/bad.png", "defective", 3),
        ("bolt/bad.png", "unknown", 0),
        ("washer.png", "defective", 0),
        ("washer.png", "unknown", 3),
        ("bolt/bad.png", "any", 3),
        ("washer.png", "any", 3),
        ("bolt/bad.png text.png", "any", 1),
    ],
)
def test_exit_code_on_request(fitted, images: Path, names: str, fail_on: str, code: int):
    paths = [images / name for name in names.split()]
    arguments = ["predict", fitted, *paths, "--no-heat-maps"]
    assert run_cli(*arguments, "--fail-on", fail_on, cwd=images).returncode == code
    assert run_cli(*arguments, cwd=images).returncode == (1 if code == 1 else 0)


def test_fail_on_counts_anomalous_images_of_engines_without_products(tmp_path: Path):
    engine = write_engine(tmp_path / "e.onnx")
    threshold = Threshold(100.0, 1.0, 4, "data")
    dataclasses.replace(read_sidecar(engine), threshold=threshold).write(sidecar_path(engine))
    image = write_part(tmp_path / "a.png", "washer", 0)
    result = run_cli("predict", engine, image, "--no-heat-maps", "--fail-on", "any", cwd=tmp_path)
    (line,) = lines_of(result)
    assert result.returncode == 3 * (line["verdict"] == "anomalous")
    assert f"learn them from good images: adq-edge fit {engine} --data DIR" in result.stderr
    check_fields(line, described_fields()[0])


def test_product_of_the_option_or_of_the_folder(fitted, images: Path):
    as_nut = lines_of(run_cli("predict", fitted, images / "washer.png", "--product", "nut", cwd=images))
    assert as_nut[0]["product"] == "nut"
    assert as_nut[0]["verdict"] != "unknown product"
    arguments = ["predict", fitted, "--product-from-folder", "--no-heat-maps"]
    swapped = write_part(images / "nut" / "test" / "bad" / "0.png", "bolt", 5)
    lines = lines_of(run_cli(*arguments, images / "bolt", swapped, cwd=images))
    assert [line["product"] for line in lines] == ["bolt", "bolt", "nut"]
    refused = run_cli(*arguments, images, cwd=images)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "no folder above this image has the name of a product" in refused.stderr
    assert "Products: bolt, nut" in refused.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--false-rejects 0", "a false-reject rate of 0 %"),
        ("--false-rejects 100%", "a false-reject rate of 100 %"),
        ("--false-rejects 1", "a false-reject rate of 100 %"),
        ("--false-rejects -1%", "a false-reject rate of -1 %"),
        ("--false-rejects few", "--false-rejects: 'few' is not a share. Give a percentage such as 0.5%"),
        ("--false-rejects nan", "'nan' is not a share"),
        ("--min-area -1", "the smallest area is -1 pixels"),
        ("--min-area 100%", "the smallest area is 100 % of the image"),
        ("--min-area 3px", "'3px' is not an area"),
        ("--product gear", "has no product 'gear'. Products: bolt, nut"),
        ("--product nut --product-from-folder", "exclude each other"),
        ("--fail-on good", "'good' is not one of"),
    ],
)
def test_impossible_options_are_one_line_before_any_image(fitted, images: Path, options: str, complaint: str):
    result = run_cli("predict", fitted, images, *options.split(), cwd=images)
    assert (result.returncode, result.stdout) == (2, "")
    assert complaint in result.stderr.splitlines()[-1]
    assert not (images / "predictions").exists()


def test_options_of_products_need_products(tmp_path: Path):
    engine = write_engine(tmp_path / "e.onnx")
    image = write_part(tmp_path / "a.png", "bolt", 0)
    for options in (["--product", "bolt"], ["--false-rejects", "1%"], ["--min-area", "5"]):
        result = run_cli("predict", engine, image, *options, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, "")
        assert f"{options[0]} needs products, it has none" in result.stderr


def test_unusable_products_are_never_replaced_by_the_threshold(fitted, images: Path, tmp_path: Path):
    engine = tmp_path / "e.onnx"
    for source, target in ((fitted, engine), (sidecar_path(fitted), sidecar_path(engine))):
        shutil.copy(str(source), str(target))
    content = products_path(fitted).read_text()
    other = content.replace(sha256(fitted), "1" * 64)
    damaged = {"another engine file": other, "not a JSON file": content[:-100], "not": "{}"}
    damaged["damaged"] = content.replace('"images": 24', '"images": 25')
    damaged["number"] = content.replace('"false_rejects": 0.05', '"false_rejects": NaN')
    for complaint, text in damaged.items():
        products_path(engine).write_text(text)
        result = run_cli("predict", engine, images, cwd=tmp_path)
        assert (result.returncode, result.stdout) == (2, ""), complaint
        assert complaint in result.stderr
        assert "Fit the products again: adq-edge fit ENGINE" in result.stderr
        with pytest.raises(EngineError):
            predict(engine, images)


def test_smaller_regions_do_not_make_a_part_defective(fitted, images: Path):
    bad = images / "bolt" / "bad.png"
    verdicts = {}
    for area in ("1", "30", "2000", "0.5%", "50%"):
        result = run_cli("predict", fitted, bad, "--min-area", area, "--no-heat-maps", cwd=images)
        (line,) = lines_of(result)
        assert bool(line["regions"]) == (line["verdict"] == "defective")
        verdicts[area] = line["verdict"]
    small, large = ("1", "30", "0.5%"), ("2000", "50%")
    assert verdicts == {**dict.fromkeys(small, "defective"), **dict.fromkeys(large, "good")}


def test_rate_on_the_command_line_moves_the_threshold_and_names_an_estimate(fitted, images: Path):
    thresholds = []
    for rate in ("20%", "0.05", "0.1%"):
        result = run_cli("predict", fitted, images / "bolt" / "good.png", "--false-rejects", rate, cwd=images)
        thresholds.append(lines_of(result)[0]["threshold"])
    assert thresholds == sorted(thresholds)
    assert "note: about 0.1 % of good parts rejected, an estimate, for bolt" in result.stderr
    assert "999 promise 0.1 %" in result.stderr


def test_heat_map_is_red_from_the_threshold_on_and_outlines_the_regions(fitted, tmp_path: Path):
    with adq_edge.load_inspector(fitted) as inspector:
        good = inspector.inspect(draw_part("bolt", 2))
        bad_image = draw_part("bolt", 901, is_defective=True)
        bad = inspector.inspect(bad_image)
    drawn = draw_inspection(bad_image, bad).astype(int)
    left, top, width, height = bad.regions[0].box
    assert (drawn[top, left] == 255).all()
    assert (drawn[top + height - 1, left + width - 1] == 255).all()
    black = np.zeros_like(bad_image)
    colors = draw_inspection(black, dataclasses.replace(bad, regions=()))
    reddest = draw_inspection(black, dataclasses.replace(bad, regions=(), map_threshold=-1e9))[0, 0]
    is_red = (colors == reddest).all(axis=2)
    np.testing.assert_array_equal(is_red, bad.anomaly_map > bad.map_threshold)
    assert not (draw_inspection(black, good) == reddest).all(axis=2).any()
    (prediction,) = predict(fitted, bad_image, output=tmp_path / "maps")
    np.testing.assert_array_equal(read_image(Path(prediction.heat_map)), drawn)


# --- Python ------------------------------------------------------------------------------------------


def test_prediction_of_python_has_the_fields_of_the_inspection(fitted, images: Path):
    with adq_edge.load_inspector(fitted) as inspector:
        path = images / "bolt" / "bad.png"
        (prediction,) = adq_edge.predict(inspector, path, output=None)
        inspection = inspector.inspect(path)
        assert prediction.inspection == inspection
        assert (prediction.verdict, prediction.product) == ("defective", "bolt")
        assert (prediction.score, prediction.normalized_score) == (inspection.raw_score, inspection.score)
        assert (prediction.p_value, prediction.regions) == (inspection.p_value, inspection.regions)
        np.testing.assert_array_equal(
            prediction.anomaly_map, inspector.engine.run(read_resized(path)[None]).maps[0]
        )
        with pytest.raises(AdqError, match="an inspector has its own rate"):
            adq_edge.predict(inspector, path, false_rejects=0.1)
    with pytest.raises(DataError, match="array 0: no folder above this image"):
        adq_edge.predict(fitted, np.zeros((8, 8, 3), np.uint8), product_from_folder=True)


def read_resized(path: Path) -> np.ndarray:
    from adq_edge.core.images.imaging import load_image

    return load_image(path, (SIZE, SIZE))


def test_inspector_takes_paths_arrays_gray_images_both_orders_of_channels_and_batches(fitted, tmp_path: Path):
    path = write_part(tmp_path / "a.png", "bolt", 7)
    rgb = draw_part("bolt", 7)
    with adq_edge.load_inspector(fitted) as inspector:
        expected = inspector.inspect(path)
        for found in (
            inspector.inspect(str(path)),
            inspector.inspect(rgb),
            inspector.inspect(cv2.imread(str(path)), color="bgr"),
            inspector.inspect_batch([path, rgb])[1],
            inspector.inspect_batch(rgb[None])[0],
        ):
            assert (found.score, found.product_distance) == (expected.score, expected.product_distance)
        gray = rgb[..., 1]
        assert inspector.inspect(gray).score == inspector.inspect(np.dstack([gray] * 3)).score
        for wrong in (rgb, "part.png", path, None):
            with pytest.raises(DataError, match=r"(?i)use inspect for one image"):
                inspector.inspect_batch(wrong)
        with pytest.raises(DataError, match="neither a path nor a numpy array"):
            inspector.inspect(None)
        with pytest.raises(DataError, match="is not an order of channels"):
            inspector.inspect(rgb, color="gbr")


def test_threads_that_share_an_inspector_get_equal_results(fitted):
    parts = [draw_part(name, seed) for name in ("bolt", "nut") for seed in range(6)]
    parts += [draw_part("nut", 50, is_defective=True), draw_part("washer", 1)]
    with adq_edge.load_inspector(fitted) as inspector:
        expected = inspector.inspect_batch(parts)
        for found in run_in_threads(8, lambda _: inspector.inspect_batch(parts)):
            assert found == expected
            for one, other in zip(found, expected):
                np.testing.assert_array_equal(one.anomaly_map, other.anomaly_map)


def test_folder_of_either_unicode_form_names_the_product(tmp_path: Path):
    image = ImageFile(tmp_path / "mu\u0308tter" / "1.png")
    assert product_of_folder(image, ["bolt", "m\u00fctter"]) == "m\u00fctter"
    assert product_of_folder(image, ["m\u00fctter", "mu\u0308tter"]) == "mu\u0308tter"
