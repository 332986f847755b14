"""Logs and counts: what they hold, and what they refuse."""

import re
from collections import Counter
from fractions import Fraction
from itertools import combinations, product
from math import factorial, prod

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sc_utils.logs import Counts, Log, estimate_influence, estimate_policy
from tests.strategies import successes_of

COLUMNS = {
    "episode": np.array([4, 4, 4, 9, 2, 2]),
    "state": np.array([0, 1, 0, 2, 1, 1]),
    "action": np.array([1, 0, 1, 3, 0, 2]),
    "success": np.array([True, True, True, False, False, False]),
}


def a_log(**changes):
    return Log(**(COLUMNS | changes))


@st.composite
def logs(draw):
    """Draw a log of 3 states and 4 actions whose episodes carry arbitrary, unordered numbers."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=6))
    numbers = draw(st.permutations(range(len(lengths))))
    outcomes = draw(st.lists(st.booleans(), min_size=len(lengths), max_size=len(lengths)))
    n = sum(lengths)
    return Log(
        episode=np.repeat(numbers, lengths),
        state=np.array(draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))),
        action=np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))),
        success=np.repeat(outcomes, lengths),
    )


# Identities


@given(logs())
def test_counts_add_up_to_the_rows(log):
    counts = Counts.from_log(log, 3, 4)
    assert counts.visits.sum() == log.state.size
    assert counts.successes.sum() == log.success.sum()
    np.testing.assert_array_equal(
        counts.visits.sum(axis=1), [(log.state == s).sum() for s in range(3)]
    )


# Oracle: rows counted one by one


@given(logs())
def test_counts_are_those_of_a_plain_loop(log):
    rows = list(zip(log.state.tolist(), log.action.tolist(), log.success.tolist(), strict=True))
    visits = Counter((s, a) for s, a, _ in rows)
    successes = Counter((s, a) for s, a, ok in rows if ok)
    counts = Counts.from_log(log, 3, 4)
    for s, a in np.ndindex(3, 4):
        assert (counts.visits[s, a], counts.successes[s, a]) == (visits[s, a], successes[s, a])


# Golden


def test_counts_of_six_rows_by_hand():
    counts = Counts.from_log(a_log(), n_states=3, n_actions=4)
    assert counts.visits.tolist() == [[0, 2, 0, 0], [2, 0, 1, 0], [0, 0, 0, 1]]
    assert counts.successes.tolist() == [[0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_counting_does_not_overflow_small_integers(dtype):
    state, action = np.array([100, 99], dtype), np.array([3, 0], dtype)
    log = Log(episode=[0, 1], state=state, action=action, success=[True, False])
    assert np.argwhere(Counts.from_log(log, 101, 4).visits).tolist() == [[99, 0], [100, 3]]


def test_columns_are_read_only_but_not_copied():
    log = a_log()
    for name, column in COLUMNS.items():
        assert np.shares_memory(getattr(log, name), column)
        with pytest.raises(ValueError, match="read-only"):
            getattr(log, name)[0] = 0
        assert column.flags.writeable  # the caller's own array is left alone


# Estimates. Identities


@given(logs())
def test_the_imitator_has_the_highest_likelihood_on_the_successes(log):
    assume(log.success.any())
    pi = estimate_policy(log, 3, 4)
    N = Counts.from_log(log, 3, 4).successes
    rival = np.random.default_rng(1).dirichlet(np.ones(4), 3)
    log_likelihood = [(N[N > 0] * np.log(p[N > 0])).sum() for p in (pi, rival)]
    assert log_likelihood[0] >= log_likelihood[1]
    np.testing.assert_array_equal(pi[N.sum(axis=1) == 0], 0.25)
    np.testing.assert_allclose(pi.sum(axis=1), 1)


def test_without_revisits_the_design_effect_is_one():
    actions = np.random.default_rng(1).integers(3, size=(2, 50))
    found = estimate_influence(successes_of(actions), np.full((2, 3), 1 / 3))
    np.testing.assert_allclose(found.design_effect, 1, rtol=1e-12)
    np.testing.assert_array_equal(found.decisions, 50)


def test_failures_and_the_order_of_episodes_do_not_matter():
    rng = np.random.default_rng(2)
    actions = rng.integers(3, size=(1, 60))
    log, pi_0 = successes_of(actions, per_episode=3), np.full((1, 3), 1 / 3)
    turned = np.arange(60).reshape(20, 3)[rng.permutation(20)].ravel()
    more = Log(
        np.append(log.episode[turned], [77, 77]),
        np.append(log.state[turned], [0, 0]),
        np.append(log.action[turned], [2, 2]),
        np.append(log.success[turned], [False, False]),
    )
    a, b = estimate_influence(log, pi_0), estimate_influence(more, pi_0)
    for name in vars(a):
        np.testing.assert_allclose(vars(a)[name], vars(b)[name], rtol=1e-9)


def test_the_same_episodes_written_twice_are_no_news_of_the_value():
    actions = np.random.default_rng(3).integers(2, size=(1, 400))
    once = estimate_influence(successes_of(actions), np.full((1, 2), 0.5))
    doubled = successes_of(np.repeat(actions, 2, axis=1), per_episode=2)
    twice = estimate_influence(doubled, np.full((1, 2), 0.5))
    np.testing.assert_allclose(twice.value, once.value, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(twice.design_effect, 2, rtol=1e-4)
    np.testing.assert_allclose(twice.high, once.high, rtol=1e-3)
    np.testing.assert_allclose(twice.p_value, once.p_value, rtol=1e-6)


def test_two_actions_that_avoid_each_other_make_a_log_no_surer():
    # Twelve episodes play 0 and then 1 or 2: shares vary less than those of 24 free visits.
    log = successes_of([[0, 1] * 6 + [0, 2] * 6], per_episode=2)
    found = estimate_influence(log, np.full((1, 3), 1 / 3))
    assert found.design_effect[0] < 0.5
    assert found.p_value[0] > 0.01


# Estimates. Oracles: a loop over pairs of episodes, every log there can be, and simulation


@given(logs())
def test_the_estimate_is_the_mean_over_pairs_of_episodes(log):
    assume(log.success.any())
    pi_0 = np.array([[0.1, 0.2, 0.3, 0.4]] * 3)
    found = estimate_influence(log, pi_0)
    for s in range(3):
        episodes = {}
        for e, state, a, ok in zip(log.episode, log.state, log.action, log.success, strict=True):
            if ok and state == s:
                episodes.setdefault(int(e), []).append(int(a))
        pairs = [
            (a == b) / pi_0[s, a]
            for one, other in combinations(episodes.values(), 2)
            for a, b in product(one, other)
        ]
        if pairs:
            assert found.value[s] == pytest.approx(np.mean(pairs) - 1, abs=1e-12)
        else:
            assert np.isnan(found.value[s])
            assert (found.low[s], found.high[s], found.p_value[s]) == (0, np.inf, 1)


def test_the_estimate_is_unbiased_over_every_log_of_four_successes():
    pi_0, Q = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], [Fraction(k, 5) for k in (1, 2, 4)]
    V = sum(p * q for p, q in zip(pi_0, Q, strict=True))
    pi_plus = [p * q / V for p, q in zip(pi_0, Q, strict=True)]
    influence = sum(p**2 / b for p, b in zip(pi_plus, pi_0, strict=True)) - 1
    cells = [c for c in product(range(5), repeat=3) if sum(c) == 4]
    actions = np.array([np.repeat(range(3), c) for c in cells])
    behaviour = np.tile(np.array(pi_0, dtype=float), (len(cells), 1))
    values = estimate_influence(successes_of(actions), behaviour).value
    chances = [
        factorial(4) / prod(map(factorial, c)) * prod(p**k for p, k in zip(pi_plus, c, strict=True))
        for c in cells
    ]
    mean = sum(float(p) * v for p, v in zip(chances, values, strict=True))
    assert mean == pytest.approx(float(influence), rel=1e-12)
    plug_in = [sum((k / 4) ** 2 / b for k, b in zip(c, pi_0, strict=True)) - 1 for c in cells]
    biased = sum(p * v for p, v in zip(chances, plug_in, strict=True))
    excess = sum(p / b for p, b in zip(pi_plus, pi_0, strict=True)) - 1 - influence
    assert float(biased - influence) == pytest.approx(float(excess) / 4, rel=1e-12)


# Estimates. Golden: worked by hand


def test_three_successes_by_hand():
    # Shares 2/3 and 1/3; of the six ordered pairs, two agree on action 0: (2 / 6) / (1/4) - 1.
    found = estimate_influence(successes_of([[0, 0, 1]]), [[0.25, 0.75]])
    assert found.value[0] == pytest.approx(1 / 3, rel=1e-12)
    assert estimate_policy(successes_of([[0, 0, 1]]), 1, 2).tolist() == [[2 / 3, 1 / 3]]


def test_a_state_with_one_action_has_no_influence():
    found = estimate_influence(successes_of([[1, 1], [0, 1]]), [[0.0, 1.0], [0.5, 0.5]])
    assert (found.value[0], found.low[0], found.high[0], found.p_value[0]) == (0, 0, 0, 1)


def test_ten_successes_of_one_arm_are_no_certainty():
    found = estimate_influence(successes_of([[0] * 10]), [[0.5, 0.5]])
    assert found.value[0] == pytest.approx(1)
    assert found.low[0] < 0.75
    assert found.high[0] > 1.2


# Refusals


@pytest.mark.parametrize(
    ("log", "behaviour", "message"),
    [
        (a_log(success=np.zeros(6, dtype=bool)), np.full((3, 4), 0.25), "no episode of the log"),
        (a_log(), np.full((2, 4), 0.25), "state[3] must be below 2, got 2"),
        (a_log(), [0.5, 0.5], "behaviour must have shape (S, A), got (2,)"),
        (a_log(), [[0.5, 0.5, 0, 0.5]] * 3, "behaviour[0] must sum to 1"),
        (
            a_log(),
            [[0.5, 0.5, 0, 0], [0, 0.5, 0.5, 0], [0, 0, 0, 1]],
            "behaviour[1, 0] is 0, but row 1 of the log takes that action",
        ),
    ],
)
def test_an_influence_is_not_estimated_from(log, behaviour, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        estimate_influence(log, behaviour)


def test_nothing_is_imitated_where_nothing_succeeds():
    with pytest.raises(ValueError, match="no episode of the log succeeds"):
        estimate_policy(a_log(success=np.zeros(6, dtype=bool)), 3, 4)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"state": np.array([0.0] * 6)}, TypeError, "state must hold integers, got float64"),
        ({"success": np.array([1] * 6)}, TypeError, "success must hold booleans, got int64"),
        (
            {"action": np.array([0, 1])},
            ValueError,
            "episode has shape (6,), action has shape (2,)",
        ),
        (
            {"episode": COLUMNS["episode"][:, np.newaxis]},
            ValueError,
            "vectors of one length: episode has shape (6, 1)",
        ),
        (
            {"state": np.array([0, 1, -3, 0, 0, -1])},
            ValueError,
            "state[2] must not be negative, got -3",
        ),
        (
            {"action": np.array([0, 1, 0, 0, 0, -1])},
            ValueError,
            "action[5] must not be negative, got -1",
        ),
        (
            {"success": np.array([True, True, True, False, True, False])},
            ValueError,
            "episode 2 both succeeds and fails: success[4] is True, success[5] is False",
        ),
        (
            {"episode": np.array([4, 4, 4, 9, 7, 9])},
            ValueError,
            "the rows of episode 9 must stand together, but it starts at row 3 and again at row 5",
        ),
        ({name: column[:0] for name, column in COLUMNS.items()}, ValueError, "at least one row"),
    ],
)
def test_a_log_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        a_log(**changes)


@pytest.mark.parametrize(
    ("visits", "successes", "error", "message"),
    [
        ([[1.5]], [[1]], TypeError, "visits must hold integers, got float64"),
        ([[1]], [[True]], TypeError, "successes must hold integers, got bool"),
        ([1, 2], [0, 1], ValueError, "one shape (S, A), got (2,) and (2,)"),
        ([[1, 2]], [[0], [1]], ValueError, "one shape (S, A), got (1, 2) and (2, 1)"),
        (
            [[5, 5], [5, 2]],
            [[0, 5], [1, 3]],
            ValueError,
            "successes[1, 1] must lie between 0 and visits[1, 1] = 2, got 3",
        ),
        (
            [[5, 5]],
            [[0, -1]],
            ValueError,
            "successes[0, 1] must lie between 0 and visits[0, 1] = 5, got -1",
        ),
    ],
)
def test_counts_refuse(visits, successes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        Counts(visits=np.array(visits), successes=np.array(successes))


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 4), "state[3] must be below 2, got 2"), ((3, 3), "action[3] must be below 3, got 3")],
)
def test_counting_refuses_a_table_that_is_too_small(shape, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Counts.from_log(a_log(), *shape)
