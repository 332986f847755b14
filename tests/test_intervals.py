"""Noncentralities from a statistic: their tests, intervals and sample sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import gammaln, logsumexp
from scipy.stats import chi2, ncx2, norm

from sc_utils.intervals import (
    noncentral_interval,
    noncentral_p_value,
    scaled_interval,
    successes_needed,
)

statistics = st.floats(0, 60)
degrees = st.integers(1, 30)
noncentralities = st.floats(0.01, 60)


# Identities


@given(statistics, degrees)
def test_at_zero_the_test_is_that_of_the_upper_tail(t, df):
    p = float(noncentral_p_value(t, df, 0))
    assert p == pytest.approx(chi2.sf(t, df) if t > df else 1, abs=1e-9)


@given(statistics, degrees, noncentralities, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_the_interval_holds_what_the_test_does_not_refuse(t, df, at, confidence):
    low, high = noncentral_interval(t, df, confidence=confidence)
    assert 0 <= low <= high
    if min(abs(at - low), abs(at - high)) > 1e-6:
        assert (low < at < high) == (noncentral_p_value(t, df, at) > 1 - confidence)


@given(degrees)
def test_the_interval_leaves_zero_where_the_test_refuses_it(df):
    critical = chi2.isf(0.05, df)
    low, _ = noncentral_interval([0.999 * critical, 1.001 * critical], df)
    assert low[0] == 0 < low[1]


@given(degrees, noncentralities)
def test_a_larger_statistic_moves_the_interval_up(df, at):
    low, high = noncentral_interval([at, at + 1], df)
    assert low[0] <= low[1]
    assert high[0] < high[1]


def test_scalars_and_tables_agree():
    low, high = noncentral_interval([[3.0, 30.0], [1.0, 50.0]], [2, 5])
    one = noncentral_interval(50.0, 5)
    assert (float(low[1, 1]), float(high[1, 1])) == (float(one[0]), float(one[1]))


# Oracle: the exact law, summed over a fine grid of statistics that never halves an interval


@pytest.mark.parametrize("df", [1, 3, 11])
@pytest.mark.parametrize("at", [0.0, 0.5, 4.0, 25.0])
def test_the_test_refuses_as_often_as_it_says(df, at):
    levels = (np.arange(4000) + 0.5) / 4000
    quantiles = ncx2.ppf(levels, df, at) if at else chi2.ppf(levels, df)
    p = noncentral_p_value(quantiles, df, at)
    for level in (0.01, 0.05, 0.2):
        assert (p <= level).mean() == pytest.approx(level, abs=6e-4)


@pytest.mark.parametrize("df", [2, 5, 400])
def test_the_order_is_that_of_the_density_ratio(df):
    at, grid = 6.0, np.linspace(0.05, df + 80, 20_001)
    if df == 400:
        grid = np.linspace(df - 150, df + 300, 20_001)
    best = np.maximum(grid - df, 1e-9)
    log_ratio = _log_density(grid, df, at) - _log_density(grid, df, best)
    mass = ncx2.cdf(grid[1:], df, at) - ncx2.cdf(grid[:-1], df, at)
    for t in (df + 1.0, df + 12.0, df + 25.0):
        seen = np.interp(t, grid, log_ratio)
        expected = mass[log_ratio[1:] <= seen].sum()
        assert noncentral_p_value(t, df, at) == pytest.approx(expected, abs=6e-3)


def _log_density(t, df, at):
    """As a Poisson mixture of central laws: no Bessel function."""
    j = np.arange(400)[:, np.newaxis]
    at = np.broadcast_to(at, t.shape)
    poisson = -at / 2 + j * np.log(at / 2) - gammaln(j + 1)
    return logsumexp(poisson + chi2.logpdf(t, df + 2 * j), axis=0)


def test_far_from_zero_the_interval_is_the_normal_one():
    t = 1e6
    low, high = noncentral_interval(t, 3)
    half = norm.isf(0.025) * 2 * np.sqrt(t)
    assert low == pytest.approx(t - half, abs=0.01 * half)
    assert high == pytest.approx(t + half, abs=0.01 * half)


@pytest.mark.parametrize("df", [0.3, 1, 3, 40])
@pytest.mark.parametrize("at", [0.0, 0.4, 2.0, 6.0, 10.0, 60.0])
def test_a_scaled_interval_errs_as_often_as_it_says(df, at):
    u, delta = (np.arange(4000) + 0.5) / 4000, 0.02
    t = ncx2.ppf(u, df, at) if at > 0 else chi2.ppf(u, df)
    low, high = scaled_interval(delta * (t - df), df, delta, 4 * delta)
    assert np.mean((low <= delta * at) & (delta * at <= high)) == pytest.approx(0.95, abs=0.001)
    assert ((low > 0) == (chi2.sf(t, df) < 0.05)).all()


def test_a_steeper_slope_widens_and_far_from_zero_gives_the_variance():
    low, high = scaled_interval([4.0, 4.0], 3, 0.001, [0.004, 0.04])
    assert low[0] - low[1] > 0.3
    assert high[1] - high[0] > 0.3
    half = norm.isf(0.025) * np.sqrt(0.04 * 4)  # slope times signal
    assert high[1] - low[1] == pytest.approx(2 * half, rel=0.01)


def test_what_is_seen_without_a_doubt_has_an_interval():
    low, high = scaled_interval(0.91, 300, 0.001, 0.003)  # 30 standard deviations from 0
    assert 0.75 < float(low) < 0.85 < 1.0 < float(high) < 1.1
    assert low.shape == high.shape == ()


# Golden: Example 3.1 of the paper, and Cohen's table of noncentralities


@pytest.mark.parametrize(
    ("n_actions", "noncentrality"), [(2, 7.849), (3, 9.635), (4, 10.903), (5, 11.935)]
)
def test_the_successes_needed_are_those_of_the_tables(n_actions, noncentrality):
    assert successes_needed(0.1, n_actions) == pytest.approx(noncentrality / 0.1, rel=1e-4)


def test_two_close_arms_need_seventy_eight_thousand_successes():
    assert round(successes_needed(1e-4, 2)) == 78_489


@given(st.integers(2, 40), st.floats(0.001, 0.2), st.floats(0.3, 0.99))
def test_after_so_many_successes_the_test_has_the_power(n_actions, level, power):
    at = successes_needed(0.25, n_actions, level=level, power=power) * 0.25
    critical = chi2.isf(level, n_actions - 1)
    assert ncx2.sf(critical, n_actions - 1, at) == pytest.approx(power, abs=1e-6)


# Refusals


def test_degrees_of_freedom_must_be_positive():
    with pytest.raises(ValueError, match=r"df\[1\] must be positive, got 0"):
        noncentral_interval([1, 2], [1, 0])


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (([0, 1], [1, 0], 1, 1), r"df\[1\] must be positive, got 0"),
        ((0, 1, -2, 1), "scale must be positive, got -2"),
        ((0, 1, 1, [1, -1]), r"slope\[1\] must not be negative, got -1"),
        ((np.nan, 1, 1, 1), "estimate is NaN"),
    ],
)
def test_a_law_out_of_range_is_refused(law, message):
    with pytest.raises(ValueError, match=message):
        scaled_interval(*law)


def test_a_noncentrality_must_not_be_negative():
    with pytest.raises(ValueError, match=r"noncentrality\[1\] must not be negative, got -0.5"):
        noncentral_p_value(1, 1, [0, -0.5])


def test_a_statistic_must_be_a_number():
    with pytest.raises(ValueError, match=r"statistic\[0\] is NaN"):
        noncentral_p_value([np.nan], 1, 0)


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_lies_between_zero_and_one(confidence):
    with pytest.raises(ValueError, match=rf"confidence must lie in \(0, 1\), got {confidence}"):
        noncentral_interval(1, 1, confidence=confidence)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"influence": 0}, "influence must be positive, got 0"),
        ({"n_actions": 1}, "n_actions must be at least 2"),
        ({"level": 1.5}, r"level must lie in \(0, 1\), got 1.5"),
        ({"power": 0.01}, "power must exceed the level, got power 0.01 and level 0.05"),
    ],
)
def test_sample_sizes_are_refused_out_of_range(change, message):
    arguments = {"influence": 0.1, "n_actions": 3} | change
    with pytest.raises(ValueError, match=message):
        successes_needed(**arguments)


def test_a_number_of_actions_is_whole():
    with pytest.raises(TypeError, match="n_actions must be an integer, got 2.5"):
        successes_needed(0.1, 2.5)
