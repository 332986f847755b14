"""Absorbing Markov chains: the chance of success from every state, the expected visits, every digit.

A chain moves between S states until it leaves them, in success or in failure. With P the moves, r the
chance of leaving in success and mu the start, the two unknowns solve a system and its transpose,

    (I - P) V = r        V[s]: chance of success from s
    (I - P)' d = mu      d[s]: expected visits to s

and each checks the other, for mu.V = d.r: both are the chance of success from the start.

Where the digits go, and why none are lost here. Success may be as rare as 1e-13 and episodes long, so
I - P is nearly singular and an ordinary solver returns noise. But it is an *M-matrix*: if its diagonal is
written as the sum of all that leaves a state (moves to others, and exits) rather than as one minus the
rest, and if elimination stays on the diagonal, then V and d are determined entry by entry as accurately
as the data are (Grassmann, Taksar & Heyman 1985; O'Cinneide 1993). `Chain` holds exactly those data.
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
    moves : csr_array or array (S, S)
        Probability of going to each *other* state: the diagonal is zero. A state that keeps its place
        only waits, and waiting changes neither system: its row is the row of the other outcomes.
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
    def diagonal(self) -> Array:
        """Probability of leaving each state: the diagonal of I - P, summed without cancellation."""
        return self.moves @ np.ones(self.exits.size) + self.exits  # type: ignore[no-any-return]


def merge_actions(transition: csr_array) -> csr_array:
    """Moves (S, S) under any action: the rows of a state's actions, end to end, not copied."""
    S = transition.shape[1]
    pointers = transition.indptr[:: transition.shape[0] // S]
    return csr_array((transition.data, transition.indices, pointers), shape=(S, S))


def reachable(moves: csr_array, start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """States that a path of positive probability reaches from the states marked in `start`."""
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

    LAPACK pivots, and pivoting loses the small entries of V. Here it finds no occasion to: the rows
    of I - P are diagonally dominant, so in its *transpose* the diagonal is the largest entry of every
    column, at the start and after every step. Where dominance is so slight that rounding decides
    (episodes of a thousand steps), `eliminate_without_subtraction` takes over.

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
    Nothing cancels, however long the episodes; and a set of states without a way out shows as an exact
    zero.

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


# --- No way back: sweeps over layers --------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Layer:
    """States that never lead back to themselves or to an earlier layer.

    Attributes
    ----------
    states : array (n,)
        The layer's states.
    successors : array (m,)
        The states that they can lead to, all in later layers.
    moves : csr_array (n * A, m)
        Row i * A + a: probability that action a in the i-th state leads to each successor.
    """

    states: NDArray[np.intp]
    successors: NDArray[np.intp]
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
    position = np.empty(S, dtype=np.intp)
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
        layers.append(Layer(states, successors, local))
        found += states.size
        arrows_in[successors] -= arrows
        states = successors[arrows_in[successors] == 0]
    return layers if found == S else None


def sweep(
    layers: Sequence[Layer], policy: Array, success: Array, start: Array
) -> tuple[Array, Array, Array]:
    """Solve an acyclic decision process: V and Q backwards, visits forwards, two passes over the moves.

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
    V, Q, visits = np.zeros(start.size), success.copy(), start.copy()
    for layer in reversed(layers):
        q = Q[layer.states]
        q += (layer.moves @ V[layer.successors]).reshape(q.shape)
        Q[layer.states] = q
        V[layer.states] = np.einsum("sa,sa->s", policy[layer.states], q)
    for layer in layers:
        flow = policy[layer.states] * visits[layer.states, None]
        visits[layer.successors] += layer.moves.T @ flow.ravel()
    return V, Q, visits


# --- Many states, cycles: sparse elimination, or the caller's solver ------------------------------------


def factorise(chain: Chain) -> tuple[Array, Array]:
    """Solve a chain whose moves are sparse by one factorisation, pivots kept on the diagonal.

    The rows of I - P, read as columns, are its transpose: that is what is factored, at no cost. Both
    solutions are then corrected with residuals that do not cancel (see `_refine`).

    Returns
    -------
    V, visits : arrays (S,)

    Raises
    ------
    NeverEnding
        If an episode can reach states that it cannot leave.
    ValueError
        If the episodes are so long (about 1e10 steps) that double precision cannot verify the visits.
    """
    chain = _let_unreachable_traps_end(chain)
    matrix = _system(chain)
    factor = splu(
        csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    del matrix
    return _refine(chain, lambda b: factor.solve(b, "T"), factor.solve)


def solve_with(solver: Solver, chain: Chain) -> tuple[Array, Array]:
    """Solve a chain whose moves are sparse with the caller's `solver`, which is not trusted.

    `solver(A, b)` returns an x with A x = b, roughly: it is called again on what is left over, and the
    answer is accepted when nothing is.

    Raises
    ------
    NeverEnding
        If an episode can reach states that it cannot leave.
    ValueError
        If the corrections do not die out.
    """
    chain = _let_unreachable_traps_end(chain)
    matrix = _system(chain)
    transposed = matrix.T.tocsr()
    return _refine(chain, lambda b: solver(matrix, b), lambda b: solver(transposed, b))


def _refine(
    chain: Chain, solve: Callable[[Array], Array], solve_transposed: Callable[[Array], Array]
) -> tuple[Array, Array]:
    """Solve both systems, then correct until no entry changes by more than `PRECISION`, relatively.

    A correction is only as good as the residual it starts from, and for long episodes the textbook one,
    b - A x, is all cancellation. That of V is therefore summed over differences V[t] - V[s] along
    moves, which are exact where they are small; that of the visits, over flows in and out in extended
    precision.
    """
    moves, diagonal = chain.moves, chain.diagonal
    rows = np.repeat(np.arange(diagonal.size, dtype=moves.indices.dtype), np.diff(moves.indptr))

    def surplus(V: Array) -> Array:
        gains = moves.data * (V[moves.indices] - V[rows])
        return chain.success - chain.exits * V + np.bincount(rows, gains, V.size)  # type: ignore[no-any-return]

    precise = moves.astype(np.longdouble)
    outflow = precise.sum(axis=1) + chain.exits

    def imbalance(visits: Array) -> Array:
        inflow = precise.T @ visits.astype(np.longdouble)
        return (chain.start + inflow - outflow * visits).astype(float)  # type: ignore[no-any-return]

    V = _corrected("V", solve, surplus, chain.success, diagonal)
    visits = _corrected("the visits", solve_transposed, imbalance, chain.start, diagonal)
    return V, visits


def _corrected(
    name: str,
    solve: Callable[[Array], Array],
    residual: Callable[[Array], Array],
    target: Array,
    diagonal: Array,
) -> Array:
    x = np.asarray(solve(target), dtype=float)
    change, last = np.inf, np.inf
    while change < last / 2 or last == np.inf:
        left_over = residual(x)
        if change <= PRECISION and (abs(left_over) <= PRECISION * diagonal * x).all():
            return x
        correction = solve(left_over)
        x = x + correction
        last, change = change, float(_ratio(abs(correction), abs(x)).max())
    raise ValueError(
        f"the linear solver failed on {name}: correcting its answer by its own means still changes it by a "
        f"relative {change:.1e} (wanted {PRECISION:.0e})"
    )


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.zeros_like(whole), where=part != 0)


def _system(chain: Chain) -> csr_array:
    """I - P as sorted sparse rows, without stored zeros."""
    matrix = csr_array(diags_array(chain.diagonal, format="csr") - chain.moves)
    matrix.sort_indices()
    return matrix


def _let_unreachable_traps_end(chain: Chain) -> Chain:
    """Refuse a chain that can be trapped; give traps that it cannot reach an exit in failure.

    A trap is a set of states that has no exit and no way out. V = 0 there (never ending is not
    success), and so says the system with the exit added: its solution is the least non-negative one.
    """
    moves = chain.moves
    count, component = connected_components(moves, connection="strong")
    rows = np.repeat(np.arange(component.size), np.diff(moves.indptr))
    open_ = np.zeros(count, dtype=bool)
    open_[component[chain.exits > 0]] = True
    open_[component[rows[component[rows] != component[moves.indices]]]] = True
    if open_.all():
        return chain
    trapped = ~open_[component]
    entered = trapped & reachable(moves, chain.start > 0)
    if entered.any():
        raise NeverEnding(int(entered.argmax()))
    return Chain(moves, chain.exits + trapped, chain.success, chain.start)
