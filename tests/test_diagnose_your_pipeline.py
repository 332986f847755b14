"""What chapter 17 claims of a diagnosis, by other routes."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

import sc_utils as sc

WAITING = sc.SuccessMDP.from_dense([[[0.75], [0]]], [[1 / 16, 1 / 4]], [1])


def influence(acts, won):
    """The estimate of one state, pair by pair, in fractions."""
    n, pairs = len(acts), [(i, j) for i in range(len(acts)) for j in range(len(acts)) if i != j]
    P = sum(won[i] * won[j] for i, j in pairs)
    total = Fraction(0)
    for a in set(acts):
        n_a = acts.count(a)
        P_a = sum(won[i] * won[j] for i, j in pairs if acts[i] == acts[j] == a)
        total += Fraction(P_a, n_a - 1)
    return Fraction(n - 1, P) * total - 1


@pytest.mark.parametrize("sizes", [(2, 2), (2, 3, 2), (5, 2)])
@pytest.mark.parametrize("wins", [2, 3])
def test_pairs_that_acted_alike_have_mean_zero_over_all_orders(sizes, wins):
    acts = [a for a, size in enumerate(sizes) for _ in range(size)]
    n, total = len(acts), Fraction(0)
    for who in combinations(range(n), wins):
        won = [int(i in who) for i in range(n)]
        value = influence(acts, won)
        total += value
    log = sc.Log(np.arange(n), [0] * n, acts, np.array(won, dtype=bool))
    assert total == 0
    found = sc.diagnose(sc.Tally.from_log(log)).influence.value
    assert found == pytest.approx(float(value), rel=1e-12)


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


def graded(rng):
    question = np.repeat(np.arange(40), 12)
    won = rng.random(480) < np.repeat(rng.random(40), 12)
    return sc.Log(np.arange(480), question, rng.choice(4, 480, p=[0.4, 0.3, 0.2, 0.1]), won)


@pytest.mark.parametrize("draw", [waiting, graded])
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
