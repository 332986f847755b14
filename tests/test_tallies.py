"""Tallies: counts of a log in groups of episodes, whatever its size."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sc_utils import tallies
from sc_utils.logs import Counts, Log
from sc_utils.tallies import GROUPS, Tally, keys_of, keys_of_numbers
from tests.strategies import logs_with_returns

FIELDS = {
    "states": ("x", "y"),
    "actions": ("l", "r", "s"),
    "state": np.array([0, 0, 1]),
    "action": np.array([0, 2, 1]),
    "success": np.array([0.0, 1.0]),
    "returns": np.array([-1.0, 2.0]),
    "counts": np.arange(24).reshape(4, 3, 2),
    "episodes": np.arange(8).reshape(4, 2),
}


# Identities


@given(logs_with_returns())
def test_a_tally_is_the_counts_of_the_log(drawn):
    log, _ = drawn
    tally, counts = Tally.from_log(log), Counts.from_log(log, 3, 4)
    s = np.array(tally.states, int)[tally.state]
    a = np.array(tally.actions, int)[tally.action]
    np.testing.assert_array_equal(tally.counts.sum(axis=(0, 2)), counts.visits[s, a])
    np.testing.assert_array_equal(tally.counts.sum(axis=0)[:, 1], counts.successes[s, a])
    assert tally.counts.sum() == log.state.size
    assert tally.episodes.sum() == np.unique(log.episode).size
    assert tally.single == (log.state.size == np.unique(log.episode).size)
    assert tally.skipped == 0


@given(logs_with_returns())
def test_all_rows_of_an_episode_are_in_its_group_and_at_its_outcome(drawn):
    log, returns = drawn
    whole = Tally.from_log(log, returns)
    for number in np.unique(log.episode):
        rows = log.episode == number
        alone = Log(log.episode[rows], log.state[rows], log.action[rows], log.success[rows])
        tally = Tally.from_log(alone)
        (group,) = np.flatnonzero(tally.episodes.sum(axis=1))
        assert tally.counts[group].sum() == rows.sum()
        late = 2 * np.flatnonzero(rows)[0] >= log.state.size
        b = np.flatnonzero(
            (whole.returns == returns[rows][0]) & (whole.success == log.success[rows][0])
        )
        assert whole.episodes[group + late * GROUPS // 2, b].sum() > 0


@given(logs_with_returns(), st.integers(1, 4))
def test_the_size_of_the_blocks_does_not_matter(drawn, size):
    log, returns = drawn
    with pytest.MonkeyPatch.context() as patch:
        whole = Tally.from_log(log, returns)
        patch.setattr(tallies, "ROWS_AT_ONCE", size)
        pieces = Tally.from_log(log, returns)
    for name in vars(whole):
        np.testing.assert_array_equal(vars(whole)[name], vars(pieces)[name])


@given(st.lists(st.integers(-(10**18), 2 * 10**18), min_size=1))
def test_a_number_and_its_name_have_one_key(numbers):
    names = list(map(str, numbers))
    expected = keys_of_numbers(np.array(numbers))
    np.testing.assert_array_equal(keys_of(names), expected)
    np.testing.assert_array_equal(keys_of([*names, "x"])[:-1], expected)  # one by one


def test_names_that_look_alike_have_different_keys():
    names = ["7", "07", " 7", "+7", "7.0", "-7", "٧", "", "true", "a", "a ", "\udce9"]
    assert len(set(keys_of(names).tolist())) == len(names)


def test_keys_are_the_same_in_every_process():
    assert keys_of(["0", "a"]).tolist() == [0xE220A8397B1DCDAF, 0x40F89E395B66422F]


def test_groups_are_filled_evenly():
    tally = Tally.from_log(
        Log(np.arange(64_000), np.zeros(64_000, int), np.zeros(64_000, int), np.ones(64_000, bool))
    )
    sizes = tally.episodes.sum(axis=1)
    assert sizes[:32].sum() == sizes[32:].sum() == 32_000
    assert ((sizes - 1000) ** 2 / 1000).sum() < 120  # chi-squared with 62 degrees: 11 in 10^6


# Returns


def test_returns_are_levels_and_successes_split_them():
    log = Log([0, 1, 2, 3], [0] * 4, [0, 1, 0, 1], [True, False, False, True])
    tally = Tally.from_log(log, [5.0, 5.0, -1.0, 7.5])
    assert tally.returns.tolist() == [-1, 5, 5, 7.5]
    assert tally.success.tolist() == [0, 0, 1, 1]
    assert tally.episodes.sum(axis=0).tolist() == [1, 1, 1, 1]


def test_many_returns_are_binned_by_quantiles_with_their_means(rng):
    Y = rng.exponential(size=3200)
    log = Log(np.arange(3200), np.zeros(3200, int), np.zeros(3200, int), np.ones(3200, bool))
    tally = Tally.from_log(log, Y)
    assert tally.episodes.sum(axis=0).tolist() == [100] * 32
    np.testing.assert_allclose(tally.returns, np.sort(Y).reshape(32, 100).mean(axis=1), rtol=1e-12)


def test_without_success_returns_are_scaled():
    outcomes = tallies.Outcomes.of_returns(np.array([3.0, -1.0, 0.0, 3.0]))
    assert outcomes.success.tolist() == [0, 0.25, 1]
    assert outcomes.levels(None, np.array([0.0, 3.0])).tolist() == [1, 2]
    with pytest.raises(ValueError, match="same return, 2: none is better"):
        tallies.Outcomes.of_returns(np.array([2.0, 2.0]))


# Memory


@pytest.mark.parametrize("order", [np.arange(400), np.tile(np.arange(40), 10)])
def test_too_many_answers_are_added_up_by_state(monkeypatch, order):
    action = np.arange(400)
    log = Log(np.arange(400), order % 40, action, action % 3 == 0)
    whole = Tally.from_log(log)
    monkeypatch.setattr(tallies, "MOST_CELLS", 50 * GROUPS * 2)
    monkeypatch.setattr(tallies, "ROWS_AT_ONCE", 7)
    tally = Tally.from_log(log)
    assert tally.actions is None
    assert tally.state.tolist() == list(range(40))
    assert not tally.action.any()
    for s in range(40):
        np.testing.assert_array_equal(
            tally.counts[:, s], whole.counts[:, whole.state == s].sum(axis=1)
        )
    np.testing.assert_array_equal(tally.episodes, whole.episodes)


def test_too_many_states_are_refused(monkeypatch):
    monkeypatch.setattr(tallies, "MOST_CELLS", 50 * GROUPS * 2)
    log = Log(np.arange(60), np.arange(60), np.zeros(60, int), np.ones(60, bool))
    with pytest.raises(ValueError, match="more than 50 different states, such as '50'"):
        Tally.from_log(log)


# Refusals


def test_arrays_are_read_only():
    tally = Tally(**FIELDS)
    for name in ("state", "action", "success", "returns", "counts", "episodes"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(tally, name)[0] = 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"counts": np.zeros((4, 3, 2))}, "counts must hold integers, got float64"),
        ({"counts": np.zeros((3, 3, 2), int)}, "with G even, got (3, 3, 2)"),
        ({"counts": np.zeros((4, 0, 2), int)}, "with G even, got (4, 0, 2)"),
        ({"counts": np.arange(24).reshape(4, 3, 2) - 5}, "counts[0, 0, 0] must not be negative"),
        ({"episodes": np.zeros((4, 3), int)}, "episodes must have shape (4, 2), got (4, 3)"),
        ({"returns": np.zeros(3)}, "returns must have shape (2,), got (3,)"),
        ({"state": np.array([0, 0, 2])}, "state[2] must be below 2, got 2"),
        ({"action": np.array([0, 3, 1])}, "action[1] must be below 3, got 3"),
        ({"action": np.array([0, 0, 1])}, "pair 1 is (0, 0)"),
        ({"success": np.array([0, 1.5])}, "success[1] must lie in [0, 1], got 1.5"),
        ({"success": np.array([0, np.nan])}, "success[1] is NaN"),
        ({"returns": np.array([0, np.inf])}, "returns[1] must be finite, got inf"),
        ({"returns": np.array([1.0, 0.5])}, "returns must ascend, got [1.0, 0.5]"),
        ({"actions": None}, "action[1] must be below 1, got 2"),
    ],
)
def test_a_tally_that_does_not_fit_is_refused(changes, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        Tally(**(FIELDS | changes))


@pytest.mark.parametrize(
    ("returns", "message"),
    [
        ([1.0, 1.0], "returns must have shape (3,), got (2,)"),
        ([1.0, 1.0, np.inf], "returns[2] must be finite, got inf"),
        ([1.0, np.nan, 1.0], "returns[1] is NaN"),
        ([1.0, 2.0, 2.0], "episode 8 has two returns: returns[0] is 1, returns[1] is 2"),
    ],
)
def test_returns_that_do_not_fit_are_refused(returns, message):
    log = Log([8, 8, 9], [0, 0, 0], [0, 1, 1], [True, True, False])
    with pytest.raises(ValueError, match=re.escape(message)):
        Tally.from_log(log, returns)
