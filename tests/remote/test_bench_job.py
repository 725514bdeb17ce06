"""The job for a board, from the bundles and engines that the user named."""

from __future__ import annotations

import dataclasses
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Optional

import pytest

from adq_edge.artifacts.bundle import Bundle
from adq_edge.artifacts.precision_plan import Plan
from adq_edge.artifacts.products import Products
from adq_edge.artifacts.sidecar import TensorRTDetails, read_sidecar
from adq_edge.builders.build import build
from adq_edge.calibration.sources import image_source
from adq_edge.core.errors import EngineError
from adq_edge.core.options import COMMON_PRECISIONS, Device, Precision, Scenario, cpu_target
from adq_edge.core.runtimes import find_runtime
from adq_edge.datasets.dataset import read_dataset
from adq_edge.decision.fit import fit
from adq_edge.quantization.float_model import FloatModel
from adq_edge.remote.bench_job import Request, extras_for, make_job
from adq_edge.remote.engine_specs import EngineSpec, read_specs
from adq_edge.remote.jobs import Job
from factories.tiny_method import export_tiny

HERE = platform.machine()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Bundle:
    return export_tiny(tmp_path_factory.mktemp("tiny"), "parts", dataset)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory, bundle: Bundle) -> Dict[Precision, Path]:
    """One engine per precision, built from the same bundle."""
    folder = tmp_path_factory.mktemp("engines")
    paths = {p: folder / f"parts-{p.value}.onnx" for p in COMMON_PRECISIONS}
    return {p: build(bundle.path, path, precision=p).path for p, path in paths.items()}


def commands(job: Job) -> List[str]:
    return [" ".join(command) for step in job.steps for command in step.commands]


def test_engine_is_built_on_a_board_with_its_options(engines):
    specs = read_specs([engines[Precision.INT8], engines[Precision.FP16]], Device.JETSON, Precision.FP32)
    request = Request(Device.JETSON, quick=True, scenarios=(Scenario.OFFLINE,), cuda_graph=False)
    job = make_job(request, specs, "aarch64", ("adq-edge",))
    doctor, int8, fp16, bench = commands(job)
    assert doctor == "adq-edge doctor --output benchmarks/results/doctor.json"
    assert "/parts --int8 --device jetson --calib lp --calib-data calibration/parts-int8" in int8
    assert int8.endswith("parts-int8 --samples 12 --output engines/parts-int8.plan")
    assert fp16.endswith("/parts --fp16 --device jetson --output engines/parts-fp16.plan")
    assert bench == (
        "adq-edge bench engines/parts-int8.plan engines/parts-fp16.plan --device jetson --quick "
        "--no-cuda-graph --scenario offline"
    )
    images = [name for name in job.files if name.startswith("work/calibration/")]
    assert len(images) == 12
    assert sum(name.endswith("/model.onnx") for name in job.files) == 1, "one bundle for both"
    assert not any(name.startswith("work/engines/") for name in job.files)
    assert extras_for(request, specs) == ("jetson",)


def test_cpu_engine_is_sent_unchanged_to_a_board_of_the_same_architecture(engines, tmp_path: Path):
    path = engines[Precision.FP32]
    for name in (path.name, f"{path.name}.json"):
        (tmp_path / "two").mkdir(exist_ok=True)
        shutil.copy(str(path.with_name(name)), str(tmp_path / "two" / name))
    specs = read_specs([path, tmp_path / "two" / path.name], Device.CPU, Precision.INT8)
    job = make_job(Request(Device.CPU), specs, HERE, ("adq-edge",))
    assert commands(job)[1:] == [
        "adq-edge bench engines/parts-fp32.onnx engines/parts-fp32-2.onnx --device cpu"
    ]
    assert {name for name in job.files if name.endswith(".json")} == {
        "work/engines/parts-fp32.onnx.json",
        "work/engines/parts-fp32-2.onnx.json",
    }
    elsewhere = make_job(Request(Device.CPU), specs, "another", ("adq-edge",))
    assert len(commands(elsewhere)) == 4, "not built again for another architecture"


def test_products_go_with_an_engine_that_is_sent_unchanged(engines, dataset: Path, tmp_path: Path):
    path = tmp_path / "e.onnx"
    for suffix in ("", ".json"):
        shutil.copy(f"{engines[Precision.FP32]}{suffix}", f"{path}{suffix}")
    products = fit(path, dataset, products=["part0"], threads=1).path

    def sent(machine: str = HERE, runtime: Optional[str] = None) -> List[Path]:
        request = Request(Device.CPU, runtime=None if runtime is None else find_runtime(runtime))
        job = make_job(request, read_specs([path], Device.CPU, Precision.FP32), machine, ("adq-edge",))
        return [file for name, file in job.files.items() if name.endswith(".products")]

    assert sent() == [products]
    assert sent(runtime="openvino") == sent("another") == [], "they are of another engine or runtime there"
    stale = dataclasses.replace(Products.read(products), engine_sha256="0" * 64)
    stale.write(products)
    assert sent() == []
    products.write_text("mine")
    assert sent() == []


def build_arguments(spec: EngineSpec, machine: str, folder: Path) -> List[str]:
    """Return the arguments of `build` for an engine, and write the files of the job to a folder."""
    job = make_job(Request(Device.CPU), [spec], machine, ("adq-edge",))
    write_files(job, folder)
    (command,) = [command for command in commands(job) if command.startswith("adq-edge build ")]
    return command.split()[1:]


def write_files(job: Job, folder: Path) -> None:
    for name, path in job.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(path), str(folder / name))


def test_engine_built_again_has_the_same_bytes(bundle, dataset: Path, tmp_path: Path):
    """It has the same float32 layers, runtime and calibration images in the same order."""
    layer = FloatModel.load(bundle).region.operators[0].node.name
    plan = tmp_path / "plan.json"
    Plan(bundle.manifest.model_sha256, cpu_target(), (layer,)).write(plan)
    here = build(bundle.path, tmp_path / "mixed.onnx", plan=plan, samples=8, runtime="openvino")
    (spec,) = read_specs([here.path], Device.CPU, Precision.INT8)
    assert extras_for(Request(Device.CPU), [spec]) == ("openvino",)
    # An unknown architecture has the integer arithmetic of x86.
    options = build_arguments(spec, "another", tmp_path)
    sent = image_source(tmp_path / "work" / "calibration" / "mixed", 8).paths
    chosen = image_source(dataset, 8).paths
    assert [path.read_bytes() for path in sent] == [path.read_bytes() for path in chosen]
    subprocess.run([sys.executable, "-m", "adq_edge", *options], cwd=str(tmp_path / "work"), check=True)
    there = read_sidecar(tmp_path / "work" / "engines" / "mixed.onnx")
    assert (there.runtime, there.float_layers) == ("openvino", (layer,))
    assert there.engine_sha256 == here.sidecar.engine_sha256
    with pytest.raises(
        EngineError, match=r"its precision plan is for the integer arithmetic of x86, not of arm\. Name its"
    ):
        build_arguments(spec, "aarch64", tmp_path)
    plan.write_text("another")
    for name in (spec.sidecar.plan.name, "", "x" * 5000):
        file = dataclasses.replace(spec.sidecar.plan, name=name)
        moved = dataclasses.replace(spec, sidecar=dataclasses.replace(spec.sidecar, plan=file))
        with pytest.raises(EngineError, match=r"its precision plan is missing or changed\. Name its bundle"):
            build_arguments(moved, "another", tmp_path)


def test_engine_is_not_calibrated_again_on_other_images(bundle, dataset: Path, tmp_path: Path):
    path = build(bundle.path, tmp_path / "own.onnx", calib="minmax", calib_data=dataset / "part0").path
    (spec,) = read_specs([path], Device.CPU, Precision.INT8)
    with pytest.raises(
        EngineError, match=r"own\.onnx: the images in .* differ from the engine's calibration images"
    ):
        build_arguments(spec, "another", tmp_path)


@pytest.mark.parametrize(
    ("device", "version", "route", "dla", "batch", "options"),
    [
        (Device.CUDA, "10.3.0", "explicit", None, 4, ["--max-batch", "4"]),
        (Device.CUDA, "10.3.0", "implicit", None, 1, ["--route", "implicit"]),
        (Device.JETSON, "8.5.2", "implicit", None, 1, []),
        (Device.JETSON, "8.5.2", "implicit", 1, 1, ["--dla", "1"]),
        (Device.CUDA, "8.5.2", "implicit", 1, 1, None),
    ],
)
def test_tensorrt_options_are_repeated_on_the_board(
    engines, device: Device, version: str, route: str, dla: Optional[int], batch: int, options
):
    (spec,) = read_specs([engines[Precision.FP16]], device, Precision.FP16)
    assert spec.sidecar is not None
    details = TensorRTDetails(route, "7.2", batch, dla, None, (), 64, 1.0, None, ())
    sidecar = dataclasses.replace(
        spec.sidecar, device="jetson", runtime="tensorrt", runtime_version=version, tensorrt=details
    )
    spec = dataclasses.replace(spec, sidecar=sidecar)
    if options is None:
        with pytest.raises(EngineError, match="runs on DLA, which only a Jetson has"):
            make_job(Request(device), [spec], "aarch64", ("adq-edge",))
        return
    _, build_command, _ = commands(make_job(Request(device), [spec], "aarch64", ("adq-edge",)))
    words = build_command.split()
    assert words[words.index(device.value) + 1 : words.index("--output")] == options


def test_engine_without_its_bundle_is_rejected(engines):
    specs = read_specs([engines[Precision.FP32]], Device.JETSON, Precision.INT8)
    orphan = [dataclasses.replace(specs[0], bundle=None)]
    with pytest.raises(EngineError, match=r"its bundle is missing or changed\. Name the bundle instead"):
        make_job(Request(Device.JETSON), orphan, "aarch64", ("adq-edge",))


def test_board_evaluates_on_the_same_test_set(bundle, dataset: Path, tmp_path: Path):
    specs = read_specs([bundle.path], Device.CPU, Precision.FP32)
    job = make_job(Request(Device.CPU, data=dataset), specs, HERE, ("adq-edge",))
    write_files(job, tmp_path)
    sent, here = read_dataset(tmp_path / "work" / "data"), read_dataset(dataset)
    for theirs, ours in zip(sent.categories, here.categories):
        assert (theirs.name, len(theirs.train), theirs.has_masks) == (ours.name, 1, True)
        assert [sample.path.read_bytes() for sample in theirs.test] == [
            s.path.read_bytes() for s in ours.test
        ]
    assert commands(job)[2] == "adq-edge eval engines/parts-fp32.onnx --data data"


def test_board_reads_images_with_the_settings_of_this_machine(
    bundle, dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    specs = read_specs([bundle.path], Device.CPU, Precision.FP32)
    monkeypatch.setenv("ADQ_EDGE_BIT_DEPTH", "12")
    found = commands(make_job(Request(Device.CPU, data=dataset), specs, HERE, ("adq-edge",)))
    assert all(command.startswith("env ADQ_EDGE_BIT_DEPTH=12 adq-edge ") for command in found)
