"""The pictures with handles: their mathematics is the package's, their pages need no other host."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from py_mini_racer import MiniRacer

from sc_utils import (
    action_influence,
    bandit,
    chi_squared,
    chi_squared_reach,
    condition_on_success,
    evaluate,
    figures,
    kl_divergence,
    kl_reach,
    relative_improvement,
    reverse_kl_reach,
    trust_region_policy,
)
from sc_utils.interactive import Bandit, Simplex, read, script

Compute = Callable[[dict[str, Any]], dict[str, Any]]


def module(name: str) -> Iterator[Compute]:
    """What the page runs, run in V8: its function `compute`."""
    engine = MiniRacer()
    engine.eval(script(name))
    yield lambda state: json.loads(engine.eval(f"JSON.stringify(compute({json.dumps(state)}))"))
    engine.close()


@pytest.fixture(scope="module")
def bandit_js() -> Iterator[Compute]:
    yield from module("bandit.js")


@pytest.fixture(scope="module")
def simplex_js() -> Iterator[Compute]:
    yield from module("simplex.js")


CLOSE = {"rtol": 1e-12, "atol": 1e-12}


@given(st.data())
def test_the_numbers_in_the_page_are_those_of_the_package(bandit_js, data):
    n = data.draw(st.integers(2, 6))
    weights = data.draw(st.lists(st.integers(0, 10), min_size=n, max_size=n).filter(any))
    Q = data.draw(st.lists(st.integers(0, 200), min_size=n, max_size=n))
    shown = bandit_js({"weights": weights, "Q": [q / 200 for q in Q]})
    policy, q = np.array(weights) / sum(weights), np.array(Q) / 200
    after = condition_on_success(policy, q)
    np.testing.assert_allclose(shown["policy"], policy, **CLOSE)
    np.testing.assert_allclose(shown["after"], after, **CLOSE)
    np.testing.assert_allclose(shown["V"], policy @ q, **CLOSE)
    np.testing.assert_allclose(shown["influence"], action_influence(policy, q), **CLOSE)
    np.testing.assert_allclose(shown["movement"], chi_squared(after, policy), **CLOSE)
    improvement = relative_improvement(after, policy, q)
    np.testing.assert_allclose(shown["improvement"], improvement, **CLOSE)


DIVERGENCES = {
    "chi": chi_squared,
    "forward": kl_divergence,
    "reverse": lambda new, old: kl_divergence(old, new),
}
REACHES = {"chi": chi_squared_reach, "forward": kl_reach, "reverse": reverse_kl_reach}
BUDGETS = st.integers(0, 80).map(lambda u: (u / 40) ** 3)  # from 0 to 8, as the slider has them


@st.composite
def games(draw: st.DrawFn, least: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A policy of three actions, rare ones and missing ones among them, and their values."""
    weight = st.integers(least, 20) | st.just(2000)
    weights = np.array([draw(weight) for _ in range(3)])
    assume(weights.any())
    return weights / weights.sum(), np.array([draw(st.integers(0, 200)) for _ in range(3)]) / 200


def shown_by(simplex_js: Compute, policy: np.ndarray, Q: np.ndarray, budget: float):
    return simplex_js({"policy": policy.tolist(), "Q": Q.tolist(), "budget": budget})


@given(games(), BUDGETS)
def test_the_triangle_has_the_packages_policies(simplex_js, game, budget):
    policy, Q = game
    shown = shown_by(simplex_js, policy, Q, budget)
    np.testing.assert_allclose(shown["after"], condition_on_success(policy, Q), **CLOSE)
    np.testing.assert_allclose(shown["influence"], action_influence(policy, Q), **CLOSE)
    np.testing.assert_allclose(shown["V"], policy @ Q, **CLOSE)
    for ball in shown["balls"].values():
        gain = relative_improvement(ball["optimum"], policy, Q)
        np.testing.assert_allclose(ball["gain"], gain, atol=1e-12)
    if shown["V"] > 0:
        behaviour = evaluate(bandit(Q), [policy])
        best = trust_region_policy(behaviour, budget)[0]
        np.testing.assert_allclose(shown["balls"]["chi"]["optimum"], best, atol=1e-8)


@given(games())
def test_at_the_budget_that_the_data_set_the_chi_squared_optimum_is_the_conditioned_policy(
    simplex_js, game
):
    policy, Q = game
    shown = shown_by(simplex_js, policy, Q, float(action_influence(policy, Q)))
    np.testing.assert_allclose(shown["balls"]["chi"]["optimum"], shown["after"], atol=1e-7)


@given(games(), BUDGETS)
@example((np.array([0.5, 0.5, 0]), np.array([0.2, 0.4, 0.9])), 0.3)
@example((np.array([0, 1, 0]), np.array([0.2, 0.4, 0.9])), 0.3)
@example((np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.4])), 0.3)
@example((np.array([0.2, 0.3, 0.5]), np.array([0.0, 0.0, 0.0])), 0.3)
def test_an_optimum_is_a_policy_in_its_ball_that_uses_the_budget_up(simplex_js, game, budget):
    policy, Q = game
    played = Q[policy > 0]
    for name, ball in shown_by(simplex_js, policy, Q, budget)["balls"].items():
        optimum = np.array(ball["optimum"])
        assert optimum.min() >= 0
        assert optimum.sum() == pytest.approx(1, abs=1e-12)
        assert not optimum[policy == 0].any()
        moved = DIVERGENCES[name](optimum, policy)
        if np.ptp(played) == 0:
            np.testing.assert_array_equal(optimum, policy)
        elif optimum @ Q < played.max() - 1e-12:
            assert moved == pytest.approx(budget, rel=1e-8, abs=1e-10)
        else:
            assert moved <= budget + 1e-10


@given(games(least=1), BUDGETS)
def test_the_optima_of_the_entropies_meet_the_first_order_conditions(simplex_js, game, budget):
    """One multiplier for all actions: log(pi / pi_0), or pi_0 / pi, is a straight line in Q."""
    policy, Q = game
    balls = shown_by(simplex_js, policy, Q, budget)["balls"]
    kinds = {"forward": (np.log, 1), "reverse": (np.reciprocal, -1)}
    for name, (transform, sign) in kinds.items():
        optimum = np.array(balls[name]["optimum"])
        if optimum.min() > 1e-12:
            low, middle, high = np.argsort(Q)
            y = sign * transform(optimum / policy)
            assert y[low] <= y[middle] + 1e-9
            assert y[middle] <= y[high] + 1e-9
            rise = (y[middle] - y[low]) * (Q[high] - Q[low])
            run = (y[high] - y[low]) * (Q[middle] - Q[low])
            assert rise == pytest.approx(run, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(game=games(least=1), budget=BUDGETS.filter(bool))
def test_no_policy_in_the_ball_gains_more(simplex_js, name, game, budget):
    policy, Q = game
    x = cp.Variable(3)
    moved = {
        "chi": cp.sum(cp.multiply(1 / policy, cp.square(x - policy))),
        "forward": cp.sum(cp.rel_entr(x, policy)),
        "reverse": cp.sum(cp.rel_entr(policy, x)),
    }
    problem = cp.Problem(cp.Maximize(Q @ x), [x >= 0, cp.sum(x) == 1, moved[name] <= budget])
    best = problem.solve(cp.CLARABEL)
    optimum = shown_by(simplex_js, policy, Q, budget)["balls"][name]["optimum"]
    assert Q @ optimum == pytest.approx(best, abs=1e-6)


@given(games(least=1), BUDGETS)
def test_one_action_rises_as_far_as_it_can_reach(simplex_js, game, budget):
    policy, _ = game
    shown = shown_by(simplex_js, policy, np.array([0, 0, 1]), budget)
    for name, reach in REACHES.items():
        risen = shown["balls"][name]["optimum"][2]
        assert risen == pytest.approx(reach(policy[2], budget), abs=1e-7)


@given(games(), BUDGETS)
def test_a_border_is_where_the_budget_or_the_triangle_ends(simplex_js, game, budget):
    policy, Q = game
    assume(np.count_nonzero(policy) > 1)
    for name, ball in shown_by(simplex_js, policy, Q, budget)["balls"].items():
        border = np.array(ball["border"])
        assert border.min() >= 0
        assert not border[:, policy == 0].any()
        np.testing.assert_allclose(border.sum(axis=1), 1, atol=1e-12)
        moved = DIVERGENCES[name](border, np.broadcast_to(policy, border.shape))
        ends = border[:, policy > 0].min(axis=1) < 1e-9
        np.testing.assert_allclose(moved[~ends], budget, rtol=1e-5, atol=1e-8)
        assert (moved <= budget + 1e-8).all()
        assert (border @ Q).max() <= np.array(ball["optimum"]) @ Q + 1e-8


def test_a_large_budget_reaches_the_corner_except_for_the_reverse_divergence(simplex_js):
    policy, Q = np.array([0.49, 0.49, 0.02]), np.array([0.3, 0.4, 0.8])
    balls = shown_by(simplex_js, policy, Q, 50)["balls"]  # 1 / 0.02 - 1 = 49, -log 0.02 = 3.9
    assert balls["chi"]["optimum"] == [0, 0, 1]
    assert balls["forward"]["optimum"] == [0, 0, 1]
    assert min(balls["reverse"]["optimum"]) > 0


def test_what_differs_by_rounding_alone_is_shown_alike():
    """43.75 % lies between 43.7 and 43.8: solved for and computed, it must look the same."""
    engine = MiniRacer()
    engine.eval(script("simplex.js"))
    for text in ("percent(x)", "number(x)", "relative(x)"):
        for x in (0.4375, 0.0625, 0.12345, 1e-4 + 5e-6, 0.0, 1.0):
            shown = {
                engine.eval(text.replace("x", repr(y)))
                for y in (x, x * (1 - 1e-13), x * (1 + 1e-13))
            }
            assert len(shown) == 1
    assert engine.eval("percent(0.4375)") == "43.8%"
    engine.close()


HANDLED = [Bandit([5, 5], [0.495, 0.505]), Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1)]


@pytest.mark.parametrize("handled", HANDLED, ids=repr)
def test_the_fragment_asks_nobody(handled):
    html = handled._repr_html_().replace("http://www.w3.org/2000/svg", "")  # a name, no address
    assert not re.findall(r"http|import|export|fetch|url\(|src=|href=", html)
    assert html.count("</script>") == 1
    assert len(html) < 20_000


def test_the_fragment_is_the_same_every_time():
    for one, other in (
        (Bandit([5, 5], [0.495, 0.505]), Bandit([5, 5], [0.2, 0.6])),
        (
            Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1),
            Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0),
        ),
    ):
        again = type(one)(*one.state.values())
        assert one._repr_html_() == again._repr_html_()
        assert one._repr_html_() != other._repr_html_()


def test_the_inks_are_those_of_the_figures():
    by_day, by_night = (
        dict(re.findall(r"--(\w+): (#\w+);", rule))
        for rule in re.findall(r"\{([^}]*--[^}]*)\}", read("interactive.css"))[:2]
    )
    assert by_day == {name: vars(figures)[name.upper()] for name in by_day}
    assert by_night == {name: figures.BY_NIGHT[ink] for name, ink in by_day.items()}


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


@pytest.mark.parametrize(
    ("policy", "Q", "budget", "message"),
    [
        ([0.5, 0.5], [0.5, 0.5], 1, r"policy must have 3 actions, shape \(3,\), got \(2,\)"),
        ([[0.5, 0.3, 0.2]], [[0.5] * 3], 1, r"policy must have 3 actions, .* got \(1, 3\)"),
        ([0.5, 0.3, 0.3], [0.5] * 3, 1, r"policy must sum to 1, got 1.1"),
        ([0.5, 0.6, -0.1], [0.5] * 3, 1, r"policy\[2\] must not be negative, got -0.1"),
        ([0.5, 0.3, 0.2], [0.5] * 2, 1, r"Q must have the policy's shape \(3,\), got \(2,\)"),
        ([0.5, 0.3, 0.2], [0.5, 1.5, 0], 1, r"Q\[1\] must be a probability, got 1.5"),
        ([0.5, 0.3, 0.2], [0.5, 0, float("nan")], 1, r"Q\[2\] is NaN"),
        ([0.5, 0.3, 0.2], [0.5] * 3, -1, r"budget must be .* at least 0 and finite, got -1"),
        ([0.5, 0.3, 0.2], [0.5] * 3, float("inf"), r"at least 0 and finite, got inf"),
        ([0.5, 0.3, 0.2], [0.5] * 3, float("nan"), r"budget is NaN"),
        ([0.5, 0.3, 0.2], [0.5] * 3, [1, 2], r"budget must be a number, .* got \[1, 2\]"),
    ],
)
def test_a_bad_triangle_is_refused(policy, Q, budget, message):
    with pytest.raises(ValueError, match=message):
        Simplex(policy, Q, budget)


def test_the_sentence_without_scripts_says_what_would_be_seen():
    html = Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1)._repr_html_()
    sentence = re.search(r"<p>(.*?)</p>", html)
    assert sentence is not None
    for word in ("it needs JavaScript", "[0.5, 0.3, 0.2]", "[0.2, 0.4, 0.9]", "a budget of 0.1"):
        assert word in sentence[1]
