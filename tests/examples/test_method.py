"""The method of an installed package, from a training to a verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Dict

import pytest

import adq_edge
from adq_edge.core.errors import AdqError
from factories.command_line import run_cli
from factories.examples import python

pytest.importorskip("torch")

WORKFLOW = """
import json, sys
import adq_edge

data, checkpoint = sys.argv[1:]
bundle = adq_edge.export(checkpoint, "bundle", data=data)
built = adq_edge.build(bundle.path, "method.onnx", samples=4, fit=data)
good = adq_edge.read_dataset(data).categories[0].train[0]
with adq_edge.load_inspector(built.path) as inspector:
    inspection = inspector.inspect(good)
print(json.dumps({"arch": bundle.manifest.arch, "operators": built.sidecar.operators,
                  "verdict": inspection.verdict, "size": inspection.anomaly_map.shape}))
"""


@pytest.fixture(scope="module")
def checkpoint(installed: Dict[str, str], dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("method") / "method.pt"
    arguments = ["train", "--data", dataset, "--arch", "feature-autoencoder", "--teacher-weights", "demo"]
    small = ["--epochs", 2, "--batch-size", 4, "--image-size", 64, "--output", path]
    done = python(["-m", "adq_edge", *arguments, *small], installed)
    assert done.returncode == 0, done.stderr
    return path


def test_engine_of_the_method_gives_a_verdict(
    installed: Dict[str, str], checkpoint: Path, dataset: Path, tmp_path: Path
):
    done = python(["-c", WORKFLOW, dataset, checkpoint], installed, cwd=str(tmp_path))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["arch"], found["size"]) == ("feature-autoencoder", [8, 8])
    assert found["operators"]["QLinearConv"] > 10, "the networks are not computed in integers"
    assert found["verdict"] in ("good", "unknown product"), found


def test_checkpoint_is_refused_without_its_package(checkpoint: Path, tmp_path: Path):
    done = run_cli("export", checkpoint, cwd=tmp_path)
    assert done.returncode == 2
    assert "no method named 'feature-autoencoder'. Known methods: paste, reverse-distillation" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_option_of_the_method_is_checked(
    installed: Dict[str, str], dataset: Path, monkeypatch: pytest.MonkeyPatch
):
    for folder in reversed(installed["PYTHONPATH"].split(os.pathsep)):
        monkeypatch.syspath_prepend(folder)
    with pytest.raises(AdqError, match=r"feature-autoencoder has no option 'wide'\. Its options: narrowing"):
        adq_edge.train(dataset, arch="feature-autoencoder", options={"wide": 2})
