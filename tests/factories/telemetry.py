"""Fakes for the telemetry tests: files of a board, tegrastats, and the client of jtop."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Callable, Dict, Tuple

import pytest

from adq_edge.hardware.telemetry.recording import Series
from factories.boards import ORIN_NANO
from factories.paths import DATA

TRANSCRIPTS = DATA / "tegrastats"
TIMEOUT_SECONDS = 30.0
THERMAL, HWMON = "sys/class/thermal", "sys/class/hwmon"

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

PROGRAM = """#!/bin/sh
echo $$ > {pid}
[ "$*" = "--interval 20" ] || exit 1
echo "tegrastats: some warning"
while :; do
    while read -r line; do echo "$line"; sleep 0.02; done < {transcript}
done
"""


def install_tegrastats(root: Path, transcript: str) -> Path:
    """Install a fake tegrastats that repeats a transcript; return the file with its process id."""
    pid, program = root / "pid", root / "usr" / "bin" / "tegrastats"
    program.parent.mkdir(parents=True)
    program.write_text(PROGRAM.format(pid=pid, transcript=TRANSCRIPTS / transcript))
    program.chmod(0o755)
    return pid


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < limit, "the condition did not become true"
        time.sleep(0.002)


def named(series: Tuple[Series, ...], name: str) -> Series:
    return next(one for one in series if one.name == name)


class Jtop:
    """The used part of jetson-stats' client, with answers of its version 4."""

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
        return {"time": datetime.datetime.now(), "uptime": self.uptime}  # `time` is the time of the query

    def close(self) -> None:
        Jtop.running = False
