"""The loss of a policy on successes: read rightly, and what it certifies about the success rate."""

import re
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import comb, rel_entr
from scipy.stats import binom, t

from sc_utils import networks
from sc_utils.conditioning import (
    action_influence,
    condition_on_success,
    kl_divergence,
    relative_improvement,
    successful_visits,
    total_variation,
)
from sc_utils.environments import bandit, expressions, from_gymnasium, positive_ending
from sc_utils.learning import certify, negative_log_likelihood
from sc_utils.logs import Log
from sc_utils.luck import doob_transform, luck_decomposition
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.sampling import sample_counts, sample_log
from tests.strategies import Listed, acyclic_exact_mdps, as_floats, mdps_with_policies, policies_of


def icy_lake(**options):
    env = gymnasium.make("FrozenLake-v1", **options)
    return from_gymnasium(env, outcome=positive_ending)


def excess(e, policy):
    """The loss over that of the imitator; states that no success visits do not count."""
    d_plus, pi_plus = successful_visits(e), condition_on_success(e.policy, e.Q)
    seen = d_plus > 0
    return d_plus[seen] @ rel_entr(pi_plus[seen], policy[seen]).sum(axis=1)


def loss_drop(e, policy):
    return excess(e, e.policy) - excess(e, policy)


def success_rate(mdp, policy):
    return evaluate(mdp, policy).success_rate


def a_log():
    """Five episodes: successes 4 and 9 of two and three decisions, the last one of one."""
    return Log(
        episode=[7, 4, 4, 9, 9, 9, 2, 2, 1],
        state=[0, 0, 1, 1, 0, 1, 0, 1, 1],
        action=[2, 0, 1, 1, 2, 0, 0, 1, 2],
        success=[False, True, True, True, True, True, False, False, True],
    )


BEHAVIOUR = np.array([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]])
POLICY = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])


# Golden


def test_a_loss_by_hand():
    # 4: 1/2 * 1/2; 9: 1/2 * 1/4 * 1/4; 1: 1/4, so 2 + 5 + 2 bits over three successes.
    assert negative_log_likelihood(a_log(), BEHAVIOUR) == pytest.approx(3 * np.log(2), rel=1e-12)
    # 4: 1/4 * 1/4; 9: 1/4 * 1/2 * 1/2; 1: 1/4, so 4 + 4 + 2 bits.
    loss = negative_log_likelihood(a_log(), POLICY)
    assert loss == pytest.approx(10 / 3 * np.log(2), rel=1e-12)


def test_a_certificate_by_hand():
    found = certify(a_log(), BEHAVIOUR, POLICY)
    ratios = [Fraction(1, 4), Fraction(2), Fraction(1)]
    assert found.success_rate == pytest.approx(3 / 5, rel=1e-12)
    assert found.drop == pytest.approx(-np.log(2) / 3, rel=1e-12)
    assert found.floor == pytest.approx(0.6 * 2 ** (-1 / 3), rel=1e-12)
    assert found.importance == pytest.approx(float(sum(ratios) / 5), rel=1e-12)


def test_the_lower_bound_by_hand():
    # The binomial bound solves P(3 or more of 5) = 0.05; the distances add as squares.
    def three_or_more(p):
        return sum(comb(5, k) * p**k * (1 - p) ** (5 - k) for k in (3, 4, 5))

    rate = brentq(lambda p: three_or_more(p) - 0.05, 1e-9, 0.9, xtol=1e-14)
    x = np.log([0.25, 2, 1])
    spread = np.sqrt(((x - x.mean()) ** 2).sum() / 2 / 3) * t.ppf(0.95, 2)
    low = 0.6 * np.exp(x.mean() - np.sqrt(np.log(0.6 / rate) ** 2 + spread**2))
    assert certify(a_log(), BEHAVIOUR, POLICY).low == pytest.approx(low, rel=1e-9)


def test_without_a_change_the_bound_is_that_of_the_success_rate():
    found = certify(a_log(), BEHAVIOUR, BEHAVIOUR, confidence=0.9)
    p = found.low
    at_least = sum(comb(5, k) * p**k * (1 - p) ** (5 - k) for k in (3, 4, 5))
    assert at_least == pytest.approx(0.1, rel=1e-9)
    assert found.drop == 0
    assert found.floor == found.importance == found.success_rate


def test_a_success_that_the_policy_never_plays_leaves_no_promise():
    never = np.array([[0, 0.5, 0.5], [0.5, 0.25, 0.25]])
    assert negative_log_likelihood(a_log(), never) == np.inf
    found = certify(a_log(), BEHAVIOUR, never)
    assert (found.drop, found.floor, found.low) == (-np.inf, 0, 0)
    # 4 has ratio 0, 9 has 2 * 2 * 1/2 = 2, and 1 has 1.
    assert found.importance == pytest.approx(3 / 5, rel=1e-12)


def test_one_success_gives_no_confidence():
    log = Log([0, 1], [0, 0], [1, 0], [True, False])
    found = certify(log, [[0.5, 0.5]], [[0.25, 0.75]])
    assert found.low == 0
    assert found.floor == found.importance == pytest.approx(0.75)


def test_two_successes_give_some():
    log = Log([0, 1, 2], [0, 0, 0], [1, 1, 0], [True, True, False])
    found = certify(log, [[0.5, 0.5]], [[0.25, 0.75]])
    # Both have ratio 3/2, and P(2 or more of 3) = 0.05 at the binomial bound.
    rate = brentq(lambda p: 3 * p**2 - 2 * p**3 - 0.05, 1e-9, 0.9, xtol=1e-14)
    assert found.low == pytest.approx(1.5 * rate, rel=1e-9)


def test_all_episodes_may_succeed():
    log = Log(np.arange(6), np.zeros(6, int), [0, 1] * 3, np.ones(6, bool))
    found = certify(log, [[0.5, 0.5]], [[0.5, 0.5]])
    assert found.low == pytest.approx(0.05 ** (1 / 6), rel=1e-9)


# Identities


@given(mdps_with_policies(), st.data(), st.integers(1, 40), st.integers(0, 2**32))
def test_sums_over_episodes_by_a_loop(case, data, n, seed):
    mdp, behaviour = case
    policy = data.draw(policies_of(mdp))
    log = sample_log(mdp, behaviour, n, rng=np.random.default_rng(seed))
    assume(log.success.any())
    sums = {}
    for episode, s, a, won in zip(log.episode, log.state, log.action, log.success, strict=True):
        old, new, _ = sums.get(episode, (0.0, 0.0, won))
        sums[episode] = old - np.log(behaviour[s, a]), new - np.log(policy[s, a]), won
    wins = np.array([x[:2] for x in sums.values() if x[2]])
    found = certify(log, behaviour, policy)
    assert negative_log_likelihood(log, policy) == pytest.approx(wins[:, 1].mean(), rel=1e-9)
    assert found.success_rate == len(wins) / n
    assert found.drop == pytest.approx(wins[:, 0].mean() - wins[:, 1].mean(), abs=1e-9)
    assert found.floor == pytest.approx(found.success_rate * np.exp(found.drop), rel=1e-9)
    average = np.exp(wins[:, 0] - wins[:, 1]).sum() / n
    assert found.importance == pytest.approx(average, rel=1e-9)
    assert found.low <= found.floor <= found.importance * (1 + 1e-9)


@given(mdps_with_policies(), st.integers(2, 40), st.integers(0, 2**32), st.permutations(range(40)))
def test_the_order_and_the_names_of_episodes_do_not_matter(case, n, seed, order):
    mdp, behaviour = case
    log = sample_log(mdp, behaviour, n, rng=np.random.default_rng(seed))
    assume(log.success.any())
    rows = np.concatenate([np.flatnonzero(log.episode == k) for k in order if k < n])
    shuffled = Log(90 - log.episode[rows], log.state[rows], log.action[rows], log.success[rows])
    uniform = np.full(behaviour.shape, 1 / mdp.n_actions)
    one, two = (certify(x, behaviour, uniform) for x in (log, shuffled))
    np.testing.assert_allclose([*vars(one).values()], [*vars(two).values()], rtol=1e-9, atol=1e-12)


def test_more_confidence_promises_less():
    lows = [certify(a_log(), BEHAVIOUR, POLICY, confidence=c).low for c in (0.5, 0.8, 0.95, 0.99)]
    assert (np.diff(lows) < 0).all()


def test_a_million_rows_take_no_second():
    n = 500_000
    log = Log(
        np.repeat(np.arange(n), 2), np.tile([0, 1], n), np.zeros(2 * n, int), np.ones(2 * n, bool)
    )
    found = certify(log, [[0.5, 0.5]] * 2, [[0.75, 0.25], [0.5, 0.5]])
    assert found.floor == pytest.approx(1.5)


# The certificate


@given(mdps_with_policies(full_support=False), st.data())
def test_no_policy_does_worse_than_its_certificate(case, data):
    mdp, behaviour = case
    policy = data.draw(policies_of(mdp, full_support=False))
    e = evaluate(mdp, behaviour)
    assume(e.success_rate > 0 and np.isfinite(excess(e, behaviour)))
    floor = e.success_rate * np.exp(loss_drop(e, policy))
    assert floor <= success_rate(mdp, policy) * (1 + 1e-9) + 1e-12


@given(acyclic_exact_mdps(), st.data())
def test_certificate_by_listing_all_successes(case, data):
    mdp, behaviour = case
    table = as_floats(mdp)
    new = data.draw(policies_of(table))
    old = np.array(behaviour, dtype=float)
    rho, drop, reweighted = 0.0, 0.0, 0.0
    for episode in Listed.of(mdp, behaviour).episodes():
        if episode.success:
            p = float(episode.probability)
            x = sum(np.log(new[s, a] / old[s, a]) for s, a in episode.decisions)
            rho, drop, reweighted = rho + p, drop + p * x, reweighted + p * np.exp(x)
    e, rate = evaluate(table, old), success_rate(table, new)
    assert drop / rho == pytest.approx(loss_drop(e, new), abs=1e-9)
    assert reweighted == pytest.approx(rate, rel=1e-9)
    assert rho * np.exp(drop / rho) <= rate * (1 + 1e-9)


def test_a_policy_that_hardly_ever_ends_is_certified_too():
    # Wait or shoot. Who always waits never ends; who nearly always waits succeeds half of the time.
    wait = np.array([[[1.0], [0.0]]])
    mdp = SuccessMDP.from_dense(wait, [[0, 0.5]], [1])
    e = evaluate(mdp, [[0.5, 0.5]])
    assert e.success_rate * np.exp(loss_drop(e, np.array([[1.0, 0.0]]))) == 0
    slow = np.array([[1 - 1e-6, 1e-6]])
    assert e.success_rate * np.exp(loss_drop(e, slow)) <= success_rate(mdp, slow)


def test_the_certificate_needs_the_behaviours_own_wins():
    lake = icy_lake()
    uniform = np.full(lake.success.shape, 0.25)
    imitator = condition_on_success(uniform, evaluate(lake, uniform).Q)
    others = sample_log(lake, imitator, 100_000, rng=np.random.default_rng(1))
    assert certify(others, uniform, imitator).low > success_rate(lake, imitator)


def test_the_certificate_needs_fresh_wins():
    lake = icy_lake()
    uniform, promised = np.full(lake.success.shape, 0.25), []
    for seed in range(20):
        log = sample_log(lake, uniform, 1_000, rng=np.random.default_rng(seed))
        wins = np.full(uniform.shape, 0.01)
        np.add.at(wins, (log.state[log.success], log.action[log.success]), 1)
        learnt = wins / wins.sum(axis=1, keepdims=True)
        floor = certify(log, uniform, learnt).floor
        promised.append(floor / success_rate(lake, learnt))
    assert np.mean(np.array(promised) > 1.2) > 0.8


def readings(mdp, behaviour, policy, n, repeats, seed):
    """Certificates from many logs of n episodes; a log without a success promises nothing."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(repeats):
        log = sample_log(mdp, behaviour, n, rng=rng)
        if log.success.any():
            c = certify(log, behaviour, policy)
            found.append((c.importance, c.floor, c.low))
        else:
            found.append((0.0, 0.0, 0.0))
    return np.array(found).T


def settings():
    lake = icy_lake()
    uniform = np.full(lake.success.shape, 0.25)
    pi_plus = condition_on_success(uniform, evaluate(lake, uniform).Q)
    wins = sample_counts(lake, uniform, 1_000, rng=np.random.default_rng(3)).successes + 0.1
    overfit = wins / wins.sum(axis=1, keepdims=True)
    arms, old = bandit([0.05, 0.1, 0.3]), np.array([[0.6, 0.3, 0.1]])
    good, bold = np.array([[0.1, 0.2, 0.7]]), np.array([[0.001, 0.2, 0.799]])
    coin, rare = bandit([0.5, 0.5]), np.array([[0.99, 0.01]])
    forgets = np.array([[1 - 1e-9, 1e-9]])
    # mdp, behaviour, policy, episodes, least coverage of the floor
    return {
        "imitator, 4 wins": (lake, uniform, pi_plus, 300, 0.93),
        "imitator, 28 wins": (lake, uniform, pi_plus, 2_000, 0.92),
        "overfit, 28 wins": (lake, uniform, overfit, 2_000, 0.90),
        "arms, 3 wins": (arms, old, good, 30, 0.90),
        "arms, 9 wins": (arms, old, good, 100, 0.93),
        "arms, 90 wins": (arms, old, good, 1_000, 0.93),
        "bold, 3 wins": (arms, old, bold, 30, 0.84),
        "forgets a rare win, 10 wins": (coin, rare, forgets, 20, 0.84),
        "forgets a rare win, 50 wins": (coin, rare, forgets, 100, 0.70),
        "never fails, 100 wins": (bandit([1, 1]), np.array([[0.98, 0.02]]), forgets, 100, 0.82),
    }


@pytest.mark.parametrize("name", settings())
def test_coverage_of_the_lower_bound(name):
    mdp, behaviour, policy, n, least = settings()[name]
    _, _, low = readings(mdp, behaviour, policy, n, 1_000 if mdp.n_states == 1 else 500, seed=5)
    e = evaluate(mdp, behaviour)
    floor = e.success_rate * np.exp(loss_drop(e, policy))
    # The promise that matters; the standard error of a coverage of 0.97 is below 0.008.
    assert (low <= success_rate(mdp, policy)).mean() > 0.96
    assert (low <= floor).mean() > least


def test_a_tail_that_no_log_shows_costs_the_floor_its_coverage():
    mdp, behaviour, policy, n, _ = settings()["forgets a rare win, 50 wins"]
    _, _, low = readings(mdp, behaviour, policy, n, 1_000, seed=6)
    e = evaluate(mdp, behaviour)
    assert (low <= e.success_rate * np.exp(loss_drop(e, policy))).mean() < 0.85


def test_the_importance_average_is_unbiased():
    arms, old, good = bandit([0.05, 0.1, 0.3]), [[0.6, 0.3, 0.1]], [[0.1, 0.2, 0.7]]
    log = sample_log(arms, np.array(old), 1_000_000, rng=np.random.default_rng(8))
    rate = 0.1 * 0.05 + 0.2 * 0.1 + 0.7 * 0.3
    square = 0.1**2 / 0.6 * 0.05 + 0.2**2 / 0.3 * 0.1 + 0.7**2 / 0.1 * 0.3
    error = np.sqrt((square - rate**2) / 1_000_000)
    assert error < 0.006 * rate
    assert abs(certify(log, old, good).importance - rate) < 4 * error


def test_the_importance_average_spreads_more_than_the_floor():
    mdp, behaviour, policy, n, _ = settings()["overfit, 28 wins"]
    importance, floor, _ = readings(mdp, behaviour, policy, n, 200, seed=7)
    assert importance.std() > 5 * floor.std()


# Skill less excess, and what has no luck


@given(mdps_with_policies(), st.data())
def test_skill_less_excess(case, data):
    mdp, behaviour = case
    policy, e = data.draw(policies_of(mdp)), evaluate(mdp, behaviour)
    skill = luck_decomposition(mdp, e).skill
    assert loss_drop(e, policy) == pytest.approx(skill - excess(e, policy), abs=1e-9)
    floor = e.success_rate * np.exp(skill - excess(e, policy))
    assert floor <= success_rate(mdp, policy) * (1 + 1e-9)


@given(acyclic_exact_mdps(deterministic=True, fixed_start=True), st.data())
def test_without_luck_the_shortfall_is_at_most_the_excess(case, data):
    mdp, behaviour = case
    table, old = as_floats(mdp), np.array(behaviour, dtype=float)
    new = data.draw(policies_of(table))
    lost = excess(evaluate(table, old), new)
    assert 1 - success_rate(table, new) <= 1 - np.exp(-lost) + 1e-9


def test_with_luck_even_the_exact_imitator_fails():
    lake = icy_lake()
    e = evaluate(lake, np.full(lake.success.shape, 0.25))
    pi_plus = condition_on_success(e.policy, e.Q)
    assert excess(e, pi_plus) == 0
    assert 1 - success_rate(lake, pi_plus) > 0.9


# The two-sided bound


def both_ratios(mdp, e):
    exact = evaluate(mdp, condition_on_success(e.policy, e.Q))
    seen = exact.visits > 1e-12
    ratio = exact.visits[seen] / successful_visits(e)[seen]
    return exact, ratio.max(), (1 / ratio).max()


@given(mdps_with_policies(), st.data())
def test_two_sided_bounds(case, data):
    mdp, behaviour = case
    policy, e = data.draw(policies_of(mdp)), evaluate(mdp, behaviour)
    exact, M, _ = both_ratios(mdp, e)
    gap = abs(success_rate(mdp, policy) - exact.success_rate)
    tv = total_variation(exact.policy, policy)
    assert gap <= exact.visits @ tv + 1e-9
    assert exact.visits @ tv <= M * (successful_visits(e) @ tv) + 1e-9
    kl = kl_divergence(exact.policy, policy)
    assert gap <= np.sqrt(exact.visits @ kl / 2) + 1e-9
    assert exact.visits @ kl <= M * excess(e, policy) + 1e-9


def test_the_two_sided_bound_needs_no_policy_that_ends():
    # Wait, or shoot and succeed with 0.8 or 0.2. Who always waits never ends: Q is (0, 0.8, 0.2).
    mdp = SuccessMDP.from_dense([[[1], [0], [0]]], [[0, 0.8, 0.2]], [1])
    e = evaluate(mdp, np.full((1, 3), 1 / 3))
    exact, _, _ = both_ratios(mdp, e)
    always_waits = np.array([[1.0, 0, 0]])
    gap = (exact.visits @ (exact.policy - always_waits)) @ [0, 0.8, 0.2]
    assert gap == pytest.approx(exact.success_rate - 0) == pytest.approx(0.68)
    assert exact.visits @ total_variation(exact.policy, always_waits) == pytest.approx(1)


def fork(start):
    """State 0 leads to 1 or 2; 1 succeeds; in 2 the first action succeeds, and is rare."""
    moves = np.zeros((3, 2, 3))
    moves[0, :, 1:] = 0.5
    mdp = SuccessMDP.from_dense(moves, [[0, 0], [1, 1], [1, 0]], start)
    return mdp, np.array([[0.5, 0.5], [0.5, 0.5], [0.01, 0.99]]), np.full((3, 2), 0.5)


@pytest.mark.parametrize("start", [[1, 0, 0], [0, 0.5, 0.5]])
def test_the_ratio_as_printed_and_a_ratio_of_one_are_wrong(start):
    mdp, behaviour, policy = fork(start)
    e = evaluate(mdp, behaviour)
    exact, M, upside_down = both_ratios(mdp, e)
    lost = excess(e, policy)
    gap = exact.success_rate - success_rate(mdp, policy)
    assert gap == pytest.approx(1 / 4, rel=1e-12)
    assert lost == pytest.approx(np.log(2) / 101, rel=1e-12)  # d_+ of state 2 is 1/101
    assert M == pytest.approx(101 / 2, rel=1e-12)
    assert upside_down == pytest.approx(200 / 101, rel=1e-12)
    assert np.sqrt(lost / 2) < np.sqrt(upside_down * lost / 2) < gap < np.sqrt(M * lost / 2)


def test_random_processes_hide_the_wrong_ratio():
    rng = np.random.default_rng(2)
    for p in rng.dirichlet(np.full(7, 0.3), (600, 5, 3)):
        mdp = SuccessMDP.from_dense(p[..., :5], p[..., 5], [0.2] * 5)
        old, new = rng.dirichlet(np.ones(3), (2, 5))
        e = evaluate(mdp, old)
        exact, _, upside_down = both_ratios(mdp, e)
        gap = abs(exact.success_rate - success_rate(mdp, new))
        assert gap <= np.sqrt(upside_down * excess(e, new) / 2)


def prompts_and_tokens(rng, n_prompts=4, n_tokens=3):
    """Prompt x, then two tokens; a random half of the answers is right. No luck but the prompt."""
    K = n_tokens
    S = n_prompts * (1 + K)
    moves, success = np.zeros((S, K, S)), np.zeros((S, K))
    for x in range(n_prompts):
        for a in range(K):
            prefix = n_prompts + x * K + a
            moves[x, a, prefix] = 1
            success[prefix] = rng.random(K) < 0.5
            success[prefix, rng.integers(K)] = 1  # success is possible everywhere
    start = np.append(rng.dirichlet(np.ones(n_prompts)), np.zeros(n_prompts * K))
    return SuccessMDP.from_dense(moves, success, start)


@pytest.mark.parametrize("seed", range(10))
def test_the_ratio_along_a_prompt(seed):
    rng = np.random.default_rng(seed)
    mdp = prompts_and_tokens(rng)
    e = evaluate(mdp, rng.dirichlet(np.ones(3), 16))
    exact, M, _ = both_ratios(mdp, e)
    prompt = np.append(np.arange(4), np.repeat(np.arange(4), 3))
    ratio = exact.visits / successful_visits(e)
    np.testing.assert_allclose(ratio, e.success_rate / e.V[prompt], rtol=1e-9)
    assert pytest.approx((e.success_rate / e.V[:4]).max(), rel=1e-9) == M


def test_from_a_fixed_start_the_ratio_is_one_without_luck():
    lake = icy_lake(is_slippery=False)
    e = evaluate(lake, np.full(lake.success.shape, 0.25))
    _, M, upside_down = both_ratios(lake, e)
    np.testing.assert_allclose([M, upside_down], 1, rtol=1e-9)


# Prompts


@pytest.mark.parametrize("seed", range(10))
def test_balanced_loss(seed):
    rng = np.random.default_rng(seed)
    mdp = prompts_and_tokens(rng)
    old, new = rng.dirichlet(np.ones(3), (2, 16))
    e, mu = evaluate(mdp, old), mdp.initial[:4]
    lost = np.empty(4)
    for x in range(4):
        alone = SuccessMDP(mdp.transition, mdp.success, np.eye(16)[x])
        lost[x] = excess(evaluate(alone, old), new)
    rate = success_rate(mdp, new)
    by_prompt = mu @ np.exp(-lost)
    assert np.exp(-mu @ lost) <= by_prompt <= rate + 1e-12
    pooled = mu * e.V[:4] / e.success_rate
    assert excess(e, new) == pytest.approx(pooled @ lost, rel=1e-9)
    drops = np.log(1 / e.V[:4]) - lost
    assert e.success_rate * np.exp(loss_drop(e, new)) <= mu * e.V[:4] @ np.exp(drops) + 1e-12
    assert mu * e.V[:4] @ np.exp(drops) == pytest.approx(by_prompt, rel=1e-9)


@given(mdps_with_policies(), st.data())
def test_splitting_the_certificate_by_start_sharpens_it(case, data):
    mdp, behaviour = case
    policy, e = data.draw(policies_of(mdp)), evaluate(mdp, behaviour)
    split = 0.0
    for s in np.flatnonzero(mdp.initial):
        alone = SuccessMDP(mdp.transition, mdp.success, np.eye(mdp.n_states)[s])
        there = evaluate(alone, behaviour)
        split += mdp.initial[s] * there.success_rate * np.exp(loss_drop(there, policy))
    assert e.success_rate * np.exp(loss_drop(e, policy)) <= split * (1 + 1e-9)
    assert split <= success_rate(mdp, policy) * (1 + 1e-9)


def test_a_lower_pooled_loss_can_mean_a_lower_success_rate():
    # One answer for all: right with probability a on 30% of prompts, 1 - a on the others.
    mu, V = np.array([0.3, 0.7]), np.array([0.6, 0.05])
    share = mu * V / (mu @ V)
    assert share[0] == pytest.approx(36 / 43)
    scores = [(share @ -np.log([a, 1 - a]), mu @ [a, 1 - a]) for a in (share[0], mu[0])]
    assert scores[0][0] < scores[1][0]
    assert scores[0][1] < scores[1][1] == pytest.approx(0.58)


# Robust improvement


@given(mdps_with_policies(), st.data())
def test_robust_improvement(case, data):
    mdp, behaviour = case
    e, rival = evaluate(mdp, behaviour), data.draw(policies_of(mdp))
    pi_plus, I = condition_on_success(behaviour, e.Q), action_influence(behaviour, e.Q)
    for share in (0.01, 0.1, 0.5, 1):
        policy = (1 - share) * pi_plus + share * rival
        error = np.sqrt(((policy - pi_plus) ** 2 / behaviour).sum(axis=1))
        gain = relative_improvement(policy, behaviour, e.Q)
        assert (gain >= I - np.sqrt(I) * error - 1e-9).all()
        if (I > 1e-9).all():
            c = (1 - error / np.sqrt(I)).min()
            if 0 <= c:
                assert (evaluate(mdp, policy).V >= e.V * (1 + c * I) - 1e-9).all()


def test_an_error_as_large_as_the_influence_can_lose_all_of_it():
    base, q = np.full(3, 1 / 3), np.array([0.2, 0.5, 0.8])
    target = condition_on_success(base, q)
    I = action_influence(base, q)
    back = target - 1.2 * (target - base)  # straight through the behaviour
    error = np.sqrt(((back - target) ** 2 / base).sum())
    assert error == pytest.approx(1.2 * np.sqrt(I))
    assert back @ q / 0.5 - 1 == pytest.approx(I - np.sqrt(I) * error)
    assert back @ q < 0.5


def test_pearsons_statistic_and_the_error_of_shares():
    base, q, m = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.5, 0.8]), 40
    target, I = condition_on_success(base, q), action_influence(base, q)
    c_plus = (target * (1 - target) / base).sum()
    shares = np.random.default_rng(4).multinomial(m, target, 200_000) / m
    error_2 = ((shares - target) ** 2 / base).sum(axis=1)
    pearson = m * ((shares - base) ** 2 / base).sum(axis=1)
    for values, mean in [(m * error_2, c_plus), (pearson, m * I + c_plus)]:
        error = values.std() / 200_000**0.5
        assert abs(values.mean() - mean) < 4 * error < 0.01 * mean


# The price of a table


def mean_excess_on_ice(n, repeats, seed):
    rng, lake = np.random.default_rng(seed), icy_lake()
    e = evaluate(lake, np.full(lake.success.shape, 0.25))
    only_wins, pi_plus, lost = doob_transform(lake, e), condition_on_success(e.policy, e.Q), []
    for m in rng.binomial(n, e.success_rate, repeats):
        wins = sample_counts(only_wins, pi_plus, m, rng=rng).successes + 1
        lost.append(excess(e, wins / wins.sum(axis=1, keepdims=True)))
    law = 11 * 3 / (2 * n * e.success_rate)
    return np.mean(lost), np.std(lost) / repeats**0.5, law


def mean_log_of_one_more(n, p):
    """E log(N + 1) for a binomial N, summed term by term."""
    k = np.arange(n + 1)
    return binom.pmf(k, n, p) @ np.log1p(k)


@pytest.mark.parametrize("old", [[0.25] * 4, [0.4, 0.3, 0.2, 0.1]])
def test_price_of_a_table_without_a_draw(old):
    # One state and K = 4 actions, so S (K - 1) = 3. The counts are binomial, one by one.
    old, q = np.array(old), np.array([0.2, 0.3, 0.5, 0.6])
    rate, prices = old @ q, []
    target = condition_on_success(old, q)
    for n in (10_000, 20_000):
        logs = [mean_log_of_one_more(n, p) for p in old * q]
        k = np.arange(n + 1)
        total = binom.pmf(k, n, rate) @ np.log(k + 4)
        prices.append(n * (target @ np.log(target) + total - target @ logs))
    assert prices[0] == pytest.approx(3 / (2 * rate), rel=5e-3)
    assert 2 * prices[1] - prices[0] == pytest.approx(3 / (2 * rate), rel=1e-5)


def test_an_action_that_never_succeeds_costs_a_table_more():
    # Two winning actions, one that fails: its added one costs 1 / m, beside 1 / (2 m).
    n, m_of = 20_000, 0.5 * 20_000
    logs = mean_log_of_one_more(n, 0.25)
    k = np.arange(n + 1)
    price = np.log(0.5) + binom.pmf(k, n, 0.5) @ np.log(k + 3) - logs
    assert price == pytest.approx(1.5 / m_of, rel=5e-3)


def test_price_of_a_table_on_ice():
    mean, error, law = mean_excess_on_ice(200_000, 150, seed=10)
    assert error < 0.02 * law
    assert abs(mean - law) < 4 * error


def test_with_few_wins_the_law_of_the_price_is_too_large():
    mean, error, law = mean_excess_on_ice(2_000, 100, seed=11)
    assert mean + 4 * error < law


# Refusals


@pytest.mark.parametrize(
    ("behaviour", "policy", "message"),
    [
        (BEHAVIOUR[:1], POLICY, r"state\[2\] of the log is 1, but behaviour has shape \(1, 3\)"),
        (
            BEHAVIOUR,
            POLICY[:, :2] * 2,
            r"policy\[1\] must sum to 1, got 1.5",
        ),
        (
            BEHAVIOUR,
            [[0.5, 0.5]] * 2,
            r"action\[0\] of the log is 2, but policy has shape \(2, 2\)",
        ),
        (BEHAVIOUR, [0.5, 0.25, 0.25], r"policy must have shape \(S, A\), got \(3,\)"),
        (
            BEHAVIOUR,
            [*POLICY, POLICY[0]],
            r"must have the behaviour's shape \(2, 3\), got \(3, 3\)",
        ),
        ([[0.5, 0.5, 0], BEHAVIOUR[1]], POLICY, r"row 0 of the log plays behaviour\[0, 2\]"),
    ],
)
def test_a_policy_that_does_not_fit_the_log_is_refused(behaviour, policy, message):
    with pytest.raises(ValueError, match=message):
        certify(a_log(), behaviour, policy)


def test_a_loss_without_a_success_is_refused():
    log = Log([0, 1], [0, 0], [1, 0], [False, False])
    with pytest.raises(ValueError, match="no episode of the log succeeded"):
        negative_log_likelihood(log, [[0.5, 0.5]])
    with pytest.raises(ValueError, match="no episode of the log succeeded"):
        certify(log, [[0.5, 0.5]], [[0.5, 0.5]])


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, np.nan])
def test_confidence_is_a_probability(confidence):
    message = re.escape(f"confidence must lie between 0 and 1, got {confidence}")
    with pytest.raises(ValueError, match=message):
        certify(a_log(), BEHAVIOUR, POLICY, confidence=confidence)


# Language models: every answer can be listed


def answers(mdp, policy):
    """Every three-token answer of every prompt: its probability, and whether it is right."""
    D = mdp.n_actions - 2
    p = np.reshape(policy, (-1, 1 + 3 * D, D + 2))
    end = p[:, 1 + D :, :D].reshape(-1, D, 2, D)
    listed = p[:, 0, :D].reshape(-1, D, 1, 1) * p[:, 1 : 1 + D, D:, np.newaxis] * end
    right = mdp.success.reshape(p.shape)[:, 1 + D :, :D].reshape(end.shape) > 0
    return listed.reshape(len(p), -1), right.reshape(len(p), -1)


@given(st.integers(0, 2**32))
def test_every_right_answer_has_the_same_nats(seed):
    mdp = expressions(3)
    pi_0 = np.random.default_rng(seed).dirichlet(np.ones(5), mdp.n_states)
    e = evaluate(mdp, pi_0)
    before, right = answers(mdp, pi_0)
    after, _ = answers(mdp, condition_on_success(pi_0, e.Q))
    V = (before * right).sum(axis=1)
    lift = np.where(right, after / before, np.nan)
    np.testing.assert_allclose(np.nanmin(lift, axis=1), 1 / V, rtol=1e-9)
    np.testing.assert_allclose(np.nanmax(lift, axis=1), 1 / V, rtol=1e-9)
    np.testing.assert_allclose((after * right).sum(axis=1), 1, rtol=1e-9)
    nats = luck_decomposition(mdp, e)
    assert nats.skill == pytest.approx(V / V.sum() @ np.log(1 / V), rel=1e-9)
    assert nats.transition == pytest.approx(0, abs=1e-12)


def test_a_verifier_that_errs_gives_answers_different_nats():
    noisy = bandit([0.2, 0.6])
    lift = condition_on_success([[0.5, 0.5]], noisy.success) / 0.5
    assert lift[0, 1] == pytest.approx(3 * lift[0, 0])  # V = 0.4: neither is 1 / V
    assert lift.max() < 1 / 0.4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_first_success_of_n_tries_by_listing_all_tries(n):
    p, right = np.array([0.5, 0.2, 0.2, 0.1]), np.array([False, True, False, True])
    kept = np.zeros(4)
    for tries in np.ndindex(*[4] * n):
        good = [a for a in tries if right[a]]
        kept[good[0] if good else tries[0]] += np.prod(p[list(tries)])
    V, c = 0.3, 1 - 0.7**n
    np.testing.assert_allclose(kept[right], c * p[right] / V, rtol=1e-12)
    np.testing.assert_allclose(kept[~right], (1 - c) * p[~right] / (1 - V), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 50])
def test_best_of_n_with_its_failures_reaches_pass_at_n(rng, n):
    mdp = expressions(3)
    pi_0 = rng.dirichlet(np.ones(5), mdp.n_states)
    e = evaluate(mdp, pi_0)
    V = e.V[mdp.initial > 0]
    c = 1 - (1 - V) ** n
    up, down = (np.repeat(x, 10)[:, np.newaxis] for x in (c / V, (1 - c) / (1 - V)))
    kept = up * e.Q + down * (1 - e.Q)
    imitator = condition_on_success(pi_0, kept / kept.max())
    assert evaluate(mdp, imitator).success_rate == pytest.approx(c.mean(), rel=1e-9)


def test_with_random_transitions_the_imitator_of_best_of_n_falls_short_of_pass_at_n():
    # One action leads on with probability 1/2: among 4 tries 15/16 have a success, which the
    # only policy cannot repeat.
    coin = SuccessMDP.from_dense([[[0, 0.5]], [[0, 0]]], [[0], [1]], [1, 0])
    e = evaluate(coin, np.ones((2, 1)))
    assert e.V[0] == 0.5
    kept = condition_on_success(e.policy, e.Q)
    assert evaluate(coin, kept).success_rate == 0.5 < 1 - 0.5**4


@pytest.mark.parametrize("n", [1, 3, 10])
def test_best_of_n_climbs_a_sum_of_failures(rng, n):
    logits, right = rng.normal(size=(2, 5)), np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])

    def chance(logits):
        p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        return p, (p * right).sum(axis=1)

    def objective(logits):
        return -sum((1 - chance(logits)[1]) ** k / k for k in range(1, n + 1)).mean()

    p, V = chance(logits)
    success = p * right / V[:, np.newaxis]
    weight = (1 - (1 - V) ** n)[:, np.newaxis] / 2
    slope = weight * (success - p)  # of the log-likelihood of what is kept
    for where in np.ndindex(2, 5):
        step = np.zeros((2, 5))
        step[where] = 1e-6
        numeric = (objective(logits + step) - objective(logits - step)) / 2e-6
        assert slope[where] == pytest.approx(numeric, rel=1e-5, abs=1e-9)


@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=6), st.integers(1, 200))
def test_pass_at_k_lies_between_powers_of_the_hardest_prompt(V, k):
    mu = np.arange(1.0, len(V) + 1)
    mu /= mu.sum()
    missed, v = mu @ (1 - np.array(V)) ** k, min(V)
    assert mu[np.argmin(V)] * (1 - v) ** k <= missed * (1 + 1e-12)
    assert missed <= (1 - v) ** k * (1 + 1e-12)


def test_at_many_tries_the_hardest_prompt_is_all_that_is_missed():
    V, mu, k = np.array([0.02, 0.3]), np.array([0.25, 0.75]), 400
    assert mu @ (1 - V) ** k == pytest.approx(0.25 * 0.98**k, rel=1e-9)
    assert mu @ (1 - np.array([0.1, 0.1])) ** k == pytest.approx(0.9**k, rel=1e-9)


def test_a_model_that_is_right_more_often_can_pass_less():
    able, even = np.array([0.99, 0.99, 0.001]), np.array([0.05, 0.05, 0.05])

    def passed(V, k):
        return 1 - ((1 - V) ** k).mean()

    assert passed(able, 1) > 10 * passed(even, 1)
    assert passed(able, 1000) < passed(even, 1000) - 0.1


class Writer:
    """Expressions of three digits, and a small network that was taught to guess them."""

    def __init__(self):
        self.rng, self.mdp = np.random.default_rng(16), expressions(3)
        labels = [label.split("=") for label in self.mdp.labels.tolist()]
        numbers = sorted({number for number, _ in labels})
        read = [[5 + numbers.index(n), *map("123+×".index, t)] for n, t in labels]
        self.last = np.array([len(tokens) - 1 for tokens in read])
        padded = [tokens + [-1] * (3 - len(tokens)) for tokens in read]
        self.x = networks.one_hot(padded, 5 + len(numbers))
        write = np.zeros((len(numbers), 10, 5))
        write[:, 0, :3] = write[:, 4:, :3] = 1 / 3
        write[:, 1:4, 3:] = 1 / 2
        log = sample_log(self.mdp, write.reshape(-1, 5), 2000, rng=self.rng)
        new = networks.new_transformer(5 + len(numbers), 5, 3, width=32, heads=4, rng=self.rng)
        self.start = self.teach(new, self.rows(log, slice(None)), 80, 0.005)
        self.base = evaluate(self.mdp, self.policy(self.start))

    def rows(self, log, where):
        return log.state[where].reshape(-1, 3), log.action[where].reshape(-1, 3)

    def policy(self, network):
        logs = networks.log_probabilities(network, self.x)
        return np.exp(logs[np.arange(len(self.x)), self.last])

    def teach(self, network, data, steps=120, rate=0.01, **options):
        state, action = data
        return networks.train(
            network,
            self.x[state[:, 2]],
            action,
            np.ones(action.shape),
            steps=steps,
            batch=64,
            rate=rate,
            rng=self.rng,
            **options,
        )

    def wins(self, policy, n=1500):
        log = sample_log(self.mdp, policy, n, rng=self.rng)
        return self.rows(log, log.success)

    def rate(self, network):
        return evaluate(self.mdp, self.policy(network)).success_rate

    def drop(self, network):
        e = self.base
        return excess(e, e.policy) - excess(e, self.policy(network))


@pytest.fixture(scope="module")
def writer():
    return Writer()


def test_one_round_teaches_a_network_and_its_loss_never_promises_too_much(writer):
    rho_0, nats = writer.base.success_rate, luck_decomposition(writer.mdp, writer.base)
    assert rho_0 == pytest.approx(1 / 7, rel=0.1)
    fresh = sample_log(writer.mdp, writer.base.policy, 20_000, rng=writer.rng)
    for _ in range(3):
        seen = []
        writer.teach(
            writer.start,
            writer.wins(writer.base.policy),
            watch=lambda step, net, seen=seen: seen.append(net) if step % 30 == 0 else None,
        )
        for net in seen:
            drop, rate = writer.drop(net), writer.rate(net)
            assert rho_0 * np.exp(drop) <= rate * (1 + 1e-9)
            assert drop <= nats.skill <= np.log(1 / rho_0)
            assert certify(fresh, writer.base.policy, writer.policy(net)).low < rate
        assert writer.rate(seen[-1]) > 0.8 > 5 * rho_0


def test_answers_without_a_verdict_teach_nothing(writer):
    state, action = writer.wins(writer.base.policy)
    log = sample_log(writer.mdp, writer.base.policy, 2 * len(state), rng=writer.rng)
    whole = np.repeat(np.bincount(log.episode) == 3, np.bincount(log.episode))
    random = [x[: len(state)] for x in writer.rows(log, whole)]
    shuffled = 10 * (writer.rng.permutation(state)[:, :1] // 10) + state % 10
    for data in (random, (shuffled, action)):
        net = writer.teach(writer.start, data)
        assert writer.rate(net) < 2 * writer.base.success_rate
        assert writer.drop(net) < 0.1


def test_a_prompt_without_a_success_is_not_learnt(writer):
    state, action = writer.wins(writer.base.policy)
    prompt = int(np.bincount(state[:, 0]).argmax())
    known = state[:, 0] != prompt
    net = writer.teach(writer.start, (state[known], action[known]))
    V = evaluate(writer.mdp, writer.policy(net)).V
    others = (writer.mdp.initial > 0) & (np.arange(V.size) != prompt)
    assert V[prompt] < 0.5 < 0.85 < V[others].mean()


def test_rounds_raise_success_and_consume_diversity(writer):
    def differ(network):
        p, right = answers(writer.mdp, writer.policy(network))
        p = p * right / (p * right).sum(axis=1, keepdims=True)
        return 1 - (p**2).sum(axis=1).mean()

    network, rates, spread = writer.start, [], [differ(writer.start)]
    for _ in range(4):
        network = writer.teach(network, writer.wins(writer.policy(network), 600))
        rates.append(writer.rate(network))
        spread.append(differ(network))
    assert rates[-1] > rates[0] > 0.75
    assert rates[-1] > 0.97
    assert spread[-1] < spread[0] - 0.02
