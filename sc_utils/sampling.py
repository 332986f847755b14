"""The bridge from a decision process to data: episodes drawn from it, all at once.

`sample_log` gives every decision of every episode. `sample_counts` gives only how often each action
was taken, and how often successfully; its cost hardly depends on the number of episodes.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from sc_utils.absorption import reachable
from sc_utils.logs import Counts, Log
from sc_utils.mdp import SuccessMDP
from sc_utils.probabilities import Array, as_count, as_generator, as_policy

__all__ = ["sample_counts", "sample_log"]

EPISODES_AT_ONCE = 16_384  # of which a processor's cache holds all that a step needs
LAYERS_AT_ONCE = 4_000  # bounds the memory of `sample_counts` when episodes are long
LARGEST_BATCH = 10**9 - 1  # the largest urn of NumPy's hypergeometric sampler

Integers = NDArray[np.intp]
Counted = NDArray[np.int64]


def sample_log(
    mdp: SuccessMDP, policy: ArrayLike, n_episodes: int, *, rng: np.random.Generator
) -> Log:
    """Draw independent episodes, and keep every decision.

    Parameters
    ----------
    mdp
        With S states and A actions.
    policy
        Behaviour, shape (S, A).
    n_episodes
        How many, at least 1.
    rng
        Source of randomness.

    Returns
    -------
    Log
        Ordered by episode (0 to n_episodes - 1), then by time.

    Raises
    ------
    TypeError
        If `n_episodes` is not an integer or `rng` is not a generator.
    ValueError
        If the policy does not fit, an episode may never end under it, or `n_episodes` is below 1.

    Examples
    --------
    >>> coin = SuccessMDP.from_dense([[[0.5]]], success=[[0.25]], initial=[1])
    >>> log = sample_log(coin, [[1]], 4, rng=np.random.default_rng(1))
    >>> log.episode
    array([0, 0, 1, 2, 2, 3])

    Notes
    -----
    All episodes advance together. One uniform number per step draws the action and what follows it
    from the alias table of the state (Walker 1977; Vose 1991).
    """
    n, rng = as_count(n_episodes, "n_episodes"), as_generator(rng)
    steps = _joint_steps(mdp, policy)
    threshold, cell = _alias_tables(steps.probability)
    start = rng.choice(mdp.n_states, n, p=mdp.initial)
    branch, length, success = _run_episodes(steps, threshold, cell, start, rng)
    return Log(
        episode=np.repeat(np.arange(n), length),
        state=branch // (2 * steps.n_cells),
        action=steps.action.astype(branch.dtype).take(cell).take(branch),
        success=np.repeat(success, length),
    )


def sample_counts(
    mdp: SuccessMDP, policy: ArrayLike, n_episodes: int, *, rng: np.random.Generator
) -> Counts:
    """Draw what ``Counts.from_log`` would count in a log of independent episodes, without the log.

    The counts have exactly the joint law of that route: a state visited twice in an episode counts
    twice, and shares one outcome. Time grows with the length of the longest episode, and hardly
    with their number: 10^8 episodes on FrozenLake take less than a second.

    Parameters
    ----------
    mdp
        With S states and A actions.
    policy
        Behaviour, shape (S, A).
    n_episodes
        How many, at least 1.
    rng
        Source of randomness.

    Returns
    -------
    Counts
        Visits and successes, shape (S, A).

    Raises
    ------
    TypeError
        If `n_episodes` is not an integer or `rng` is not a generator.
    ValueError
        If the policy does not fit, an episode may never end under it, or `n_episodes` is below 1.

    Examples
    --------
    >>> coin = SuccessMDP.from_dense([[[0.5]]], success=[[0.25]], initial=[1])
    >>> counts = sample_counts(coin, [[1]], 10**8, rng=np.random.default_rng(1))
    >>> (counts.visits / 10**8).round(3), (counts.successes / counts.visits).round(3)
    (array([[2.]]), array([[0.5]]))

    Notes
    -----
    Episodes in the same state at the same time are exchangeable. Forward in time, it is therefore
    enough to draw how many of them take each step: multinomial flows. Backward in time, those that
    enter a state are alike too: which of them will succeed is a draw without replacement, so the
    successes split over the flows that enter by the multivariate hypergeometric law.
    """
    n, rng = as_count(n_episodes, "n_episodes"), as_generator(rng)
    steps = _joint_steps(mdp, policy)
    start = np.flatnonzero(mdp.initial)
    mu = mdp.initial[start] / mdp.initial.sum()
    visits = np.zeros(steps.next.size, dtype=np.int64)
    successes = np.zeros_like(visits)
    for size in _batches(n, LARGEST_BATCH):
        tokens = np.zeros(mdp.n_states, dtype=np.int64)
        tokens[start] = rng.multinomial(size, mu)
        _flow_forth_and_back(steps, tokens, rng, visits, successes)
    pair = (np.arange(mdp.n_states)[:, np.newaxis] * mdp.n_actions + steps.action).ravel()
    return Counts(
        visits=_sum_by(pair, visits, mdp.success.size).reshape(mdp.success.shape),
        successes=_sum_by(pair, successes, mdp.success.size).reshape(mdp.success.shape),
    )


@dataclass(frozen=True, eq=False)
class _Steps:
    """The steps a policy can take: in each state up to K *cells*, pairs of action and next state.

    Cell k of state s has the number s * K + k. A state's cells stand in increasing order of
    probability, those it does not need first, with probability 0. S and S + 1 are the next states
    of success and failure.
    """

    probability: Array  # (S, K)
    action: Integers  # (S, K)
    next: Integers  # (S, K)

    @property
    def n_states(self) -> int:
        return len(self.next)

    @property
    def n_cells(self) -> int:
        return len(self.next.T)


def _joint_steps(mdp: SuccessMDP, policy: ArrayLike) -> _Steps:
    """Tabulate what a policy does, after checking that it fits and that its episodes end."""
    pi = as_policy(policy)
    if pi.shape != mdp.success.shape:
        raise ValueError(f"policy must have shape (S, A) = {mdp.success.shape}, got {pi.shape}")
    S, A = pi.shape
    pairs = np.arange(S * A)
    moves = mdp.transition
    pair = np.concatenate([np.repeat(pairs, np.diff(moves.indptr)), pairs, pairs])
    target = np.concatenate([moves.indices, np.full(S * A, S), np.full(S * A, S + 1)])
    p = np.concatenate([moves.data, mdp.success.ravel(), mdp.failure.ravel()]) * pi.ravel()[pair]

    taken = np.flatnonzero(p)
    taken = taken[np.lexsort((p[taken], pair[taken] // A))]
    state = pair[taken] // A
    _refuse_never_ending(mdp, state, target[taken])
    sizes = np.bincount(state, minlength=S)
    K = int(sizes.max())
    place = np.arange(taken.size) + np.repeat((np.arange(S) + 1) * K - sizes.cumsum(), sizes)
    columns = []
    for values in (p, pair % A, target.astype(np.intp)):
        table = np.zeros(S * K, dtype=values.dtype)
        table[place] = values[taken]
        columns.append(table.reshape(S, K))
    probability, action, following = columns
    return _Steps(probability / probability.sum(axis=1, keepdims=True), action, following)


def _refuse_never_ending(mdp: SuccessMDP, state: Integers, target: Integers) -> None:
    """Refuse a policy that can reach a state from which no step leads to an exit."""
    S = mdp.n_states
    stays = target < S
    ends = np.zeros(S, dtype=np.bool_)
    ends[state[~stays]] = True
    if ends.all():
        return
    moves = csr_array((np.ones(stays.sum()), (state[stays], target[stays])), shape=(S, S))
    trapped = reachable(moves, mdp.initial > 0) & ~reachable(csr_array(moves.T), ends)
    if trapped.any():
        label = mdp.labels[np.argmax(trapped)]
        raise ValueError(f"an episode that reaches state {label} never ends under this policy")


def _batches(n: int, size: int) -> list[int]:
    return [size] * (n // size) + [n % size] * (n % size > 0)


def _alias_tables(probability: Array) -> tuple[Array, Integers]:
    """Make one uniform number enough to draw a cell, in a time that does not depend on K.

    Each state has K columns of equal width, filled by at most two cells: the column's own up to a
    threshold, another above. Repeatedly, a cell too light for its column is topped up from the
    heaviest.

    Returns
    -------
    threshold : (S K,)
        Place within the state's K columns up to which a column belongs to its own cell.
    cell : (2 S K,)
        Numbers of two cells for each column, the other and its own.
    """
    S, K = probability.shape
    mass, other = probability * K, np.tile(np.arange(K), (S, 1))
    rows = np.arange(S)
    low, high = np.zeros(S, dtype=np.intp), np.full(S, K - 1)
    light = low.copy()
    for _ in range(K - 1):  # each round closes one column in every state
        other[rows, light] = high
        mass[rows, high] -= 1 - mass[rows, light]
        spent = mass[rows, high] < 1
        low += ~spent
        light = np.where(spent, high, low)
        high = high - spent
    first = rows[:, np.newaxis] * K
    own = first + np.arange(K)
    return (np.arange(K) + mass).ravel(), np.stack([first + other, own], axis=2).ravel()


def _run_episodes(
    steps: _Steps, threshold: Array, cell: Integers, start: Integers, rng: np.random.Generator
) -> tuple[Integers, Integers, NDArray[np.bool_]]:
    """Run one episode from each start to its end, many side by side.

    An episode that ends leaves its place to the next one that waits, so that arrays keep their size
    almost to the last.

    Returns
    -------
    branch
        Indices into `cell`, episode by episode.
    length, success
        Of each episode.
    """
    n, K, last = start.size, steps.n_cells, steps.n_states * steps.n_cells
    next_column = steps.next.ravel()[cell] * K  # the first one of the next state; `last`: success
    born, died = np.zeros((2, n), dtype=np.intp)
    success = np.zeros(n, dtype=np.bool_)
    history = []
    begun, time = min(n, EPISODES_AT_ONCE), 0
    episode, column = np.arange(begun), start[:begun] * K
    small = np.result_type(np.int32, np.min_scalar_type(-cell.size))  # half the memory, if it fits
    while episode.size:
        u = rng.random(episode.size) * K  # below: `take` gathers faster than square brackets
        branch = u.astype(np.intp) + column
        branch = 2 * branch + (u < threshold.take(branch))
        history.append((episode, branch.astype(small)))
        column = next_column.take(branch)
        time += 1
        ended = np.flatnonzero(column >= last)
        died[episode[ended]] = time
        success[episode[ended]] = column[ended] == last
        places = ended[: n - begun]
        new = np.arange(begun, begun + places.size)
        begun += places.size
        episode = episode.copy()  # the old one is history
        episode[places], column[places], born[new] = new, start[new] * K, time
        if begun == n:
            alive = np.flatnonzero(column < last)
            episode, column = episode[alive], column[alive]

    length = died - born
    shift = length.cumsum() - length - born
    branches = np.empty(length.sum(), dtype=small)
    for time, (episode, branch) in enumerate(history):
        branches[shift.take(episode) + time] = branch
    return branches, length, success


def _flow_forth_and_back(
    steps: _Steps,
    tokens: Counted,
    rng: np.random.Generator,
    visits: Counted,
    successes: Counted,
) -> None:
    """Add to `visits` and `successes`, per cell, what `tokens` (S,) starting episodes do.

    Time is cut into stretches. The way back repeats their flows, each with a copy of the source of
    randomness as it was, instead of remembering them all.
    """
    stretches: list[tuple[Counted, np.random.Generator]] = []
    layers: list[tuple[Integers, Counted]] = []
    while tokens.any():
        stretches.append((tokens, deepcopy(rng)))
        layers = list(islice(_flow(steps, tokens, rng), LAYERS_AT_ONCE))
        for cells, flow in layers:
            visits[cells] += flow
        tokens = _arrivals(steps, *layers[-1])[: steps.n_states]

    succeed = np.zeros(steps.n_states, dtype=np.int64)
    for tokens, rng_then in reversed(stretches):
        layers = layers or list(islice(_flow(steps, tokens, rng_then), LAYERS_AT_ONCE))
        while layers:
            cells, flow = layers.pop()
            arrived = _arrivals(steps, cells, flow)
            lucky = np.concatenate([succeed, [arrived[steps.n_states], 0]])
            won = _split(lucky, steps.next.ravel()[cells], flow, rng)
            successes[cells] += won
            succeed = _sum_by(cells // steps.n_cells, won, steps.n_states)


def _flow(
    steps: _Steps, tokens: Counted, rng: np.random.Generator
) -> Iterator[tuple[Integers, Counted]]:
    """Yield, for one moment after the other, the cells that are taken and how often."""
    while tokens.any():
        states = np.flatnonzero(tokens)
        flow = rng.multinomial(tokens[states], steps.probability[states])
        row, column = np.nonzero(flow)
        cells, flow = states[row] * steps.n_cells + column, flow[row, column]
        yield cells, flow
        tokens = _arrivals(steps, cells, flow)[: steps.n_states]


def _arrivals(steps: _Steps, cells: Integers, flow: Counted) -> Counted:
    """Return how many episodes arrive in each state and at the two exits, shape (S + 2,)."""
    return _sum_by(steps.next.ravel()[cells], flow, steps.n_states + 2)


def _split(
    chosen: Counted,
    group: Integers,
    sizes: Counted,
    rng: np.random.Generator,
) -> Counted:
    """Choose ``chosen[g]`` members of each group g without replacement; return how many per part.

    Part i belongs to ``group[i]`` and has ``sizes[i]`` members. All groups advance together: their
    first parts, their second parts, and so on.
    """
    drawn = np.zeros_like(sizes)
    parts = np.flatnonzero(chosen[group])
    parts = parts[np.argsort(group[parts], kind="stable")]
    rank = np.arange(parts.size) - np.searchsorted(group[parts], group[parts])
    left, rest = chosen.copy(), _sum_by(group, sizes, chosen.size)
    turns = np.split(parts[np.argsort(rank, kind="stable")], np.bincount(rank).cumsum()[:-1])
    for turn in turns:
        g = group[turn]
        rest[g] -= sizes[turn]
        drawn[turn] = rng.hypergeometric(sizes[turn], rest[g], left[g])
        left[g] -= drawn[turn]
    return drawn


def _sum_by(group: Integers, values: Counted, n_groups: int) -> Counted:
    # bincount adds weights as floats, exactly below 2^53
    return np.bincount(group, values, n_groups).astype(np.int64)
