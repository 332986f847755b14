"""The pictures with handles: their mathematics is the package's, their pages need no other host."""

import json
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from py_mini_racer import MiniRacer

from sc_utils import (
    action_influence,
    chi_squared,
    condition_on_success,
    relative_improvement,
)
from sc_utils.interactive import Bandit


@pytest.fixture(scope="module")
def bandit_js():
    engine = MiniRacer()
    engine.eval(files("sc_utils").joinpath("bandit.js").read_text("utf-8").replace("export ", ""))
    return lambda state: json.loads(engine.eval(f"JSON.stringify(compute({json.dumps(state)}))"))


actions = st.integers(2, 6)


@given(st.data())
def test_the_numbers_in_the_page_are_those_of_the_package(bandit_js, data):
    n = data.draw(actions)
    weights = data.draw(st.lists(st.integers(0, 10), min_size=n, max_size=n).filter(any))
    Q = data.draw(st.lists(st.integers(0, 200), min_size=n, max_size=n))
    shown = bandit_js({"weights": weights, "Q": [q / 200 for q in Q]})
    policy, q = np.array(weights) / sum(weights), np.array(Q) / 200
    after = condition_on_success(policy, q)
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(shown["policy"], policy, **close)
    np.testing.assert_allclose(shown["after"], after, **close)
    np.testing.assert_allclose(shown["V"], policy @ q, **close)
    np.testing.assert_allclose(shown["influence"], action_influence(policy, q), **close)
    np.testing.assert_allclose(shown["movement"], chi_squared(after, policy), **close)
    improvement = relative_improvement(after, policy, q)
    np.testing.assert_allclose(shown["improvement"], improvement, **close)


def test_the_fragment_is_the_same_every_time_and_asks_nobody():
    html = Bandit([5, 5], [0.495, 0.505])._repr_html_()
    assert html == Bandit([5, 5], [0.495, 0.505])._repr_html_()
    assert html != Bandit([5, 5], [0.2, 0.6])._repr_html_()
    assert "http" not in html
    assert len(html) < 10_000


@pytest.mark.parametrize(
    ("weights", "Q", "message"),
    [
        ([5], [0.5], r"2 to 6 actions, got \(1,\) and \(1,\)"),
        ([5, 5], [0.5, 0.5, 0.5], r"2 to 6 actions, got \(2,\) and \(3,\)"),
        ([5, 5], [0.5, -0.1], r"Q must lie in \[0, 1\], got \[0.5, -0.1\]"),
        ([5, 5], [0.5, float("nan")], r"Q must lie in \[0, 1\]"),
        ([5, 0.5], [0.5, 0.5], r"weights must be whole numbers from 0 to 10"),
        ([0, 0], [0.5, 0.5], r"not all 0, got \[0.0, 0.0\]"),
        ([5, 11], [0.5, 0.5], r"from 0 to 10"),
    ],
)
def test_bad_input_is_refused(weights, Q, message):
    with pytest.raises(ValueError, match=message):
        Bandit(weights, Q)
