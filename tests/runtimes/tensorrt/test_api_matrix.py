"""The adapter calls only what each TensorRT release has, in the way that its signatures allow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Set

import pytest

from adq_edge.runtimes.tensorrt.building import _UNPINNED
from factories.api_matrix import ADDITIONS, RTX, read_matrix, read_table
from factories.api_stubs import ADAPTER, check, signatures

API = read_matrix()
NEEDS_RTX = pytest.mark.skipif(API.rtx is None, reason="pip install adq-edge[rtx]")
RELEASES = [pytest.param(name, marks=NEEDS_RTX if name == RTX else ()) for name in API.columns]
SOURCES = sorted(ADAPTER.glob("*.py"))
FROM_11 = {"v11.0", "v11.1", "rtx"}
BEFORE_10 = {"8.5.2", "v8.6.1"}
ALL = set(API.columns)

HEAD = """
from __future__ import annotations
from typing import TYPE_CHECKING
from adq_edge.runtimes.tensorrt.release import Release
if TYPE_CHECKING:
    import tensorrt
"""
FUNCTION = """
def fault_{number}(
    release: Release, config: tensorrt.IBuilderConfig, network: tensorrt.INetworkDefinition,
    engine: tensorrt.ICudaEngine, context: tensorrt.IExecutionContext,
) -> object:
    trt = release.trt
    {body}
    return trt
"""
MONITOR = """assert release.at_least(10)
import tensorrt
class Monitor(tensorrt.IProgressMonitor):
    def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...
    def {method}(self, phase_name: str, step: int) -> {result}: raise NotImplementedError
    def phase_finish(self, phase_name: str) -> None: ...
return Monitor()"""

FAULTS = {
    "removed call": ("context.execute_async_v2([], 0)", ALL - BEFORE_10, "execute_async_v2"),
    "removed attribute": ("engine.num_bindings", ALL - BEFORE_10, "num_bindings"),
    "removed flag": ("config.set_flag(trt.BuilderFlag.INT8)", FROM_11, '"INT8"'),
    "removed class": ("trt.QuantizationFlag.CALIBRATE_BEFORE_FUSION", FROM_11, "QuantizationFlag"),
    "name of a later release": ("trt.BuilderFlag.REFIT_IDENTICAL", BEFORE_10, "REFIT_IDENTICAL"),
    "class of a later release": ("import tensorrt; tensorrt.IProgressMonitor()", BEFORE_10, "is_not_in_this"),
    "name of no release": ("trt.BuilderFlag.INT9", ALL, "INT9"),
    "guard on the wrong release": (
        "if release.at_least(10): engine.device_memory_size_v2",
        {"v10.0.0"},
        "device_memory_size_v2",
    ),
    "inverted guard": ("if not release.before(11): config.int8_calibrator", FROM_11, "int8_calibrator"),
    "guard that does not hold": (
        "if release.before(11) or network.num_layers: config.int8_calibrator",
        FROM_11,
        "int8_calibrator",
    ),
    "read-only attribute": ("network.get_input(0).dtype = trt.float16", FROM_11, '"dtype"'),
    "wrong keyword": ("config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, size=1)", ALL, "size"),
    "missing argument": ('engine.get_tensor_profile_shape("image")', ALL, "profile_index"),
    "wrong argument type": ("config.set_flag(trt.DeviceType.DLA)", ALL, "BuilderFlag"),
    "unchecked None": ("engine.create_execution_context().execute_async_v3(0)", ALL, "None"),
    "unknown member of a result": ("network.get_layer(0).get_output(0).rank", ALL, "rank"),
    "missing method": (MONITOR.format(method="step_completed", result="bool"), ALL - BEFORE_10, "abstract"),
    "wrong result": (MONITOR.format(method="step_complete", result="str"), ALL - BEFORE_10, "Return type"),
    "branch without a release": ("if release.at_least(12): config.flags", ALL, "unreachable"),
}
GUARDED = (
    "if release.before(11): config.set_flag(trt.BuilderFlag.INT8)",
    "x = release.before(11) and trt.BuilderFlag.INT8",
    "x = trt.BuilderFlag.INT8 if release.before(11) else None",
    "if release.at_least(11): return None\nconfig.int8_calibrator",
    "assert release.at_least(8, 6) and release.before(11)\ntrt.PreviewFeature.PROFILE_SHARING_0806",
    "if release.at_least(11) or network.num_layers: return None\nconfig.int8_calibrator",
    "if release.is_rtx or release.at_least(11): return None\nconfig.int8_calibrator",
    MONITOR.format(method="step_complete", result="bool"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mypy", reason="mypy needs Python 3.9")
    return tmp_path_factory.mktemp("stubs")


@pytest.fixture(scope="module")
def planted(folder: Path) -> Dict[str, List[str]]:
    """Return the errors in a source of planted faults, then of guarded uses, by release."""
    bodies = [*(body for body, _, _ in FAULTS.values()), *GUARDED]
    parts = [FUNCTION.format(number=i, body=body.replace("\n", "\n    ")) for i, body in enumerate(bodies)]
    source = folder / "planted.py"
    source.write_text("".join([HEAD, *parts]))
    lines = source.read_text().splitlines()
    found: Dict[str, List[str]] = {}
    for release in API.columns:
        found[release] = []
        for error in check(API, release, [*SOURCES, source], folder):
            if "planted.py" in error:
                above = lines[: int(error.split(":")[1])]
                place = next(line for line in reversed(above) if line.startswith("def "))
                found[release].append(f"{place}: {error}")
    return found


@pytest.fixture(scope="module")
def errors(folder: Path) -> Dict[str, Set[str]]:
    """Return the errors in the adapter by release."""
    return {release: set(check(API, release, SOURCES, folder)) for release in API.columns}


@pytest.mark.parametrize("release", RELEASES)
def test_adapter_calls_what_the_release_has(errors: Dict[str, Set[str]], release: str):
    assert not {error for error in errors[release] if "[unreachable]" not in error}


def test_every_branch_of_the_adapter_is_reached_by_a_release(errors: Dict[str, Set[str]]):
    assert not set.intersection(*errors.values())


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_found(planted: Dict[str, List[str]], name: str):
    _, releases, message = FAULTS[name]
    start = f"def fault_{list(FAULTS).index(name)}("
    found: Set[str] = {
        release
        for release, errors in planted.items()
        if any(error.startswith(start) and message in error for error in errors)
    }
    assert found == releases


@pytest.mark.parametrize("number", range(len(GUARDED)))
def test_guarded_use_is_no_fault(planted: Dict[str, List[str]], number: int):
    start = f"def fault_{len(FAULTS) + number}("
    errors = [error for found in planted.values() for error in found if error.startswith(start)]
    assert not [error for error in errors if "[unreachable]" not in error]


@pytest.mark.parametrize(
    ("release", "members"),
    [
        ("8.5.2", ["IProgressMonitor", "device_memory_size_v2", "PROFILE_SHARING_0806"]),
        (
            "v11.1",
            [
                *("IInt8EntropyCalibrator2", "IInt8LegacyCalibrator", "int8_calibrator", "QuantizationFlag"),
                *("precision", "set_output_type", "set_dynamic_range", "PROFILE_SHARING_0806"),
            ],
        ),
    ],
)
def test_adapter_without_guards_fails(folder: Path, release: str, members: List[str]):
    """The stubs reach each place of the adapter: nothing there is `Any` that should not be."""
    errors = "\n".join(check(API, release, SOURCES, folder, guarded=False))
    assert not [member for member in members if member not in errors]


def test_adapter_hides_no_member_in_a_string():
    """mypy does not see members that are named at run time."""
    for source in SOURCES:
        assert not re.search(r"\b[gs]etattr\((?!module)|__members__|__dict__", source.read_text()), source


def test_layer_types_named_in_strings():
    assert set(API.members["LayerType"]) >= _UNPINNED


def test_tables():
    assert API.having("OnnxParserFlag", "NATIVE_INSTANCENORM") == ALL - {"8.5.2"}
    assert API.having("ICudaEngine", "device_memory_size") == ALL - FROM_11
    assert API.having("INetworkDefinition", "serialize") == frozenset()
    assert API.having("BuilderFlag", "INT9") is None


@NEEDS_RTX
def test_additions_agree_with_the_real_tensorrt_rtx():
    _, additions = read_table(ADDITIONS, API.columns)
    for owner, rows in additions.items():
        for member, releases in rows.items():
            has = RTX in (API.having(owner, member) or ())
            assert has == (RTX in releases) or member.endswith("="), f"{owner}.{member}"


@NEEDS_RTX
def test_signatures_agree_with_the_docstrings_of_the_real_tensorrt_rtx():
    compared = 0
    for owner, members in signatures()[1].items():
        for name, text in members.items():
            documentation = getattr(getattr(API.rtx, owner, None), name, None).__doc__ or ""
            real = re.findall(rf"\b{name}\(self: [\w.]+(.*)\) -> ", documentation)
            if real:
                ours = re.findall(r"(\w+):", text.split("(self", 1)[1].rsplit("->")[0])
                assert ours in [re.findall(r"(\w+): ", other)[: len(ours)] for other in real], (
                    f"{owner}.{name}"
                )
                compared += 1
    assert compared >= 25
