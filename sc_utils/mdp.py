"""Finite episodes that end in success or failure: what a policy achieves, and the best policy.

An episode starts in a state drawn from mu. In state s action a ends it in success, ends it in
failure, or moves to a state s'. Success is the only reward. For a policy pi, with P_pi and r_pi
the moves and the successes averaged over its actions::

    V = r_pi + P_pi V          chance of success from s
    Q = success + P V          the same, once a is chosen
    d = mu + P_pi' d           expected visits to s per episode
    rho = mu.V = d.r_pi        chance of success
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from sc_utils.absorption import (
    PRECISION,
    Chain,
    Layer,
    NeverEnding,
    Solver,
    eliminate,
    factorise,
    find_layers,
    merge_actions,
    reachable,
    solve_with,
    sweep,
)
from sc_utils.probabilities import Array, as_policy

__all__ = ["Evaluation", "SuccessMDP", "evaluate", "maximise_success"]

SLACK = 1e-10
"""How far rounding may take a sum of probabilities from its due; a larger error is refused."""

CERTAIN = np.array([1.0, 0.0])
"""Chance of success of the two exits, success and failure."""

FEW_STATES = 256
"""Up to so many states, dense elimination is the fastest."""


@dataclass(frozen=True, eq=False)
class SuccessMDP:
    """A finite episodic decision process whose episodes end in success or in failure.

    Only the S states in which there is something to decide are stored. Success and failure are
    exits: what `transition` and `success` leave of an action's probability is `failure`. Arrays
    are copied and made read-only.

    Attributes
    ----------
    transition : csr_array (S * A, S)
        Row s * A + a: probability that action a in state s leads to each next state.
    success : array (S, A)
        Probability that the action ends the episode in success.
    initial : array (S,)
        Start distribution.
    labels : array (S,)
        The caller's own names of the states, by default 0, ..., S - 1.

    Raises
    ------
    ValueError
        If a shape does not fit, S or A is zero, an entry is not a probability, an action has
        probabilities that sum to more than one, the start distribution does not sum to one, two
        states share a label, or no policy can succeed from the start.

    Examples
    --------
    Two tries at a coin: either toss it now, or pass once and toss it later.

    >>> transition = [[[0, 0], [0, 1]], [[0, 0], [0, 0]]]
    >>> mdp = SuccessMDP.from_dense(transition, success=[[0.5, 0], [0.5, 0.5]], initial=[1, 0])
    >>> mdp.failure
    array([[0.5, 0. ],
           [0.5, 0.5]])
    """

    transition: csr_array
    success: Array
    initial: Array
    labels: NDArray[Any] = field(default=cast("NDArray[Any]", None))

    def __post_init__(self) -> None:
        success = np.array(self.success, dtype=float)
        S, A = _table_shape(success)
        table: Any = self.transition
        transition = csr_array(table, dtype=np.float64, copy=True)
        if transition.shape != (S * A, S):
            raise ValueError(
                f"transition must have shape (S * A, S) = {(S * A, S)}, got {transition.shape}; "
                "SuccessMDP.from_dense takes shape (S, A, S)"
            )
        transition.sum_duplicates()
        initial = np.array(self.initial, dtype=float)
        if initial.shape != (S,):
            raise ValueError(f"initial must have shape (S,) = {(S,)}, got {initial.shape}")
        labels = np.arange(S) if self.labels is None else np.array(self.labels)
        if labels.shape != (S,):
            raise ValueError(f"labels must have shape (S,) = {(S,)}, got {labels.shape}")

        def place(k: int) -> str:
            row = int(np.searchsorted(transition.indptr, k, side="right")) - 1
            return f"transition[{row // A}, {row % A}, {transition.indices[k]}]"

        _refuse_improbable(transition.data, place)
        _refuse_improbable(success.ravel(), lambda k: f"success[{k // A}, {k % A}]")
        _refuse_improbable(initial, lambda s: f"initial[{s}]")
        if abs(initial.sum() - 1) > SLACK:
            raise ValueError(f"initial must sum to 1, got {initial.sum():.12g}")
        if len(set(labels.tolist())) < S:
            names, counts = np.unique(labels, return_counts=True)
            raise ValueError(
                f"labels must differ, got {names[counts.argmax()]} {counts.max()} times"
            )

        transition.eliminate_zeros()
        if max(transition.nnz, *transition.shape) <= np.iinfo(np.int32).max:  # half the memory
            transition.indices = transition.indices.astype(np.int32)
            transition.indptr = transition.indptr.astype(np.int32)
        moving = transition.sum(axis=1).reshape(S, A)
        if (success + moving > 1 + SLACK).any():
            s, a = np.argwhere(success + moving > 1 + SLACK)[0]
            raise ValueError(
                f"success[{s}, {a}] + sum(transition[{s}, {a}]) must not exceed 1, "
                f"got {success[s, a] + moving[s, a]:.12g}"
            )
        for array in (
            transition.data,
            transition.indices,
            transition.indptr,
            success,
            initial,
            labels,
        ):
            array.setflags(write=False)
        object.__setattr__(self, "transition", transition)
        object.__setattr__(self, "success", success)
        object.__setattr__(self, "initial", initial)
        object.__setattr__(self, "labels", labels)
        if not success[reachable(merge_actions(transition), initial > 0)].any():
            raise ValueError(
                "success is impossible: no state that can be reached from the start has any"
            )

    @classmethod
    def from_dense(
        cls,
        transition: ArrayLike,
        success: ArrayLike,
        initial: ArrayLike,
        labels: ArrayLike | None = None,
    ) -> "SuccessMDP":
        """Build an MDP from a full table.

        Parameters
        ----------
        transition : array (S, A, S)
            Probability that action a in state s leads to each next state.
        success : array (S, A)
        initial : array (S,)
        labels : array (S,), optional

        Raises
        ------
        ValueError
            As `SuccessMDP`.
        """
        table, chances = np.asarray(transition, dtype=float), np.asarray(success, dtype=float)
        S, A = _table_shape(chances)
        if table.shape != (S, A, S):
            raise ValueError(
                f"transition must have shape (S, A, S) = {(S, A, S)}, got {table.shape}"
            )
        rows = csr_array(table.reshape(S * A, S))
        return cls(rows, chances, cast("Array", initial), cast("NDArray[Any]", labels))

    @property
    def n_states(self) -> int:
        """Number S of states."""
        return int(self.success.shape[0])

    @property
    def n_actions(self) -> int:
        """Number A of actions."""
        return int(self.success.shape[1])

    @cached_property
    def failure(self) -> Array:
        """Probability (S, A) that the action ends the episode in failure.

        It is what the other probabilities leave of one. A remainder that rounding alone can produce
        counts as zero: a failure rate below about 1e-15 cannot be told from none.
        """
        outcomes = np.diff(self.transition.indptr).reshape(self.success.shape) + 2
        remainder = 1 - self.success - self.transition.sum(axis=1).reshape(self.success.shape)
        remainder[remainder < outcomes * np.finfo(float).eps] = 0
        remainder.setflags(write=False)
        return remainder

    @cached_property
    def _layers(self) -> list[Layer] | None:
        return find_layers(self.transition)

    @cached_property
    def _outcomes(self) -> tuple[Array, NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Every outcome of every action, as an entry of the dense table that `eliminate` takes.

        Returns its probability, its row s * A + a, its column (0 success, 1 failure, 2 + s' next
        state) and its place s * (2 + S) + column.
        """
        S, A = self.success.shape
        actions = np.arange(S * A)
        chance = np.concatenate([self.success.ravel(), self.failure.ravel(), self.transition.data])
        moving = np.repeat(actions, np.diff(self.transition.indptr))
        rows = np.concatenate([actions, actions, moving])
        exits = np.repeat([0, 1], S * A)
        columns = np.concatenate([exits, self.transition.indices + np.intp(2)])
        return chance, rows, columns, rows // A * (S + 2) + columns


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one policy achieves in one MDP. Arrays are read-only.

    Attributes
    ----------
    policy : array (S, A)
        Action probabilities in each state.
    V : array (S,)
        Chance of success from each state.
    Q : array (S, A)
        Chance of success once the action is chosen.
    visits : array (S,)
        Expected visits per episode: not normalised, they sum to the mean number of decisions.
    success_rate : float
        Chance of success from the start distribution.
    """

    policy: Array
    V: Array
    Q: Array
    visits: Array
    success_rate: float

    def __post_init__(self) -> None:
        for array in (self.policy, self.V, self.Q, self.visits):
            array.setflags(write=False)


def evaluate(mdp: SuccessMDP, policy: ArrayLike, *, solver: Solver | None = None) -> Evaluation:
    """Evaluate a policy exactly: solve (I - P_pi) V = r_pi, and the transpose for the visits.

    V is accurate relatively and entry by entry, even where success is as rare as 1e-13. The road
    follows from the MDP: dense elimination if states are few or moves dense, one sweep back and
    one forth if no state can be visited twice, else one sparse factorisation. Memory grows with
    the number of transitions, and with the fill of the factor.

    Parameters
    ----------
    mdp : SuccessMDP
    policy : array (S, A)
        Action probabilities in each state.
    solver : callable, optional
        ``solver(A, b) -> x`` with A x = b for a sparse (S, S) matrix A, to be used instead. It is
        called for V, with the transpose for the visits, and again on what its answers leave over,
        until nothing is: a loose tolerance costs calls, not accuracy. For example ``lambda A, b:
        scipy.sparse.linalg.gmres(A, b, rtol=1e-6, restart=40)[0]``.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        If the policy does not fit or is not one, an episode may never end under it, `solver` does
        not solve, or the solution fails its check: mu.V = visits.r_pi up to a relative 1e-12.

    Notes
    -----
    From a state that the policy never reaches, episodes may go on for ever. Never ending is not
    success: V is the least non-negative solution there.

    Examples
    --------
    >>> bandit = SuccessMDP.from_dense(np.zeros((1, 2, 1)), success=[[0.25, 0.75]], initial=[1])
    >>> evaluate(bandit, [[0.5, 0.5]]).success_rate
    0.5
    """
    pi = _checked_policy(mdp, policy)
    try:
        V, Q, visits, r_pi = _solve(mdp, pi, solver)
    except NeverEnding as trap:
        label = mdp.labels[trap.state]
        raise ValueError(
            f"an episode that reaches state {label} never ends under this policy"
        ) from None
    success_rate = float(mdp.initial @ V)
    gap = abs(success_rate - float(visits @ r_pi))
    if not gap <= PRECISION * success_rate:
        raise ValueError(
            f"the solution fails its check: "
            f"mu.V = {success_rate:.6e} and visits.r_pi differ by {gap:.1e}"
        )
    return Evaluation(pi, V, Q, visits, success_rate)


def maximise_success(mdp: SuccessMDP) -> Evaluation:
    """Evaluate a policy with the greatest chance of success from every state, by policy iteration.

    Starts from the uniform policy. A state changes its action only for one that is strictly
    better, which is what keeps episodes ending: a set of states that a new policy never leaves
    would consist of states that had nothing to gain by it. Where all actions are equally good
    from the start, the policy stays uniform.

    Raises
    ------
    ValueError
        If an episode can reach a state from which it never ends, whatever the actions.

    References
    ----------
    Puterman (1994), Markov Decision Processes, section 7.2 (positive models).

    Examples
    --------
    >>> bandit = SuccessMDP.from_dense(np.zeros((1, 2, 1)), success=[[0.25, 0.75]], initial=[1])
    >>> maximise_success(bandit).policy
    array([[0., 1.]])
    """
    S, A = mdp.success.shape
    best = evaluate(mdp, np.full((S, A), 1 / A))
    while True:
        better = best.Q.max(axis=1) > best.V * (1 + 10 * PRECISION)
        if not better.any():
            return best
        policy = best.policy.copy()
        policy[better] = np.eye(A)[best.Q[better].argmax(axis=1)]
        best = evaluate(mdp, policy)


def _solve(mdp: SuccessMDP, pi: Array, solver: Solver | None) -> tuple[Array, Array, Array, Array]:
    """V, Q, visits and r_pi, by the road that fits the MDP."""
    S, A = pi.shape
    if solver is None and (S <= FEW_STATES or S * S <= 8 * mdp.transition.nnz):
        chance, rows, columns, places = mdp._outcomes
        table = _sum_by(places, chance * pi.reshape(-1)[rows], S * (S + 2))
        table[2 :: S + 3] = 0  # moves from a state to itself
        outcomes = table.reshape(S, S + 2)
        V, visits = eliminate(outcomes, mdp.initial)
        h = np.concatenate((CERTAIN, V))
        Q = _sum_by(rows, chance * h[columns], S * A).reshape(S, A)
        return V, Q, visits, outcomes[:, 0]
    r_pi = np.einsum("sa,sa->s", pi, mdp.success)
    if solver is None and mdp._layers is not None:
        return *sweep(mdp._layers, pi, mdp.success, mdp.initial), r_pi
    average = csr_array((pi.reshape(-1), np.arange(S * A), np.arange(0, S * A + 1, A)))
    moves = average @ mdp.transition
    moves.data[np.repeat(np.arange(S), np.diff(moves.indptr)) == moves.indices] = 0
    moves.eliminate_zeros()
    exits = r_pi + np.einsum("sa,sa->s", pi, mdp.failure)
    chain = Chain(moves, exits, r_pi, mdp.initial)
    V, visits = factorise(chain) if solver is None else solve_with(solver, chain)
    return V, mdp.success + (mdp.transition @ V).reshape(S, A), visits, r_pi


def _sum_by(places: NDArray[np.intp], values: Array, size: int) -> Array:
    return np.bincount(places, values, size)  # type: ignore[return-value]  # weights make floats


def _table_shape(success: Array) -> tuple[int, int]:
    if success.ndim != 2:
        raise ValueError(f"success must have shape (S, A), got {success.shape}")
    S, A = success.shape
    if S == 0 or A == 0:
        raise ValueError(f"an MDP needs at least one state and one action, got S={S} and A={A}")
    return S, A


def _checked_policy(mdp: SuccessMDP, policy: ArrayLike) -> Array:
    pi = np.array(policy, dtype=float, order="C")
    if pi.shape != mdp.success.shape:
        raise ValueError(f"policy must have shape (S, A) = {mdp.success.shape}, got {pi.shape}")
    error = pi @ np.ones(pi.shape[1]) - 1
    if not (pi.min() >= 0 and error @ error <= SLACK**2):  # the quick look; now a closer one
        as_policy(pi)
    return pi


def _refuse_improbable(values: Array, place: Callable[[int], str]) -> None:
    """Refuse the first of `values` that is no probability, naming its `place`."""
    fine = (values >= 0) & (values <= 1 + SLACK)
    if not fine.all():
        k = int(fine.argmin())
        fault = "is not a number" if np.isnan(values[k]) else "must lie between 0 and 1"
        raise ValueError(f"{place(k)} {fault}, got {values[k]:.12g}")
