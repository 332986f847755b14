"""What a log tells of influence: the statements of the chapter, by other roads than its cells."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

import sc_utils as sc
from tests.strategies import mdps_with_policies

BASE = [Fraction(1, 6), Fraction(1, 3), Fraction(1, 2)]
PLUS = [Fraction(3, 10), Fraction(6, 10), Fraction(1, 10)]
SAMPLES = list(product(range(3), repeat=4))  # every way in which four successes can act
CHANCES = [np.prod([PLUS[a] for a in acts]) for acts in SAMPLES]
INFLUENCE = sum(p**2 / q for p, q in zip(PLUS, BASE, strict=True)) - 1
NOISE = sum(p * (1 - p) / q for p, q in zip(PLUS, BASE, strict=True))


def all_samples() -> sc.Log:
    """All samples in one log: each is a state, each success an episode."""
    actions = np.array(SAMPLES).ravel()
    rows = np.arange(actions.size)
    return sc.Log(rows, rows // 4, actions, np.ones(rows.size, dtype=bool))


def behaviour(n_states: int) -> np.ndarray:
    return np.tile(np.array(BASE, dtype=float), (n_states, 1))


def second_moment(process, policy, score):
    """E[(sum of scores)^2] over an episode, and the mean, by two linear systems."""
    S, A = policy.shape
    P = process.transition.toarray().reshape(S, A, S)
    step = np.eye(S) - np.einsum("sa,sat->st", policy, P)
    mean = np.linalg.solve(step, (policy * score).sum(axis=1))
    gained = score**2 + 2 * score * (P @ mean)
    square = np.linalg.solve(step, (policy * gained).sum(axis=1))
    return process.initial @ mean, process.initial @ square


# Bias, pairs and their variance


def test_the_plug_in_is_too_large_by_its_noise_in_rationals():
    counts = sc.Counts.from_log(all_samples(), len(SAMPLES), 3).successes
    shares = [[Fraction(int(n), 4) for n in row] for row in counts]
    plug_in = [sum(p**2 / q for p, q in zip(row, BASE, strict=True)) - 1 for row in shares]
    mean = sum(c * x for c, x in zip(CHANCES, plug_in, strict=True))
    assert mean == INFLUENCE + NOISE / 4


def test_without_influence_the_noise_is_one_less_than_the_actions():
    assert sum(q * (1 - q) / q for q in BASE) == 2


def test_pairs_are_unbiased_and_vary_as_stated():
    value = sc.estimate_influence(all_samples(), behaviour(len(SAMPLES))).value
    chances = np.array(CHANCES, dtype=float)
    ratio = [p / q for p, q in zip(PLUS, BASE, strict=True)]
    alike = INFLUENCE + 1
    zeta_1 = sum(p * w**2 for p, w in zip(PLUS, ratio, strict=True)) - alike**2
    zeta_2 = sum(w**2 for w in ratio) - alike**2
    np.testing.assert_allclose(chances @ value, float(INFLUENCE), rtol=1e-12)
    variance = float((4 * 2 * zeta_1 + 2 * zeta_2) / (4 * 3))
    np.testing.assert_allclose(chances @ value**2 - float(INFLUENCE) ** 2, variance, rtol=1e-11)


def test_cutting_at_zero_brings_the_bias_back():
    value = sc.estimate_influence(all_samples(), behaviour(len(SAMPLES))).value
    fair = np.array([np.prod([BASE[a] for a in acts]) for acts in SAMPLES], dtype=float)
    assert abs(fair @ value) < 1e-12
    assert fair @ np.maximum(value, 0) > 0.1


def compared_by_episodes(visits):
    """Pairs of different episodes that visit so often and play action 0 in the last visit only."""
    m, n, n2 = visits.shape[1], visits.sum(axis=1), (visits**2).sum(axis=1)
    last, before = m * (m - 1), (n - m) ** 2 - ((visits - 1) ** 2).sum(axis=1)
    return 2 * (last + before) / (n**2 - n2) - 1


def test_the_estimate_compares_different_episodes():
    visits = np.array([[3, 1, 2, 1], [1, 1, 5, 4]])
    many, ends = visits.ravel(), np.cumsum(visits)
    action = np.ones(many.sum(), dtype=int)
    action[ends - 1] = 0
    log = sc.Log(np.repeat(np.arange(8), many), np.repeat([0, 1], [7, 11]), action, action >= 0)
    found = sc.estimate_influence(log, np.full((2, 2), 0.5))
    np.testing.assert_allclose(found.value, compared_by_episodes(visits), rtol=1e-12)


@pytest.mark.parametrize(("m", "bias"), [(2, 0.5969), (10, 1.262), (40, 1.44)])
def test_where_visits_recur_the_bias_without_influence_is_of_second_order(m, bias):
    visits = np.random.default_rng(m).geometric(0.5, (400_000, m)).astype(float)
    off = m**2 * compared_by_episodes(visits)
    error = off.std() / np.sqrt(off.size)
    # in the limit 6 sum_a Cov(N_a - N / 2, N)^2 / pi_0 / E[N]^4 = 6 * (1 / 0.5 + 1 / 0.5) / 16
    assert abs(off.mean() - bias) < 4 * error < 0.25
    assert bias < 1.5


@pytest.mark.parametrize("m", [20, 40])
def test_where_visits_recur_the_bias_with_influence_is_of_first_order(m):
    # b leads back, half of the time, and else to failure: in successes a ends and b returns
    loop = sc.SuccessMDP.from_dense([[[0.0], [0.5]]], [[1.0, 0.0]], [1])
    e = sc.evaluate(loop, [[0.5, 0.5]])
    ends = sc.condition_on_success(e.policy, e.Q)[0, 0]
    visits = np.random.default_rng(m).geometric(ends, (400_000, m)).astype(float)
    off = m * (compared_by_episodes(visits) - sc.action_influence(e.policy, e.Q)[0])
    error = off.std() / np.sqrt(off.size)
    # -4 sum_a w Cov(N_a - pi_+ N, N) / E[N]^2 = -4 * (3/2 - 1/2) * (-1/3) * 9/16
    assert abs(off.mean() - 0.75) < 4 * error < 0.04


# Test, interval, sample size


@pytest.mark.parametrize(("K", "influence"), [(2, 0.0), (4, 0.004), (12, 0.01)])
def test_pearson_of_successes_has_the_noncentral_law(K, influence):
    rng, m, n = np.random.default_rng(K), 4000, 20_000
    plus = (1 + np.sqrt(influence) * (-1.0) ** np.arange(K)) / K
    statistic = K / m * (rng.multinomial(m, plus, n) ** 2).sum(axis=1) - m
    mean = m * influence + K * (plus * (1 - plus)).sum()
    assert abs(statistic.mean() - mean) < 4 * statistic.std() / np.sqrt(n)
    law = stats.ncx2(K - 1, m * influence) if influence else stats.chi2(K - 1)
    levels = np.array([0.1, 0.5, 0.9])
    reached = [(statistic <= x).mean() for x in law.ppf(levels)]
    grain = 0.03 if K == 2 else 0.015  # the statistic is discrete
    np.testing.assert_allclose(reached, levels, atol=grain)


def test_at_a_fixed_influence_the_noncentral_law_has_the_wrong_spread():
    rng, m = np.random.default_rng(5), 2000
    base, q = np.array([0.05, 0.45, 0.5]), np.array([0.5, 0.08, 0.08])
    plus = base * q / (base @ q)
    influence = (plus**2 / base).sum() - 1
    shares = rng.multinomial(m, plus, 20_000) / m
    statistic = m * ((shares**2 / base).sum(axis=1) - 1)
    assumed = stats.ncx2(2, m * influence).std()
    zeta = (plus * (plus / base) ** 2).sum() - (1 + influence) ** 2
    assert statistic.std() > 1.9 * assumed
    np.testing.assert_allclose(statistic.std(), np.sqrt(4 * m * zeta), rtol=0.03)


@pytest.mark.parametrize("rates", [[0.2, 0.6, 0.3], [0.9, 0.1, 0.1], [0.3, 0.3, 0.2]])
def test_from_many_successes_the_interval_is_the_normal_one(rates):
    base, m = np.array(BASE, dtype=float), 400_000
    counts = np.round(m * sc.condition_on_success(base, rates)).astype(int)
    actions = np.repeat([0, 1, 2], counts)
    rows = np.arange(actions.size)
    log = sc.Log(rows, np.zeros_like(rows), actions, rows >= 0)
    found = sc.estimate_influence(log, behaviour(1))
    shares = counts / counts.sum()
    ratio = shares / base
    spread = np.sqrt(shares @ ratio**2 - (shares @ ratio) ** 2)
    error = 1.959964 * 2 * spread / np.sqrt(m)
    ends = np.array([found.low[0], found.high[0]]) - found.value[0]
    np.testing.assert_allclose(ends, [-error, error], rtol=0.02)


def test_ten_even_throws_have_the_interval_of_the_law():
    rows = np.arange(10)
    log = sc.Log(rows, np.zeros_like(rows), rows % 2, rows >= 0)
    found = sc.estimate_influence(log, [[0.5, 0.5]])
    np.testing.assert_allclose(found.value, -1 / 9, rtol=1e-12)  # 2 (20 + 20) / 90 - 1
    _, high = sc.noncentral_interval(0.0, 1)
    np.testing.assert_allclose([found.low[0], found.high[0]], [0, high / 10], rtol=1e-9)


@pytest.mark.parametrize("K", [2, 3, 12])
def test_the_successes_needed_give_the_power(K):
    rng, influence, n = np.random.default_rng(K), 0.004, 20_000
    m = round(sc.successes_needed(influence, K, level=0.01, power=0.6))
    signs = np.resize([1.0, -1.0], K)
    tilt = (signs - signs.mean()) / signs.std()
    counts = rng.multinomial(m, (1 + np.sqrt(influence) * tilt) / K, n)
    statistic = K / m * (counts**2).sum(axis=1) - m
    found = (statistic > stats.chi2.isf(0.01, K - 1)).mean()
    assert abs(found - 0.6) < 0.02


def test_the_two_close_arms_need_78489_successes():
    assert round(sc.successes_needed(1e-4, 2)) == 78_489
    assert round(2 * sc.successes_needed(1e-4, 2)) == 156_977


def test_at_a_large_influence_the_successes_needed_are_a_rough_guide():
    m = round(sc.successes_needed(0.9, 2))
    binomial = stats.binom(m, (1 + np.sqrt(0.9)) / 2)
    heads = np.arange(m + 1)
    rejects = (2 * heads - m) ** 2 / m > stats.chi2.isf(0.05, 1)
    assert binomial.pmf(heads)[rejects].sum() > 0.95  # instead of 0.8


# Failures


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=5))
def test_the_rarer_outcome_carries_the_news_in_rationals(arms):
    weight = sum(w for w, _ in arms)
    pi, Q = [Fraction(w, weight) for w, _ in arms], [Fraction(q, 10) for _, q in arms]
    V = sum(p * q for p, q in zip(pi, Q, strict=True))

    def signal(shares, size):  # Pearson's statistic of exact frequencies
        return size * sum((x - p) ** 2 / p for x, p in zip(shares, pi, strict=True))

    won = signal([p * q / V for p, q in zip(pi, Q, strict=True)], V)
    lost = signal([p * (1 - q) / (1 - V) for p, q in zip(pi, Q, strict=True)], 1 - V)
    table = sum(
        (p * x - p * y) ** 2 / (p * y)
        for p, q in zip(pi, Q, strict=True)
        for x, y in [(q, V), (1 - q, 1 - V)]
    )
    assert (won, lost) == ((1 - V) * table, V * table)


def test_compared_with_all_plays_the_successes_have_less_to_say():
    rng = np.random.default_rng(8)
    for _ in range(20):
        won, lost = rng.integers(1, 50, (2, 4)).astype(float)
        m, n = won.sum(), (won + lost).sum()
        own = (won**2 / (won + lost)).sum() * n / m - m
        table = stats.contingency.chi2_contingency([won, lost], correction=False).statistic
        np.testing.assert_allclose(own, (1 - m / n) * table, rtol=1e-10)


def test_post_stratification_saves_a_weighted_mean_of_the_success_rates():
    pi, Q = np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.6, 0.9])

    def stratified(rates):
        return pi * rates / (pi @ rates)

    slope = np.array([stratified(Q + h) - stratified(Q - h) for h in 1e-6 * np.eye(3)]) / 2e-6
    variance = (slope**2 * (Q * (1 - Q) / pi)[:, np.newaxis]).sum(axis=0)  # times n
    plus, V = stratified(Q), pi @ Q
    plain = plus * (1 - plus) / V
    u = (np.eye(3) - plus[:, np.newaxis]) ** 2
    saved = u @ (pi * Q**2) / (u @ (pi * Q))
    np.testing.assert_allclose(variance / plain, 1 - saved, rtol=1e-7)
    assert (saved > Q.min()).all()
    assert (saved < Q.max()).all()


def test_where_nothing_succeeds_often_post_stratification_saves_nothing():
    pi, Q = np.array([0.5, 0.3, 0.2]), np.array([0.003, 0.006, 0.009])
    plus = pi * Q / (pi @ Q)
    u = (np.eye(3) - plus[:, np.newaxis]) ** 2
    assert (u @ (pi * Q**2) / (u @ (pi * Q)) < 0.01).all()


# Shrinkage


def test_the_best_mixture_by_enumeration_in_rationals():
    def risk(mix):
        total = Fraction(0)
        for acts, chance in zip(SAMPLES, CHANCES, strict=True):
            shares = [Fraction(acts.count(a), 4) for a in range(3)]
            off = [(1 - mix) * q + mix * s - p for q, s, p in zip(BASE, shares, PLUS, strict=True)]
            total += chance * sum(x**2 / q for x, q in zip(off, BASE, strict=True))
        return total

    best = 4 * INFLUENCE / (4 * INFLUENCE + NOISE)
    assert risk(Fraction(1)) == NOISE / 4
    assert risk(best) == best * NOISE / 4
    assert risk(best) < min(risk(best + Fraction(1, 50)), risk(best - Fraction(1, 50)))


def test_base_samples_of_the_right_weight_are_the_best_mixture():
    counts, m = np.array([7.0, 2.0, 3.0]), 12.0
    base, influence, noise = np.array(BASE, dtype=float), 0.3, 1.9
    strength = noise / influence
    best = m * influence / (m * influence + noise)
    posterior = (counts + strength * base) / (m + strength)  # mean of Dirichlet(strength * base)
    np.testing.assert_allclose(posterior, (1 - best) * base + best * counts / m, rtol=1e-12)


def test_the_best_mixture_gains_what_it_moves_in_rationals():
    ratio = [p / q for p, q in zip(PLUS, BASE, strict=True)]

    def gain_and_movement(mix):
        gain, moved = Fraction(0), Fraction(0)
        for acts, chance in zip(SAMPLES, CHANCES, strict=True):
            shares = [Fraction(acts.count(a), 4) for a in range(3)]
            policy = [(1 - mix) * q + mix * s for q, s in zip(BASE, shares, strict=True)]
            gain += chance * (sum(p * w for p, w in zip(policy, ratio, strict=True)) - 1)
            moved += chance * (sum(p**2 / q for p, q in zip(policy, BASE, strict=True)) - 1)
        return gain, moved

    half = Fraction(1, 2)
    assert gain_and_movement(half) == (half * INFLUENCE, half**2 * (INFLUENCE + NOISE / 4))
    best = 4 * INFLUENCE / (4 * INFLUENCE + NOISE)
    assert gain_and_movement(best) == (best * INFLUENCE, best * INFLUENCE)


@pytest.mark.parametrize("K", [4, 7])
@pytest.mark.parametrize("length", [0.0, 1.0, 4.0, 20.0])
def test_james_and_stein_beat_the_shares_in_the_normal_limit(K, length):
    rng = np.random.default_rng([K, int(length)])
    theta = np.sqrt(length) * np.eye(K - 1)[0]
    x = theta + rng.normal(size=(200_000, K - 1))
    mix = np.maximum(1 - (K - 3) / (x**2).sum(axis=1, keepdims=True), 0)
    won = ((x - theta) ** 2 - (mix * x - theta) ** 2).sum(axis=1)
    assert won.mean() > 4 * won.std() / np.sqrt(won.size)


def excess_of_james_and_stein(base, rates, m):
    """Exactly, by all counts that sum up to m: their error less that of the shares, times m / c."""
    base = np.array(base)
    plus = base * rates / (base @ rates)
    grid = np.indices((m + 1,) * 3).reshape(3, -1).T
    grid = grid[grid.sum(axis=1) <= m]
    counts = np.column_stack([grid, m - grid.sum(axis=1)])
    chance = stats.multinomial(m, plus).pmf(counts)
    shares = counts / m
    statistic = m * ((shares**2 / base).sum(axis=1) - 1)
    with np.errstate(divide="ignore"):
        mix = np.maximum(1 - 1 / statistic, 0)[:, np.newaxis]
    off = ((mix * (shares - base) + base - plus) ** 2 / base).sum(axis=1)
    noise = (plus * (1 - plus) / base).sum()
    return m / noise * (chance @ off) - 1


def test_at_a_fixed_influence_james_and_stein_can_lose():
    even = np.array([0.3, 0.28, 0.28, 0.28])
    assert excess_of_james_and_stein([0.05, 0.25, 0.3, 0.4], even, 50) < -0.4
    rare = np.array([0.5, 0.08, 0.08, 0.08])
    assert 0.02 < excess_of_james_and_stein([0.05, 0.25, 0.3, 0.4], rare, 50) < 0.03
    clear = np.array([0.9, 0.1, 0.1, 0.1])
    assert 0.01 < excess_of_james_and_stein([0.25, 0.25, 0.25, 0.25], clear, 50) < 0.02


# Episodes that come back


@settings(max_examples=40, deadline=None)
@given(mdps_with_policies(), st.booleans(), st.data())
def test_given_an_outcome_returns_are_fresh_draws(mdp_and_policy, succeeds, data):
    mdp, behaviour = mdp_and_policy
    if not succeeds:  # the same with the outcomes exchanged
        mdp = sc.SuccessMDP(mdp.transition, mdp.failure, mdp.initial)
    e = sc.evaluate(mdp, behaviour)
    assume((e.V > 1e-6).all())
    wins = sc.doob_transform(mdp, e)
    s, t = data.draw(st.permutations(range(mdp.n_states)))[:2]
    a = data.draw(st.integers(0, mdp.n_actions - 1))
    pi, d_plus = sc.condition_on_success(e.policy, e.Q), sc.successful_visits(e)
    scores = np.zeros((2, *pi.shape))
    for i, state in enumerate((s, t)):
        scores[i, state] = np.eye(mdp.n_actions)[a] - pi[state, a]
    expected = [d_plus[x] * pi[x, a] * (1 - pi[x, a]) for x in (s, t)]
    for score, variance in [
        (scores[0], expected[0]),
        (scores.sum(axis=0), sum(expected)),  # two states: orthogonal
    ]:
        mean, square = second_moment(wins, pi, score)
        assert abs(mean) < 1e-10
        np.testing.assert_allclose(square, variance, rtol=1e-8, atol=1e-12)


def test_the_covariance_of_two_actions_is_that_of_fresh_draws_too():
    mdp = sc.random_mdp(3, 4, rng=np.random.default_rng(2))
    e = sc.evaluate(mdp, np.full((3, 4), 0.25))
    wins, pi = sc.doob_transform(mdp, e), sc.condition_on_success(e.policy, e.Q)
    score = np.zeros((3, 4))
    score[1] = np.array([1.0, -2.0, 0.5, 0.0])
    score[1] -= pi[1] @ score[1]
    _, square = second_moment(wins, pi, score)
    expected = sc.successful_visits(e)[1] * (pi[1] @ score[1] ** 2)
    np.testing.assert_allclose(square, expected, rtol=1e-10)


def test_the_success_rate_of_a_state_clusters():
    ring = sc.SuccessMDP.from_dense([[[0.8]]], [[0.1]], [1])
    log = sc.sample_log(ring, [[1]], 20_000, rng=np.random.default_rng(3))
    visits = np.bincount(log.episode)
    off = np.bincount(log.episode, log.success - 0.5)
    effect = (off**2).sum() / (visits.sum() * 0.25)
    np.testing.assert_allclose(effect, 9, rtol=0.05)  # E[N^2]/E[N] of a geometric law of mean 5


def test_a_hidden_player_has_a_design_effect():
    stay = 0.75 * np.eye(2)[:, np.newaxis].repeat(2, axis=1)
    players = sc.SuccessMDP.from_dense(stay, np.full((2, 2), 0.125), [0.5, 0.5])
    habits = np.array([[0.9, 0.1], [0.1, 0.9]])
    e = sc.evaluate(players, habits)
    wins = sc.doob_transform(players, e)
    score = np.array([[0.5, -0.5], [0.5, -0.5]])  # as if one policy, a fair coin, had played
    mean, square = second_moment(wins, habits, score)
    visits = sc.successful_visits(e).sum()
    assert abs(mean) < 1e-12
    np.testing.assert_allclose(square / (visits * 0.25), 1 + 0.64 * 6, rtol=1e-12)


def test_the_share_of_an_action_in_one_success_is_biased_where_visits_recur():
    lengths = np.arange(1, 200)
    np.testing.assert_allclose((0.5**lengths / lengths).sum(), np.log(2), rtol=1e-12)


def test_episodes_that_are_all_alike_are_taken_as_independent_visits():
    log = sc.Log([0, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1], [True] * 4)
    found = sc.estimate_influence(log, [[0.5, 0.5]])
    assert found.value == 0
    assert found.low == 0 < found.high < np.inf
