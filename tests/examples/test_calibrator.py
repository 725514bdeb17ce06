"""A calibrator of an installed package, from the package's source to a ranges file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Dict

import numpy as np
import pytest

from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.core.errors import CalibrationError
from factories.examples import python


def test_calibrator_of_an_installed_package_is_found(installed: Dict[str, str]):
    code = (
        "from adq_edge.calibration.calibrators.registry import BUILT_IN, GROUP, make_calibrator\n"
        "from adq_edge.core.plugins import plugin_names\n"
        "assert 'sigma' in plugin_names(GROUP, BUILT_IN)\n"
        "calibrator = make_calibrator('sigma:3')\n"
        "print(type(calibrator).__module__, calibrator.sigmas)"
    )
    result = python(["-c", code], installed)
    assert result.stdout.split() == ["sigma_calibrator", "3.0"], result.stderr


def test_calibrate_writes_its_ranges(installed: Dict[str, str], bundle, dataset: Path, tmp_path: Path):
    copy = tmp_path / "bundle"
    shutil.copytree(str(bundle.path), str(copy), ignore=shutil.ignore_patterns("ranges"))
    arguments = ["--calib", "sigma:3,minmax", "--data", dataset, "--samples", 4]
    result = python(["-m", "adq_edge", "calibrate", copy, *arguments], installed)
    assert result.returncode == 0, result.stderr
    sigma, minmax = (
        json.loads((copy / "ranges" / f"{name}-images-4.json").read_text())["tensors"]
        for name in ("sigma=3", "minmax")
    )
    assert (
        f"{copy}/ranges/sigma=3-images-4.json: sigma:3, {len(sigma)} tensors over 4 images" in result.stdout
    )
    assert sigma.keys() == minmax.keys()
    ours, theirs = np.array(list(minmax.values())), np.array(list(sigma.values()))
    assert (ours[:, 0] <= theirs[:, 0]).all()
    assert (theirs[:, 1] <= ours[:, 1]).all()
    assert (theirs[:, 1] < ours[:, 1]).any()


def test_calibrate_reports_its_errors_in_one_line(installed: Dict[str, str], bundle):
    for spec, complaint in (("sigma:0", "sigmas must be above 0, not 0"), ("sigmund", "no calibrator named")):
        result = python(["-m", "adq_edge", "calibrate", bundle.path, "--calib", spec], installed)
        assert result.returncode == 2
        assert complaint in result.stderr
        assert len(result.stderr.splitlines()) == 1
        assert "sigma" in result.stderr


def test_calibrator_is_unknown_without_its_package():
    with pytest.raises(
        CalibrationError,
        match=r"no calibrator named 'sigma'\. Use one of: entropy, lp, minmax, mse, percentile\.",
    ):
        make_calibrator("sigma")
