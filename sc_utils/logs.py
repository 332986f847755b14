"""Episodes as practitioners store them: one row per decision, with the outcome of its episode.

What they tell of the conditioned policy and of influence is estimated here. Nothing here knows the
MDP that produced the rows.
"""

from dataclasses import dataclass
from operator import index
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sc_utils.intervals import noncentral_interval, noncentral_p_value
from sc_utils.probabilities import Array, as_policy

__all__ = ["Counts", "InfluenceEstimate", "Log", "estimate_influence", "estimate_policy"]

Integers = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Log:
    """Decisions of many episodes: a table with one row per decision.

    The rows of an episode stand together, in order of time; episodes may be numbered in any way.
    The columns are not copied, and are read-only through the log.

    Attributes
    ----------
    episode
        Number of the episode the decision belongs to, shape (N,), integers.
    state
        Index of the state it was made in, shape (N,), integers >= 0.
    action
        Index of the action taken, shape (N,), integers >= 0.
    success
        Whether the episode ended in success, shape (N,), booleans; the same in all its rows.

    Raises
    ------
    TypeError
        If a column is not of its type; booleans are not guessed from 0 and 1.
    ValueError
        If there is no row, the columns are not vectors of one length, an index is negative, an
        episode both succeeds and fails, or its rows are apart; the message names the place.

    Examples
    --------
    >>> log = Log(episode=[0, 0, 1], state=[0, 1, 0], action=[1, 1, 0], success=[True, True, False])
    >>> Counts.from_log(log, n_states=2, n_actions=2).successes.tolist()
    [[0, 1], [0, 1]]
    >>> Log(episode=[7, 7, 8], state=[0, 1, 0], action=[1, 1, 0], success=[True, False, False])
    Traceback (most recent call last):
    ...
    ValueError: episode 7 both succeeds and fails: success[0] is True, success[1] is False
    """

    episode: Integers
    state: Integers
    action: Integers
    success: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for name in ("episode", "state", "action", "success"):
            column = np.asarray(getattr(self, name)).view()
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        if np.size(self.episode) == 0:
            raise ValueError("a log needs at least one row")
        for name, kind in [("episode", "iu"), ("state", "iu"), ("action", "iu"), ("success", "b")]:
            column = getattr(self, name)
            if column.dtype.kind not in kind:
                wanted = "booleans" if kind == "b" else "integers"
                raise TypeError(f"{name} must hold {wanted}, got {column.dtype}")
            if column.ndim != 1 or column.shape != self.episode.shape:
                raise ValueError(
                    f"the columns of a log must be vectors of one length: "
                    f"episode has shape {self.episode.shape}, {name} has shape {column.shape}"
                )
        for name in ("state", "action"):
            column = getattr(self, name)
            if column.min() < 0:
                row = int(np.argmax(column < 0))
                raise ValueError(f"{name}[{row}] must not be negative, got {column[row]}")
        self._check_episodes()

    def _check_episodes(self) -> None:
        # A log may hold 10^8 rows: a few linear passes, and a sort only if episodes are unordered.
        changes = np.flatnonzero(self.success[1:] != self.success[:-1])
        torn = changes[self.episode[changes] == self.episode[changes + 1]]
        if torn.size:
            row = int(torn[0])
            raise ValueError(
                f"episode {self.episode[row]} both succeeds and fails: success[{row}] is "
                f"{self.success[row]}, success[{row + 1}] is {self.success[row + 1]}"
            )
        if (self.episode[1:] >= self.episode[:-1]).all():
            return
        first_rows = np.flatnonzero(np.append(True, self.episode[1:] != self.episode[:-1]))
        numbers, runs = np.unique(self.episode[first_rows], return_counts=True)
        if (runs > 1).any():
            number = numbers[np.argmax(runs > 1)]
            row, again = first_rows[self.episode[first_rows] == number][:2]
            raise ValueError(
                f"the rows of episode {number} must stand together, "
                f"but it starts at row {row} and again at row {again}"
            )


@dataclass(frozen=True, eq=False)
class Counts:
    """How often each action was taken in each state, and how often in an episode that succeeded.

    An episode that returns to a state counts there once per visit.

    Attributes
    ----------
    visits
        Decisions per state and action, shape (S, A), integers >= 0.
    successes
        Those among them that lie in successful episodes, shape (S, A), integers.

    Raises
    ------
    TypeError
        If the counts are not integers.
    ValueError
        If the shapes are not one (S, A), or not 0 <= successes <= visits; the message names the
        place.

    Examples
    --------
    >>> Counts(visits=[[3, 1]], successes=[[1, 2]])
    Traceback (most recent call last):
    ...
    ValueError: successes[0, 1] must lie between 0 and visits[0, 1] = 1, got 2
    """

    visits: Integers
    successes: Integers

    def __post_init__(self) -> None:
        for name in ("visits", "successes"):
            table = np.asarray(getattr(self, name)).view()
            table.setflags(write=False)
            object.__setattr__(self, name, table)
            if table.dtype.kind not in "iu":
                raise TypeError(f"{name} must hold integers, got {table.dtype}")
        if self.visits.ndim != 2 or self.visits.shape != self.successes.shape:
            raise ValueError(
                f"visits and successes must have one shape (S, A), "
                f"got {self.visits.shape} and {self.successes.shape}"
            )
        wrong = (self.successes < 0) | (self.successes > self.visits)
        if wrong.any():
            s, a = np.argwhere(wrong)[0]
            raise ValueError(
                f"successes[{s}, {a}] must lie between 0 and visits[{s}, {a}] = "
                f"{self.visits[s, a]}, got {self.successes[s, a]}"
            )

    @classmethod
    def from_log(cls, log: Log, n_states: int, n_actions: int) -> Self:
        """Count the rows of a log.

        Parameters
        ----------
        log
            The decisions to count.
        n_states, n_actions
            Shape of the tables, S and A.

        Raises
        ------
        ValueError
            If the log holds a state >= S or an action >= A; the message names the row.
        """
        shape = (index(n_states), index(n_actions))
        for name, limit in zip(("state", "action"), shape, strict=True):
            column = getattr(log, name)
            if column.max() >= limit:
                row = int(np.argmax(column >= limit))
                raise ValueError(f"{name}[{row}] must be below {limit}, got {column[row]}")
        pair = np.ravel_multi_index((log.state, log.action), shape)
        visits, successes = (
            np.bincount(pairs, minlength=shape[0] * shape[1]).reshape(shape)
            for pairs in (pair, pair[log.success])
        )
        return cls(visits, successes)


@dataclass(frozen=True, eq=False)
class InfluenceEstimate:
    """What a log says about the action-influence of each state. All arrays have shape (S,).

    Attributes
    ----------
    value
        Unbiased estimate of I(s), at least -1; negative in most states that have no
        influence. NaN where fewer than two successful episodes came.
    low, high
        Confidence interval, 0 <= low <= high; [0, inf] where `value` is NaN.
    p_value
        Of the hypothesis I(s) = 0; 1 where `value` is NaN.
    decisions
        Successful visits, counted as often as an episode returned.
    design_effect
        Variance of the actions' shares, on average over actions, over what it would be for as many
        independent visits; 1 if no success came twice. NaN where `value` is. The interval allows
        for it.
    """

    value: Array
    low: Array
    high: Array
    p_value: Array
    decisions: Integers
    design_effect: Array


def estimate_policy(log: Log, n_states: int, n_actions: int) -> Array:
    r"""Imitate the successes: return :math:`\hat\pi_+(a|s)`, the actions' shares in their rows.

    It is the policy of highest likelihood on the successful episodes.

    Parameters
    ----------
    log
        With at least one success.
    n_states, n_actions
        S and A.

    Returns
    -------
    Array
        Shape (S, A). Uniform in states to which no success came: the log says nothing about them.

    Raises
    ------
    ValueError
        If no episode succeeds, or the log holds a state >= S or an action >= A.

    Examples
    --------
    >>> log = Log(episode=[0, 0, 1], state=[0, 0, 0], action=[1, 0, 0], success=[True, True, False])
    >>> estimate_policy(log, n_states=2, n_actions=2)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    counts = Counts.from_log(log, n_states, n_actions).successes
    _refuse_no_success(log)
    total = counts.sum(axis=1, keepdims=True)
    nothing = np.full(counts.shape, 1 / counts.shape[1])
    policy: Array = np.divide(counts, total, out=nothing, where=total > 0)
    return policy


def estimate_influence(
    log: Log, behaviour: ArrayLike, *, confidence: float = 0.95
) -> InfluenceEstimate:
    r"""Estimate :math:`I(s) = \sum_a \pi_+(a|s)^2 / \pi_0(a|s) - 1` from successful episodes.

    With :math:`N_{ea}` the visits to s in which success e played a, :math:`n_e` their sum over a,
    and all sums over pairs of *different* episodes,

    .. math:: \hat I = \frac{\sum_{e \ne f} \sum_a N_{ea} N_{fa} / \pi_0(a|s)}
                           {\sum_{e \ne f} n_e n_f} - 1 .

    Two decisions of one episode share its fortune; those of different episodes do not.

    Parameters
    ----------
    log
        With at least one success; failures are not looked at.
    behaviour
        The policy that played, shape (S, A); known, not estimated from the log.
    confidence
        Of the intervals, in (0, 1).

    Returns
    -------
    InfluenceEstimate
        In each state the interval is `noncentral_interval` of
        :math:`T = K - 1 + N \hat I / \delta`, scaled back; N counts the visits, K the actions
        that the behaviour plays, and delta gives T the variance of its law.

    Raises
    ------
    ValueError
        If no episode succeeds, `behaviour` is not a policy, the log holds a state or an action it
        has no place for, or an action that it never plays; or `confidence` is not in (0, 1).

    Examples
    --------
    >>> from sc_utils.environments import bandit
    >>> from sc_utils.sampling import sample_log
    >>> log = sample_log(bandit([0.2, 0.6]), [[0.5, 0.5]], 1000, rng=np.random.default_rng(1))
    >>> found = estimate_influence(log, [[0.5, 0.5]])
    >>> [round(float(x[0]), 2) for x in (found.low, found.value, found.high)]  # 1/4 in truth
    [0.21, 0.28, 0.38]

    Notes
    -----
    The pairs make it a U-statistic (Hoeffding 1948). Visits that share an episode are allowed for
    as in surveys that sample clusters (Rao and Scott 1981): by their average effect on Pearson's
    statistic as far as there is no influence, by that in its direction as far as there is.
    """
    pi_0 = as_policy(behaviour, "behaviour")
    if pi_0.ndim != 2:
        raise ValueError(f"behaviour must have shape (S, A), got {pi_0.shape}")
    sums = _sum_visits(log, pi_0)
    N, n = sums.actions, sums.actions.sum(axis=1)
    weight = np.divide(1, pi_0, out=np.zeros_like(pi_0), where=pi_0 > 0)
    with np.errstate(invalid="ignore"):  # 0 / 0 where fewer than two successes came
        value = ((N**2 - sums.same) * weight).sum(axis=1) / (n**2 - sums.many.sum(axis=1)) - 1
    K = (pi_0 > 0).sum(axis=1)
    value = np.where(K > 1, value, 0.0 * value)
    df, known = np.maximum(K - 1, 1), np.isfinite(value)
    signal = n * np.where(known, value, 0)
    effect = _design_effect(sums, weight)
    delta = _scale(sums, pi_0, weight, df, effect, np.maximum(signal, 0))
    T = np.where(K > 1, df + signal / delta, 0)
    low, high = noncentral_interval(T, df, confidence=confidence)
    scale = delta / np.maximum(n, 1)
    return InfluenceEstimate(
        value=value,
        low=np.where(known, low * scale, 0),
        high=np.where(K == 1, 0, np.where(known, high * scale, np.inf)),
        p_value=np.where(known, noncentral_p_value(T, df, 0), 1.0),
        decisions=n.astype(np.intp),
        design_effect=np.where(known, effect, np.nan),
    )


@dataclass(frozen=True, eq=False)
class _VisitSums:
    """Sums over the successful visits to each state, by action, shape (S, A)."""

    actions: Array  # N_a, of 1
    same: Array  # sum_e N_ea^2: of the visits of the same episode with the same action
    many: Array  # sum_e N_ea n_e: of the visits of the same episode
    clustering: Array  # (S,): variance of the episodes' summed ratios over that of single visits

    def steady(self, ratio: Array) -> Array:
        """Mend a ratio of variances, shape (S,), for the shares having been fitted to few episodes.

        One episode more, in which visits do not depend on each other, keeps it from 0.
        """
        n = np.maximum(self.actions.sum(axis=1), 1)
        episodes = np.maximum(n**2 / np.maximum(self.many.sum(axis=1), 1), 1)
        left = np.maximum(n - n / episodes, 1e-9)
        steadied: Array = (episodes * ratio * (n - 1) / left + 1) / (episodes + 1)
        return steadied


def _sum_visits(log: Log, pi_0: Array) -> _VisitSums:
    """Count successful visits, and how they bunch in episodes."""
    S, A = pi_0.shape
    N = Counts.from_log(log, S, A).successes.astype(np.float64)
    _refuse_no_success(log)
    s, a = log.state[log.success].astype(np.intp), log.action[log.success].astype(np.intp)
    if (pi_0[s, a] == 0).any():
        row = int(np.flatnonzero(log.success)[np.argmax(pi_0[s, a] == 0)])
        where = (int(log.state[row]), int(log.action[row]))
        raise ValueError(
            f"behaviour[{where[0]}, {where[1]}] is 0, but row {row} of the log takes that action"
        )
    number = log.episode[log.success]
    e = np.append(0, np.cumsum(number[1:] != number[:-1]))
    visit = _numbered(e * S + s)
    ratio = (N / np.maximum(N.sum(axis=1, keepdims=True), 1) / np.where(pi_0 > 0, pi_0, 1))[s, a]
    centred = ratio - (np.bincount(s, ratio, S) / np.maximum(N.sum(axis=1), 1))[s]
    together = np.bincount(visit, centred)[visit] * centred
    between, within = np.bincount(s, together, S), np.bincount(s, centred**2, S)

    def total(values: NDArray[np.intp]) -> Array:
        return np.asarray(np.bincount(s * A + a, values, S * A), np.float64).reshape(S, A)

    return _VisitSums(
        actions=N,
        same=total(_repeats(_numbered(visit * A + a))),
        many=total(_repeats(visit)),
        clustering=np.divide(between, within, out=np.ones(S), where=within > 1e-12),
    )


def _numbered(keys: NDArray[np.intp]) -> NDArray[np.intp]:
    """Replace each key by its number among the distinct ones."""
    numbers: NDArray[np.intp] = np.unique(keys, return_inverse=True)[1]
    return numbers


def _repeats(group: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many rows there are of each row's group."""
    return np.bincount(group)[group]


def _design_effect(sums: _VisitSums, weight: Array) -> Array:
    """Compare Pearson's statistic as it varies between episodes with that of single visits."""
    n = np.maximum(sums.actions.sum(axis=1, keepdims=True), 1)
    p = sums.actions / n
    squares = sums.same - 2 * p * sums.many + p**2 * sums.many.sum(axis=1, keepdims=True)
    between, within = ((x * weight).sum(axis=1) for x in (squares, n * p * (1 - p)))
    effect: Array = np.divide(between, within, out=np.ones(len(n)), where=within > 1e-12)
    return sums.steady(effect)


def _scale(
    sums: _VisitSums, pi_0: Array, weight: Array, df: Integers, effect: Array, signal: Array
) -> Array:
    """Solve df delta^2 + 2 signal delta = df effect^2 + 2 signal along, for its positive root.

    The left side is half the variance of delta times a noncentral chi-squared variable of mean
    df + signal / delta; the right side is that of N times the estimated influence, which is
    steeper or flatter along the influence than in other directions.
    """
    # An observation more for every two actions: a visit to one action only is no certainty.
    more = df[:, np.newaxis] + 1
    smooth = (2 * sums.actions + more * pi_0) / (2 * sums.actions.sum(axis=1, keepdims=True) + more)
    w = smooth * weight
    influence = (smooth * w).sum(axis=1) - 1
    skewed = (smooth * w**2).sum(axis=1) - (influence + 1) ** 2
    ones = np.ones_like(influence)
    along = sums.steady(sums.clustering) * np.divide(
        skewed, influence, out=ones, where=influence > 1e-12
    )
    # Below 1 it is nearly always noise, which would make small logs see what is not there.
    right = df * np.maximum(effect, 1) ** 2 + 2 * signal * along
    delta: Array = right / (np.sqrt(signal**2 + df * right) + signal)  # without cancellation
    return delta


def _refuse_no_success(log: Log) -> None:
    if not log.success.any():
        raise ValueError("no episode of the log succeeds: there is no success to learn from")
