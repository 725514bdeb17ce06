"""`calibrate`: from images to ranges files."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Iterator, List, Tuple

import numpy as np
import onnxruntime
import pytest

import adq_edge
from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.artifacts.ranges import read_ranges
from adq_edge.calibration.activations import observe
from adq_edge.calibration.calibrate import calibrate_bundle, measure_histograms
from adq_edge.calibration.calibrated_model import read_weights
from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.calibration.sources import (
    CalibrationSource,
    MixedSource,
    RandomNormalSource,
    image_source,
    make_source,
)
from adq_edge.core.errors import CalibrationError
from adq_edge.core.images.imaging import load_image
from adq_edge.quantization.addends import observe_kept_parts
from adq_edge.quantization.equalization import equalize
from adq_edge.quantization.float_model import FloatModel
from factories.command_line import run_cli

# --- one pass over the images ------------------------------------------------------------------


@pytest.fixture
def fresh(bundle, tmp_path: Path) -> Bundle:
    """Return a copy of the bundle without ranges."""
    shutil.copytree(str(bundle.path), str(tmp_path / "fresh"), ignore=shutil.ignore_patterns("ranges"))
    return open_bundle(tmp_path / "fresh")


def calibrated_files(bundle: Bundle, calibrators: List[str], source: CalibrationSource) -> List[Path]:
    return [one.path for one in calibrate_bundle(bundle, FloatModel.load(bundle), calibrators, source)]


def test_several_calibrators_share_one_pass_that_is_not_repeated(bundle, dataset: Path, monkeypatch):
    source = image_source(dataset, 4)
    paths = calibrated_files(bundle, ["minmax", "percentile:99"], source)
    ranges = [read_ranges(path, bundle.manifest.model_sha256, []) for path in paths]
    assert [r.calibrator for r in ranges] == ["minmax", "percentile:99"]
    for name, (low, high) in ranges[1].tensors.items():
        outer = ranges[0].tensors[name]
        assert outer[0] <= low <= high <= outer[1]
    monkeypatch.setattr("adq_edge.calibration.calibrate.collect", None)  # would fail if called
    assert calibrated_files(bundle, ["minmax", "percentile:99"], source) == paths


def test_ranges_of_all_values_are_activation_extremes(bundle, dataset: Path):
    source = image_source(dataset, 5)
    (path,) = calibrated_files(bundle, ["percentile:100"], source)
    ranges = read_ranges(path, bundle.manifest.model_sha256, [])
    names = list(ranges.tensors)
    equalized = equalize(FloatModel.load(bundle), ranges.equalization)
    model, (_, addends) = equalized.proto, observe_kept_parts(equalized)
    session = onnxruntime.InferenceSession(observe(model, names).SerializeToString())
    runs = [
        session.run(names, {"image": load_image(p, bundle.manifest.image_size)[None]}) for p in source.paths
    ]
    for i, name in enumerate(names):
        low = min(0.0, *(float(run[i].min()) for run in runs))
        high = max(0.0, *(float(run[i].max()) for run in runs))
        found = ranges.tensors[name]
        assert found[1] == pytest.approx(high, rel=1e-5, abs=1e-6)
        if name in addends:  # the ReLU behind the addition sets the lowest values to zero anyway
            assert low < found[0] <= 0.0
        else:
            assert found[0] == pytest.approx(low, rel=1e-5, abs=1e-6)
    assert addends


def test_equalization_and_ranges_read_each_image_once(fresh: Bundle, dataset: Path):
    images = list(image_source(dataset, 3).images(fresh.manifest.image_size))
    source = CountingSource(len(images), images)
    (measured,) = calibrate_bundle(fresh, FloatModel.load(fresh), ["minmax"], source)
    assert measured.ranges.equalization
    assert source.read == [0, 1, 2]


def test_observed_tensors_are_those_of_the_whole_model_without_its_other_nodes(bundle, dataset: Path):
    model = FloatModel.load(bundle)
    first = model.region.operators[0].output
    small = observe(model.proto, [first])
    assert len(small.graph.node) < len(model.proto.graph.node) / 4
    (image,) = image_source(dataset, 1).images(bundle.manifest.image_size)
    both = observe(model.proto, [first, "anomaly_map"])
    found, expected = (
        onnxruntime.InferenceSession(graph.SerializeToString()).run([first], {"image": image[None]})[0]
        for graph in (small, both)
    )
    np.testing.assert_array_equal(found, expected)


def test_calibration_needs_one_image(bundle, dataset: Path):
    assert len(calibrated_files(bundle, ["entropy"], image_source(dataset, 1))) == 1
    with pytest.raises(CalibrationError, match="at least one image"):
        calibrated_files(bundle, ["entropy"], RandomNormalSource(0))


def test_synthetic_defects_widen_ranges(bundle: Bundle, dataset: Path):
    model, size = FloatModel.load(bundle), bundle.manifest.image_size
    normal, damaged, mixed = (
        {
            name: histogram.data_range
            for name, histogram in measure_histograms(model, source.images(size), threads=1).items()
        }
        for source in (
            make_source("images", dataset, 6),
            make_source("synthetic-defects", dataset, 6),
            make_source("images,synthetic-defects", dataset, 12),
        )
    )
    for name, (low, high) in mixed.items():
        assert low == pytest.approx(min(normal[name][0], damaged[name][0]), rel=1e-5, abs=1e-6)
        assert high == pytest.approx(max(normal[name][1], damaged[name][1]), rel=1e-5, abs=1e-6)
    wider = [mixed[name][1] > 1.2 * normal[name][1] for name in normal]
    assert np.mean(wider) > 0.5


def test_each_source_and_calibrator_has_its_own_file(fresh: Bundle, dataset: Path):
    specs = ["minmax", "percentile:99", "percentile:99.9"]
    sources = [
        make_source(spec, dataset, 4)
        for spec in ("images", "random-normal", "images,random-normal", "random-normal,images")
    ]
    paths = [path for source in sources for path in calibrated_files(fresh, specs, source)]
    assert len({path.name.lower() for path in paths}) == len(sources) * len(specs)
    assert "percentile=99.9-images+random-normal-4.json" in {path.name for path in paths}
    assert all(not set(path.name) & set('<>:"/\\|?*, ') for path in paths)  # Windows refuses most of these
    assert [read_ranges(path, fresh.manifest.model_sha256, []).source for path in paths[6:]] == [
        *["images+random-normal"] * 3,
        *["random-normal+images"] * 3,
    ]


@dataclasses.dataclass(frozen=True)
class StrangeSource:
    """A source whose images differ from its announcement."""

    announced: int
    given: List[np.ndarray]
    name: str = "a/../strange:one"

    def __len__(self) -> int:
        return self.announced

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        return iter(self.given)

    def fingerprint(self) -> str:
        return "strange"


@dataclasses.dataclass(frozen=True)
class CountingSource(StrangeSource):
    """A source that lists the numbers of the images that were read."""

    read: List[int] = dataclasses.field(default_factory=list)

    def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
        for number, image in enumerate(self.given):
            self.read.append(number)
            yield image


def test_unsuitable_source_is_rejected_and_file_name_is_valid(fresh: Bundle):
    good = np.zeros((*fresh.manifest.image_size, 3), np.uint8)
    for images, complaint in (
        ([good.astype(np.float32)], "gave an image of float32"),
        ([good[:-1]], r"It must be uint8 \(64, 64, 3\)"),
        ([good], "gave 1 image, but its length is 2"),
        ([good.tolist()], "gave an image of int64"),
    ):
        with pytest.raises(CalibrationError, match=complaint):
            calibrated_files(fresh, ["minmax"], StrangeSource(2, images))
    assert not fresh.ranges_folder.exists()
    turned = [good.transpose(1, 0, 2), good[::-1]]  # not contiguous
    (path,) = calibrated_files(fresh, ["minmax"], StrangeSource(2, turned))
    assert path.name == "minmax-a%2F..%2Fstrange%3Aone-2.json"
    assert path.parent == fresh.ranges_folder


@pytest.mark.parametrize("given_range", [(0.0, np.nan), (-np.inf, 1.0), (0.5, 1.0), (1.0, -1.0)])
def test_impossible_range_of_a_calibrator_is_rejected(
    fresh: Bundle, monkeypatch: pytest.MonkeyPatch, given_range: Tuple[float, float]
):
    monkeypatch.setattr(
        "adq_edge.calibration.calibrators.minmax.MinMaxCalibrator.compute_range", lambda *_: given_range
    )
    with pytest.raises(CalibrationError, match=r"calibrator 'minmax' gave the range .* for tensor"):
        calibrated_files(fresh, ["minmax"], RandomNormalSource(1))
    assert not fresh.ranges_folder.exists()


def test_error_names_the_failing_source(fresh: Bundle):
    class Camera(StrangeSource):
        def images(self, size: Tuple[int, int]) -> Iterator[np.ndarray]:
            return broken()

    for source in (Camera(2, [], "camera"), MixedSource((RandomNormalSource(2), Camera(2, [], "camera")))):
        with pytest.raises(CalibrationError, match=r"source '.*camera' fails \(KeyError: .*lens") as refusal:
            calibrated_files(fresh, ["minmax"], source)
        assert "\n" not in str(refusal.value)
    assert not fresh.ranges_folder.exists()


def broken(*_: object) -> None:
    raise KeyError("no\nlens")


def test_error_names_a_plugin_whose_constructor_fails(monkeypatch: pytest.MonkeyPatch):
    for module in ("calibrators.registry", "sources"):
        monkeypatch.setattr(f"adq_edge.calibration.{module}.BUILT_IN", {"camera": f"{__name__}:broken"})
    with pytest.raises(CalibrationError, match="calibrator 'camera' cannot be made") as refusal:
        make_calibrator("camera")
    assert "\n" not in str(refusal.value)
    with pytest.raises(CalibrationError, match="source 'camera' cannot be made") as refusal:
        make_source("camera", None, 2)
    assert "\n" not in str(refusal.value)


def test_error_names_the_failing_calibrator(fresh: Bundle, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by\nzero")

    monkeypatch.setattr("adq_edge.calibration.calibrators.minmax.MinMaxCalibrator.compute_range", fail)
    with pytest.raises(
        CalibrationError, match=r"'minmax' fails on tensor .* \(ZeroDivisionError: divis.* zero"
    ):
        calibrated_files(fresh, ["minmax"], RandomNormalSource(1))
    assert not fresh.ranges_folder.exists()


# --- function and command ---------------------------------------------------------------------


def test_calibrate_function_writes_files_that_build_reuses(fresh: Bundle, dataset: Path, monkeypatch):
    results = adq_edge.calibrate(
        fresh.path, "entropy,mse", source="images,synthetic-defects", calib_data=dataset, samples=5
    )
    assert [ranges.calibrator for _, ranges in results] == ["entropy", "mse"]
    assert {ranges.source for _, ranges in results} == {"images+synthetic-defects"}
    assert {ranges.images for _, ranges in results} == {5}
    monkeypatch.setattr("adq_edge.calibration.calibrate.collect", None)  # would fail if called
    built = adq_edge.build(
        fresh.path,
        fresh.path / "e.onnx",
        calib="mse",
        calib_data=dataset,
        source="images,synthetic-defects",
        samples=5,
    )
    assert built.sidecar.calibration.ranges.name == results[1].path.name
    assert built.sidecar.calibration.source == "images+synthetic-defects"


def test_ranges_of_an_earlier_measurement_are_measured_again(fresh: Bundle, dataset: Path):
    options = {"calib": "minmax", "calib_data": dataset, "samples": 2}
    (first,) = adq_edge.calibrate(fresh.path, **options)
    stored = json.loads(first.path.read_text())
    del stored["measurement"]
    name = next(iter(stored["tensors"]))
    stored["tensors"][name] = [-1000.0, 1000.0]
    first.path.write_text(json.dumps(stored))
    (again,) = adq_edge.calibrate(fresh.path, **options)
    assert again.ranges.tensors == first.ranges.tensors


def test_calibrate_uses_default_images(fresh: Bundle, tmp_path: Path, dataset: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (trained_on,) = adq_edge.calibrate(fresh.path, ["minmax"])
    assert trained_on.ranges.images == 12
    shutil.copytree(str(dataset / "part0" / "train" / "good"), "calibration_data")
    (own,) = adq_edge.calibrate(fresh.path, ["minmax"])
    assert own.ranges.images == 6
    orphan = dataclasses.replace(fresh, manifest=dataclasses.replace(fresh.manifest, data=None))
    shutil.rmtree("calibration_data")
    monkeypatch.setattr("adq_edge.calibration.calibrate.open_bundle", lambda path: orphan)
    with pytest.raises(CalibrationError, match=r"calibration_data: no calibration images\. Put images there"):
        adq_edge.calibrate(fresh.path, source="random-normal,synthetic-defects")
    assert adq_edge.calibrate(fresh.path, source="random-normal", samples=1)[0].ranges.images == 1


def adq(*arguments: object) -> subprocess.CompletedProcess:
    return run_cli(*arguments, cwd=Path.cwd())


def test_calibrate_command_prints_written_files(fresh: Bundle, dataset: Path):
    result = adq(
        "calibrate",
        fresh.path,
        "--calib",
        "entropy",
        "--calib",
        "mse,entropy",
        "--data",
        dataset,
        "--samples",
        3,
    )
    assert result.returncode == 0, result.stderr
    written = sorted(fresh.ranges_folder.iterdir())
    assert [path.name for path in written] == ["entropy-images-3.json", "mse-images-3.json"]
    tensors = len(read_ranges(written[0], fresh.manifest.model_sha256, []).tensors)
    assert result.stdout.splitlines() == [
        f"{path}: {name}, {tensors} tensors over 3 images (images)"
        for path, name in zip(written, ("entropy", "mse"))
    ]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--calib", "entropy,magic"], "no calibrator named 'magic'"),
        (["--calib", "magic", "--calib-data", "nowhere"], "no calibrator named 'magic'"),
        (["--source", "images,dreams"], "no source named 'dreams'. Use one of: images, random-normal, synth"),
        (["--source", "images,random-normal", "--samples", 1], "Give --samples 2 or more"),
        (["--calib-data", "nowhere"], "nowhere: no such folder. Name a folder with --calib-data"),
    ],
)
def test_calibrate_command_reports_errors_in_one_line(fresh: Bundle, options: List[object], complaint: str):
    result = adq("calibrate", fresh.path, *options)
    assert result.returncode == 2
    assert complaint in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_build_command_accepts_source(fresh: Bundle, tmp_path: Path):
    options = ["--calib", "minmax", "--source", "random-normal", "--samples", 2]
    result = adq("build", fresh.path, "-o", tmp_path / "e.onnx", *options)
    assert "calibrated: minmax, 2 inputs of source random-normal" in result.stdout, result.stderr


DAMAGES = {
    "bytes that are no array": lambda levels, scales: (b"x" + levels[1:], scales),
    "levels of another type": lambda levels, scales: (as_entry(np.float32, levels), scales),
    "levels of another shape": lambda levels, scales: (as_entry(np.int8, levels, -1), scales),
    "a scale of 0": lambda levels, scales: (levels, as_entry(np.float32, scales, factor=0)),
    "a scale that is NaN": lambda levels, scales: (levels, as_entry(np.float32, scales, factor=np.nan)),
    "scales of another type": lambda levels, scales: (levels, as_entry(np.float64, scales)),
}


def as_entry(kind: type, entry: bytes, *shape: int, factor: float = 1) -> bytes:
    """Return an entry of an .npz archive as another type or shape, multiplied by a factor."""
    values, buffer = np.load(io.BytesIO(entry)), io.BytesIO()
    np.save(buffer, (values * factor if factor != 1 else values).astype(kind).reshape(shape or values.shape))
    return buffer.getvalue()


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_rounded_weights_are_not_read(engines, bundle, tmp_path: Path, damage: str):
    (path,) = bundle.ranges_folder.glob("*.npz")
    with np.load(path) as arrays:
        key = str(arrays["key"])
    model = FloatModel.load(bundle)
    assert read_weights(path, key, model)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    levels, scales = (
        next(name for name in entries if name.startswith(kind)) for kind in ("levels", "scales")
    )
    entries[levels], entries[scales] = DAMAGES[damage](entries[levels], entries[scales])
    with zipfile.ZipFile(tmp_path / "damaged.npz", "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert read_weights(tmp_path / "damaged.npz", key, model) is None
