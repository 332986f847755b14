"""Absorbing Markov chains: chances of success and expected visits, to the last digit.

A chain moves between S states until it leaves them, in success or in failure. With P the moves, r
the chance of leaving in success and mu the start, the two unknowns solve a system and its
transpose,

    (I - P) V = r        V[s]: chance of success from s
    (I - P)' d = mu      d[s]: expected visits to s

and each checks the other, for mu.V = d.r: both are the chance of success from the start.

Success may be as rare as 1e-13 and episodes may be long: I - P is then nearly singular, and an
ordinary solver returns noise. But I - P is an *M-matrix*. Write its diagonal as the sum of all that
leaves a state, not as one minus what stays, and keep the elimination on the diagonal: then V and d
are accurate entry by entry, relatively (Grassmann, Taksar & Heyman 1985; O'Cinneide 1993).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgetrf, dgetrs
from scipy.sparse import csc_array, csr_array, diags_array
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.sparse.linalg import splu

Array: TypeAlias = NDArray[np.float64]
Solver: TypeAlias = Callable[[Any, Array], Array]

PRECISION = 1e-12
"""Relative residual that every solution must reach, and relative size of the last correction."""

TINY = np.finfo(float).tiny
"""Smallest normal number: below it, floats lose their relative precision."""


class NeverEnding(ValueError):
    """An episode can reach `state` and from there it never ends."""

    def __init__(self, state: int) -> None:
        super().__init__(f"an episode that reaches state {state} never ends")
        self.state = state


@dataclass(frozen=True, eq=False)
class Chain:
    """A Markov chain with two exits.

    Attributes
    ----------
    moves : csr_array (S, S)
        Probability of going to each *other* state; none is stored that is zero.
    exits : array (S,)
        Probability of ending the episode, in success or in failure.
    success : array (S,)
        Probability of ending it in success; at most `exits`.
    start : array (S,)
        Start distribution.
    """

    moves: Any
    exits: Array
    success: Array
    start: Array

    @property
    def leaving(self) -> Array:
        """Probability of leaving each state, the diagonal of I - P, summed and not subtracted."""
        return self.moves.sum(axis=1) + self.exits  # type: ignore[no-any-return]


def merge_actions(transition: csr_array) -> csr_array:
    """Lay the rows of a state's actions end to end, uncopied: its moves (S, S) under any action."""
    S = transition.shape[1]
    pointers = transition.indptr[:: transition.shape[0] // S]
    return csr_array((transition.data, transition.indices, pointers), shape=(S, S))


def reachable(moves: csr_array, start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the states that a path of positive probability reaches from those marked in `start`."""
    n = start.size
    origin = np.flatnonzero(start).astype(moves.indices.dtype)
    graph = csr_array(
        (
            np.ones(moves.nnz + origin.size),
            np.concatenate([moves.indices, origin]),
            np.append(moves.indptr, moves.nnz + origin.size),
        ),
        shape=(n + 1, n + 1),
    )
    reached = np.zeros(n + 1, dtype=bool)
    reached[breadth_first_order(graph, n, return_predecessors=False)] = True
    return reached[:n]


# --- Few states: dense elimination ------------------------------------------------------------


def eliminate(outcomes: Array, start: Array) -> tuple[Array, Array]:
    """Solve a chain given as a dense table.

    LAPACK pivots, and pivoting loses the small entries of V. Here it finds no occasion to: the
    rows of I - P are diagonally dominant, so in its *transpose* the diagonal is the largest entry
    of every column, at the start and after every step. Where dominance is so slight that rounding
    decides (episodes of a thousand steps), `eliminate_without_subtraction` takes over.

    Parameters
    ----------
    outcomes : array (S, 2 + S)
        Probability of success, of failure, and of moving to each *other* state (0 for itself).
    start : array (S,)
        Start distribution.

    Returns
    -------
    V, visits : arrays (S,)

    Raises
    ------
    NeverEnding
        If an episode can reach states that it cannot leave.
    """
    n = start.size
    leaving = outcomes @ np.ones(n + 2)
    matrix = -outcomes[:, 2:]
    matrix.reshape(-1)[:: n + 1] = leaving
    factor, swaps, _ = dgetrf(matrix.T, overwrite_a=True)
    kept = (factor.diagonal() > 1e-3 * leaving) & (swaps == np.arange(n))
    if not kept.all():
        return eliminate_without_subtraction(outcomes, start)
    V, _ = dgetrs(factor, swaps, outcomes[:, 0], trans=1)
    visits, _ = dgetrs(factor, swaps, start)
    return V, visits


def eliminate_without_subtraction(outcomes: Array, start: Array) -> tuple[Array, Array]:
    """Solve the same chain by adding, multiplying and dividing non-negative numbers only.

    States are removed from the last to the first: whoever comes to state k is sent straight on to
    where k leads next. What leaves a state is summed anew each time, never found as a difference.
    Nothing cancels, however long the episodes; and a set of states without a way out shows as an
    exact zero.

    References
    ----------
    Grassmann, Taksar & Heyman (1985), Regenerative analysis and steady state distributions for
    Markov chains, Operations Research 33.
    """
    n = start.size
    outcomes, arrivals, leaving = outcomes.copy(), start.copy(), np.empty(n)
    for k in reversed(range(n)):  # what is left: both exits and the states before k
        leaving[k] = outcomes[k, : k + 2].sum()
        if leaving[k] > 0:
            onward = outcomes[k, : k + 2] / leaving[k]
            outcomes[:k, : k + 2] += np.outer(outcomes[:k, k + 2], onward)
            arrivals[:k] += arrivals[k] * onward[2:]
    h = np.concatenate(([1.0, 0.0], np.zeros(n)))  # chance of success: of success, of failure, V
    visits = np.zeros(n)
    for k in range(n):
        arrivals[k] += visits[:k] @ outcomes[:k, k + 2]
        if leaving[k] > 0:
            h[k + 2] = outcomes[k, : k + 2] @ h[: k + 2] / leaving[k]
            visits[k] = arrivals[k] / leaving[k]
        elif arrivals[k] > 0:
            raise NeverEnding(k)
    return h[2:], visits


# --- No way back: sweeps over layers ----------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layer:
    """States that never lead back to themselves or to an earlier layer.

    Attributes
    ----------
    states : array (n,) or slice
        The layer's states.
    successors : array (m,) or slice
        The states that they can lead to, all in later layers.
    moves : csr_array (n * A, m)
        Row i * A + a: probability that action a in the i-th state leads to each successor.
    """

    states: NDArray[Any] | slice
    successors: NDArray[Any] | slice
    moves: csr_array


def find_layers(transition: csr_array, *, limit: int = 10_000) -> list[Layer] | None:
    """Sort the states into layers such that every move goes to a later one.

    Parameters
    ----------
    transition : csr_array (S * A, S)
        Row s * A + a: probability of each next state.
    limit : int
        Give up beyond this many layers: sweeping many thin layers is slower than elimination.

    Returns
    -------
    list of Layer, or None if some state can be visited twice or the layers are too many.
    """
    S = transition.shape[1]
    A = transition.shape[0] // S
    moves = merge_actions(transition)
    arrows_in = np.bincount(moves.indices, minlength=S)
    position = np.empty(S, dtype=transition.indices.dtype)
    states = np.flatnonzero(arrows_in == 0)
    layers: list[Layer] = []
    found = 0
    while states.size and len(layers) < limit:
        rows = transition[(states[:, None] * A + np.arange(A)).ravel()]
        successors, arrows = np.unique(rows.indices, return_counts=True)
        position[successors] = np.arange(successors.size)
        local = csr_array(
            (rows.data, position[rows.indices], rows.indptr),
            shape=(states.size * A, successors.size),
        )
        layers.append(Layer(_as_slice(states), _as_slice(successors), local))
        found += states.size
        arrows_in[successors] -= arrows
        states = successors[arrows_in[successors] == 0]
    return layers if found == S else None


def _as_slice(states: NDArray[Any]) -> NDArray[Any] | slice:
    """Write sorted states as a slice if none is left out between them: no copies in a sweep."""
    if states.size and states[-1] - states[0] == states.size - 1:
        return slice(int(states[0]), int(states[-1]) + 1)
    return states


def sweep(
    layers: Sequence[Layer], policy: Array, success: Array, start: Array
) -> tuple[Array, Array, Array]:
    """Solve an acyclic decision process: V and Q in one pass back, the visits in one pass forth.

    Parameters
    ----------
    policy, success : arrays (S, A)
    start : array (S,)

    Returns
    -------
    V : array (S,)
    Q : array (S, A)
    visits : array (S,)
    """
    V, Q, visits = np.zeros_like(start), np.empty_like(success), start.copy()
    for layer in reversed(layers):
        q = success[layer.states]
        q = q + (layer.moves @ V[layer.successors]).reshape(q.shape)
        Q[layer.states] = q
        V[layer.states] = np.einsum("sa,sa->s", policy[layer.states], q)
    for layer in layers:
        flow = policy[layer.states] * visits[layer.states][:, None]
        visits[layer.successors] += layer.moves.T @ flow.ravel()
    return V, Q, visits


# --- Many states, cycles: sparse elimination, or the caller's solver --------------------------


def factorise(chain: Chain) -> tuple[Array, Array]:
    """Solve a chain by one sparse factorisation with all pivots on the diagonal.

    The rows of I - P, read as columns, are its transpose: that is what is factored. V is then
    corrected by the factor's own means with a residual that does not cancel, so that nothing is
    lost over long episodes either; the visits are, if they do not agree with it.

    Returns
    -------
    V, visits : arrays (S,)

    Raises
    ------
    NeverEnding
        If an episode can reach states that it cannot leave.
    ValueError
        If episodes last so long (some 1e7 moves) that rounding spoils the visits.
    """
    chain = _open_unreachable_traps(chain)
    matrix = _system(chain)
    factor: Any = splu(
        csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        panel_size=2,  # few columns of the factor are dense: narrow panels are a third faster
        options={"SymmetricMode": True},
    )
    del matrix
    V = _corrected("V", lambda b: factor.solve(b, "T"), _surplus, chain.success, chain)
    visits = factor.solve(chain.start)
    rate = chain.start @ V
    ends = abs(visits @ chain.exits - 1) <= PRECISION / 2  # every episode ends once
    if not (ends and abs(visits @ chain.success - rate) <= PRECISION / 2 * rate):
        visits = _corrected("the visits", factor.solve, _imbalance, chain.start, chain)
    return V, visits


def solve_with(solver: Solver, chain: Chain) -> tuple[Array, Array]:
    """Solve a chain with the caller's `solver`, which is not trusted.

    `solver(A, b)` returns an x with A x = b, more or less: it is called again on what that leaves
    over, and the answer is accepted once nothing is.

    Raises
    ------
    NeverEnding
        If an episode can reach states that it cannot leave.
    ValueError
        If the corrections do not die out.
    """
    chain = _open_unreachable_traps(chain)
    matrix = _system(chain)
    transpose = csr_array(matrix.T)
    V = _corrected("V", lambda b: solver(matrix, b), _surplus, chain.success, chain)
    visits = _corrected(
        "the visits", lambda b: solver(transpose, b), _imbalance, chain.start, chain
    )
    for name, x, left_over in (
        ("V", V, _surplus(chain, V)),
        ("the visits", visits, _imbalance(chain, visits)),
    ):
        if (abs(left_over) > PRECISION * chain.leaving * x + TINY).any():
            raise ValueError(f"the linear solver fails on {name}: it leaves its residual as it is")
    return V, visits


def _corrected(
    name: str,
    solve: Callable[[Array], Array],
    residual: Callable[[Chain, Array], Array],
    target: Array,
    chain: Chain,
) -> Array:
    """Solve, then correct until no entry changes by more than a relative `PRECISION`."""
    x = np.asarray(solve(target), dtype=float)
    before, change = np.inf, np.inf
    while change < before / 2 or before == np.inf:
        correction = solve(residual(chain, x))
        x = x + correction
        before, change = change, float((abs(correction) / np.maximum(x, TINY)).max())
        if change <= PRECISION:
            return x
    raise ValueError(
        f"the linear solver fails on {name}: "
        f"its last correction still changed the answer by a relative {change:.1e}"
    )


def _surplus(chain: Chain, V: Array) -> Array:
    """Return the residual of V as a sum of differences V[t] - V[s], exact where it must be."""
    moves = chain.moves
    gains = moves.data * (V[moves.indices] - V[_sources(moves)])
    return chain.success - chain.exits * V + np.bincount(_sources(moves), gains, V.size)


def _imbalance(chain: Chain, visits: Array) -> Array:
    """Return the residual of the visits: flow in minus flow out, in extended precision."""
    moves = chain.moves.astype(np.longdouble)
    inflow = chain.start + moves.T @ visits.astype(np.longdouble)
    outflow = (moves.sum(axis=1) + chain.exits) * visits
    return (inflow - outflow).astype(float)  # type: ignore[no-any-return]


def _system(chain: Chain) -> csr_array:
    """Write I - P as sorted sparse rows without stored zeros."""
    matrix = csr_array(diags_array(chain.leaving, format="csr") - chain.moves)
    matrix.sort_indices()
    return matrix


def _open_unreachable_traps(chain: Chain) -> Chain:
    """Refuse a chain that can be trapped; give the traps that it never reaches an exit in failure.

    A trap is a set of states without an exit or a way out. V = 0 there, for never ending is not
    success, and so says the system once the exit makes it regular.
    """
    moves = chain.moves
    count, component = connected_components(moves, connection="strong")
    source, target = component[_sources(moves)], component[moves.indices]
    closed = np.ones(count, dtype=bool)
    closed[source[source != target]] = False
    closed[component[chain.exits > 0]] = False
    if not closed.any():
        return chain
    trapped = closed[component]
    entered = trapped & reachable(moves, chain.start > 0)
    if entered.any():
        raise NeverEnding(int(entered.argmax()))
    return Chain(moves, chain.exits + trapped, chain.success, chain.start)


def _sources(moves: csr_array) -> NDArray[np.int32]:
    """Name the state that each stored move leaves."""
    return np.repeat(np.arange(moves.shape[0], dtype=np.int32), np.diff(moves.indptr))
