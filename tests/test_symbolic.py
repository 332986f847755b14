"""Exact algebra: expectations for any set of actions, small processes in exact numbers."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from sc_utils.mdp import SuccessMDP, evaluate
from sc_utils.symbolic import ActionDraw, ExactMDP, exact_evaluate, trajectories
from tests.strategies import acyclic_exact_mdps, mdps_with_policies

X, Y, m = sp.symbols("X Y m")


# Expectations


def test_means_of_known_variables_and_symbols_for_other_moments():
    draw = ActionDraw({X: m, Y: 1})
    second, mixed = draw.expect(X**2), draw.expect(X * Y)
    assert draw.expect(3 * X - 2 * Y + 7) == 3 * m + 5
    assert len({second, mixed, m}) == 3
    assert draw.expect((X + 2 * Y) ** 2) == sp.expand(second + 4 * mixed + 4 * draw.expect(Y**2))
    assert draw.expect((X - m) ** 2) == second - m**2
    assert draw.expect(sp.Integer(5)) == 5


def test_expectation_agrees_with_a_sum_over_actions():
    """The opaque moments, filled in from four actions, give the sum over the four actions."""
    p, x = sp.symbols("p0:4"), sp.symbols("x0:4")
    total = sum(p)
    polynomial = 2 * X**3 - X + 5
    draw = ActionDraw({X: m})
    cube = sum(pi * xi**3 for pi, xi in zip(p, x, strict=True)) / total
    mean = sum(pi * xi for pi, xi in zip(p, x, strict=True)) / total
    filled = draw.expect(polynomial).subs({draw.expect(X**3): cube, m: mean})
    direct = sum(pi * polynomial.subs(X, xi) for pi, xi in zip(p, x, strict=True)) / total
    assert sp.simplify(filled - direct) == 0


def test_a_moment_prints_as_an_expectation():
    assert sp.latex(ActionDraw({X: m}).expect(X**2)) == r"\mathbb{E}\left[X^{2}\right]"


def test_what_is_not_a_polynomial_is_refused():
    with pytest.raises(ValueError, match=r"1/X is not a polynomial in X, Y"):
        ActionDraw({X: m, Y: 1}).expect(1 / X)


# Processes


def floats(nested):
    return np.array(nested, dtype=float)


@given(mdps_with_policies(max_states=4))
def test_exact_evaluation_agrees_with_the_numeric_one(case):
    mdp, policy = case
    dense = mdp.transition.toarray().reshape(mdp.n_states, mdp.n_actions, -1)
    exact = exact_evaluate(ExactMDP.of(dense, mdp.success, mdp.initial), policy)
    e = evaluate(mdp, policy)
    np.testing.assert_allclose(e.V, floats(exact.V), rtol=1e-12)
    np.testing.assert_allclose(e.Q, floats(exact.Q), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(e.visits, floats(exact.visits), rtol=1e-12, atol=1e-15)
    assert e.success_rate == pytest.approx(float(exact.success_rate), rel=1e-12)


@given(acyclic_exact_mdps())
def test_values_visits_and_rate_by_listing_all_episodes(case):
    """The linear system against the definition, as equality of rationals."""
    mdp, policy = case
    exact = exact_evaluate(mdp, policy)
    paths = list(trajectories(mdp, policy))
    assert sum(path.probability for path in paths) == 1
    assert sum(path.probability for path in paths if path.success) == exact.success_rate
    for s, expected in enumerate(exact.visits):
        visits = sum(path.probability for path in paths if s in dict(path.decisions))
        assert visits == expected
    for s, expected in enumerate(exact.V):
        if exact.visits[s] > 0:
            through = [path for path in paths if s in dict(path.decisions)]
            wins = sum(path.probability for path in through if path.success)
            assert wins / exact.visits[s] == expected


@given(acyclic_exact_mdps(), st.fractions(min_value=Fraction(1, 9), max_value=1))
def test_a_hazard_is_the_discounted_success_of_all_episodes(case, gamma):
    mdp, policy = case
    g = sp.Rational(gamma.numerator, gamma.denominator)
    discounted = sum(
        path.probability * g ** len(path.decisions)
        for path in trajectories(mdp, policy)
        if path.success
    )
    survivors = ExactMDP.of(
        [[[g * p for p in row] for row in rows] for rows in mdp.transition],
        [[g * p for p in row] for row in mdp.success],
        mdp.initial,
    )
    assert exact_evaluate(survivors, policy).success_rate == discounted


def test_gamblers_ruin():
    """Fair steps between 0 and 4 succeed from s with probability s/4."""
    half = sp.Rational(1, 2)
    P = [[[0, half, 0]], [[half, 0, half]], [[0, half, 0]]]
    exact = exact_evaluate(ExactMDP.of(P, [[0], [0], [half]], [0, 1, 0]), [[1], [1], [1]])
    assert exact.V == (sp.Rational(1, 4), half, sp.Rational(3, 4))
    assert exact.visits == (1, 2, 1)


def test_rate_is_both_starts_times_values_and_visits_times_successes_for_all_numbers():
    p, q, a, b, u = sp.symbols("p q a b u")
    mdp = ExactMDP.of([[[0, p]], [[q, 0]]], [[a], [b]], [u, 1 - u])
    exact = exact_evaluate(mdp, [[1], [1]])
    other_side = exact.visits[0] * a + exact.visits[1] * b
    assert sp.simplify(exact.success_rate - other_side) == 0


def test_floats_of_real_tables_become_their_fractions():
    mdp = ExactMDP.of([[[1 - 2 / 3]]], [[0.1]], [1.0])
    assert mdp.transition[0][0][0] == sp.Rational(1, 3)
    assert mdp.success[0][0] == sp.Rational(1, 10)
    assert ExactMDP.of([[[0]]], [[0.1 + 0.2]], [1]).success[0][0] == sp.Rational(3, 10)
    assert ExactMDP.of([[[0]]], [[sp.Float(0.25)]], [1]).success[0][0] == sp.Rational(1, 4)
    assert ExactMDP.of([[[0]]], [[483 / 34649]], [1]).success[0][0] == sp.Rational(483, 34649)


# Refusals


def test_a_float_that_is_no_simple_fraction_is_refused():
    with pytest.raises(
        ValueError, match=r"success\[0\]\[1\] must be a simple fraction, got 0.7071"
    ):
        ExactMDP.of([[[0], [0]]], [[0.5, 0.5**0.5]], [1])


@pytest.mark.parametrize("x", [1e-16, 3e-16, 1 / 3 + 5e-15])
def test_a_float_near_a_fraction_is_not_that_fraction(x):
    with pytest.raises(ValueError, match=r"success\[0\]\[0\] must be a simple fraction"):
        ExactMDP.of([[[0]]], [[x]], [1])


def test_a_float_inside_an_expression_is_refused():
    with pytest.raises(ValueError, match=r"success\[0\]\[0\] must be exact, got 0.5\d*\*X"):
        ExactMDP.of([[[0]]], [[0.5 * X]], [1])


@pytest.mark.parametrize(
    ("transition", "success", "initial", "message"),
    [
        ([[[0.5]]], [[0.75]], [1], r"success\[0, 0\] and transition\[0, 0\] .* at most 1"),
        ([[[-1]]], [[1]], [1], r"success\[0, 0\] and transition\[0, 0\]"),
        ([[[0]]], [[1]], [0.5], r"initial must be probabilities that sum to 1, got \[1/2\]"),
    ],
)
def test_rationals_that_are_no_probabilities_are_refused(transition, success, initial, message):
    with pytest.raises(ValueError, match=message):
        ExactMDP.of(transition, success, initial)


@pytest.mark.parametrize("road", [exact_evaluate, lambda *case: list(trajectories(*case))])
def test_a_policy_that_is_no_policy_is_refused(road):
    mdp = ExactMDP.of([[[0]]], [[1]], [1])
    with pytest.raises(ValueError, match=r"policy\[0\] must be probabilities that sum to 1"):
        road(mdp, [[0.3]])


@pytest.mark.parametrize(
    ("transition", "success", "initial"),
    [
        ([[[0], [0]]], [[1]], [1]),
        ([[[0, 0]]], [[1]], [1]),
        ([[[0]]], [[1]], [1, 0]),
        ([], [], []),
        ([[[0, 0]] * 2] * 2, [[1, 0], [1]], [1, 0]),
    ],
)
def test_wrong_shapes_are_refused(transition, success, initial):
    with pytest.raises(ValueError, match=r"must have shapes \(S, A, S\), \(S, A\), \(S,\)"):
        ExactMDP.of(transition, success, initial)


def test_a_policy_of_another_shape_is_refused():
    mdp = ExactMDP.of([[[0], [0]]], [[1, 0]], [1])
    with pytest.raises(ValueError, match=r"policy must have shape \(1, 2\)"):
        exact_evaluate(mdp, [[1]])


def test_an_episode_that_may_never_end_is_refused():
    with pytest.raises(ValueError, match="an episode may never end"):
        exact_evaluate(ExactMDP.of([[[1], [0]]], [[0, 1]], [1]), [[1, 0]])


def test_states_that_lead_round_in_a_circle_are_refused_too():
    circle = ExactMDP.of([[[0, 1], [0, 0]], [[1, 0], [0, 0]]], [[0, 1], [0, 1]], [1, 0])
    with pytest.raises(ValueError, match="an episode may never end"):
        exact_evaluate(circle, [[1, 0], [1, 0]])


def test_without_an_end_the_equations_have_more_than_one_solution():
    """Wait for ever: V = V holds for every number, and 0 is the truth."""
    wait = SuccessMDP.from_dense([[[1.0], [0.0]]], [[0.0, 1.0]], [1.0])
    P, r = wait.transition[[0]].toarray(), wait.success[0, 0]
    for V in (0.0, 0.5, 1.0):
        assert r + P @ [V] == V
    with pytest.raises(ValueError, match="never ends"):
        evaluate(wait, [[1.0, 0.0]])


def test_episodes_that_come_back_cannot_be_listed():
    mdp = ExactMDP.of([[[0.5]]], [[0.5]], [1])
    with pytest.raises(ValueError, match="come back to state 0"):
        list(trajectories(mdp, [[1]]))


def test_numeric_and_exact_twins_share_their_layout():
    transition, success = np.zeros((2, 3, 2)), np.full((2, 3), 0.25)
    transition[0, 1, 1] = 0.5
    twin = ExactMDP.of(transition, success, [0.5, 0.5])
    assert twin.transition[0][1][1] == sp.Rational(1, 2)
    e = evaluate(SuccessMDP.from_dense(transition, success, [0.5, 0.5]), np.full((2, 3), 1 / 3))
    thirds = [[sp.Rational(1, 3)] * 3] * 2
    assert e.success_rate == pytest.approx(float(exact_evaluate(twin, thirds).success_rate))
