"""Where decision processes come from: bandits, chance, grids, text, Gymnasium, Blackjack, chunks.

Every function returns a `SuccessMDP`. Discounting enters as a *hazard*: before each step takes
effect, the episode fails with that probability. An episode that would succeed after T steps then
does so with probability (1 - hazard)^T, the last step included, so that
V_hazard = E[gamma^T 1{success}] with gamma = 1 - hazard.
"""

from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import product
from math import inf, isfinite, lcm
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import breadth_first_order

from sc_utils.mdp import SuccessMDP
from sc_utils.probabilities import Array, as_array, as_count, as_generator, as_policy, first, place

if TYPE_CHECKING:
    import gymnasium

__all__ = [
    "any_ending",
    "bandit",
    "blackjack",
    "chunked",
    "expressions",
    "from_gymnasium",
    "positive_ending",
    "random_mdp",
    "return_at_least",
    "slippery_grid",
]

Outcome = Callable[[int, int, int, float, bool], str]
Table = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]

OUTCOMES = ("success", "failure", "continue")
SUM_TOLERANCE = 1e-9
MOST_PAIRS = 200_000
MOST_CHUNKS = 1_000_000


def bandit(success_probabilities: ArrayLike) -> SuccessMDP:
    """Return the process of one decision: pull an arm, succeed or fail.

    Parameters
    ----------
    success_probabilities
        Of the A arms, shape (A,).

    Returns
    -------
    SuccessMDP
        With one state; action a is arm a.

    Raises
    ------
    ValueError
        If there is no arm, or a probability is NaN or outside [0, 1]; the message names the arm.

    Examples
    --------
    >>> bandit([0.495, 0.505]).success
    array([[0.495, 0.505]])
    """
    theta = as_array(success_probabilities, "success_probabilities")
    if theta.ndim != 1 or theta.size == 0:
        raise ValueError(
            f"success_probabilities must have shape (A,) with A >= 1, got {theta.shape}"
        )
    if ((theta < 0) | (theta > 1)).any():
        where = first((theta < 0) | (theta > 1))
        raise ValueError(
            f"{place('success_probabilities', where)} must lie in [0, 1], got {theta[where]:.10g}"
        )
    return SuccessMDP.from_dense(np.zeros((1, theta.size, 1)), theta[np.newaxis], [1.0])


def random_mdp(n_states: int, n_actions: int, *, rng: np.random.Generator) -> SuccessMDP:
    """Draw a process with few successors per action, in which every action may end the episode.

    Each action leads to at most three states, uniformly drawn, with uniform weights among them. It
    ends the episode with a probability uniform on (0, 0.2), and the share of success in that is
    uniform on (0, 1). An episode therefore ends under every policy, after about ten steps, and
    success is possible from every state. The start distribution is uniform on the simplex.

    Parameters
    ----------
    n_states, n_actions
        S and A, at least 1.
    rng
        Source of randomness.

    Raises
    ------
    TypeError
        If a size is not an integer, or `rng` is not a generator.
    ValueError
        If a size is below 1.

    Examples
    --------
    >>> mdp = random_mdp(5, 3, rng=np.random.default_rng(1))
    >>> bool((mdp.success > 0).all() and (mdp.failure > 0).all())
    True
    """
    S, A = as_count(n_states, "n_states"), as_count(n_actions, "n_actions")
    as_generator(rng)
    n_successors = min(3, S)
    ends = 0.2 * (1 - rng.random((S, A)))  # rng.random() may be 0, never 1
    success = ends * (1 - rng.random((S, A)))
    stays = (1 - ends).reshape(-1, 1) * rng.dirichlet(np.ones(n_successors), S * A)
    row = np.repeat(np.arange(S * A), n_successors)
    column = rng.integers(S, size=row.size)
    transition = csr_array((stays.ravel(), (row, column)), shape=(S * A, S))
    return SuccessMDP(transition, success, rng.dirichlet(np.ones(S)), np.arange(S))


def expressions(n_digits: int = 9) -> SuccessMDP:
    """Return the process of writing ``d + e`` or ``d × e``, token by token, for a given number.

    The prompt is a number, uniform among those that two digits from 1 to `n_digits` have as a sum
    or as a product; the answer is a digit, an operator and a digit, and succeeds if its value is
    the prompt. What is no expression fails at its first wrong token.

    Parameters
    ----------
    n_digits
        D, from 1 to 9. Nine digits give 39 prompts, to which 162 answers are possible.

    Returns
    -------
    SuccessMDP
        The actions are the D + 2 tokens: the digits 1, ..., D, then + and ×. The states are the
        prefixes of answers, labelled as they are read: ``"12="``, ``"12=3"``, ``"12=3×"``. They are
        ordered by prompt, then by length (1, D and 2 D of them), digit and operator.

    Raises
    ------
    TypeError
        If `n_digits` is not an integer.
    ValueError
        If it is not between 1 and 9.

    Examples
    --------
    >>> mdp = expressions()
    >>> mdp.labels[[0, 1, 10]].tolist(), mdp.n_states, mdp.n_actions
    (['1=', '1=1', '1=1+'], 1092, 11)
    """
    D = as_count(n_digits, "n_digits")
    if D > 9:
        raise ValueError(f"n_digits must be at most 9, got {D}")
    digits = "123456789"[:D]
    value = {f"{d}+{e}": int(d) + int(e) for d, e in product(digits, repeat=2)}
    value |= {f"{d}×{e}": int(d) * int(e) for d, e in product(digits, repeat=2)}
    prompts = sorted(set(value.values()))
    prefixes = ["", *digits, *(d + operator for d, operator in product(digits, "+×"))]
    labels = [f"{prompt}={prefix}" for prompt in prompts for prefix in prefixes]
    number = {label: s for s, label in enumerate(labels)}
    tokens = [*digits, "+", "×"]
    A = len(tokens)
    success = np.zeros((len(labels), A))
    rows, columns = [], []
    for (s, label), (a, token) in product(enumerate(labels), enumerate(tokens)):
        if label + token in number:
            rows.append(s * A + a)
            columns.append(number[label + token])
        else:
            prompt, answer = (label + token).split("=")
            success[s, a] = value.get(answer) == int(prompt)
    moves = csr_array((np.ones(len(rows)), (rows, columns)), shape=(success.size, len(labels)))
    start = np.array([label.endswith("=") for label in labels]) / len(prompts)
    return SuccessMDP(moves, success, start, np.array(labels))


def slippery_grid(
    n_rows: int, n_columns: int, *, holes: ArrayLike | None = None, hazard: float = 0.0
) -> SuccessMDP:
    """Return the walk over ice from the upper left corner to the goal in the lower right one.

    The actions 0, 1, 2, 3 push left, down, right and up. The walker goes the way it is pushed or to
    either side of it, with probability 1/3 each, and stays where it is rather than leave the grid.
    The goal is success, a hole is failure. This is Gymnasium's FrozenLake at any size; a grid of
    1000 x 1000 takes seconds.

    Parameters
    ----------
    n_rows, n_columns
        Size of the grid, at least 2 cells in all.
    holes
        Where the ice is broken, booleans of shape (n_rows, n_columns); nowhere by default.
    hazard
        Probability of failure at each step, in [0, 1).

    Returns
    -------
    SuccessMDP
        Its states are the cells that can be reached; the label of row r, column c is
        ``r * n_columns + c``.

    Raises
    ------
    TypeError
        If a size is not an integer, or `holes` is not boolean.
    ValueError
        If the grid has fewer than two cells, `holes` has another shape, a hole lies under the start
        or the goal, the goal is out of reach, or the hazard lies outside [0, 1).

    Examples
    --------
    >>> slippery_grid(1, 3).success
    array([[0.        , 0.        , 0.        , 0.        ],
           [0.        , 0.33333333, 0.33333333, 0.33333333]])
    """
    shape = as_count(n_rows, "n_rows"), as_count(n_columns, "n_columns")
    ice = _as_ice(holes, shape)
    survival = 1 - _as_hazard(hazard)
    row, column = np.indices(shape).reshape(2, -1)
    # next_cell[m, c]: where move m (left, down, right, up) leads from cell c
    next_cell = np.ravel_multi_index(
        (np.add.outer([0, 1, 0, -1], row), np.add.outer([-1, 0, 1, 0], column)), shape, mode="clip"
    )

    goal = ice.size - 1
    walkable = ice & (np.arange(ice.size) != goal)
    cells = _reachable(next_cell, walkable)
    S = cells.size
    number = np.full(ice.size, -1)
    number[cells] = np.arange(S)

    # slips[s, a, j]: the cell that action a leads to from state s, in the j-th of three ways
    slips = np.moveaxis(next_cell[:, cells][(np.arange(4)[:, np.newaxis] + [-1, 0, 1]) % 4], 2, 0)
    success = (slips == goal).sum(axis=2) * (survival / 3)
    if not success.any():
        raise ValueError("the holes cut the goal off from the start")
    pair, way = np.nonzero(walkable[slips].reshape(4 * S, 3))
    columns = number[slips.reshape(4 * S, 3)[pair, way]]
    transition = csr_array((np.full(pair.size, survival / 3), (pair, columns)), shape=(4 * S, S))
    return SuccessMDP(transition, success, (cells == 0).astype(np.float64), cells)


def from_gymnasium(
    env: "gymnasium.Env[Any, Any]", *, outcome: Outcome, hazard: float = 0.0
) -> SuccessMDP:
    """Return the process that a Gymnasium environment's own table describes.

    Parameters
    ----------
    env
        An environment with a table: ``env.unwrapped.P[s][a]`` lists
        ``(probability, next state, reward, terminated)``, and
        ``env.unwrapped.initial_state_distrib`` holds the start distribution. FrozenLake,
        CliffWalking and Taxi have one. The table knows no time limit.
    outcome
        What success is, for you to say: called as ``outcome(s, a, s2, reward, terminated)`` for
        each step that can be reached, it returns "success", "failure" or "continue". A reward alone
        does not tell: CliffWalking's goal pays -1. Ready-made: `positive_ending`, `any_ending`.
    hazard
        Probability that the episode fails at each step, in [0, 1): one minus the discount factor.

    Returns
    -------
    SuccessMDP
        Its states are those that can be reached from the start, under some actions and without an
        earlier exit; `labels` are the environment's own numbers for them, in increasing order.

    Raises
    ------
    TypeError
        If the environment has no table.
    ValueError
        If `outcome` returns another word, or "continue" where the environment has terminated, or
        never returns "success"; if the probabilities of a step do not sum to 1; or if the hazard
        lies outside [0, 1). The messages name the step.

    Examples
    --------
    >>> import gymnasium
    >>> lake = from_gymnasium(gymnasium.make("FrozenLake-v1"), outcome=positive_ending)
    >>> lake.labels
    array([ 0,  1,  2,  3,  4,  6,  8,  9, 10, 13, 14])

    In CliffWalking, let a fall be the failure:

    >>> def crossing(s, a, s2, reward, terminated):
    ...     return "failure" if reward == -100 else any_ending(s, a, s2, reward, terminated)
    >>> cliff = from_gymnasium(gymnasium.make("CliffWalking-v1"), outcome=crossing, hazard=0.05)
    >>> cliff.n_states
    37
    """
    table, start = _table_of(env)
    survival = 1 - _as_hazard(hazard)
    steps = _reachable_steps(table, np.flatnonzero(start).tolist(), outcome)
    if not any(step.end == "success" for step in steps):
        raise ValueError(f"outcome never says 'success' for a step that {_name_of(env)} can take")
    states = sorted({step.state for step in steps})
    return _compiled(steps, states, np.array(states), start[states], survival)


def return_at_least(
    env: "gymnasium.Env[Any, Any]", threshold: float, *, hazard: float = 0.0
) -> SuccessMDP:
    """Return the process in which success is an episode whose return reaches a threshold.

    The return is the sum of the rewards, undiscounted. An episode succeeds if it terminates with a
    return of at least `threshold`. Whether it will depends on what has been collected so far, so a
    state of this process is a pair: a state of the environment and a return so far.

    Parameters
    ----------
    env
        An environment with a table, as for `from_gymnasium`. The table knows no time limit.
    threshold
        Least return that counts as success.
    hazard
        Probability that the episode fails at each step, in [0, 1). It does not discount rewards.

    Returns
    -------
    SuccessMDP
        `labels` has the fields "state" (the environment's number) and "return" (so far). Only pairs
        that matter are kept. An episode that can no longer reach the threshold, however lucky, is a
        failure there and then. Where the threshold can no longer be missed, however unlucky, a
        state's returns are one pair, labelled with the least return of which that is true. A policy
        of the environment, one row per state, is here ``policy[mdp.labels["state"]]``.

    Raises
    ------
    TypeError
        If the environment has no table, or `threshold` is not a number.
    ValueError
        If no episode returns that much; if there are more than 200,000 pairs, as happens where
        rewards and penalties can both be collected over and over; if a reward or the threshold is
        not finite; or as `from_gymnasium` does.

    Examples
    --------
    >>> import gymnasium
    >>> env = gymnasium.make("CliffWalking-v1")
    >>> in_fifteen_steps = return_at_least(env, -15)
    >>> in_fifteen_steps.n_states, in_fifteen_steps.labels[0].item()
    (51, (12, -2.0))

    Notes
    -----
    Numbers are added as they are written, in decimal: 0.7 + 0.1 reaches 0.8. The bounds on what is
    still to come are the weights of longest and shortest walks to an end in the graph of possible
    steps (Bellman and Ford).
    """
    table, start = _table_of(env)
    survival = 1 - _as_hazard(hazard)
    starts = np.flatnonzero(start).tolist()
    steps, goal, unit = _in_whole_units(_reachable_steps(table, starts, any_ending), threshold)
    most, least = _extreme_return(steps, 1), _extreme_return(steps, -1)
    best = max(most.get(s, -inf) for s in starts)
    if best < goal:
        raise ValueError(
            f"no episode of {_name_of(env)} returns {threshold} or more: "
            f"the best return is {best / unit:.10g}"
        )

    def pair(s: int, total: int) -> tuple[int, float]:
        return s, min(total, goal - least.get(s, -inf))  # more than that makes no difference

    initial = {pair(s, 0): start[s] for s in starts}
    steps = _steps_between_pairs(steps, list(initial), pair, goal, most)
    pairs = sorted({step.state for step in steps})
    labels = np.array(
        [(s, total / unit) for s, total in pairs],
        dtype=[("state", np.intp), ("return", np.float64)],
    )
    return _compiled(steps, pairs, labels, [initial.get(pair, 0) for pair in pairs], survival)


def positive_ending(s: int, a: int, s2: int, reward: float, terminated: bool) -> str:
    """Call an ending with positive reward a success, any other a failure: FrozenLake, Taxi."""
    return "continue" if not terminated else "success" if reward > 0 else "failure"


def any_ending(s: int, a: int, s2: int, reward: float, terminated: bool) -> str:
    """Call every ending a success: arrival is all, as in CliffWalking."""
    return "success" if terminated else "continue"


def blackjack() -> SuccessMDP:
    """Return Gymnasium's Blackjack-v1 exactly, as `gymnasium.make` sets it up; success is to win.

    An infinite deck; action 0 sticks, action 1 hits. The dealer draws to 17 and then stands, on a
    soft 17 too. A natural (an ace and a ten as first cards) beats everything but the dealer's
    natural; the dealer's natural is a 21 like any other. A draw is not a win: it is a failure.

    Returns
    -------
    SuccessMDP
        With 290 states. `labels` has the fields "player" (sum, 4 to 21), "dealer" (the card that
        shows, 1 to 10, an ace being 1), "usable_ace" and "natural". As a tuple, a label is the
        environment's observation and one more: a natural 21 wins more often than another soft 21,
        so the observation alone is not a state.

    Examples
    --------
    >>> mdp = blackjack()
    >>> hit_below_20 = np.eye(2)[(mdp.labels["player"] < 20).astype(int)]
    >>> mdp.labels[100].item()
    (14, 1, False, False)

    Notes
    -----
    The rules are those of Sutton and Barto, *Reinforcement Learning*, Example 5.1.
    """
    hands = [
        (player, dealer, ace, natural)
        for ace, natural in [(False, False), (True, False), (True, True)]
        for player in range(21 if natural else 12 if ace else 4, 22)
        for dealer in CARDS
    ]
    number = {hand: i for i, hand in enumerate(hands)}
    transition = np.zeros((len(hands), 2, len(hands)))
    success = np.zeros((len(hands), 2))
    initial = np.zeros(len(hands))
    for i, (player, dealer, ace, natural) in enumerate(hands):
        beaten = _dealer_scores(*_add_card(0, False, dealer))[:player]
        dealers_natural = {1: CARDS[10], 10: CARDS[1]}.get(dealer, 0)
        success[i, STICK] = 1 - dealers_natural if natural else sum(beaten)
        for card, p in CARDS.items():
            total, usable_ace = _add_card(player, ace, card)
            if total <= 21:
                transition[i, HIT, number[total, dealer, usable_ace, False]] += p
    for (card, p), (other, q), (dealer, r) in product(CARDS.items(), repeat=3):
        total, ace = _add_card(*_add_card(0, False, card), other)
        initial[number[total, dealer, ace, total == 21]] += p * q * r
    fields = ["player", "dealer", "usable_ace", "natural"]
    kinds = [np.intp, np.intp, np.bool_, np.bool_]
    labels = np.array(hands, dtype=list(zip(fields, kinds, strict=True)))
    return SuccessMDP.from_dense(transition, success, initial, labels)


def chunked(mdp: SuccessMDP, length: int) -> SuccessMDP:
    r"""Return the process whose actions are chunks: `length` actions, chosen at once and played.

    Nothing is looked at within a chunk. An episode that ends within it leaves the rest unplayed:

    .. math:: P(s' | s, a_1 \dots a_c) = (P_{a_1} \cdots P_{a_c})(s, s'), \qquad
       r(s, a_1 \dots a_c) = \sum_{j \le c} (P_{a_1} \cdots P_{a_{j-1}} r_{a_j})(s) .

    Parameters
    ----------
    mdp
        With S states and A actions.
    length
        The c of the chunks, at least 1.

    Returns
    -------
    SuccessMDP
        With S states and A ** c actions: the chunk (a_1, ..., a_c) is number
        ``np.ravel_multi_index(chunk, (A,) * c)``. Its policies are those that look once in c steps.

    Raises
    ------
    TypeError
        If `length` is not an integer.
    ValueError
        If it is below 1, there are more than a million pairs of a state and a chunk, or no chunks
        in a row lead to success.

    Examples
    --------
    >>> walk = slippery_grid(1, 3)
    >>> chunked(walk, 2).success.shape
    (2, 16)
    """
    S, A, c = mdp.n_states, mdp.n_actions, as_count(length, "length")
    if S * A**c > MOST_CHUNKS:
        raise ValueError(
            f"{S} states with {A}**{c} chunks are {S * A**c:,} pairs, more than {MOST_CHUNKS:,}"
        )
    moves, wins = mdp.transition, mdp.success.ravel()
    for _ in range(c - 1):  # one more action at the end of every chunk
        n = moves.shape[0]
        wins = (wins[:, np.newaxis] + moves @ mdp.success).ravel()
        each = vstack([moves @ mdp.transition[a::A] for a in range(A)]).tocsr()
        moves = csr_array(each[np.arange(n * A).reshape(A, n).T.ravel()])
    return SuccessMDP(moves, wins.reshape(S, A**c), mdp.initial, mdp.labels)


STICK, HIT = 0, 1
CARDS = {card: (4 if card == 10 else 1) / 13 for card in range(1, 11)}


def _add_card(total: int, usable_ace: bool, card: int) -> tuple[int, bool]:
    """Add a card to a hand; an ace counts 11 where that does not bust."""
    hard = total - 10 * usable_ace + card
    usable_ace = (usable_ace or card == 1) and hard + 10 <= 21
    return hard + 10 * usable_ace, usable_ace


@cache
def _dealer_scores(total: int, usable_ace: bool) -> tuple[float, ...]:
    """Return the probabilities of the dealer's final scores 0 (bust) to 21, from a hand."""
    if total >= 17:
        return tuple(float(score == (total if total <= 21 else 0)) for score in range(22))
    draws = [(p, _dealer_scores(*_add_card(total, usable_ace, card))) for card, p in CARDS.items()]
    return tuple(sum(p * scores[score] for p, scores in draws) for score in range(22))


def _as_ice(holes: ArrayLike | None, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return which cells of a grid hold, flat; the first and the last must."""
    broken = np.zeros(shape, dtype=np.bool_) if holes is None else np.asarray(holes)
    if broken.dtype != np.bool_:
        raise TypeError(f"holes must be booleans, got {broken.dtype}")
    if broken.shape != shape:
        raise ValueError(f"holes must have the grid's shape {shape}, got {broken.shape}")
    if broken.size < 2:
        raise ValueError("a grid needs two cells, a start and a goal, got 1")
    for cell, what in [((0, 0), "start"), ((shape[0] - 1, shape[1] - 1), "goal")]:
        if broken[cell]:
            raise ValueError(f"{place('holes', cell)} lies under the {what}")
    return ~broken.ravel()


def _reachable(next_cell: NDArray[np.intp], walkable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Return the walkable cells that can be reached from cell 0, in increasing order."""
    source = np.tile(np.arange(walkable.size), len(next_cell))
    target = next_cell.ravel()
    ahead = walkable[target]
    graph = csr_array(
        (np.ones(ahead.sum(), dtype=np.int8), (source[ahead], target[ahead])),
        shape=(walkable.size, walkable.size),
    )
    return np.sort(breadth_first_order(graph, 0, return_predecessors=False))


def _as_hazard(hazard: float) -> float:
    if not 0 <= hazard < 1:
        raise ValueError(f"hazard must lie in [0, 1), got {hazard}")
    return hazard


def _name_of(env: "gymnasium.Env[Any, Any]") -> str:
    spec = getattr(env, "spec", None)
    return spec.id if spec is not None else type(env).__name__


def _table_of(env: "gymnasium.Env[Any, Any]") -> tuple[Table, Array]:
    """Return an environment's transition table and its start distribution."""
    raw = getattr(env, "unwrapped", env)
    table, start = getattr(raw, "P", None), getattr(raw, "initial_state_distrib", None)
    if table is None or start is None:
        raise TypeError(
            f"{_name_of(env)} has no transition table: what is needed is env.unwrapped.P and "
            f"env.unwrapped.initial_state_distrib, as FrozenLake, CliffWalking and Taxi have"
        )
    if getattr(raw, "fickle_passenger", False):
        raise ValueError(f"the table of {_name_of(env)} leaves out its fickle passenger")
    return table, as_policy(start, "initial_state_distrib")


class _Step(NamedTuple):
    """One possible step. A state is a number, or a pair of a number and a return so far."""

    state: Any
    action: int
    following: Any
    probability: float
    reward: Any
    end: str


def _reachable_steps(table: Table, start: list[int], outcome: Outcome) -> list[_Step]:
    """Return every possible step of a reachable state."""
    steps = []
    actions = list(range(len(table[start[0]])))
    found, waiting = set(start), list(start)
    while waiting:
        s = waiting.pop()
        if sorted(table[s]) != actions:
            raise ValueError(f"P[{s}] must hold the actions {actions}, got {sorted(table[s])}")
        for a, row in table[s].items():
            total = sum(probability for probability, *_ in row)
            if abs(total - 1) > SUM_TOLERANCE:
                raise ValueError(
                    f"the probabilities of P[{s}][{a}] must sum to 1, got {total:.10g}"
                )
            for probability, s2, reward, terminated in row:
                if probability == 0:
                    continue
                end = outcome(s, a, s2, reward, terminated)
                _check_outcome(end, f"outcome(s={s}, a={a}, s2={s2}, reward={reward})", terminated)
                steps.append(_Step(s, a, s2, probability, reward, end))
                if end == "continue" and s2 not in found:
                    found.add(s2)
                    waiting.append(s2)
    return steps


def _compiled(
    steps: list[_Step],
    states: list[Any],
    labels: NDArray[Any],
    initial: ArrayLike,
    survival: float,
) -> SuccessMDP:
    """Return the process whose steps these are; its states stand in the order of `states`."""
    number = {state: i for i, state in enumerate(states)}
    S, A = len(states), 1 + max(step.action for step in steps)
    success = np.zeros((S, A))
    entries = []
    for step in steps:
        s, a, probability = number[step.state], step.action, survival * step.probability
        if step.end == "success":
            success[s, a] += probability
        elif step.end == "continue":
            entries.append((probability, s * A + a, number[step.following]))
    probabilities, rows, columns = np.array(entries).reshape(-1, 3).T
    transition = csr_array(
        (probabilities, (rows.astype(np.intp), columns.astype(np.intp))), shape=(S * A, S)
    )
    return SuccessMDP(transition, success, np.asarray(initial, dtype=np.float64), labels)


def _in_whole_units(steps: list[_Step], threshold: float) -> tuple[list[_Step], int, int]:
    """Return the steps and the threshold in whole multiples of 1/unit, and the unit."""
    goal = _as_written(threshold, "threshold")
    rewards = [
        _as_written(step.reward, f"the reward in P[{step.state}][{step.action}]") for step in steps
    ]
    unit = lcm(goal.denominator, *{reward.denominator for reward in rewards})
    whole = [
        step._replace(reward=int(reward * unit))
        for step, reward in zip(steps, rewards, strict=True)
    ]
    return whole, int(goal * unit), unit


def _as_written(value: float, name: str) -> Fraction:
    """Return the number that Python prints for `value`: 1/10 for 0.1, not the float next to it."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not isfinite(value):
        raise ValueError(f"{name} must be finite, got {value!r}")
    return Fraction(str(value))


def _extreme_return(steps: list[_Step], sign: int) -> dict[int, float]:
    """Return the greatest (sign 1) or least (sign -1) return that can still come, from each state.

    It is infinite where a cycle makes it so; a state from which no episode ends is left out. A walk
    of more steps than there are states went round a cycle, and gained by it.
    """
    before = defaultdict(list)
    best: dict[int, float] = {}
    for step in steps:
        if step.end == "continue":
            before[step.following].append((step.state, sign * step.reward))
        else:
            best[step.state] = max(best.get(step.state, -inf), sign * step.reward)
    n_steps = dict.fromkeys(best, 1)
    n_states = len({step.state for step in steps})
    waiting = deque(best)
    while waiting:
        s2 = waiting.popleft()
        for s, reward in before[s2]:
            if best[s2] + reward > best.get(s, -inf):
                n_steps[s] = n_steps[s2] + 1
                best[s] = best[s2] + reward if n_steps[s] <= n_states else inf
                waiting.append(s)
    return {s: sign * value for s, value in best.items()}


def _steps_between_pairs(
    steps: list[_Step],
    start: list[tuple[int, float]],
    pair: Callable[[int, int], tuple[int, float]],
    goal: int,
    most: Mapping[int, float],
) -> list[_Step]:
    """Return every step between pairs of state and return so far, and how it ends."""
    steps_of = defaultdict(list)
    for step in steps:
        steps_of[step.state].append(step)
    found, waiting = set(start), list(start)
    result = []
    while waiting:
        here = waiting.pop()
        for _, a, s2, probability, reward, end in steps_of[here[0]]:
            total = here[1] + reward
            there = pair(s2, total)
            if end == "continue" and total + most.get(s2, -inf) < goal:
                end = "failure"
            elif end != "continue":
                end = "success" if total >= goal else "failure"
            result.append(_Step(here, a, there, probability, reward, end))
            if end == "continue" and there not in found:
                found.add(there)
                waiting.append(there)
        if len(found) > MOST_PAIRS:
            raise ValueError(
                f"more than {MOST_PAIRS:,} pairs of state and return can be reached: raise the "
                f"threshold, so that hopeless episodes end sooner, or coarsen the rewards; where "
                f"gains and losses can both be repeated without end, no threshold helps"
            )
    return result


def _check_outcome(end: str, call: str, terminated: bool) -> None:
    if end not in OUTCOMES:
        raise ValueError(f"{call} must be 'success', 'failure' or 'continue', got {end!r}")
    if end == "continue" and terminated:
        raise ValueError(
            f"{call} says 'continue', but there the environment has terminated: "
            f"it must be 'success' or 'failure'"
        )
