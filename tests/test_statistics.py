"""Spread, paired difference and power law against scipy, numpy and known cases."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.statistics import fit_power_law, paired_difference, spread

errors = st.lists(st.floats(0.5, 20), min_size=3, max_size=8)


@given(errors, st.data())
def test_the_interval_is_scipy_s_of_the_paired_t_test(one, data):
    other = data.draw(st.lists(st.floats(0.5, 20), min_size=len(one)))
    gaps = np.subtract(one, other[: len(one)])
    actual = paired_difference(dict(enumerate(one)), dict(enumerate(other)))
    np.testing.assert_allclose(actual.mean, gaps.mean(), rtol=1e-12, atol=1e-12)
    assert actual.seeds == len(one)
    if np.ptp(gaps) < 1e-6:
        return  # scipy warns that nothing is left but rounding
    low, high = stats.ttest_rel(one, other[: len(one)]).confidence_interval(0.95)
    np.testing.assert_allclose(actual[1:3], [low, high], rtol=1e-9, atol=1e-9)


@given(errors, st.floats(-3, 3))
def test_a_shift_of_every_seed_is_found_exactly(values, shift):
    one = dict(enumerate(np.add(values, shift)))
    found = paired_difference(one, dict(enumerate(values)))
    np.testing.assert_allclose(found[:3], shift, rtol=0, atol=1e-12)


def test_only_common_seeds_are_paired():
    found = paired_difference({0: 1.0, 5: 3.0, 9: 99.0}, {5: 2.0, 0: 1.0, 7: -99.0})
    assert (found.mean, found.seeds) == (0.5, 2)
    assert np.isnan(found[1:3]).all()  # two seeds have no interval
    nothing = paired_difference({0: 1.0}, {1: 1.0})
    assert np.isnan(nothing[:3]).all()
    assert nothing.seeds == 0


@given(errors)
def test_the_spread_is_numpy_s_with_one_degree_less(values):
    mean, std = spread(values)
    assert mean == pytest.approx(np.mean(values), rel=1e-12)
    assert std == pytest.approx(np.std(values, ddof=1), rel=1e-12)


def test_a_spread_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one seed, got none"):
        spread([])


@pytest.mark.parametrize("exponent", [-1.0, 0.5, 2.5])
def test_the_exponent_of_a_power_law_is_found_whatever_is_zero_to_rounding(exponent):
    T = [8, 16, 32, 64, 128]
    values = [3 * t**exponent for t in T[:-1]]
    fit = fit_power_law(T, [*values, 1e-20], 1e-16)
    np.testing.assert_allclose(fit, exponent, rtol=0, atol=1e-12)


def test_the_interval_of_an_exponent_is_scipy_s_and_needs_three_lengths():
    T, values = np.array([8.0, 16, 32, 64]), np.array([1.0, 0.4, 0.3, 0.11])
    fit = fit_power_law(T, values, 1e-16)
    known = stats.linregress(np.log(T), np.log(values))
    reach = stats.t(2).ppf(0.975) * known.stderr
    expected = [known.slope, known.slope - reach, known.slope + reach]
    np.testing.assert_allclose(fit, expected, rtol=1e-12)
    assert np.isnan(fit_power_law(T[[0, 0, 1, 1]], values, 1e-16)).all()
