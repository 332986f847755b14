"""Hypothesis strategies for decision processes and policies.

Probabilities are ratios of small integers, so a failing example is short to read and has short
exact rationals. There are never as many states as actions: a transposed array cannot hide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from sympy import Rational

from sc_utils.logs import Log
from sc_utils.mdp import SuccessMDP
from sc_utils.symbolic import ExactMDP, Trajectory

Array = NDArray[np.float64]


def _normalised(weights: NDArray[np.int64]) -> Array:
    return weights / weights.sum(axis=-1, keepdims=True)


@st.composite
def random_mdps(
    draw: st.DrawFn,
    *,
    min_states: int = 2,
    max_states: int = 5,
    min_actions: int = 3,
    max_actions: int = 4,
) -> SuccessMDP:
    """Draw an MDP, usually cyclic, that ends under every policy.

    Every action of every state ends the episode with positive probability, and at least one
    action of every state can succeed at once: under a full-support policy V is positive
    everywhere. Single actions may have no chance of success, and some states may never be
    visited.
    """
    n_actions = draw(st.integers(min_actions, max_actions))
    n_states = draw(st.integers(min_states, max_states).filter(lambda n: n != n_actions))
    weights = draw(
        arrays(np.int64, (n_states, n_actions, n_states + 2), elements=st.integers(0, 6))
    )
    # The last two columns are success and failure.
    weights[:, :, -1] += weights[:, :, -2:].sum(axis=2) == 0
    lucky = draw(arrays(np.intp, n_states, elements=st.integers(0, n_actions - 1)))
    weights[np.arange(n_states), lucky, -2] += 1
    start = draw(arrays(np.int64, n_states, elements=st.integers(0, 4)))
    start[draw(st.integers(0, n_states - 1))] += 1
    probabilities = _normalised(weights)
    return SuccessMDP.from_dense(
        probabilities[:, :, :-2], probabilities[:, :, -2], _normalised(start)
    )


@st.composite
def policies_of(draw: st.DrawFn, mdp: SuccessMDP, *, full_support: bool = True) -> Array:
    """Draw a policy of `mdp`; with ``full_support=False`` it may leave actions out."""
    shape = (mdp.n_states, mdp.n_actions)
    weights = draw(arrays(np.int64, shape, elements=st.integers(int(full_support), 8)))
    if not full_support:
        kept = draw(arrays(np.intp, mdp.n_states, elements=st.integers(0, mdp.n_actions - 1)))
        weights[np.arange(mdp.n_states), kept] += 1
    return _normalised(weights)


@st.composite
def mdps_with_policies(
    draw: st.DrawFn, *, full_support: bool = True, **sizes: int
) -> tuple[SuccessMDP, Array]:
    """Draw an MDP and one of its policies."""
    mdp = draw(random_mdps(**sizes))
    return mdp, draw(policies_of(mdp, full_support=full_support))


@st.composite
def acyclic_exact_mdps(
    draw: st.DrawFn, *, deterministic: bool = False, fixed_start: bool = False
) -> tuple[ExactMDP, list[list[Rational]]]:
    """Draw a process in exact rationals that never comes back to a state, and a policy of it.

    Its episodes can be listed one by one. Every state can succeed; with `deterministic` each action
    has one next state or one outcome.
    """
    n_states, n_actions = draw(st.sampled_from([(2, 3), (3, 2), (4, 3)]))
    transition, success, policy = [], [], []
    for s in range(n_states):
        rows, wins = [], []
        for a in range(n_actions):
            weights = [0] * (n_states + 2)  # the last two are success and failure
            later = range(s + 1, n_states + 2)
            if deterministic:
                weights[draw(st.sampled_from(later))] = 1
            else:
                for t in later:
                    weights[t] = draw(st.integers(0, 3))
                weights[-1] += sum(weights) == 0
            if a == 0 and sum(weights[:-1]) == 0:  # somebody has to succeed
                weights[-1], weights[-2] = 0, 1
            total = sum(weights)
            rows.append([Rational(x, total) for x in weights[:n_states]])
            wins.append(Rational(weights[-2], total))
        transition.append(rows)
        success.append(wins)
        choice = [draw(st.integers(1, 4)) for _ in range(n_actions)]
        policy.append([Rational(x, sum(choice)) for x in choice])
    start = [1, *(0 if fixed_start else draw(st.integers(0, 3)) for _ in range(n_states - 1))]
    initial = [Rational(x, sum(start)) for x in start]
    return ExactMDP.of(transition, success, initial), policy


def as_floats(mdp: ExactMDP) -> SuccessMDP:
    """Round an exact process."""
    table, success, initial = (
        np.array(x, dtype=float) for x in (mdp.transition, mdp.success, mdp.initial)
    )
    return SuccessMDP.from_dense(table, success, initial)


@dataclass(frozen=True)
class Listed:
    """An acyclic process and a policy in `Fraction`: its episodes one by one, without SymPy."""

    exits: list[list[tuple[Fraction, Fraction]]]  # (S, A): success, failure
    moves: list[list[list[Fraction]]]  # (S, A, S)
    initial: list[Fraction]
    policy: list[list[Fraction]]

    @classmethod
    def of(cls, mdp: ExactMDP, policy: Any) -> Listed:
        """Turn every rational of SymPy into a `Fraction`."""
        moves = [[[_fraction(p) for p in row] for row in rows] for rows in mdp.transition]
        wins = [[_fraction(r) for r in row] for row in mdp.success]
        exits = [
            [(r, 1 - r - sum(p)) for r, p in zip(rs, ps, strict=True)]
            for rs, ps in zip(wins, moves, strict=True)
        ]
        choices = [[_fraction(x) for x in row] for row in policy]
        return cls(exits, moves, [_fraction(x) for x in mdp.initial], choices)

    def switch(self, s: int, choice: Mapping[int, Fraction]) -> Listed:
        """Return the same process with another choice in one state."""
        row = [choice.get(a, Fraction(0)) for a in range(len(self.policy[s]))]
        return replace(self, policy=[*self.policy[:s], row, *self.policy[s + 1 :]])

    def episodes(self, start: int | None = None) -> Iterator[Trajectory]:
        """Yield every episode of positive probability, from a given start or from a random one."""
        starts = self.initial if start is None else [Fraction(start == s) for s in self.states]
        waiting = [(s, (), p) for s, p in enumerate(starts) if p]
        while waiting:
            s, path, p = waiting.pop()
            for a, choice in enumerate(self.policy[s]):
                taken, now = (*path, (s, a)), p * choice
                for exit_, success in zip(self.exits[s][a], (True, False), strict=True):
                    if now * exit_:
                        yield Trajectory(taken, now * exit_, success)
                waiting += [
                    (t, taken, now * move) for t, move in enumerate(self.moves[s][a]) if now * move
                ]

    @property
    def states(self) -> range:
        """All states."""
        return range(len(self.policy))


def _fraction(x: Rational) -> Fraction:
    return Fraction(int(x.p), int(x.q))


def successes_of(actions: Any, *, per_episode: int = 1) -> Log:
    """Return a log of successes only: row i of `actions` holds the decisions of state i."""
    rows = np.asarray(actions)
    return Log(
        episode=np.arange(rows.size) // per_episode,
        state=np.repeat(np.arange(len(rows)), rows.shape[1]),
        action=rows.ravel(),
        success=np.ones(rows.size, dtype=bool),
    )


@st.composite
def logs_with_returns(draw: st.DrawFn) -> tuple[Log, Array]:
    """Draw a log of 3 states and 4 actions, episodes numbered anyhow, and its rows' returns."""
    lengths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=9))
    n, rows = len(lengths), sum(lengths)
    numbers = draw(st.lists(st.integers(0, 10**6), min_size=n, max_size=n, unique=True))
    outcomes = draw(st.lists(st.booleans(), min_size=n, max_size=n))
    returns = draw(st.lists(st.sampled_from([-1.5, 0.0, 0.1, 2.0, 1e6]), min_size=n, max_size=n))
    log = Log(
        episode=np.repeat(numbers, lengths),
        state=np.array(draw(st.lists(st.integers(0, 2), min_size=rows, max_size=rows))),
        action=np.array(draw(st.lists(st.integers(0, 3), min_size=rows, max_size=rows))),
        success=np.repeat(outcomes, lengths),
    )
    return log, np.repeat(returns, lengths)
