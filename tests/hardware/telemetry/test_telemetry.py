from __future__ import annotations

import datetime
import os
import sys
import threading
import time
import types
from pathlib import Path
from typing import Callable, Dict, List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.hardware.telemetry.energy import Window, mean_power, measure_energy
from adq_edge.hardware.telemetry.jtop import JtopSource
from adq_edge.hardware.telemetry.rails import EnergyCounter, find_rails, input_rails
from adq_edge.hardware.telemetry.recorder import Recorder, open_recorder
from adq_edge.hardware.telemetry.recording import Energy, Recording, Series
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.hardware.telemetry.sensors import power_sensors
from adq_edge.hardware.telemetry.sources import open_source
from adq_edge.hardware.telemetry.sysfs import SysfsSource
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value
from adq_edge.hardware.telemetry.tegrastats import TegrastatsSource, parse_line
from adq_edge.hardware.telemetry.throttling import Throttling
from factories.boards import ORIN_NANO, XAVIER_NX, write_tree
from factories.paths import DATA

TRANSCRIPTS = DATA / "tegrastats"
PATIENCE_SECONDS = 30.0
THERMAL, HWMON, RAPL = "sys/class/thermal", "sys/class/hwmon", "sys/class/powercap/intel-rapl:0"


def lines_of(name: str) -> List[str]:
    return (TRANSCRIPTS / name).read_text().splitlines()


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < limit, "nothing happened"
        time.sleep(0.002)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


# --- tegrastats: the lines ---------------------------------------------------------------------------------

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


def test_every_transcript_is_read_as_by_hand():
    assert {path.name for path in TRANSCRIPTS.glob("*.txt")} == set(EXPECTED)
    for name, expected in EXPECTED.items():
        assert [parse_line(line) for line in lines_of(name)] == expected, name


def test_the_input_of_every_board():
    inputs = {name: input_rails(tuple(readings[0].power)) for name, readings in EXPECTED.items()}
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
def test_no_text_makes_the_parser_fail(text: str):
    reading = parse_line(text)
    if reading is not None:
        values = [*reading.power.values(), *reading.temperatures.values(), *reading.clocks.values()]
        assert values
        assert all(value is None or np.isfinite(value) for value in values)


# --- tegrastats: the program -------------------------------------------------------------------------------

PROGRAM = """#!/bin/sh
echo $$ > {pid}
[ "$*" = "--interval 20" ] || exit 1
echo "tegrastats: some warning"
while :; do
    while read -r line; do echo "$line"; sleep 0.02; done < {transcript}
done
"""


def install_tegrastats(root: Path, transcript: str) -> Path:
    pid, program = root / "pid", root / "usr" / "bin" / "tegrastats"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(pid=pid, transcript=TRANSCRIPTS / transcript))
    program.chmod(0o755)
    return pid


def test_tegrastats_runs_is_read_and_is_ended(tmp_path: Path):
    pid = install_tegrastats(tmp_path, "jetpack5-xavier-nx.txt")
    recorder = open_recorder(tmp_path, hertz=50)
    assert recorder is not None
    with recorder:
        with recorder.window("engine"):
            time.sleep(0.1)
        wait_until(lambda: enough(recorder, "engine"))
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


def enough(recorder: Recorder, name: str) -> bool:
    """Whether there is a reading in an engine's windows; one more window is opened if not."""
    if recorder.recording(name, 1, 1.0).seconds:
        return True
    with recorder.window(name):
        time.sleep(0.1)
    return False


def named(series: tuple, name: str) -> Series:
    return next(one for one in series if one.name == name)


def test_a_tegrastats_that_ends_or_will_not_end(tmp_path: Path):
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


# --- sysfs -------------------------------------------------------------------------------------------------

ORIN_FILES = {
    **ORIN_NANO,
    f"{HWMON}/hwmon1/name": "ina3221\n",
    f"{HWMON}/hwmon1/in1_label": "VDD_IN\n",
    f"{HWMON}/hwmon1/in1_input": "5000\n",
    f"{HWMON}/hwmon1/curr1_input": "1200\n",
    f"{HWMON}/hwmon1/curr1_crit_alarm": "1\n",
    f"{HWMON}/hwmon1/in2_label": "NC\n",
    f"{HWMON}/hwmon1/in2_input": "0\n",
    f"{HWMON}/hwmon1/curr2_input": "0\n",
    f"{HWMON}/hwmon1/in7_label": "sum of shunt voltages\n",
    f"{HWMON}/hwmon1/in7_input": "12\n",
    f"{HWMON}/hwmon3/name": "soctherm_oc\n",
    f"{HWMON}/hwmon3/oc1_event_cnt": "7\n",
    f"{HWMON}/hwmon3/oc3_event_cnt": "27\n",
    f"{HWMON}/hwmon3/oc3_throt_en": "1\n",
    f"{THERMAL}/thermal_zone0/type": "cpu-thermal\n",
    f"{THERMAL}/thermal_zone0/temp": "48562\n",
    f"{THERMAL}/thermal_zone1/type": "cv0-thermal\n",
    f"{THERMAL}/thermal_zone1/temp": "-256000\n",
    f"{THERMAL}/thermal_zone2/type": "PMIC-Die\n",
    f"{THERMAL}/thermal_zone2/temp": "100000\n",
    f"{THERMAL}/cooling_device0/type": "pwm-fan\n",
    f"{THERMAL}/cooling_device0/cur_state": "3\n",
    f"{THERMAL}/cooling_device1/type": "gpu-throttle-alert\n",
    f"{THERMAL}/cooling_device1/cur_state": "0\n",
    f"{THERMAL}/cooling_device2/type": "hot-surface-alert\n",
    f"{THERMAL}/cooling_device2/cur_state": "1\n",
    "sys/devices/platform/cpu-throttle-alert/thermal_trip_event": "2\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1510400\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600\n",
}


def test_sysfs_of_an_orin(tmp_path: Path):
    root = write_tree(tmp_path, ORIN_FILES)
    source = SysfsSource(root)
    assert source.read() == TelemetrySample(
        {"VDD_IN": pytest.approx(6.0)},
        {"cpu-thermal": pytest.approx(48.562), "cv0-thermal": None},
        {"gpu": 1020.0, "emc": 3199.0, "cpu0": pytest.approx(1510.4), "cpu4": pytest.approx(729.6)},
        throttling=(),
    )
    write_tree(
        root,
        {
            f"{HWMON}/hwmon1/curr1_input": "gone\n",
            f"{HWMON}/hwmon3/oc3_event_cnt": "29\n",
            f"{THERMAL}/cooling_device1/cur_state": "1\n",
            f"{THERMAL}/thermal_zone0/temp": "",
            "sys/devices/platform/cpu-throttle-alert/thermal_trip_event": "3\n",
        },
    )
    reading = source.read()
    assert reading.power == {"VDD_IN": None}
    assert reading.temperatures == {"cpu-thermal": None, "cv0-thermal": None}
    assert reading.throttling == (
        "cooling by gpu-throttle-alert",
        "over-current (OC3)",
        "cooling by cpu-throttle-alert",
    )
    # A counter tells of what happened since it was read last; a cooling device of what is now.
    assert source.read().throttling == ("cooling by gpu-throttle-alert",)
    source.close()
    assert source.read().power == {"VDD_IN": None}


def test_throttling_without_counters_of_over_current(tmp_path: Path):
    root = write_tree(
        tmp_path,
        {**XAVIER_NX, f"{HWMON}/hwmon4/curr1_max_alarm": "0", f"{HWMON}/hwmon4/curr1_crit_alarm": "1"},
    )
    assert Throttling(root).read() == ("over-current alarm of VDD_IN",)


def test_throttling_of_a_pc(tmp_path: Path):
    folder = "sys/devices/system/cpu/cpu0/thermal_throttle"
    root = write_tree(
        tmp_path, {f"{folder}/core_throttle_count": "5\n", f"{folder}/package_throttle_count": "9\n"}
    )
    write_tree(
        root, {f"{THERMAL}/cooling_device0/type": "TCC Offset", f"{THERMAL}/cooling_device0/cur_state": "3"}
    )
    throttling = Throttling(root)
    assert throttling.read() == ()
    write_tree(root, {f"{folder}/core_throttle_count": "6\n", f"{folder}/package_throttle_count": "11\n"})
    assert throttling.read() == ("the processor was too hot",)
    assert throttling.read() == ()
    assert Throttling(tmp_path / "elsewhere").read() is None


def test_rails_of_jetpack_4_and_of_thor(tmp_path: Path):
    iio = "sys/bus/i2c/drivers/ina3221x/1-004{}/iio:device{}"
    xavier: Dict[str, str] = {}
    for number, name in enumerate(("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V")):
        folder = iio.format(number // 3, number // 3)
        xavier[f"{folder}/rail_name_{number % 3}"] = f"{name}\n"
        xavier[f"{folder}/in_power{number % 3}_input"] = f"{1000 * (number + 1)}\n"
    rails = find_rails(write_tree(tmp_path / "xavier", xavier))
    assert {name: rail.read() for name, rail in rails.items()} == {
        "GPU": 1.0,
        "CPU": 2.0,
        "SOC": 3.0,
        "CV": 4.0,
        "VDDRQ": 5.0,
        "SYS5V": 6.0,
    }
    energy = measure_energy(
        [0.0, 1.0],
        [{name: rail.read() for name, rail in rails.items()}] * 2,
        [Window(0.0, 1.0)],
        [],
        averages=False,
        images=42,
        seconds=2.0,
    )
    assert energy == Energy("GPU + CPU + SOC + CV + VDDRQ + SYS5V", None, 21.0, 1.0, None)
    thor = {f"{HWMON}/hwmon0/name": "ina238\n", f"{HWMON}/hwmon0/power1_input": "26686000\n"}
    assert power_sensors(write_tree(tmp_path / "thor", thor)) == ("VIN",)


def test_an_energy_counter_that_starts_again(tmp_path: Path):
    file = tmp_path / "energy_uj"
    seconds = [0.0]

    def counter(span: Optional[float]) -> EnergyCounter:
        file.write_text("1000000\n")
        seconds[0] = 0.0
        return EnergyCounter(SysfsValue(file, 1e-6), span, clock=lambda: seconds[0])

    def read(rail: EnergyCounter, at: float, microjoules: str) -> Optional[float]:
        seconds[0] = at
        file.write_text(microjoules)
        return rail.read()

    rail = counter(span=262143.328850)
    assert read(rail, 0.001, "1000100") is None  # too soon to say anything
    assert read(rail, 0.5, "6000000") == pytest.approx(5.0 / 0.5)
    assert read(rail, 1.0, "garbage") is None
    assert read(rail, 2.5, "262140000000") == pytest.approx((262140 - 6) / 2.0)
    # from 262140 J to the end of the range and on to 2 J
    assert read(rail, 2.75, "2000000") == pytest.approx((262143.32885 - 262140 + 2) / 0.25)
    unknown = counter(span=None)
    assert read(unknown, 1.0, "500000") is None
    assert read(unknown, 2.0, "1500000") == pytest.approx(1.0)


# --- energy ------------------------------------------------------------------------------------------------


@given(
    st.floats(1.0, 20.0),
    st.floats(-3.0, 3.0),
    st.lists(st.floats(0.01, 0.3), min_size=3, max_size=40),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_power_that_rises_evenly_is_integrated_exactly(
    level: float, slope: float, steps: List[float], first: float, last: float
):
    times = np.cumsum(steps)
    power = [float(level + slope * t) for t in times]
    # A window from one reading to another: the integral of a line over it has a closed form.
    low, high = sorted((int(first * (len(times) - 1)), int(last * (len(times) - 1))))
    if low == high:
        return
    start, end = float(times[low]), float(times[high])
    exact = level * (end - start) + slope * (end**2 - start**2) / 2
    # Two windows, one of them without a reading, which does not count, and readings that failed.
    windows = [Window(start, end), Window(end + 1000, end + 1001)]
    given_w: List[Optional[float]] = list(power)
    found = mean_power(list(times), given_w, windows, averages=False)
    assert found == pytest.approx(exact / (end - start))
    if high - low > 2:
        given_w[low + 1] = None
        assert mean_power(list(times), given_w, windows, averages=False) == pytest.approx(
            exact / (end - start)
        )


def test_only_what_was_read_in_the_windows_counts():
    times = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    power = [100.0, 4.0, 6.0, 100.0, 8.0, 100.0, 100.0]
    windows = [Window(0.4, 1.2), Window(1.8, 2.2)]
    # 4 W up to 0.5, on to 6 W at 1.0, 6 W up to 1.2; 8 W throughout the second
    joules = 4 * 0.1 + (4 + 6) / 2 * 0.5 + 6 * 0.2 + 8 * 0.4
    assert mean_power(times, power, windows, averages=False) == pytest.approx(joules / 1.2)
    # Means since the reading before: the one at 0.5 began outside, and the second window holds none.
    assert mean_power(times, power, windows, averages=True) == pytest.approx(6.0)
    assert mean_power(times, power, [Window(1.1, 1.2)], averages=False) is None
    energy = measure_energy(
        times, [{"VDD_IN": watts} for watts in power], windows, [Window(2.9, 3.1)], False, 5, 0.6
    )
    assert energy is not None
    assert energy == Energy(
        "VDD_IN",
        100.0,
        pytest.approx(joules / 1.2),
        pytest.approx(joules / 1.2 * 0.6 / 5),
        pytest.approx((joules / 1.2 - 100.0) * 0.6 / 5),
    )
    assert measure_energy(times, [{"VDD_SOC": 1.0}] * 7, windows, [], False, 5, 0.6) is None
    processor = [{"package-0": watts} for watts in power]
    assert measure_energy(times, processor, windows, [], True, 5, 0.6) is not None
    assert measure_energy(times, processor, windows, [], True, 5, 0.6, on_gpu=True) is None


# --- the recorder ------------------------------------------------------------------------------------------


class Board:
    """A tree of files whose power is set while a recorder reads it."""

    def __init__(self, root: Path) -> None:
        self.root = write_tree(root, ORIN_FILES)
        recorder = open_recorder(root, hertz=200)
        assert recorder is not None
        self.recorder = recorder

    def set(self, files: Dict[str, str]) -> None:
        """Change files and wait until no reading of the old ones is under way any more."""
        write_tree(self.root, files)
        self.wait(2)

    def wait(self, readings: int) -> None:
        before = len(self.recorder._readings)
        wait_until(lambda: len(self.recorder._readings) >= before + readings)


def amperes(value: float) -> Dict[str, str]:
    return {f"{HWMON}/hwmon1/curr1_input": str(round(1000 * value))}


def test_interleaved_engines_each_get_their_own(tmp_path: Path):
    board = Board(tmp_path)
    recorder = board.recorder
    with recorder:
        board.set(amperes(0.4))
        before = len(recorder._readings)
        while len(recorder._readings) < before + 3:
            recorder.measure_idle(0.02)
        for _ in range(3):
            for name, current in (("slow", 1.0), ("fast", 2.0)):
                board.set(amperes(current))
                with recorder.window(name):
                    board.wait(3)
                    if name == "fast":
                        write_tree(tmp_path, {f"{HWMON}/hwmon3/oc1_event_cnt": "9"})
                        board.wait(2)
                board.set(amperes(10.0))
        with recorder.window("slow", counted=False):  # hot, but none of the images that energy is told of
            write_tree(tmp_path, {f"{HWMON}/hwmon3/oc3_event_cnt": "30"})
            board.wait(3)
    slow = recorder.recording("slow", images=100, seconds=4.0)
    fast = recorder.recording("fast", images=200, seconds=4.0)
    # 5 V * (1 A and 2 A), idle 5 V * 0.4 A
    assert slow.energy == Energy(
        "VDD_IN", *(pytest.approx(value) for value in (2.0, 5.0, 5.0 * 4 / 100, 3.0 * 4 / 100))
    )
    assert fast.energy == Energy(
        "VDD_IN", *(pytest.approx(value) for value in (2.0, 10.0, 10.0 * 4 / 200, 8.0 * 4 / 200))
    )
    assert set(named(slow.power, "VDD_IN").values) == {5.0, 50.0}
    assert len(slow.seconds) >= 9
    assert all(len(series.values) == len(slow.seconds) for series in (*slow.temperatures, *slow.clocks))
    assert list(slow.seconds) == sorted(slow.seconds)
    assert (slow.throttled, slow.throttle_reasons) == (True, ("over-current (OC3)",))
    assert (fast.throttled, fast.throttle_reasons) == (True, ("under-voltage (OC1)",))
    assert slow.source == "sysfs"
    assert 0 < slow.hertz <= 400  # 200 were asked for
    nobody = recorder.recording("nobody", images=1, seconds=1.0)
    assert (nobody.seconds, nobody.power, nobody.energy, nobody.throttled) == ((), (), None, None)


class Whims:
    """A source that fails every other time and states what it costs."""

    name, averages = "sysfs", False

    def __init__(self) -> None:
        self.calls, self.burnt, self.closed = 0, 0.0, False
        self.thread: Optional[threading.Thread] = None

    def read(self) -> TelemetrySample:
        self.calls, self.thread = self.calls + 1, threading.current_thread()
        start = time.thread_time()
        while time.thread_time() - start < 0.001:
            pass
        self.burnt += time.thread_time() - start
        if self.calls % 2:
            raise RuntimeError("no answer")
        return TelemetrySample({"VDD_IN": 7.0})

    def cpu_seconds(self) -> float:
        return 0.25

    def close(self) -> None:
        self.closed = True
        raise OSError("even this fails")


def test_readings_that_fail_are_none_and_the_cost_is_stated():
    source = Whims()
    recorder = Recorder(source, hertz=100)
    start = time.perf_counter()
    with recorder, recorder.window("engine"):
        wait_until(lambda: source.calls >= 10)
    wall = time.perf_counter() - start
    recording = recorder.recording("engine", images=7, seconds=1.0)
    values = named(recording.power, "VDD_IN").values
    assert set(values) == {None, 7.0}
    assert recording.energy == Energy("VDD_IN", None, 7.0, 1.0, None)
    assert source.closed
    assert source.thread is not None
    assert not source.thread.is_alive()
    # Of one core: what the source burnt in the thread at least, and what it says was burnt elsewhere.
    assert recording.cost_percent >= 100 * (source.burnt + 0.25) / wall
    assert Recording(**vars(recording)) == recording


def test_a_slow_recorder_stops_at_once(tmp_path: Path):
    recorder = open_recorder(write_tree(tmp_path, ORIN_FILES), hertz=0.01)
    assert recorder is not None
    start = time.monotonic()
    with recorder:
        pass
    assert time.monotonic() - start < 20  # not the 100 s between two readings


# --- which source ------------------------------------------------------------------------------------------


def test_sources_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert open_source(tmp_path / "nothing") is None
    assert open_recorder(tmp_path / "nothing") is None
    # Temperatures alone are worth recording, but tegrastats tells the power besides.
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
def test_throttling_is_told_by_sysfs_whatever_tells_the_power(
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
        monkeypatch.setattr(Jtop, "fails", True)  # a service that died does not hide it
        assert source.read().throttling == ("cooling by cpufreq-cpu0",)
    finally:
        source.close()


def test_what_jtop_says_twice_is_read_once(monkeypatch: pytest.MonkeyPatch):
    """A service whose pace another client has set, while ten times as many readings are asked for."""
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
    assert len(values) <= 6  # a change may be seen half way
    instants = [recorder._started + second for second in recording.seconds]
    assert recording.hertz < 10  # five changes a second, not the 50 readings that were asked for
    assert all(0 <= instant - change < 0.2 for instant, change in zip(instants[-4:], seen[-4:]))


def test_a_jtop_without_news_is_one_that_says_nothing_in_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "jtop", types.SimpleNamespace(jtop=Jtop))
    monkeypatch.setattr(Jtop, "stuck", True)
    source = JtopSource(hertz=50)
    first = source.read()
    assert first is not None
    assert first.power["VDD_IN"] == 5.25
    assert source.read() is None
    monkeypatch.setattr("adq_edge.hardware.telemetry.jtop._PATIENCE_SECONDS", 0.0)
    assert source.read() == TelemetrySample()
    source.close()


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


class Jtop:
    """The part of jetson-stats' client that is used, with what its version 4 answers."""

    running = fails = stuck = False
    asked = 0

    def __init__(self, interval: float) -> None:
        assert interval == pytest.approx(0.02)
        self.uptime = datetime.timedelta(seconds=1000)
        self.power = {
            "rail": {"VDD_CPU_CV": {"power": 1500, "avg": 1400}},
            "tot": {"name": "VDD_IN", "power": 5250, "avg": 5000},
        }
        self.temperature = {"cpu": {"temp": 41.5}, "cv0": {"temp": -256}, "PMIC": {"temp": 100}}
        self.gpu = {"ga10b": {"freq": {"cur": 306000, "governor": "nvhost_podgov"}}}
        self.memory = {"RAM": {}, "EMC": {"cur": 2133000}}

    def start(self) -> None:
        Jtop.running = True

    def ok(self, spin: bool = False) -> bool:
        if self.fails:
            raise RuntimeError("lost connection")
        Jtop.asked += 1
        if not self.stuck:
            self.uptime += datetime.timedelta(seconds=0.02)
        return Jtop.running

    @property
    def stats(self) -> Dict[str, object]:
        return {"time": datetime.datetime.now(), "uptime": self.uptime}  # the one is no reading's time

    def close(self) -> None:
        Jtop.running = False


def test_a_gauge_that_is_not_there(tmp_path: Path):
    assert open_sysfs_value(tmp_path) is None
    assert open_sysfs_value(tmp_path / "missing") is None
    file = tmp_path / "warn"
    file.write_text("32760 ma\n")
    gauge = SysfsValue(file, 1e-3)
    assert gauge.read() == pytest.approx(32.76)
    gauge.close()
    gauge.close()
    assert gauge.read() is None
