"""Models that resize the image in their graph: taken out where adq-edge can do it, kept where it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from adq_edge.core.images.imaging import resize_image, write_image
from adq_edge.onnx_import.import_model import import_model
from adq_edge.onnx_import.options import ImportOptions
from factories.command_line import run_cli
from factories.foreign_models import MEAN, STD, GraphWriter, save

GIVEN, INNER = 48, 32


def resizing_model(
    path: Path,
    *,
    mode: str = "linear",
    inner: int = INNER,
    normalize_first: bool = False,
    scales: bool = False,
    size: object = GIVEN,
) -> Path:
    """Write a model that resizes images in its graph and normalizes them before or after that."""
    writer = GraphWriter()
    tensor = writer.add("Div", writer.add("Sub", "x", MEAN), STD) if normalize_first else "x"
    target = ["", "", np.array([1, 3, inner, inner], np.int64)]
    if scales:
        target = ["", np.array([1, 1, inner / GIVEN, inner / GIVEN], np.float32)]
    tensor = writer.add("Resize", tensor, *target, mode=mode, coordinate_transformation_mode="half_pixel")
    if not normalize_first:
        tensor = writer.add("Div", writer.add("Sub", tensor, MEAN), STD)
    writer.add("Identity", writer.network(tensor), output="map")
    batch = 1 if not scales else "N"
    return save(writer.model({"x": [batch, 3, size, size]}, {"map": [batch, 1, None, None]}), path)


def maps(model: Path, **inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (found,) = session.run([session.get_outputs()[0].name], inputs)
    return np.asarray(found).reshape(len(found), *found.shape[-2:])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    small = np.random.default_rng(3).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return resize_image(small, (96, 96))


def pixels(image: np.ndarray, size: int) -> np.ndarray:
    return (resize_image(image, (size, size)) / 255).transpose(2, 0, 1)[None].astype(np.float32)


@pytest.mark.parametrize("scales", [False, True])
@pytest.mark.parametrize("normalize_first", [False, True])
def test_smaller_size_in_the_graph_is_the_size_of_the_bundle(
    scales: bool, normalize_first: bool, tmp_path: Path, image: np.ndarray
):
    source = resizing_model(tmp_path / "m.onnx", scales=scales, normalize_first=normalize_first)
    for number, angle in enumerate((0, 1, 2)):
        write_image(tmp_path / "data" / "test" / "good" / f"{number}.png", np.rot90(image, angle).copy())
    bundle = import_model(source, tmp_path / "bundle", data=tmp_path / "data")
    assert bundle.manifest.image_size == (INNER, INNER)
    found = maps(bundle.model, image=resize_image(image, (INNER, INNER))[None])
    given = maps(source, x=pixels(image, GIVEN))
    assert np.corrcoef(found.ravel(), given.ravel())[0, 1] > 0.9  # another way of resizing
    imported = bundle.manifest.imported
    assert imported is not None
    assert f"of {GIVEN}x{GIVEN} to {INNER}x{INNER} in the graph, replaced" in imported.resize
    assert imported.resize_difference is not None
    assert 0 < imported.resize_difference < 0.5


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"mode": "nearest"}, {}),
        ({"inner": 64}, {}),
        ({"normalize_first": True, "mode": "nearest", "inner": 64}, {}),
        ({}, {"image_size": (GIVEN, GIVEN)}),
    ],
)
def test_other_resizing_stays_in_the_graph(changes, options, tmp_path: Path, image: np.ndarray):
    source = resizing_model(tmp_path / "m.onnx", **changes)
    bundle = import_model(source, tmp_path / "bundle", options=ImportOptions(**options))
    assert bundle.manifest.image_size == (GIVEN, GIVEN)
    found = maps(bundle.model, image=resize_image(image, (GIVEN, GIVEN))[None])
    np.testing.assert_allclose(found, maps(source, x=pixels(image, GIVEN)), rtol=1e-3)
    imported = bundle.manifest.imported
    assert imported is not None
    assert "in the graph, as in the file" in imported.resize
    assert "0..1; in the graph - (0.485, 0.456, 0.406)" in imported.pixels


def test_normalization_behind_a_padding_is_not_done_twice(tmp_path: Path, image: np.ndarray):
    writer = GraphWriter()
    widths = np.array([0, 0, 4, 4, 0, 0, 4, 4], np.int64)
    padded = writer.add("Pad", "x", widths, np.float32(0.4))
    writer.add(
        "Identity", writer.network(writer.add("Div", writer.add("Sub", padded, MEAN), STD)), output="map"
    )
    model = writer.model({"x": ["N", 3, 24, 24]}, {"map": ["N", 1, None, None]})
    source = save(model, tmp_path / "m.onnx")
    bundle = import_model(source, tmp_path / "bundle")
    found = maps(bundle.model, image=resize_image(image, (24, 24))[None])
    np.testing.assert_allclose(found, maps(source, x=pixels(image, 24)), rtol=1e-3)


def test_resizing_by_a_factor_needs_the_size_of_the_image(tmp_path: Path, image: np.ndarray):
    source = resizing_model(tmp_path / "m.onnx", scales=True, size="size")
    refused = run_cli("import", source, cwd=tmp_path)
    assert (refused.returncode, "--image-size" in refused.stderr) == (2, True)
    bundle = import_model(source, tmp_path / "bundle", options=ImportOptions(image_size=(GIVEN, GIVEN)))
    found = maps(bundle.model, image=resize_image(image, (GIVEN, GIVEN))[None])
    np.testing.assert_allclose(found, maps(source, x=pixels(image, GIVEN)), rtol=1e-3)
