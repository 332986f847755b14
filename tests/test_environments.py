"""Environments: the processes are the ones they are said to be."""

import re
from collections import Counter
from fractions import Fraction
from itertools import product
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.envs.toy_text import blackjack as gymnasium_blackjack
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import chdtrc

from sc_utils.conditioning import action_influence, condition_on_success
from sc_utils.environments import (
    any_ending,
    bandit,
    blackjack,
    chunked,
    expressions,
    from_gymnasium,
    positive_ending,
    random_mdp,
    return_at_least,
    slippery_grid,
)
from sc_utils.luck import luck_decomposition
from sc_utils.mdp import evaluate, maximise_success
from sc_utils.sampling import sample_counts
from tests.strategies import mdps_with_policies

FALSE_ALARM = 1e-4


def uniform(mdp):
    return np.full(mdp.success.shape, 1 / mdp.n_actions)


def crossing(s, a, s2, reward, terminated):
    """CliffWalking in which a fall is the failure."""
    return "failure" if reward == -100 else any_ending(s, a, s2, reward, terminated)


def table_env(P, start):
    """An environment that is nothing but a table."""
    return SimpleNamespace(unwrapped=SimpleNamespace(P=P, initial_state_distrib=np.array(start)))


def two_step_table():
    """State 4 goes to 2 in two rows, 2 succeeds in two; 0 cannot be reached, 1 is the end."""
    return {
        0: {0: [(1.0, 0, 0.0, False)], 1: [(1.0, 2, 0.0, False)]},
        1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 1, 0.0, True)]},
        2: {
            0: [(0.5, 1, 1.0, True), (0.25, 1, 2.0, True), (0.25, 1, 0.0, True)],
            1: [(1.0, 4, 0.0, False)],
        },
        3: {0: [(1.0, 3, 0.0, False)], 1: [(1.0, 3, 0.0, False)]},
        4: {
            0: [(0.25, 2, 0.0, False), (0.25, 2, 0.0, False), (0.5, 4, 0.0, False)],
            1: [(1.0, 1, 0.0, True), (0.0, 3, 0.0, False)],
        },
    }


START_AT_4 = [0, 0, 0, 0, 1.0]


# Identities


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32))
def test_random_mdps_are_sparse_proper_and_can_succeed(n_states, n_actions, seed):
    mdp = random_mdp(n_states, n_actions, rng=np.random.default_rng(seed))
    assert mdp.success.shape == (n_states, n_actions)
    assert (mdp.success > 0).all()
    assert (mdp.failure > 0).all()
    assert (mdp.success + mdp.failure <= 0.2 + 1e-12).all()
    assert (np.diff(mdp.transition.indptr) <= 3).all()
    assert 0 < evaluate(mdp, uniform(mdp)).success_rate < 1


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(any))
def test_a_bandit_succeeds_as_its_arms_do(theta):
    e = evaluate(bandit(theta), np.full((1, len(theta)), 1 / len(theta)))
    assert e.Q[0].tolist() == theta
    assert e.success_rate == pytest.approx(np.mean(theta), rel=1e-12)


def test_random_mdps_repeat_with_their_generator():
    one, two, other = (random_mdp(4, 3, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.success == two.success).all()
    assert (one.transition != two.transition).nnz == 0
    assert (one.success != other.success).all()


# Oracles


def test_random_mdps_have_the_moments_of_their_description(rng):
    """Means of 10,000 draws each, within four standard errors."""
    mdp = random_mdp(10, 1000, rng=rng)
    ends, share = mdp.success + mdp.failure, mdp.success / (mdp.success + mdp.failure)
    for draws, low, high in [(ends, 0, 0.2), (share, 0, 1)]:
        assert abs(draws.mean() - (low + high) / 2) < 4 * (high - low) / np.sqrt(12 * 10_000)
        assert abs(draws.min() - low) + abs(draws.max() - high) < 0.01 * (high - low)
    weights = (mdp.transition / (1 - ends.reshape(-1, 1))).tocsr()
    # Three weights, uniform on the simplex, fall on uniform states: a state gets 1/10 on average,
    # with variance 3 E[w^2] / 10 + 6 E[w w'] / 100 - 1/100 = 0.045.
    means = weights.mean(axis=0)
    assert np.abs(means - 0.1).max() < 4 * np.sqrt(0.045 / 10_000)
    assert weights.max() > 0.99


@pytest.mark.parametrize(
    ("name", "options", "outcome", "hazard"),
    [
        ("FrozenLake-v1", {}, positive_ending, 0.0),
        ("FrozenLake-v1", {"is_slippery": False}, positive_ending, 0.1),
        ("FrozenLake-v1", {"map_name": "8x8", "success_rate": 0.8}, positive_ending, 0.01),
        ("CliffWalking-v1", {}, crossing, 0.05),
        ("CliffWalking-v1", {"is_slippery": True}, crossing, 0.0),
        ("Taxi-v4", {}, positive_ending, 0.05),
        ("Taxi-v4", {"is_rainy": True}, positive_ending, 0.1),
    ],
)
def test_tables_against_plain_sweeps(name, options, outcome, hazard):
    """V = E[gamma^T 1{success}] by value iteration over the raw table, every state, every row."""
    env = gymnasium.make(name, **options)
    mdp = from_gymnasium(env, outcome=outcome, hazard=hazard)
    P, V, change = env.unwrapped.P, Counter(), 1.0
    value = {"success": lambda s: 1.0, "failure": lambda s: 0.0, "continue": V.__getitem__}
    while change > 1e-13:
        change = 0.0
        for s in mdp.labels.tolist():
            steps = [(p, s2, outcome(s, a, s2, r, end)) for a in P[s] for p, s2, r, end in P[s][a]]
            new = (1 - hazard) * sum(p * value[end](s2) for p, s2, end in steps) / len(P[s])
            change = max(change, abs(new - V[s]))
            V[s] = new
    e = evaluate(mdp, uniform(mdp))
    np.testing.assert_allclose(e.V, [V[s] for s in mdp.labels.tolist()], rtol=0, atol=1e-10)
    start = env.unwrapped.initial_state_distrib
    assert e.success_rate == pytest.approx(sum(start[s] * V[s] for s in V), rel=1e-8)


@pytest.mark.parametrize("name", ["FrozenLake-v1", "CliffWalking-v1", "Taxi-v4"])
def test_a_played_episode_stays_in_the_table(name, rng):
    """Only labelled states are met, every move has a probability, and all are met in the end."""
    env = gymnasium.make(name).unwrapped
    mdp = from_gymnasium(env, outcome=any_ending)
    number = {s: i for i, s in enumerate(mdp.labels.tolist())}
    s, _ = env.reset(seed=int(rng.integers(2**31)))
    possible = mdp.transition.todok()
    for a in rng.integers(mdp.n_actions, size=20_000).tolist():
        row = number[s] * mdp.n_actions + a
        s2, _, terminated, _, _ = env.step(a)
        reached = mdp.success[number[s], a] if terminated else possible[row, number[s2]]
        assert reached > 0
        s = env.reset()[0] if terminated else s2


@pytest.mark.parametrize(
    ("desc", "hazard"),
    [
        (generate_random_map(size=6, p=0.7, seed=3), 0.0),
        (generate_random_map(size=9, p=0.65, seed=5), 0.05),
        (["SFFHF", "FHFFF", "FFHHG"], 0.0),
        (["SHF", "FFH", "HFF", "FFG"], 0.25),  # the corner beyond the holes is out of reach
        (["SFFFG"], 0.0),
    ],
)
def test_the_grid_is_frozen_lake(desc, hazard):
    lake = from_gymnasium(
        gymnasium.make("FrozenLake-v1", desc=desc), outcome=positive_ending, hazard=hazard
    )
    holes = np.array([[cell == "H" for cell in row] for row in desc])
    grid = slippery_grid(*holes.shape, holes=holes, hazard=hazard)
    assert grid.labels.tolist() == lake.labels.tolist()
    np.testing.assert_allclose(grid.transition.toarray(), lake.transition.toarray(), atol=1e-15)
    np.testing.assert_allclose(grid.success, lake.success, atol=1e-15)
    np.testing.assert_allclose(grid.failure, lake.failure, atol=1e-15)
    np.testing.assert_array_equal(grid.initial, lake.initial)


def natural_or_score(hand):
    return "natural" if gymnasium_blackjack.is_natural(hand) else gymnasium_blackjack.score(hand)


def dealer_scores(hand):
    """Exact law of the dealer's final hand, by the environment's own arithmetic on whole hands."""
    if gymnasium_blackjack.sum_hand(hand) >= 17:
        return Counter({natural_or_score(hand): Fraction(1)})
    law = Counter()
    for card, copies in Counter(gymnasium_blackjack.deck).items():
        for score, p in dealer_scores([*hand, card]).items():
            law[score] += Fraction(copies, 13) * p
    return law


def test_blackjack_against_whole_hands_in_rationals():
    """Every number of the table, from the functions of the environment on whole hands."""
    mdp = blackjack()
    number = {hand: i for i, hand in enumerate(mdp.labels.tolist())}
    table = mdp.transition.toarray().reshape(290, 2, 290)
    deck = Counter(gymnasium_blackjack.deck)
    final = {dealer: dealer_scores([dealer]) for dealer in deck}

    def state_of(hand, dealer):
        ace = bool(gymnasium_blackjack.usable_ace(hand))
        total, natural = gymnasium_blackjack.sum_hand(hand), gymnasium_blackjack.is_natural(hand)
        return number[total, dealer, ace, natural]

    def beats(hand, score):
        if gymnasium_blackjack.is_natural(hand):
            return score != "natural"
        return gymnasium_blackjack.sum_hand(hand) > (21 if score == "natural" else score)

    hands = [[1, n] for n in range(1, 11)] + [[1, 5, 5]]  # soft 12 to 21, naturally or not
    hands += [[2, n] for n in range(2, 11)] + [[10, n] for n in range(3, 11)] + [[10, 9, 2]]
    assert len({state_of(hand, 7) for hand in hands}) == 29
    for hand in hands:
        for dealer, law in final.items():
            s = state_of(hand, dealer)
            win = sum(p for score, p in law.items() if beats(hand, score))
            assert mdp.success[s].tolist() == [pytest.approx(float(win), rel=1e-14), 0]
            hit = np.zeros(290)
            for card, copies in deck.items():
                if not gymnasium_blackjack.is_bust([*hand, card]):
                    hit[state_of([*hand, card], dealer)] += copies / 13
            np.testing.assert_allclose(table[s], [np.zeros(290), hit], rtol=1e-14)


class Shoe:
    """The randomness of a Blackjack environment; NumPy's `choice` would take most of the time."""

    def __init__(self, rng):
        self.rng, self.uniforms = rng, iter(())

    def choice(self, options):
        for u in self.uniforms:
            return options[int(u * len(options))]
        self.uniforms = iter(self.rng.random(10**5).tolist())
        return self.choice(options)


def test_blackjack_against_a_million_hands_in_the_real_environment(rng):
    """Under the uniform policy: deals, wins after sticking in each state, and the success rate."""
    mdp, n_hands = blackjack(), 10**6
    env = gymnasium.make("Blackjack-v1").unwrapped
    env.np_random = Shoe(rng)
    deals, sticks, wins = Counter(), Counter(), Counter()
    for _ in range(n_hands):
        observation, _ = env.reset()
        hand = (*observation, observation[0] == 21)
        deals[hand] += 1
        action, terminated = env.np_random.choice((0, 1)), False
        while action == 1 and not terminated:
            observation, _, terminated, _, _ = env.step(1)
            hand, action = (*observation, False), env.np_random.choice((0, 1))
        if not terminated:
            sticks[hand] += 1
            wins[hand] += env.step(0)[1] > 0
    hands = mdp.labels.tolist()
    assert set(deals) | set(sticks) <= set(hands)

    dealt, expected = np.array([deals[hand] for hand in hands]), n_hands * mdp.initial
    possible = expected > 0
    statistic = ((dealt - expected)[possible] ** 2 / expected[possible]).sum()
    assert dealt[~possible].sum() == 0
    assert chdtrc(possible.sum() - 1, statistic) > FALSE_ALARM

    n, theta = np.array([sticks[hand] for hand in hands]), mdp.success[:, 0]
    won, certain = np.array([wins[hand] for hand in hands]), theta == 1
    assert certain.sum() == 8  # a natural, if the dealer shows neither an ace nor a ten
    assert (won[certain] == n[certain]).all()
    won_open, n_open, theta = won[~certain], n[~certain], theta[~certain]
    z = (won_open - n_open * theta) / np.sqrt(n_open * theta * (1 - theta))
    assert chdtrc(z.size, (z**2).sum()) > FALSE_ALARM

    rate = evaluate(mdp, uniform(mdp)).success_rate
    standard_error = np.sqrt(rate * (1 - rate) / n_hands)
    assert abs(won.sum() / n_hands - rate) < 3 * standard_error


def random_table(seed, n_states=4, n_actions=2, rewards=(-2, -1, 0, 1, 2), ends=True):
    """A table with rational probabilities in eighths; its last state is where episodes end."""
    draw = np.random.default_rng(seed)
    table = {}
    for s in range(n_states):
        table[s] = {}
        for a in range(n_actions):
            weights = draw.multinomial(8, [1 / 3] * 3)
            row = []
            for weight in weights.tolist():
                s2 = int(draw.integers(s, n_states)) if ends else int(draw.integers(n_states))
                s2 = min(s2 + 1, n_states - 1) if ends else s2
                end = s2 == n_states - 1
                row.append((weight / 8, s2, float(draw.choice(rewards)), end))
            table[s][a] = row
    return table


def returns(table, policy, s, total=Fraction(0), p=Fraction(1)):
    """Yield the probability and the return of every trajectory from a state, one by one."""
    for a, row in table[s].items():
        for probability, s2, reward, terminated in row:
            chance = p * policy[s][a] * Fraction(probability)
            value = total + Fraction(str(reward))
            if not chance:
                continue
            if terminated:
                yield chance, value
            else:
                yield from returns(table, policy, s2, value, chance)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("unit", [1, 0.1])
def test_the_chance_of_a_return_against_every_trajectory(seed, unit):
    """Tables without a way back, rewards of both signs: V, Q and the rate, in rationals.

    Rewards in tenths are added as tenths: whether a float sum lies above or below is not asked.
    """
    table = random_table(seed, n_states=6, rewards=[round(k * unit, 1) for k in (-2, -1, 0, 1, 3)])
    start = [0.5, 0.25, 0.25, 0, 0, 0]
    policy = [[Fraction(1, 4), Fraction(3, 4)], [Fraction(1, 3), Fraction(2, 3)]] * 3
    laws = {s: list(returns(table, policy, s)) for s in range(3)}
    values = sorted({value for law in laws.values() for _, value in law})
    for threshold in [values[0], *values[len(values) // 2 :]]:
        mdp = return_at_least(table_env(table, start), float(threshold))
        pairs = mdp.labels.tolist()
        pi = np.array([policy[s] for s, _ in pairs], dtype=float)
        e = evaluate(mdp, pi)
        exact = {s: sum(p for p, value in laws[s] if value >= threshold) for s in laws}
        rate = sum(Fraction(start[s]) * exact[s] for s in laws)
        assert e.success_rate == pytest.approx(float(rate), rel=1e-12)
        for i in np.flatnonzero(mdp.initial):
            assert e.V[i] == pytest.approx(float(exact[pairs[i][0]]), rel=1e-12, abs=1e-15)


def sweep_over_returns(P, start, threshold, horizon):
    """Forward in time: the chance to end with the return, under the uniform policy, by dictionary.

    No pair is pruned or merged. Return the chance, and that of not having ended in time.
    """
    now = Counter({(s, 0): p for s, p in enumerate(start) if p})
    won = 0.0
    for _ in range(horizon):
        later = Counter()
        for (s, total), p in now.items():
            for a in P[s]:
                for probability, s2, reward, terminated in P[s][a]:
                    chance = p * probability / len(P[s])
                    if terminated:
                        won += chance * (total + reward >= threshold)
                    else:
                        later[s2, total + reward] += chance
        now = later
    return won, sum(now.values())


@pytest.mark.parametrize(
    ("rewards", "prize", "threshold"),
    [
        ((0, 1, 2), 0, 4),
        ((0, -1, -3), 0, -4),
        ((1, 2), 0, 3),
        ((-1, -2), 0, -7),
        ((-1, -3), 6, -2),
        ((0, 1, 2), -5, 1),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_the_chance_of_a_return_with_ways_back(rewards, prize, threshold, seed):
    """Cycles: gains that merge, losses that are pruned; against a sweep that does neither."""
    table = random_table(seed, n_states=4, n_actions=3, rewards=rewards, ends=False)
    for row in (row for actions in table.values() for row in actions.values()):
        row[:] = [(p, s2, reward + prize * end, end) for p, s2, reward, end in row]
    start = [0.5, 0.5, 0, 0]
    won, open_end = sweep_over_returns(table, start, threshold, horizon=70)
    mdp = return_at_least(table_env(table, start), threshold)
    assert open_end < 1e-4
    rate = evaluate(mdp, uniform(mdp)).success_rate
    assert won - 1e-12 <= rate <= won + open_end + 1e-12
    assert mdp.n_states <= 4 * (abs(threshold) + abs(prize) + 1)


def test_the_chance_of_a_return_against_the_real_environment(rng):
    """Slippery CliffWalking, keeping off the edge: 5,000 episodes, 3.5 standard errors."""
    env = gymnasium.make("CliffWalking-v1", is_slippery=True).unwrapped
    mdp = return_at_least(env, -150)
    right, down, up = np.eye(4)[[1, 2, 0]]
    way = [down if s % 12 == 11 else up if s >= 24 else right for s in range(48)]
    rows = 0.8 * np.array(way) + 0.05
    e = evaluate(mdp, rows[mdp.labels["state"]])
    wins, n = 0, 5000
    env.reset(seed=int(rng.integers(2**31)))
    for _ in range(n):
        (s, _), total, terminated = env.reset(), 0, False
        while not terminated and total >= -150:
            a = int(np.searchsorted(rows[s].cumsum(), rng.random()))
            s, reward, terminated, _, _ = env.step(a)
            total += reward
        wins += terminated and total >= -150
    error = np.sqrt(e.success_rate * (1 - e.success_rate) / n)
    assert 0.1 < e.success_rate < 0.9
    assert abs(wins / n - e.success_rate) < 3.5 * error


@pytest.mark.parametrize("seed", range(5))
def test_a_low_threshold_asks_for_nothing_but_an_ending(seed):
    table = random_table(seed, ends=False, rewards=(0, 1, 3))
    env, start = table_env(table, [1, 0, 0, 0]), 0
    low, ending = return_at_least(env, -1), from_gymnasium(env, outcome=any_ending)
    assert low.labels["state"].tolist() == ending.labels.tolist()
    assert low.labels["return"][start] <= 0
    assert (low.transition != ending.transition).nnz == 0
    assert (low.success == ending.success).all()
    assert (low.initial == ending.initial).all()


@pytest.mark.parametrize("hazard", [0.0, 0.2])
def test_a_return_above_zero_on_the_lake_is_to_arrive(hazard):
    env = gymnasium.make("FrozenLake-v1")
    lake = from_gymnasium(env, outcome=positive_ending, hazard=hazard)
    same = return_at_least(env, 0.5, hazard=hazard)
    assert same.labels.tolist() == [(s, 0.0) for s in lake.labels.tolist()]
    assert (same.transition != lake.transition).nnz == 0
    assert (same.success == lake.success).all()


# Golden


@pytest.mark.parametrize(("is_slippery", "conditioned"), [(True, 0.031198), (False, 1.0)])
def test_frozen_lake_before_and_after_one_step(is_slippery, conditioned):
    """Published reference: 0.0139398 under the uniform policy in either lake."""
    lake = from_gymnasium(
        gymnasium.make("FrozenLake-v1", is_slippery=is_slippery), outcome=positive_ending
    )
    assert lake.labels.tolist() == [0, 1, 2, 3, 4, 6, 8, 9, 10, 13, 14]
    e = evaluate(lake, uniform(lake))
    assert e.success_rate == pytest.approx(0.0139398, abs=5e-8)
    after = evaluate(lake, condition_on_success(e.policy, e.Q)).success_rate
    assert after == pytest.approx(conditioned, abs=5e-7)


def test_cliff_walking_with_falls_as_failures():
    cliff = from_gymnasium(gymnasium.make("CliffWalking-v1"), outcome=crossing, hazard=0.05)
    assert cliff.labels.tolist() == list(range(37))  # the cliff and the goal are no states
    e = evaluate(cliff, uniform(cliff))
    assert luck_decomposition(cliff, e).skill_share == pytest.approx(0.746, abs=5e-4)


def test_taxi_has_four_hundred_states():
    """25 places, 4 destinations, and the passenger waiting at another one of 3, or riding."""
    taxi = from_gymnasium(gymnasium.make("Taxi-v4"), outcome=positive_ending)
    assert (taxi.n_states, taxi.n_actions) == (25 * 4 * (3 + 1), 6)
    assert np.count_nonzero(taxi.initial) == 25 * 4 * 3
    assert np.count_nonzero(taxi.success) == 4  # drop the rider where he wants to go


@pytest.mark.parametrize("hazard", [0.0, 0.25])
def test_a_table_by_hand(hazard):
    env = table_env(two_step_table(), START_AT_4)
    mdp = from_gymnasium(env, outcome=positive_ending, hazard=hazard)
    gamma = 1 - hazard
    assert mdp.labels.tolist() == [2, 4]  # 0 and 3 are out of reach; 1 is the end
    assert mdp.initial.tolist() == [0, 1]
    assert mdp.success.tolist() == [[0.75 * gamma, 0], [0, 0]]
    moves = [[[0, 0], [0, gamma]], [[0.5 * gamma, 0.5 * gamma], [0, 0]]]
    assert mdp.transition.toarray().reshape(2, 2, 2).tolist() == moves


def test_the_pairs_of_a_short_walk_by_hand():
    """CliffWalking's shortest way takes 13 steps: one pair each; hurry pays, so it is the only way.

    With one step to spare a wall can be run into once, at any of the 13 places: 26 pairs.
    """
    env = gymnasium.make("CliffWalking-v1")
    path = [36, *range(24, 36)]
    mdp = return_at_least(env, -13)
    assert sorted(mdp.labels.tolist()) == sorted((s, -float(k)) for k, s in enumerate(path))
    e = evaluate(mdp, uniform(mdp))
    assert e.success_rate == pytest.approx(0.25**13, rel=1e-12)
    spare = return_at_least(env, -14).labels.tolist()
    late = [(s, -k - 1.0) for k, s in enumerate(path)]
    assert set(spare) == set(mdp.labels.tolist()) | set(late)


def test_taxi_is_feasible():
    """No trip returns more than 20 - 5; those that return 0 or more take few pairs."""
    env = gymnasium.make("Taxi-v4")
    mdp = return_at_least(env, 0)
    assert mdp.n_states < 400 * 21
    assert 0 < evaluate(mdp, uniform(mdp)).success_rate < 1
    assert mdp.labels["return"].max() == 0
    assert mdp.labels["return"].min() == -20  # on the goal, about to be paid


def counter_table(reward, n):
    """States 0, 1, ..., n: each step pays the reward; the last one ends the episode."""
    return {
        s: {
            0: [(1.0, min(s + 1, n), reward, s + 1 >= n)],
            1: [(0.5, s, reward, False), (0.5, min(s + 1, n), reward, s + 1 >= n)],
        }
        for s in range(n + 1)
    }


def test_rewards_are_added_as_they_are_written():
    """In floats 0.7 + 0.1 < 0.8; not so in decimals."""
    env = table_env(counter_table(0.1, 3), [1, 0, 0, 0])
    reached = return_at_least(env, 0.3)
    assert reached.labels.tolist() == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert evaluate(reached, [[1, 0]] * 3).success_rate == 1
    exceeded = return_at_least(env, 0.4)
    assert evaluate(exceeded, [[1, 0]] * exceeded.n_states).success_rate == 0
    uneven = {0: {0: [(1.0, 1, 0.7, False)]}, 1: {0: [(1.0, 1, 0.1, True)]}}
    sum_of_two = return_at_least(table_env(uneven, [1, 0]), 0.8)
    assert evaluate(sum_of_two, [[1], [1]]).success_rate == 1
    env = table_env(counter_table(np.float32(0.1), 3), [1, 0, 0, 0])
    assert return_at_least(env, np.float32(0.3)).labels.tolist() == reached.labels.tolist()
    whole = table_env({0: {0: [(1.0, 0, 2**53, True)]}}, [1])
    with pytest.raises(ValueError, match="no episode"):
        return_at_least(whole, 2**53 + 1)  # the float of which is 2**53


def test_a_start_without_hope_is_kept_and_fails():
    table = two_step_table()
    table[3] = {0: [(1.0, 3, 0.0, False)], 1: [(1.0, 3, 0.0, False)]}
    mdp = return_at_least(table_env(table, [0, 0, 0, 0.25, 0.75]), 1)
    hopeless = mdp.labels["state"] == 3
    assert mdp.initial[hopeless].tolist() == [0.25]
    assert mdp.failure[hopeless].tolist() == [[1, 1]]


def test_the_last_step_is_discounted_too():
    """Right twice on a dry lake of three cells: T = 2, hence gamma squared."""
    env = gymnasium.make("FrozenLake-v1", desc=["SFG"], is_slippery=False)
    lake = from_gymnasium(env, outcome=positive_ending, hazard=0.1)
    go_right = np.eye(4)[[2, 2]]
    assert evaluate(lake, go_right).success_rate == pytest.approx(0.81, rel=1e-14)


def test_blackjack_by_hand():
    mdp = blackjack()
    number = {hand: i for i, hand in enumerate(mdp.labels.tolist())}
    assert mdp.initial[mdp.labels["natural"]].sum() == pytest.approx(2 / 13 * 4 / 13, rel=1e-14)
    two_aces = (mdp.labels["player"] == 12) & mdp.labels["usable_ace"]
    assert mdp.initial[two_aces].sum() == pytest.approx(1 / 169, rel=1e-14)
    assert mdp.success[number[21, 10, True, True], 0] == pytest.approx(12 / 13, rel=1e-14)
    hit = mdp.transition.toarray().reshape(290, 2, 290)[:, 1]
    from_20 = hit[number[20, 7, False, False]]
    assert from_20[number[21, 7, False, False]] == from_20.sum() == pytest.approx(1 / 13)  # an ace
    by_a_ten = number[21, 3, True, True], number[21, 3, False, False]
    by_an_ace = number[10, 3, False, False], number[21, 3, True, False]
    assert (hit[by_a_ten], hit[by_an_ace]) == pytest.approx((4 / 13, 1 / 13), rel=1e-14)


def test_a_random_walk_of_one_row_of_ice():
    """On 1 x n cells every push moves left, right or nowhere: the uniform policy always arrives."""
    grid = slippery_grid(1, 6)
    e = evaluate(grid, uniform(grid))
    assert e.success_rate == pytest.approx(1, rel=1e-12)
    # A step goes left, right with 1/4 each; from the wall at 0, the goal at 5 takes 5 * 6 moves.
    assert e.visits.sum() == pytest.approx(2 * 5 * 6, rel=1e-12)


# Refusals


def altered_table(s, a, row):
    table = two_step_table()
    table[s][a] = row
    return table


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        ([], "must have shape (A,) with A >= 1, got (0,)"),
        ([[0.5, 0.5]], "must have shape (A,) with A >= 1, got (1, 2)"),
        ([0.5, 1.25], "success_probabilities[1] must lie in [0, 1], got 1.25"),
        ([-0.5, 1], "success_probabilities[0] must lie in [0, 1], got -0.5"),
        ([0.5, 0.2, np.nan], "success_probabilities[2] is NaN"),
        ([0, 0], "success is impossible"),
    ],
)
def test_bandit_refuses(theta, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        bandit(theta)


@pytest.mark.parametrize(
    ("sizes", "rng", "error", "message"),
    [
        ((0, 3), np.random.default_rng(1), ValueError, "n_states must be at least 1, got 0"),
        ((2, -1), np.random.default_rng(1), ValueError, "n_actions must be at least 1, got -1"),
        ((2.0, 3), np.random.default_rng(1), TypeError, "n_states must be an integer, got 2.0"),
        ((2, 3), 1, TypeError, "rng must be a numpy.random.Generator"),
        ((2, 3), None, TypeError, "rng must be a numpy.random.Generator"),
    ],
)
def test_random_mdp_refuses(sizes, rng, error, message):
    with pytest.raises(error, match=re.escape(message)):
        random_mdp(*sizes, rng=rng)


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ((0, 3), {}, ValueError, "n_rows must be at least 1, got 0"),
        ((3, 2.5), {}, TypeError, "n_columns must be an integer, got 2.5"),
        ((1, 1), {}, ValueError, "needs two cells"),
        ((2, 2), {"hazard": 1.0}, ValueError, "hazard must lie in [0, 1), got 1.0"),
        ((2, 2), {"hazard": np.nan}, ValueError, "hazard must lie in [0, 1), got nan"),
        ((2, 2), {"holes": [[0, 1], [0, 0]]}, TypeError, "holes must be booleans, got int64"),
        ((2, 2), {"holes": np.zeros((2, 3), bool)}, ValueError, "shape (2, 2), got (2, 3)"),
        ((1, 2), {"holes": [[True, False]]}, ValueError, "holes[0, 0] lies under the start"),
        ((1, 2), {"holes": [[False, True]]}, ValueError, "holes[0, 1] lies under the goal"),
        ((1, 3), {"holes": [[False, True, False]]}, ValueError, "cut the goal off"),
    ],
)
def test_slippery_grid_refuses(sizes, options, error, message):
    with pytest.raises(error, match=re.escape(message)):
        slippery_grid(*sizes, **options)


@pytest.mark.parametrize("name", ["Blackjack-v1", "CartPole-v1"])
def test_an_environment_without_a_table_is_refused(name):
    with pytest.raises(TypeError, match=f"{name} has no transition table"):
        from_gymnasium(gymnasium.make(name), outcome=any_ending)


def test_what_a_table_leaves_out_is_refused():
    taxi = gymnasium.make("Taxi-v4", fickle_passenger=True)
    with pytest.raises(ValueError, match="Taxi-v4 leaves out its fickle passenger"):
        from_gymnasium(taxi, outcome=any_ending)


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (
            lambda *step: "win",
            "outcome(s=4, a=0, s2=2, reward=0.0) must be 'success', 'failure' or 'continue', "
            "got 'win'",
        ),
        (lambda *step: None, "got None"),
        (
            lambda *step: "continue",
            "outcome(s=4, a=1, s2=1, reward=0.0) says 'continue', but there the environment has "
            "terminated",
        ),
        (
            lambda s, a, s2, reward, end: "failure" if end else "continue",
            "outcome never says 'success'",
        ),
    ],
)
def test_a_wrong_outcome_is_refused(outcome, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_gymnasium(table_env(two_step_table(), START_AT_4), outcome=outcome)


@pytest.mark.parametrize(
    ("table", "start", "options", "message"),
    [
        (
            altered_table(2, 1, [(0.5, 4, 0.0, False)]),
            START_AT_4,
            {},
            "the probabilities of P[2][1] must sum to 1, got 0.5",
        ),
        (
            altered_table(2, 2, [(1.0, 4, 0.0, False)]),
            START_AT_4,
            {},
            "P[2] must hold the actions [0, 1], got [0, 1, 2]",
        ),
        (two_step_table(), [0, 0, 0, 0, 0.5], {}, "initial_state_distrib must sum to 1, got 0.5"),
        (two_step_table(), START_AT_4, {"hazard": -0.1}, "hazard must lie in [0, 1), got -0.1"),
    ],
)
def test_a_wrong_table_is_refused(table, start, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        from_gymnasium(table_env(table, start), outcome=positive_ending, **options)


def endless_table():
    """One action wins a point, one loses it, one ends the episode."""
    return {0: {0: [(1.0, 0, 1.0, False)], 1: [(1.0, 0, -1.0, False)], 2: [(1.0, 0, 0.0, True)]}}


@pytest.mark.parametrize(
    ("table", "start", "threshold", "error", "message"),
    [
        (
            two_step_table(),
            START_AT_4,
            2.5,
            ValueError,
            "returns 2.5 or more: the best return is 2",
        ),
        (two_step_table(), START_AT_4, "1", TypeError, "threshold must be a number, got '1'"),
        (two_step_table(), START_AT_4, None, TypeError, "threshold must be a number, got None"),
        (two_step_table(), START_AT_4, np.nan, ValueError, "threshold must be finite, got nan"),
        (two_step_table(), START_AT_4, -np.inf, ValueError, "threshold must be finite, got -inf"),
        (
            altered_table(2, 1, [(1.0, 4, np.inf, False)]),
            START_AT_4,
            1,
            ValueError,
            "the reward in P[2][1] must be finite, got inf",
        ),
        (
            altered_table(2, 1, [(1.0, 4, None, False)]),
            START_AT_4,
            1,
            TypeError,
            "the reward in P[2][1] must be a number, got None",
        ),
        (
            altered_table(2, 1, [(0.5, 4, 0.0, False)]),
            START_AT_4,
            1,
            ValueError,
            "the probabilities of P[2][1] must sum to 1, got 0.5",
        ),
        (endless_table(), [1.0], 5, ValueError, "more than 200,000 pairs of state and return"),
    ],
)
def test_a_return_is_refused(table, start, threshold, error, message):
    with pytest.raises(error, match=re.escape(message)):
        return_at_least(table_env(table, start), threshold)


def test_a_return_without_a_table_or_with_a_wrong_hazard_is_refused():
    with pytest.raises(TypeError, match="CartPole-v1 has no transition table"):
        return_at_least(gymnasium.make("CartPole-v1"), 100)
    with pytest.raises(ValueError, match=re.escape("hazard must lie in [0, 1), got 1")):
        return_at_least(gymnasium.make("FrozenLake-v1"), 1, hazard=1)


# Chunks


@pytest.mark.parametrize("length", [1, 2, 3])
@given(mdps_with_policies(max_states=3, min_states=2))
@settings(max_examples=15)
def test_a_chunk_does_what_its_actions_do_one_by_one(length, case):
    mdp, _ = case
    S, A = mdp.success.shape
    moves = mdp.transition.toarray().reshape(S, A, S)
    made = chunked(mdp, length)
    for chunk in product(range(A), repeat=length):
        number = np.ravel_multi_index(chunk, (A,) * length)
        for s in range(S):
            here, won = np.eye(S)[s], 0.0
            for a in chunk:
                won += here @ mdp.success[:, a]
                here = here @ moves[:, a]
            row = made.transition[[s * A**length + number]].toarray()[0]
            np.testing.assert_allclose([*row, made.success[s, number]], [*here, won], atol=1e-12)
    assert (made.labels == mdp.labels).all()
    assert (made.initial == mdp.initial).all()


def test_an_even_walker_does_not_notice_that_it_walks_in_chunks():
    lake = icy_lake()
    for length in (2, 3):
        e = evaluate(chunked(lake, length), uniform(chunked(lake, length)))
        np.testing.assert_allclose(e.V, evaluate(lake, uniform(lake)).V, rtol=1e-12)


def test_too_many_chunks_are_refused():
    with pytest.raises(ValueError, match=re.escape("11 states with 4**9 chunks are 2,883,584")):
        chunked(icy_lake(), 9)
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        chunked(icy_lake(), 0)


def icy_lake():
    return from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)


@settings(max_examples=25)
@given(mdps_with_policies(max_states=3), st.integers(0, 10**6))
def test_a_chunk_has_more_influence_than_its_first_action(case, seed):
    mdp, _ = case
    made = chunked(mdp, 2)
    policy = np.random.default_rng(seed).dirichlet(np.ones(made.n_actions), mdp.n_states)
    e = evaluate(made, policy)
    A = mdp.n_actions
    first = policy.reshape(-1, A, A).sum(axis=2)
    Q_first = (policy * e.Q).reshape(-1, A, A).sum(axis=2) / first
    within = (policy * (e.Q - np.repeat(Q_first, A, axis=1)) ** 2).sum(axis=1) / e.V**2
    more = action_influence(policy, e.Q) - action_influence(first, Q_first)
    np.testing.assert_allclose(more, within, rtol=1e-9, atol=1e-12)


def test_more_influence_in_a_chunk_is_not_more_success():
    rates = []
    for length in (1, 2, 3):
        made = chunked(icy_lake(), length)
        e = evaluate(made, uniform(made))
        rates.append(evaluate(made, condition_on_success(e.policy, e.Q)).success_rate)
    np.testing.assert_allclose(rates, [0.0311982, 0.0256475, 0.0230547], rtol=1e-5)


def test_pairs_of_a_watchful_teacher_ruin_its_imitator():
    """Pairs are listed push by push, with loops; the chapter has them by tensors."""
    lake = icy_lake()
    policy = uniform(lake)
    for _ in range(10):
        e = evaluate(lake, policy)
        policy = condition_on_success(policy, e.Q)
    e, moves = evaluate(lake, policy), lake.transition.toarray().reshape(11, 4, 11)
    shown = np.zeros((11, 16))
    for s, a in product(range(11), range(4)):
        shown[s, 5 * a] += policy[s, a] * lake.success[s, a]  # cut short: repeated
        for t, b in product(range(11), range(4)):
            shown[s, 4 * a + b] += policy[s, a] * moves[s, a, t] * policy[t, b] * e.Q[t, b]
    np.testing.assert_allclose(shown.sum(axis=1), e.V, rtol=1e-12)
    new = evaluate(chunked(lake, 2), shown / shown.sum(axis=1, keepdims=True)).success_rate
    better = evaluate(lake, condition_on_success(policy, e.Q)).success_rate
    np.testing.assert_allclose(
        [e.success_rate, better, new], [0.281511, 0.322220, 0.078789], rtol=1e-5
    )


def test_looking_over_a_shoulder_misleads():
    """The player's card alone, counted by play; a 12 is better hit, and looks better stuck."""
    table = blackjack()
    policy = 0.96 * maximise_success(table).policy + 0.02
    counts = sample_counts(table, policy, 2_000_000, rng=np.random.default_rng(12))
    at = (table.labels["player"] == 12) & ~table.labels["usable_ace"]
    noted = counts.successes[at].sum(axis=0) / counts.visits[at].sum(axis=0)
    cards = np.where(table.labels["dealer"][at] == 10, 4, 1) / 13
    would = cards @ evaluate(table, policy).Q[at]  # the dealer's card does not know the hand
    np.testing.assert_allclose(noted, [0.387, 0.269], atol=0.004)
    np.testing.assert_allclose(would, [0.281, 0.305], atol=0.001)


# Expressions


def written(label, n_digits):
    """Every expression that completes a label, by Python's own arithmetic: does it succeed?"""
    prompt, prefix = label.split("=")
    digits = "123456789"[:n_digits]
    every = [d + o + e for d in digits for o in "+×" for e in digits]
    return {
        text: eval(text.replace("×", "*")) == int(prompt)
        for text in every
        if text.startswith(prefix)
    }


@pytest.mark.parametrize("n_digits", [1, 2, 4, 9])
def test_expressions_succeed_where_arithmetic_says_so(n_digits):
    mdp = expressions(n_digits)
    well_formed = (mdp.success > 0) | (np.diff(mdp.transition.indptr) > 0).reshape(
        mdp.success.shape
    )
    last = np.char.str_len(np.char.partition(mdp.labels, "=")[:, 2]) == 2
    well_formed[last, :n_digits] = True
    uniform = well_formed / well_formed.sum(axis=1, keepdims=True)
    e = evaluate(mdp, uniform)
    for label, value in zip(mdp.labels, e.V, strict=True):
        outcomes = list(written(label, n_digits).values())
        assert value == pytest.approx(np.mean(outcomes), rel=1e-12, abs=1e-15)
    n_prompts = (mdp.initial > 0).sum()
    assert e.success_rate == pytest.approx(1 / n_prompts, rel=1e-12)


def test_nine_digits_make_39_prompts_and_162_right_answers():
    mdp = expressions()
    starts = [label[:-1] for label in mdp.labels[mdp.initial > 0]]
    products = {d * e for d in range(1, 10) for e in range(1, 10)}
    assert sorted(map(int, starts)) == sorted(products | set(range(2, 19)))
    assert len(starts) == 39
    assert mdp.success.sum() == 2 * 81  # each expression is right for one prompt
    assert mdp.labels[28:31].tolist() == ["2=", "2=1", "2=2"]
    assert mdp.labels[28 + 10 :][:3].tolist() == ["2=1+", "2=1×", "2=2+"]


def test_what_is_no_expression_fails_at_once():
    mdp = expressions(3)
    state = {label: s for s, label in enumerate(mdp.labels.tolist())}
    plus, times = 3, 4
    for label, token in [("6=", plus), ("6=2", 0), ("6=2×", times)]:
        assert mdp.failure[state[label], token] == 1
    assert mdp.success[state["6=2×"], 2] == 1
    assert mdp.failure[state["6=2×"], 0] == 1


@pytest.mark.parametrize("n_digits", [0, 10])
def test_expressions_refuse_digits_that_are_none(n_digits):
    with pytest.raises(ValueError, match=f"n_digits must be at .*got {n_digits}"):
        expressions(n_digits)
