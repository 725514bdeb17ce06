"""What a board is told to do, by what the user named."""

from __future__ import annotations

import dataclasses
import platform
import shutil
from pathlib import Path
from typing import List

import pytest

from adq_edge.datasets.layout import read_dataset
from adq_edge.errors import EngineError
from adq_edge.options import Device, Precision, Scenario
from adq_edge.remote.jobs import Job
from adq_edge.remote.work import Request, extras_for, make_job, read_recipes

HERE = platform.machine()


def commands(job: Job) -> List[str]:
    return [" ".join(command) for step in job.steps for command in step.commands]


def test_engine_is_built_on_a_board_as_it_was_here(engines):
    recipes = read_recipes([engines[Precision.INT8], engines[Precision.FP16]], Device.JETSON, Precision.FP32)
    request = Request(Device.JETSON, quick=True, scenarios=(Scenario.OFFLINE,))
    job = make_job(request, recipes, "aarch64", ("adq-edge",))
    doctor, int8, fp16, bench = commands(job)
    assert doctor == "adq-edge doctor --json benchmarks/results/doctor.json"
    assert "/parts --int8 --device jetson --calib lp --calib-data calibration/parts-int8" in int8
    assert int8.endswith("--source images --samples 12 --output engines/parts-int8.plan")
    assert fp16.endswith("/parts --fp16 --device jetson --output engines/parts-fp16.plan")
    assert bench == (
        "adq-edge bench engines/parts-int8.plan engines/parts-fp16.plan --device jetson --quick "
        "--scenario offline"
    )
    pictures = [name for name in job.files if name.startswith("work/calibration/")]
    assert len(pictures) == 12
    assert sum(name.endswith("/model.onnx") for name in job.files) == 1, "one bundle for both"
    assert not any(name.startswith("work/engines/") for name in job.files)
    assert extras_for(request, recipes) == ("jetson",)


def test_engine_travels_as_it_is_where_it_fits(engines, tmp_path: Path):
    path = engines[Precision.FP32]
    for name in (path.name, f"{path.name}.json"):
        (tmp_path / "two").mkdir(exist_ok=True)
        shutil.copy(str(path.with_name(name)), str(tmp_path / "two" / name))
    recipes = read_recipes([path, tmp_path / "two" / path.name], Device.CPU, Precision.INT8)
    job = make_job(Request(Device.CPU), recipes, HERE, ("adq-edge",))
    assert commands(job)[1:] == [
        "adq-edge bench engines/parts-fp32.onnx engines/parts-fp32-2.onnx --device cpu"
    ]
    assert {name for name in job.files if name.endswith(".json")} == {
        "work/engines/parts-fp32.onnx.json",
        "work/engines/parts-fp32-2.onnx.json",
    }
    elsewhere = make_job(Request(Device.CPU), recipes, "another", ("adq-edge",))
    assert len(commands(elsewhere)) == 4, "built anew for another kind of processor"


def test_engine_whose_bundle_is_gone(engines):
    recipes = read_recipes([engines[Precision.FP32]], Device.JETSON, Precision.INT8)
    orphan = [dataclasses.replace(recipes[0], bundle=None)]
    with pytest.raises(EngineError, match=r"its bundle is not here as it was\. Name the bundle instead"):
        make_job(Request(Device.JETSON), orphan, "aarch64", ("adq-edge",))


def test_data_on_a_board_are_the_same_test_set(bundle, dataset: Path, tmp_path: Path):
    recipes = read_recipes([bundle.path], Device.CPU, Precision.FP32)
    job = make_job(Request(Device.CPU, data=dataset), recipes, HERE, ("adq-edge",))
    for name, path in job.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(path), str(tmp_path / name))
    sent, here = read_dataset(tmp_path / "work" / "data"), read_dataset(dataset)
    for theirs, ours in zip(sent.categories, here.categories):
        assert (theirs.name, len(theirs.train), theirs.has_masks) == (ours.name, 1, True)
        assert [sample.path.read_bytes() for sample in theirs.test] == [
            s.path.read_bytes() for s in ours.test
        ]
    assert commands(job)[2] == "adq-edge eval engines/parts-fp32.onnx --data data"
