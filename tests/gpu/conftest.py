"""Ends the tests on a GPU in time, and reports which rows of docs/run-where.md they retired."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List

import pytest

from adq_edge.artifacts.bundle import Bundle, open_bundle
from adq_edge.builders.build import build
from factories.gpu_report import Outcome, outcome_of, report

BUNDLE_VARIABLE = "ADQ_EDGE_GPU_BUNDLE"
"""Folder of the bundle to build engines from; needed where torch is not installed, as on a Jetson."""
MINUTES_VARIABLE = "ADQ_EDGE_GPU_MINUTES"
LONGEST_MINUTES = float(os.environ.get(MINUTES_VARIABLE, "12"))
_LAST_START = 0.85
"""Share of the time after which no test is started: one that builds takes a minute or two."""

_started = time.monotonic()
_outcomes: Dict[str, List[Outcome]] = {}


@pytest.fixture(scope="session")
def gpu_bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a copy of the named bundle, or a small one of random weights."""
    named = os.environ.get(BUNDLE_VARIABLE)
    if not named:
        pytest.importorskip("torch", reason=f"torch is not installed: name a bundle with {BUNDLE_VARIABLE}")
        made: Bundle = request.getfixturevalue("bundle")
        return made
    folder = tmp_path_factory.mktemp("gpu") / "bundle"
    shutil.copytree(named, str(folder))
    return open_bundle(folder)


@pytest.fixture(scope="session")
def reference(gpu_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an FP32 engine for the CPU."""
    path = tmp_path_factory.mktemp("reference") / "fp32.onnx"
    return build(gpu_bundle.path, path, precision="fp32", device="cpu").path


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test when too little time is left for it."""
    minutes = (time.monotonic() - _started) / 60
    if item.get_closest_marker("gpu") is not None and minutes > _LAST_START * LONGEST_MINUTES:
        pytest.skip(f"too little is left of {LONGEST_MINUTES:g} minutes ({MINUTES_VARIABLE})")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Any:
    """Keep the outcome of a test under its row."""
    result = (yield).get_result()
    marker = item.get_closest_marker("gpu")
    if marker is not None and (result.when == "call" or result.outcome != "passed"):
        details = result.longrepr if isinstance(result.longrepr, tuple) else ()
        _outcomes.setdefault(marker.args[0], []).append(outcome_of(result.outcome, details))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the report."""
    if _outcomes:
        terminalreporter.section("parts that a GPU has run")
        for line in report(_outcomes, (time.monotonic() - _started) / 60):
            terminalreporter.write_line(line)
