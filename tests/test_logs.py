"""Logs and counts: what they hold, and what they refuse."""

import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc_utils.logs import Counts, Log

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


# Refusals


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
