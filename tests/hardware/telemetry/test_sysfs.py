"""Sensors in /sys: rails, energy counters, temperatures, clocks and throttling."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Dict, Optional

import pytest

from adq_edge.hardware.telemetry.energy import Window, measure_energy
from adq_edge.hardware.telemetry.rails import EnergyCounter, find_rails, power_sensors
from adq_edge.hardware.telemetry.recording import Energy
from adq_edge.hardware.telemetry.sample import TelemetrySample
from adq_edge.hardware.telemetry.sysfs import SysfsSource
from adq_edge.hardware.telemetry.sysfs_value import SysfsValue, open_sysfs_value
from adq_edge.hardware.telemetry.throttling import Throttling
from factories.boards import XAVIER_NX, write_tree
from factories.telemetry import HWMON, ORIN_FILES, THERMAL


def test_sysfs_source_of_an_orin(tmp_path: Path):
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
    sample = source.read()
    assert sample.power == {"VDD_IN": None}
    assert sample.temperatures == {"cpu-thermal": None, "cv0-thermal": None}
    assert sample.throttling == (
        "cooling by gpu-throttle-alert",
        "over-current (OC3)",
        "cooling by cpu-throttle-alert",
    )
    # A counter reports events since it was last read; a cooling device reports its current state.
    assert source.read().throttling == ("cooling by gpu-throttle-alert",)


def test_throttling_by_alarms_without_over_current_counters(tmp_path: Path):
    root = write_tree(
        tmp_path,
        {**XAVIER_NX, f"{HWMON}/hwmon4/curr1_max_alarm": "0", f"{HWMON}/hwmon4/curr1_crit_alarm": "1"},
    )
    assert Throttling(root).read() == ("over-current alarm of VDD_IN",)


def test_throttling_of_a_pc_processor(tmp_path: Path):
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


def test_find_rails_of_jetpack_4_and_of_thor(tmp_path: Path):
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


def test_energy_counter_that_restarts_from_zero(tmp_path: Path):
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
    assert read(rail, 0.001, "1000100") is None  # too soon for a precise value
    assert read(rail, 0.5, "6000000") == pytest.approx(5.0 / 0.5)
    assert read(rail, 1.0, "garbage") is None
    assert read(rail, 2.5, "262140000000") == pytest.approx((262140 - 6) / 2.0)
    # from 262140 J to the end of the range and on to 2 J
    assert read(rail, 2.75, "2000000") == pytest.approx((262143.32885 - 262140 + 2) / 0.25)
    unknown = counter(span=None)
    assert read(unknown, 1.0, "500000") is None
    assert read(unknown, 2.0, "1500000") == pytest.approx(1.0)


def test_sysfs_value_closes_its_file(tmp_path: Path):
    (tmp_path / "value").write_text("1\n")
    value = SysfsValue(tmp_path / "value")
    file = value._file
    os.fstat(file)
    del value
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_sysfs_value_of_absent_and_annotated_files(tmp_path: Path):
    assert open_sysfs_value(tmp_path) is None
    assert open_sysfs_value(tmp_path / "missing") is None
    file = tmp_path / "warn"
    file.write_text("32760 ma\n")
    value = SysfsValue(file, 1e-3)
    assert value.read() == pytest.approx(32.76)
