"""The trust region: the problem, its certificate, its solution at every radius, the rival balls."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sc_utils.conditioning import condition_on_success, successful_visits
from sc_utils.environments import bandit
from sc_utils.mdp import evaluate
from sc_utils.trust_region import (
    certificate,
    chi_squared_reach,
    kl_reach,
    longest_step,
    policy_movement,
    reverse_kl_reach,
    step_for_radius,
    success_step,
    surrogate_gain,
    total_variation_reach,
    trust_region_policy,
    trust_region_radius,
)
from tests.strategies import mdps_with_policies, policies_of


@st.composite
def behaviours(draw):
    """A behaviour's evaluation with some success, and another policy of the same process."""
    mdp, policy = draw(mdps_with_policies())
    return evaluate(mdp, policy), draw(policies_of(mdp, full_support=False))


# Identities


@given(behaviours())
def test_certificate_is_an_identity(case):
    e, new = case
    parts = certificate(e, new)
    gain = surrogate_gain(e, new)
    best = surrogate_gain(e, condition_on_success(e.policy, e.Q))
    scale = abs(gain) + abs(best) + parts.distance
    assert gain - best == pytest.approx(parts.slack - parts.distance, abs=1e-12 * scale + 1e-15)


@given(behaviours())
def test_radius_of_the_data_gives_the_conditioned_policy(case):
    e, _ = case
    radius = trust_region_radius(e)
    pi_plus = condition_on_success(e.policy, e.Q)
    seen = successful_visits(e) > 0
    assert policy_movement(e, pi_plus) == pytest.approx(radius, rel=1e-12, abs=1e-15)
    assert surrogate_gain(e, pi_plus) == pytest.approx(e.success_rate * radius, abs=1e-14)
    np.testing.assert_allclose(
        trust_region_policy(e, radius)[seen], pi_plus[seen], rtol=1e-12, atol=1e-14
    )


@given(behaviours(), st.floats(0, 30))
def test_solution_is_a_policy_that_uses_its_radius(case, times):
    e, _ = case
    radius = times * trust_region_radius(e)
    solution = trust_region_policy(e, radius)
    assert (solution >= 0).all()
    np.testing.assert_allclose(solution.sum(axis=1), 1, rtol=0, atol=1e-12)
    most = policy_movement(e, trust_region_policy(e, np.inf))
    expected = min(radius, most)
    assert policy_movement(e, solution) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@given(behaviours(), st.floats(0, 30))
def test_no_policy_of_the_same_movement_gains_more(case, times):
    e, new = case
    solution = trust_region_policy(e, policy_movement(e, new))
    assert surrogate_gain(e, new) <= surrogate_gain(e, solution) + 1e-12


@given(behaviours())
def test_until_the_longest_step_the_path_is_straight(case):
    e, _ = case
    pi_plus = condition_on_success(e.policy, e.Q)
    steps = np.minimum(longest_step(e.policy, e.Q), 1e6)
    line = e.policy + steps[:, np.newaxis] * (pi_plus - e.policy)
    np.testing.assert_allclose(success_step(e.policy, e.Q, steps), line, atol=1e-9)
    assert (line > -1e-9).all()


@given(
    st.lists(st.tuples(st.floats(-60, 0), st.floats(-9, 0)), min_size=2, max_size=6),
    st.floats(-3, 18),
)
def test_path_stays_a_policy_when_the_best_actions_are_rare(exponents, step):
    weights, Q = 10.0 ** np.array(exponents).T
    path = success_step(weights / weights.sum(), Q, 10**step)
    assert (path >= 0).all()
    assert path.sum() == pytest.approx(1, abs=1e-12)


# By hand


def test_every_radius_of_three_arms_by_hand():
    """Q = (0, 1/2, 1), uniform: V = 1/2, w = (0, 1, 2), influence 2/3; the worst drops at 1.

    Beyond, the two others are 1/2 -+ eta/6, until eta = 3.
    """
    e = evaluate(bandit([0, 0.5, 1]), np.full((1, 3), 1 / 3))
    assert trust_region_radius(e) == pytest.approx(2 / 3)
    expected = {
        0.5: (1 / 6, 1 / 3, 1 / 2),
        1: (0, 1 / 3, 2 / 3),
        2: (0, 1 / 6, 5 / 6),
        3: (0, 0, 1),
        7: (0, 0, 1),
    }
    for step, policy in expected.items():
        np.testing.assert_allclose(success_step(e.policy, e.Q, step), [policy], atol=1e-15)
        radius = policy_movement(e, np.array([policy]))
        if step < 3:
            assert step_for_radius(e, radius) == pytest.approx(step, rel=1e-12)
        np.testing.assert_allclose(trust_region_policy(e, radius), [policy], atol=1e-7)
    assert longest_step(e.policy, e.Q) == pytest.approx(1)


def test_actions_that_succeed_equally_drop_out_together():
    e = evaluate(bandit([0.2, 0.2, 0.6, 0.6]), [[0.1, 0.4, 0.2, 0.3]])
    steps = np.linspace(0, 6, 50)
    path = np.array([success_step(e.policy, e.Q, step)[0] for step in steps])
    assert ((path[:, 0] > 0) == (path[:, 1] > 0)).all()
    np.testing.assert_allclose(path[-1], [0, 0, 0.4, 0.6], atol=1e-15)
    np.testing.assert_array_equal(trust_region_policy(e, np.inf), path[[-1]])


def test_reach_of_a_rare_action():
    """The columns of the table in the chapter on geometry, at a budget of 0.3."""
    delta = 10.0 ** -np.array([2, 4, 6, 8, 12])
    np.testing.assert_allclose(
        chi_squared_reach(delta, 0.3), [0.0645, 0.00558, 5.49e-4, 5.48e-5, 5.48e-7], rtol=2e-3
    )
    np.testing.assert_allclose(
        kl_reach(delta, 0.3), [0.1581, 0.0560, 0.0320, 0.0220, 0.01344], rtol=2e-3
    )
    np.testing.assert_allclose(
        reverse_kl_reach(delta, 0.3), [0.2933, 0.2599, 0.2592, 0.2592, 0.2592], rtol=2e-4
    )
    np.testing.assert_allclose(total_variation_reach(delta, 0.3), delta + 0.3)


# Edge cases and refusals


def test_without_influence_every_radius_keeps_the_behaviour():
    e = evaluate(bandit([0.4, 0.4, 0.4]), [[0.2, 0.3, 0.5]])
    for radius in (0, 0.1, 5, np.inf):
        np.testing.assert_allclose(trust_region_policy(e, radius), e.policy, atol=1e-15)


@given(behaviours())
def test_infinite_radius_keeps_the_best_actions_in_proportion(case):
    e, _ = case
    assume(trust_region_radius(e) > 1e-6)
    limit = trust_region_policy(e, np.inf)
    for s in np.flatnonzero(successful_visits(e) > 0):
        best = e.Q[s] >= e.Q[s].max() - 1e-12
        expected = np.where(best, e.policy[s], 0)
        np.testing.assert_allclose(limit[s], expected / expected.sum(), atol=1e-12)


@pytest.mark.parametrize("radius", [-1e-9, np.nan])
def test_a_radius_that_is_none_is_refused(radius):
    e = evaluate(bandit([0.2, 0.6]), [[0.5, 0.5]])
    with pytest.raises(ValueError, match=f"radius must be at least 0, got {radius}"):
        trust_region_policy(e, radius)
    with pytest.raises(ValueError, match="radius must be at least 0"):
        kl_reach(0.1, radius)


def test_a_step_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"step\[1\] must be at least 0, got -1"):
        success_step(np.full((3, 2), 0.5), np.full((3, 2), 0.5), [1, -1, 1])
    with pytest.raises(ValueError, match=r"one entry per state \(3,\), got \(2,\)"):
        success_step(np.full((3, 2), 0.5), np.full((3, 2), 0.5), [1, 1])
    with pytest.raises(ValueError, match="step is NaN"):
        success_step([0.5, 0.5], [0.2, 0.4], np.nan)


def test_certificate_refuses_a_policy_outside_the_support():
    e = evaluate(bandit([0.2, 0.6, 0.9]), [[0.5, 0.5, 0.0]])
    with pytest.raises(ValueError, match=r"new\[0, 2\] is 0.1, but the behaviour never plays"):
        certificate(e, [[0.4, 0.5, 0.1]])
    assert policy_movement(e, [[0.4, 0.5, 0.1]]) == np.inf


def test_a_policy_of_another_shape_is_refused():
    e = evaluate(bandit([0.2, 0.6]), [[0.5, 0.5]])
    with pytest.raises(ValueError, match=r"behaviour's shape \(1, 2\), got \(1, 3\)"):
        surrogate_gain(e, [[0.2, 0.3, 0.5]])


def test_a_behaviour_that_never_succeeds_is_refused():
    e = evaluate(bandit([0.0, 0.5]), [[1.0, 0.0]])
    for ask in (trust_region_radius, lambda e: trust_region_policy(e, 1.0)):
        with pytest.raises(ValueError, match="never succeeds"):
            ask(e)


def test_an_impossible_probability_is_refused():
    with pytest.raises(ValueError, match=r"probability\[1\] must lie in \[0, 1\], got 1.5"):
        chi_squared_reach([0.5, 1.5], 0.1)
