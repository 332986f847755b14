"""The step repeated: exactly, from samples, and as a Wright-Fisher chain."""

from fractions import Fraction
from itertools import pairwise, product
from math import comb

import gymnasium
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import rel_entr
from scipy.stats import multinomial

from sc_utils.conditioning import action_influence, condition_on_success, merge_states
from sc_utils.environments import bandit, from_gymnasium, positive_ending, random_mdp
from sc_utils.luck import luck_decomposition
from sc_utils.mdp import SuccessMDP, evaluate, maximise_success
from sc_utils.rounds import exact_rounds, sampled_rounds, wright_fisher
from sc_utils.sampling import sample_counts
from sc_utils.symbolic import trajectories
from tests.strategies import acyclic_exact_mdps, as_floats, mdps_with_policies, policies_of

TURN = [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]  # from state 0, action 1 leads to state 1


def lake():
    return from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)


def lake_rounds(n_rounds):
    return exact_rounds(lake(), np.full((11, 4), 0.25), n_rounds)


def restricted(mdp, policy):
    """The same process without the actions that a policy does not play: they fail at once."""
    played = policy > 0
    table = mdp.transition.toarray().reshape(*policy.shape, -1) * played[..., np.newaxis]
    return SuccessMDP.from_dense(table, mdp.success * played, mdp.initial)


def fixation(q, m, start):
    """Chance that the first arm takes over and the mean number of rounds, by powers of the table.

    No linear system: the chain is run until what is undecided is below 1e-14.
    """
    table, law, rounds = wright_fisher(q, m), np.eye(m + 1)[start], 0.0
    while law[1:-1].sum() > 1e-14:
        rounds += law[1:-1].sum()
        law = law @ table
    return law[-1], rounds


# Exact rounds


@given(mdps_with_policies())
@settings(max_examples=60)
def test_success_never_falls_at_any_state(case):
    mdp, policy = case
    for old, new in pairwise(exact_rounds(mdp, policy, 12)):
        assert (new.V >= old.V * (1 + action_influence(old.policy, old.Q)) * (1 - 1e-9)).all()


def test_exact_rounds_reach_the_best_of_the_support():
    rng = np.random.default_rng(1)
    for S, A in [(2, 3), (4, 3), (3, 4), (6, 2)] * 2:
        mdp = random_mdp(S, A, rng=rng)
        policy = rng.dirichlet(np.ones(A), S)
        policy[policy < 0.15] = 0  # some actions are never played
        policy /= policy.sum(axis=1, keepdims=True)
        best = maximise_success(restricted(mdp, policy))
        last = exact_rounds(mdp, policy, 3000)[-1]
        np.testing.assert_allclose(last.V, best.V, rtol=5e-3)
        assert last.success_rate > best.success_rate * (1 - 2e-3)


def test_exact_rounds_on_the_icy_lake():
    rho = [e.success_rate for e in lake_rounds(200)]
    np.testing.assert_allclose(
        [rho[k] for k in (1, 2, 5, 10, 50)], [0.0312, 0.0474, 0.1071, 0.2815, 0.6961], atol=5e-5
    )
    assert 0.8235 < rho[200] < 14 / 17


def test_an_action_or_a_state_never_seen_is_lost():
    closed = exact_rounds(bandit([0.2, 0.6, 0.9]), [[0.5, 0.5, 0]], 200)[-1]
    assert np.isclose(closed.success_rate, 0.6, rtol=1e-9)
    vault = SuccessMDP.from_dense(TURN, [[0.5, 0], [1, 0]], [1, 0])
    rounds = exact_rounds(vault, [[0.5, 0.5], [0, 1]], 5)
    assert rounds[1].policy[0, 1] == 0
    assert rounds[-1].success_rate == 0.5
    assert maximise_success(vault).success_rate == 1


def test_the_gap_shrinks_at_the_ratio_of_the_second_best():
    best = maximise_success(lake())
    assert (best.visits > 0).all()
    ratio = best.Q / best.V[:, np.newaxis]
    expected = ratio[ratio < 1 - 1e-9].max()
    assert np.isclose(expected, 23 / 24)
    gap = 14 / 17 - np.array([e.success_rate for e in lake_rounds(300)])
    assert np.isclose(gap[300] / gap[299], expected, rtol=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_rate_in_random_processes(seed):
    rng = np.random.default_rng(seed)
    mdp = random_mdp(3, 2, rng=rng)
    best = maximise_success(mdp)
    ratio = (best.Q / best.V[:, np.newaxis])[best.visits > 1e-12]
    rate = ratio[ratio < 1 - 1e-9].max()
    if 0.3 < rate < 0.8:  # else too few rounds are free of rounding, or too many are needed
        n = int(np.log(1e-6) / np.log(rate))
        rounds = exact_rounds(mdp, rng.dirichlet(np.ones(2) * 5, 3), n)
        gaps = [best.success_rate - e.success_rate for e in rounds[-2:]]
        assert np.isclose(gaps[1] / gaps[0], rate, rtol=0.03)


def test_a_slow_state_beside_the_road_does_not_set_the_rate():
    aside = SuccessMDP.from_dense(TURN, [[0.8, 0], [0.4, 0.39]], [1, 0])
    rounds = exact_rounds(aside, np.full((2, 2), 0.5), 25)
    gaps = [0.8 - e.success_rate for e in rounds[-2:]]
    assert np.isclose(gaps[1] / gaps[0], 0.5, rtol=0.01)  # behind the turn it is 0.39 / 0.4


def test_a_state_that_only_some_best_actions_reach_is_on_the_road():
    """Shooting is as good as turning: the best policy may shoot, the rate is that of the turn."""
    tied = SuccessMDP.from_dense(TURN, [[0.8, 0], [0.8, 0.6]], [1, 0])
    for turn in (0.5, 0.1):
        rounds = exact_rounds(tied, [[1 - turn, turn], [0.5, 0.5]], 50)
        gaps = [0.8 - e.success_rate for e in rounds[-2:]]
        assert np.isclose(gaps[1] / gaps[0], 0.6 / 0.8, rtol=1e-4)


def test_the_rate_counts_only_actions_that_are_played_and_may_lead_to_failure():
    """A third action, the close second, is never played; best actions may end where all fails."""
    moves = np.zeros((2, 3, 2))
    moves[0, 0, 1] = 0.5  # half of the best shots end in state 1, where nothing succeeds
    mdp = SuccessMDP.from_dense(moves, [[0.5, 0.3, 0.49], [0, 0, 0]], [1, 0])
    rounds = exact_rounds(mdp, [[0.2, 0.8, 0], [0.5, 0.3, 0.2]], 30)
    gaps = [0.5 - e.success_rate for e in rounds[-2:]]
    assert np.isclose(gaps[1] / gaps[0], 0.3 / 0.5, rtol=1e-4)


def test_best_actions_keep_a_share():
    best, last = maximise_success(lake()), lake_rounds(400)[-1]
    tied = best.Q > best.V[:, np.newaxis] * (1 - 1e-9)
    assert tied.sum() > 11  # there are ties
    assert last.policy[tied].min() > 1e-3
    assert last.policy[~tied].max() < 1e-6


def test_the_regret_of_all_rounds_is_the_surprise_of_the_best():
    q, pi = np.array([0.2, 0.7, 0.5, 0.7, 0.65]), np.array([0.4, 0.01, 0.3, 0.04, 0.25])
    V = np.array([e.success_rate for e in exact_rounds(bandit(q), [pi], 600)])
    assert np.isclose(np.log(0.7 / V).sum(), np.log(20), rtol=1e-9)
    for K in (1, 3, 7):
        assert np.isclose(V[:K].prod(), pi @ q**K, rtol=1e-12)


def test_the_best_arm_counts_only_if_it_is_played():
    """The maximum is over the actions that the behaviour plays."""
    V = [e.success_rate for e in exact_rounds(bandit([0.5, 0.9]), [[1, 0]], 50)]
    assert np.allclose(V, 0.5)


@given(acyclic_exact_mdps(deterministic=True, fixed_start=True))
@settings(max_examples=30, deadline=None)
def test_paths_are_arms(case):
    """In a deterministic process the law after k rounds is a bandit's, path by path."""
    exact, policy = case
    listed = {}
    for path in trajectories(exact, policy):
        p, won = listed.get(path.decisions, (0, 0))
        listed[path.decisions] = p + path.probability, won + path.probability * int(path.success)
    k = 3
    learnt = exact_rounds(as_floats(exact), np.array(policy, dtype=float), k)[-1].policy
    weights = {
        path: float(p) * float(won / p) ** k for path, (p, won) in listed.items() if p and won
    }
    total = sum(weights.values())
    for path, weight in weights.items():
        expected = np.prod([learnt[s, a] for s, a in path])
        assert np.isclose(expected, weight / total, rtol=1e-9)


def test_on_ice_paths_are_no_arms():
    """A transition that is drawn breaks it: after one round paths are not weighted by q."""
    slip = SuccessMDP.from_dense([[[0, 0.5], [0, 0]], [[0, 0], [0, 0]]], [[0, 0.5], [1, 0]], [1, 0])
    after = exact_rounds(slip, np.full((2, 2), 0.5), 1)[-1].policy
    path, other = after[0, 0] * after[1, 0], after[0, 1]  # q: 1 once there, 1/2
    assert not np.isclose(path / other, (0.25 * 1) / (0.5 * 0.5), rtol=0.01)


def test_an_action_can_rise_first_and_vanish_in_the_end():
    detour = SuccessMDP.from_dense(TURN, [[0.9, 0], [1, 0]], [1, 0])
    rounds = exact_rounds(detour, np.full((2, 2), 0.5), 60)
    shots = [e.policy[0, 0] for e in rounds]
    by_hand = [Fraction(9, 10) ** k for k in range(61)]
    expected = [float(x / (x + (1 if k == 0 else Fraction(1, 2)))) for k, x in enumerate(by_hand)]
    np.testing.assert_allclose(shots, expected, rtol=1e-9)
    np.testing.assert_allclose(shots[1:4], [9 / 14, 81 / 131, 729 / 1229], rtol=1e-9)
    assert shots[60] < 0.005


def test_ties_end_as_the_perfect_paths_began():
    forks = np.array([[[0, 1, 0], [0, 0, 1]], *np.zeros((2, 2, 3))])
    fork = SuccessMDP.from_dense(forks, [[0, 0], [1, 0.6], [1, 0.2]], [1, 0, 0])
    for behind in (0.1, 0.3):
        policy = [[0.5, 0.5], [0.5, 0.5], [behind, 1 - behind]]
        last = exact_rounds(fork, policy, 200)[-1].policy[0]
        assert np.isclose(last[0] / last[1], 0.5 / behind, rtol=1e-9)


# Sampled rounds


def test_one_sampled_round_by_another_road():
    """Keep the successes among sampled episodes, failures and all: the same law of policies."""
    mdp, policy = random_mdp(3, 2, rng=np.random.default_rng(2)), np.full((3, 2), 0.5)
    e, rng = evaluate(mdp, policy), np.random.default_rng(3)
    here = np.array(
        [sampled_rounds(mdp, policy, 1, 4000, rng=rng)[1].policy[:, 0] for _ in range(40)]
    )
    counts = sample_counts(mdp, policy, 400_000, rng=rng).successes
    there = counts[:, 0] / counts.sum(axis=1)
    error = here.std(axis=0) / 40**0.5 + np.sqrt(there * (1 - there) / counts.sum(axis=1))
    assert (np.abs(here.mean(axis=0) - there) < 4 * error).all()
    assert (error < 0.01 * there).all()
    target = condition_on_success(policy, e.Q)[:, 0]
    assert (np.abs(here.mean(axis=0) - target) < 4 * error).all()


def test_every_success_passes_what_is_rarely_reached():
    """All m successes come through the gate, which nine of ten episodes do not."""
    gate = SuccessMDP.from_dense([[[0, 0.1]] * 2, [[0, 0]] * 2], [[0, 0], [1, 1]], [1, 0])
    rng, fair = np.random.default_rng(9), np.full((2, 2), 0.5)
    learnt = [sampled_rounds(gate, fair, 1, 100, rng=rng)[1].policy[1, 0] for _ in range(200)]
    assert abs(np.std(learnt) - 0.05) < 4 * 0.05 / np.sqrt(2 * 200)


def test_sampled_rounds_follow_the_chain():
    q, m, rng = [0.7, 0.4], 6, np.random.default_rng(4)
    ends = [sampled_rounds(bandit(q), [[0.5, 0.5]], 3, m, rng=rng)[3] for _ in range(600)]
    seen = np.bincount([round(float(e.policy[0, 0]) * m) for e in ends], minlength=m + 1) / 600
    law = np.linalg.matrix_power(wright_fisher(q, m), 3)[3]
    assert (np.abs(seen - law) < 4 * np.sqrt(law * (1 - law) / 600) + 1e-9).all()


def test_states_without_a_success_keep_their_policy():
    aside = SuccessMDP.from_dense(TURN, [[1, 0], [0, 1e-9]], [1, 0])
    rounds = sampled_rounds(aside, [[0.5, 0.5], [0.3, 0.7]], 2, 5, rng=np.random.default_rng(1))
    assert rounds[2].policy.tolist() == [[1, 0], [0.3, 0.7]]


def test_few_walks_stall_on_the_lake():
    rng, start = np.random.default_rng(5), np.full((11, 4), 0.25)
    runs = [sampled_rounds(lake(), start, 60, 5, rng=rng) for _ in range(12)]
    rates = np.array([[e.success_rate for e in run] for run in runs])
    exact = [e.success_rate for e in lake_rounds(60)]
    last, error = rates[:, 60].mean(), rates[:, 60].std(ddof=1) / 12**0.5
    assert last + 4 * error < exact[60]
    assert rates[:, 60].mean() - rates[:, 40].mean() < 0.05 < exact[60] - exact[40]
    assert rates[:, 10].mean() > 3 * exact[0]


# The chain


@pytest.mark.parametrize(("q", "m"), [((0.505, 0.495), 7), ((0.9, 0.3), 4), ((1, 0.25), 5)])
def test_a_generation_by_listing_all_samples(q, m):
    """Every sequence of m successes, one by one, in fractions."""
    table, fitness = wright_fisher(q, m), [Fraction(str(x)) for x in q]
    for i in range(m + 1):
        share = Fraction(i, m)
        x = share * fitness[0] / (share * fitness[0] + (1 - share) * fitness[1])
        law = [Fraction(0)] * (m + 1)
        for sequence in product([0, 1], repeat=m):
            n = sum(sequence)
            law[n] += x**n * (1 - x) ** (m - n)
        np.testing.assert_allclose(table[i], [float(p) for p in law], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("m", [1, 2, 9, 40])
def test_one_round_keeps_its_promise_and_loses_diversity(m):
    q = np.array([0.8, 0.5])
    shares = np.stack([np.arange(m + 1), m - np.arange(m + 1)], axis=1) / m
    pi_plus = condition_on_success(shares, np.tile(q, (m + 1, 1)))
    table = wright_fisher(q, m)
    np.testing.assert_allclose(table @ shares @ q, pi_plus @ q, rtol=1e-12)
    kept = table @ (1 - (shares**2).sum(axis=1))
    expected = (1 - 1 / m) * (1 - (pi_plus**2).sum(axis=1))
    np.testing.assert_allclose(kept, expected, rtol=1e-9, atol=1e-12)


def test_diversity_drifts_away_without_influence():
    rng, kept = np.random.default_rng(6), []
    arms = bandit([0.4, 0.4, 0.4])
    for _ in range(400):
        run = sampled_rounds(arms, [[0.2, 0.3, 0.5]], 8, 10, rng=rng)
        kept.append(1 - (run[-1].policy ** 2).sum())
    error = np.std(kept) / 20
    assert abs(np.mean(kept) - 0.62 * 0.9**8) < 4 * error < 0.12


def test_two_successes_a_round_by_hand():
    won, rounds = fixation([0.6, 0.3], 2, 1)
    assert np.isclose(won, 4 / 5, rtol=1e-12)
    assert np.isclose(rounds, 9 / 5, rtol=1e-12)


def test_the_worse_of_two_close_arms_takes_over_in_one_run_of_eight():
    won, rounds = fixation([0.505, 0.495], 100, 50)
    s = 0.505 / 0.495 - 1
    kimura = (1 - np.exp(-100 * s)) / (1 - np.exp(-200 * s))
    assert np.isclose(kimura, 0.8829, atol=5e-5)
    assert np.isclose(won, 0.880912, atol=1e-6)
    assert np.isclose(rounds, 107.488, atol=1e-3)
    rng, share = np.random.default_rng(7), np.full(20_000, 0.5)
    while ((share > 0) & (share < 1)).any():
        share = rng.binomial(100, share * 0.505 / (share * 0.505 + (1 - share) * 0.495)) / 100
    error = np.sqrt(won * (1 - won) / share.size)
    assert abs(share.mean() - won) < 4 * error < 0.01


@given(st.floats(0.01, 3), st.floats(0.02, 1), st.integers(2, 40), st.floats(0.02, 0.98))
@settings(max_examples=40, deadline=None)
def test_enough_successes_keep_the_better_arm(s, q2, m, p):
    q = np.array([q2, q2 / (1 + s)])
    x = p * q[0] / (p * q[0] + (1 - p) * q[1])
    first = [comb(m, j) * x**j * (1 - x) ** (m - j) for j in range(m + 1)]
    after = [fixation(q, m, j)[0] if 0 < j < m else j / m for j in range(m + 1)]
    won, r = float(np.dot(first, after)), 1 + 2 * s
    assert won >= (1 - r ** (-m * p)) / (1 - r**-m) - 1e-12


@pytest.mark.parametrize("q", [(0.6, 0.5, 0.5), (0.6, 0.5, 0.1), (0.9, 0.3, 0.2)])
def test_enough_successes_keep_the_best_of_three(q):
    """The chain on all triples of counts; the bound knows the second-best arm only."""
    m, r = 5, 1 + 2 * (q[0] / q[1] - 1)
    triples = [(i, j, m - i - j) for i in range(m + 1) for j in range(m + 1 - i)]
    shares = [np.multiply(counts, q) / np.dot(counts, q) for counts in triples]
    table = np.array([[multinomial.pmf(after, m, x) for after in triples] for x in shares])
    final = np.linalg.matrix_power(table, 10**4)[:, triples.index((m, 0, 0))]
    for (n, _, third), won in zip(triples, final, strict=True):
        assert won >= (1 - r**-n) / (1 - r**-m) - 1e-9
        if third == 0 or q[1] == q[2]:
            assert np.isclose(won, fixation(q[:2], m, n)[0], rtol=1e-9)


def test_the_bound_needs_its_two():
    """With (1 + 4 s) in the place of (1 + 2 s) the bound is false, and nearly tight with 2."""
    won, s = fixation([0.505, 0.495], 100, 50)[0], 0.505 / 0.495 - 1
    lost = 1 - won
    assert 1 / (1 + (1 + 4 * s) ** 50) < lost
    assert lost < 1 / (1 + (1 + 2 * s) ** 50) < 1.02 * lost


def test_kimura_promises_too_much():
    for s, m in [(0.05, 64), (0.2, 16), (1, 8)]:
        won = fixation([1, 1 / (1 + s)], m, m // 2)[0]
        assert 1 - won > 1.05 / (1 + np.exp(m * s))


def test_expected_influence_adds_up_to_the_expected_gain():
    q, m = np.array([0.8, 0.5]), 12
    table, law, collected = wright_fisher(q, m), np.eye(m + 1)[4], 0.0
    shares = np.stack([np.arange(m + 1), m - np.arange(m + 1)], axis=1) / m
    gain = shares @ q * action_influence(shares, np.tile(q, (m + 1, 1)))
    for _ in range(2000):
        collected += law @ gain
        law = law @ table
    assert np.isclose(collected, law @ shares @ q - shares[4] @ q, rtol=1e-9)
    assert collected < 0.97 * (q[0] - shares[4] @ q)  # exact iteration collects all of it


def test_a_pinch_of_base_data_keeps_the_better_arm_and_a_handful_does_not():
    q, m = [0.505, 0.495], 100

    def after(u, n_rounds):
        return np.linalg.matrix_power(wright_fisher(q, m, mixed=u), n_rounds)[50] @ (
            np.arange(m + 1) / m
        )

    assert after(0, 1000) < 0.882
    assert after(1e-3, 1000) > 0.93
    assert after(0.1, 1000) < 0.55
    rng, share = np.random.default_rng(8), np.full(20_000, 0.5)
    for _ in range(300):  # by play: some of the successes are the base's
        base = rng.binomial(100, 0.003, share.size)
        learnt = share * 0.505 / (share * 0.505 + (1 - share) * 0.495)
        share = (rng.binomial(100 - base, learnt) + rng.binomial(base, 0.505)) / 100
    error = share.std() / share.size**0.5
    assert abs(share.mean() - after(0.003, 300)) < 4 * error < 0.02


def test_base_data_cost_more_than_drift_if_rounds_are_large():
    """The stationary law, against the balance of pull and selection: u / (2 s) of the worse arm."""
    s = 0.505 / 0.495 - 1
    for m, saved in [(100, True), (500, False)]:
        table = wright_fisher([0.505, 0.495], m, mixed=s / 10)
        law = np.linalg.solve((table - np.eye(m + 1)).T + 1, np.ones(m + 1))
        worse = 1 - law @ np.arange(m + 1) / m
        assert (worse < 1 / (1 + (1 + 2 * s) ** (m / 2))) == saved
    assert np.isclose(worse, 0.1 / 2, rtol=0.05)


def test_only_the_base_is_imitated_where_all_is_mixed():
    table = wright_fisher([0.6, 0.2], 3, mixed=1, base=[0.4, 0.6])  # its imitator: 2/3 and 1/3
    np.testing.assert_allclose(table, np.tile(np.array([1, 6, 12, 8]) / 27, (4, 1)))


def test_an_arm_that_cannot_succeed_is_gone_after_a_round():
    table = wright_fisher([0.5, 0], 4)
    np.testing.assert_allclose(table[1:, -1], 1)
    assert table[0, 0] == 1  # it is all there is: no success, and the policy stays


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 0.5, 0.5], 4), r"success_probabilities must have the policy's shape \(2,\)"),
        (([0.5, 1.2], 4), r"success_probabilities\[1\] must be a probability, got 1.2"),
        (([0, 0], 4), "must not all be zero"),
        (([0.5, 0.4], 0), "n_successes must be at least 1, got 0"),
    ],
)
def test_bad_chains_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wright_fisher(*arguments)


def test_bad_mixtures_are_refused():
    with pytest.raises(ValueError, match=r"mixed must lie in \[0, 1\], got 1.5"):
        wright_fisher([0.5, 0.4], 4, mixed=1.5)
    with pytest.raises(ValueError, match=r"base must sum to 1, got 0.9"):
        wright_fisher([0.5, 0.4], 4, base=[0.5, 0.4])
    with pytest.raises(ValueError, match=r"base must have shape \(2,\), got \(3,\)"):
        wright_fisher([0.5, 0.4], 4, base=[0.5, 0.25, 0.25])


def test_bad_rounds_are_refused():
    arms, fair = bandit([0.2, 0.4]), [[0.5, 0.5]]
    with pytest.raises(ValueError, match="n_rounds must be at least 1, got 0"):
        exact_rounds(arms, fair, 0)
    with pytest.raises(TypeError, match="n_rounds must be an integer, got 2.5"):
        exact_rounds(arms, fair, 2.5)
    with pytest.raises(ValueError, match="n_successes must be at least 1, got 0"):
        sampled_rounds(arms, fair, 1, 0, rng=np.random.default_rng(1))
    with pytest.raises(TypeError, match=r"rng must be a numpy.random.Generator.*got 1"):
        sampled_rounds(arms, fair, 1, 5, rng=1)


# The price of all rounds, and pooled logs


@settings(max_examples=40)
@given(mdps_with_policies())
def test_all_rounds_together_cost_no_more_than_the_surprise_of_the_best(case):
    mdp, policy = case
    best = maximise_success(mdp)
    star = np.eye(mdp.n_actions)[best.Q.argmax(axis=1)]
    e = evaluate(mdp, star)
    assume(np.isclose(e.success_rate, best.success_rate, rtol=1e-9))
    plays = policy[np.arange(mdp.n_states), best.Q.argmax(axis=1)]
    price = (e.visits * e.V / e.success_rate) @ -np.log(plays)
    lost = [np.log(e.success_rate / k.success_rate) for k in exact_rounds(mdp, policy, 60)]
    assert sum(lost) <= price + 1e-9
    assert all(gap <= price / (k + 1) + 1e-9 for k, gap in enumerate(lost))


def test_the_price_is_met_where_one_path_is_best():
    """The detour: -log of the probability of turning and then choosing right, log 4."""
    mdp = SuccessMDP.from_dense(TURN, [[0.9, 0], [1, 0]], [1, 0])
    rounds = exact_rounds(mdp, np.full((2, 2), 0.5), 600)
    np.testing.assert_allclose(sum(-np.log(e.success_rate) for e in rounds), np.log(4), rtol=1e-9)


def test_the_price_needs_exact_rounds():
    """Samples that lose the better arm pay in every round, without end."""
    arms, rng = bandit([0.9, 0.6]), np.random.default_rng(3)
    runs = [sampled_rounds(arms, [[0.2, 0.8]], 60, 1, rng=rng) for _ in range(20)]
    paid = [sum(np.log(0.9 / e.success_rate) for e in run) for run in runs]
    assert max(paid) > 10 * np.log(5)


def outcomes(mdp):
    """The law of the next state, and success as one more, of shape (S, A, S + 1)."""
    S, A = mdp.success.shape
    moves = mdp.transition.toarray().reshape(S, A, S)
    return np.concatenate([moves, mdp.success[:, :, np.newaxis]], axis=2)


@settings(max_examples=40)
@given(mdps_with_policies(full_support=False))
def test_a_round_pays_its_price_and_the_worlds_share(case):
    """What the price falls by is all there is: the round, and what start and moves still lack.

    Two actions are the same, so that a best policy may mix them; the behaviour leaves actions
    out, and may have states without hope.
    """
    mdp, policy = case
    law = outcomes(mdp)
    law[:, -1] = law[np.arange(mdp.n_states), mdp.success.argmax(axis=1)]
    mdp = SuccessMDP.from_dense(law[:, :, :-1], law[:, :, -1], mdp.initial)
    assume(evaluate(mdp, policy).success_rate > 0)
    played = law * (policy > 0)[:, :, np.newaxis]
    best = maximise_success(SuccessMDP.from_dense(played[..., :-1], played[..., -1], mdp.initial))
    star = policy * np.isclose(best.Q, best.V[:, np.newaxis], rtol=1e-10, atol=0)
    star /= star.sum(axis=1, keepdims=True)
    e = evaluate(mdp, star)
    np.testing.assert_allclose(e.success_rate, best.success_rate, rtol=1e-9)

    def price(pi):
        with np.errstate(invalid="ignore"):
            missing = rel_entr(star, pi).sum(axis=1)
        return (e.visits * e.V)[e.V > 0] @ missing[e.V > 0] / e.success_rate

    def start_and_moves(k):
        reach, h = np.append(e.V, 1), np.append(k.V, 1)
        wins = (e.visits[:, np.newaxis] * star)[:, :, np.newaxis] * law / e.success_rate
        ratio = np.divide(h, k.Q[..., np.newaxis], out=np.ones_like(law), where=k.Q[..., None] > 0)
        best_start, start = mdp.initial * e.V / e.success_rate, mdp.initial * k.V / k.success_rate
        flows = (e.visits[:, np.newaxis] * star * e.Q / e.success_rate)[:, :, np.newaxis]
        return rel_entr(best_start, start).sum() + rel_entr(wins * reach, flows * law * ratio).sum()

    run = exact_rounds(mdp, policy, 6)
    for old, new in pairwise(run):
        paid = np.log(e.success_rate / old.success_rate) + start_and_moves(old)
        np.testing.assert_allclose(price(old.policy) - price(new.policy), paid, atol=1e-9)
        assert start_and_moves(old) >= -1e-12


def shares(flows):
    """How often each action is chosen in a state; anything where none is."""
    total = flows.sum(axis=1, keepdims=True)
    return np.divide(flows, total, out=np.full_like(flows, 1 / len(flows[0])), where=total > 0)


def pooled(evaluations, weights):
    """Successful decisions of several teachers, counted together."""
    return shares(
        sum(
            w * e.visits[:, np.newaxis] * e.policy * e.Q
            for w, e in zip(weights, evaluations, strict=True)
        )
    )


def luck_in_log(mdp, begun, after):
    """From the starts of successes, shape (S,), and what followed, shape (S, A, S + 1)."""
    usual = after.sum(axis=2, keepdims=True) * outcomes(mdp)
    return rel_entr(begun, mdp.initial).sum() + rel_entr(after, usual).sum()


@settings(max_examples=60)
@given(st.data())
def test_a_pool_of_teachers_beats_the_luck_in_its_log(data):
    mdp, policy = data.draw(mdps_with_policies(max_states=4))
    teachers = [policy, data.draw(policies_of(mdp)), data.draw(policies_of(mdp))]
    chances = np.array(data.draw(st.lists(st.integers(1, 9), min_size=3, max_size=3)))
    weights = chances / chances.sum()
    es = [evaluate(mdp, pi) for pi in teachers]
    wins = weights * [e.success_rate for e in es]
    luck = [luck_decomposition(mdp, e).luck for e in es]
    floor = np.exp(-(wins @ luck) / wins.sum())
    pi = pooled(es, weights)
    assert evaluate(mdp, pi).success_rate >= floor * (1 - 1e-9)
    assert floor >= wins.sum() * (1 - 1e-9)


@settings(max_examples=30)
@given(acyclic_exact_mdps(), st.integers(0, 10**6))
def test_a_teacher_with_memory_beats_the_luck_in_its_log(case, seed):
    """Every decision depends on the whole episode so far; episodes are listed one by one."""
    exact, _ = case
    mdp, rng = as_floats(exact), np.random.default_rng(seed)
    S, A = mdp.success.shape
    law, habits = outcomes(mdp), {}
    begun, after = np.zeros(S), np.zeros(law.shape)  # of successes

    def play(s, past, p):
        """Go through all episodes from here; return how likely one is, and succeeds."""
        habit = habits.setdefault((past, s), rng.dirichlet(np.ones(A)))
        won = 0.0
        for a, t in zip(*np.nonzero(law[s]), strict=True):
            q = p * habit[a] * law[s, a, t]
            q = q if t == S else play(t, (*past, (s, a)), q)
            after[s, a, t] += q
            won += q
        return won

    for s in np.flatnonzero(mdp.initial):
        begun[s] = play(s, (), mdp.initial[s])
    rate = begun.sum()
    luck = luck_in_log(mdp, begun / rate, after / rate)
    assert evaluate(mdp, shares(after.sum(axis=2))).success_rate >= np.exp(-luck) * (1 - 1e-9)
    assert np.exp(-luck) >= rate * (1 - 1e-9)


@pytest.mark.parametrize("moods", [1, 3])
@settings(max_examples=30)
@given(mdps_with_policies(max_states=4), st.integers(0, 10**6))
def test_moods_and_revisits_do_not_add_to_the_luck_in_a_log(moods, case, seed):
    """A mood is drawn at the start, and anew with every decision; the log does not show it."""
    mdp, _ = case
    rng, law = np.random.default_rng(seed), outcomes(mdp)
    S, A, M = *mdp.success.shape, moods
    moves = np.einsum("sat,m,nq->smantq", law[..., :S], np.ones(M), np.eye(M))
    start = mdp.initial[:, np.newaxis] * rng.dirichlet(np.ones(M), S)
    moody = SuccessMDP.from_dense(
        moves.reshape(S * M, A * M, S * M), np.kron(mdp.success, np.ones((M, M))), start.ravel()
    )
    e = evaluate(moody, rng.dirichlet(np.full(A * M, 0.3), S * M))
    flows = (e.visits[:, np.newaxis] * e.policy).reshape(S, M, A, M) / e.success_rate
    h = np.concatenate([e.V.reshape(S, M), np.ones((1, M))])
    after = np.einsum("sman,sat,tn->sat", flows, law, h)
    begun = (start * e.V.reshape(S, M)).sum(axis=1) / e.success_rate
    luck, told = luck_in_log(mdp, begun, after), luck_decomposition(moody, e).luck
    assert luck <= told + 1e-9
    assert moods > 1 or np.isclose(luck, told, rtol=1e-9, atol=1e-12)
    assert np.exp(-luck) >= e.success_rate * (1 - 1e-9)
    assert evaluate(mdp, shares(after.sum(axis=2))).success_rate >= np.exp(-luck) * (1 - 1e-9)


def test_a_pool_without_luck_is_perfect():
    dry = gymnasium.make("FrozenLake-v1", is_slippery=False)
    mdp = from_gymnasium(dry, outcome=positive_ending)
    es = [evaluate(mdp, [pi] * 11) for pi in ([0.25] * 4, [0.1, 0.2, 0.3, 0.4])]
    assert max(luck_decomposition(mdp, e).luck for e in es) < 1e-12
    np.testing.assert_allclose(evaluate(mdp, pooled(es, [0.3, 0.7])).success_rate, 1, rtol=1e-12)


def test_a_pool_is_no_match_for_its_best_teacher():
    es = [evaluate(bandit([0.9, 0.1]), [pi]) for pi in ([1, 0], [0, 1])]
    pi = pooled(es, [0.5, 0.5])
    np.testing.assert_allclose(evaluate(bandit([0.9, 0.1]), pi).success_rate, 0.82)


def test_two_perfect_teachers_fail_together_if_the_world_hides_the_first_press():
    first = [[[0, 1, 0], [0, 0, 1]], *np.zeros((2, 2, 3))]
    mdp = SuccessMDP.from_dense(first, [[0, 0], [1, 0], [0, 1]], [1, 0, 0])
    es = [evaluate(mdp, [pi] * 3) for pi in ([1, 0], [0, 1])]
    assert [e.success_rate for e in es] == [1, 1]
    seen = pooled(es, [0.5, 0.5])
    assert np.isclose(evaluate(mdp, seen).success_rate, 1)
    unseen = merge_states(seen, [1, 0.5, 0.5], [0, 1, 1])
    assert np.isclose(evaluate(mdp, unseen).success_rate, 0.5)
