"""Intervals from logs: how often they hold the truth, measured on thousands of logs."""

import gymnasium
import numpy as np
import pytest

import sc_utils as sc
from sc_utils.logs import Log, estimate_influence
from tests.strategies import successes_of


def measure(pi_0, pi_plus, m, n, *, rng):
    """Draw n logs of m independent successes; return the coverage and the n estimates."""
    truth = float((pi_plus**2 / pi_0).sum() - 1)
    actions = rng.choice(pi_0.size, (n, m), p=pi_plus)
    found = estimate_influence(successes_of(actions), np.tile(pi_0, (n, 1)))
    return ((found.low <= truth) & (truth <= found.high)).mean(), found.value


@pytest.mark.parametrize("K", [2, 4, 12])
@pytest.mark.parametrize("influence", [0, 1e-4, 0.05, 0.5])
def test_the_interval_covers_as_often_as_it_says(K, influence):
    rng, m = np.random.default_rng([K, int(influence * 1e4)]), 300
    tilt = np.sqrt(influence) * (-1.0) ** np.arange(K)
    covered, values = measure(np.full(K, 1 / K), (1 + tilt) / K, m, 4300, rng=rng)
    assert covered == pytest.approx(0.95, abs=0.01)
    error = values.std() / np.sqrt(values.size)
    assert values.mean() == pytest.approx(influence, abs=3.5 * error)


def test_where_a_few_rare_actions_carry_the_influence_it_nearly_does():
    pi_0, pi_plus = np.full(12, 1 / 12), np.append([0.18, 0.18], np.full(10, 0.064))
    covered, _ = measure(pi_0, pi_plus, 300, 2000, rng=np.random.default_rng(8))
    assert covered == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize("m", [50, 300])
def test_without_influence_the_test_refuses_one_log_in_twenty(m):
    rng, n = np.random.default_rng(m), 4300
    pi_0 = np.array([0.4, 0.3, 0.2, 0.1])
    found = estimate_influence(successes_of(rng.choice(4, (n, m), p=pi_0)), np.tile(pi_0, (n, 1)))
    assert (found.p_value <= 0.05).mean() == pytest.approx(0.05, abs=0.012)
    np.testing.assert_array_equal(found.p_value <= 0.05, found.low > 0)


def test_on_a_lake_that_is_walked_in_circles_the_interval_covers():
    lake = sc.from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=sc.positive_ending)
    pi_0 = np.full(lake.success.shape, 0.25)
    truth = sc.action_influence(pi_0, sc.evaluate(lake, pi_0).Q)
    rng, n = np.random.default_rng(4), 300
    covered, effects = [], []
    for _ in range(n):
        found = estimate_influence(sc.sample_log(lake, pi_0, 20_000, rng=rng), pi_0)
        covered.append((found.low <= truth) & (truth <= found.high))
        effects.append(found.design_effect)
    # 11 states of a log are not independent: the error bar is that of the logs' means
    shares = np.mean(covered, axis=1)
    assert shares.mean() == pytest.approx(0.95, abs=0.01)
    assert shares.std() / np.sqrt(n) < 0.005
    # Given success, what is done at a return does not depend on what was done before.
    np.testing.assert_allclose(np.mean(effects, axis=0), 1, atol=0.03)


@pytest.mark.parametrize(
    "habits", [[[2 / 3, 1 / 6, 1 / 6], [0, 1 / 2, 1 / 2]], [[0.8, 0.1, 0.1], [0.4, 0.3, 0.3]]]
)
def test_where_episodes_have_their_own_habits_the_interval_covers_still(habits):
    # An episode visits the state six times and keeps to one of two habits, evenly drawn.
    rng, n, episodes = np.random.default_rng(7), 1000, 150
    pi_0, pi_plus = np.full(3, 1 / 3), np.mean(habits, axis=0)
    truth = float((pi_plus**2 / pi_0).sum() - 1)
    drawn = np.array([rng.choice(3, (n * episodes, 6), p=h) for h in habits])
    pick = rng.integers(2, size=n * episodes)
    actions = drawn[pick, np.arange(n * episodes)].reshape(n, -1)
    found = estimate_influence(successes_of(actions, per_episode=6), np.tile(pi_0, (n, 1)))
    covered = ((found.low <= truth) & (truth <= found.high)).mean()
    assert covered == pytest.approx(0.95, abs=0.02)
    assert found.design_effect.mean() > 1.4
    # Visits taken for independent would be too sure of themselves.
    naive = estimate_influence(successes_of(actions), np.tile(pi_0, (n, 1)))
    assert ((naive.low <= truth) & (truth <= naive.high)).mean() < 0.9


def test_a_small_log_without_signal_is_seldom_said_to_have_one():
    # Some 60 successes of the lake, their actions replaced by throws of a die.
    lake = sc.from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=sc.positive_ending)
    pi_0, rng = np.full(lake.success.shape, 0.25), np.random.default_rng(9)
    refused = []
    for _ in range(200):
        log = sc.sample_log(lake, pi_0, 60 * 72, rng=rng)
        thrown = Log(log.episode, log.state, rng.integers(4, size=log.action.size), log.success)
        refused.append(estimate_influence(thrown, pi_0).p_value <= 0.05)
    share, error = np.mean(refused), np.std(np.mean(refused, axis=1)) / np.sqrt(200)
    assert share == pytest.approx(0.05, abs=0.01 + 3 * error)
