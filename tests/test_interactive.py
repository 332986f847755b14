"""The pictures with handles: their mathematics is the package's, their pages need no other host."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.figure import Figure
from py_mini_racer import MiniRacer
from scipy import special

from sc_utils import (
    action_influence,
    bandit,
    best_of_n,
    chi_squared,
    chi_squared_reach,
    chi_squared_update,
    condition_on_success,
    evaluate,
    exponential_tilt,
    figures,
    guided_policy,
    kl_divergence,
    kl_reach,
    relative_improvement,
    reverse_kl_reach,
    success_step,
    trust_region_policy,
)
from sc_utils.interactive import (
    Bandit,
    BetaArms,
    GridIterates,
    RivalUpdates,
    Simplex,
    read,
    script,
)

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


@pytest.fixture(scope="module")
def thresholds_js() -> Iterator[Callable[[str], Any]]:
    """Any expression of the module, as it can be said in JSON."""
    engine = MiniRacer()
    engine.eval(script("thresholds.js"))
    yield lambda text: json.loads(engine.eval(f"JSON.stringify({text})"))
    engine.close()


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


SHAPES = st.floats(-2, 3).map(lambda u: 10**u)  # of a Beta distribution, from 0.01 to 1000
THETAS = st.integers(1, 999).map(lambda u: u / 1000)


@given(THETAS, SHAPES, SHAPES)
@example(0.001, 0.01, 0.01)
@example(0.999, 0.01, 0.01)
@example(0.999, 1000, 1000)
@example(0.999, 0.01, 1000)
@example(0.001, 1000, 0.01)
@example(0.5, 1, 1)
def test_a_return_is_above_the_threshold_as_often_as_scipy_says(thresholds_js, x, a, b):
    expected = special.betaincc(a, b, x)
    assert thresholds_js(f"above({x}, {a}, {b})") == pytest.approx(expected, rel=1e-9, abs=1e-12)


@st.composite
def beta_arms(draw: st.DrawFn) -> BetaArms:
    n = draw(st.integers(2, 6))
    shapes = draw(st.lists(st.floats(0.2, 30), min_size=2 * n, max_size=2 * n))
    weights = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n).filter(any))
    policy = np.array(weights) / sum(weights)
    return BetaArms(shapes[:n], shapes[n:], policy=policy, threshold=draw(THETAS))


@given(beta_arms())
def test_the_arms_have_the_packages_policies_and_gains(thresholds_js, arms):
    a, b, policy, threshold = (np.array(x) for x in arms.state.values())
    shown = thresholds_js(f"compute({json.dumps(arms.state)})")
    Q, proxy = a / (a + b), special.betaincc(a, b, threshold)
    assume(policy @ proxy > 1e-9)
    after = condition_on_success(policy, proxy)
    close = {"rtol": 1e-8, "atol": 1e-10}
    np.testing.assert_allclose(shown["Q"], Q, **CLOSE)
    np.testing.assert_allclose(shown["V"], policy @ Q, **CLOSE)
    np.testing.assert_allclose(shown["after"], after, **close)
    np.testing.assert_allclose(shown["faithful"], condition_on_success(policy, Q), **CLOSE)
    np.testing.assert_allclose(shown["influence"], action_influence(policy, Q), **CLOSE)
    np.testing.assert_allclose(shown["proxyInfluence"], action_influence(policy, proxy), **close)
    np.testing.assert_allclose(shown["gain"], (after - policy) @ Q, **close)
    faithful = condition_on_success(policy, Q)
    np.testing.assert_allclose(shown["faithfulGain"], (faithful - policy) @ Q, **CLOSE)


@given(beta_arms())
def test_the_gain_is_the_faithful_one_times_amplification_times_alignment(thresholds_js, arms):
    shown = thresholds_js(f"compute({json.dumps(arms.state)})")
    assume(shown["influence"] > 1e-9)
    amplification = np.sqrt(shown["proxyInfluence"] / shown["influence"])
    product = shown["faithfulGain"] * amplification * shown["alignment"]
    assert shown["gain"] == pytest.approx(product, rel=1e-6, abs=1e-12)
    assert abs(shown["alignment"]) <= 1 + 1e-12
    played = np.array(arms.state["policy"]) > 0
    if played.sum() > 2 and shown["proxyInfluence"] > 1e-9:
        both = [np.array(shown[key])[played] for key in ("proxy", "Q")]
        weights = np.array(arms.state["policy"])[played]
        covariance = np.cov(*both, aweights=weights, ddof=0)
        correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
        assert shown["alignment"] == pytest.approx(correlation, rel=1e-6, abs=1e-9)


def papers_arms(threshold: float = 0.8) -> BetaArms:
    """99 arms Beta(a, a) with a from .3 to .7, and one Beta(18, 2)."""
    a = 0.3 + 0.4 * (np.arange(99) + 0.5) / 99
    return BetaArms([*a, 18], [*a, 2], threshold=threshold)


def test_the_papers_bandit_has_its_best_threshold_and_its_change_of_sign(thresholds_js):
    found = thresholds_js(f"sweep({json.dumps(papers_arms().state)})")
    assert found["best"] == pytest.approx(0.8354, abs=5e-5)
    assert found["zeros"] == [pytest.approx(0.9684, abs=5e-5)]
    shown = thresholds_js(f"compute({json.dumps(papers_arms(found['best']).state)})")
    assert shown["gain"] == pytest.approx(0.008299, abs=5e-7)
    assert shown["faithfulGain"] == pytest.approx(0.0031429, abs=5e-8)  # .4 ** 2 * .0099 / .504
    assert found["gains"][-1] == pytest.approx(-0.0040, abs=5e-5)
    assert found["most"] == pytest.approx(max(shown["after"]), rel=1e-4)


@given(beta_arms())
def test_the_sweep_finds_what_a_finer_one_finds(thresholds_js, arms):
    a, b, policy, _ = (np.array(x) for x in arms.state.values())
    found = thresholds_js(f"sweep({json.dumps(arms.state)})")
    theta = np.array(found["thresholds"])
    proxy = special.betaincc(a, b, theta[:, np.newaxis])
    assume((proxy @ policy > 1e-9).all())
    Q = a / (a + b)
    gains = proxy @ (policy * (Q - policy @ Q)) / (proxy @ policy)
    np.testing.assert_allclose(found["gains"], gains, rtol=1e-7, atol=1e-10)
    for zero in found["zeros"]:
        low, high = (
            special.betaincc(a, b, zero + shift) @ (policy * (Q - policy @ Q))
            for shift in (-1e-5, 1e-5)
        )
        assert low * high <= 1e-24
    best = special.betaincc(a, b, found["best"])
    assert best @ (policy * (Q - policy @ Q)) / (best @ policy) >= gains.max() - 1e-9


def test_where_the_arms_are_equal_or_nothing_passes_nothing_moves(thresholds_js):
    equal = BetaArms([0.1, 0.3, 0.7], [0.2, 0.6, 1.4])  # 1/3 each, up to rounding
    assert len({x / (x + y) for x, y in zip(*list(equal.state.values())[:2], strict=True)}) > 1
    shown = thresholds_js(f"compute({json.dumps(equal.state)})")
    assert shown["gain"] == shown["influence"] == shown["alignment"] == 0
    assert shown["proxyInfluence"] > 0
    never = BetaArms([1, 2], [1000, 900], threshold=0.9)
    shown = thresholds_js(f"compute({json.dumps(never.state)})")
    assert shown["passed"] == shown["gain"] == shown["proxyInfluence"] == 0
    assert shown["after"] == [0.5, 0.5]


def test_rounding_is_no_change_of_sign(thresholds_js):
    a, b = [19.14, 7.22, 11.61, 28.12], [62.2, 0.95, 22.07, 20.75]
    found = thresholds_js(f"sweep({json.dumps(BetaArms(a, b).state)})")
    gains = np.array(found["gains"])
    assert (gains > -1e-15).all()  # all pass a low threshold, whatever the arm
    assert found["zeros"] == []


ARROWS = [[0.1, 0.2, 0.3, 0.4], [0, 0, 1, 0]]


def small_grid(**changes: Any) -> GridIterates:
    """Two states on a map of 2 x 2 cells, two policies."""
    given = {
        "letters": [["S", "F"], ["H", "G"]],
        "cells": [0, 1],
        "policies": [ARROWS, ARROWS[::-1]],
        "values": [[0.25, 0.5], [0.5, 0.75]],
        "success_rates": [0.25, 0.5],
        "steps": [0, 3],
    }
    return GridIterates(**(given | changes))


@pytest.fixture(scope="module")
def iterates_js() -> Iterator[Callable[[str], Any]]:
    engine = MiniRacer()
    engine.eval(script("iterates.js"))
    yield lambda text: json.loads(engine.eval(f"JSON.stringify({text})"))
    engine.close()


@settings(max_examples=20)  # figures are slow
@given(arrays(float, (3, 4), elements=st.integers(0, 1000).map(lambda u: u / 1000)))
def test_the_grid_is_as_dark_as_the_books_figure(iterates_js, values):
    letters, cells = [["S", "F", "F"], ["F", "H", "G"]], [0, 1, 2, 3]
    state = json.dumps({"policies": [[]] * 3, "values": values.tolist()})
    for k, row in enumerate(values):
        shown = iterates_js(f"compute({state}, {k}).shades")
        assume(row.max() > 0)
        axes = Figure().subplots()
        figures.draw_grid(axes, letters, cells, row)
        drawn = [patch.get_alpha() for patch in axes.patches if patch.get_alpha() is not None]
        scale = row.max() / values.max()  # the figure shows one policy, the picture several
        np.testing.assert_allclose(shown, np.array(drawn) * scale, rtol=1e-12)


@given(st.integers(100, 10_000).map(lambda u: u / 10_000))
def test_an_arrow_is_as_long_as_its_action_is_likely(iterates_js, share):
    state = json.dumps({"policies": [[[share, 0, 0.0099, 1]]], "values": [[0]]})
    path, *none, longest = iterates_js(f"compute({state}, 0).arrows")[0]
    lengths = []
    for d in path, longest:
        x, y = np.array([p.split() for p in re.split("[MLZ]", d) if p], dtype=float).T
        lengths.append(np.ptp(x))
        assert y.sum() == 0
        assert 0.25 <= x.min() <= x.max() <= 0.5  # beside the number, within the cell
    assert lengths[0] / lengths[1] == pytest.approx(share, rel=1e-9)
    assert none == ["", ""]


def test_a_grid_where_nothing_succeeds_is_blank(iterates_js):
    state = json.dumps({"policies": [[[1, 0, 0, 0]]], "values": [[0]]})
    assert iterates_js(f"compute({state}, 0).shades") == [0]


def test_the_numbers_of_a_grid_go_to_the_page_rounded():
    third = 1 / 3
    state = small_grid(values=[[third, 0], [1, third]], best=0.8235294).state
    assert state["values"] == [[0.3333, 0], [1, 0.3333]]
    assert state["best"] == 0.823529
    assert state["policies"] == [ARROWS, ARROWS[::-1]]
    assert small_grid().state["best"] is None
    bytes_of_gymnasium = np.array([["S", "F"], ["H", "G"]], dtype="S1")
    assert small_grid(letters=bytes_of_gymnasium).state == small_grid().state


@pytest.fixture(scope="module")
def rivals_js() -> Iterator[Callable[[str], Any]]:
    engine = MiniRacer()
    engine.eval(script("rivals.js"))
    yield lambda text: json.loads(engine.eval(f"JSON.stringify({text})"))
    engine.close()


UPDATES = {
    "step": success_step,
    "tries": best_of_n,
    "penalty": chi_squared_update,
    "tilt": exponential_tilt,
    "guidance": guided_policy,
}
PATHS = ["step", "tries", "penalty"]
STRENGTHS = st.integers(-40, 40).map(lambda t: 2 ** (t / 8))


@st.composite
def rivals(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """A policy that the class takes, actions it never plays among them, and its values."""
    n = draw(st.integers(2, 6))
    weights = np.array(draw(st.lists(st.integers(0, 15), min_size=n, max_size=n)))
    assume(weights.any())
    policy = weights / weights.sum()
    Q = np.array(draw(st.lists(st.integers(0, 200), min_size=n, max_size=n))) / 200
    assume(np.ptp(Q[policy > 0]) > 0)
    RivalUpdates(policy, Q)
    return policy, Q


def updated(rivals_js, game, update: str, strength: float) -> dict[str, Any]:
    policy, Q = (x.tolist() for x in game)
    state = {"policy": policy, "Q": Q, "update": update, "strength": strength}
    return rivals_js(f"compute({json.dumps(state)})")


@pytest.mark.parametrize("update", UPDATES)
@given(game=rivals(), strength=STRENGTHS)
@example(game=(np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.3, 0.5, 0.9])), strength=8)
@example(game=(np.array([0.4, 0, 0.5, 0.1]), np.array([0, 1, 0.5, 0.5])), strength=0.3)
def test_each_rival_is_that_of_the_package(rivals_js, update, game, strength):
    policy, Q = game
    strength = max(round(strength), 1) if update == "tries" else strength
    shown = updated(rivals_js, game, update, strength)
    after = UPDATES[update](policy, Q, strength)
    V = policy @ Q
    np.testing.assert_allclose(shown["updated"], after, **CLOSE)
    np.testing.assert_allclose(shown["V"], V, **CLOSE)
    np.testing.assert_allclose(shown["movement"], chi_squared(after, policy), **CLOSE)
    np.testing.assert_allclose(shown["gain"], after @ Q / V - 1, **CLOSE)
    np.testing.assert_allclose(shown["rate"], after @ Q, **CLOSE)


@pytest.mark.parametrize("update", UPDATES)
@given(game=rivals(), strength=STRENGTHS)
def test_no_rival_lies_above_the_trust_region_path(rivals_js, update, game, strength):
    policy, Q = game
    strength = max(round(strength), 1) if update == "tries" else strength
    shown = updated(rivals_js, game, update, strength)
    best = trust_region_policy(evaluate(bandit(Q), [policy]), shown["movement"])[0]
    most = relative_improvement(best, policy, Q)
    # Where only the best are left, what they gain does not grow with the movement.
    assert shown["most"] == pytest.approx(most, rel=1e-7, abs=1e-12)
    assert shown["gain"] <= shown["most"] * (1 + 1e-9) + 1e-12
    if shown["movement"] > 0:
        assert shown["share"] == pytest.approx(shown["gain"] / shown["most"], rel=1e-9)
    if update in PATHS:
        assert shown["share"] == pytest.approx(1, rel=1e-9)


@given(rivals(), st.integers(1, 99))
def test_the_most_at_a_movement_is_that_of_a_solver(rivals_js, game, percent):
    policy, Q = game
    movement = float(percent / 100 * (1 / policy[policy > 0].min() - 1))
    there = rivals_js(f"furthest({policy.tolist()}, {(Q / (policy @ Q)).tolist()}, {movement!r})")
    played = policy > 0
    x = cp.Variable(int(played.sum()))
    p = policy[played]
    moved = cp.sum(cp.multiply(1 / p, cp.square(x - p)))
    problem = cp.Problem(cp.Maximize(Q[played] @ x), [x >= 0, cp.sum(x) == 1, moved <= movement])
    assert np.array(there) @ Q == pytest.approx(problem.solve(cp.CLARABEL), abs=1e-6)


def test_rivals_by_hand(rivals_js):
    """V = 1/2 and w = (0, 1, 2): pi_+ is (0, 1/2, 1/2), and then A has dropped out."""
    game = np.array([0.25, 0.5, 0.25]), np.array([0, 0.5, 1])
    for update, strength in ("step", 1), ("penalty", 0.5), ("guidance", 1):
        shown = updated(rivals_js, game, update, strength)
        assert shown["updated"] == pytest.approx([0, 0.5, 0.5], abs=1e-15)
        assert shown["movement"] == shown["gain"] == shown["most"] == 0.5
    shown = updated(rivals_js, game, "step", 2)  # 3/4 is left, with mean 4/3 and spread 1/6
    assert shown["updated"] == pytest.approx([0, 1 / 3, 2 / 3], abs=1e-15)
    assert updated(rivals_js, game, "tries", 2)["updated"] == [0.125, 0.5, 0.375]
    shown = updated(rivals_js, game, "tilt", 0.5 / np.log(2))  # 1 : 2 : 4
    assert shown["updated"] == pytest.approx([1 / 9, 4 / 9, 4 / 9], abs=1e-15)
    assert shown["gain"] == pytest.approx(1 / 3)
    assert shown["movement"] == pytest.approx(19 / 81)
    assert shown["share"] == pytest.approx(np.sqrt(18 / 19))  # of sqrt(I * 19 / 81), I = 1/2


def test_weak_updates_start_along_the_path_except_for_guidance(rivals_js):
    """Gain over distance tends to sd(w), and for guidance to corr(log Q, Q) sd(w)."""
    game = policy, Q = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.3, 0.5, 0.9])
    weights = {"aweights": policy, "ddof": 0}
    covariance = np.cov(np.log(Q), Q, **weights)
    correlation = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert 0.9 < correlation < 0.95
    shares = {u: updated(rivals_js, game, u, 1e-4)["share"] for u in ("step", "guidance")}
    shares |= {u: updated(rivals_js, game, u, 1e4)["share"] for u in ("penalty", "tilt")}
    assert shares.pop("guidance") == pytest.approx(correlation, rel=1e-4)
    assert list(shares.values()) == [pytest.approx(1, abs=1e-7)] * 3


def test_the_tilt_falls_below_the_path_at_the_temperature_of_success_conditioning(rivals_js):
    game = np.array([0.4, 0.3, 0.2, 0.1]), np.array([0.1, 0.3, 0.5, 0.9])
    shown = updated(rivals_js, game, "tilt", 0.32)
    weights = game[0] * np.exp(game[1] / 0.32)
    assert shown["gain"] == pytest.approx(weights @ game[1] / weights.sum() / 0.32 - 1, rel=1e-12)
    assert shown["share"] == pytest.approx(0.929, abs=5e-4)


def test_tries_are_whole_and_grow(rivals_js):
    stops = rivals_js("Array.from({ length: 18 }, (_, k) => UPDATES.tries.at(k))")
    assert stops[:9] == [1, 2, 3, 4, 6, 8, 12, 16, 24]
    assert stops[-1] == 512
    assert (np.diff(stops) > 0).all()


HANDLED = [
    Bandit([5, 5], [0.495, 0.505]),
    Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1),
    papers_arms(),
    small_grid(),
    RivalUpdates([0.4, 0.3, 0.2, 0.1], [0.1, 0.3, 0.5, 0.9]),
]


@pytest.mark.parametrize("handled", HANDLED, ids=repr)
def test_the_fragment_asks_nobody(handled):
    html = handled._repr_html_().replace("http://www.w3.org/2000/svg", "")  # a name, no address
    assert not re.findall(r"http|import|export|fetch|url\(|src=|href=", html)
    assert html.count("</script>") == 1
    assert len(html) < 24_000


def test_the_fragment_is_the_same_every_time():
    for one, other in (
        (papers_arms(), papers_arms(0.9)),
        (small_grid(), small_grid(best=0.6)),
        (Bandit([5, 5], [0.495, 0.505]), Bandit([5, 5], [0.2, 0.6])),
        (RivalUpdates([0.6, 0.4], [0.2, 0.6]), RivalUpdates([0.4, 0.6], [0.2, 0.6])),
        (
            Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1),
            Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0),
        ),
    ):
        given = {{"rates": "success_rates"}.get(key, key): x for key, x in one.state.items()}
        again = type(one)(**given)
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


@pytest.mark.parametrize(
    ("policy", "Q", "message"),
    [
        ([1], [0.5], r"policy must have 2 to 6 actions, got \(1,\)"),
        (np.full(7, 1 / 7), np.full(7, 0.5), r"policy must have 2 to 6 actions, got \(7,\)"),
        ([[0.5, 0.5]], [[0.2, 0.6]], r"policy must have 2 to 6 actions, got \(1, 2\)"),
        ([0.5, 0.4], [0.2, 0.6], r"policy must sum to 1, got 0.9"),
        ([0.995, 0.005], [0.2, 0.6], r"policy\[1\] must be 0 or at least 0.01, got 0.005"),
        ([0.5, 0.5], [0.2, 1.5], r"Q\[1\] must be a probability, got 1.5"),
        ([0.5, 0.5], [0.2, float("nan")], r"Q\[1\] is NaN"),
        ([0.5, 0.5], [0.2, 0.3, 0.4], r"Q must have the policy's shape \(2,\), got \(3,\)"),
        ([0.5, 0.5, 0], [0, 0, 1], r"Q must differ .* among the actions played, got \[0.0, 0.0\]"),
        ([0.5, 0.5], [0.4, 0.4005], r"Q must differ by at least 0.001 .* got \[0.4, 0.4005\]"),
    ],
)
def test_bad_rivals_are_refused(policy, Q, message):
    with pytest.raises(ValueError, match=message):
        RivalUpdates(policy, Q)


@pytest.mark.parametrize(
    ("a", "b", "changes", "message"),
    [
        ([1], [1], {}, r"2 to 200 arms, got \(1,\) and \(1,\)"),
        ([1, 2], [1, 2, 3], {}, r"2 to 200 arms, got \(2,\) and \(3,\)"),
        (np.ones(201), np.ones(201), {}, r"2 to 200 arms, got \(201,\)"),
        ([1, 0], [1, 1], {}, r"a\[1\] must lie in \[0.01, 1000\], got 0"),
        ([1, 1], [2000, 1], {}, r"b\[0\] must lie in \[0.01, 1000\], got 2000"),
        ([1, float("nan")], [1, 1], {}, r"a\[1\] is NaN"),
        ([1, 2], [1, 1], {"threshold": 1}, r"threshold must lie in \[0.001, 0.999\], got 1"),
        ([1, 2], [1, 1], {"threshold": [0.5]}, r"threshold must be one number, got \[0.5\]"),
        ([1, 2], [1, 1], {"policy": [0.5, 0.4]}, r"policy must sum to 1, got 0.9"),
        ([1, 2], [1, 1], {"policy": [1]}, r"policy must have the arms' shape \(2,\), got \(1,\)"),
    ],
)
def test_bad_arms_are_refused(a, b, changes, message):
    with pytest.raises(ValueError, match=message):
        BetaArms(a, b, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"letters": ["S", "F"]}, r"map of 1 to 20 rows and columns, got \(2,\)"),
        ({"letters": [["S"] * 21]}, r"map of 1 to 20 rows and columns, got \(1, 21\)"),
        ({"letters": [["S", "FF"]]}, r"letters\[0, 1\] must be one letter, got 'FF'"),
        ({"cells": [0, 4]}, r"cells\[1\] must be a cell of the 2 x 2 map, from 0 to 3, got 4"),
        ({"cells": [-1, 0]}, r"cells\[0\] must be a cell .* got -1"),
        ({"cells": [1, 1]}, r"cells must not repeat, got \[1, 1\]"),
        ({"cells": [0, 0.5]}, r"cells must be a list of whole numbers, got \[0.0, 0.5\]"),
        ({"steps": [3, 3]}, r"steps must be at least 0 and increase, got \[3, 3\]"),
        ({"steps": [-1, 3]}, r"steps must be at least 0 and increase, got \[-1, 3\]"),
        ({"steps": []}, r"steps must be a list of whole numbers, got \[\]"),
        ({"steps": [0, 1, 2]}, r"policies must have shape \(3, 2, 4\), got \(2, 2, 4\)"),
        ({"policies": [ARROWS, [[1, 0, 0, 0], [0.5, 0.4, 0, 0]]]}, r"policies\[1\]\[1\] must sum"),
        ({"values": [[0, 1]]}, r"values must have shape \(2, 2\), got \(1, 2\)"),
        ({"values": [[0, 1], [0, 1.5]]}, r"values\[1, 1\] must be a probability, got 1.5"),
        ({"success_rates": [0, -0.5]}, r"success_rates\[1\] must be a probability, got -0.5"),
        ({"success_rates": 0.5}, r"success_rates must have shape \(2,\), got \(\)"),
        ({"best": 2}, r"best must be a probability, got 2"),
        ({"best": 0.4}, r"best must not lie below a success rate, got 0.4 < 0.5"),
    ],
)
def test_a_bad_grid_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        small_grid(**changes)


def test_the_sentence_without_scripts_says_what_would_be_seen():
    html = Simplex([0.5, 0.3, 0.2], [0.2, 0.4, 0.9], 0.1)._repr_html_()
    sentence = re.search(r"<p>(.*?)</p>", html)
    assert sentence is not None
    for word in ("it needs JavaScript", "[0.5, 0.3, 0.2]", "[0.2, 0.4, 0.9]", "a budget of 0.1"):
        assert word in sentence[1]
