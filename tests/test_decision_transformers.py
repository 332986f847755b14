"""What a next-action predictor estimates, what a request does, and small networks held to both."""

from collections import defaultdict
from fractions import Fraction

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from sc_utils.conditioning import (
    action_influence,
    condition_on_failure,
    condition_on_success,
    kl_divergence,
    relative_improvement,
    total_variation,
)
from sc_utils.environments import from_gymnasium, positive_ending
from sc_utils.luck import luck_decomposition
from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.networks import log_probabilities, new_transformer, one_hot, train
from sc_utils.sampling import sample_counts, sample_log
from sc_utils.symbolic import exact_evaluate, trajectories
from tests.strategies import acyclic_exact_mdps, mdps_with_policies


def lake(slippery):
    env = gymnasium.make("FrozenLake-v1", is_slippery=slippery)
    return from_gymnasium(env, outcome=positive_ending)


def shares(weights):
    """What each context's weights of actions are a share of; contexts without weight are left."""
    totals = {c: sum(w.values()) for c, w in weights.items()}
    return {c: {a: w / totals[c] for a, w in weights[c].items()} for c in weights if totals[c]}


@settings(max_examples=25)
@given(acyclic_exact_mdps())
def test_given_the_outcome_no_history_matters(case):
    mdp, policy = case
    seen = defaultdict(lambda: defaultdict(Fraction))
    for path in trajectories(mdp, policy):
        for t, (s, a) in enumerate(path.decisions):
            context = path.success, path.decisions[:t], s
            seen[context][a] += Fraction(int(path.probability.p), int(path.probability.q))
    exact = exact_evaluate(mdp, policy)
    for (success, _, s), found in shares(seen).items():
        odds = [q if success else 1 - q for q in exact.Q[s]]
        weights = [p * o for p, o in zip(policy[s], odds, strict=True)]
        for a, share in found.items():
            assert share == weights[a] / sum(weights)


@settings(max_examples=25)
@given(acyclic_exact_mdps())
def test_given_the_steps_to_go_no_history_matters(case):
    mdp, policy = case
    seen = defaultdict(lambda: defaultdict(Fraction))
    for path in trajectories(mdp, policy):
        for t, (s, a) in enumerate(path.decisions):
            left = len(path.decisions) - t if path.success else 0
            context = left, path.decisions[:t], s
            seen[context][a] += Fraction(int(path.probability.p), int(path.probability.q))
    states, actions = range(len(mdp.initial)), range(len(mdp.success[0]))
    reach = {1: [[mdp.success[s][a] for a in actions] for s in states]}
    for k in range(2, len(states) + 1):
        before = [sum(policy[s][a] * reach[k - 1][s][a] for a in actions) for s in states]
        reach[k] = [
            [sum(mdp.transition[s][a][t] * before[t] for t in states) for a in actions]
            for s in states
        ]
    checked = 0
    for (left, _, s), found in shares(seen).items():
        if left:
            weights = [policy[s][a] * reach[left][s][a] for a in actions]
            for a, share in found.items():
                assert share == weights[a] / sum(weights)
            checked += 1
    assert checked or not any(path.success for path in trajectories(mdp, policy))


def test_who_walked_is_told_by_history():
    """Two behaviours mixed: the first push tells the walker, so it predicts the second."""
    walkers, Q = [(Fraction(9, 10), Fraction(1, 10))], (Fraction(8, 10), Fraction(2, 10))
    walkers.append(walkers[0][::-1])
    wins = [[sum(w[a] * w[b] for w in walkers) * Q[b] / 2 for b in (0, 1)] for a in (0, 1)]
    after = [row[0] / sum(row) for row in wins]
    assert after == [Fraction(164, 173), Fraction(36, 77)]
    assert (wins[0][0] + wins[1][0]) / sum(map(sum, wins)) == Fraction(4, 5)
    one = [[w * v * q for v, q in zip(walkers[0], Q, strict=True)] for w in walkers[0]]
    assert one[0][0] / sum(one[0]) == one[1][0] / sum(one[1])  # a single walker's does not


def deadline(mdp, k):
    """States (steps left, state); success is to arrive in exactly k steps."""
    S, A = mdp.success.shape
    moves = mdp.transition.toarray().reshape(S, A, S)
    P, r = np.zeros((k + 1, S, A, k + 1, S)), np.zeros((k + 1, S, A))
    for left in range(2, k + 1):
        P[left, :, :, left - 1] = moves
    r[1] = mdp.success
    n = (k + 1) * S
    start = np.concatenate([np.zeros(k * S), mdp.initial])
    return SuccessMDP.from_dense(P.reshape(n, A, n), r.reshape(n, A), start)


@given(mdps_with_policies(), st.integers(1, 4))
def test_a_request_is_met_more_often_than_before(case, k):
    mdp, policy = case
    # The chance of exactly k steps, by powers of the matrix.
    moves = np.einsum("sa,sat->st", policy, mdp.transition.toarray().reshape(*policy.shape, -1))
    ends = (policy * mdp.success).sum(axis=1)
    chance = mdp.initial @ np.linalg.matrix_power(moves, k - 1) @ ends
    assume(chance > 1e-9)
    game = deadline(mdp, k)
    e = evaluate(game, np.tile(policy, (k + 1, 1)))
    assert np.isclose(e.success_rate, chance, rtol=1e-9)
    asks = condition_on_success(e.policy, e.Q)
    met = evaluate(game, asks).success_rate
    assert met >= chance * np.exp(luck_decomposition(game, e).skill) * (1 - 1e-9)
    out_of_reach = e.V == 0  # there anything may be played
    anything = np.roll(np.eye(asks.shape[1])[0], k)
    instead = np.where(out_of_reach[:, np.newaxis], anything, asks)
    assert evaluate(game, instead).success_rate >= met * (1 - 1e-9)


@pytest.mark.parametrize("k", [6, 7, 9, 14])
def test_without_luck_a_request_is_met(k):
    game = deadline(lake(False), k)
    e = evaluate(game, np.full(game.success.shape, 0.25))
    assert 0 < e.success_rate < 0.01
    assert np.isclose(evaluate(game, condition_on_success(e.policy, e.Q)).success_rate, 1)


def test_a_request_that_is_met_more_often_may_lower_the_mean():
    """A safe 3, or 10 with probability 1/10: asked for 10, the gambler's mean is 1, not 2."""
    coin, ten = np.array([[0.5, 0.5]]), np.array([[0.0, 0.1]])
    asks = condition_on_success(coin, ten)
    np.testing.assert_array_equal(asks, [[0, 1]])
    assert (asks @ [3, 1])[0] == 1 < 2 == (coin @ [3, 1])[0]
    assert (asks * ten).sum() > (coin * ten).sum()


def scaled(policy, Q, scale):
    weights = policy * Q**scale * (1 - Q) ** (1 - scale)
    return weights / weights.sum(axis=1, keepdims=True)


@given(mdps_with_policies())
def test_a_scaled_answer_gains_more_at_every_state(case):
    mdp, policy = case
    e = evaluate(mdp, policy)
    Q = np.clip(e.Q, 0.001, 0.999)
    gains = [relative_improvement(scaled(policy, Q, x), policy, Q) for x in (-1, 0, 1, 1.5, 4, 30)]
    assert (np.diff(gains, axis=0) >= -1e-9).all()
    np.testing.assert_allclose(gains[2], action_influence(policy, Q), rtol=1e-9, atol=1e-12)
    ratio = condition_on_success(policy, Q) / condition_on_failure(policy, Q)
    by_ratio = policy * ratio**1.5 * condition_on_failure(policy, Q) / policy
    by_ratio /= by_ratio.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(by_ratio, scaled(policy, Q, 1.5), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("scale", [1, 1.5, 2, 5, 80])
def test_a_scaled_answer_improves_every_cell_of_the_lake(scale):
    e = evaluate(mdp := lake(True), np.full((11, 4), 0.25))
    there = evaluate(mdp, scaled(e.policy, e.Q, scale))
    assert (there.V >= e.V * (1 + action_influence(e.policy, e.Q)) - 1e-12).all()


def test_the_limit_of_scaling_is_the_greedy_step():
    e = evaluate(lake(True), np.full((11, 4), 0.25))
    logits = 3_000 * (np.log(e.Q) - np.log1p(-e.Q))
    best = np.isclose(e.Q, e.Q.max(axis=1, keepdims=True), rtol=1e-9)
    np.testing.assert_allclose(
        softmax(logits, axis=1), best / best.sum(axis=1, keepdims=True), atol=1e-6
    )


def test_half_an_answer_can_be_worse_than_none():
    e = evaluate(mdp := lake(True), np.full((11, 4), 0.25))
    assert evaluate(mdp, scaled(e.policy, e.Q, 0)).success_rate < e.success_rate


def relabelled(policy, reach):
    """policy[g][a], reach[a][g]: the exact round of relabelling."""
    goals, actions = range(len(policy)), range(len(reach))
    often = [sum(policy[g][a] for g in goals) / len(policy) for a in actions]
    joint = [[often[a] * reach[a][g] for a in actions] for g in goals]
    return [[x / sum(row) for x in row] for row in joint]


def score(policy, reach):
    goals = range(len(policy))
    return sum(policy[g][a] * reach[a][g] for g in goals for a in range(len(reach))) / len(policy)


@given(st.fractions(Fraction(51, 100), 1), st.fractions(0, 1))
def test_relabelling_forgets_where_it_began(p, x):
    reach = [[p, 1 - p], [1 - p, p]]
    after = relabelled([[x, 1 - x], [1 - x, x]], reach)
    assert after == [[p, 1 - p], [1 - p, p]] == relabelled(after, reach)
    assert score(after, reach) == p**2 + (1 - p) ** 2
    assert p - score(after, reach) == (1 - p) * (2 * p - 1)


def test_relabelling_reverses_by_play(rng):
    goal = rng.integers(2, size=200_000)  # each is commanded, and its own action played
    reached = np.where(rng.random(goal.size) < 0.75, goal, 1 - goal)
    counts = np.zeros((2, 2))
    np.add.at(counts, (reached, goal), 1)
    policy = counts / counts.sum(axis=1, keepdims=True)
    reach = np.array([[0.75, 0.25], [0.25, 0.75]])
    assert abs(score(np.eye(2), reach) - 0.75) < 1e-12
    assert abs(score(policy, reach) - 0.625) < 0.005


def test_per_goal_conditioning_keeps_what_relabelling_loses():
    reach = np.array([[0.75, 0.25], [0.25, 0.75]])
    for x in (0.5, 0.8, 1.0):
        policy = np.array([[x, 1 - x], [1 - x, x]])
        after = condition_on_success(policy, reach.T)
        assert score(after, reach) >= score(policy, reach)
    np.testing.assert_array_equal(after, np.eye(2))


def ask(requests, states, n_states):
    inputs = np.zeros((len(states), 2, 1 + n_states))
    inputs[:, 0, 0] = requests
    inputs[np.arange(len(states)), 1, 1 + states] = 1
    return inputs


def learn(counts, requests, steps, rng):
    """Trained on counts[g, s, a], as in the chapter."""
    _, S, A = counts.shape
    g, s, a = np.nonzero(counts)
    weights = counts[g, s, a] * np.where(g > 0, 1, counts[1:].sum() / counts[0].sum())
    pairs = np.stack([0 * a, a], 1), np.stack([0 * a, weights], 1)
    network = new_transformer(1 + S, A, 2, rng=rng)
    inputs = ask(requests[g], s, S)
    return train(network, inputs, *pairs, steps=steps, batch=a.size, rng=rng)


def answer(network, request, n_states):
    inputs = ask(np.full(n_states, request), np.arange(n_states), n_states)
    return softmax(log_probabilities(network, inputs)[:, 1], axis=1)


@pytest.fixture(scope="module")
def trained():
    rng = np.random.default_rng(1)
    mdp = lake(True)
    n = sample_counts(mdp, np.full((11, 4), 0.25), 200_000, rng=rng)
    counts = np.stack([n.visits - n.successes, n.successes])
    return mdp, counts, learn(counts, np.arange(2), 400, rng)


def errors(mdp, counts, network, request):
    """Relative entropy and total variation to the target, of the network and of a table."""
    e = evaluate(mdp, np.full((11, 4), 0.25))
    target = [condition_on_failure, condition_on_success][request](e.policy, e.Q)
    d = e.visits * [1 - e.V, e.V][request]
    table = counts[request] / counts[request].sum(axis=1, keepdims=True)
    guesses = answer(network, request, 11), table
    return np.array([[d @ f(target, x) for f in (kl_divergence, total_variation)] for x in guesses])


@pytest.mark.parametrize("outcome", [0, 1])
def test_a_network_is_as_near_to_the_truth_as_a_table(trained, outcome):
    mdp, counts, network = trained
    of_network, of_table = errors(mdp, counts, network, outcome)
    assert (of_network < 2 * of_table).all()


def test_a_network_on_dry_ground_arrives_and_learns_what_never_happens(rng):
    mdp = lake(False)
    n = sample_counts(mdp, np.full((11, 4), 0.25), 200_000, rng=rng)
    counts = np.stack([n.visits - n.successes, n.successes])
    network = learn(counts, np.arange(2), 1200, rng)
    assert evaluate(mdp, answer(network, 1, 11)).success_rate > 0.99
    for outcome in (0, 1):
        of_network, of_table = errors(mdp, counts, network, outcome)
        assert (of_network < 2 * of_table).all()


def test_to_double_the_question_is_not_to_double_the_answer(trained):
    mdp, _, network = trained

    def rate(policy):
        return evaluate(mdp, policy).success_rate

    once, twice = (rate(answer(network, g, 11)) for g in (1, 2))
    logs = [np.log(answer(network, g, 11)) for g in (0, 1)]
    e = evaluate(mdp, np.full((11, 4), 0.25))
    exact = rate(scaled(e.policy, e.Q, 2))
    assert twice < 1.3 * once
    assert exact > 1.6 * once
    assert abs(rate(softmax(2 * logs[1] - logs[0], axis=1)) / exact - 1) < 0.06


def test_a_memory_finds_structure_where_there_is_none(rng):
    """Two cells, which a walker changes at will: a table of histories pays more than a network."""
    stays = np.zeros((2, 3, 2))
    stays[:, 0] = 0.8 * np.eye(2)
    stays[:, 1:] = 0.4
    mdp = SuccessMDP.from_dense(stays, [[0.02, 0.1, 0.05], [0.1, 0.02, 0.05]], [0.5, 0.5])
    log = sample_log(mdp, np.full((2, 3), 1 / 3), 4_000, rng=rng)
    e = evaluate(mdp, np.full((2, 3), 1 / 3))
    target = condition_on_success(e.policy, e.Q)
    second = np.flatnonzero(log.success[1:] & (np.diff(log.episode) == 0))
    tokens = np.stack([log.state[second], 2 + log.action[second], log.state[second + 1]], 1)
    choice = log.action[second + 1]
    targets = np.zeros_like(tokens)
    targets[:, 2] = choice
    weights = np.zeros(tokens.shape)
    weights[:, 2] = 1
    network = new_transformer(5, 3, 3, width=16, rng=rng)
    how = {"steps": 200, "batch": 64, "rng": rng}
    network = train(network, one_hot(tokens, 5), targets, weights, **how)
    contexts, where = np.unique(tokens, axis=0, return_inverse=True)
    guess = softmax(log_probabilities(network, one_hot(contexts, 5))[:, 2], axis=1)
    seen = np.bincount(where.ravel(), minlength=len(contexts)) / len(tokens)
    cell = contexts[:, 2]
    total = seen @ kl_divergence(target[cell], guess)
    mean = np.array([seen[cell == s] @ guess[cell == s] / seen[cell == s].sum() for s in (0, 1)])
    counts = np.ones((len(contexts), 3))
    np.add.at(counts, (where.ravel(), choice), 1)
    table = seen @ kl_divergence(target[cell], counts / counts.sum(axis=1, keepdims=True))
    assert 0 <= seen @ kl_divergence(target[cell], mean[cell]) < total < table


def test_asked_for_more_the_lake_gives_a_little_more():
    """The countdown of the chapter: exact policies, with the request clipped to what can be had."""
    K, gamma = 12, 0.95
    achieved = {}
    for name, slippery in (("dry", False), ("icy", True)):
        mdp = lake(slippery)
        moves = mdp.transition.toarray().reshape(11, 4, 11)
        reach = [np.zeros((11, 4)), mdp.success]
        for _ in range(2, K + 1):
            reach.append(moves @ reach[-1].mean(axis=1))
        uniform = np.full((11, 4), 0.25)
        policies = [condition_on_success(uniform, q) for q in reach]
        fewest = (np.array(reach).sum(axis=2) > 0).argmax(axis=0)
        V = np.zeros((K + 1, 11))
        for _ in range(2_000):  # value iteration, with a discount
            V = np.array(
                [
                    (
                        pi
                        * gamma
                        * (mdp.success + moves @ V[np.maximum(k - 1, fewest), np.arange(11)])
                    ).sum(axis=1)
                    for k, pi in enumerate(policies)
                ]
            )
        achieved[name] = V[6:, 0]
    np.testing.assert_allclose(achieved["dry"], gamma ** np.arange(6, K + 1), rtol=1e-9)
    assert (np.diff(achieved["icy"]) < 0).all()
    assert abs(achieved["icy"][0] - 0.02582) < 1e-5
