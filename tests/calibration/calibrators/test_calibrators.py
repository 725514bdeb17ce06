"""Each calibrator against its definition, computed here on the raw values in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adq_edge.calibration.calibrators import registry
from adq_edge.calibration.calibrators.entropy import best_threshold, kl_divergences
from adq_edge.calibration.calibrators.histogram import Histogram
from adq_edge.calibration.calibrators.registry import make_calibrator
from adq_edge.core.errors import CalibrationError
from adq_edge.core.plugins import plugin_names
from factories.activations import KINDS, activations, histogram_of
from factories.paths import REPOSITORY

BUILT_IN = ["entropy", "lp", "minmax", "mse", "percentile"]
LEVELS = 128
BINS = 2048


def range_of(spec: str, *batches: np.ndarray) -> tuple:
    return make_calibrator(spec).compute_range(histogram_of(*batches))


# --- entropy ---------------------------------------------------------------------------------------


def reference_divergence(counts: np.ndarray, kept: int) -> float:
    """Return KL(P || Q) of one threshold, bin by bin (Migacz, GTC 2017, slides 31-38)."""
    p = [float(count) for count in counts[:kept]]
    p[-1] += float(sum(counts[kept:]))
    sums, filled = [0.0] * LEVELS, [0] * LEVELS
    for bin_number in range(kept):
        level = bin_number * LEVELS // kept
        sums[level] += float(counts[bin_number])
        filled[level] += counts[bin_number] > 0
    q = []
    for bin_number in range(kept):
        level = bin_number * LEVELS // kept
        q.append(sums[level] / filled[level] if counts[bin_number] > 0 else 0.0)
    p_total, q_total, divergence = math.fsum(p), math.fsum(q), 0.0
    for p_of_bin, q_of_bin in zip(p, q):
        if p_of_bin > 0.0 and q_of_bin == 0.0:
            return math.inf
        if p_of_bin > 0.0:
            divergence += p_of_bin / p_total * math.log(p_of_bin / p_total * q_total / q_of_bin)
    return divergence


def reference_threshold(counts: np.ndarray) -> int:
    return min(range(LEVELS, len(counts) + 1), key=lambda kept: reference_divergence(counts, kept))


def raw_counts(values: np.ndarray) -> np.ndarray:
    """Return the 2048 bins of the search, counted from the values without zeros, as in NVIDIA's tools."""
    magnitudes = np.abs(values.astype(np.float64))
    counts = np.histogram(magnitudes, BINS, (0.0, magnitudes.max()))[0].astype(np.float64)
    counts[0] = counts[1]
    return counts


@pytest.mark.parametrize("seed", range(4))
def test_entropy_search_equals_the_reference(seed: int):
    values = np.abs(np.random.default_rng(seed).standard_normal(20_000)) ** (1 + seed)
    counts = np.histogram(values, 400)[0].astype(np.float64)
    thresholds = np.arange(LEVELS, 401)
    expected = [reference_divergence(counts, int(kept)) for kept in thresholds]
    np.testing.assert_allclose(kl_divergences(counts, thresholds), expected, rtol=1e-9, atol=1e-12)
    assert best_threshold(counts) == reference_threshold(counts)
    assert best_threshold(counts) < len(counts)  # some values are clipped


@pytest.mark.parametrize("kind", KINDS)
def test_entropy_range_equals_the_reference_on_raw_values(kind: str):
    """The largest value is just below a power of two: there the histogram has the 2048 bins of the search."""
    values = activations(kind, 30_000)
    largest = np.nextafter(np.float32(2.0 ** math.frexp(float(np.abs(values).max()))[1]), np.float32(0))
    values[0] = largest
    counts = raw_counts(values)
    chosen = round(range_of("entropy", values)[1] / float(largest) * BINS)
    assert range_of("entropy", values)[1] == pytest.approx(chosen / BINS * float(largest), rel=1e-12)
    others = [*range(LEVELS, BINS + 1, 8), *range(max(chosen - 8, LEVELS), min(chosen + 8, BINS) + 1)]
    assert reference_divergence(counts, chosen) == min(reference_divergence(counts, kept) for kept in others)


# --- percentile ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("percentile", [99.99, 99.9, 99.0, 90.0, 50.0])
def test_percentile_equals_numpy_quantile(kind: str, percentile: float):
    """The result is between numpy's two neighboring values, within one bin."""
    values = activations(kind).astype(np.float64)
    low, high = range_of(f"percentile:{percentile}", values)
    width = histogram_of(values).width
    assert width <= np.abs(values).max() / BINS
    for share, ours in ((percentile / 100, high), (1 - percentile / 100, low)):
        below, above = (np.quantile(values, share, method=method) for method in ("lower", "higher"))
        wanted = (max(below, 0.0), max(above, 0.0)) if ours is high else (min(below, 0.0), min(above, 0.0))
        assert wanted[0] - width <= ours <= wanted[1] + width


def test_percentile_100_equals_minmax():
    for kind in KINDS:
        values = activations(kind)
        assert range_of("percentile:100", values) == range_of("minmax", values)
    histogram = Histogram("t")
    histogram.update(np.float32([[1.0, -2.0], [9.0, -8.0]]), row_step=2)  # the extremes are not counted
    assert make_calibrator("percentile:100").compute_range(histogram) == (-8.0, 9.0)


# --- minmax, mse and lp --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_minmax_equals_extremes_of_raw_values(kind: str):
    batches = [activations(kind, 1000, seed) for seed in range(5)]
    everything = np.concatenate(batches).astype(np.float64)
    assert range_of("minmax", *batches) == (min(everything.min(), 0.0), everything.max())


def reference_error(values: np.ndarray, low: float, high: float, power: float = 2.0) -> float:
    """Return the mean p-th power of the error of 8 bits: round to 256 levels, clip, and convert back."""
    step = (high - low) / 255
    zero_point = round(-low / step)
    stored = np.clip(np.round(values / step) + zero_point, 0, 255)
    return float(np.mean(np.abs(values - (stored - zero_point) * step) ** power))


@pytest.mark.parametrize(("spec", "power"), [("mse", 2.0), ("lp", 3.0), ("lp:1", 1.0), ("lp:4", 4.0)])
@pytest.mark.parametrize("kind", KINDS)
def test_mse_and_lp_equal_brute_force_search(kind: str, spec: str, power: float):
    """The brute-force search has four times as many thresholds as the calibrator."""
    values = activations(kind, 50_000).astype(np.float64)
    largest = np.abs(values).max()
    thresholds = largest * np.arange(1, 401) / 400
    errors = [
        reference_error(values, max(values.min(), -limit), min(values.max(), limit), power)
        for limit in thresholds
    ]
    low, high = range_of(spec, values)
    assert reference_error(values, low, high, power) <= 1.02 * min(errors)
    assert max(-low, high) == pytest.approx(thresholds[int(np.argmin(errors))], abs=0.03 * largest)


# --- properties of all calibrators ----------------------------------------------------------

# Tiny values become zero: float64 cannot bin them exactly beside a large value.
VALUES = st.floats(-1e4, 1e4, width=32).map(lambda value: value if abs(value) > 1e-6 else 0.0)
ANY_DATA = st.one_of(
    st.lists(VALUES, min_size=1, max_size=60).map(np.float32),
    st.builds(activations, st.sampled_from(KINDS), st.integers(1, 3000), st.integers(0, 2**32 - 1)),
)
SPECS = st.sampled_from([*BUILT_IN, "percentile:99", "percentile:50", "percentile:100"])
SMOOTH_DATA = st.builds(activations, st.sampled_from(KINDS), st.just(20_000), st.integers(0, 2**32 - 1))


@settings(max_examples=150, deadline=None)
@given(SPECS, ANY_DATA)
def test_range_contains_zero_and_is_within_the_data(spec: str, values: np.ndarray):
    low, high = range_of(spec, values)
    assert min(values.min(), 0) <= low <= 0 <= high <= max(values.max(), 0)


@settings(max_examples=100, deadline=None)
@given(SPECS, ANY_DATA, st.integers(-12, 12))
def test_range_scales_exactly_with_powers_of_two(spec: str, values: np.ndarray, exponent: int):
    factor = 2.0**exponent
    low, high = range_of(spec, values)
    assert range_of(spec, values * np.float32(factor)) == (factor * low, factor * high)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["minmax", "percentile", "percentile:99"]), SMOOTH_DATA, st.floats(1e-3, 1e3))
def test_range_scales_with_any_factor_within_a_bin(spec: str, values: np.ndarray, factor: float):
    low, high = range_of(spec, values)
    scaled = range_of(spec, values * np.float32(factor))
    bin_width = float(np.abs(values).max()) / BINS
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-5, abs=2 * factor * bin_width)


@settings(max_examples=25, deadline=None)
@given(SMOOTH_DATA, st.floats(1e-3, 1e3))
def test_mse_error_does_not_depend_on_scale(values: np.ndarray, factor: float):
    """Neighboring thresholds can be equally good, so the test compares their errors."""
    own = reference_error(values.astype(np.float64), *range_of("mse", values))
    low, high = range_of("mse", values * np.float32(factor))
    assert reference_error(values.astype(np.float64), low / factor, high / factor) <= 1.02 * own


@settings(max_examples=15, deadline=None)
@given(SMOOTH_DATA, st.floats(1e-3, 1e3))
def test_entropy_divergence_does_not_depend_on_scale(values: np.ndarray, factor: float):
    """Distant thresholds can be equally good, so the test compares their divergences."""
    counts, largest = raw_counts(values), float(np.abs(values).max())

    def divergence(threshold: float) -> float:
        chosen = round(threshold / largest * BINS)  # in bins of the histogram
        return min(
            reference_divergence(counts, chosen + step) for step in range(-4, min(4, BINS - chosen) + 1)
        )

    own = divergence(range_of("entropy", values)[1])
    assert divergence(range_of("entropy", values * np.float32(factor))[1] / factor) <= 1.3 * own


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["normal", "relu"]), st.integers(0, 2**32 - 1), st.floats(2.0, 10.0), st.integers(1, 3)
)
def test_outliers_move_only_minmax(kind: str, seed: int, height: float, count: int):
    values = activations(kind, 100_000, seed)
    spike = np.full(count, height * values.max(), np.float32)
    assert range_of("minmax", values, spike)[1] == spike[0]
    for spec, most in (("percentile", 1.15), ("percentile:99", 1.01), ("entropy", 1.5), ("lp:1", 1.5)):
        before, after = range_of(spec, values)[1], range_of(spec, values, spike)[1]
        assert before / most <= after <= before * most, spec


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("constant", [0.0, 3.0, -2.0])
def test_constant_activation_has_a_range(name: str, constant: float):
    low, high = range_of(name, np.full(100, constant))
    assert low == pytest.approx(min(constant, 0.0), rel=0.01)
    assert high == pytest.approx(max(constant, 0.0), rel=0.01)


# --- names and values ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("magic", r"no calibrator named 'magic'\. Use one of: entropy, .*minmax, mse, percentile"),
        ("", r"no calibrator named ''\. Use one of: entropy"),
        ("percentile:0", "percentile must be above 0 and at most 100, not 0"),
        ("percentile:-1", "percentile must be above 0 and at most 100, not -1"),
        ("percentile:100.1", r"percentile must be above 0 and at most 100, not 100\.1"),
        ("percentile:nan", "percentile must be above 0 and at most 100, not nan"),
        (
            "percentile:abc",
            "calibrator 'percentile': 'abc' is not a number. Give percentile:NUMBER, or",
        ),
        ("percentile:", "calibrator 'percentile': '' is not a number"),
        ("lp:0.5", "power must be 1 or more, not 0.5"),
        ("lp:nan", "power must be 1 or more, not nan"),
        ("lp:inf", "power must be 1 or more, not inf"),
        ("minmax:3", "calibrator 'minmax' takes no value. Give minmax alone"),
        ("mse:1", "calibrator 'mse' takes no value"),
        ("entropy:", "calibrator 'entropy' takes no value"),
    ],
)
def test_make_calibrator_rejects_bad_specs(spec: str, complaint: str):
    with pytest.raises(CalibrationError, match=complaint) as refusal:
        make_calibrator(spec)
    assert "\n" not in str(refusal.value)


def test_package_metadata_announces_the_built_in_calibrators():
    project = (REPOSITORY / "pyproject.toml").read_text()
    table = project.split(f'[project.entry-points."{registry.GROUP}"]\n')[1].split("\n\n")[0]
    announced = {name: path.strip('"') for name, path in (line.split(" = ") for line in table.splitlines())}
    assert announced == registry.BUILT_IN
    assert set(BUILT_IN) <= set(plugin_names(registry.GROUP, registry.BUILT_IN))
