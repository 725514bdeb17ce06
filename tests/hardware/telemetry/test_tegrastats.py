"""The parser of tegrastats, and its program."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import List

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.hardware.telemetry.rails import input_rails
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.hardware.telemetry.tegrastats import TegrastatsSource, parse_line
from factories.telemetry import TRANSCRIPTS, install_tegrastats, named, wait_until


def lines_of(name: str) -> List[str]:
    return (TRANSCRIPTS / name).read_text().splitlines()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


EXPECTED = {
    "jetpack4-nano.txt": [
        TelemetrySample(
            {"POM_5V_IN": 2.532, "POM_5V_GPU": 0.0, "POM_5V_CPU": 0.32},
            {"PLL": 28.5, "CPU": 32.0, "iwlwifi": 44.0, "GPU": 30.5, "AO": 39.5, "thermal": 31.25},
            {"emc": 1600.0, "gpu": 76.0, "cpu0": 518.0, "cpu1": 518.0, "cpu2": None, "cpu3": None},
        ),
        TelemetrySample(
            {"POM_5V_IN": 6.871, "POM_5V_GPU": 2.804, "POM_5V_CPU": 1.088},
            {"PLL": 33.0, "CPU": 36.5, "iwlwifi": 45.0, "GPU": 36.0, "AO": 42.0, "thermal": 36.25},
            {"emc": 1600.0, "gpu": 921.0, "cpu0": 1479.0, "cpu1": 1479.0, "cpu2": None, "cpu3": None},
        ),
    ],
    "jetpack4-tx2.txt": [
        TelemetrySample(
            {
                "VDD_SYS_GPU": 0.152,
                "VDD_SYS_SOC": 0.687,
                "VDD_4V0_WIFI": 0.0,
                "VDD_IN": 3.056,
                "VDD_SYS_CPU": 0.152,
                "VDD_SYS_DDR": 0.883,
            },
            {
                "PLL": 37.5,
                "MCPU": 37.5,
                "Tboard": 32.0,
                "GPU": 35.0,
                "BCPU": 37.5,
                "thermal": 36.5,
                "Tdiode": 34.25,
            },
            {"cpu0": 345.0, "cpu1": None, "cpu2": None, "cpu3": 345.0, "cpu4": 345.0, "cpu5": 345.0},
        )
    ],
    "jetpack4-xavier-nx.txt": [
        TelemetrySample(
            {"VDD_IN": 4.067, "VDD_CPU_GPU_CV": 1.331, "VDD_SOC": 0.997},
            {"AO": 35.0, "GPU": 33.0, "AUX": 33.5, "CPU": 35.0, "thermal": 33.9},
            {
                "emc": 1600.0,
                "gpu": 1109.0,
                **dict.fromkeys(("cpu0", "cpu1", "cpu2"), 1190.0),
                **dict.fromkeys(("cpu3", "cpu4", "cpu5")),
            },
        )
    ],
    "jetpack4-agx-xavier.txt": [
        TelemetrySample(
            {"GPU": 18.401, "CPU": 2.301, "SOC": 4.602, "CV": 0.0, "VDDRQ": 2.914, "SYS5V": 4.632},
            {
                "AO": 48.0,
                "GPU": 54.5,
                "Tdiode": 53.25,
                "AUX": 46.0,
                "CPU": 49.0,
                "thermal": 49.45,
                "Tboard": 47.0,
            },
            {
                "emc": 2133.0,
                "gpu": 1377.0,
                **dict.fromkeys(("cpu0", "cpu1", "cpu2", "cpu3"), 1190.0),
                "cpu4": 1336.0,
                "cpu5": 1340.0,
                "cpu6": 1543.0,
                "cpu7": 1574.0,
            },
        )
    ],
    "jetpack5-xavier-nx.txt": [
        TelemetrySample(
            {"VDD_IN": 2.763, "VDD_CPU_GPU_CV": 0.65, "VDD_SOC": 0.65},
            {"AUX": 45.0, "CPU": 46.5, "thermal": 45.6, "AO": 45.0, "GPU": 45.5},
            {
                "emc": 204.0,
                "gpu": 114.0,
                "cpu0": 1397.0,
                "cpu1": 1192.0,
                **dict.fromkeys(("cpu2", "cpu3", "cpu4", "cpu5"), 1190.0),
            },
        ),
        TelemetrySample(
            {"VDD_IN": 14.23, "VDD_CPU_GPU_CV": 7.684, "VDD_SOC": 2.31},
            {"AUX": 49.0, "CPU": 52.5, "thermal": 50.3, "AO": 48.5, "GPU": 54.0},
            {
                "emc": 1866.0,
                "gpu": 1109.0,
                **dict.fromkeys(("cpu0", "cpu1"), 1907.0),
                **dict.fromkeys(("cpu2", "cpu3"), 1651.0),
                **dict.fromkeys(("cpu4", "cpu5"), 1497.0),
            },
        ),
    ],
    "jetpack6-orin-nano.txt": [
        TelemetrySample(
            {"VDD_IN": 4.906, "VDD_CPU_GPU_CV": 0.515, "VDD_SOC": 1.428},
            {"cpu": 48.562, "soc2": 47.531, "soc0": 47.968, "gpu": 48.5, "tj": 49.062, "soc1": 49.062},
            {
                "emc": 2133.0,
                "gpu": 306.0,
                **dict.fromkeys(("cpu0", "cpu1", "cpu2", "cpu3"), 729.0),
                **dict.fromkeys(("cpu4", "cpu5")),
            },
        ),
        TelemetrySample(
            {"VDD_IN": 13.48, "VDD_CPU_GPU_CV": 6.228, "VDD_SOC": 2.98},
            {"cpu": 53.125, "soc2": 51.125, "soc0": 51.25, "gpu": 54.562, "tj": 54.562, "soc1": 51.437},
            {
                **dict.fromkeys(("cpu0", "cpu1", "cpu2", "cpu3"), 1510.0),
                **dict.fromkeys(("cpu4", "cpu5")),
            },
        ),
    ],
    "jetpack6-agx-orin.txt": [
        TelemetrySample(
            {"VDD_GPU_SOC": 3.15, "VDD_CPU_CV": 14.312, "VIN_SYS_5V0": 4.968, "VDDQ_VDD2_1V8AO": 1.091},
            {
                **dict.fromkeys(("CV0", "CV1", "CV2")),
                "CPU": 77.281,
                "Tboard": 62.0,
                "SOC2": 70.0,
                "Tdiode": 62.25,
                "SOC0": 69.531,
                "GPU": 69.125,
                "tj": 77.281,
                "SOC1": 68.968,
            },
            {
                "emc": 3199.0,
                "gpu": 611.0,
                **dict.fromkeys(("cpu0", "cpu1", "cpu2", "cpu3"), 2201.0),
                **dict.fromkeys(f"cpu{number}" for number in range(4, 12)),
            },
        )
    ],
    "jetpack7-thor.txt": [
        TelemetrySample(
            {"VDD_GPU": 3.561, "VDD_CPU_SOC_MSS": 7.91, "VIN_SYS_5V0": 7.62, "VIN": 26.686},
            {"cpu": 60.406, "tj": 63.281, "soc012": 58.468, "gpu": 62.906, "soc345": 63.281},
            {"cpu0": 972.0, "cpu1": 972.0, "cpu2": None, "cpu3": 972.0},
        ),
        TelemetrySample(
            {"VDD_GPU": 37.939, "VDD_CPU_SOC_MSS": 30.059, "VIN_SYS_5V0": 15.486, "VIN": 124.486},
            {"cpu": 58.25, "tj": 66.625, "gpu": 56.937, "soc012": 55.375, "soc345": 55.812},
            {"emc": 4266.0, "gpu": 1574.0, "cpu0": 2601.0, "cpu1": 2601.0, "cpu2": None, "cpu3": 2601.0},
        ),
    ],
}


def test_parse_line_reads_every_transcript():
    assert {path.name for path in TRANSCRIPTS.glob("*.txt")} == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert [parse_line(line) for line in lines_of(name)] == expected, name


def test_input_rails_of_every_board():
    inputs = {name: input_rails(tuple(samples[0].power)) for name, samples in EXPECTED.items()}
    assert inputs == {
        "jetpack4-nano.txt": ("POM_5V_IN",),
        "jetpack4-tx2.txt": ("VDD_IN",),
        "jetpack4-xavier-nx.txt": ("VDD_IN",),
        "jetpack4-agx-xavier.txt": ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
        "jetpack5-xavier-nx.txt": ("VDD_IN",),
        "jetpack6-orin-nano.txt": ("VDD_IN",),
        "jetpack6-agx-orin.txt": ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
        "jetpack7-thor.txt": ("VIN",),
    }
    assert input_rails(("VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0")) == (
        "VDD_GPU",
        "VDD_CPU_SOC_MSS",
        "VIN_SYS_5V0",
    )
    assert input_rails(("package-1", "package-0")) == ("package-0", "package-1")
    assert input_rails(("VDD_CPU_CV", "VDD_SOC")) == ()
    assert input_rails(("package-0",), on_gpu=True) == ()
    assert input_rails(("VDD_IN", "VDD_SOC"), on_gpu=True) == ("VDD_IN",)


TOKENS = st.sampled_from(" ".join(lines_of("jetpack7-thor.txt") + lines_of("jetpack4-nano.txt")).split(" "))


@given(st.one_of(st.text(), st.lists(st.one_of(TOKENS, st.text(max_size=6))).map(" ".join)))
def test_parse_line_never_raises(text: str):
    sample = parse_line(text)
    if sample is not None:
        values = [*sample.power.values(), *sample.temperatures.values(), *sample.clocks.values()]
        assert values
        assert all(value is None or np.isfinite(value) for value in values)
        assert all(value is None or value == 0 or 10 <= value <= 10_000 for value in sample.clocks.values())


def test_parse_line_drops_values_in_another_unit():
    sample = parse_line("VDD_IN 4906000mW/4906mW GR3D_FREQ 0%@[5] EMC_FREQ 0%@2133 CPU [1%@729,2%@72900]")
    assert sample == TelemetrySample(
        {"VDD_IN": None}, {}, {"gpu": None, "emc": 2133.0, "cpu0": 729.0, "cpu1": None}
    )


def test_recorder_runs_and_ends_tegrastats(tmp_path: Path):
    pid = install_tegrastats(tmp_path, "jetpack5-xavier-nx.txt")
    recorder = open_recorder(tmp_path, hertz=50)
    assert recorder is not None
    with recorder:
        with recorder.window("engine"):
            time.sleep(0.1)
        wait_until(lambda: has_sample(recorder, "engine"))
        process = int(pid.read_text())
        assert alive(process)
    assert not alive(process)
    recording = recorder.recording("engine", images=10, seconds=5.0)
    assert recording.source == "tegrastats"
    assert set(named(recording.power, "VDD_IN").values) <= {2.763, 14.23}
    assert recording.energy is not None
    assert recording.energy.rail == "VDD_IN"
    assert 2.763 <= recording.energy.mean_w <= 14.23
    assert recording.throttled is None
    assert recording.cost_percent > 0


def has_sample(recorder: Recorder, name: str) -> bool:
    """Return True if a window of the engine has a sample; else open one more window."""
    if recorder.recording(name, 1, 1.0).seconds:
        return True
    with recorder.window(name):
        time.sleep(0.1)
    return False


def test_tegrastats_that_exits_early_or_ignores_sigterm(tmp_path: Path):
    quick = tmp_path / "quick"
    quick.write_text("#!/bin/sh\necho 'VDD_IN 5000mW/5000mW'\n")
    stubborn = tmp_path / "stubborn"
    stubborn.write_text("#!/bin/sh\ntrap '' TERM\necho \"VDD_IN $$/1\"\nwhile :; do sleep 0.05; done\n")
    for program in (quick, stubborn):
        program.chmod(0o755)
    source = TegrastatsSource(quick)
    assert source.read() == TelemetrySample({"VDD_IN": 5.0})
    assert [source.read(), source.read()] == [TelemetrySample(), TelemetrySample()]
    source.close()
    source = TegrastatsSource(stubborn)
    process = round(1000 * (source.read().power["VDD_IN"] or 0))
    assert alive(process)
    source.close()
    assert not alive(process)
