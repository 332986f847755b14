"""Rival updates: what each maximises or imitates, how it relates to imitation, and refusals."""

import re
from fractions import Fraction
from itertools import product
from math import comb

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime, minimize
from scipy.special import rel_entr, softmax

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_failure,
    condition_on_success,
    kl_divergence,
    relative_improvement,
)
from sc_utils.environments import random_mdp
from sc_utils.mdp import evaluate
from sc_utils.sampling import sample_log
from sc_utils.trust_region import longest_step, success_step
from sc_utils.updates import (
    best_of_n,
    best_of_n_step,
    chi_squared_update,
    exponential_tilt,
    group_relative_factor,
    guided_policy,
)
from tests.strategies import Listed, acyclic_exact_mdps, mdps_with_policies

POLICY = np.array([[0.30, 0.25, 0.20, 0.15, 0.10], [0.2, 0.2, 0.2, 0.2, 0.2]])
Q = np.array([[0.05, 0.10, 0.20, 0.40, 0.60], [0.9, 0.0, 0.9, 0.0, 0.9]])
V = (POLICY * Q).sum(axis=1)
ONE = np.array([0.5, 0.35, 0.15])
CHANCES = np.array([0.1, 0.4, 0.9])
RATE = ONE @ CHANCES


def climb(gain, start):
    """The best policy of one state, from the definition of what is good about it."""
    found = minimize(lambda t: -gain(softmax(t)), np.log(start), tol=1e-12)
    return softmax(found.x)


# Golden


def test_tilts_by_hand():
    # e^(Q / beta) is 1, 2 and 4 at the temperature 1 / log 4.
    tilted = exponential_tilt([0.5, 0.25, 0.25], [0, 0.5, 1], 1 / np.log(4))
    np.testing.assert_allclose(tilted, np.array([2, 2, 4]) / 8, rtol=1e-12)
    guided = guided_policy([0.5, 0.25, 0.25], [0.1, 0.2, 0.4], 2)
    np.testing.assert_allclose(guided, np.array([2, 4, 16]) / 22, rtol=1e-12)


def test_best_of_two_by_hand():
    q, pi = [Fraction(1, 5), Fraction(3, 5)], [Fraction(3, 4), Fraction(1, 4)]
    wins = [p * x for p, x in zip(pi, q, strict=True)]
    losses = [p * (1 - x) for p, x in zip(pi, q, strict=True)]
    expected = [w + sum(losses) * w + sum(losses) * f for w, f in zip(wins, losses, strict=True)]
    # A first success; a failure and then a success; two failures, of which the last.
    assert sum(expected) == 1
    found = best_of_n(np.array(pi, dtype=float), np.array(q, dtype=float), 2)
    np.testing.assert_allclose(found, [float(x) for x in expected], rtol=1e-13)


def test_groups_by_hand():
    # Three answers: sigma is sqrt(2)/3 for one or two right ones; 3pq * sqrt(2)/3 / (pq).
    np.testing.assert_allclose(group_relative_factor([0, 0.2, 1], 3), np.sqrt(2), rtol=1e-13)
    assert float(group_relative_factor(0.3, 8)) == pytest.approx(1.9627, abs=5e-5)
    assert float(group_relative_factor(0.7, 1)) == 0


# Best of n


@given(mdps_with_policies(full_support=False), st.floats(1, 30))
def test_best_of_n_walks_the_path(case, n):
    mdp, policy = case
    q = evaluate(mdp, policy).Q
    eta, influence = best_of_n_step(policy, q, n), action_influence(policy, q)
    found = best_of_n(policy, q, n)
    np.testing.assert_allclose(found, success_step(policy, q, eta), atol=1e-12)
    np.testing.assert_allclose(chi_squared(found, policy), eta**2 * influence, atol=1e-10)
    gained = relative_improvement(found, policy, q)
    np.testing.assert_allclose(gained, eta * influence, atol=1e-10)


def test_best_of_n_by_play(rng):
    for n in (2, 5):
        tries = rng.choice(3, (200_000, n), p=ONE)
        won = rng.random(tries.shape) < CHANCES[tries]
        kept = np.where(won.any(axis=1), won.argmax(axis=1), rng.integers(0, n, len(won)))
        shares = np.bincount(tries[np.arange(len(tries)), kept]) / len(tries)
        expected = best_of_n(ONE, CHANCES, n)
        error = np.sqrt(expected * (1 - expected) / len(tries))
        assert (np.abs(shares - expected) < 4.5 * error).all()


@settings(suppress_health_check=[HealthCheck.filter_too_much])
@given(acyclic_exact_mdps(), st.integers(2, 3))
def test_best_of_n_of_whole_episodes(case, n):
    """By listing all pairs, or triples, of episodes."""
    listed = Listed.of(*case)
    episodes = sorted(listed.episodes(), key=lambda e: -e.probability)
    rho = sum(e.probability for e in episodes if e.success)
    merged = {}  # an episode counts by what it did and how it ended
    for e in episodes:
        key = e.decisions, e.success
        merged[key] = merged.get(key, 0) + e.probability
    assume(len(merged) ** n <= 4000)
    assume(0 < rho < 1)
    taught = {}
    for group in product(merged.items(), repeat=n):
        p = Fraction(1)
        for _, probability in group:
            p *= probability
        kept = next((key for key, _ in group if key[1]), group[-1][0])
        for s, a in kept[0]:
            taught[s, a] = taught.get((s, a), 0) + p
    missed = (1 - rho) ** (n - 1)
    for s in {s for s, _ in taught}:
        value = sum(e.probability for e in listed.episodes(start=s) if e.success)
        eta = (1 - missed) * value / ((1 - missed) * value + missed * rho)
        total = sum(x for (t, _), x in taught.items() if t == s)
        for a, p in enumerate(listed.policy[s]):
            only = listed.switch(s, {a: Fraction(1)})
            q = sum(e.probability for e in only.episodes(start=s) if e.success)
            ratio = 1 + eta * (q / value - 1) if value else 1
            assert taught.get((s, a), 0) == total * p * ratio


def test_best_of_n_is_bounded_in_kl():
    n = np.arange(1, 200)
    for p in (0.001, 0.05, 0.3, 0.9):
        old, exact = np.tile([1 - p, p], (199, 1)), np.tile([0.0, 1.0], (199, 1))
        moved = kl_divergence(best_of_n(old, exact, n), old)
        assert (moved <= np.log(n) - (n - 1) / n + 1e-12).all()
        assert (moved <= np.log(1 / p) + 1e-12).all()


def test_a_finer_judge_passes_imitation(rng):
    best = rng.choice(3, (100_000, 8), p=ONE).max(axis=1)
    rate = CHANCES[best].mean()
    expected = np.diff(np.cumsum(ONE) ** 8, prepend=0) @ CHANCES
    assert abs(rate - expected) < 4.5 * CHANCES[best].std() / 100_000**0.5
    assert rate > condition_on_success(ONE, CHANCES) @ CHANCES + 0.15
    assert best_of_n(ONE, CHANCES, np.inf) @ CHANCES < rate - 0.15


# One path


@given(st.integers(1, 4), st.floats(0.05, 5), st.integers(0, 10**6))
def test_with_an_exact_verifier_every_tilt_is_on_the_path(n_right, beta, seed):
    old = np.random.default_rng(seed).dirichlet(np.ones(5))
    right = np.r_[np.ones(n_right), np.zeros(5 - n_right)]
    share = old @ right
    weights = old * np.exp(right / beta)
    eta = 1 - 1 / weights.sum()
    tilted = exponential_tilt(old, right, beta)
    np.testing.assert_allclose(tilted, weights / weights.sum(), rtol=1e-10)
    np.testing.assert_allclose(tilted, success_step(old, right, eta), atol=1e-12)
    guided = guided_policy(old, right, beta)
    np.testing.assert_allclose(guided, condition_on_success(old, right), atol=1e-12)
    priced = chi_squared_update(old, right, beta)
    np.testing.assert_allclose(priced, success_step(old, right, min(share / beta, 1)), atol=1e-12)


def test_with_noise_they_leave_it():
    plane = [ONE, condition_on_success(ONE, CHANCES)]
    assert abs(np.linalg.det([*plane, best_of_n(ONE, CHANCES, 3)])) < 1e-14
    assert abs(np.linalg.det([*plane, exponential_tilt(ONE, CHANCES, RATE)])) > 0.01
    assert abs(np.linalg.det([*plane, guided_policy(ONE, CHANCES, 0.5)])) > 0.003


# Penalties


@pytest.mark.parametrize("beta", [0.1, 0.2, RATE, 1.0])
def test_each_update_is_best_by_its_penalty(beta):
    kl = climb(lambda pi: pi @ CHANCES / beta - rel_entr(pi, ONE).sum(), ONE)
    np.testing.assert_allclose(exponential_tilt(ONE, CHANCES, beta), kl, atol=1e-5)
    chi2 = climb(lambda pi: pi @ CHANCES / beta - ((pi - ONE) ** 2 / ONE).sum() / 2, ONE)
    np.testing.assert_allclose(chi_squared_update(ONE, CHANCES, beta), chi2, atol=2e-4)


def test_the_price_is_a_step_and_clips_beyond_the_longest():
    edge = RATE / float(longest_step(ONE, CHANCES))
    assert chi_squared_update(ONE, CHANCES, edge * 1.01).min() > 0
    assert chi_squared_update(ONE, CHANCES, edge * 0.99).min() == 0
    clipped = chi_squared_update(ONE, CHANCES, edge / 2)
    kept = clipped > 0
    nu = CHANCES - edge / 2 * clipped / ONE
    assert np.ptp(nu[kept]) < 1e-12
    assert (CHANCES[~kept] <= nu[kept].min()).all()


@given(mdps_with_policies(full_support=False))
def test_at_its_value_as_price_every_state_imitates(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    price = np.where(e.V > 0, e.V, 1.0)
    imitator = condition_on_success(policy, e.Q)
    np.testing.assert_allclose(chi_squared_update(policy, e.Q, price), imitator, atol=1e-11)
    np.testing.assert_allclose(guided_policy(policy, e.Q, 1), imitator, atol=1e-12)


def test_imitation_is_best_on_the_logarithm():
    def gain(pi):
        return pi @ np.log(CHANCES) - rel_entr(pi, ONE).sum()

    best = climb(gain, ONE)
    np.testing.assert_allclose(best, condition_on_success(ONE, CHANCES), atol=1e-6)
    assert gain(best) == pytest.approx(np.log(RATE), abs=1e-10)


def test_at_the_matching_temperature_the_error_is_of_second_order():
    errors, leading = [], []
    for spread in 0.5 ** np.arange(4, 12):
        near = RATE + spread * (CHANCES - RATE)
        gap = exponential_tilt(ONE, near, RATE) / ONE - near / RATE
        errors.append(np.abs(gap).max())
        leading.append(((near / RATE - 1) ** 2 - action_influence(ONE, near)) / 2)
    assert errors[-2] / errors[-1] == pytest.approx(4, rel=0.001)
    np.testing.assert_allclose(gap, leading[-1], rtol=0.001)


def test_at_another_temperature_it_is_of_first_order():
    errors = []
    for spread in (1e-3, 5e-4):
        near = RATE + spread * (CHANCES - RATE)
        errors.append(np.abs(exponential_tilt(ONE, near, 1.1 * RATE) / ONE - near / RATE).max())
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.01)


def test_one_temperature_leaves_hard_prompts_where_they_are():
    both, chances = np.array([ONE, ONE]), np.array([CHANCES, CHANCES / 100])
    common = relative_improvement(exponential_tilt(both, chances, RATE), both, chances)
    own = relative_improvement(exponential_tilt(both, chances, [RATE, RATE / 100]), both, chances)
    assert own[1] == pytest.approx(own[0], rel=1e-9)
    assert common[1] == pytest.approx(action_influence(ONE, CHANCES) / 100, rel=0.01)
    assert common[0] > 80 * common[1]


# Guidance


@given(mdps_with_policies(), st.floats(0, 8), st.floats(0, 8))
def test_more_guidance_gains_no_less(case, one, two):
    mdp, policy = case
    q = evaluate(mdp, policy).Q
    gains = [(guided_policy(policy, q, g) * q).sum(axis=1) for g in sorted((one, two))]
    assert (gains[0] <= gains[1] + 1e-12).all()


def test_a_whole_weight_is_a_number_of_rounds():
    policy = ONE
    for k in range(1, 6):
        policy = condition_on_success(policy, CHANCES)
        np.testing.assert_allclose(guided_policy(ONE, CHANCES, k), policy, rtol=1e-12)


def test_slope_of_guidance_in_symbols():
    gamma, o, q = sp.Symbol("gamma"), sp.symbols("o1:4"), sp.symbols("q1:4", positive=True)
    mass = [a * b**gamma for a, b in zip(o, q, strict=True)]

    def mean(f):
        return sum(m * f(b) for m, b in zip(mass, q, strict=True)) / sum(mass)

    slope = sp.diff(mean(lambda b: b), gamma)
    covariance = mean(lambda b: b * sp.log(b)) - mean(sp.log) * mean(lambda b: b)
    assert sp.simplify(slope - covariance) == 0


def test_slope_of_guidance():
    now = guided_policy(ONE, CHANCES, 1.7)
    near = [guided_policy(ONE, CHANCES, 1.7 + h) @ CHANCES for h in (1e-5, -1e-5)]
    logs = np.log(CHANCES)
    covariance = now @ (logs * CHANCES) - (now @ logs) * (now @ CHANCES)
    assert (near[0] - near[1]) / 2e-5 == pytest.approx(covariance, rel=1e-6)


# Posteriors


@pytest.mark.parametrize("B", [0.5, 3.0])
def test_two_posteriors(B, rng):
    acts = rng.choice(3, 400_000, p=ONE)
    won = rng.random(acts.size) < CHANCES[acts]
    seen = acts[won | (rng.random(acts.size) < np.exp(-B))]
    eta = RATE * (1 - np.exp(-B)) / (RATE + (1 - RATE) * np.exp(-B))
    exact = success_step(ONE, CHANCES, eta)
    error = np.sqrt(exact * (1 - exact) / seen.size)
    assert (np.abs(np.bincount(seen) / seen.size - exact) < 4.5 * error).all()
    raw = np.bincount(acts, np.exp(B * won))  # weighted by the outcome itself, as without a critic
    assert (np.abs(raw / raw.sum() - exact) < 4.5 * error).all()
    joint = ONE * [CHANCES, (1 - CHANCES) * np.exp(-B)]  # of outcome and action, given the event
    np.testing.assert_allclose(joint.sum(axis=0) / joint.sum(), exact, rtol=1e-12)
    varied = climb(lambda pi: -rel_entr(pi * [CHANCES, 1 - CHANCES], joint).sum(), ONE)
    np.testing.assert_allclose(exponential_tilt(ONE, CHANCES, 1 / B), varied, atol=1e-6)


def test_their_limits_part():
    small = 1e-12
    eta = RATE * (1 - small) / (RATE + (1 - RATE) * small)
    exact = success_step(ONE, CHANCES, eta)
    np.testing.assert_allclose(exact, condition_on_success(ONE, CHANCES), atol=1e-9)
    np.testing.assert_allclose(exponential_tilt(ONE, CHANCES, 1 / 1000), [0, 0, 1], atol=1e-12)


# Prompts


@given(st.floats(0.001, 0.999), st.integers(2, 60))
def test_groups_by_listing(p, group):
    """From the definition, in fractions but for the roots."""
    x = Fraction(p)
    total = sum(
        float(comb(group, k) * x ** (k - 1) * (1 - x) ** (group - k - 1))
        * np.sqrt(k / group * (1 - k / group))
        for k in range(1, group)
    )
    factor = float(group_relative_factor(p, group))
    assert factor == pytest.approx(total, rel=1e-10)
    assert 2 * (group - 1) / group - 1e-12 <= factor <= np.sqrt(group - 1) + 1e-12
    assert factor <= np.sqrt((1 - 1 / group) / (p * (1 - p))) + 1e-12


def test_large_groups():
    p = np.array([0.1, 0.5, 0.8])
    np.testing.assert_allclose(group_relative_factor(p, 20_000), (p * (1 - p)) ** -0.5, rtol=2e-3)


@pytest.mark.parametrize("group", [2, 5])
def test_weights_of_a_prompt_by_running_the_estimators(group, rng):
    acts = rng.choice(3, (200_000, group), p=ONE)
    R = (rng.random(acts.shape) < CHANCES[acts]).astype(float)
    centred, right = R - R.mean(axis=1, keepdims=True), R.sum(axis=1, keepdims=True)
    deviation = R.std(axis=1, keepdims=True)
    scaled = float(group_relative_factor(RATE, group))
    if group == 2:
        assert scaled == pytest.approx(1, rel=1e-12)
        scaled = 1 + 1e-15  # REINFORCE has the key 1 already
    rules = {
        1.0: R / group,
        scaled: np.divide(centred, deviation, out=np.zeros_like(R), where=deviation > 0) / group,
        1 - 1 / group: centred / group,
        (1 - (1 - RATE) ** group) / RATE: R / np.maximum(right, 1),
    }
    assert len(rules) == 4
    slope = ONE * (CHANCES - RATE)
    for weight, rule in rules.items():
        pushes = np.einsum("mg,mga->ma", rule, np.eye(3)[acts] - ONE)
        error = pushes.std(axis=0) / len(acts) ** 0.5
        assert (np.abs(pushes.mean(axis=0) - weight * slope) < 4.5 * error).all()


def test_pooled_successes_climb_the_logarithm_of_the_mean(rng):
    """Many prompts of two kinds: one average over all successes."""
    chances = np.array([CHANCES, CHANCES / 9])
    kind = rng.integers(0, 2, 400_000)
    acts = rng.choice(3, kind.size, p=ONE)
    won = rng.random(kind.size) < chances[kind, acts]
    score = np.zeros((won.sum(), 2, 3))
    score[np.arange(won.sum()), kind[won]] = np.eye(3)[acts[won]] - ONE
    pooled, error = score.mean(axis=0), score.std(axis=0) / won.sum() ** 0.5

    def log_mean(t):
        return np.log((softmax(t.reshape(2, 3), axis=1) * chances).sum() / 2)

    slope = approx_fprime(np.log([ONE, ONE]).ravel(), log_mean, 1e-7).reshape(2, 3)
    assert (np.abs(pooled - slope) < 4.5 * error).all()


def test_first_gradient_with_shared_parameters(rng):
    """The mean score of successes, by sums and by play, against differences of the exact rate."""
    mdp, features = random_mdp(4, 3, rng=rng), rng.normal(size=(4, 3, 2))
    theta = np.array([0.4, -0.3])

    def play(u):
        return softmax(features @ u, axis=1)

    slope = approx_fprime(theta, lambda u: np.log(evaluate(mdp, play(u)).success_rate), 1e-7)
    policy = play(theta)
    scores = features - np.einsum("sa,sak->sk", policy, features)[:, None]
    here = evaluate(mdp, policy)
    of_wins = here.visits * here.V / here.success_rate
    teacher = condition_on_success(policy, here.Q)
    exact = np.einsum("s,sa,sak->k", of_wins, teacher, scores)
    np.testing.assert_allclose(exact, slope, rtol=1e-5)
    log = sample_log(mdp, policy, 60_000, rng=rng)
    sums = [np.bincount(log.episode, x) for x in scores[log.state, log.action].T]
    won = np.bincount(log.episode, log.success) > 0
    of_successes = np.array(sums)[:, won]
    error = of_successes.std(axis=1) / won.sum() ** 0.5
    assert (np.abs(of_successes.mean(axis=1) - slope) < 4.5 * error).all()


# Edges


def test_extremes():
    np.testing.assert_allclose(best_of_n(POLICY, Q, 1), POLICY, rtol=1e-15)
    np.testing.assert_allclose(best_of_n(POLICY, Q, np.inf), condition_on_success(POLICY, Q))
    np.testing.assert_array_equal(guided_policy(POLICY, Q, 0), POLICY)
    np.testing.assert_array_equal(exponential_tilt(POLICY, Q, np.inf), POLICY)
    np.testing.assert_allclose(chi_squared_update(POLICY, Q, np.inf), POLICY, rtol=1e-14)
    greedy = np.array([[0, 0, 0, 0, 1], [1 / 3, 0, 1 / 3, 0, 1 / 3]])
    for found in (
        exponential_tilt(POLICY, Q, 1e-320),
        chi_squared_update(POLICY, Q, 1e-320),
        guided_policy(POLICY, Q, 1e5),
    ):
        np.testing.assert_allclose(found, greedy, atol=1e-12)


def test_where_nothing_succeeds_the_behaviour_stays():
    none = np.zeros_like(Q)
    for found in (
        best_of_n(POLICY, none, np.inf),
        guided_policy(POLICY, none, 3),
        exponential_tilt(POLICY, none, 0.1),
        chi_squared_update(POLICY, none, 0.1),
    ):
        np.testing.assert_allclose(found, POLICY, rtol=1e-15)
    np.testing.assert_array_equal(best_of_n_step(POLICY, none, np.inf), 0)


def test_where_everything_succeeds_too():
    every = np.ones_like(Q)
    for n in (1, 3, np.inf):
        np.testing.assert_allclose(best_of_n(POLICY, every, n), POLICY, rtol=1e-14)
    np.testing.assert_array_equal(best_of_n_step(POLICY, every, 1), 0)
    np.testing.assert_array_equal(best_of_n_step(POLICY, every, 2), 1)


def test_a_rare_success_keeps_its_digits():
    step = best_of_n_step([0.5, 0.5], [0, 2e-12], 2)
    assert float(step) == pytest.approx(1e-12, rel=1e-9, abs=0)


def test_an_action_never_played_stays_so():
    policy, chances = np.array([0.6, 0.4, 0.0]), np.array([0.2, 0.5, 1.0])
    for found in (
        best_of_n(policy, chances, 4),
        guided_policy(policy, chances, 2),
        exponential_tilt(policy, chances, 1e-4),
        chi_squared_update(policy, chances, 1e-4),
    ):
        assert found[2] == 0
        assert found.sum() == pytest.approx(1, rel=1e-14)


def test_numbers_per_state():
    for update, values in [
        (exponential_tilt, [0.2, 3.0]),
        (guided_policy, [0.5, 2.0]),
        (best_of_n, [2.0, 7.0]),
        (best_of_n_step, [2.0, 7.0]),
        (chi_squared_update, [0.3, 0.9]),
    ]:
        rows = [update(POLICY[s], Q[s], values[s]) for s in (0, 1)]
        np.testing.assert_array_equal(update(POLICY, Q, values), rows)


def test_failures_are_the_rest_of_best_of_n():
    found = best_of_n(POLICY, Q, 3)
    some = (1 - (1 - V) ** 3)[:, None]
    rest = (found - some * condition_on_success(POLICY, Q)) / (1 - some)
    np.testing.assert_allclose(rest, condition_on_failure(POLICY, Q), atol=1e-12)


# Refusals


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exponential_tilt(POLICY, Q, 0), "temperature must be above 0, got 0"),
        (lambda: exponential_tilt(POLICY, Q, [1, -2]), "temperature[1] must be above 0, got -2"),
        (lambda: guided_policy(POLICY, Q, -0.5), "weight must be at least 0, got -0.5"),
        (lambda: guided_policy(POLICY, Q, np.inf), "weight must be finite, got inf"),
        (lambda: best_of_n(POLICY, Q, 0.5), "n must be at least 1, got 0.5"),
        (lambda: best_of_n_step(POLICY, Q, [1, 0]), "n[1] must be at least 1, got 0"),
        (lambda: best_of_n(POLICY, Q, [1, 2, 3]), "one entry per state (2,), got (3,)"),
        (lambda: chi_squared_update(POLICY, Q, np.nan), "beta is NaN"),
        (lambda: chi_squared_update(POLICY, Q, 0), "beta must be above 0, got 0"),
        (lambda: exponential_tilt([0.5, 0.6], [0, 1], 1), "policy must sum to 1"),
        (lambda: guided_policy([0.5, 0.5], [0, 2], 1), "Q[1] must be a probability, got 2"),
        (lambda: group_relative_factor([0.5, 1.5], 8), "success_rate[1] must be a probability"),
        (lambda: group_relative_factor(0.5, 0), "group must be at least 1, got 0"),
    ],
)
def test_bad_input_is_refused_with_its_place_and_value(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_a_group_is_a_whole_number():
    with pytest.raises(TypeError, match=re.escape("group must be an integer, got 2.5")):
        group_relative_factor(0.5, 2.5)
