"""Energy from the samples of the input power."""

from __future__ import annotations

from typing import List, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adq_edge.hardware.telemetry.energy import Window, mean_power, measure_energy
from adq_edge.hardware.telemetry.recording import Energy


@given(
    st.floats(1.0, 20.0),
    st.floats(-3.0, 3.0),
    st.lists(st.floats(0.01, 0.3), min_size=3, max_size=40),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
)
def test_mean_power_of_a_linear_rise_is_exact(
    level: float, slope: float, steps: List[float], first: float, last: float
):
    times = np.cumsum(steps)
    power = [float(level + slope * t) for t in times]
    # From one sample to another the integral of a line has a closed form.
    low, high = sorted((int(first * (len(times) - 1)), int(last * (len(times) - 1))))
    if low == high:
        return
    start, end = float(times[low]), float(times[high])
    exact = level * (end - start) + slope * (end**2 - start**2) / 2
    # A second window has no sample and does not count; later one sample has failed.
    windows = [Window(start, end), Window(end + 1000, end + 1001)]
    given_w: List[Optional[float]] = list(power)
    found = mean_power(list(times), given_w, windows, averages=False)
    assert found == pytest.approx(exact / (end - start))
    if high - low > 2:
        given_w[low + 1] = None
        assert mean_power(list(times), given_w, windows, averages=False) == pytest.approx(
            exact / (end - start)
        )


def test_mean_power_uses_only_samples_in_the_windows():
    times = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    power = [100.0, 4.0, 6.0, 100.0, 8.0, 100.0, 100.0]
    windows = [Window(0.4, 1.2), Window(1.8, 2.2)]
    # First window: 4 W until 0.5, rising to 6 W at 1.0, 6 W until 1.2. Second window: 8 W.
    joules = 4 * 0.1 + (4 + 6) / 2 * 0.5 + 6 * 0.2 + 8 * 0.4
    assert mean_power(times, power, windows, averages=False) == pytest.approx(joules / 1.2)
    # Means since the sample before: that of 0.5 began outside, and the second window has only one sample.
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
