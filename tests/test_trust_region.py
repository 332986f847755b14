"""The trust region: the problem, its certificate, its solution at every radius, the rival balls."""

from fractions import Fraction
from functools import cache
from math import factorial

import cvxpy as cp
import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize, minimize_scalar
from scipy.special import entr, log_softmax, softmax
from scipy.stats import binom, multinomial
from sympy import Rational, sympify

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_failure,
    condition_on_success,
    kl_divergence,
    relative_improvement,
    successful_visits,
)
from sc_utils.environments import bandit, from_gymnasium, positive_ending, random_mdp
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.symbolic import ExactMDP, exact_evaluate, trajectories
from sc_utils.trust_region import (
    certificate,
    chi_squared_reach,
    gap_closed,
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
from tests.strategies import acyclic_exact_mdps, mdps_with_policies, policies_of


@st.composite
def behaviours(draw):
    """A behaviour's evaluation with some success, and another policy of the same process."""
    mdp, policy = draw(mdps_with_policies())
    return evaluate(mdp, policy), draw(policies_of(mdp, full_support=False))


# The blind solver: it is given the problem and knows nothing of conditioning on success

LENGTHS = {  # a convex function of the ratio x = new / policy, for CVXPY and for NumPy
    "chi-squared": (lambda x: cp.square(x - 1), lambda x: (x - 1) ** 2),
    "forward KL": (lambda x: -cp.entr(x), lambda x: x * np.log(x)),
    "reverse KL": (lambda x: -cp.log(x), lambda x: -np.log(x)),
    "reversed chi-squared": (lambda x: cp.inv_pos(x) - 1, lambda x: 1 / x - 1),
}


@cache
def posed(n_states, n_actions, length):
    """One problem for all data of a shape, so that CVXPY compiles it once."""
    shape = (n_states, n_actions)
    ratio = cp.Variable(shape, nonneg=True)
    gain, played = cp.Parameter(shape), cp.Parameter(shape, nonneg=True)
    weight, radius = cp.Parameter(shape, nonneg=True), cp.Parameter(nonneg=True)
    rules = [
        cp.sum(cp.multiply(weight, LENGTHS[length][0](ratio))) <= radius,
        cp.sum(cp.multiply(played, ratio), axis=1) == 1,
    ]
    problem = cp.Problem(cp.Maximize(cp.sum(cp.multiply(gain, ratio))), rules)
    return problem, ratio, gain, played, weight, radius


def conic(policy, Q, visits, weight, radius, length="chi-squared", *, fine=3e-10):
    """Clarabel's policy, and its prices of the radius and of the rows' sums."""
    problem, ratio, gain, played, weights, size = posed(*policy.shape, length)
    V = (policy * Q).sum(axis=1, keepdims=True)
    slope, share = visits[:, np.newaxis] * policy * (Q - V), weight[:, np.newaxis] * policy / radius
    unit = np.sqrt((slope**2 / share).sum())  # tolerances mean something if numbers are near 1
    gain.value, played.value, weights.value, size.value = slope / unit, policy, share, 1.0
    fine = fine if length == "chi-squared" else 1e-8
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=fine, tol_gap_rel=fine, tol_feas=3 * fine)
    prices = (rule.dual_value for rule in problem.constraints)
    return policy * ratio.value, *(np.asarray(price) * unit for price in prices)


def blind(e, times=1.0, **options):
    """The solver's answer at a multiple of the data's radius."""
    d_plus = successful_visits(e)
    radius = times * d_plus @ action_influence(e.policy, e.Q)
    return conic(e.policy, e.Q, e.visits, d_plus, radius, **options)


@cache
def random_behaviours(count=200):
    """Evaluations of random policies in random processes, cyclic, with a good deal of influence."""
    rng = np.random.default_rng(10)
    drawn = []
    for i in range(count):
        S, A = [(2, 3), (4, 3), (3, 4), (5, 3)][i % 4]
        P = rng.dirichlet(np.full(S + 2, 0.7), size=(S, A))  # the last two are the exits
        mdp = SuccessMDP.from_dense(P[..., :S], P[..., S], rng.dirichlet(np.ones(S)))
        drawn.append(evaluate(mdp, rng.dirichlet(np.ones(A), size=S)))
    return drawn


def icy_walk():
    lake = from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)
    return evaluate(lake, np.full((11, 4), 0.25))


def tilted(e, new, times):
    """A policy on the way from the behaviour to `new`, within `times` the data's radius."""
    reach = policy_movement(e, new)
    share = 1.0 if reach == 0 else min(1, np.sqrt(times * trust_region_radius(e) / reach))
    return e.policy + share * (new - e.policy)


def test_a_blind_solver_finds_the_conditioned_policy():
    for e in [*random_behaviours(), icy_walk()]:
        solved, *_ = blind(e, fine=1e-9 if e.policy.size > 40 else 3e-10)
        pi_plus = condition_on_success(e.policy, e.Q)
        np.testing.assert_allclose(solved, pi_plus, rtol=0, atol=2e-4)
        gains = [e.visits @ (pi * e.Q).sum(axis=1) - e.visits @ e.V for pi in (solved, pi_plus)]
        assert gains[0] == pytest.approx(gains[1], rel=1e-8)


def test_movement_has_the_price_that_half_the_success_rate_is_and_being_a_policy_none():
    for e in random_behaviours()[:60]:
        _, price, of_sums = blind(e)
        radius = successful_visits(e) @ action_influence(e.policy, e.Q)
        scale = (e.visits * e.V).max()
        assert price / radius == pytest.approx(e.success_rate / 2, rel=1e-4)
        np.testing.assert_allclose(of_sums / scale, 0, atol=1e-4)


def test_a_blind_solver_without_a_radius_and_without_policies_finds_it_too():
    for e in random_behaviours()[:40]:
        table = cp.Variable(e.policy.shape)  # any numbers
        A_0 = e.Q - e.V[:, np.newaxis]
        gain = cp.sum(cp.multiply(e.visits[:, np.newaxis] * A_0, table)) / e.success_rate
        root = np.sqrt(successful_visits(e)[:, np.newaxis] / e.policy)
        movement = cp.sum_squares(cp.multiply(root, table - e.policy))
        problem = cp.Problem(cp.Maximize(gain - movement / 2))
        problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12)
        np.testing.assert_allclose(table.value, condition_on_success(e.policy, e.Q), atol=1e-5)
        assert problem.value == pytest.approx(trust_region_radius(e) / 2, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("times", [0.05, 0.5, 1.3, 3.0, 10.0, 60.0])
def test_a_blind_solver_at_another_radius_gains_no_more(times):
    for e in random_behaviours()[:24]:
        solved, *_ = blind(e, times)
        exact = trust_region_policy(e, times * trust_region_radius(e))
        best = surrogate_gain(e, exact)
        found = (e.visits[:, np.newaxis] * (solved - e.policy) * e.Q).sum()
        assert policy_movement(e, exact) <= times * trust_region_radius(e) * (1 + 1e-12)
        # The solver stops up to 5e-8 short of the optimum; how far depends on the processor.
        assert found == pytest.approx(best, rel=2e-7)
        np.testing.assert_allclose(solved, exact, atol=2e-3)


def test_a_blind_solver_where_several_actions_drop_out_at_once():
    """Ties in a state, and two states of the same ratios."""
    Q = np.array([[0.1, 0.1, 0.5, 0.9, 0.9], [0.05, 0.05, 0.25, 0.45, 0.45]])
    policy = np.array([[0.1, 0.3, 0.3, 0.1, 0.2]] * 2)
    halls = SuccessMDP.from_dense(np.zeros((2, 5, 2)), Q, [0.4, 0.6])
    e = evaluate(halls, policy)
    for times in (0.5, 1, 2, 4, 5):  # at 5, after the last drop, the radius does not bind
        solved, *_ = blind(e, times)
        exact = trust_region_policy(e, times * trust_region_radius(e))
        gains = [(e.visits[:, np.newaxis] * pi * e.Q).sum() for pi in (solved, exact)]
        assert gains[0] == pytest.approx(gains[1], rel=1e-8)
        if times < 5:
            np.testing.assert_allclose(solved, exact, atol=1e-3)
        assert ((exact[:, 0] > 0) == (exact[:, 1] > 0)).all()
    assert (exact[:, :3] == 0).all()
    assert policy_movement(e, exact) < 5 * trust_region_radius(e)


# Controls: the same solver, another problem


def misses(length="chi-squared", *, power=1.0, times=1.0):
    """How far the optimum of a changed problem is from pi_+, the radius being evaluated at it."""
    found = []
    for e in random_behaviours(60):
        pi_plus, weight = condition_on_success(e.policy, e.Q), e.visits * e.V**power
        ratio = pi_plus / e.policy
        radius = times * weight @ (e.policy * LENGTHS[length][1](ratio)).sum(axis=1)
        solved, *_ = conic(e.policy, e.Q, e.visits, weight, radius, length, fine=1e-8)
        found.append(np.abs(solved - pi_plus).max())
    return np.array(found)


def test_weights_of_successful_visits_up_to_scale_lead_to_it():
    assert misses(power=1).max() < 2e-4


@pytest.mark.parametrize(
    ("change", "typical"),
    [
        ({"power": 0}, 0.009),
        ({"power": 0.5}, 0.005),
        ({"power": 2}, 0.009),
        ({"length": "forward KL"}, 0.012),
        ({"length": "reverse KL"}, 0.022),
        ({"length": "reversed chi-squared"}, 0.037),
        ({"times": 0.5}, 0.046),
    ],
    ids=str,
)
def test_any_change_of_the_problem_leads_elsewhere(change, typical):
    found = misses(**change)
    assert typical / 2 < np.median(found) < 2 * typical
    assert (found > 2e-4).mean() > 0.9


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("power", [0, 1, 2])
def test_with_one_state_and_two_actions_all_problems_agree(length, power):
    for good, often in [(0.7, 0.4), (0.9, 0.1), (0.21, 0.5)]:
        e = evaluate(bandit([0.2, good]), [[1 - often, often]])
        pi_plus, weight = condition_on_success(e.policy, e.Q), e.V**power
        radius = weight @ (e.policy * LENGTHS[length][1](pi_plus / e.policy)).sum(axis=1)
        solved, *_ = conic(e.policy, e.Q, e.visits, weight, radius, length)
        np.testing.assert_allclose(solved, pi_plus, atol=1e-5)


def test_with_a_third_action_they_do_not():
    e = evaluate(bandit([0.2, 0.7, 0.9]), [[0.5, 0.4, 0.1]])
    pi_plus = condition_on_success(e.policy, e.Q)
    radius = (e.policy * LENGTHS["forward KL"][1](pi_plus / e.policy)).sum()
    solved, *_ = conic(e.policy, e.Q, e.visits, np.ones(1), radius, "forward KL")
    assert np.abs(solved - pi_plus).max() > 0.01


# Identities


@given(acyclic_exact_mdps(), st.data())
def test_certificate_by_listing_all_episodes_in_exact_rationals(case, data):
    """Gain, movement and radius as means over episodes; no value but V_0 and Q_0 enters."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    assume(all(v > 0 for v in exact.V))
    rows = []
    for row in policy:
        weights = [data.draw(st.integers(0, 3)) for _ in row]
        weights[data.draw(st.integers(0, len(row) - 1))] += 1
        rows.append([Rational(x, sum(weights)) for x in weights])
    x = [[n / p for n, p in zip(*pair, strict=True)] for pair in zip(rows, policy, strict=True)]
    w = [[q / v for q in qs] for qs, v in zip(exact.Q, exact.V, strict=True)]

    def apart(s, one, other):
        return sum(p * (a - b) ** 2 for p, a, b in zip(policy[s], one[s], other[s], strict=True))

    ones = [[1] * len(row) for row in policy]
    gain = gain_plus = moved = moved_plus = squared = rate = Rational(0)
    for path in trajectories(mdp, policy):
        if path.success:  # the slope of a success's probability is its own times sum (x - 1)
            rate += path.probability
            for s, a in path.decisions:
                gain += path.probability * (x[s][a] - 1)
                gain_plus += path.probability * (w[s][a] - 1)
                moved += path.probability * apart(s, x, ones)
                moved_plus += path.probability * apart(s, w, ones)
                squared += path.probability * apart(s, x, w)
    # the three sums are weighted with rho_0 d_+
    assert gain - gain_plus == -squared / 2 + (moved - moved_plus) / 2
    assert gain_plus == moved_plus

    arrays = (np.array(nested, dtype=float) for nested in (mdp.transition, mdp.success))
    floats = SuccessMDP.from_dense(*arrays, np.array(mdp.initial, dtype=float))
    e = evaluate(floats, np.array(policy, dtype=float))
    new = np.array(rows, dtype=float)
    parts = certificate(e, new)
    assert surrogate_gain(e, new) == pytest.approx(float(gain), rel=1e-12, abs=1e-15)
    assert policy_movement(e, new) == pytest.approx(float(moved / rate), rel=1e-12, abs=1e-15)
    assert trust_region_radius(e) == pytest.approx(float(moved_plus / rate), rel=1e-12, abs=1e-15)
    assert parts.distance == pytest.approx(float(squared / 2), rel=1e-12, abs=1e-15)
    assert parts.slack == pytest.approx(float((moved - moved_plus) / 2), rel=1e-12, abs=1e-15)


@given(behaviours(), st.floats(0, 1))
def test_gain_grows_in_proportion_to_the_way(case, share):
    e, new = case
    nearer = e.policy + share * (new - e.policy)
    assert surrogate_gain(e, nearer) == pytest.approx(share * surrogate_gain(e, new), abs=1e-14)
    assert surrogate_gain(e, e.policy) == 0


def test_gain_of_the_lake_is_the_slope_of_its_success_rate(rng):
    lake = from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)
    e = icy_walk()
    new = rng.dirichlet(np.ones(4), size=11)

    def rate(share):
        return evaluate(lake, e.policy + share * (new - e.policy)).success_rate

    slope = (rate(1e-4) - rate(-1e-4)) / 2e-4
    assert surrogate_gain(e, new) == pytest.approx(slope, rel=1e-6)


@given(behaviours())
def test_nearly_the_best_gain_within_the_radius_is_nearly_the_conditioned_policy(case):
    """The quantitative form of uniqueness, where successful episodes go."""
    e, other = case
    radius = trust_region_radius(e)
    assume(radius > 1e-6)
    pi_plus, d_plus = condition_on_success(e.policy, e.Q), successful_visits(e)
    for share in (1.0, 0.1, 1e-3):
        new = tilted(e, pi_plus + share * (other - pi_plus), 1.0)
        short = e.success_rate * radius - surrogate_gain(e, new)
        squares = d_plus @ ((new - pi_plus) ** 2 / e.policy).sum(axis=1)
        assert e.success_rate / 2 * squares <= short + 1e-13
        if d_plus @ np.abs(new - pi_plus).max(axis=1) > 1e-5:
            assert short > 0


@given(behaviours())
def test_with_a_price_instead_of_a_radius_the_conditioned_policy_is_best(case):
    e, new = case
    pi_plus, radius = condition_on_success(e.policy, e.Q), trust_region_radius(e)

    def profit(pi):
        return surrogate_gain(e, pi) / e.success_rate - policy_movement(e, pi) / 2

    assert profit(pi_plus) == pytest.approx(radius / 2, rel=1e-10, abs=1e-14)
    lost = certificate(e, new).distance / e.success_rate
    assert profit(pi_plus) - profit(new) == pytest.approx(lost, rel=1e-9, abs=1e-12)


@given(behaviours(), st.floats(0.01, 40))
def test_the_largest_gain_is_a_root_up_to_the_radius_and_below_the_line_of_the_price(case, times):
    e, _ = case
    radius = trust_region_radius(e)
    assume(radius > 1e-6)
    best = e.success_rate * radius
    gain = surrogate_gain(e, trust_region_policy(e, times * radius)) / best
    assert gain <= (1 + times) / 2 + 1e-12
    assert gain <= np.sqrt(times) * (1 + 1e-12)
    if times <= 1:
        assert gain == pytest.approx(np.sqrt(times), rel=1e-12)


@given(behaviours())
def test_the_price_at_the_radius_from_both_sides(case):
    e, _ = case
    radius = trust_region_radius(e)
    assume(radius > 1e-3)
    h, best = 1e-7, e.success_rate * radius

    def rise(h):
        return (surrogate_gain(e, trust_region_policy(e, (1 + h) * radius)) / best - 1) / h

    differing = any(
        d > 0 and len(set(np.round(q[(p > 0) & (q > 0)], 9))) > 1
        for d, p, q in zip(successful_visits(e), e.policy, e.Q, strict=True)
    )
    assert rise(-h) == pytest.approx(1 / 2, abs=1e-5)
    if not differing:
        assert rise(h) == pytest.approx(0, abs=1e-5)


def test_the_price_to_the_right_where_promising_actions_differ_and_where_they_do_not():
    def rise(e, h=1e-6):
        radius = trust_region_radius(e)
        gain = surrogate_gain(e, trust_region_policy(e, (1 + h) * radius))
        return (gain / (e.success_rate * radius) - 1) / h

    differ = evaluate(bandit([0, 0.5, 1]), np.full((1, 3), 1 / 3))
    alike = evaluate(bandit([0, 0, 1, 1]), np.full((1, 4), 1 / 4))
    noisy = evaluate(bandit([0, 0, 0.3]), np.full((1, 3), 1 / 3))
    assert rise(differ) == pytest.approx(1 / 2, abs=1e-5)
    assert rise(alike) == rise(noisy) == pytest.approx(0, abs=1e-9)
    assert rise(icy_walk()) == pytest.approx(1 / 2, abs=1e-5)


@given(behaviours(), st.floats(0, 5))
def test_a_penalty_towards_the_behaviour_is_a_shorter_radius(case, beta):
    e, _ = case
    radius = trust_region_radius(e)
    mixture = (condition_on_success(e.policy, e.Q) + beta * e.policy) / (1 + beta)
    shorter = radius / (1 + beta) ** 2
    assert policy_movement(e, mixture) == pytest.approx(shorter, rel=1e-9, abs=1e-15)
    best = surrogate_gain(e, trust_region_policy(e, shorter))
    assert surrogate_gain(e, mixture) == pytest.approx(best, rel=1e-9, abs=1e-14)


def test_log_loss_with_a_penalty_is_minimised_by_the_mixture():
    policy, Q, beta = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.6]), 0.5
    pi_plus = condition_on_success(policy, Q)

    def loss(z):
        log_pi = z - np.logaddexp.reduce(z)
        return -pi_plus @ log_pi - beta * policy @ log_pi

    z = minimize(loss, np.zeros(3), tol=1e-10).x
    fitted = np.exp(z - np.logaddexp.reduce(z))
    np.testing.assert_allclose(fitted, (pi_plus + beta * policy) / (1 + beta), atol=1e-5)


def penalised(policy, Q, beta):
    """The minimiser of KL(pi_+||pi) + beta KL(pi||pi_0), by the solver that knows no derivation."""
    pi = cp.Variable(policy.size, nonneg=True)
    kept = condition_on_success(policy, Q)
    loss = -cp.sum(cp.multiply(kept, cp.log(pi))) + beta * cp.sum(cp.rel_entr(pi, policy))
    problem = cp.Problem(cp.Minimize(loss), [cp.sum(pi) == 1])
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9)
    return pi.value


@pytest.mark.parametrize("beta", [0.05, 0.5, 3.0])
def test_the_other_penalty_shortens_the_step_too_but_bends_the_path(beta):
    for e in random_behaviours()[:12]:
        policy, Q = e.policy[0], e.Q[0]
        pi, pi_plus = penalised(policy, Q, beta), condition_on_success(policy, Q)
        slopes = (pi_plus / pi) - beta * np.log(pi / policy)
        assert np.ptp(slopes) < 1e-3 * abs(slopes).max()
        influence = float(action_influence(policy, Q))
        moved, gained = chi_squared(pi, policy), (pi @ Q) / (policy @ Q) - 1
        assert moved < influence
        assert gained**2 < moved * influence < influence**2  # below the path, which is the root


def test_the_other_penalty_bends_no_path_of_two_values():
    """Three actions, two of which succeed equally often."""
    policy, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    pi = penalised(policy, Q, 0.5)
    shares = (pi - policy) / (condition_on_success(policy, Q) - policy)
    np.testing.assert_allclose(shares, shares[0], rtol=1e-4)
    assert 0 < shares[0] < 1


def test_the_other_penalty_can_bend_the_path_a_good_deal():
    policy, Q = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.2, 0.6])
    shares = (penalised(policy, Q, 0.5) - policy) / (condition_on_success(policy, Q) - policy)
    assert 0 < shares.min() < shares.max() - 0.1
    assert shares.max() < 1


def test_failure_has_a_trust_region_of_its_own():
    policy, Q = np.array([[0.5, 0.3, 0.2]]), np.array([[0.1, 0.2, 0.6]])
    one, influence = np.ones(1), action_influence(policy, 1 - Q)
    worst, *_ = conic(policy, 1 - Q, one, one, influence[0])
    np.testing.assert_allclose(worst, condition_on_failure(policy, Q), atol=1e-5)


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


def test_certificate_of_three_arms_by_hand():
    """Q = (0, 1/2, 1), uniform; the greedy policy gains 1/2 with movement 2 instead of 2/3."""
    e = evaluate(bandit([0, 0.5, 1]), np.full((1, 3), 1 / 3))
    greedy = [[0.0, 0.0, 1.0]]
    parts = certificate(e, greedy)
    assert (parts.distance, parts.slack) == pytest.approx((1 / 6, 1 / 3))
    assert (surrogate_gain(e, greedy), policy_movement(e, greedy)) == pytest.approx((1 / 2, 2))


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


# Counterexamples


def test_outside_the_support_more_is_gained_and_the_data_cannot_see_the_movement():
    e = evaluate(bandit([0.2, 0.6, 0.9]), [[0.5, 0.5, 0.0]])
    explorer = np.array([[0.2, 0.5, 0.3]])
    measured = ((explorer - e.policy)[:, :2] ** 2 / 0.5).sum()
    assert measured < trust_region_radius(e)
    best = surrogate_gain(e, condition_on_success(e.policy, e.Q))
    assert surrogate_gain(e, explorer) > 2 * best
    assert policy_movement(e, explorer) == np.inf


def test_in_a_dead_end_every_choice_solves_the_problem():
    transition = np.zeros((2, 2, 2))
    transition[0, 1, 1] = 1
    mdp = SuccessMDP.from_dense(transition, [[0.8, 0], [0, 0]], [1, 0])
    e = evaluate(mdp, np.full((2, 2), 0.5))
    assert e.visits[1] > 0 == e.V[1]
    best = surrogate_gain(e, condition_on_success(e.policy, e.Q))
    for share in (0, 0.3, 1):
        new = [[1, 0], [share, 1 - share]]
        assert surrogate_gain(e, new) == pytest.approx(best, rel=1e-12)
        assert policy_movement(e, new) == pytest.approx(trust_region_radius(e), rel=1e-12)


def test_a_dead_end_with_a_way_out_that_the_behaviour_never_takes():
    """V_0 = 0 in state 1; its third action would succeed, and its use moves nothing."""
    transition = np.zeros((2, 3, 2))
    transition[0, 1, 1] = 1
    mdp = SuccessMDP.from_dense(transition, [[0.8, 0, 0], [0, 0, 1]], [1, 0])
    e = evaluate(mdp, [[0.5, 0.5, 0], [0.5, 0.5, 0]])
    new = [[1, 0, 0], [0, 0, 1]]
    assert policy_movement(e, new) == pytest.approx(trust_region_radius(e), rel=1e-12)
    assert surrogate_gain(e, new) > 2 * e.success_rate * trust_region_radius(e)
    with pytest.raises(ValueError, match=r"new\[1, 2\] is 1, but the behaviour never plays"):
        certificate(e, new)


def test_chi_squared_is_what_the_movement_weighs():
    e = random_behaviours()[1]
    new = np.full(e.policy.shape, 1 / 3)
    squares = ((new - e.policy) ** 2 / e.policy).sum(axis=1)
    by_hand = (e.visits * e.V / e.success_rate) @ squares
    assert policy_movement(e, new) == pytest.approx(by_hand, rel=1e-13)


# Geometry: what each ball allows, and why imitation needs this one


def convex(kind, p, pi_0):
    """The divergence of `kind` as a convex expression."""
    forms = {
        "chi2": lambda: cp.sum(cp.multiply(1 / pi_0, cp.square(p - pi_0))),
        "kl": lambda: cp.sum(cp.rel_entr(p, pi_0)),
        "reverse": lambda: cp.sum(cp.rel_entr(pi_0, p)),
        "tv": lambda: cp.norm1(p - pi_0) / 2,
    }
    return forms[kind]()


REACH = {
    "chi2": chi_squared_reach,
    "kl": kl_reach,
    "reverse": reverse_kl_reach,
    "tv": total_variation_reach,
}


@pytest.mark.parametrize("kind", REACH)
@pytest.mark.parametrize("delta", [0.3, 0.02, 1e-3])
@pytest.mark.parametrize("radius", [0.02, 0.3, 0.9])
def test_a_conic_solver_raises_a_rare_action_just_as_far(kind, delta, radius):
    pi_0 = np.r_[delta, (1 - delta) * np.array([0.4, 0.3, 0.2, 0.1])]
    p = cp.Variable(5, nonneg=True)
    rules = [cp.sum(p) == 1, convex(kind, p, pi_0) <= radius]
    best = cp.Problem(cp.Maximize(p[0]), rules).solve(solver=cp.CLARABEL)
    assert best == pytest.approx(float(REACH[kind](delta, radius)), rel=1e-5)


@pytest.mark.parametrize("delta", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize(
    ("reach", "divergence"),
    [
        (chi_squared_reach, chi_squared),
        (kl_reach, kl_divergence),
        (reverse_kl_reach, lambda new, old: kl_divergence(old, new)),
    ],
)
def test_a_general_solver_raises_a_very_rare_action_just_as_far(reach, divergence, delta):
    pi_0 = np.r_[delta, (1 - delta) * np.array([0.5, 0.3, 0.2])]
    ball = {"type": "ineq", "fun": lambda u: 10 * (0.3 - divergence(softmax(u), pi_0))}
    solved = minimize(lambda u: -np.log(softmax(u)[0]), np.log(pi_0), constraints=ball)
    assert softmax(solved.x)[0] == pytest.approx(float(reach(delta, 0.3)), rel=1e-4)


@pytest.mark.parametrize("delta", [1e-1, 1e-3, 1e-6, 1e-12])
def test_the_reach_of_kl_by_its_dual(delta):
    """Donsker and Varadhan: p <= (radius + log E exp(t 1_a)) / t for all t > 0, and the best."""
    radius = 0.3

    def bound(log_t):
        t = np.exp(log_t)
        return (radius + np.log1p(delta * np.expm1(t))) / t

    best = minimize_scalar(bound, bounds=(-5, 6), method="bounded", options={"xatol": 1e-10})
    assert best.fun == pytest.approx(float(kl_reach(delta, radius)), rel=1e-8)


def test_the_exponents_of_rare_actions():
    deltas = np.array([1e-10, 1e-12])
    slopes = {kind: -np.diff(np.log10(reach(deltas, 0.3)))[0] / 2 for kind, reach in REACH.items()}
    assert slopes["chi2"] == pytest.approx(0.5, abs=1e-4)
    assert slopes["reverse"] == pytest.approx(0, abs=1e-4)
    assert slopes["tv"] == pytest.approx(0, abs=1e-4)
    assert 0 < slopes["kl"] < 0.05  # slower than any power
    assert reverse_kl_reach(1e-12, 0.3) == pytest.approx(1 - np.exp(-0.3), rel=1e-9)


@pytest.mark.parametrize("radius", [0.01, 0.1, 0.3, 1.0])
def test_the_repaired_bound_holds_on_a_grid_and_gives_the_limit(radius):
    delta = np.geomspace(1e-300, 0.3, 500)
    p = kl_reach(delta, radius)
    h = entr(p) + entr(1 - p)
    left = p * np.log(1 / delta)
    assert (left <= (radius + h) * (1 + 1e-12)).all()
    assert (radius + h <= radius + 1 / np.e + p).all()
    np.testing.assert_allclose(left, radius + h + (1 - p) * np.log1p(-delta), rtol=1e-9)
    assert (np.diff((left / radius)[delta < 1e-3]) > 0).all()  # falls towards 1 as delta does
    assert left[0] / radius == pytest.approx(1 + h[0] / radius, rel=1e-9)


def test_a_vanishing_probability_alone_does_not_make_p_log_p_negligible():
    delta = np.geomspace(1e-300, 1e-2, 50)
    p = np.sqrt(delta)
    np.testing.assert_allclose(p * np.log(p) / (p * np.log(delta)), 0.5, rtol=1e-12)
    p = kl_reach(delta, 0.3)  # at the reach itself it is, but slowly
    assert (np.diff(np.log(p) / np.log(delta)) > 0).all()
    assert np.log(p[0]) / np.log(delta[0]) < 0.02


SMALL = SuccessMDP.from_dense(
    np.array([[[0, 0.6], [0, 0.3], [0, 0]], np.zeros((3, 2))]),
    [[0.1, 0.1, 0.6], [0.1, 0.4, 0.9]],
    [0.75, 0.25],
)
SMALL_POLICY = np.array([[0.5, 0.3, 0.2], [0.25, 0.5, 0.25]])
DIVERGENCES = {
    "chi2": lambda x: (x - 1) ** 2,
    "kl": lambda x: x * np.log(x),
    "reverse kl": lambda x: -np.log(x),
    "reverse chi2": lambda x: (1 - x) ** 2 / x,
    "hellinger": lambda x: 2 - 2 * np.sqrt(x),
    "cube": lambda x: x**3 - 1,
}


def movement_by(name, weights, e, new):
    """Sum of w(s) D_f(new || pi_0)(s)."""
    return weights @ (e.policy * DIVERGENCES[name](new / e.policy)).sum(axis=1)


def slopes_at(function, pi):
    """Derivatives along every exchange of two actions of a state, by central differences."""
    slopes, h = [], 1e-5
    for s, a in np.ndindex(pi.shape[0], pi.shape[1] - 1):
        exchange = np.zeros_like(pi)
        exchange[s, a], exchange[s, a + 1] = h, -h
        slopes.append((function(pi + exchange) - function(pi - exchange)) / (2 * h))
    return np.array(slopes)


@given(behaviours())
def test_equal_gain_is_tangent_to_the_chi_squared_ball(case):
    e, _ = case
    pi_plus = condition_on_success(e.policy, e.Q)
    assume(pi_plus.min() > 1e-4)
    gain = slopes_at(lambda pi: surrogate_gain(e, pi), pi_plus)
    ball = slopes_at(lambda pi: policy_movement(e, pi), pi_plus)
    np.testing.assert_allclose(gain, e.success_rate / 2 * ball, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "weighting"),
    [
        ("kl", "d_plus"),
        ("reverse kl", "d_plus"),
        ("reverse chi2", "d_plus"),
        ("hellinger", "d_plus"),
        ("cube", "d_plus"),
        ("chi2", "d_0"),
        ("chi2", "even"),
        ("chi2", "d_plus"),
    ],
)
def test_every_other_ball_meets_the_line_of_equal_gain_at_an_angle(name, weighting):
    """Off the tangent, there is a step from pi_+ that gains more and moves less far."""
    e = evaluate(SMALL, SMALL_POLICY)
    choices = {"d_plus": successful_visits(e), "d_0": e.visits, "even": np.ones(2)}
    weights = choices[weighting]
    pi_plus = condition_on_success(e.policy, e.Q)
    ratio = pi_plus / e.policy
    slope = (DIVERGENCES[name](ratio + 1e-6) - DIVERGENCES[name](ratio - 1e-6)) / 2e-6
    normals = np.stack([e.visits[:, np.newaxis] * e.Q, weights[:, np.newaxis] * slope])
    normals -= normals.mean(axis=2, keepdims=True)
    gain, ball = (n / np.linalg.norm(n) for n in normals)
    away = gain - ball
    if (name, weighting) == ("chi2", "d_plus"):
        assert np.linalg.norm(away) < 1e-8
        return
    assert np.linalg.norm(away) > np.radians(2)
    better = pi_plus + 1e-3 * away / np.linalg.norm(away)
    assert surrogate_gain(e, better) > surrogate_gain(e, pi_plus) * (1 + 1e-6)
    assert movement_by(name, weights, e, better) < movement_by(name, weights, e, pi_plus)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_with_two_actions_in_one_state_every_ball_is_tangent(name):
    e = evaluate(bandit([0.2, 0.7]), [[0.6, 0.4]])
    pi_plus = condition_on_success(e.policy, e.Q)
    limit = movement_by(name, np.ones(1), e, pi_plus)
    share = np.linspace(0.001, 0.999, 1997)
    rivals = np.stack([1 - share, share], axis=1)
    inside = [movement_by(name, np.ones(1), e, pi[np.newaxis]) <= limit for pi in rivals]
    gains = [surrogate_gain(e, pi[np.newaxis]) for pi in rivals[inside]]
    best = surrogate_gain(e, pi_plus)
    assert best - 0.001 < max(gains) <= best + 1e-12


def test_an_unvisited_state_with_a_weight_of_its_own_spoils_it():
    """To stand still there costs no gain and frees a budget: the theorem leaves such states out."""
    aside = SuccessMDP.from_dense(np.zeros((2, 3, 2)), [[0.2, 0.5, 0.9], [0.1, 0.5, 0.9]], [1, 0])
    e = evaluate(aside, SMALL_POLICY)
    pi_plus = condition_on_success(e.policy, e.Q)
    weights = np.array([1.0, 0.5])
    rival = np.stack([success_step(e.policy[0], e.Q[0], 1.05), e.policy[1]])
    assert movement_by("chi2", weights, e, rival) < movement_by("chi2", weights, e, pi_plus)
    assert surrogate_gain(e, rival) == pytest.approx(1.05 * surrogate_gain(e, pi_plus), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("times", [0.2, 1.0, 3.0, 7.0])
def test_a_general_solver_finds_the_path_at_every_radius(seed, times):
    rng = np.random.default_rng(seed)
    e = evaluate(SMALL, rng.dirichlet(4 * np.ones(3), size=2))
    radius, d_plus = times * trust_region_radius(e), successful_visits(e)
    scale = np.sqrt(d_plus[:, np.newaxis] / e.policy)
    pi = cp.Variable((2, 3), nonneg=True)
    gain = cp.sum(cp.multiply(e.visits[:, np.newaxis] * (e.Q - e.V[:, np.newaxis]), pi))
    moved = cp.sum_squares(cp.multiply(scale, pi - e.policy)) / radius
    rules = [cp.sum(pi, axis=1) == 1, moved <= 1]
    best = cp.Problem(cp.Maximize(100 * gain), rules).solve(solver=cp.CLARABEL) / 100
    ours = trust_region_policy(e, radius)
    assert surrogate_gain(e, ours) == pytest.approx(best, rel=1e-6)
    np.testing.assert_allclose(ours, pi.value, atol=1e-3)
    furthest = policy_movement(e, trust_region_policy(e, np.inf))
    assert policy_movement(e, ours) == pytest.approx(min(radius, furthest), rel=1e-9)
    assert (ours == 0).any() == (times > 2)  # by then actions have dropped out


@given(behaviours(), st.floats(0.01, 1))
def test_the_gain_is_the_root_of_the_radius_until_an_action_drops_out(case, share):
    e, _ = case
    seen = successful_visits(e) > 0
    Gamma = trust_region_radius(e)
    assume(Gamma > 1e-6)
    radius = (share * longest_step(e.policy, e.Q)[seen].min()) ** 2 * Gamma
    gain = surrogate_gain(e, trust_region_policy(e, radius))
    assert gain == pytest.approx(e.success_rate * np.sqrt(radius * Gamma), rel=1e-7, abs=1e-12)


def test_past_the_longest_step_the_gain_falls_behind_the_root_of_the_radius():
    e = evaluate(SMALL, SMALL_POLICY)
    Gamma, longest = trust_region_radius(e), longest_step(e.policy, e.Q).min()
    for times in (1.2, 2, 5):
        radius = (times * longest) ** 2 * Gamma
        gain = surrogate_gain(e, trust_region_policy(e, radius))
        assert gain < 0.995 * e.success_rate * np.sqrt(radius * Gamma)


@given(behaviours(), st.floats(0.01, 3))
def test_a_step_of_one_never_clips_and_a_longer_one_does_for_some_table(case, longer):
    e, _ = case
    pi_plus = condition_on_success(e.policy, e.Q)
    np.testing.assert_allclose(success_step(e.policy, e.Q, 1), pi_plus, atol=1e-12)
    Q = e.Q.copy()
    Q[:, 0], Q[:, 1] = 0, 1  # one action never succeeds
    straight = e.policy + (1 + longer) * (condition_on_success(e.policy, Q) - e.policy)
    assert (straight[:, 0] < 0).all()
    assert (success_step(e.policy, Q, 1 + longer)[:, 0] == 0).all()
    np.testing.assert_allclose(longest_step(e.policy, Q), 1, rtol=1e-12)


# Geometry: three faces of one step


def success_counts(policy):
    """Expected actions of successful episodes of `SMALL`, from a list of all episodes."""
    P = SMALL.transition.toarray().reshape(2, 3, 2)
    counts = np.zeros((2, 3))
    for path in trajectories(ExactMDP.of(P, SMALL.success, SMALL.initial), policy):
        for s, a in path.decisions:
            counts[s, a] += path.success * float(path.probability)
    return counts


def logit_gradient(mdp, policy):
    """Gradient of log rho in the logits, by central differences of exact success rates."""
    theta, h = np.log(policy), 1e-5
    gradient = np.zeros_like(theta)
    for place in np.ndindex(theta.shape):
        rates = []
        for sign in (1, -1):
            moved = theta.copy()
            moved[place] += sign * h
            rates.append(evaluate(mdp, softmax(moved, axis=1)).success_rate)
        gradient[place] = np.log(rates[0] / rates[1]) / (2 * h)
    return gradient


@pytest.mark.parametrize("weights", [[[5, 3, 2], [1, 2, 1]], [[1, 1, 2], [7, 1, 2]]])
def test_three_faces_have_one_summit_that_a_solver_finds(weights):
    policy = np.array(weights) / np.sum(weights, axis=1, keepdims=True)
    e = evaluate(SMALL, policy)
    d_plus, theta = successful_visits(e), np.log(policy).ravel()
    counts, gradient = success_counts(policy), logit_gradient(SMALL, policy).ravel()

    def law(t):
        return softmax(t.reshape(2, 3), axis=1)

    def probabilities(t):
        return policy_movement(e, law(t)) / 2 - surrogate_gain(e, law(t)) / e.success_rate

    def logits(t):
        return d_plus @ kl_divergence(policy, law(t)) - gradient @ (t - theta)

    def imitation(t):
        return -(counts * np.log(law(t))).sum()

    for face in (probabilities, logits, imitation):
        summit = law(minimize(face, theta, tol=1e-9).x)
        np.testing.assert_allclose(summit, condition_on_success(policy, e.Q), atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_policy_gradient_in_logits_is_the_natural_step(seed):
    rng = np.random.default_rng(seed)
    mdp, policy = random_mdp(4, 3, rng=rng), rng.dirichlet(np.ones(3), size=4)
    e = evaluate(mdp, policy)
    step = logit_gradient(mdp, policy) / successful_visits(e)[:, np.newaxis]
    np.testing.assert_allclose(policy + step, condition_on_success(policy, e.Q), atol=1e-7)


def test_where_an_action_never_succeeds_two_faces_have_a_supremum_and_no_summit():
    policy, Q = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.4, 0.9])
    pi_plus = condition_on_success(policy, Q)
    supremum = (pi_plus[1:] * np.log(pi_plus[1:])).sum()
    gaps = []
    for logit in (-5, -10, -20):
        law = softmax(np.r_[logit, np.log(pi_plus[1:])])
        face = (pi_plus - policy) @ np.log(law / policy) - kl_divergence(policy, law)
        gaps.append(supremum - (face + pi_plus @ np.log(policy)))
    np.testing.assert_allclose(gaps, np.log1p(np.exp([-5, -10, -20])), rtol=1e-6)


@given(behaviours())
def test_two_faces_are_one_function(case):
    e, new = case
    d_plus, pi_0 = successful_visits(e), e.policy
    pi_plus = condition_on_success(pi_0, e.Q)
    target = (new + 0.1) / (new + 0.1).sum(axis=1, keepdims=True)
    theta = np.log(target) + np.arange(len(target))[:, np.newaxis]  # logits are free up to that
    gradient = d_plus[:, np.newaxis] * (pi_plus - pi_0)
    linear = (gradient * (theta - np.log(pi_0))).sum()
    logits = linear - d_plus @ kl_divergence(pi_0, target)
    imitation = (d_plus[:, np.newaxis] * pi_plus * np.log(target / pi_0)).sum()
    assert logits == pytest.approx(imitation, abs=1e-10 * (1 + d_plus.sum()))


def test_a_natural_step_in_the_logits_is_another_policy():
    """It tilts by exp(A/V), the same to first order only: halving the spread quarters the gap."""
    policy, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 0.9])
    gaps = []
    for spread in (1, 0.5, 0.25, 0.125):
        q = policy @ Q + spread * (Q - policy @ Q)
        tilted = policy * np.exp(q / (policy @ q) - 1)
        gaps.append(np.abs(tilted / tilted.sum() - condition_on_success(policy, q)).max())
    assert gaps[0] > 0.05
    assert gaps[2] / gaps[3] == pytest.approx(4, rel=0.2)


# Geometry: ratios of decisions and of episodes


@given(behaviours())
def test_no_decision_becomes_likelier_than_one_over_the_value_allows(case):
    e, _ = case
    Q = e.Q.copy()
    Q[:, 0] = 1
    for table in (e.Q, Q):
        V = (e.policy * table).sum(axis=1)
        ratio = condition_on_success(e.policy, table) / e.policy
        assert (ratio.max(axis=1) <= 1 / V * (1 + 1e-12)).all()
    np.testing.assert_allclose(ratio[:, 0], 1 / V, rtol=1e-12)


def episode_ratios(mdp, policy):
    """How much likelier each successful episode becomes under pi_+, and the success rate."""
    e = exact_evaluate(mdp, policy)
    imitator = [
        [sympify(p) * q / v for p, q in zip(row, qs, strict=True)]
        for row, qs, v in zip(policy, e.Q, e.V, strict=True)
    ]
    old = {w.decisions: w.probability for w in trajectories(mdp, policy) if w.success}
    new = {w.decisions: w.probability for w in trajectories(mdp, imitator) if w.success}
    return {path: new[path] / old[path] for path in old}, e.success_rate


def test_an_episode_can_become_likelier_than_one_over_the_rate():
    half, fifth = Rational(1, 2), Rational(1, 5)
    for k in (2, 3, 4):  # k places, from each of which the better move may slip to the next
        nothing = [0] * k
        slips = [
            [[fifth if t == s + 1 else 0 for t in range(k)], nothing] for s in range(k - 1)
        ] + [[nothing, nothing]]
        wins = [[1 - fifth, 0]] * (k - 1) + [[1, 0]]
        mdp = ExactMDP.of(slips, wins, [1] + [0] * (k - 1))
        ratios, rate = episode_ratios(mdp, [[half, half]] * k)
        assert max(ratios.values()) == 2**k
        assert 1 / rate < Rational(9, 4)
        if k == 2:
            assert sorted(ratios.values()) == [2, 4]
            assert 1 / rate == Rational(20, 9)


@settings(max_examples=25)
@given(acyclic_exact_mdps(deterministic=True, fixed_start=True))
def test_without_luck_every_success_becomes_likelier_by_one_over_the_rate(case):
    ratios, rate = episode_ratios(*case)
    assert set(ratios.values()) == {1 / rate}


@given(
    st.integers(1, 9),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.integers(1, 10),
    st.integers(0, 9),
)
def test_the_radius_of_the_data_reaches_as_far_as_imitation_in_rationals(mine, rest, high, low):
    assume(high > low)
    total = mine + sum(rest)
    delta, Q, q = Fraction(mine, total), Fraction(high, 10), Fraction(low, 10)
    V = delta * Q + (1 - delta) * q
    I = (delta * (Q - V) ** 2 + (1 - delta) * (q - V) ** 2) / V**2
    assert (delta * Q / V - delta) ** 2 == I * delta * (1 - delta)
    policy, table = np.array([mine, *rest]) / total, np.array([high, *[low] * len(rest)]) / 10
    radius = float(action_influence(policy, table))
    assert radius == pytest.approx(float(I), rel=1e-9)
    reach = float(chi_squared_reach(policy[0], radius))
    assert reach == pytest.approx(condition_on_success(policy, table)[0], rel=1e-9)


def test_where_the_others_differ_imitation_stays_inside_the_reach():
    policy, Q = np.array([0.02, 0.49, 0.49]), np.array([1.0, 0.4, 0.2])
    reach = chi_squared_reach(0.02, float(action_influence(policy, Q)))
    assert condition_on_success(policy, Q)[0] < 0.9 * reach


# Over-conservatism: which share of the gap a step closes, and how to go further

one_decision = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 12)), min_size=2, max_size=5
).map(
    lambda pairs: (
        [Fraction(p, sum(w for w, _ in pairs)) for p, _ in pairs],
        [Fraction(q, 12) for _, q in pairs],
    )
)


def mean_of(law, values):
    return sum(p * x for p, x in zip(law, values, strict=True))


@given(one_decision)
def test_the_gap_closed_factors_in_rationals(case):
    pi, q = case
    V = mean_of(pi, q)
    assume(min(q) < max(q))
    new = mean_of([p * x / V for p, x in zip(pi, q, strict=True)], q)
    eta = 1 / (1 - min(q) / V)
    far = mean_of([p * (1 + eta * (x / V - 1)) for p, x in zip(pi, q, strict=True)], q)
    closed, straight = (new - V) / (max(q) - V), (far - V) / (max(q) - V)
    spread = mean_of(pi, [(x - V) ** 2 for x in q])
    assert straight == spread / ((max(q) - V) * (V - min(q)))
    assert closed == (1 - min(q) / V) * straight
    assert straight <= 1
    assert (straight == 1) == (set(q) == {min(q), max(q)})
    ours = gap_closed(np.array(pi, float), np.array(q, float))
    assert ours.by_imitation == pytest.approx(float(closed), rel=1e-9)
    assert ours.by_longest_step == pytest.approx(float(straight), rel=1e-9)
    assert ours.contrast == pytest.approx(float(1 / eta), rel=1e-9)


@given(behaviours())
def test_the_gap_closed_by_playing_the_two_steps(case):
    e, _ = case
    eta = longest_step(e.policy, e.Q)
    some = np.isfinite(eta)
    best = np.where(e.policy > 0, e.Q, 0).max(axis=1)
    ours = gap_closed(e.policy, e.Q)
    steps = (1.0, ours.by_imitation), (np.where(some, eta, 1), ours.by_longest_step)
    for step, share in steps:
        pi = success_step(e.policy, e.Q, step)
        gain = (pi * e.Q).sum(axis=1) - e.V
        np.testing.assert_allclose(gain[some], (share * (best - e.V))[some], atol=1e-12)
    assert np.isnan(ours.by_imitation[~some]).all()
    assert (ours.contrast[~some] == 0).all()


def test_gap_closed_by_hand():
    four = gap_closed([0.25] * 4, [0.02, 0.03, 0.05, 0.10])
    assert four.by_imitation == pytest.approx(0.38, rel=1e-12)
    assert four.by_longest_step == pytest.approx(19 / 30, rel=1e-12)
    assert four.contrast == pytest.approx(0.6, rel=1e-12)
    close = gap_closed([0.5, 0.5], [0.495, 0.505])  # Example 3.1
    assert close.by_imitation == pytest.approx(0.01, rel=1e-9)
    assert close.by_longest_step == pytest.approx(1, rel=1e-9)
    unplayed = gap_closed([0.5, 0.5, 0], [0.495, 0.505, 1])
    assert unplayed.by_imitation == pytest.approx(0.01, rel=1e-9)


def test_rounding_does_not_lift_a_share_above_one():
    rng = np.random.default_rng(5)
    pi, q = rng.random(10_000), rng.random((10_000, 2))
    shares = gap_closed(np.stack([pi, 1 - pi], axis=1), q).by_longest_step
    np.testing.assert_allclose(shares, 1, rtol=1e-9)
    assert shares.max() <= 1


def test_where_there_is_no_gap_there_is_no_share_of_it():
    flat = gap_closed([[0.5, 0.5], [0.3, 0.7], [1, 0]], [[0.3, 0.3], [0, 0], [0.2, 1]])
    assert np.isnan(flat.by_imitation).all()
    assert np.isnan(flat.by_longest_step).all()
    assert (flat.contrast == 0).all()


def test_gap_closed_refuses_what_is_no_policy_and_what_are_no_values():
    with pytest.raises(ValueError, match=r"policy\[1\] must sum to 1"):
        gap_closed([[0.5, 0.5], [0.5, 0.4]], np.full((2, 2), 0.5))
    with pytest.raises(ValueError, match=r"Q"):
        gap_closed([0.5, 0.5], [0.5, 1.5])


@given(one_decision, st.integers(-24, 11))
def test_a_baseline_is_a_step_in_rationals(case, twelfths):
    pi, q = case
    V, b = mean_of(pi, q), Fraction(twelfths, 12)
    assume(0 < V < 1 and b < V)
    eta = V / (V - b)
    plus = [p * x / V for p, x in zip(pi, q, strict=True)]
    minus = [p * (1 - x) / (1 - V) for p, x in zip(pi, q, strict=True)]
    shifted = [p * (x - b) / (V - b) for p, x in zip(pi, q, strict=True)]
    assert shifted == [p + eta * (x - p) for p, x in zip(pi, plus, strict=True)]
    assert shifted == [p + eta * (1 - V) * (x - y) for p, x, y in zip(pi, plus, minus, strict=True)]
    assert (min(shifted) >= 0) == (b <= min(q))
    if min(shifted) >= 0:
        ours = success_step(np.array(pi, float), np.array(q, float), float(eta))
        np.testing.assert_allclose(ours, np.array(shifted, float), atol=1e-12)


def test_a_bonus_shrinks_the_step_by_play():
    rng = np.random.default_rng(11)
    pi, q = np.array([0.4, 0.35, 0.25]), np.array([0.02, 0.05, 0.2])
    plays = rng.multinomial(20_000_000, pi)
    wins = rng.binomial(plays, q)
    kept = wins + rng.binomial(plays - wins, 0.5)  # rewards 1 and 1/2: c = 1
    V = pi @ q
    new = success_step(pi, q, V / (V + 1))
    error = np.sqrt(new * (1 - new) / kept.sum())
    assert (np.abs(kept / kept.sum() - new) < 4 * error).all()
    assert (np.abs(pi - new) > 8 * error)[[0, 2]].all()  # it did move


PLAYED, RATES = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.4, 0.9])


def fit_loss(theta, b):
    return -(PLAYED * (RATES - b)) @ log_softmax(theta)


@pytest.mark.parametrize("b", [-1, 0, 0.1, 0.19])
def test_a_fit_with_a_baseline_ends_at_the_step(b):
    fitted = softmax(minimize(fit_loss, np.zeros(3), b, tol=1e-12).x)
    V = PLAYED @ RATES
    np.testing.assert_allclose(fitted, success_step(PLAYED, RATES, V / (V - b)), atol=2e-5)


@pytest.mark.parametrize("b", [-1, 0, 0.3, 0.4, 2])
def test_the_first_gradient_does_not_know_the_baseline(b):
    theta, h = np.log(PLAYED), 1e-5
    ends = [[fit_loss(theta + s * h * way, b) for s in (-1, 1)] for way in np.eye(3)]
    slopes = [(left - right) / (2 * h) for left, right in ends]
    V = PLAYED @ RATES
    np.testing.assert_allclose(slopes, PLAYED * (RATES - V), atol=1e-8)


def test_past_the_worst_action_the_fit_has_no_maximum():
    gains = [-fit_loss(np.array([-x, 0, 0]), 0.25) for x in (10, 100, 1000, 10_000)]
    assert (np.diff(gains) > 2).all()


def nearest(x, weight):
    whole = {"type": "eq", "fun": lambda p: p.sum() - 1}
    found = minimize(
        lambda p: ((p - x) ** 2 / weight).sum(),
        np.full(x.size, 1 / x.size),
        bounds=[(0, 1)] * x.size,
        constraints=whole,
        options={"ftol": 1e-14},
    )
    return found.x


def fit_to_the_end(x):
    """Where gradient ascent of the likelihood with weights x ends; its slope is 1-Lipschitz."""
    theta = np.zeros(x.size)
    for _ in range(30_000):
        theta += x - softmax(theta)
    return softmax(theta)


@pytest.mark.parametrize(
    ("pi", "q", "b"),
    [
        ([0.6, 0.38, 0.02], [0.3, 0.5, 0.9], 0.36),
        ([0.3, 0.3, 0.2, 0.2], [0.1, 0.5, 0.6, 0.9], 0.2),
        ([0.1, 0.2, 0.3, 0.4], [0.2, 0.9, 0.5, 0.6], 0.4),
        ([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1),
    ],
)
def test_the_fit_ends_nearest_in_squares_and_the_clipped_path_in_chi_squared(pi, q, b):
    pi, q = np.array(pi), np.array(q)
    x = pi * (q - b) / (pi @ q - b)
    clipped = success_step(pi, q, pi @ q / (pi @ q - b))
    np.testing.assert_allclose(fit_to_the_end(x), nearest(x, 1), atol=1e-4)
    np.testing.assert_allclose(clipped, nearest(x, pi), atol=1e-4)
    assert clipped[q.argmax()] > pi[q.argmax()]


def test_gradient_ascent_past_the_edge_gives_up_the_rare_and_best():
    pi, q = np.array([0.6, 0.38, 0.02]), np.array([0.3, 0.5, 0.9])
    x = pi * (q - 0.36) / (pi @ q - 0.36)
    np.testing.assert_allclose(fit_to_the_end(x), [0, 1, 0], atol=1e-6)
    clipped = success_step(pi, q, pi @ q / (pi @ q - 0.36))
    assert clipped[2] > 10 * pi[2]
    assert clipped[0] == 0


@given(behaviours(), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_every_state_may_take_its_own_step_up_to_its_edge(case, share, seed):
    e, _ = case
    eta = longest_step(e.policy, e.Q)
    eta = np.where(np.isfinite(eta), eta, 1.0)
    eta *= np.maximum(share, np.random.default_rng(seed).random(eta.size))
    gain = relative_improvement(success_step(e.policy, e.Q, eta), e.policy, e.Q)
    np.testing.assert_allclose(gain, eta * action_influence(e.policy, e.Q), atol=1e-12)


@given(mdps_with_policies(), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_no_state_gains_less_than_its_step_times_its_influence(case, share, seed):
    mdp, policy = case
    e = evaluate(mdp, policy)
    eta = longest_step(e.policy, e.Q)
    eta = np.where(np.isfinite(eta), eta, 1.0)
    eta *= np.maximum(share, np.random.default_rng(seed).random(eta.size))
    new = evaluate(mdp, success_step(e.policy, e.Q, eta))
    assert (new.V >= e.V * (1 + eta * action_influence(e.policy, e.Q)) - 1e-12).all()


def test_further_is_not_better_and_past_the_edge_the_bound_promises_too_much():
    turn = [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    detour = SuccessMDP.from_dense(turn, [[0.9, 0], [1, 0]], [1, 0])
    e = evaluate(detour, np.full((2, 2), 0.5))
    edge = longest_step(e.policy, e.Q)
    np.testing.assert_allclose(edge, [3.5, 1])
    one, far = (evaluate(detour, success_step(e.policy, e.Q, x)).V for x in (1, edge))
    assert one[0] == pytest.approx(131 / 140)
    assert far[0] == pytest.approx(0.9)
    assert e.V[0] * (1 + 2 * edge[0] * action_influence(e.policy, e.Q)[0]) > 1


def outcomes_of(m, law):
    """Every way in which m successes can fall on three actions, with its probability."""
    counts = [(i, j, m - i - j) for i in range(m + 1) for j in range(m + 1 - i)]
    ways = [factorial(m) / (factorial(i) * factorial(j) * factorial(k)) for i, j, k in counts]
    chances = [
        Fraction(int(way)) * law[0] ** i * law[1] ** j * law[2] ** k
        for way, (i, j, k) in zip(ways, counts, strict=True)
    ]
    assert sum(chances) == 1
    return [[Fraction(x, m) for x in count] for count in counts], chances


EXACT_PI = [Fraction(1, 2), Fraction(3, 10), Fraction(1, 5)]
EXACT_W = [Fraction(1, 2), Fraction(1), Fraction(9, 4)]
EXACT_PLUS = [p * w for p, w in zip(EXACT_PI, EXACT_W, strict=True)]
EXACT_I = mean_of(EXACT_PLUS, EXACT_W) - 1
EXACT_C = sum(x * (1 - x) / p for x, p in zip(EXACT_PLUS, EXACT_PI, strict=True))


@pytest.mark.parametrize("m", [2, 5])
@pytest.mark.parametrize("eta", [Fraction(1, 2), Fraction(1), Fraction(7, 3)])
def test_noise_and_gain_of_an_estimated_step_in_rationals(m, eta):
    shares, law = outcomes_of(m, EXACT_PLUS)
    gains = [eta * (mean_of(p, EXACT_W) - 1) for p in shares]
    moved = [
        sum((eta * (x - p)) ** 2 / p for x, p in zip(share, EXACT_PI, strict=True))
        for share in shares
    ]
    spread = mean_of(EXACT_PLUS, [(w - 1 - EXACT_I) ** 2 for w in EXACT_W])
    assert mean_of(law, gains) == eta * EXACT_I
    assert mean_of(law, [(g - eta * EXACT_I) ** 2 for g in gains]) == eta**2 * spread / m
    assert mean_of(law, moved) == eta**2 * (EXACT_I + EXACT_C / m)


@pytest.mark.parametrize("m", [2, 5])
def test_the_parts_of_the_rule_are_unbiased_in_rationals(m):
    shares, law = outcomes_of(m, EXACT_PLUS)
    noise = [
        Fraction(m, m - 1) * sum(x * (1 - x) / p for x, p in zip(share, EXACT_PI, strict=True))
        for share in shares
    ]
    pearson = [
        m * sum((x - p) ** 2 / p for x, p in zip(share, EXACT_PI, strict=True)) for share in shares
    ]
    assert mean_of(law, noise) == EXACT_C
    assert mean_of(law, pearson) - EXACT_C == m * EXACT_I


OTHER_PI = [Fraction(1, 4), Fraction(1, 4), Fraction(1, 2)]
OTHER_W = [Fraction(3, 2), Fraction(1, 2), Fraction(1)]


@pytest.mark.parametrize("ms", [(2, 5), (9, 2)])
@pytest.mark.parametrize("star", [1, 2.5])
def test_a_search_finds_the_step_of_the_rule_for_states_that_differ(ms, star):
    lists, signal, noise = [], 0, 0
    for m, pi, w in zip(ms, (EXACT_PI, OTHER_PI), (EXACT_W, OTHER_W), strict=True):
        plus = [p * x for p, x in zip(pi, w, strict=True)]
        shares, law = outcomes_of(m, plus)
        way = np.array(shares, float) - np.array(pi, float)
        lists.append((m, np.array(law, float), way, np.array(pi, float), np.array(w, float)))
        signal += m * (mean_of(plus, w) - 1)
        noise += sum(x * (1 - x) / p for x, p in zip(plus, pi, strict=True))

    def lost(eta):
        return -sum(
            m * law @ (eta * way @ w - eta**2 * (way**2 / pi).sum(axis=1) / (2 * star))
            for m, law, way, pi, w in lists
        )

    found = minimize_scalar(lost, bounds=(0, 2 * star), method="bounded", options={"xatol": 1e-9})
    lam = float(signal / (signal + noise))
    assert found.x == pytest.approx(lam * star, rel=1e-5)
    assert -found.fun == pytest.approx(lam * star * float(signal) / 2, rel=1e-9)


def gains_on_a_rare_arm(m, rare):
    """Exact mean relative gains of the estimated edge, of the state's own lambda, and of two.

    Two actions need one number, the rare one's probability, and clipping is clipping.
    """
    n = np.arange(m + 1)
    p, pi = n / m, 0.02
    V = pi * rare + (1 - pi) * 0.5
    law = binom(m, pi * rare / V).pmf(n)
    moved = (p - pi) ** 2 / (pi * (1 - pi))
    noise = p * (1 - p) / (pi * (1 - pi)) / (m - 1)
    edge = 1 / (1 - np.minimum(p / pi, (1 - p) / (1 - pi)))
    lengths = edge, np.maximum(1 - noise / moved, 0), 2
    new = [np.clip(pi + x * (p - pi), 0, 1) for x in lengths]
    return [law @ ((x * rare + (1 - x) * 0.5) / V - 1) for x in new]


def test_a_length_that_listens_to_the_noise_does_harm():
    for m in (3, 10, 30, 120, 310):
        assert gains_on_a_rare_arm(m, 0.3)[0] < -0.005
    assert gains_on_a_rare_arm(30, 0.3)[0] == pytest.approx(-0.1153, abs=1e-4)
    for m in (3, 10):
        assert gains_on_a_rare_arm(m, 0.9)[1] < -0.005
    assert gains_on_a_rare_arm(3, 0.9)[1] == pytest.approx(-0.01274, abs=1e-5)


def test_clipping_favours_the_rare_good_or_bad():
    promised = [2 * action_influence([0.02, 0.98], [rare, 0.5]) for rare in (0.3, 0.9)]
    bad, good = (gains_on_a_rare_arm(3, rare)[2] for rare in (0.3, 0.9))
    assert bad == pytest.approx(-0.001346, abs=1e-6)
    assert bad < 0 < promised[0]
    assert good == pytest.approx(0.03751, abs=1e-5)
    assert good > 1.5 * promised[1]


def nets_on_many_prompts(m, rng):
    """Net gains of the lengths 1 and 2 and of the pooled rule, and their plain gains.

    Two actions each, of which the first does not matter on every second prompt.
    """
    pi, q = rng.uniform(0.05, 0.95, (2, 300))
    q[::2] = 0.5
    V = pi * q + (1 - pi) * 0.5
    p = rng.binomial(m, pi * q / V) / m
    unit = pi * (1 - pi)
    moved, noise = (p - pi) ** 2 / unit, p * (1 - p) / unit / (m - 1)
    lam = max(1 - noise.sum() / moved.sum(), 0)
    new = np.stack([np.clip(pi + x * (p - pi), 0, 1) for x in (1, 2, 2 * lam)])
    gain = ((new - pi) * (q - 0.5) / V).mean(axis=1)
    return gain - ((new - pi) ** 2 / unit).mean(axis=1) / 4, gain


def test_the_pooled_rule_nets_more_and_gains_less_than_the_long_step():
    rng = np.random.default_rng(31)
    for m in (2, 5, 20, 100):
        runs = np.array([nets_on_many_prompts(m, rng) for _ in range(100)])
        net, gain = runs[:, 0], runs[:, 1]
        saved = net[:, 2] - net[:, 1]
        assert saved.mean() > 4 * saved.std() / 10
        assert (gain[:, 1] - gain[:, 2]).mean() > 0
        assert net[:, 2].mean() > net[:, :2].mean(axis=0).max() - 0.003


def test_a_clipped_step_gains_less_than_its_length_times_the_influence():
    pi, w = np.array(EXACT_PI, float), np.array(EXACT_W, float)
    counts = np.array([c for c in np.ndindex(5, 5, 5) if sum(c) == 4])
    law = multinomial(4, np.array(EXACT_PLUS, float)).pmf(counts)
    ratios = counts / 4 / pi
    new = [success_step(pi, ratio / ratio.max(), 10) for ratio in ratios]
    assert law @ (np.array(new) @ w - 1) < 0.5 * 10 * float(EXACT_I)


def test_a_share_estimated_from_one_state_is_a_poor_judge():
    """With ten successes the rule nets less than its own lambda, and less than imitation."""
    shares, law = outcomes_of(10, EXACT_PLUS)
    pi, w = np.array(EXACT_PI, float), np.array(EXACT_W, float)
    p, chances = np.array(shares, float), np.array(law, float)
    gain, moved = (p - pi) @ w, ((p - pi) ** 2 / pi).sum(axis=1)
    noise = (p * (1 - p) / pi).sum(axis=1) / 9
    estimate = np.maximum(1 - noise / np.maximum(moved, 1e-12), 0)
    known = float(10 * EXACT_I / (10 * EXACT_I + EXACT_C))
    net = [chances @ (2 * x * gain - x**2 * moved) for x in (estimate, known, 0.5)]
    assert net[1] == pytest.approx(known * float(EXACT_I), rel=1e-9)
    assert net[0] < net[2] < net[1]
    assert net[0] == pytest.approx(0.183, abs=0.002)
