"""Sampled episodes and counts: they have the law that the process gives them."""

import re
from collections import defaultdict

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import chdtrc

import sc_utils.sampling
from sc_utils.environments import bandit, from_gymnasium, positive_ending
from sc_utils.logs import Counts
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.sampling import _alias_tables, sample_counts, sample_log
from sc_utils.symbolic import ExactMDP, trajectories
from tests.strategies import mdps_with_policies

FALSE_ALARM = 1e-4  # of each statistical test, had its seed been drawn at random


def uniform(mdp):
    return np.full(mdp.success.shape, 1 / mdp.n_actions)


def log_counts(mdp, policy, n_episodes, *, rng):
    log = sample_log(mdp, policy, n_episodes, rng=rng)
    return Counts.from_log(log, mdp.n_states, mdp.n_actions)


def totals_of_groups(mdp, policy, n_episodes, n_groups, rng):
    """Visits and successes (n_groups, 2 S A) of groups of n_episodes, counted in one long log."""
    log = sample_log(mdp, policy, n_groups * n_episodes, rng=rng)
    pair = log.state * mdp.n_actions + log.action
    cell = log.episode // n_episodes * mdp.success.size + pair
    tables = [
        np.bincount(cells, minlength=n_groups * mdp.success.size).reshape(n_groups, -1)
        for cells in (cell, cell[log.success])
    ]
    return np.concatenate(tables, axis=1)


def totals_by_flows(mdp, policy, n_episodes, n_groups, rng):
    """The same table from one call of `sample_counts` per group."""
    draws = (sample_counts(mdp, policy, n_episodes, rng=rng) for _ in range(n_groups))
    return np.array([np.append(draw.visits, draw.successes) for draw in draws])


def cyclic_mdp():
    """Two states and three actions; episodes come back, and outcomes depend on every action."""
    transition = [
        [[0.5, 0.3], [0.2, 0.2], [0.0, 0.9]],
        [[0.4, 0.1], [0.0, 0.3], [0.6, 0.2]],
    ]
    success = [[0.1, 0.5, 0.0], [0.2, 0.1, 0.2]]
    return SuccessMDP.from_dense(transition, success, [0.7, 0.3])


CYCLIC_POLICY = np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]])

small_batches = pytest.mark.parametrize(
    "batches", [{}, {"EPISODES_AT_ONCE": 7, "LAYERS_AT_ONCE": 2, "LARGEST_BATCH": 2}]
)


@pytest.fixture
def _batches(batches, monkeypatch):
    for name, size in batches.items():
        monkeypatch.setattr(sc_utils.sampling, name, size)


# Identities


@given(mdps_with_policies(full_support=False), st.integers(1, 30), st.integers(0, 2**32))
def test_every_row_of_a_log_is_possible(case, n_episodes, seed):
    mdp, policy = case
    log = sample_log(mdp, policy, n_episodes, rng=np.random.default_rng(seed))
    P = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, mdp.n_states)
    last = np.append(log.episode[1:] != log.episode[:-1], True)
    first = np.append(True, last[:-1])
    goes_on = np.flatnonzero(~last)

    assert log.episode[last].tolist() == list(range(n_episodes))
    assert (mdp.initial[log.state[first]] > 0).all()
    assert (policy[log.state, log.action] > 0).all()
    assert (P[log.state[goes_on], log.action[goes_on], log.state[goes_on + 1]] > 0).all()
    exits = np.where(log.success[:, np.newaxis, np.newaxis], mdp.success, mdp.failure)
    rows = np.flatnonzero(last)
    assert (exits[rows, log.state[rows], log.action[rows]] > 0).all()


@given(mdps_with_policies(full_support=False), st.integers(1, 10**6), st.integers(0, 2**32))
def test_counts_are_possible(case, n_episodes, seed):
    mdp, policy = case
    counts = sample_counts(mdp, policy, n_episodes, rng=np.random.default_rng(seed))
    e = evaluate(mdp, policy)
    expected = e.visits[:, np.newaxis] * policy
    assert (counts.visits[expected == 0] == 0).all()
    assert (counts.successes[e.Q == 0] == 0).all()
    assert counts.visits.sum() >= n_episodes


@given(
    arrays(np.int64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=st.integers(0, 9))
)
def test_alias_tables_hold_the_probabilities(weights):
    weights[:, -1] += 1
    p = np.sort(weights / weights.sum(axis=1, keepdims=True), axis=1)
    threshold, cell = _alias_tables(p)
    columns = np.arange(p.size)
    below = np.clip(threshold - columns % p.shape[1], 0, 1) / p.shape[1]
    drawn = np.zeros(p.size)
    np.add.at(drawn, cell[2 * columns + 1], below)
    np.add.at(drawn, cell[2 * columns], 1 / p.shape[1] - below)
    np.testing.assert_allclose(drawn.reshape(p.shape), p, rtol=0, atol=1e-15)
    assert (drawn[p.ravel() == 0] == 0).all()


def test_equal_generators_give_equal_data():
    mdp, policy = cyclic_mdp(), CYCLIC_POLICY
    for draw in (log_counts, sample_counts):
        one, two, other = (
            draw(mdp, policy, 1000, rng=np.random.default_rng(seed)).visits for seed in (5, 5, 6)
        )
        assert (one == two).all()
        assert (one != other).any()


# Oracles


def convolve(law, other):
    total = defaultdict(float)
    for x, p in law.items():
        for y, q in other.items():
            total[tuple(np.add(x, y).tolist())] += p * q
    return dict(total)


def assert_drawn_from(draws, law):
    """Pearson's chi-squared test; tables expected fewer than five times are taken together."""
    found = defaultdict(int)
    for table in draws.tolist():
        found[tuple(table)] += 1
    assert set(found) <= set(law)
    expected = np.array(list(law.values())) * len(draws)
    observed = np.array([found[table] for table in law])
    rare = expected < 5
    expected, observed = (
        np.append(x[~rare], x[rare].sum()) for x in (expected, observed.astype(float))
    )
    statistic = ((observed - expected) ** 2 / expected).sum()
    assert expected.size > 20
    assert chdtrc(expected.size - 1, statistic) > FALSE_ALARM


@small_batches
@pytest.mark.usefixtures("_batches")
@pytest.mark.parametrize("draw", [totals_of_groups, totals_by_flows])
def test_joint_law_of_all_counts_by_enumeration(draw, rng):
    """Three episodes of a process whose trajectories can be listed: every table has its chance."""
    mdp = SuccessMDP.from_dense(
        [[[0, 0.5], [0, 0.25], [0, 1]], np.zeros((3, 2))],
        [[0.25, 0, 0], [0.5, 1, 0]],
        [0.75, 0.25],
    )
    policy = np.array([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    exact = ExactMDP.of(mdp.transition.toarray().reshape(2, 3, 2), mdp.success, mdp.initial)
    law = defaultdict(float)
    for path in trajectories(exact, policy):
        visits = np.zeros(6, dtype=int)
        np.add.at(visits, [s * 3 + a for s, a in path.decisions], 1)
        law[(*visits.tolist(), *(visits * path.success).tolist())] += float(path.probability)
    law = convolve(law, convolve(law, law))
    assert_drawn_from(draw(mdp, policy, 3, 2000, rng), law)


@small_batches
@pytest.mark.usefixtures("_batches")
@pytest.mark.parametrize("draw", [totals_of_groups, totals_by_flows])
def test_revisits_share_the_outcome_of_their_episode(draw, rng):
    """One state to which half the tosses return: the joint law of visits and successes."""
    coin = SuccessMDP.from_dense([[[0.5]]], [[0.25]], [1])
    one = {(n, n * won): 0.5**n / 2 for n in range(1, 40) for won in (0, 1)}
    law = convolve(one, convolve(one, one))
    assert_drawn_from(draw(coin, [[1]], 3, 2000, rng), law)


@pytest.fixture(scope="module")
def cyclic_draws():
    """Four episodes of a cyclic process, 3000 times, by either road."""
    rng = np.random.default_rng(20260118)
    return [
        draw(cyclic_mdp(), CYCLIC_POLICY, 4, 3000, rng).astype(float)
        for draw in (totals_of_groups, totals_by_flows)
    ]


def test_flows_and_logs_have_the_same_means_variances_and_covariances(cyclic_draws):
    """Two-sample z-tests of the twelve counts and of all their products."""
    centre = np.concatenate(cyclic_draws).mean(axis=0)
    rows, columns = np.triu_indices(centre.size)
    moments = [
        np.hstack([x, (x - centre)[:, rows] * (x - centre)[:, columns]]) for x in cyclic_draws
    ]
    error = np.sqrt(sum(m.var(axis=0) / len(m) for m in moments))
    z = (moments[0].mean(axis=0) - moments[1].mean(axis=0)) / error
    assert z.size == 12 + 78
    assert np.abs(z).max() < 4.9  # 90 tests of 1e-6 each


@pytest.mark.parametrize("road", [0, 1], ids=["log", "flows"])
def test_means_are_the_exact_visits(road, cyclic_draws):
    """E[visits] = n d_0 pi_0, E[successes] = n d_0 pi_0 Q_0: one Wald test of all twelve."""
    draws, e = cyclic_draws[road], evaluate(cyclic_mdp(), CYCLIC_POLICY)
    visits = e.visits[:, np.newaxis] * CYCLIC_POLICY
    gap = draws.mean(axis=0) - 4 * np.append(visits, visits * e.Q)
    statistic = len(draws) * gap @ np.linalg.solve(np.cov(draws.T), gap)
    assert chdtrc(gap.size, statistic) > FALSE_ALARM


def test_a_hundred_million_walks_over_frozen_lake(rng):
    lake = from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)
    policy, n = uniform(lake), 10**8
    e = evaluate(lake, policy)
    counts = sample_counts(lake, policy, n, rng=rng)
    visits = n * e.visits[:, np.newaxis] * policy
    np.testing.assert_allclose(counts.visits, visits, rtol=2e-3)
    np.testing.assert_allclose(counts.successes, visits * e.Q, rtol=1e-2)


# Golden


@pytest.mark.parametrize("draw", [log_counts, sample_counts])
def test_deterministic_episode(draw, rng):
    """State 1, action 2, to state 0, action 1: success; nothing is left to chance."""
    transition = np.zeros((2, 3, 2))
    transition[1, 2, 0] = 1
    mdp = SuccessMDP.from_dense(transition, [[0, 1, 0], [0, 0, 0]], [0, 1])
    counts = draw(mdp, [[0, 1, 0], [0, 0, 1]], 7, rng=rng)
    assert counts.visits.tolist() == counts.successes.tolist() == [[0, 7, 0], [0, 0, 7]]


def test_more_episodes_than_one_urn_holds(rng):
    counts = sample_counts(bandit([0.25, 1]), [[0.5, 0.5]], 5 * 10**9, rng=rng)
    assert counts.visits.sum() == 5 * 10**9
    assert counts.visits[0, 1] == counts.successes[0, 1]
    np.testing.assert_allclose(counts.successes / 10**9, [[0.625, 2.5]], rtol=1e-4)


def test_an_unreachable_trap_does_no_harm(rng):
    """State 1 is never left; under this policy it is never entered either."""
    transition = np.zeros((2, 3, 2))
    transition[0, 0, 1] = transition[1, :, 1] = 1
    mdp = SuccessMDP.from_dense(transition, [[0, 1, 0.5], [0, 0, 0]], [1, 0], ["in", "trap"])
    never_enter = [[0, 0.5, 0.5], [1, 0, 0]]
    for draw in (log_counts, sample_counts):
        assert draw(mdp, never_enter, 10, rng=rng).visits.sum(axis=1).tolist() == [10, 0]


# Refusals


@pytest.mark.parametrize("draw", [sample_log, sample_counts])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"n_episodes": 0}, ValueError, "n_episodes must be at least 1, got 0"),
        ({"n_episodes": 1e6}, TypeError, "n_episodes must be an integer, got 1000000.0"),
        ({"rng": 7}, TypeError, "rng must be a numpy.random.Generator"),
        ({"rng": np.random}, TypeError, "rng must be a numpy.random.Generator"),
        ({"policy": [[0.5, 0.5], [1, 0]]}, ValueError, "(S, A) = (2, 3), got (2, 2)"),
        ({"policy": [1, 0, 0]}, ValueError, "(S, A) = (2, 3), got (3,)"),
        ({"policy": [[1, 0, 0], [0.5, 0.48, 0]]}, ValueError, "policy[1] must sum to 1, got 0.98"),
        ({"policy": [[1, 0, 0], [2, -1, 0]]}, ValueError, "policy[1, 1] must not be negative"),
        ({"policy": [[np.nan, 0, 1], [1, 0, 0]]}, ValueError, "policy[0, 0] is NaN"),
        (
            {"policy": [[0.5, 0, 0.5], [1, 0, 0]]},
            ValueError,
            "an episode that reaches state trap never ends under this policy",
        ),
    ],
)
def test_refuses(draw, changes, error, message, rng):
    transition = np.zeros((2, 3, 2))
    transition[0, 2, 1] = transition[1, 0, 1] = 1
    success = [[0.5, 0.5, 0], [0, 0.5, 0.5]]
    mdp = SuccessMDP.from_dense(transition, success, [1, 0], ["start", "trap"])
    arguments = {"policy": uniform(mdp), "n_episodes": 10, "rng": rng} | changes
    with pytest.raises(error, match=re.escape(message)):
        draw(mdp, **arguments)
