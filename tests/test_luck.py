"""Conditioning a whole episode: the Doob transform, skill against luck, and what a step gains."""

from fractions import Fraction
from itertools import combinations

import gymnasium
import numpy as np
import pytest
import sympy as sp
from gymnasium.envs.toy_text.frozen_lake import generate_random_map
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Rational

from sc_utils.conditioning import (
    action_influence,
    condition_on_success,
    kl_divergence,
    successful_visits,
)
from sc_utils.environments import blackjack, from_gymnasium, positive_ending, slippery_grid
from sc_utils.luck import (
    LuckDecomposition,
    doob_transform,
    escape_luck,
    improvement_bounds,
    influence_budget,
    luck_decomposition,
    outcome_variance,
)
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.sampling import sample_log
from sc_utils.symbolic import ActionDraw, ExactMDP, exact_evaluate, trajectories
from sc_utils.trust_region import policy_movement
from tests.strategies import Listed, acyclic_exact_mdps, as_floats, mdps_with_policies, policies_of


def exact_doob(mdp, exact, policy):
    """The three tilts in rationals, from their definitions."""
    states, actions = range(len(mdp.initial)), range(len(mdp.success[0]))
    Q, V, rate = exact.Q, exact.V, exact.success_rate

    def per(s, a, x):
        return x / Q[s][a] if Q[s][a] else Rational(0)

    P = [
        [[per(s, a, mdp.transition[s][a][t] * V[t]) for t in states] for a in actions]
        for s in states
    ]
    r = [[per(s, a, mdp.success[s][a]) for a in actions] for s in states]
    mu = [mdp.initial[s] * V[s] / rate for s in states]
    pi = [[policy[s][a] * Q[s][a] / V[s] for a in actions] for s in states]
    return ExactMDP.of(P, r, mu), pi


def law(mdp, policy, *, only_successes=False):
    """Probability of every episode, by name."""
    paths = trajectories(mdp, policy)
    if only_successes:
        paths = (path for path in paths if path.success)
    return {(path.decisions, path.success): path.probability for path in paths}


# Identities


@given(mdps_with_policies())
def test_under_the_transform_the_conditioned_policy_always_succeeds(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    given_success = evaluate(doob_transform(mdp, e), condition_on_success(policy, e.Q))
    assert given_success.success_rate == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(given_success.visits, successful_visits(e), rtol=1e-9, atol=1e-13)


@given(mdps_with_policies(full_support=False))
def test_parts_are_not_negative_and_sum_to_the_surprise_of_success(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    if e.success_rate == 0:
        with pytest.raises(ValueError, match="the policy never succeeds"):
            luck_decomposition(mdp, e)
        return
    parts = luck_decomposition(mdp, e)
    assert min(parts.start, parts.skill, parts.transition) > -1e-12
    assert parts.total == pytest.approx(np.log(1 / e.success_rate), abs=1e-12)


@given(acyclic_exact_mdps(deterministic=True, fixed_start=True))
def test_without_luck_everything_is_skill_and_one_step_is_perfect(case):
    mdp, policy = case
    floats, pi = as_floats(mdp), np.array(policy, dtype=float)
    e = evaluate(floats, pi)
    parts = luck_decomposition(floats, e)
    assert parts.start == pytest.approx(0, abs=1e-12)
    assert parts.transition == pytest.approx(0, abs=1e-12)
    after = evaluate(floats, condition_on_success(pi, e.Q))
    assert after.success_rate == pytest.approx(1, abs=1e-12)


@given(mdps_with_policies())
def test_variances_sum_to_that_of_the_outcome(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    parts, budget = outcome_variance(mdp, e), influence_budget(e)
    assert min(parts.start, parts.actions, parts.transition) >= 0
    assert parts.total == pytest.approx(e.success_rate * (1 - e.success_rate), abs=1e-12)
    assert budget.used * e.success_rate == pytest.approx(parts.actions, abs=1e-12)
    assert budget.used <= budget.limit + 1e-12


@settings(max_examples=100)
@given(acyclic_exact_mdps())
def test_every_listed_success_climbs_from_the_base_rate_to_one(case):
    """In `Fraction`: who climbs, on average over the successes; and the squares over all."""
    mdp, policy = case
    listed = Listed.of(mdp, policy)
    V = [
        sum(path.probability for path in listed.episodes(start=s) if path.success)
        for s in listed.states
    ]
    Q = [
        [
            exits[0] + sum(p * v for p, v in zip(moves, V, strict=True))
            for exits, moves in zip(*rows, strict=True)
        ]
        for rows in zip(listed.exits, listed.moves, strict=True)
    ]
    rate = sum(mu * v for mu, v in zip(listed.initial, V, strict=True))
    climbs, squares = [Fraction(0)] * 3, [Fraction(0)] * 3
    for path in listed.episodes():
        heights = [rate]  # of the episode, then before and after each action, then the end
        for s, a in path.decisions:
            heights += [V[s], Q[s][a]]
        heights.append(Fraction(path.success))
        steps = np.diff(heights)
        parts = [steps[:1], steps[1::2], steps[2::2]]  # start, actions, dice
        assert sum(steps) == path.success - rate
        for k, part in enumerate(parts):
            squares[k] += path.probability * sum(x * x for x in part)
            climbs[k] += path.probability / rate * sum(part) if path.success else 0
    assert sum(climbs) == 1 - rate
    assert [rate * climb for climb in climbs] == squares
    assert sum(squares) == rate * (1 - rate)
    assert min(climbs) >= 0

    floats = as_floats(mdp)
    e = evaluate(floats, np.array(policy, dtype=float))
    ours, budget = outcome_variance(floats, e), influence_budget(e)
    expected = [float(x) for x in squares]
    assert [ours.start, ours.actions, ours.transition] == pytest.approx(expected, abs=1e-13)
    assert budget.used == pytest.approx(float(climbs[1]), abs=1e-13)
    assert budget.limit == pytest.approx(float(1 - rate), abs=1e-13)


@settings(max_examples=100)
@given(acyclic_exact_mdps())
def test_budget_is_used_up_exactly_when_imitation_reproduces_the_successes(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    tilted, pi_plus = exact_doob(mdp, exact, policy)
    budget = influence_budget(evaluate(as_floats(mdp), np.array(policy, dtype=float)))
    all_used = budget.used == pytest.approx(budget.limit, abs=1e-12)
    assert all_used == (law(mdp, pi_plus) == law(tilted, pi_plus))


@given(acyclic_exact_mdps(deterministic=True, fixed_start=True))
def test_without_luck_the_budget_is_used_up(case):
    mdp, policy = case
    budget = influence_budget(evaluate(as_floats(mdp), np.array(policy, dtype=float)))
    assert budget.used == pytest.approx(budget.limit, abs=1e-12)


def test_a_tilted_draw_climbs_its_variance_over_its_mean():
    X, m = sp.symbols("X m", positive=True)
    draw = ActionDraw({X: m})
    climb = draw.expect(X / m * (X - m))
    assert sp.expand(climb - draw.expect((X - m) ** 2) / m) == 0
    assert sp.expand(climb - draw.expect(X - m)) != 0


def test_steps_of_played_hands_have_the_three_variances(rng):
    """Blackjack has luck of all three kinds: squares over all hands, climbs over those that won."""
    mdp = blackjack()
    e = evaluate(mdp, np.full((290, 2), 0.5))
    parts, n = outcome_variance(mdp, e), 200_000
    log = sample_log(mdp, e.policy, n, rng=rng)
    last = np.diff(log.episode, append=n) != 0
    first = np.diff(log.episode, prepend=-1) != 0
    before, chosen = e.V[log.state], e.Q[log.state, log.action]
    after = np.where(last, log.success, np.roll(before, -1))
    won = log.success[last]
    steps = {
        "start": np.where(first, before - e.success_rate, 0),
        "actions": chosen - before,
        "transition": after - chosen,
    }
    for kind, step in steps.items():
        part = getattr(parts, kind)
        squares = np.bincount(log.episode, step**2)
        assert abs(squares.mean() - part) < 4 * squares.std() / np.sqrt(n)
        climbs = np.bincount(log.episode, step)[won]
        error = climbs.std() / np.sqrt(climbs.size)
        assert abs(climbs.mean() - part / e.success_rate) < 4 * error


@given(mdps_with_policies(full_support=False))
def test_few_decisions_can_matter(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    deviation = e.V * np.sqrt(action_influence(policy, e.Q))
    for delta in (0.05, 0.1, 0.3):
        many = e.visits[deviation >= delta].sum()
        assert (
            many <= e.success_rate * (1 - e.success_rate) / delta**2 + 1e-9 <= 0.25 / delta**2 + 1
        )


@pytest.mark.parametrize(("n", "k"), [(2, 1), (10, 5), (17, 3)])
def test_a_corridor_spends_its_budget_on_decisions_that_matter_alike(n, k):
    """The fair gambler's duration k (n - k), from the variance of the outcome."""
    moves = np.stack([np.eye(n - 1, k=-1), np.eye(n - 1, k=1)], axis=1)
    success = np.zeros((n - 1, 2))
    success[-1, 1] = 1
    mdp = SuccessMDP.from_dense(moves, success, np.eye(n - 1)[k - 1])
    e = evaluate(mdp, np.full((n - 1, 2), 0.5))
    deviation = e.V * np.sqrt(action_influence(e.policy, e.Q))
    np.testing.assert_allclose(deviation, 1 / n, rtol=1e-9)
    assert e.visits.sum() == pytest.approx(k * (n - k), rel=1e-10)
    assert outcome_variance(mdp, e).action_share == pytest.approx(1, abs=1e-12)


def lakes(rows, **dry):
    """The icy lake by `slippery_grid`, and Gymnasium's without ice, on one map."""
    holes = np.array([[letter == "H" for letter in row] for row in rows])
    env = gymnasium.make("FrozenLake-v1", desc=rows, **({"is_slippery": False} | dry))
    return slippery_grid(*holes.shape, holes=holes), from_gymnasium(env, outcome=positive_ending)


@pytest.mark.parametrize(("size", "seed"), [(3, 4), (4, 2), (5, 3), (8, 4), (13, 5)])
def test_ice_keeps_one_ninth_of_the_influence_at_every_cell(size, seed):
    icy, dry = lakes(generate_random_map(size=size, seed=seed))
    np.testing.assert_array_equal(icy.labels, dry.labels)
    on_ice, on_ground = (evaluate(lake, np.full((lake.n_states, 4), 0.25)) for lake in (icy, dry))
    I_icy, I_dry = (action_influence(e.policy, e.Q) for e in (on_ice, on_ground))
    np.testing.assert_allclose(I_icy, I_dry / 9, rtol=1e-9, atol=1e-14)
    tilts = [condition_on_success(e.policy, e.Q) for e in (on_ice, on_ground)]
    np.testing.assert_allclose(tilts[0], (1 - np.roll(tilts[1], 2, axis=1)) / 3, rtol=1e-9)
    assert outcome_variance(icy, on_ice).action_share == pytest.approx(1 / 9, rel=1e-9)
    assert outcome_variance(dry, on_ground).action_share == pytest.approx(1, rel=1e-9)


def test_less_ice_or_a_walker_with_a_preference_keeps_another_share():
    rows = ["SFFF", "FHFH", "FFFH", "HFFG"]
    icy, half = lakes(rows, is_slippery=True, success_rate=0.5)
    _, dry = lakes(rows)
    uniform = np.full((11, 4), 0.25)
    some, ground = (evaluate(lake, uniform) for lake in (half, dry))
    ratio = action_influence(uniform, some.Q) / action_influence(uniform, ground.Q)
    assert np.ptp(ratio) > 0.01  # neither 1/9 nor the same in all cells
    partial = np.tile([0.1, 0.4, 0.4, 0.1], (11, 1))
    leaning, straight = (evaluate(lake, partial) for lake in (icy, dry))
    ratio = action_influence(partial, leaning.Q) / action_influence(partial, straight.Q)
    assert np.abs(ratio - 1 / 9).max() > 0.01


@given(mdps_with_policies())
def test_improvement_keeps_to_its_bounds(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    bounds = improvement_bounds(mdp, e)
    after = evaluate(mdp, condition_on_success(policy, e.Q)).success_rate
    assert e.success_rate <= bounds.one_step + 1e-12
    assert bounds.influence <= bounds.whole_episode + 1e-12
    assert max(bounds.one_step, bounds.whole_episode) <= after + 1e-12


# Oracles: every episode, in exact rationals


@given(acyclic_exact_mdps())
def test_transform_is_the_law_of_a_successful_episode(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    conditioned = law(*exact_doob(mdp, exact, policy))
    wins = law(mdp, policy, only_successes=True)
    assert conditioned == {path: p / exact.success_rate for path, p in wins.items()}


@given(acyclic_exact_mdps())
def test_doob_transform_in_floats_is_the_exact_one(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    tilted, _ = exact_doob(mdp, exact, policy)
    ours = doob_transform(as_floats(mdp), evaluate(as_floats(mdp), np.array(policy, dtype=float)))
    possible = np.array(exact.Q, dtype=float) > 0
    S, A = possible.shape
    dense = ours.transition.toarray().reshape(S, A, S)
    np.testing.assert_allclose(
        dense[possible], np.array(tilted.transition, dtype=float)[possible], rtol=1e-12, atol=1e-15
    )
    np.testing.assert_allclose(ours.success[possible], np.array(tilted.success, float)[possible])
    np.testing.assert_allclose(ours.initial, np.array(tilted.initial, dtype=float), rtol=1e-12)


@given(acyclic_exact_mdps())
def test_skill_is_the_largest_drop_of_the_log_loss_on_successes(case):
    """Skill from its definition, episode by episode; every other policy drops less."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    floats, pi_0 = as_floats(mdp), np.array(policy, dtype=float)
    e = evaluate(floats, pi_0)

    def drop(new):
        gains = np.log(np.divide(new, pi_0, out=np.ones_like(new), where=new > 0))
        return sum(
            float(path.probability / exact.success_rate)
            * sum(gains[s, a] for s, a in path.decisions)
            for path in trajectories(mdp, policy)
            if path.success
        )

    skill = luck_decomposition(floats, e).skill
    pi_plus = condition_on_success(pi_0, e.Q)
    assert skill == pytest.approx(drop(pi_plus), abs=1e-12)
    for share in (0.3, 0.9):
        assert drop(share * pi_plus + (1 - share) * pi_0) <= skill + 1e-12
    uniform = np.full_like(pi_0, 1 / pi_0.shape[1])
    assert drop(0.5 * pi_plus + 0.5 * uniform) <= skill + 1e-12


@given(acyclic_exact_mdps())
def test_one_step_is_perfect_exactly_when_no_promising_action_can_fail(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    _, pi_plus = exact_doob(mdp, exact, policy)
    after = exact_evaluate(mdp, pi_plus)
    risky = any(
        visits > 0 and Q > 0 and 1 - r - sum(P) > 0
        for visits, Qs, rs, Ps in zip(
            after.visits, exact.Q, mdp.success, mdp.transition, strict=True
        )
        for Q, r, P in zip(Qs, rs, Ps, strict=True)
    )
    assert (after.success_rate == 1) == (not risky)


@given(acyclic_exact_mdps())
def test_imitation_reproduces_the_successes_exactly_when_there_is_no_luck(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    tilted, pi_plus = exact_doob(mdp, exact, policy)
    same_start = tilted.initial == mdp.initial
    reached = exact_evaluate(mdp, pi_plus).visits
    same_steps = all(
        (tilted.transition[s][a], tilted.success[s][a]) == (mdp.transition[s][a], mdp.success[s][a])
        for s in range(len(reached))
        for a in range(len(exact.Q[s]))
        if reached[s] > 0 and exact.Q[s][a] > 0
    )
    reproduced = law(mdp, pi_plus) == law(tilted, pi_plus)
    assert reproduced == (same_start and same_steps)


def test_every_success_weighs_the_same_in_the_zero_variance_law():
    P = [[[0, 0.5, 0.25], [0, 0, 0.5]], [[0, 0, 0.5], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]
    mdp = ExactMDP.of(P, [[0.125, 0], [0.25, 0.5], [0.75, 0.125]], [0.5, 0.5, 0])
    policy = [[Rational(k, 8), Rational(8 - k, 8)] for k in (4, 2, 1)]
    exact = exact_evaluate(mdp, policy)
    behaviour = law(mdp, policy, only_successes=True)
    ideal = law(*exact_doob(mdp, exact, policy))
    assert {behaviour[path] / p for path, p in ideal.items()} == {exact.success_rate}


# A real pair


def test_matched_lakes_look_alike_and_teach_different_things():
    """Gymnasium's lake with and without slipping: one random walk, two lessons."""
    rates, evaluations = [], []
    for slippery in (True, False):
        env = gymnasium.make("FrozenLake-v1", is_slippery=slippery)
        lake = from_gymnasium(env, outcome=positive_ending)
        e = evaluate(lake, np.full((11, 4), 0.25))
        after = evaluate(lake, condition_on_success(e.policy, e.Q))
        evaluations.append(e)
        rates.append((e.success_rate, after.success_rate, luck_decomposition(lake, e).skill_share))
    np.testing.assert_allclose(evaluations[0].visits, evaluations[1].visits, rtol=1e-12)
    np.testing.assert_allclose(evaluations[0].V, evaluations[1].V, rtol=1e-12)
    assert rates[0] == pytest.approx((483 / 34649, 0.031198, 0.117), rel=1e-3)
    assert rates[1] == pytest.approx((483 / 34649, 1, 1), rel=1e-12)


# Counterexamples


def test_random_start_is_luck_that_imitation_does_not_reproduce():
    """Two prompts, deterministic dynamics: perfect play, yet another law of episodes."""
    mdp = ExactMDP.of([[[0, 0]] * 2] * 2, [[1, 1], [1, 0]], [0.5, 0.5])
    policy = [[Rational(1, 2)] * 2] * 2
    exact = exact_evaluate(mdp, policy)
    tilted, pi_plus = exact_doob(mdp, exact, policy)
    assert exact_evaluate(mdp, pi_plus).success_rate == 1
    assert law(mdp, pi_plus) != law(tilted, pi_plus)
    floats = as_floats(mdp)
    assert luck_decomposition(floats, evaluate(floats, np.array(policy, dtype=float))).start > 0.01


def test_a_promising_action_that_can_fail_keeps_one_step_from_being_perfect():
    mdp = SuccessMDP.from_dense(np.zeros((1, 3, 1)), [[0.9, 0.5, 0.0]], [1.0])
    e = evaluate(mdp, np.full((1, 3), 1 / 3))
    assert evaluate(mdp, condition_on_success(e.policy, e.Q)).success_rate < 0.8


def test_a_biased_start_is_counted_as_start_luck_and_nothing_else():
    mdp = SuccessMDP.from_dense(np.zeros((2, 3, 2)), [[1, 1, 1], [0.5, 0.5, 0.5]], [0.5, 0.5])
    e = evaluate(mdp, np.full((2, 3), 1 / 3))
    parts = luck_decomposition(mdp, e)
    assert parts.skill == pytest.approx(0, abs=1e-15)
    assert parts.start == pytest.approx(2 / 3 * np.log(4 / 3) + 1 / 3 * np.log(2 / 3), rel=1e-12)
    assert parts.transition == pytest.approx(np.log(2) / 3, rel=1e-12)


# Edge cases and refusals


def test_a_dead_end_is_where_successes_never_go():
    """State 1 cannot succeed; by hand, V = (0.35, 0, 0.5) and pi_+ = (5, 9) / 14 at the start."""
    transition = np.zeros((3, 2, 3))
    transition[0, 0, 1], transition[0, 0, 2], transition[0, 1, 2] = 0.25, 0.5, 0.5
    mdp = SuccessMDP.from_dense(transition, [[0, 0.2], [0, 0], [0.5, 0.5]], [1, 0, 0])
    e = evaluate(mdp, np.full((3, 2), 0.5))
    parts = luck_decomposition(mdp, e)
    assert parts.total == pytest.approx(np.log(1 / 0.35), rel=1e-12)
    odds = np.array([5, 9]) / 14
    assert parts.skill == pytest.approx((odds * np.log(2 * odds)).sum(), rel=1e-12)
    given_success = evaluate(doob_transform(mdp, e), condition_on_success(e.policy, e.Q))
    np.testing.assert_allclose(given_success.visits, successful_visits(e), atol=1e-15)
    assert given_success.success_rate == pytest.approx(1, rel=1e-12)


def test_what_the_transform_leaves_alone_and_what_it_tilts_however_rare():
    transition = np.zeros((2, 3, 2))
    transition[0, 2, 1] = 0.7
    success = [[1e-4, 0.5, 0], [0, 0.25, 0]]
    mdp = SuccessMDP.from_dense(transition, success, [1, 0], labels=["x", "y"])
    e = evaluate(mdp, [[0.5, 0.25, 0.25], [0, 0.5, 0.5]])
    conditioned = doob_transform(mdp, e)
    assert conditioned.labels.tolist() == ["x", "y"]
    np.testing.assert_allclose(conditioned.success, [[1, 1, 0], [0, 1, 0]], rtol=1e-12)
    assert conditioned.failure[1].tolist() == pytest.approx([1, 0, 1])  # Q = 0: as it was
    assert conditioned.transition.toarray()[2, 1] == pytest.approx(1)


def test_an_unplayed_action_that_can_fail_does_no_harm():
    mdp = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[1.0, 0.5]], [1.0])
    e = evaluate(mdp, [[1.0, 0.0]])
    assert evaluate(mdp, condition_on_success(e.policy, e.Q)).success_rate == 1


def test_deterministic_transitions_do_not_suffice_if_outcomes_are_noisy():
    mdp = SuccessMDP.from_dense(np.zeros((1, 3, 1)), [[0.9, 0.5, 0.5]], [1.0])
    parts = luck_decomposition(mdp, evaluate(mdp, [[0.5, 0.25, 0.25]]))
    assert parts.transition > 0.1


def test_share_counts_all_three_parts():
    assert LuckDecomposition(1.0, 1.0, 2.0).skill_share == 0.25


def test_rounding_is_no_surprise():
    assert LuckDecomposition(0.0, 6e-17, 3e-16).skill_share == 1
    sure = SuccessMDP.from_dense(np.zeros((1, 3, 1)), [[1.0, 1.0, 1.0]], [1.0])
    parts = luck_decomposition(sure, evaluate(sure, [[0.2, 0.3, 0.5]]))
    assert min(parts.start, parts.skill, parts.transition) >= 0
    assert parts.skill_share == 1


def test_share_of_a_certain_success_is_one():
    assert LuckDecomposition(0.0, 0.0, 0.0).skill_share == 1


def test_evaluation_of_another_process_is_refused():
    small = SuccessMDP.from_dense(np.zeros((1, 3, 1)), [[0.9, 0.5, 0.0]], [1.0])
    large = SuccessMDP.from_dense(np.zeros((2, 3, 2)), np.full((2, 3), 0.5), [0.5, 0.5])
    e = evaluate(small, np.full((1, 3), 1 / 3))
    for function in (doob_transform, escape_luck):
        with pytest.raises(
            ValueError, match=r"must be of this MDP, of shape \(2, 3\), got .*\(1, 3\)"
        ):
            function(large, e)


def test_without_a_success_there_is_no_luck():
    half = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[0.0, 1.0]], [1.0])
    with pytest.raises(ValueError, match="the policy never succeeds"):
        escape_luck(half, evaluate(half, [[1.0, 0.0]]))


# What one step gains


def episodes_of_success(mdp, policy, rate):
    """Every success in exact numbers: its probability given success, and its decisions."""
    paths = (path for path in trajectories(mdp, policy) if path.success)
    return [(path.probability / rate, path.decisions) for path in paths]


def exact_step(mdp, policy):
    """The behaviour, its imitator, the influences and the success ratios, in rationals."""
    old = exact_evaluate(mdp, policy)
    _, pi_plus = exact_doob(mdp, old, policy)
    w = [[q / v for q in row] for row, v in zip(old.Q, old.V, strict=True)]
    influence = [
        sum(p * (x - 1) ** 2 for p, x in zip(ps, xs, strict=True))
        for ps, xs in zip(policy, w, strict=True)
    ]
    return old, exact_evaluate(mdp, pi_plus), pi_plus, influence, w


def one_rate_after(mdp, policy):
    e = evaluate(mdp, policy)
    return evaluate(mdp, condition_on_success(policy, e.Q)).success_rate


@given(mdps_with_policies(), st.data())
def test_a_gain_is_made_of_old_advantages_at_new_visits(case, data):
    mdp, policy = case
    old = evaluate(mdp, policy)
    for new_policy in (
        data.draw(policies_of(mdp, full_support=False)),
        condition_on_success(policy, old.Q),
    ):
        new = evaluate(mdp, new_policy)
        advantage = (new_policy * (old.Q - old.V[:, None])).sum(axis=1)
        gain = new.success_rate - old.success_rate
        assert new.visits @ advantage == pytest.approx(gain, abs=1e-12)
    influence = action_influence(policy, old.Q)
    assert new.visits @ (old.V * influence) == pytest.approx(gain, abs=1e-12)
    first_order = improvement_bounds(mdp, old).first_order
    assert old.success_rate + old.visits @ (old.V * influence) == pytest.approx(first_order)


@given(acyclic_exact_mdps())
def test_the_gain_of_an_imitator_is_the_influence_it_meets_in_rationals(case):
    mdp, policy = case
    old, new, _, influence, _ = exact_step(mdp, policy)
    met = sum(d * v * i for d, v, i in zip(new.visits, old.V, influence, strict=True))
    assert met == new.success_rate - old.success_rate


@given(acyclic_exact_mdps())
def test_every_state_gains_its_influence_and_more_only_if_the_imitator_meets_more(case):
    mdp, policy = case
    old, new, pi_plus, influence, _ = exact_step(mdp, policy)
    for s, gained in enumerate(new.V):
        start = [int(t == s) for t in range(len(new.V))]
        there = exact_evaluate(ExactMDP.of(mdp.transition, mdp.success, start), pi_plus)
        later = any(d > 0 and influence[t] > 0 for t, d in enumerate(there.visits) if t != s)
        due = old.V[s] * (1 + influence[s])
        assert gained > due if later else gained == due


def fewest_decisions(mdp, policy, matters):
    """The least number of states that matter on a way to success, from each state."""
    S, A = policy.shape
    moves = mdp.transition.toarray().reshape(S, A, S)
    goes = ((policy > 0)[:, :, None] & (moves > 0)).any(axis=1)
    wins = ((policy > 0) & (mdp.success > 0)).any(axis=1)
    count = np.full(S, np.inf)
    for _ in range(S):
        onwards = np.where(goes, count, np.inf).min(axis=1)
        count = matters + np.where(wins, 0, onwards)
    return count


@given(mdps_with_policies())
def test_gains_compound_along_every_way_to_success(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    pi_plus = condition_on_success(policy, e.Q)
    W = evaluate(mdp, pi_plus).V / e.V
    influence = action_influence(policy, e.Q)
    moves = mdp.transition.toarray().reshape(*policy.shape, -1)
    for s, gain in enumerate(W):
        taken = pi_plus[s] > 0
        onwards = W[(moves[s, taken] > 0).any(axis=0)].tolist()
        at_exit = [1.0] if (mdp.success[s, taken] > 0).any() else []
        assert gain >= (1 + influence[s]) * min(onwards + at_exit) - 1e-9
    for least in influence[influence > 0]:
        k = fewest_decisions(mdp, policy, influence >= least * (1 - 1e-12))
        assert (W >= (1 + least) ** k - 1e-9).all()


def a_row_of_decisions(k):
    """Pass each of k doors by one of two hands, which work always and seven times in nine."""
    states = range(k)
    hands = [Rational(1), Rational(7, 9)]
    P = [[[x if t == s + 1 else 0 for t in states] for x in hands] for s in states]
    r = [[x if s == k - 1 else 0 for x in hands] for s in states]
    mdp = ExactMDP.of(P, r, [int(s == 0) for s in states])
    return mdp, [[Rational(1, 2)] * 2] * k


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_equal_decisions_compound_exactly(k):
    mdp, policy = a_row_of_decisions(k)
    old, new, _, influence, _ = exact_step(mdp, policy)
    assert set(influence) == {Rational(1, 64)}
    assert new.success_rate / old.success_rate == Rational(65, 64) ** k
    floats = as_floats(mdp)
    bounds = improvement_bounds(floats, evaluate(floats, np.array(policy, dtype=float)))
    assert bounds.one_step / float(old.success_rate) == pytest.approx(65 / 64)
    assert bounds.first_order / float(old.success_rate) == pytest.approx(1 + k / 64)


def test_one_way_with_fewer_decisions_compounds_less():
    """Behind the first of two doors, half of the time, the goal is there already."""
    mdp, policy = a_row_of_decisions(2)
    P = [[[x / 2 for x in row] for row in rows] for rows in mdp.transition]
    r = [[sum(row) for row in P[0]], mdp.success[1]]
    old, new, _, influence, _ = exact_step(ExactMDP.of(P, r, mdp.initial), policy)
    assert influence == [Rational(1, 64)] * 2
    assert Rational(65, 64) < new.success_rate / old.success_rate < Rational(65, 64) ** 2


def test_twenty_decisions_in_numbers():
    assert float(Rational(65, 64) ** 20) == pytest.approx(1.3635, abs=5e-5)
    assert 1 + 1 / 64 == pytest.approx(1.0156, abs=5e-5)


@given(acyclic_exact_mdps(), st.integers(0, 3))
def test_multiplied_ratios_are_the_gain_and_added_ones_the_promise(case, seed):
    """In rationals, for the imitator and for another policy, over a list of all successes."""
    mdp, policy = case
    old, new, _, influence, w = exact_step(mdp, policy)
    wins = episodes_of_success(mdp, policy, old.success_rate)

    def product(table, path):
        return sp.prod(table[s][a] for s, a in path)

    assert sum(p * product(w, path) for p, path in wins) == new.success_rate / old.success_rate
    first_order = 1 + sum(
        d * v / old.success_rate * i for d, v, i in zip(old.visits, old.V, influence, strict=True)
    )
    assert sum(p * (1 + sum(w[s][a] - 1 for s, a in path)) for p, path in wins) == first_order
    other = [row[seed % len(row) :] + row[: seed % len(row)] for row in policy]
    ratio = [
        [x / y for x, y in zip(*rows, strict=True)] for rows in zip(other, policy, strict=True)
    ]
    changed = exact_evaluate(mdp, other).success_rate / old.success_rate
    assert sum(p * product(ratio, path) for p, path in wins) == changed


def test_products_of_ratios_in_symbols():
    """Shoot or turn, then shoot better or worse, with all chances and both policies arbitrary."""
    x, y, z, p, q, u, v = sp.symbols("x y z p q u v", positive=True)
    detour = ExactMDP.of(TURN, [[x, 0], [y, z]], [1, 0])
    behaviour, other = [[1 - p, p], [1 - q, q]], [[1 - u, u], [1 - v, v]]
    old = exact_evaluate(detour, behaviour)
    wins = episodes_of_success(detour, behaviour, old.success_rate)

    def mean_product(ratio):
        return sum(chance * sp.prod(ratio[s][a] for s, a in path) for chance, path in wins)

    ratio = [
        [b / a for a, b in zip(*rows, strict=True)] for rows in zip(behaviour, other, strict=True)
    ]
    gain = exact_evaluate(detour, other).success_rate / old.success_rate
    assert sp.simplify(mean_product(ratio) - gain) == 0
    _, pi_plus = exact_doob(detour, old, behaviour)
    w = [[a / v for a in row] for row, v in zip(old.Q, old.V, strict=True)]
    gain = exact_evaluate(detour, pi_plus).success_rate / old.success_rate
    assert sp.simplify(mean_product(w) - gain) == 0


@given(acyclic_exact_mdps())
def test_the_promise_leaves_out_ratios_times_the_gain_to_come(case):
    """Summed over the decisions of all successes, by two routes, in rationals."""
    mdp, policy = case
    old, new, _, influence, w = exact_step(mdp, policy)
    d_plus = [d * v / old.success_rate for d, v in zip(old.visits, old.V, strict=True)]
    promise = 1 + sum(d * i for d, i in zip(d_plus, influence, strict=True))
    wins = episodes_of_success(mdp, policy, old.success_rate)
    together = sum(
        p * sp.prod(w[s][a] - 1 for s, a in chosen)
        for p, path in wins
        for size in range(2, len(path) + 1)
        for chosen in combinations(path, size)
    )
    to_come = [
        [new.V[s] / old.V[s] - 1 for s, _ in path[1:]] + [0] for _, path in wins
    ]  # behind each decision
    left_out = sum(
        p * (w[s][a] - 1) * more
        for (p, path), gains in zip(wins, to_come, strict=True)
        for (s, a), more in zip(path, gains, strict=True)
    )
    assert new.success_rate / old.success_rate - promise == together == left_out


def compounding_and_covariance(mdp, policy):
    """The two parts of what the promise leaves out, one state after the other."""
    e = evaluate(mdp, policy)
    pi_plus = condition_on_success(policy, e.Q)
    W = evaluate(mdp, pi_plus).V / e.V
    moves = mdp.transition.toarray().reshape(*policy.shape, -1)
    parts = np.zeros(2)
    for s, d in enumerate(successful_visits(e)):
        taken = pi_plus[s] > 0
        p, w = pi_plus[s, taken], e.Q[s, taken] / e.V[s]
        wins = moves[s, taken] * e.V / e.Q[s, taken][:, None]  # the rest is the exit
        gain = wins @ (W - 1)
        mean_w, mean_gain = p @ w, p @ gain
        parts += d * np.array([(mean_w - 1) * mean_gain, p @ ((w - mean_w) * (gain - mean_gain))])
    return parts


@given(mdps_with_policies())
def test_gains_compound_and_good_choices_may_leave_less_or_more_to_gain(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    compounds, covaries = compounding_and_covariance(mdp, policy)
    assert compounds >= -1e-12
    gap = one_rate_after(mdp, policy) - improvement_bounds(mdp, e).first_order
    assert e.success_rate * (compounds + covaries) == pytest.approx(gap, abs=1e-11)


def test_good_choices_leave_more_to_gain_or_less_as_doors_are_built():
    for swings, sign in [((Rational(1, 2), 0), 1), ((0, 1), -1)]:
        mdp, coin = two_doors(*swings)
        parts = compounding_and_covariance(as_floats(mdp), np.array(coin, dtype=float))
        assert parts.sum() == pytest.approx(sign * 3 / 25, rel=1e-9)
        assert sign * parts[1] > 0


def test_outside_the_support_of_the_behaviour_the_products_see_nothing():
    arms = ExactMDP.of([[[0], [0]]], [[Rational(1, 4), 1]], [1])
    behaviour, other = [[1, 0]], [[Rational(1, 2), Rational(1, 2)]]
    wins = episodes_of_success(arms, behaviour, Rational(1, 4))
    seen = sum(p * Rational(1, 2) for p, _ in wins)
    assert exact_evaluate(arms, other).success_rate / Rational(1, 4) > seen


@given(mdps_with_policies())
def test_every_state_has_the_floor_of_the_episodes_that_start_there(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    after = evaluate(mdp, condition_on_success(policy, e.Q))
    for s, start in enumerate(np.eye(mdp.n_states)):
        there = SuccessMDP(mdp.transition, mdp.success, start)
        from_s = evaluate(there, policy)
        bounds = improvement_bounds(there, from_s)
        skill = luck_decomposition(there, from_s).skill
        assert bounds.whole_episode == pytest.approx(e.V[s] * np.exp(skill), rel=1e-9)
        assert bounds.influence <= bounds.whole_episode * (1 + 1e-12)
        assert bounds.whole_episode <= after.V[s] * (1 + 1e-12)
        one = e.V[s] * (1 + action_influence(policy, e.Q)[s])
        assert bounds.one_step == pytest.approx(one, rel=1e-12)


@given(acyclic_exact_mdps())
def test_the_floor_is_exact_only_if_all_successes_have_one_product(case):
    mdp, policy = case
    old, new, _, _, w = exact_step(mdp, policy)
    wins = episodes_of_success(mdp, policy, old.success_rate)
    products = {sp.prod(w[s][a] for s, a in path) for _, path in wins}
    floats = as_floats(mdp)
    floor = improvement_bounds(floats, evaluate(floats, np.array(policy, float))).whole_episode
    exact = floor == pytest.approx(float(new.success_rate), rel=1e-12)
    assert exact == (len(products) == 1)


@given(acyclic_exact_mdps(deterministic=True, fixed_start=True))
def test_without_luck_the_floor_is_certainty(case):
    mdp, policy = case
    floats = as_floats(mdp)
    bounds = improvement_bounds(floats, evaluate(floats, np.array(policy, dtype=float)))
    assert bounds.whole_episode == pytest.approx(1, rel=1e-12)


def test_the_floor_can_be_exact_in_spite_of_luck():
    arms = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[0.0, 0.5]], [1.0])
    e = evaluate(arms, [[0.5, 0.5]])
    assert improvement_bounds(arms, e).whole_episode == pytest.approx(0.5, rel=1e-12)
    assert luck_decomposition(arms, e).transition == pytest.approx(np.log(2), rel=1e-12)


@given(mdps_with_policies(), st.data())
def test_any_policy_has_the_floor_of_its_drop_in_loss_on_successes(case, data):
    mdp, policy = case
    old = evaluate(mdp, policy)
    new = data.draw(policies_of(mdp))
    wins = successful_visits(old)[:, None] * condition_on_success(policy, old.Q)
    drop = (wins * np.log(new / policy)).sum()
    after = evaluate(mdp, new).success_rate
    assert after >= old.success_rate * np.exp(drop) * (1 - 1e-12)


def test_the_factor_of_influence_falls_and_is_its_integral():
    """By quadrature, and seen through one decision: a bound that holds with V = 1 / x."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    t = (nodes + 1) / 2
    x = np.array([1.001, 1.01, 1.5, 2.0, 5.0, 30.0])
    integral = ((1 - t) / (1 + t * (x[:, None] - 1))) @ weights / 2
    seen = []
    for v in 1 / x:
        gap = min(v, 1 - v) / 2
        arms = SuccessMDP.from_dense(np.zeros((1, 2, 1)), [[v - gap, v + gap]], [1.0])
        e = evaluate(arms, [[0.5, 0.5]])
        bound = improvement_bounds(arms, e).influence / e.success_rate
        seen.append(np.log(bound) / action_influence(e.policy, e.Q)[0])
    np.testing.assert_allclose(seen, integral, rtol=1e-6)
    assert (np.diff(seen) < 0).all()
    assert seen[0] == pytest.approx(0.5, abs=2e-4)
    assert seen[3] == pytest.approx(2 * np.log(2) - 1, rel=1e-9)


@given(mdps_with_policies(full_support=False))
def test_no_influence_exceeds_the_ceiling_of_the_extreme_actions(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    influence = action_influence(policy, e.Q)
    high = np.where(policy > 0, e.Q, 0).max(axis=1)
    low = np.where(policy > 0, e.Q, 1).min(axis=1)
    assert (e.V**2 * influence <= (high - e.V) * (e.V - low) + 1e-12).all()


TURN = [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
"""Take the shot (action 0) or turn to state 1 (action 1)."""


def test_the_detour_promises_more_than_certainty():
    detour = ExactMDP.of(TURN, [[Rational(9, 10), 0], [1, 0]], [1, 0])
    coin = [[Rational(1, 2)] * 2] * 2
    old, new, pi_plus, influence, _ = exact_step(detour, coin)
    assert (old.success_rate, new.success_rate) == (Rational(7, 10), Rational(131, 140))
    assert influence == [Rational(4, 49), 1]
    assert pi_plus[0][1] == Rational(5, 14)
    floats = as_floats(detour)
    bounds = improvement_bounds(floats, evaluate(floats, np.full((2, 2), 0.5)))
    assert bounds.first_order == pytest.approx(0.7 * (1 + 43 / 98), rel=1e-12)
    assert bounds.first_order > 1
    assert new.success_rate / old.success_rate - 1 == Rational(33, 98)
    assert bounds.whole_episode < float(new.success_rate)


def two_doors(behind_a, behind_b):
    """Success averages 0.4 behind door a and 0.1 behind door b, with these relative swings."""
    P = [[[0, 1, 0], [0, 0, 1]], *[[[0, 0, 0], [0, 0, 0]]] * 2]
    r = [[0, 0]] + [
        [v * (1 + x), v * (1 - x)]
        for v, x in [(Rational(2, 5), behind_a), (Rational(1, 10), behind_b)]
    ]
    return ExactMDP.of(P, r, [1, 0, 0]), [[Rational(1, 2)] * 2] * 3


def test_one_promise_and_one_movement_have_two_fates():
    rates = []
    for swings in [(Rational(1, 2), 0), (0, 1)]:
        mdp, coin = two_doors(*swings)
        old, new, pi_plus, _, _ = exact_step(mdp, coin)
        floats, fair = as_floats(mdp), np.full((3, 2), 0.5)
        e = evaluate(floats, fair)
        movement = policy_movement(e, np.array(pi_plus, dtype=float))
        assert movement == pytest.approx(0.56, rel=1e-12)
        assert improvement_bounds(floats, e).first_order == pytest.approx(0.39, rel=1e-12)
        rates.append((old.success_rate, new.success_rate))
    better, worse = (Rational(1, 4), Rational(21, 50)), (Rational(1, 4), Rational(9, 25))
    assert rates == [better, worse]


def test_the_promise_is_crossed_both_ways_and_no_factor_bounds_it(rng):
    below = above = 0
    for table in rng.dirichlet(np.full(7, 0.1), (200, 5, 3)):
        mdp = SuccessMDP.from_dense(table[..., :5], table[..., 5], np.full(5, 0.2))
        e = evaluate(mdp, np.full((5, 3), 1 / 3))
        promise, truth = improvement_bounds(mdp, e).first_order, one_rate_after(mdp, e.policy)
        below, above = below + (promise < truth - 1e-9), above + (promise > truth + 1e-9)
    assert min(below, above) > 40
    for shot in (0.1, 0.01):
        poor = SuccessMDP.from_dense(TURN, [[shot, 0], [1, 0]], [1, 0])
        e = evaluate(poor, [[0.5, 0.5], [shot**3, 1 - shot**3]])
        promise = improvement_bounds(poor, e).first_order
        assert promise > 0.5 / shot * one_rate_after(poor, e.policy)
    gaps = [Rational(65, 64) ** k / (1 + Rational(k, 64)) for k in (100, 500)]
    assert gaps[0] > 1.5
    assert gaps[1] > 200


def test_bounds_on_the_icy_lake():
    lake = from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)
    e = evaluate(lake, np.full((11, 4), 0.25))
    bounds = improvement_bounds(lake, e)
    assert e.success_rate == pytest.approx(0.013940, abs=5e-7)
    assert bounds.first_order == pytest.approx(0.026105, abs=5e-7)
    assert bounds.whole_episode == pytest.approx(0.022983, abs=5e-7)
    assert bounds.one_step == pytest.approx(0.013961, abs=5e-7)
    assert one_rate_after(lake, e.policy) == pytest.approx(0.031198, abs=5e-7)


# Luck as a distance


def distance_from_successes(mdp, policy, rate, other):
    """KL of the successes of `policy` from the episodes of `other`, over a list of them."""
    theirs = law(mdp, other, only_successes=True)
    wins = law(mdp, policy, only_successes=True)
    return sum(float(p / rate) * np.log(float(p / rate / theirs[path])) for path, p in wins.items())


@settings(max_examples=100)
@given(acyclic_exact_mdps(), st.integers(0, 3))
def test_luck_is_the_distance_of_the_successes_from_what_policies_produce(case, turn):
    """Listed episode by episode; the nearest law is the imitator's, and it is luck away."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    _, pi_plus = exact_doob(mdp, exact, policy)
    floats = as_floats(mdp)
    e = evaluate(floats, np.array(policy, dtype=float))
    parts, d_plus = luck_decomposition(floats, e), successful_visits(e)
    nearest = distance_from_successes(mdp, policy, exact.success_rate, pi_plus)
    assert parts.luck == pytest.approx(parts.start + parts.transition, abs=1e-15)
    assert nearest == pytest.approx(parts.luck, abs=1e-12)
    other = [row[turn % len(row) :] + row[: turn % len(row)] for row in policy]
    excess = d_plus @ kl_divergence(np.array(pi_plus, float), np.array(other, float))
    distance = distance_from_successes(mdp, policy, exact.success_rate, other)
    assert distance == pytest.approx(parts.luck + excess, abs=1e-12)
    assert distance >= nearest - 1e-12


def test_one_step_of_the_distance_in_symbols():
    """Tilts of choice and of draw; and a draw is an escape and a turn."""
    V, Q, h, f, pi_0, pi, p = sp.symbols("V Q h f pi_0 pi p", positive=True)
    pi_plus, P_plus, P_safe = pi_0 * Q / V, p * h / Q, p / (1 - f)
    step = sp.log(pi_plus * P_plus / (pi * p))
    assert sp.simplify(sp.expand_log(step - sp.log(pi_plus / pi) - sp.log(h / Q))) == 0
    turn = sp.log(1 / (1 - f)) + sp.log(P_plus / P_safe) - sp.log(h / Q)
    assert sp.simplify(sp.expand_log(turn, force=True)) == 0


@given(mdps_with_policies(), st.data())
def test_every_policy_keeps_above_the_luck_floor(case, data):
    mdp, policy = case
    e = evaluate(mdp, policy)
    parts, pi_plus = luck_decomposition(mdp, e), condition_on_success(policy, e.Q)
    new = data.draw(policies_of(mdp))
    excess = successful_visits(e) @ kl_divergence(pi_plus, new)
    assert evaluate(mdp, new).success_rate >= np.exp(-parts.luck - excess) * (1 - 1e-12)
    after = evaluate(mdp, pi_plus).success_rate
    assert after >= np.exp(-parts.luck) * (1 - 1e-12)
    assert improvement_bounds(mdp, e).whole_episode == pytest.approx(np.exp(-parts.luck), rel=1e-9)
    if parts.total > 1e-9:
        way = np.log(after / e.success_rate) / parts.total
        assert way >= parts.skill_share - 1e-9


@settings(max_examples=100)
@given(acyclic_exact_mdps())
def test_the_skill_share_is_one_exactly_when_imitation_reproduces_the_successes(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    tilted, pi_plus = exact_doob(mdp, exact, policy)
    floats = as_floats(mdp)
    parts = luck_decomposition(floats, evaluate(floats, np.array(policy, dtype=float)))
    all_skill = parts.luck == pytest.approx(0, abs=1e-10)
    assert all_skill == (law(mdp, pi_plus) == law(tilted, pi_plus))


def test_a_random_fork_between_equals_is_no_luck():
    """State-value-irrelevant randomness: determinism is not needed."""
    ahead = [[[0, Rational(1, 2), Rational(1, 2)]] * 2, *[[[0, 0, 0]] * 2] * 2]
    fork = ExactMDP.of(ahead, [[0, 0], [1, 0], [0, 1]], [1, 0, 0])
    coin = [[Rational(1, 2)] * 2] * 3
    exact = exact_evaluate(fork, coin)
    tilted, pi_plus = exact_doob(fork, exact, coin)
    assert law(fork, pi_plus) == law(tilted, pi_plus)
    floats = as_floats(fork)
    assert luck_decomposition(floats, evaluate(floats, np.full((3, 2), 0.5))).skill_share == 1


def test_a_floor_of_skill_alone_would_not_do():
    """At random starts luck is start luck too; with the luck of transitions only it would fail."""
    arms = SuccessMDP.from_dense(np.zeros((2, 2, 2)), [[0.9, 0.9], [0.1, 0.1]], [0.5, 0.5])
    e = evaluate(arms, np.full((2, 2), 0.5))
    parts = luck_decomposition(arms, e)
    assert np.exp(-parts.luck) == pytest.approx(0.5, rel=1e-12)  # nothing to choose: rho_+
    assert np.exp(-parts.transition) > 0.7


# Escapes


def escapes_and_steering(mdp, exact, policy):
    """Both, from their definitions, state by state, action by action, next place by next place."""
    escape = steering = 0.0
    for s, (v, d) in enumerate(zip(exact.V, exact.visits, strict=True)):
        for a, q in enumerate(exact.Q[s]):
            weight = float(d * v / exact.success_rate * policy[s][a] * q / v)
            if weight == 0:
                continue
            chances = [mdp.success[s][a], *mdp.transition[s][a]]
            alive = sum(chances)
            escape += weight * np.log(1 / float(alive))
            for p, h in zip(chances, [1, *exact.V], strict=True):
                if p:
                    tilted = p * h / q
                    steering += weight * float(tilted) * np.log(float(tilted / (p / alive)))
    return escape, steering


@given(acyclic_exact_mdps())
def test_transition_luck_is_escape_and_steering(case):
    mdp, policy = case
    escape, steering = escapes_and_steering(mdp, exact_evaluate(mdp, policy), policy)
    floats = as_floats(mdp)
    e = evaluate(floats, np.array(policy, dtype=float))
    assert escape_luck(floats, e) == pytest.approx(escape, abs=1e-12)
    assert luck_decomposition(floats, e).transition == pytest.approx(escape + steering, abs=1e-12)
    assert min(escape, steering) > -1e-12


@given(acyclic_exact_mdps())
def test_the_imitator_never_fails_exactly_without_escape_luck(case):
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    _, pi_plus = exact_doob(mdp, exact, policy)
    floats = as_floats(mdp)
    escape = escape_luck(floats, evaluate(floats, np.array(policy, dtype=float)))
    assert (exact_evaluate(mdp, pi_plus).success_rate == 1) == (escape < 1e-10)


def sparse_mdps(rng, n):
    """Layered processes with many zeros, in which some states may be without hope."""
    while n:
        S, A = rng.integers(2, 6), rng.integers(2, 4)
        weights = rng.integers(0, 3, (S, A, S + 2)) * (rng.random((S, A, S + 2)) < 0.45)
        weights[:, :, :S] *= (np.arange(S) > np.arange(S)[:, None])[:, None]
        weights[:, :, -1] += weights.sum(axis=2) == 0
        policy, start = rng.integers(0, 3, (S, A)), rng.integers(0, 2, S)
        policy[:, 0] += policy.sum(axis=1) == 0
        start[0] = 1
        table = weights / weights.sum(axis=2, keepdims=True)
        if not table[:, :, S][start > 0].any():
            continue  # so that success can be seen to be possible
        mdp = SuccessMDP.from_dense(table[:, :, :S], table[:, :, S], start / start.sum())
        e = evaluate(mdp, policy / policy.sum(axis=1, keepdims=True))
        if e.success_rate:
            n -= 1
            yield mdp, table, e


def draws_never_matter(table, e, start):
    """Whether the chance of success is one at all starts, and stays through every draw."""
    h = np.append(e.V, [1, 0])
    same = [np.ptp(e.V[start > 0])]
    for s, a in np.argwhere((e.visits[:, None] > 0) & (e.policy > 0) & (e.Q > 0)):
        same.append(np.ptp(h[table[s, a] > 0]))
    return max(same) < 1e-12


def test_escapes_and_promises_where_some_states_are_without_hope(rng):
    hopeless = perfect = lucky = 0
    for mdp, table, e in sparse_mdps(rng, 1500):
        pi_plus = condition_on_success(e.policy, e.Q)
        new, seen = evaluate(mdp, pi_plus), evaluate(doob_transform(mdp, e), pi_plus)
        escape, luck = escape_luck(mdp, e), luck_decomposition(mdp, e).luck
        never_fails = new.success_rate > 1 - 1e-12
        assert never_fails == (escape < 1e-12 and (e.V[mdp.initial > 0] > 0).all())
        # in a layered process a visit is an event, so that its chances are means of a Y
        assert np.abs(seen.visits - new.visits).max() <= np.sqrt(luck / 2) + 1e-12
        assert (luck < 1e-12) == draws_never_matter(table, e, mdp.initial)
        hopeless, perfect = hopeless + (e.V == 0).any(), perfect + never_fails
        lucky += luck > 1e-12
    assert min(hopeless, perfect, lucky, 1500 - lucky) > 50


def test_a_start_without_hope_is_not_escaped():
    prompts = SuccessMDP.from_dense(np.zeros((2, 3, 2)), [[1, 1, 1], [0, 0, 0]], [0.5, 0.5])
    e = evaluate(prompts, np.full((2, 3), 1 / 3))
    assert evaluate(prompts, condition_on_success(e.policy, e.Q)).success_rate == 0.5
    assert escape_luck(prompts, e) == 0
    assert luck_decomposition(prompts, e).start == pytest.approx(np.log(2), rel=1e-12)


@given(mdps_with_policies(full_support=False))
def test_escape_luck_is_a_part_of_transition_luck(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    if e.success_rate > 0:
        assert 0 <= escape_luck(mdp, e) <= luck_decomposition(mdp, e).transition + 1e-12


@pytest.mark.parametrize("hazard", [0.05, 0.3])
def test_a_hazard_is_escaped_at_every_step_of_a_success(hazard, rng):
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    lake = from_gymnasium(env, outcome=positive_ending, hazard=hazard)
    e = evaluate(lake, np.full((11, 4), 0.25))
    log = sample_log(lake, e.policy, 1_000_000, rng=rng)
    length = np.bincount(log.episode)[log.success[np.flatnonzero(np.diff(log.episode, append=-1))]]
    error = length.std() / np.sqrt(length.size)
    steps = -escape_luck(lake, e) / np.log(1 - hazard)
    assert abs(length.mean() - steps) < 4 * error
    assert luck_decomposition(lake, e).luck == pytest.approx(escape_luck(lake, e), rel=1e-9)


def test_a_state_without_hope_is_a_failure_to_escape():
    """A random fork: one branch has a right key, the other none, and fails a step later."""
    ahead = np.zeros((3, 2, 3))
    ahead[0, :, 1:] = 0.5
    dead = SuccessMDP.from_dense(ahead, [[0, 0], [1, 0], [0, 0]], [1, 0, 0])
    e = evaluate(dead, np.full((3, 2), 0.5))
    assert (dead.failure[0] == 0).all()  # nothing fails at once, to the letter
    assert evaluate(dead, condition_on_success(e.policy, e.Q)).success_rate == 0.5
    assert escape_luck(dead, e) == pytest.approx(np.log(2), rel=1e-12)


@pytest.mark.parametrize("rare", [1e-3, 1e-6, 1e-9])
def test_much_luck_need_not_fail(rare):
    """The world makes success easy rarely, and the imitator needs it not."""
    ahead = np.zeros((3, 2, 3))
    ahead[0, :, 1:] = 1 - rare, rare
    hard = SuccessMDP.from_dense(ahead, [[0, 0], [1, 0], [0.5, 0.5]], [1, 0, 0])
    e = evaluate(hard, [[0.5, 0.5], [rare, 1 - rare], [0.5, 0.5]])
    after = evaluate(hard, condition_on_success(e.policy, e.Q)).success_rate
    assert after == pytest.approx(1 - rare / 2, abs=1e-14)
    assert escape_luck(hard, e) == pytest.approx(np.log(2) / 3, rel=3 * rare)
    # a third of the successes is steered to the easy state, two thirds to the hard one
    steering = np.log(1 / (3 * rare)) / 3 + 2 / 3 * np.log(2 / 3)
    transition = luck_decomposition(hard, e).transition
    assert transition - escape_luck(hard, e) == pytest.approx(steering, rel=0.01)


# Two shares


def keys_and_fields(keys, fields, *, key_first):
    """Find one right key of many, and spin a wheel of which one field wins, in either order."""
    stages = [[Rational(int(a == 0)) for a in range(keys)], [Rational(1, fields)] * keys]
    first, second = stages if key_first else stages[::-1]
    P = [[[0, p] for p in first], [[0, 0]] * keys]
    policy = [[Rational(1, keys)] * keys] * 2
    return ExactMDP.of(P, [[0] * keys, second], [1, 0]), policy


@pytest.mark.parametrize(("keys", "fields"), [(20, 5), (5, 20), (3, 7), (2, 2)])
def test_nats_do_not_mind_the_order_of_stages_and_variances_do(keys, fields):
    shares = []
    for key_first in (True, False):
        mdp, policy = keys_and_fields(keys, fields, key_first=key_first)
        old, new, *_ = exact_step(mdp, policy)
        assert old.success_rate == Rational(1, keys * fields)
        assert new.success_rate == Rational(1, fields)
        floats = as_floats(mdp)
        e = evaluate(floats, np.full((2, keys), 1 / keys))
        parts = luck_decomposition(floats, e)
        assert parts.skill == pytest.approx(np.log(keys), rel=1e-12)
        assert parts.luck == pytest.approx(np.log(fields), rel=1e-12)
        spread = [sum((q - v) ** 2 for q in qs) / keys for qs, v in zip(old.Q, old.V, strict=True)]
        explained = sum(d * x for d, x in zip(old.visits, spread, strict=True))
        share = explained / (old.success_rate * (1 - old.success_rate))
        assert outcome_variance(floats, e).action_share == pytest.approx(float(share), rel=1e-12)
        shares.append(share)
    assert shares[0] == Rational(keys - 1, keys * fields - 1)
    assert shares[1] == fields * shares[0]


def test_the_two_shares_rank_two_games_differently():
    shares = []
    for keys, fields, key_first in [(20, 5, True), (5, 20, False)]:
        mdp = as_floats(keys_and_fields(keys, fields, key_first=key_first)[0])
        e = evaluate(mdp, np.full((2, keys), 1 / keys))
        after = one_rate_after(mdp, e.policy)
        nats = luck_decomposition(mdp, e).skill_share
        shares.append((after, nats, outcome_variance(mdp, e).action_share))
    (win, nats, variance), (other_win, other_nats, other_variance) = shares
    assert win == pytest.approx(4 * other_win)
    assert nats > other_nats + 0.3
    assert variance < other_variance - 0.6


def mean_logs(mdp, e, kind):
    """Mean over all successes of the logarithms of one kind of tilt: a derivative at zero.

    Every success is weighted by exp(z X); the sum over all of them is one linear system.
    """
    z = np.zeros(3, dtype=complex)
    z[kind] = 1e-20j
    Q, V = np.where(e.Q > 0, e.Q, 1), e.V
    pi = e.policy * (Q / V[:, None]) ** z[1] / Q ** z[2]
    moves = mdp.transition.toarray().reshape(*Q.shape, -1) * V ** z[2]
    stays = np.eye(V.size) - np.einsum("sa,sat->st", pi, moves)
    total = mdp.initial * (V / e.success_rate) ** z[0]
    return (total @ np.linalg.solve(stays, (pi * mdp.success).sum(1))).imag / 1e-20 / e.success_rate


def crossing(s, a, s2, reward, terminated):
    if reward == -100:
        return "failure"
    return "success" if terminated else "continue"


@pytest.mark.parametrize(
    ("name", "outcome", "hazard", "share"),
    [
        ("FrozenLake-v1", positive_ending, 0.0, 0.117),
        ("CliffWalking-v1", crossing, 0.05, 0.746),
        ("Taxi-v4", positive_ending, 0.02, 0.520),
        ("Blackjack", None, 0.0, 0.200),
    ],
)
def test_parts_of_real_tables_by_a_sum_over_all_successes(name, outcome, hazard, share):
    if outcome:
        mdp = from_gymnasium(gymnasium.make(name), outcome=outcome, hazard=hazard)
    else:
        mdp = blackjack()
    e = evaluate(mdp, np.full(mdp.success.shape, 1 / mdp.n_actions))
    parts = luck_decomposition(mdp, e)
    ours = [parts.start, parts.skill, parts.transition]
    np.testing.assert_allclose(ours, [mean_logs(mdp, e, k) for k in range(3)], atol=1e-12)
    assert sum(ours) == pytest.approx(-np.log(e.success_rate), abs=1e-12)
    assert parts.skill_share == pytest.approx(share, abs=5e-4)


# Events and logs


@settings(max_examples=50)
@given(acyclic_exact_mdps())
def test_what_one_gets_is_near_what_one_saw_if_luck_is_small(case):
    """The largest difference of means, over all statistics of an episode, by listing them."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    _, pi_plus = exact_doob(mdp, exact, policy)
    seen = {
        path: p / exact.success_rate for path, p in law(mdp, policy, only_successes=True).items()
    }
    got = law(mdp, pi_plus)
    largest = sum(max(seen.get(path, 0) - p, 0) for path, p in got.items())
    floats = as_floats(mdp)
    luck = luck_decomposition(floats, evaluate(floats, np.array(policy, dtype=float))).luck
    assert float(largest) <= np.sqrt(luck / 2) + 1e-6
    assert (largest == 0) == (luck < 1e-10)


def five_rounds(moves, label):
    """In each of five rounds a total moves; the label of the last total is the success."""
    P = np.zeros((5, 51, 2, 5, 51))
    for t in range(4):
        P[t, :, :, t + 1] = moves
    r = np.zeros((5, 51, 2))
    r[4] = moves @ label
    return SuccessMDP.from_dense(P.reshape(255, 2, 255), r.reshape(255, 2), np.eye(255)[0])


def test_asking_for_more_gets_less_unless_the_event_is_of_choices():
    """Safe pays 3, a gamble 10 one time in ten: by hand, the best is 15 and a coin gets 10."""
    total = np.arange(51)
    pays = np.stack([np.eye(51, k=3), 0.1 * np.eye(51, k=10) + 0.9 * np.eye(51)], axis=1)
    coin = np.full((255, 2), 0.5)

    def mean(moves, policy):
        return 50 * evaluate(five_rounds(moves, total / 50), policy).success_rate

    assert mean(pays, coin) == pytest.approx(10, rel=1e-12)
    got = []
    for goal in (7, 30, 50):
        process = five_rounds(pays, total >= goal)
        e = evaluate(process, coin)
        got.append(mean(pays, condition_on_success(coin, e.Q)))
    assert e.success_rate == pytest.approx(0.05**5, rel=1e-12)
    assert luck_decomposition(process, e).luck == pytest.approx(5 * np.log(10), rel=1e-12)
    # after a gamble that paid nothing nobody reaches 50: the coin plays on
    by_hand = sum(0.1**k * 0.9 * (10 * k + 2 * (4 - k)) for k in range(5)) + 0.1**5 * 50
    assert got[-1] == pytest.approx(by_hand, rel=1e-12)
    assert got[0] > 10 > got[2] > got[1]

    counts = np.stack([np.eye(51, k=1), np.eye(51)], axis=1)
    for k in range(6):
        process = five_rounds(counts, total >= k)
        e = evaluate(process, coin)
        assert luck_decomposition(process, e).luck == pytest.approx(0, abs=1e-12)
        safe = mean(counts, condition_on_success(coin, e.Q))
        weights = np.array([1, 5, 10, 10, 5, 1]) * (np.arange(6) >= k)
        assert safe == pytest.approx(weights @ np.arange(6) / weights.sum(), rel=1e-12)


@pytest.mark.parametrize("m", [1, 2, 6])
def test_own_and_fresh_successes_bracket_skill(m):
    """Over all samples of m successes of three arms, with their probabilities."""
    pi_0, Q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.9, 0.6])
    arms = SuccessMDP.from_dense(np.zeros((1, 3, 1)), Q[None], [1.0])
    skill = luck_decomposition(arms, evaluate(arms, pi_0[None])).skill
    pi_plus = condition_on_success(pi_0, Q)
    own = fresh = weight = 0.0
    for n in [(a, b, m - a - b) for a in range(m + 1) for b in range(m + 1 - a)]:
        ways = float(sp.factorial(m) / sp.prod(sp.factorial(x) for x in n))
        p = ways * np.prod(pi_plus**n)
        counted = np.array(n) / m
        smoothed = (np.array(n) + 1) / (m + 3)
        own += p * sum(x * np.log(x / y) for x, y in zip(counted, pi_0, strict=True) if x)
        fresh += p * pi_plus @ np.log(smoothed / pi_0)
        weight += p
    assert weight == pytest.approx(1, rel=1e-12)
    assert own > skill > fresh


def test_a_policy_that_has_seen_the_test_may_leave_the_bracket(rng):
    """With tests of 5 successes, the best of many policies on them beats skill."""
    pi_0, pi_plus = np.array([0.5, 0.5]), np.array([0.4, 0.6])
    counts = rng.multinomial(5, pi_plus, 2000)
    candidates = np.array([[x, 1 - x] for x in (0.1, 0.3, 0.5, 0.7, 0.9)])
    chosen = (counts / 5 @ np.log(candidates / pi_0).T).max(axis=1)
    assert chosen.mean() > 2 * kl_divergence(pi_plus, pi_0)
