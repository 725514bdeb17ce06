"""Each member of TensorRT that we use is there in every release that can reach the place where we use it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, List, Tuple

import pytest

import adq_edge
from adq_edge.runtimes.tensorrt.building import _UNPINNED
from factories.api_checker import Check, check, speaks_of_tensorrt
from factories.api_matrix import ADDITIONS, RTX, read_matrix, read_table

PACKAGE = Path(adq_edge.__file__).parent
API = read_matrix()
NO_11 = "v11.0, v11.1, rtx"
NEEDS_RTX = pytest.mark.skipif(API.rtx is None, reason="pip install adq-edge[rtx]")
COLUMNS = [pytest.param(name, marks=NEEDS_RTX if name == RTX else ()) for name in API.columns]


@pytest.fixture(scope="module")
def sources() -> Tuple[Dict[str, str], List[str]]:
    """The sources that speak of TensorRT or stand beside those that do; and all others."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    ours = {
        path.relative_to(PACKAGE.parent).as_posix(): text
        for path, text in texts.items()
        if path.parent == PACKAGE / "runtimes" / "tensorrt" or speaks_of_tensorrt(ast.parse(text))
    }
    return ours, [text for text in texts.values() if text not in ours.values()]


@pytest.fixture(scope="module")
def adapter(sources: Tuple[Dict[str, str], List[str]]) -> Check:
    return check(API, *sources)


@pytest.mark.parametrize("release", COLUMNS)
def test_adapter_uses_what_each_release_has(adapter: Check, release: str):
    faults = [str(fault) for fault in adapter.faults if not fault.releases or release in fault.releases]
    assert not faults, "\n".join(faults)


def test_the_checker_saw_the_adapter(adapter: Check):
    """It cannot pass by looking at nothing: it knows by name what we use in each corner."""
    assert len(adapter.uses) >= 50
    assert {
        *("tensorrt.IInt8EntropyCalibrator2", "tensorrt.IInt8LegacyCalibrator", "tensorrt.IProgressMonitor"),
        *("IBuilderConfig.int8_calibrator", "IBuilderConfig.DLA_core", "BuilderFlag.TF32"),
        *("ILayer.precision", "ILayer.set_output_type"),
        *("ITensor.set_dynamic_range", "INetworkDefinition.get_layer"),
        *("IExecutionContext.execute_async_v3", "IExecutionContext.set_tensor_address"),
        *("ICudaEngine.device_memory_size_v2", "EngineInspector.get_engine_information"),
    } <= set(adapter.uses)


def test_without_its_guards_the_adapter_fails(sources: Tuple[Dict[str, str], List[str]]):
    texts, others = sources
    guard = re.compile(r"\b(self\._)?release\.(at_least|before)\([\d, ]+\)|\b(self\._)?release\.is_rtx\b")
    unguarded = {name: guard.sub("True", text) for name, text in texts.items()}
    faults = "\n".join(map(str, check(API, unguarded, others).faults))
    for member in (
        *("IInt8EntropyCalibrator2", "IInt8LegacyCalibrator", "IBuilderConfig.int8_calibrator"),
        *("ILayer.precision", "ILayer.set_output_type", "ITensor.set_dynamic_range"),
    ):
        assert re.search(rf"{member} is not in .*{NO_11}", faults), member
    assert "IProgressMonitor is not in 8.5.2, v8.6.1\n" in faults
    assert f"PROFILE_SHARING_0806 is not in 8.5.2, {NO_11}" in faults
    assert "device_memory_size_v2 is not in 8.5.2, v8.6.1, v10.0.0\n" in faults


def test_nothing_that_went_with_release_10(sources: Tuple[Dict[str, str], List[str]]):
    old = API.releases - API.since(10)
    removed = {m for members in API.members.values() for m in members if (API.of_any_class(m) or old) <= old}
    assert {
        "execute_async_v2",
        "num_bindings",
        "get_binding_shape",
        "max_workspace_size",
        "build_engine",
    } <= removed
    for name, text in sources[0].items():
        words = {getattr(node, "attr", getattr(node, "value", None)) for node in ast.walk(ast.parse(text))}
        assert not {word for word in words if isinstance(word, str)} & removed, name


def test_layer_types_named_in_strings():
    assert set(API.members["LayerType"]) >= _UNPINNED


def faults_of(body: str, head: str = "def f(release, config, network, layer, engine, context):") -> List[str]:
    """Check the body of a function that has everything; return the faults without their places."""
    lines = [head, "    trt = release.trt", *(f"    {line}" for line in body.splitlines())]
    faults = check(API, {"source": "\n".join(lines)}).faults
    return [f"{fault.text} {', '.join(fault.releases)}".rstrip() for fault in faults]


INT8 = "trt.BuilderFlag.INT8"


@pytest.mark.parametrize(
    "body",
    [
        f"if release.before(11):\n    {INT8}",
        f"if release.at_least(11):\n    pass\nelif config:\n    {INT8}",
        f"if release.at_least(11):\n    return\n{INT8}",
        f"if release.at_least(11):\n    raise ValueError\n{INT8}",
        f"if release.at_least(11) or config:\n    return\n{INT8}",
        f"if release.before(11) and config:\n    {INT8}",
        f"if not (release.at_least(11) or config):\n    {INT8}",
        f"if release.at_least(10) and not release.is_rtx and release.before(11):\n    {INT8}",
        f"assert release.before(11)\n{INT8}",
        f"x = {INT8} if release.before(11) else None",
        f"x = release.before(11) and {INT8}",
        f"x = [{INT8} for _ in range(2) if release.before(11)]",
        f"for x in range(2):\n    if release.at_least(11):\n        continue\n    {INT8}",
        f"while True:\n    if release.before(11):\n        break\n{INT8}",
        f"try:\n    assert release.before(11)\nexcept ValueError:\n    raise\n{INT8}",
        f"if release.before(11):\n    def g():\n        return {INT8}",
        f"if hasattr(trt.BuilderFlag, 'INT8'):\n    {INT8}",
        f"if not hasattr(trt.BuilderFlag, 'INT8'):\n    return\n{INT8}",
        "x = getattr(trt.BuilderFlag, 'INT8', None)",
        "config.set_flag(trt.BuilderFlag.TF32)",
        "if release.at_least(8, 6):\n    config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)",
        "if release.at_least(10, 1):\n    engine.device_memory_size_v2\nelse:\n    engine.device_memory_size",
    ],
)
def test_guarded(body: str):
    assert faults_of(body) == []


@pytest.mark.parametrize(
    "body",
    [
        INT8,
        f"if release.before(11):\n    pass\nelse:\n    {INT8}",
        f"if release.at_least(11) and config:\n    return\n{INT8}",
        f"if release.before(11) or config:\n    {INT8}",
        f"x = None if release.before(11) else {INT8}",
        f"x = release.before(11) or {INT8}",
        f"x = lambda: {INT8}",
        f"for x in range(2):\n    if release.at_least(11):\n        break\n{INT8}",
        f"while config:\n    if release.before(11):\n        break\n{INT8}",
        f"try:\n    assert release.before(11)\nexcept ValueError:\n    pass\n{INT8}",
        f"with suppress(AssertionError):\n    assert release.before(11)\n{INT8}",
        f"def g():\n    assert release.before(11)\n{INT8}",
        f"if not hasattr(trt.BuilderFlag, 'INT8'):\n    {INT8}",
        "x = getattr(trt.BuilderFlag, 'INT8')",
    ],
)
def test_unguarded(body: str):
    assert faults_of(body) == [f"BuilderFlag.INT8 is not in {NO_11}"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("trt.BuilderFlag.INT9", "BuilderFlag.INT9 is in no table and no module"),
        ("trt.IInt8Calibrators", "tensorrt.IInt8Calibrators is in no table and no module"),
        ("if hasattr(trt.BuilderFlag, 'INT9'):\n    pass", "BuilderFlag.INT9 is in no table and no module"),
        ("getattr(trt.BuilderFlag, config)", "getattr of something of TensorRT cannot be checked"),
        ("trt.BuilderFlag.__members__['INT8']", "__members__ of something of TensorRT cannot be checked"),
        ("if release.at_least(12):\n    config.flags", "IBuilderConfig.flags stands where no release gets"),
        (
            "config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)",
            "BuilderFlag.REFIT_IDENTICAL is not in 8.5.2, v8.6.1",
        ),
        (
            "if release.at_least(10):\n    engine.device_memory_size_v2",
            "device_memory_size_v2 is not in v10.0.0",
        ),
    ],
)
def test_other_faults(body: str, expected: str):
    (found,) = faults_of(body)
    assert found.endswith(expected)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("config.int8_calibrator = None", f"IBuilderConfig.int8_calibrator is not in {NO_11}"),
        ("layer.precision = trt.float16", f"ILayer.precision is not in {NO_11}"),
        ("for x in network:\n    x.precision", f"ILayer.precision is not in {NO_11}"),
        ("network.get_layer(0).get_output(0).dynamic_range", f"ITensor.dynamic_range is not in {NO_11}"),
        ("for x in [layer.get_output(0)]:\n    x.dynamic_range", f"ITensor.dynamic_range is not in {NO_11}"),
        ("x, y = layer, engine\ny.device_memory_size", f"ICudaEngine.device_memory_size is not in {NO_11}"),
        ("x = trt.Builder(None)\nx.platform_has_tf32", f"Builder.platform_has_tf32 is not in {NO_11}"),
        (
            "x = engine.create_execution_context()\nx.execute_async_v4",
            "IExecutionContext.execute_async_v4 is in no",
        ),
        ("x = trt.BuilderFlag.TF32.names", "BuilderFlag.names is in no table"),
        ("h().build_route", "build_route, of whatever class, is not in 8.5.2, v8.6.1"),
        (
            "context.active_optimization_profile = 0",
            "active_optimization_profile cannot be assigned to in v10.0.0",
        ),
    ],
)
def test_members_of_objects(body: str, expected: str):
    """Kinds follow from names, from results, and through loops and tuples; assignments count as uses."""
    (found,) = faults_of(body)
    assert expected in found


def test_annotations_overrule_names():
    head = "def f(release, engine: Path, layer: Dict[str, Any], context: Any, plans: List[Plan]):"
    assert faults_of("engine.with_suffix('')\nlayer.get('')\nfor plan in plans:\n    plan.read()", head) == []
    assert faults_of("context.pop()", head) == ["IExecutionContext.pop is in no table and no module"]


def test_names_mean_nothing_where_tensorrt_is_not_spoken_of():
    assert not check(API, {"source": "def f(context):\n    context.pop()"}).faults
    (fault,) = check(API, {"source": "def f(context):\n    context.execute_async_v2()"}).faults
    assert str(fault).startswith("source:2: execute_async_v2, of whatever class, is not in v10.0.0, v10.1.0")


def test_private_functions_are_reached_by_their_callers():
    private = "def _pin(trt, layer):\n    layer.precision = trt.float16\n\n"
    caller = "def pin(release, layer):\n    {}\n    _pin(release.trt, layer)\n"
    assert not check(API, {"s": private + caller.format("assert release.before(11)")}).faults
    assert len(check(API, {"s": private + caller.format("pass")}).faults) == 1
    assert len(check(API, {"s": private}).faults) == 1


SUBCLASS = """
def make(release):
    assert release.{guard}
    trt = release.trt
    class Monitor(trt.{base}):
        def __init__(self):
            {constructor}
            self.steps = 0
        def phase_start(self, phase_name, parent_phase, num_steps):
            self.steps = num_steps
        def {method}(self, phase_name, step):
            return True
        def phase_finish(self, phase_name):
            self._done()
        def _done(self):
            pass
"""
RIGHT = {
    "guard": "at_least(10)",
    "base": "IProgressMonitor",
    "constructor": "trt.IProgressMonitor.__init__(self)",
    "method": "step_complete",
}


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, []),
        ({"guard": "at_least(8, 6)"}, [":5: tensorrt.IProgressMonitor is not in v8.6.1", ":7:"]),
        ({"constructor": "pass"}, [":6: Monitor.__init__ does not call IProgressMonitor.__init__(self)"]),
        ({"constructor": "super().__init__()"}, [":6: Monitor.__init__ does not call"]),
        ({"constructor": "trt.ILogger.__init__(self)"}, [":6: Monitor.__init__ does not call"]),
        (
            {"constructor": "if release: trt.IProgressMonitor.__init__(self)"},
            [":6: Monitor.__init__ does not call"],
        ),
        (
            {"method": "step_completed"},
            [":5: Monitor must define step_complete", ":11: Monitor.step_completed overrides nothing"],
        ),
    ],
)
def test_subclasses(wrong: Dict[str, str], expected: List[str]):
    found = [str(fault) for fault in check(API, {"s": SUBCLASS.format(**{**RIGHT, **wrong})}).faults]
    assert len(found) == len(expected), found
    assert all(part in fault for part, fault in zip(expected, found)), found


def test_tables():
    assert API.sorted(API.since(10, 3)) == ["v10.3.0", "v10.13.0", "v10.16", "v11.0", "v11.1", RTX]
    assert API.having("OnnxParserFlag", "NATIVE_INSTANCENORM") == API.since(8, 6)
    assert API.having("tensorrt", "OnnxParserFlag") == API.since(8, 6)
    assert API.having("ICudaEngine", "device_memory_size") == API.releases - API.since(11)
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
def test_properties_of_the_real_tensorrt_rtx_that_are_read_only():
    expected = "IBuilderConfig.num_optimization_profiles cannot be assigned to in rtx"
    assert faults_of("config.num_optimization_profiles = 1") == [expected]
