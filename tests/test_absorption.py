"""The linear solves: every road against exact rationals, entry by entry, and what each refuses."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from numpy.typing import NDArray
from scipy.sparse import csr_array, diags_array
from scipy.sparse.linalg import spsolve
from sympy import QQ
from sympy.polys.matrices import DomainMatrix

from sc_utils.absorption import (
    Chain,
    NeverEnding,
    eliminate,
    eliminate_without_subtraction,
    factorise,
    find_layers,
    merge_actions,
    reachable,
    solve_with,
    sweep,
)
from sc_utils.mdp import SuccessMDP
from tests.strategies import mdps_with_policies

Array = NDArray[np.float64]


def outcomes_of(chain: Chain) -> Array:
    """The dense table of the same chain."""
    exits = np.column_stack([chain.success, chain.exits - chain.success])
    return np.hstack([exits, chain.moves.toarray()])


def induced(mdp: SuccessMDP, policy: Array) -> Chain:
    """The chain of a policy, by loops."""
    S, A = policy.shape
    P = mdp.transition.toarray().reshape(S, A, S)
    moves, exits, success = np.zeros((S, S)), np.zeros(S), np.zeros(S)
    for s in range(S):
        for a in range(A):
            success[s] += policy[s, a] * mdp.success[s, a]
            exits[s] += policy[s, a] * (mdp.success[s, a] + mdp.failure[s, a])
            moves[s] += policy[s, a] * P[s, a]
    np.fill_diagonal(moves, 0)
    return Chain(csr_array(moves), exits, success, mdp.initial)


def exact(chain: Chain) -> tuple[list[Fraction], list[Fraction]]:
    """V and visits in rationals: every float is taken at its word."""

    def rational(x: float) -> object:
        return QQ(*float(x).as_integer_ratio())

    n = chain.start.size
    P = [[rational(p) for p in row] for row in chain.moves.toarray()]
    exits = [rational(x) for x in chain.exits]
    A = [[-p for p in row] for row in P]
    for s in range(n):
        A[s][s] = sum(P[s], exits[s])
    matrix = DomainMatrix(A, (n, n), QQ)

    def solve(system: DomainMatrix, target: Array) -> list[Fraction]:
        b = DomainMatrix([[rational(x)] for x in target], (n, 1), QQ)
        solution = system.lu_solve(b).to_list_flat()
        return [Fraction(int(x.numerator), int(x.denominator)) for x in solution]

    return solve(matrix, chain.success), solve(matrix.transpose(), chain.start)


def relative_error(approximate: Array, truth: list[Fraction]) -> float:
    """Largest relative error of an entry, itself computed exactly; zeros must be zeros."""
    errors = [
        abs(Fraction(float(x)) - y) / y if y else Fraction(int(x != 0))
        for x, y in zip(approximate, truth, strict=True)
    ]
    return float(max(errors))


def drifting(n: int, up: float, start: int, *, hazard: float = 0.0) -> Chain:
    """A walk on n states: success beyond the last, failure before the first or by the hazard."""
    up, down = up * (1 - hazard), (1 - up) * (1 - hazard)
    moves = diags_array([np.full(n - 1, up), np.full(n - 1, down)], offsets=[1, -1])
    success, exits = np.zeros(n), np.full(n, hazard)
    success[-1] = up
    exits[0] += down
    exits[-1] += up
    return Chain(csr_array(moves), exits, success, np.eye(n)[start])


def lingering(n: int, hazard: float, rng: np.random.Generator) -> Chain:
    """Two crowds of states that hardly mix and hardly ever end."""
    P = rng.random((n, n)) * (rng.random((n, n)) < 0.1)
    P += np.roll(np.eye(n), 1, axis=1)
    half = n // 2
    P[:half, half:], P[half:, :half] = 0, 0
    P[0, half], P[half, 0] = hazard, hazard / 3
    np.fill_diagonal(P, 0)
    exits = hazard * rng.random(n)
    exits[-1] = hazard
    P *= (1 - exits)[:, None] / P.sum(axis=1, keepdims=True)
    success = exits * rng.random(n) * np.where(np.arange(n) < half, 1, 0.1)
    return Chain(csr_array(P), exits, success, np.full(n, 1 / n))


ROADS = {
    "eliminate": lambda chain: eliminate(outcomes_of(chain), chain.start),
    "without subtraction": lambda chain: eliminate_without_subtraction(
        outcomes_of(chain), chain.start
    ),
    "factorise": factorise,
    "solve_with": lambda chain: solve_with(lambda A, b: spsolve(A.tocsc(), b), chain),
}
roads = pytest.mark.parametrize("road", ROADS.values(), ids=ROADS.keys())


@roads
@given(mdps_with_policies(full_support=False))
def test_every_road_gives_the_exact_solution(road, mdp_and_policy):
    chain = induced(*mdp_and_policy)
    V, visits = road(chain)
    exact_V, exact_visits = exact(chain)
    assert relative_error(V, exact_V) < 1e-13
    assert relative_error(visits, exact_visits) < 1e-13


@roads
def test_no_digit_is_lost_when_success_is_rare(road):
    chain = drifting(150, 0.4, 20)
    V, visits = road(chain)
    exact_V, exact_visits = exact(chain)
    assert exact_V[20] < 1e-22
    assert relative_error(V, exact_V) < 1e-12
    assert relative_error(visits, exact_visits) < 1e-12


@roads
@pytest.mark.parametrize("hazard", [1e-3, 1e-6])
def test_no_digit_is_lost_when_episodes_are_long(road, hazard, rng):
    chain = lingering(60, hazard, rng)
    V, visits = road(chain)
    exact_V, exact_visits = exact(chain)
    assert sum(exact_visits) > 0.5 / hazard
    assert relative_error(V, exact_V) < 1e-13
    assert relative_error(visits, exact_visits) < 1e-12


def test_dense_elimination_has_no_longest_episode(rng):
    chain = lingering(60, 1e-15, rng)
    V, visits = eliminate(outcomes_of(chain), chain.start)
    exact_V, exact_visits = exact(chain)
    assert relative_error(V, exact_V) < 1e-13
    assert relative_error(visits, exact_visits) < 1e-13


@roads
def test_pivoting_would_lose_the_digits_that_we_keep(road, rng):
    """The reason to eliminate on the diagonal: where some states wait, LAPACK swaps rows."""
    walk, pace = drifting(150, 0.4, 20), rng.random(150)
    moves = csr_array(walk.moves.multiply(pace[:, None]))
    chain = Chain(moves, walk.exits * pace, walk.success * pace, walk.start)
    truth, _ = exact(chain)
    swapped = np.linalg.solve(np.diag(chain.leaving) - chain.moves.toarray(), chain.success)
    assert relative_error(swapped, truth) > 0.01
    assert relative_error(road(chain)[0], truth) < 1e-13


@roads
def test_gamblers_ruin(road):
    """Feller, volume 1, XIV.2: V[i] = ((q/p)^(i+1) - 1) / ((q/p)^(n+1) - 1)."""
    n, p, q = 40, Fraction(3, 8), Fraction(5, 8)  # both exact in binary
    V, _ = road(drifting(n, float(p), 0))
    ruin = [((q / p) ** (i + 1) - 1) / ((q / p) ** (n + 1) - 1) for i in range(n)]
    assert relative_error(V, ruin) < 1e-13


@roads
def test_three_states_by_hand(road):
    """0 -> 1 (1/2), 2 (1/4), fails (1/4); 1 -> 0 (1/2), succeeds (1/2); 2 succeeds (1/3), fails.

    V1 = 1/2 + V0/2 and V0 = V1/2 + 1/12, so V0 = 4/9 and V1 = 13/18; d0 = 1 + d1/2, d1 = d0/2.
    """
    moves = csr_array([[0, 1 / 2, 1 / 4], [1 / 2, 0, 0], [0, 0, 0]])
    chain = Chain(
        moves, np.array([1 / 4, 1 / 2, 1]), np.array([0, 1 / 2, 1 / 3]), np.array([1.0, 0, 0])
    )
    V, visits = road(chain)
    np.testing.assert_allclose(V, [4 / 9, 13 / 18, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(visits, [4 / 3, 2 / 3, 1 / 3], rtol=1e-15)


def trap(leak: float) -> Chain:
    """0 succeeds, fails or slips to 1; 1 and 2 only lead to each other; 3 leads to 0 or to 1."""
    moves = np.array([[0, leak, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]])
    exits, success = np.array([1 - leak, 0, 0, 0]), np.array([0.5, 0, 0, 0])
    return Chain(csr_array(moves), exits, success, np.array([1.0, 0, 0, 0]))


@roads
@pytest.mark.parametrize("leak", [0.25, 1e-12])
def test_a_trap_that_can_be_reached_is_refused(road, leak):
    with pytest.raises(NeverEnding) as refusal:
        road(trap(leak))
    assert refusal.value.state in (1, 2)


@roads
def test_a_trap_out_of_reach_succeeds_never(road):
    """State 3 leads to the trap half of the time, but nothing leads to 3."""
    V, visits = road(trap(leak=0))
    np.testing.assert_array_equal(V, [0.5, 0, 0, 0.25])
    np.testing.assert_array_equal(visits, [1, 0, 0, 0])


def test_a_solver_that_does_not_solve_is_refused():
    chain = drifting(30, 0.4, 20)
    with pytest.raises(ValueError, match="the linear solver fails on V"):
        solve_with(lambda A, b: 0.5 * b, chain)
    with pytest.raises(ValueError, match="the linear solver fails on V"):
        solve_with(lambda A, b: np.ones_like(b) if b is chain.success else 0 * b, chain)
    system = np.diag(chain.leaving) - chain.moves.toarray()
    with pytest.raises(ValueError, match="the linear solver fails on the visits"):
        solve_with(lambda A, b: np.linalg.solve(system, b), chain)  # also when asked for A'


def test_episodes_too_long_for_double_precision_are_refused(rng):
    with pytest.raises(ValueError, match="the linear solver fails on the visits"):
        factorise(lingering(300, 1e-11, rng))


@given(mdps_with_policies())
def test_reachable_is_a_walk(mdp_and_policy):
    mdp, _ = mdp_and_policy
    arrows = merge_actions(mdp.transition).toarray() > 0
    start = mdp.initial > 0
    seen = set(np.flatnonzero(start))
    while more := {t for s in seen for t in np.flatnonzero(arrows[s])} - seen:
        seen |= more
    assert set(np.flatnonzero(reachable(merge_actions(mdp.transition), start))) == seen


def ladder(rng: np.random.Generator, widths: list[int], n_actions: int) -> csr_array:
    """Moves from each layer to any later one; states in shuffled order."""
    S = sum(widths)
    layer = rng.permutation(np.repeat(np.arange(len(widths)), widths))
    P = rng.random((S, n_actions, S)) * (layer[:, None, None] < layer[None, None, :])
    P *= rng.random(P.shape) < 0.5
    P *= rng.random((S, n_actions, 1)) / np.maximum(P.sum(axis=2, keepdims=True), 1e-9)
    return csr_array(P.reshape(S * n_actions, S))


def test_sweeps_agree_with_elimination(rng):
    S, A = 30, 4
    transition = ladder(rng, [3, 9, 1, 10, 7], A)
    success = (1 - transition.sum(axis=1).reshape(S, A)) * rng.random((S, A))
    mdp = SuccessMDP(transition, success, rng.dirichlet(np.ones(S)))
    policy = rng.dirichlet(np.ones(A), S)
    V, Q, visits = sweep(find_layers(mdp.transition), policy, mdp.success, mdp.initial)
    chain = induced(mdp, policy)
    exact_V, exact_visits = exact(chain)
    assert relative_error(V, exact_V) < 1e-14
    assert relative_error(visits, exact_visits) < 1e-14
    np.testing.assert_allclose((policy * Q).sum(axis=1), V, rtol=1e-14)


def test_layers_only_lead_onwards(rng):
    transition = ladder(rng, [2, 5, 3, 6], 3)
    layers = find_layers(transition)
    rank = np.empty(16, dtype=int)
    for k, layer in enumerate(layers):
        rank[layer.states] = k
    assert sorted(np.concatenate([np.arange(16)[layer.states] for layer in layers])) == list(
        range(16)
    )
    source, target = merge_actions(transition).nonzero()
    assert (rank[source] < rank[target]).all()


def test_a_cycle_has_no_layers():
    two_cycle = csr_array(np.array([[0, 0.5], [0, 0], [0.5, 0], [0, 0]]))
    loop = csr_array(np.array([[0.5, 0], [0, 0], [0, 0], [0, 0]]))
    assert find_layers(two_cycle) is None
    assert find_layers(loop) is None


def test_too_many_layers_are_left_to_elimination():
    corridor = csr_array(np.eye(50, k=1))
    assert find_layers(corridor, limit=49) is None
    assert len(find_layers(corridor, limit=50)) == 50
