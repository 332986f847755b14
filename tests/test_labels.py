"""Proxies and labels: identities, solvers that never see the formula, worked numbers, refusals."""

from fractions import Fraction
from itertools import product

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.integrate import quad
from scipy.optimize import brentq, linprog, minimize_scalar
from scipy.stats import beta, binom

from sc_utils.conditioning import action_influence, chi_squared, condition_on_success
from sc_utils.environments import return_at_least
from sc_utils.labels import (
    alignment,
    amplification,
    label_gain,
    optimal_label,
    outcome_advantage,
)
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.trust_region import surrogate_gain
from tests.strategies import mdps_with_policies

GRID = np.append(0.3 + 0.4 * (np.arange(99) + 0.5) / 99, 18)


@st.composite
def decisions(draw):
    """A joint table of action and outcome in ratios of integers, and the actions' values."""
    A, n = draw(st.sampled_from([(2, 3), (2, 5), (3, 2), (4, 3), (6, 5)]))
    weights = draw(arrays(np.int64, (A, n), elements=st.integers(0, 9)))
    weights[:, draw(st.integers(0, n - 1))] += 1  # every action is played
    values = draw(arrays(np.int64, A, elements=st.integers(0, 12)))
    return weights / weights.sum(), values / 12, weights


@st.composite
def ranked(draw):
    """A policy, values and a proxy's values in several states."""
    S, A = draw(st.sampled_from([(2, 3), (3, 2), (2, 5)]))
    weights = draw(arrays(np.int64, (S, A), elements=st.integers(1, 9)))
    Q, proxy = (draw(arrays(np.int64, (S, A), elements=st.integers(0, 12))) / 12 for _ in range(2))
    return weights / weights.sum(axis=1, keepdims=True), Q, proxy


# Proxies


@given(ranked())
def test_alignment_times_amplification_is_the_ratio_of_gains(case):
    pi, Q, proxy = case
    c, louder = alignment(pi, Q, proxy), amplification(pi, Q, proxy)
    for s in range(len(pi)):
        V, V_proxy = pi[s] @ Q[s], pi[s] @ proxy[s]
        if V == 0 or V_proxy == 0 or np.ptp(Q[s]) == 0 or np.ptp(proxy[s]) == 0:
            continue
        gain = (pi[s] * proxy[s] / V_proxy) @ Q[s] - V
        faithful = (pi[s] * Q[s] / V) @ Q[s] - V
        assert c[s] * louder[s] * faithful == pytest.approx(gain, rel=1e-9, abs=1e-13)


@given(ranked())
def test_alignment_is_numpys_weighted_correlation(case):
    pi, Q, proxy = case
    c = alignment(pi, Q, proxy)
    assert (np.abs(c) <= 1).all()
    for s in range(len(pi)):
        if np.ptp(Q[s]) == 0 or np.ptp(proxy[s]) == 0:
            assert c[s] == 0
        else:
            table = np.cov(Q[s], proxy[s], aweights=pi[s], ddof=0)
            expected = table[0, 1] / np.sqrt(table[0, 0] * table[1, 1])
            assert c[s] == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(mdps_with_policies(), st.data())
def test_the_first_order_gain_of_a_proxy_is_a_slope(case, data):
    mdp, pi = case
    e = evaluate(mdp, pi)
    grid = arrays(np.int64, e.Q.shape, elements=st.integers(1, 12))
    proxy = data.draw(grid) / 12
    way = condition_on_success(pi, proxy) - pi
    near = [evaluate(mdp, pi + h * way).success_rate for h in (1e-5, -1e-5)]
    noise = alignment(pi, e.Q, proxy) * np.sqrt(
        action_influence(pi, e.Q) * action_influence(pi, proxy)
    )
    assert e.visits @ (e.V * noise) == pytest.approx((near[0] - near[1]) / 2e-5, rel=1e-5, abs=1e-8)


def test_a_safe_arm_and_a_gamble_by_hand():
    """A sure 0.6 or a gamble for 0 or 1: thresholds of 0.6 and 0.7; worked in fractions."""
    coin, Q = [0.5, 0.5], [0.6, 0.5]
    assert alignment(coin, Q, [1, 0.5]) == pytest.approx(1, rel=1e-12)
    assert amplification(coin, Q, [1, 0.5]) == pytest.approx(11 / 3, rel=1e-12)
    assert alignment(coin, Q, [0, 0.5]) == pytest.approx(-1, rel=1e-12)
    assert amplification(coin, Q, [0, 0.5]) == pytest.approx(11, rel=1e-12)


def test_without_influence_the_ratio_says_nothing():
    coin, equal, above = [0.5, 0.5], [0.5, 0.5], [0, 0.5]
    gambler = condition_on_success(coin, above)
    assert amplification(coin, equal, above) == np.inf
    assert amplification(coin, above, equal) == amplification(coin, equal, equal) == 0
    assert alignment(coin, equal, above) == alignment(coin, above, equal) == 0
    assert chi_squared(gambler, coin) == 1
    assert gambler @ equal == 0.5


def test_where_only_unplayed_actions_differ_nothing_is_aligned():
    assert alignment([0.5, 0.5, 0], [0.3, 0.3, 0.9], [0.1, 0.2, 0.9]) == 0


def test_one_misaligned_state_undoes_a_first_order_gain():
    """A sure 0.49 or a second decision; there, a sure 0.6 or a gamble; returns above 0.6 kept."""
    on = [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    pays = SuccessMDP.from_dense(on, [[0.49, 0], [0.6, 0.5]], [1, 0])
    high = SuccessMDP.from_dense(on, [[0, 0], [0, 0.5]], [1, 0])
    coin = np.full((2, 2), 0.5)
    e, wanted = evaluate(pays, coin), evaluate(high, coin)
    imitator = condition_on_success(coin, wanted.Q)
    np.testing.assert_allclose(alignment(coin, e.Q, wanted.Q), [1, -1])
    assert surrogate_gain(e, imitator) == pytest.approx(0.005, rel=1e-9)
    rates = e.success_rate, evaluate(pays, imitator).success_rate
    assert rates == pytest.approx((0.52, 0.5), rel=1e-12)


@given(mdps_with_policies(full_support=False), st.data())
def test_a_proxy_aligned_in_every_state_does_no_harm(case, data):
    """Neither objective need be possible everywhere; a proxy that ranks badly is turned round."""
    mdp, pi = case
    S, A = mdp.success.shape
    possible = mdp.success * data.draw(arrays(np.bool_, (S, 1)))
    assume(possible.any())
    mdp = SuccessMDP(mdp.transition, possible, np.full(S, 1 / S), mdp.labels)
    e = evaluate(mdp, pi)
    proxy = data.draw(arrays(np.int64, (S, A), elements=st.integers(0, 6))) / 6
    covariance = (pi * proxy * (e.Q - e.V[:, np.newaxis])).sum(axis=1)
    proxy = np.where(covariance[:, np.newaxis] < 0, 1 - proxy, proxy)
    assert (alignment(pi, e.Q, proxy) >= -1e-9).all()
    after = evaluate(mdp, condition_on_success(pi, proxy))
    assert (after.V >= e.V - 1e-12).all()


def test_the_imitator_of_a_proxy_ends(rng):
    """Three hundred mazes with loops and dead ends for the proxy; the behaviour gets out of all."""
    S, A, found, dead, loops = 5, 3, 0, 0, 0
    while found < 300:
        way = rng.integers(0, S + 2, (S, A))  # a state, or one of two exits
        P = (way[..., np.newaxis] == np.arange(S)).astype(float)
        walk = P.mean(axis=1)
        ends = np.linalg.matrix_power(walk, 50).sum(axis=1).max() < 1 - 1e-9
        if not ends or not (way == S).any():
            continue
        found += 1
        proxy = SuccessMDP.from_dense(P, rng.random((S, A)) * (way == S), np.full(S, 1 / S))
        seen = evaluate(proxy, np.full((S, A), 1 / A))
        imitator = condition_on_success(seen.policy, seen.Q)
        stays = np.einsum("sa,sat->st", imitator, P)
        assert np.abs(np.linalg.eigvals(stays)).max() < 1 - 1e-6
        dead += (seen.V == 0).any()
        loops += (P[np.arange(S), :, np.arange(S)] > 0).any()
    assert dead > 30
    assert loops > 100


def test_a_proxy_that_the_end_does_not_settle_can_stay_for_ever():
    """Stay, or leave; a proxy of staying is imitated by never leaving."""
    assert condition_on_success([0.5, 0.5], [1, 0]).tolist() == [1, 0]


def test_values_that_are_equal_up_to_rounding_are_equal():
    coin, equal, proxy = [0.5, 0.5], [0.1 + 0.2, 0.3], [0.1, 0.2]
    assert alignment(coin, equal, proxy) == alignment(coin, proxy, equal) == 0
    assert amplification(coin, equal, proxy) == np.inf
    assert amplification(coin, proxy, equal) == 0
    near = [0.3, 0.3 + 3e-11]
    assert alignment(coin, near, proxy) == pytest.approx(1, abs=1e-4)


# Faithful labels


@given(decisions())
def test_the_coin_is_what_the_weight_saves_in_rationals(case):
    _, _, weights = case
    total, n = int(weights.sum()), weights.shape[1]
    Y = [Fraction(k, n - 1) for k in range(n)]
    p = [[Fraction(int(w), total) for w in row] for row in weights]
    V = sum(p[a][k] * Y[k] for a in range(len(p)) for k in range(n))
    if V == 0:
        return
    plus = [sum(row[k] * Y[k] for k in range(n)) / V for row in p]
    for arm in range(len(p)):
        u = [(a == arm) - plus[arm] for a in range(len(p))]
        cells = list(product(range(len(p)), range(n)))
        tossed = [(p[a][k] * q, r * u[a]) for a, k in cells for r, q in ((1, Y[k]), (0, 1 - Y[k]))]
        weighed = [(p[a][k], Y[k] * u[a]) for a, k in cells]
        second = [sum(q * x**2 for q, x in law) for law in (tossed, weighed)]
        assert sum(q * x for q, x in tossed) == sum(q * x for q, x in weighed) == 0
        saved = sum(p[a][k] * Y[k] * (1 - Y[k]) * u[a] ** 2 for a, k in cells)
        assert second[0] - second[1] == saved >= 0


def test_a_coin_and_a_weight_have_one_target_and_these_variances(rng):
    """Three arms with returns of 0.2, 0.5 and 1; 20,000 samples of 1,000 pulls, z below 4.5."""
    joint = np.array([[0.2, 0.1, 0.1], [0.1, 0.1, 0.1], [0.05, 0.05, 0.2]])
    y, n, runs = np.array([0.2, 0.5, 1.0]), 1000, 20_000
    V = (joint @ y).sum()
    plus = joint @ y / V
    u_2 = (np.eye(3) - plus[:, np.newaxis]) ** 2  # of each estimated arm, by the arm pulled
    counts = rng.multinomial(n, joint.ravel(), runs).reshape(runs, 3, 3)
    heads = rng.binomial(counts, y)
    for sums, second in [(heads.sum(axis=2), y), (counts @ y, y**2)]:
        share = sums / sums.sum(axis=1, keepdims=True)
        exact = u_2 @ (joint @ second) / (n * V**2)
        squares = (share - plus) ** 2
        error = squares.std(axis=0) / runs**0.5
        assert (np.abs(squares.mean(axis=0) - exact) < 4.5 * error + 2e-3 * exact).all()
        assert (np.abs(share.mean(axis=0) - plus) < 4.5 * np.sqrt(exact / runs) + 1e-4).all()


def test_sunk_reward_dilutes_and_the_reward_to_come_does_not():
    """Three rounds of two arms (3/4, 1/4): every game listed, in fractions."""
    win = [Fraction(3, 4), Fraction(1, 4)]
    for past, left in product(range(3), (1, 2, 3)):
        mean = [past + win[a] + Fraction(left - 1, 2) for a in (0, 1)]
        V = Fraction(left, 2)
        games = product((0, 1), repeat=left)
        listed = [Fraction(0), Fraction(0)]
        for game in games:
            for later in product((0, 1), repeat=left - 1):
                for a in (0, 1):
                    p = win[a] if game[0] else 1 - win[a]
                    for arm, won in zip(later, game[1:], strict=True):
                        p *= (win[arm] if won else 1 - win[arm]) * Fraction(1, 2)
                    listed[a] += p * (past + sum(game))
        assert listed == mean
        total = float(action_influence([0.5, 0.5], [float(m) / 6 for m in mean]))
        to_come = float(Fraction(1, 16) / V**2)
        assert total == pytest.approx(to_come * float(V / (V + past)) ** 2, rel=1e-9)


def play_of_ten_rounds(weight_of):
    """Mean wins, by following the law of the wins so far from round to round."""
    law, mean = {0: 1.0}, 0.0
    for t in range(10):
        after: dict[int, float] = {}
        for x, p in law.items():
            weight = [weight_of(chance, x, 9 - t) for chance in (0.8, 0.2)]
            win = (0.8 * weight[0] + 0.2 * weight[1]) / sum(weight)
            mean += p * win
            after[x + 1] = after.get(x + 1, 0) + p * win
            after[x] = after.get(x, 0) + p * (1 - win)
        law = after
    return mean


def ten_rounds():
    """Wins so far are part of the state; the success rate is a tenth of the mean number of wins."""
    t, x = np.tril_indices(10)
    P, r = np.zeros((55, 2, 55)), np.zeros((55, 2))
    for i, (round_, won) in enumerate(zip(t, x, strict=True)):
        for a, chance in enumerate((0.8, 0.2)):
            if round_ == 9:
                r[i, a] = (won + chance) / 10
            else:
                P[i, a, i + round_ + 2], P[i, a, i + round_ + 1] = chance, 1 - chance
    return SuccessMDP.from_dense(P, r, np.eye(55)[0]), t, x


def test_ten_rounds_weighted_in_three_ways():
    game, _, x = ten_rounds()
    e = evaluate(game, np.full((55, 2), 0.5))
    weights = {
        "all": (e.Q, lambda chance, x, left: x + chance + left / 2, 5.18627),
        "to come": (
            e.Q - x[:, np.newaxis] / 10,
            lambda chance, x, left: chance + left / 2,
            5.52721,
        ),
        "the round": (np.tile([0.8, 0.2], (55, 1)), lambda chance, x, left: chance, 6.8),
    }
    for values, weight_of, expected in weights.values():
        solved = evaluate(game, condition_on_success(e.policy, values)).success_rate
        assert 10 * solved == pytest.approx(play_of_ten_rounds(weight_of), rel=1e-12)
        assert 10 * solved == pytest.approx(expected, abs=1e-5)


def test_held_out_episodes_rank_the_imitators_of_several_shares(rng):
    """The recipe of "In practice" in episodes: imitators of high totals, fit and read from play."""
    game, _, _ = ten_rounds()
    e, n = evaluate(game, np.full((55, 2), 0.5)), 200_000
    actions = rng.integers(2, size=(2, n, 10))
    wins = rng.random(actions.shape) < np.where(actions == 0, 0.8, 0.2)
    so_far = np.cumsum(wins, axis=2) - wins
    states = so_far + np.array([t * (t + 1) // 2 for t in range(10)])
    total = wins.sum(axis=2)
    reads, exacts = [], []
    for least in (1, 5, 7, 9):
        top = total[0] >= least
        cell = 2 * states[0, top] + actions[0, top]
        counts = np.bincount(cell.ravel(), minlength=110).reshape(55, 2)
        seen = counts.sum(axis=1, keepdims=True)
        imitator = np.divide(counts, seen, out=np.full((55, 2), 0.5), where=seen > 0)
        ratios = (2 * imitator[states[1], actions[1]] - 1).sum(axis=1)
        weighed = total[1] * ratios / total[1].mean()
        error = (weighed - total[1] / total[1].mean() * weighed.mean()).std() / n**0.5
        exact = surrogate_gain(e, imitator) / e.success_rate
        assert abs(weighed.mean() - exact) < 4.5 * error < 0.02
        reads.append(weighed.mean())
        exacts.append(exact)
    assert np.argmax(reads) == np.argmax(exacts)


# Labels of outcomes


@given(decisions(), st.integers(1, 19))
def test_a_linear_programme_finds_no_better_label(case, twentieths):
    joint, Q, _ = case
    share = twentieths / 20
    label = optimal_label(joint, Q, share)
    mass, worth = joint.sum(axis=0), (Q - joint.sum(axis=1) @ Q) @ joint
    plan = linprog(-worth, A_eq=[mass], b_eq=[share], bounds=(0, 1))
    assert label.gain == pytest.approx(-plan.fun / share, rel=1e-7, abs=1e-9)
    assert label.accept @ mass == pytest.approx(share, rel=1e-12)
    assert label_gain(joint, Q, label.accept) == pytest.approx(label.gain, rel=1e-9, abs=1e-13)


@given(decisions())
def test_the_best_set_by_trying_all_in_rationals(case):
    joint, Q, weights = case
    total = int(weights.sum())
    values = [Fraction(round(12 * q), 12) for q in Q]
    V = sum(int(w) * q for row, q in zip(weights, values, strict=True) for w in row) / total
    worth = [
        sum(int(w) * (q - V) for w, q in zip(column, values, strict=True)) for column in weights.T
    ]
    for chosen in product((0, 1), repeat=len(worth)):
        size = sum(f * int(w) for f, w in zip(chosen, weights.sum(axis=0), strict=True))
        if size == 0:
            continue
        gain = sum(f * x for f, x in zip(chosen, worth, strict=True)) / size
        assert optimal_label(joint, Q, size / total).gain >= float(gain) - 1e-12
        assert label_gain(joint, Q, chosen) == pytest.approx(float(gain), rel=1e-9, abs=1e-13)


@given(decisions(), st.data())
def test_the_gain_of_a_label_is_that_of_its_imitator(case, data):
    joint, Q, _ = case
    f = data.draw(arrays(np.int64, joint.shape[1], elements=st.integers(1, 6))) / 6
    pi = joint.sum(axis=1)
    imitator = condition_on_success(pi, joint @ f / pi)
    gain = imitator @ Q - pi @ Q
    assert label_gain(joint, Q, f) == pytest.approx(gain, rel=1e-9, abs=1e-12)


def test_a_label_that_prefers_lesser_outcomes_gains_less():
    joint, Q = np.array([[0.3, 0.1, 0.2], [0.1, 0.3, 0.0]]), [0.2, 0.6]
    label = optimal_label(joint, Q, 0.5)
    np.testing.assert_allclose(label.accept, [1 / 4, 1, 0])
    assert label.gain == pytest.approx(0.1, rel=1e-12)  # 2/5 + 1/10 of E[f alpha] / kappa
    assert label_gain(joint, Q, [1, 0.25, 0]) < label.gain
    assert label.level == pytest.approx(-0.06, rel=1e-12)  # of the first outcome, the border
    assert optimal_label(joint, Q, 0.4).level == pytest.approx(0.14, rel=1e-12)  # just the second


@given(decisions())
def test_thresholds_are_best_exactly_where_the_advantage_rises(case):
    joint, Q, _ = case
    joint = joint[:, joint.sum(axis=0) > 0]
    mass = joint.sum(axis=0)
    rises = (np.diff(outcome_advantage(joint, Q)) >= -1e-12).all()
    tails = np.cumsum(mass[::-1])[:-1]
    best = [optimal_label(joint, Q, share).gain for share in tails]
    top = [label_gain(joint, Q, np.arange(mass.size) >= k) for k in range(mass.size - 1, 0, -1)]
    assert np.allclose(best, top, rtol=1e-9, atol=1e-12) == rises
    if rises:
        above = np.append(np.cumsum(mass[::-1])[::-1][1:], 0)
        for share in np.arange(1, 20) / 20:  # randomised at the border
            threshold = np.clip((share - above) / mass, 0, 1)
            best = optimal_label(joint, Q, share).gain
            assert label_gain(joint, Q, threshold) == pytest.approx(best, rel=1e-9, abs=1e-12)


@st.composite
def ordered(draw):
    """Arms with ordered likelihood ratios, zeros among them: rows of products of bidiagonals."""
    table = np.eye(5, dtype=np.int64)
    for _ in range(3):
        low, high = draw(arrays(np.int64, (2, 4), elements=st.integers(0, 2)))
        table = table @ (np.eye(5, dtype=np.int64) + np.diag(low, -1))
        table = table @ (np.eye(5, dtype=np.int64) + np.diag(high, 1))
    rows = sorted(draw(st.sets(st.integers(0, 4), min_size=3, max_size=3)))
    values = sorted(draw(st.lists(st.integers(0, 12), min_size=3, max_size=3)))
    return table[rows] / table[rows].sum(), np.array(values) / 12


@given(ordered())
def test_the_advantage_rises_where_likelihood_ratios_do_even_with_zeros(case):
    joint, Q = case
    occurs = joint.sum(axis=0) > 0
    assert (np.diff(outcome_advantage(joint, Q)[occurs]) >= -1e-12).all()


@given(decisions())
def test_the_advantage_rises_by_a_sum_over_pairs_of_arms(case):
    joint, Q, _ = case
    mass, alpha = joint.sum(axis=0), outcome_advantage(joint, Q)
    for low, high in product(range(mass.size), repeat=2):
        if mass[low] == 0 or mass[high] == 0:
            continue
        pairs = sum(
            (Q[b] - Q[a]) * (joint[b, high] * joint[a, low] - joint[a, high] * joint[b, low])
            for a, b in product(range(len(Q)), repeat=2)
            if Q[a] < Q[b]
        )
        rise = mass[low] * mass[high] * (alpha[high] - alpha[low])
        assert rise == pytest.approx(pairs, rel=1e-9, abs=1e-13)


def test_ordered_likelihood_ratios_make_the_advantage_rise():
    chances = np.array([0.15, 0.3, 0.45, 0.8])
    joint = binom.pmf(np.arange(8), 7, chances[:, np.newaxis]) / 4
    assert (np.diff(outcome_advantage(joint, chances)) > 0).all()


def test_an_outcome_that_never_occurs_is_not_accepted():
    joint, Q = [[0.5, 0, 0], [0.25, 0, 0.25]], [0, 1]
    assert outcome_advantage(joint, Q)[1] == 0
    assert optimal_label(joint, Q, 1).accept.tolist() == [1, 0, 1]
    assert optimal_label(joint, Q, 1).gain == pytest.approx(0, abs=1e-15)


def test_outcomes_that_tie_up_to_rounding_are_accepted_with_one_probability():
    arms, outcomes, Q = np.array([0.3, 0.3, 0.4]), np.array([0.1, 0.2, 0.3, 0.4]), [0.1, 0.7, 0.3]
    label = optimal_label(np.outer(arms, outcomes), Q, 0.35)
    np.testing.assert_allclose(label.accept, 0.35)
    assert label.gain == pytest.approx(0, abs=1e-15)


def test_a_table_that_sums_to_a_little_less_accepts_all_that_occurs():
    joint = np.array([[0.5 - 5e-10, 0.0], [0.5, 0.0]])
    label = optimal_label(joint, [0.1, 0.9], 1)
    assert label.accept.tolist() == [1, 0]
    assert label.gain == pytest.approx(0, abs=1e-8)


# The hundred arms


def hundred(shape):
    b = np.append(shape[:-1], 2)
    return shape, b, shape / (shape + b)


def gain_of(theta, shape=GRID):
    a, b, Q = hundred(shape)
    tail = beta.sf(theta, a, b)
    return tail @ (Q - Q.mean()) / tail.sum()


def test_the_hundred_arms_by_quadrature():
    a, b, Q = hundred(GRID)
    V, uniform = Q.mean(), np.full(100, 0.01)
    assert V == pytest.approx(0.504, rel=1e-12)
    assert V * action_influence(uniform, Q) == pytest.approx(0.0031429, abs=5e-8)
    best = minimize_scalar(lambda x: -gain_of(x), bounds=(0.5, 0.95))
    assert best.x == pytest.approx(0.8354, abs=5e-5)
    assert -best.fun == pytest.approx(0.008299, abs=5e-7)
    tail = [quad(beta.pdf, best.x, 1, args=(x, y), limit=200)[0] for x, y in zip(a, b, strict=True)]
    split = alignment(uniform, Q, tail) * amplification(uniform, Q, tail)
    assert split == pytest.approx(2.6406, abs=5e-4)
    assert brentq(gain_of, 0.9, 0.99) == pytest.approx(0.9684, abs=5e-5)
    assert gain_of(0.999) == pytest.approx(-0.0040, abs=5e-5)
    ends = [brentq(lambda x: gain_of(x) - 0.0031429, *z) for z in [(0.2, 0.7), (0.9, 0.96)]]
    assert ends == pytest.approx([0.41235, 0.94506], abs=5e-5)


def test_the_hundred_arms_over_random_draws(rng):
    found = []
    for wild in rng.uniform(0.3, 0.7, (64, 99)):
        shape = np.append(wild, 18)
        best = minimize_scalar(lambda x, y=shape: -gain_of(x, y), bounds=(0.5, 0.95))
        found.append((best.x, -best.fun, brentq(gain_of, 0.9, 0.99, args=(shape,))))
    low, high = np.min(found, axis=0), np.max(found, axis=0)
    assert (low > [0.829, 0.0079, 0.965]).all()
    assert (high < [0.842, 0.0088, 0.972]).all()


def test_the_best_twentieth_is_a_band_and_the_top_one_loses():
    a, b, Q = hundred(GRID)
    edges = np.linspace(0, 1, 4001)
    joint = np.diff(beta.cdf(edges, a[:, None], b[:, None])) / 100
    label = optimal_label(joint, Q, 0.05)
    inside = np.flatnonzero(label.accept)
    assert (np.diff(inside) == 1).all()
    assert edges[[inside[0], inside[-1] + 1]] == pytest.approx([0.899, 0.940], abs=6e-4)
    assert label.gain == pytest.approx(0.0177, abs=5e-5)
    top = brentq(lambda x: beta.sf(x, a, b).mean() - 0.05, 0.5, 1 - 1e-9)
    assert (top, gain_of(top)) == pytest.approx((0.9953, -0.0037), abs=5e-5)
    peak = np.argmax(outcome_advantage(joint, Q))
    assert edges[peak] == pytest.approx(0.921, abs=1e-3)


def test_raising_the_target_helps_on_dry_ground_and_not_on_ice():
    rates = {}
    for icy in (False, True):
        env = gymnasium.make("CliffWalking-v1", is_slippery=icy)
        hope = return_at_least(env, -60)
        walk = evaluate(hope, np.full(hope.success.shape, 0.25))
        at = {name: i for i, name in enumerate(hope.labels.tolist())}
        rates[icy] = [walk.success_rate]
        for target in (-13, -30, -55, -60):
            mdp = return_at_least(env, target)
            e = evaluate(mdp, np.full(mdp.success.shape, 0.25))
            policy = walk.policy.copy()
            policy[[at[name] for name in mdp.labels.tolist()]] = condition_on_success(e.policy, e.Q)
            rates[icy].append(evaluate(hope, policy).success_rate)
    assert rates[False][0] == pytest.approx(rates[True][0], rel=1e-12)
    assert rates[False][1:] == pytest.approx([1] * 4, rel=1e-9)
    expected = [0.000806, 0.000932, 0.002251, 0.003292, 0.003252]
    assert rates[True] == pytest.approx(expected, abs=1e-6)


# Refusals


@pytest.mark.parametrize("number_of", [alignment, amplification])
def test_a_proxy_is_a_probability_of_every_action(number_of):
    with pytest.raises(ValueError, match=r"proxy\[1\] must be a probability, got 1\.2"):
        number_of([0.5, 0.5], [0.1, 0.2], [0.1, 1.2])
    with pytest.raises(ValueError, match=r"Q must have the policy's shape \(2,\), got \(3,\)"):
        number_of([0.5, 0.5], [0.1, 0.2, 0.3], [0.1, 0.2])
    with pytest.raises(ValueError, match=r"policy must sum to 1, got 0\.9"):
        number_of([0.5, 0.4], [0.1, 0.2], [0.1, 0.2])


@pytest.mark.parametrize(
    ("joint", "message"),
    [
        ([0.5, 0.5], r"joint must have shape \(A, n\) with A, n >= 1, got \(2,\)"),
        ([[0.7, -0.1], [0.2, 0.2]], r"joint\[0, 1\] must not be negative, got -0\.1"),
        ([[0.5, 0.1], [0.2, 0.1]], r"joint must sum to 1, got 0\.9"),
        ([[0.5, np.nan], [0.2, 0.1]], r"joint\[0, 1\] is NaN"),
    ],
)
def test_a_joint_table_is_a_distribution(joint, message):
    for call in (
        lambda: outcome_advantage(joint, [0.1, 0.2]),
        lambda: label_gain(joint, [0.1, 0.2], [1, 1]),
        lambda: optimal_label(joint, [0.1, 0.2], 0.5),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_label_and_its_acceptance_are_checked():
    joint, Q = [[0.5, 0.0], [0.5, 0.0]], [0.1, 0.2]
    for share in (0, -0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"acceptance must lie in \(0, 1\], got"):
            optimal_label(joint, Q, share)
    with pytest.raises(ValueError, match="it never calls one a success"):
        label_gain(joint, Q, [0, 1])
    with pytest.raises(ValueError, match=r"accept\[1\] must be a probability, got 2"):
        label_gain(joint, Q, [0, 2])
    with pytest.raises(ValueError, match=r"Q must have the policy's shape \(2,\)"):
        outcome_advantage(joint, [0.1])
