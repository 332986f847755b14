"""What chapter 17 claims of a diagnosis, by other routes."""

from fractions import Fraction
from itertools import combinations, permutations

import gymnasium
import numpy as np
import pytest

import sc_utils as sc

WAITING = sc.SuccessMDP.from_dense([[[0.75], [0]]], [[1 / 16, 1 / 4]], [1])


def influence(acts, won, times):
    """The estimate of one state, pair by pair and triple by triple, in fractions."""
    n, X, total = len(acts), sum(won), Fraction(0)
    for a in set(acts):
        n_a, mine = acts.count(a), [y for y, b in zip(won, acts, strict=True) if b == a]
        pairs = sum(x * y for x, y in permutations(mine, 2))
        triples = sum(x * y * z for x, y, z in permutations(mine, 3))
        expected = Fraction((n_a - 2) * (X - 2), n - 2) * pairs
        bias = (triples - expected) / ((n_a - 1) * (X - 1))
        total += (pairs - times * bias) / (n_a - 1)
    return Fraction(n - 1, X * (X - 1)) * total - 1


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3, 2), (5, 2)])
@pytest.mark.parametrize("wins", [2, 3])
@pytest.mark.parametrize("times", [0, 1, 2])
def test_pairs_that_acted_alike_have_mean_zero_over_all_orders(sizes, wins, times):
    acts = [a for a, size in enumerate(sizes) for _ in range(size)]
    n, total = len(acts), Fraction(0)
    for who in combinations(range(n), wins):
        won = [int(i in who) for i in range(n)]
        total += influence(acts, won, times)
    assert total == 0


@pytest.mark.parametrize("won", [[1, 0, 1, 1, 0, 1, 0], [0, 0, 1, 0, 1, 0, 0]])
def test_the_report_counts_pairs_and_triples(won):
    acts = [0, 0, 1, 1, 1, 2, 2]
    log = sc.Log(np.arange(7), [0] * 7, acts, np.array(won, dtype=bool))
    found = sc.diagnose(sc.Tally.from_log(log))
    assert found.influence.value == pytest.approx(float(influence(acts, won, 1)), rel=1e-12)
    (state,) = found.states
    assert state.influence.value == pytest.approx(float(influence(acts, won, 2)), rel=1e-12)


def test_triples_take_off_the_bias_of_first_order():
    rng, pi, Q = np.random.default_rng(8), np.array([0.5, 0.5]), np.array([0.2, 0.6])
    truth = pi @ (Q / (pi @ Q) - 1) ** 2
    for n in (40, 80):
        n_a = rng.multinomial(n, pi, 1_000_000)
        S = rng.binomial(n_a, Q)
        X = S.sum(axis=1)
        fair = (n_a > 1).all(axis=1) & (X > 1)
        n_a, S, X = n_a[fair], S[fair], X[fair]
        c = (S - 2 - (n_a - 2) * ((X - 2) / (n - 2))[:, np.newaxis]) / (n_a - 1)
        c /= (X - 1)[:, np.newaxis]
        plain, once, twice = (
            (n - 1) / (X * (X - 1)) * (S * (S - 1) * (1 - k * c) / (n_a - 1)).sum(axis=1) - 1
            for k in range(3)
        )
        bar = 4 * n * plain.std() / 1000
        assert n * (plain.mean() - truth) > 1
        assert n * (plain @ X / X.sum() - truth) > 0.5
        assert abs(n * (once @ X / X.sum() - truth)) < 0.02 + bar
        assert abs(n * (twice.mean() - truth)) < 0.02 + bar


def test_pairs_estimate_squares():
    q, sizes = [Fraction(1, 3), Fraction(3, 4)], (2, 3)
    mean = [Fraction(0), Fraction(0)]
    for code in range(2**5):
        won = [code >> k & 1 for k in range(5)]
        parts = won[:2], won[2:]
        p = Fraction(1)
        for part, x in zip(parts, q, strict=True):
            for y in part:
                p *= x if y else 1 - x
        for a, (part, size) in enumerate(zip(parts, sizes, strict=True)):
            mean[a] += p * Fraction(sum(part) * (sum(part) - 1), size * (size - 1))
    assert mean == [x**2 for x in q]


def test_rows_written_twice_look_like_influence():
    rng = np.random.default_rng(1)
    question, answer = np.repeat(np.arange(100), 20), rng.choice(4, 2000)
    won = rng.random(2000) < np.repeat(rng.random(100), 20)
    verdicts = []
    for copies in (1, 2):
        rows = [np.tile(x, copies) for x in (question, answer, won)]
        log = sc.Log(np.arange(2000 * copies), *rows)
        verdicts.append(sc.diagnose(sc.Tally.from_log(log)).detectable)
    assert verdicts == [False, True]


def cross_terms(episode, z):
    """By episode, the products of the terms of different visits."""
    return np.bincount(episode, z) ** 2 - np.bincount(episode, z**2)


def test_revisits_are_uncorrelated_without_influence():
    rng = np.random.default_rng(2)
    log = sc.sample_log(WAITING, [[0.8, 0.2]], 400_000, rng=rng)
    z = ((log.action == 0) - 0.8) * (log.success - 0.25)
    off = cross_terms(log.episode, z)
    bar = off.std() / np.sqrt(off.size)
    assert abs(off.mean()) < 4 * bar
    assert 4 * bar < 0.02 * np.bincount(log.episode, z**2).mean()


def test_revisits_of_a_player_with_habits_are_correlated():
    rng = np.random.default_rng(3)
    stay = 0.75 * np.eye(2)[:, np.newaxis].repeat(2, axis=1)
    players = sc.SuccessMDP.from_dense(stay, np.full((2, 2), 0.125), [0.5, 0.5])
    log = sc.sample_log(players, [[0.9, 0.1], [0.1, 0.9]], 40_000, rng=rng)
    z = ((log.action == 0) - 0.5) * (log.success - 0.5)
    off = cross_terms(log.episode, z)
    assert off.mean() > 10 * off.std() / np.sqrt(off.size)


def waiting(rng):
    return sc.sample_log(WAITING, [[0.8, 0.2]], 300, rng=rng)


def dice(rng):
    lake = sc.from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=sc.positive_ending)
    log = sc.sample_log(lake, np.full(lake.success.shape, 0.25), 800, rng=rng)
    return sc.Log(log.episode, log.state, rng.integers(4, size=log.state.size), log.success)


@pytest.mark.parametrize("draw", [waiting, dice])
def test_one_log_without_signal_in_twenty_is_called_one_with(draw):
    rng, n = np.random.default_rng(4), 150
    alarms = [sc.diagnose(sc.Tally.from_log(draw(rng))).detectable for _ in range(n)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=3.5 * np.sqrt(0.05 * 0.95 / n))


def exam(right, noise):
    q = np.where(right, 1 - noise, noise)
    n = len(q)
    return sc.SuccessMDP.from_dense(np.zeros((n, q.shape[1], n)), q, np.full(n, 1 / n))


@pytest.mark.parametrize("seed", range(5))
def test_an_exact_verifier_lets_one_round_solve_what_can_be_solved(seed):
    rng = np.random.default_rng(seed)
    right = rng.random((60, 5)) < 0.2
    before = sc.evaluate(exam(right, 0), rng.dirichlet(np.ones(5), 60))
    can = right.any(axis=1)
    I = sc.action_influence(before.policy, before.Q)[can]
    np.testing.assert_allclose(I, (1 - before.V[can]) / before.V[can], rtol=1e-9)
    after = sc.evaluate(exam(right, 0), sc.condition_on_success(before.policy, before.Q))
    assert after.success_rate == pytest.approx(can.mean(), rel=1e-9)
    assert before.success_rate * (1 + sc.trust_region_radius(before)) == pytest.approx(can.mean())


def test_a_noisy_verifier_does_not():
    rng = np.random.default_rng(6)
    right = rng.random((60, 5)) < 0.2
    before = sc.evaluate(exam(right, 0.1), rng.dirichlet(np.ones(5), 60))
    I = sc.action_influence(before.policy, before.Q)
    assert (I < 0.9 * (1 - before.V) / before.V).all()


def third_digit(answer):
    """A verifier that is a function of the answer, and passes three in ten."""
    return (answer * 1000).astype(int) % 10 < 3


def test_unique_answers_are_judged_as_by_a_coin():
    rng = np.random.default_rng(9)
    exact, noisy = third_digit(rng.random((400_000, 3))), rng.random((400_000, 3)) < 0.3
    tables = [np.bincount(grades @ [1, 2, 4], minlength=8) / 400_000 for grades in (exact, noisy)]
    ones = np.array([bin(k).count("1") for k in range(8)])
    law = 0.3**ones * 0.7 ** (3 - ones)
    for table in tables:
        assert (np.abs(table - law) < 4.5 * np.sqrt(law / 400_000)).all()


def test_answers_that_recur_betray_a_noisy_verifier():
    rng = np.random.default_rng(10)
    prompt, answer = np.repeat(np.arange(50), 20), rng.integers(8, size=1000)
    right = third_digit(rng.random((50, 8)))[prompt, answer]
    verdicts = []
    for won in (right, rng.random(1000) < 0.3):
        found = sc.diagnose(sc.Tally.from_log(sc.Log(np.arange(1000), prompt, answer, won)))
        verdicts.append((found.detectable, found.deterministic is None))
    assert verdicts == [(True, False), (False, True)]


def test_a_hidden_state_makes_a_loss_look_like_a_gain():
    mdp = sc.SuccessMDP.from_dense(np.zeros((2, 2, 2)), [[0.9, 0.95], [0.05, 0.1]], [0.5, 0.5])
    behaviour = np.array([[0.9, 0.1], [0.1, 0.9]])
    before = sc.evaluate(mdp, behaviour)
    log = sc.sample_log(mdp, behaviour, 20_000, rng=np.random.default_rng(7))
    blind = sc.Log(log.episode, 0 * log.state, log.action, log.success)
    found = sc.diagnose(sc.Tally.from_log(blind))
    share = np.bincount(log.action[log.success], minlength=2) / log.success.sum()
    after = sc.evaluate(mdp, np.tile(share, (2, 1))).success_rate
    assert after < before.success_rate < found.pooled.low
