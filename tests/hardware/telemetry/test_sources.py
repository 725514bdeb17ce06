"""Choice of the telemetry source, and jtop."""

from __future__ import annotations

import datetime
import sys
import time
import types
from pathlib import Path
from typing import List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adq_edge.hardware.telemetry.jtop import JtopSource
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.hardware.telemetry.sources import open_source
from factories.boards import write_tree
from factories.telemetry import HWMON, ORIN_FILES, THERMAL, Jtop, install_tegrastats, named, wait_until


def test_open_source_prefers_sysfs_then_tegrastats_then_jtop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert open_source(tmp_path / "nothing") is None
    assert open_recorder(tmp_path / "nothing") is None
    # sysfs with temperatures alone is used, unless tegrastats reports power.
    root = write_tree(tmp_path / "board", {f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n"})
    write_tree(root, {f"{THERMAL}/thermal_zone0/temp": "40000\n"})
    assert chosen(root) == "sysfs"
    write_tree(root, {"usr/bin/tegrastats": "not a program"})
    assert chosen(root) == "sysfs"
    write_tree(root, {"run/jtop.sock": ""})
    assert chosen(root) == "sysfs"  # there is no jtop to import
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
    assert chosen(root) == "jtop"
    monkeypatch.setattr(Jtop, "fails", True)
    assert chosen(root) == "sysfs"
    assert not Jtop.running
    monkeypatch.setattr(Jtop, "fails", False)
    (root / "usr/bin/tegrastats").unlink()
    (root / "usr/bin").rmdir()
    install_tegrastats(root / "other", "jetpack4-nano.txt")
    (root / "other/usr/bin").rename(root / "usr/bin")
    assert chosen(root) == "tegrastats"
    write_tree(root, {key: text for key, text in ORIN_FILES.items() if key.startswith(HWMON)})
    assert chosen(root) == "sysfs"


@pytest.mark.parametrize("power_from", ["tegrastats", "jtop"])
def test_throttling_comes_from_sysfs_with_any_power_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, power_from: str
):
    cooling = f"{THERMAL}/cooling_device1"
    root = write_tree(tmp_path, {f"{cooling}/type": "cpufreq-cpu0", f"{cooling}/cur_state": "0"})
    if power_from == "tegrastats":
        install_tegrastats(root, "jetpack4-nano.txt")
    else:
        write_tree(root, {"run/jtop.sock": ""})
        monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
        monkeypatch.setattr(Jtop, "fails", False)
    source = open_source(root, hertz=50)
    assert source is not None
    try:
        assert source.name == power_from
        first = source.read()
        assert first.power
        assert first.throttling == ()
        write_tree(root, {f"{cooling}/cur_state": "2"})
        assert source.read().throttling == ("cooling by cpufreq-cpu0",)
        monkeypatch.setattr(Jtop, "fails", True)  # throttling is reported even if the service fails
        assert source.read().throttling == ("cooling by cpufreq-cpu0",)
    finally:
        source.close()


def jtop_source(monkeypatch: pytest.MonkeyPatch) -> JtopSource:
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
    monkeypatch.setattr(Jtop, "stuck", False)
    return JtopSource(hertz=50)


@pytest.mark.parametrize(
    ("clock", "mhz"),
    [
        *((1575000, 1575.0), (1575, 1575.0), (76800, 76.8), (4266000, 4266.0)),
        *((1575000000, None), (0, None), (-1, None), (7, None), (10000, None), (float("nan"), None)),
    ],
)
def test_jtop_clock_in_khz_or_mhz_or_unknown(monkeypatch: pytest.MonkeyPatch, clock: float, mhz):
    source = jtop_source(monkeypatch)
    source._client.gpu = {"thor": {"type": "integrated", "freq": {"cur": clock}}}
    source._client.memory = {"EMC": {"cur": clock}}
    sample = source.read()
    assert sample is not None
    assert sample.clocks.get("gpu") == sample.clocks.get("emc") == mhz
    source.close()


def test_jtop_prefers_the_integrated_gpu(monkeypatch: pytest.MonkeyPatch):
    source = jtop_source(monkeypatch)
    integrated = {"type": "integrated", "freq": {"cur": 918000}}
    source._client.gpu = {"0": {"type": "discrete", "freq": {"cur": 210000}}, "gpu": integrated}
    sample = source.read()
    assert sample is not None
    assert sample.clocks["gpu"] == 918.0
    source.close()


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["rail", "tot", "name", "power", "temp", "freq", "cur", "EMC", "type", "gpu"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(power=VALUE, temperature=VALUE, gpu=VALUE, memory=VALUE)
def test_jtop_values_of_any_form_are_plausible_or_unknown(
    monkeypatch: pytest.MonkeyPatch, power, temperature, gpu, memory
):
    source = jtop_source(monkeypatch)
    client = source._client
    client.power, client.temperature, client.gpu, client.memory = power, temperature, gpu, memory
    sample = source.read()
    source.close()
    assert sample is not None
    for values, low, high in ((sample.clocks, 10, 10_000), (sample.power, -10, 2000)):
        assert all(value is None or low <= value <= high for value in values.values())


def chosen(root: Path) -> str:
    source = open_source(root, hertz=50)
    assert source is not None
    try:
        if source.name == "jtop":
            assert source.read() == TelemetrySample(
                {"VDD_CPU_CV": 1.5, "VDD_IN": 5.25}, {"cpu": 41.5, "cv0": None}, {"gpu": 306.0, "emc": 2133.0}
            )
        return source.name
    finally:
        source.close()


def test_recorder_ignores_repeated_measurements_of_jtop(monkeypatch: pytest.MonkeyPatch):
    """The service measures at the rate of another client, a tenth of the requested rate."""
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
    monkeypatch.setattr(Jtop, "stuck", True)
    source = JtopSource(hertz=50)
    client = source._client
    recorder = Recorder(source, hertz=50)
    seen: List[float] = []
    with recorder, recorder.window("engine"):
        for number in range(5):
            client.power["tot"]["power"] = 1000 * number
            client.uptime += datetime.timedelta(seconds=0.2)
            seen.append(time.perf_counter())
            asked = Jtop.asked
            wait_until(lambda: Jtop.asked >= asked + 10)  # noqa: B023
    recording = recorder.recording("engine", images=1, seconds=1.0)
    values = named(recording.power, "VDD_IN").values
    assert [value for value in values if value is not None][-4:] == [1.0, 2.0, 3.0, 4.0]
    assert len(values) <= 6  # a change may be seen halfway
    instants = [recorder._started + second for second in recording.seconds]
    assert recording.hertz < 10  # five measurements per second, not the requested 50
    assert all(0 <= instant - change < 0.2 for instant, change in zip(instants[-4:], seen[-4:]))


def test_jtop_without_new_measurements_gives_empty_samples(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
    monkeypatch.setattr(Jtop, "stuck", True)
    source = JtopSource(hertz=50)
    first = source.read()
    assert first is not None
    assert first.power["VDD_IN"] == 5.25
    assert source.read() is None
    monkeypatch.setattr("adq_edge.hardware.telemetry.jtop._STALE_SECONDS", 0.0)
    assert source.read() == TelemetrySample()
    source.close()
