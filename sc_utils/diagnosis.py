"""From a counted log to a verdict: whether actions matter in it, and what another round would give.

The behaviour is not known here: it is read from the same visits, failures included. Everything is
measured against what a log without influence would show.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, chdtrc, exp1, gammaln, psi, stdtrit

from sc_utils.intervals import noncentrality_needed, scaled_interval
from sc_utils.probabilities import Array
from sc_utils.tallies import Tally

__all__ = [
    "Caution",
    "Choice",
    "Diagnosis",
    "Estimate",
    "StateReport",
    "ThresholdReport",
    "diagnose",
]

POWER = 0.8
TARGETS = (0.01, 0.03, 0.1, 0.3)
MOST_THRESHOLDS = 16
COARSE = 16  # parts of the log, of which a jackknife that is dear leaves one out
LEAST_DF = 0.1  # below which a chi-squared law is a point at 0
FEW_VISITS = 5  # to an action
ALARM = 0.01  # level of the tests behind a caution

Integers = NDArray[np.signedinteger]
Weight = Callable[["_Part"], Array]


@dataclass(frozen=True)
class Estimate:
    """A number read from data, and how well it is known.

    Attributes
    ----------
    value
        The estimate; NaN where the log says nothing.
    low, high
        Its confidence interval. For an influence the interval holds the *true*, non-negative
        value; the estimate is unbiased and may lie below it.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class StateReport:
    """What a log says of one state (or prompt).

    Attributes
    ----------
    state
        Its label.
    decisions
        Visits, successful or not.
    success_rate
        Mean success of the visits.
    influence
        I(s); value NaN, interval [0, inf], where no two visits can be compared.
    p_value
        Of the hypothesis I(s) = 0, adjusted for the number of states (Holm); 1 where nothing can
        be compared.
    """

    state: str
    decisions: int
    success_rate: float
    influence: Estimate
    p_value: float


@dataclass(frozen=True)
class ThresholdReport:
    """What calling the returns of at least a threshold a success would do.

    The gain is alignment times amplification times the gain of the faithful label, which is the
    return itself.

    Attributes
    ----------
    threshold
        The least return that counts as a success.
    success_rate
        Share of the episodes that reach it.
    influence
        Gamma of this label: the relative gain in *its* success rate.
    amplification
        Root of the ratio of its influence to that of the return, both over the same visits; NaN
        where either is no more than noise.
    alignment
        Correlation of the actions' true success rates with their true mean returns, in [-1, 1];
        NaN where either is no more than noise.
    gain
        In the mean return, in its units, to first order, of one exact round with this label.
    """

    threshold: float
    success_rate: float
    influence: Estimate
    amplification: float
    alignment: Estimate
    gain: Estimate


@dataclass(frozen=True)
class Choice:
    """The threshold that looks best, and what it honestly gains.

    Attributes
    ----------
    threshold
        That of the largest estimated gain in the whole log.
    gain
        In the mean return, of choosing in this way: one half of the groups of episodes chooses,
        the other half measures, and the other way round. Choosing by looking is paid for.
    faithful
        Gain of the label that is the return itself, for comparison.
    """

    threshold: float
    gain: Estimate
    faithful: Estimate


@dataclass(frozen=True)
class Caution:
    """What may be wrong with a verdict.

    Attributes
    ----------
    kind
        ``"success"`` (none, or few), ``"coverage"``, ``"behaviour"``, ``"confounding"``,
        ``"drift"``, ``"unique"`` or ``"noise"``.
    text
        One or two sentences, with the numbers.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """What a tally says; see `diagnose`.

    Attributes
    ----------
    episodes, decisions, skipped
        How much was read; lines that were left out.
    n_states, n_actions
        Distinct states (prompts); distinct actions (answers), None if they were not kept apart.
    single
        Whether every episode is one decision.
    confidence
        Of all intervals.
    success_rate
        Over episodes; Clopper and Pearson's interval.
    mean_return
        Over episodes; None without returns.
    influence
        Gamma, summed over the decisions of a success: the relative gain, to first order, of one
        exact round. NaN, [0, inf] where the log carries no evidence.
    p_value
        Of the hypothesis that there is no influence anywhere.
    detectable
        Whether `p_value` is at most 1 - confidence; if and only if ``influence.low > 0``.
    judged
        Share of the influence's weight that lies where visits can be compared: successes that met,
        actions that recurred. The estimate takes the rest to be alike.
    pooled
        Success rate after another round, rho (1 + Gamma), to first order, at most 1.
    balanced
        Mean over the prompts that were solved of the relative gain I(x): what a trainer that counts
        prompts alike gains, in the mean of log p(x). None unless `single`.
    floor
        rho exp(skill): what an exact round reaches at least.
    deterministic
        Gamma if the verifier always judges an answer alike, whether it recurred or not: failures
        over successes in the prompts that were solved. None unless `single`, or if the log refutes
        it.
    states
        By their share of the influence, the largest first.
    sweep
        By threshold, ascending; empty without returns.
    best
        The threshold that looks best, None without returns.
    needed
        Pairs (Gamma, episodes): how many episodes in these states show such an influence with
        probability 0.8. The estimate itself, if positive, comes last.
    cautions
        In order of weight.
    """

    episodes: int
    decisions: int
    skipped: int
    n_states: int
    n_actions: int | None
    single: bool
    confidence: float
    success_rate: Estimate
    mean_return: Estimate | None
    influence: Estimate
    p_value: float
    detectable: bool
    judged: float
    pooled: Estimate
    balanced: Estimate | None
    floor: Estimate
    deterministic: Estimate | None
    states: tuple[StateReport, ...]
    sweep: tuple[ThresholdReport, ...]
    best: Choice | None
    needed: tuple[tuple[float, int], ...]
    cautions: tuple[Caution, ...]


def diagnose(tally: Tally, *, confidence: float = 0.95) -> Diagnosis:
    r"""Judge a counted log: whether there is influence, and what another round would give.

    In a state, with y the outcomes (as successes) of its n visits, :math:`n_a` of them with action
    a, and P the sum of :math:`y_i y_j` over pairs of *different* visits, :math:`P_a` over those
    with action a,

    .. math:: \hat I(s) = \frac{n - 1 + 2V}{P + 2V q}
              \Bigl(\sum_a \frac{P_a}{n_a - 1} - \frac{P}{n - 1}\Bigr), \qquad
              \hat\Gamma = \sum_s \hat d_+(s) \hat I(s) ,

    with V the mean of y and q the sum of its squares.

    Without influence, outcomes are exchangeable among the visits to a state: its mean is 0, and
    its variance is that over all permutations. Actions seen once are pooled, since a visit without
    a like tells nothing; states and actions that cannot be compared are taken to be like those
    that can (`Diagnosis.judged`).

    Parameters
    ----------
    tally
        The log; failures included, for they show the behaviour.
    confidence
        Of the intervals, in (0, 1); 1 - confidence is the level of the tests.

    Returns
    -------
    Diagnosis
        A log without a success, or without evidence, gets one, too.

    Raises
    ------
    ValueError
        If there is no episode or no decision, or `confidence` is not in (0, 1).

    Examples
    --------
    >>> from sc_utils.environments import bandit
    >>> from sc_utils.sampling import sample_log
    >>> log = sample_log(bandit([0.2, 0.6]), [[0.5, 0.5]], 1000, rng=np.random.default_rng(1))
    >>> found = diagnose(Tally.from_log(log))
    >>> round(found.influence.value, 2), found.detectable  # 1/4 in truth
    (0.26, True)

    Notes
    -----
    Two moments are matched (Satterthwaite 1946) under no influence; with it, the variance is that
    of the jackknife over groups of episodes (Wolter 2007), which knows of revisits. Visits of one
    episode do no harm under no influence: given what came before, what an action adds has mean 0.
    Far tails are not as exact: with twelve actions and a handful of successes, or of failures, a
    test at the level of 1% errs in 2% of the logs.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    if tally.episodes.sum() == 0 or tally.counts.sum() == 0:
        raise ValueError("a tally needs at least one episode and one decision")
    log = _Groups.of(tally, tally.success)
    return _Verdict(tally, log, confidence).diagnosis()


# Tables of decisions


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the decisions: of all groups, of one, of all but one."""

    state: Integers  # (P,)
    n_states: int
    N: Array  # (P, B), decisions by pair and outcome
    episodes: Array  # (B,)
    y: Array  # (B,), the label: what each outcome is worth

    def add(self, values: Array) -> Array:
        return np.asarray(np.bincount(self.state, values, self.n_states), np.float64)

    def without(self, other: "_Part") -> "_Part":
        return replace(self, N=self.N - other.N, episodes=self.episodes - other.episodes)


@dataclass(frozen=True, eq=False)
class _Groups:
    """A log by groups of episodes, under one label; outcomes that it values alike are merged."""

    tally: Tally
    merge: Array  # (B, B'): which outcomes become one
    y: Array  # (B',)

    @classmethod
    def of(cls, tally: Tally, y: Array, merge: Array | None = None) -> "_Groups":
        if merge is None:
            y, code = np.unique(y, return_inverse=True)
            merge = np.eye(y.size)[code]
        return cls(tally, merge, y)

    def part(self, groups: Any = slice(None)) -> _Part:
        """Return the decisions of some groups."""
        counts = self.tally.counts[groups].sum(axis=0)
        episodes = self.tally.episodes[groups].sum(axis=0)
        return _Part(
            self.tally.state,
            len(self.tally.states),
            counts @ self.merge,
            episodes @ self.merge,
            self.y,
        )


@dataclass(frozen=True, eq=False)
class _Table:
    """Visits to each state by action, those to actions seen once pooled.

    A lone action seen once is left out: it cannot be pooled, and has no like.
    """

    state: Integers  # (R,)
    N: Array  # (R, B), at least two decisions in each row
    visits: Array  # (S,), with those left out
    diversity: Array  # (S,), probability that two visits differ in action; NaN if visited once
    judged: Array  # (S,), that part of it which the rows show

    @classmethod
    def of(cls, part: _Part) -> "_Table":
        return cls.pool(part.state, part.n_states, part.N.sum(axis=1), part.N)

    @classmethod
    def pool(cls, state: Integers, S: int, n_a: Array, columns: Array) -> "_Table":
        once, often = n_a == 1, n_a > 1
        lone = np.bincount(state[once], minlength=S)
        pool = np.zeros((S, columns.shape[1]))
        np.add.at(pool, state[once], columns[once])
        pooled = np.flatnonzero(lone > 1)
        n, alike, repeated = (np.bincount(state, x, S) for x in (n_a, n_a * (n_a - 1), n_a * often))
        kept = np.maximum(n - (lone == 1), 1)
        with np.errstate(invalid="ignore", divide="ignore"):
            diversity = 1 - alike / (n * (n - 1))
            judged = (repeated - alike / np.maximum(kept - 1, 1)) / kept
        return cls(
            np.concatenate([state[often], pooled]),
            np.concatenate([columns[often], pool[pooled]]),
            np.asarray(n, np.float64),
            diversity,
            np.where(diversity > 1e-12, np.maximum(judged, 0), 0),
        )

    def add(self, values: Array) -> Array:
        return np.asarray(np.bincount(self.state, values, self.visits.size), np.float64)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Pairs of different visits, weighted by two labels of theirs; by state, shape (S,)."""

    n: Array
    x: Array  # sum of the first label
    total: Array  # sum of x_i y_j over pairs
    within: Array  # over those with the same action, each action's divided by n_a - 1
    lucky: Array  # sum of x_i y_i

    @classmethod
    def of(cls, table: _Table, x: Array, y: Array) -> "_Pairs":
        n_a, x_a, y_a, q_a = (table.N @ v for v in (np.ones_like(x), x, y, x * y))
        n, X, Y, q = (table.add(v) for v in (n_a, x_a, y_a, q_a))
        return cls(n, X, X * Y - q, table.add((x_a * y_a - q_a) / (n_a - 1)), q)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Whether there are two successes, or as much."""
        return (self.total > 0) & (self.x**2 >= (2 - 1e-9) * self.lucky)

    @property
    def factor(self) -> Array:
        """Return 1 / (n V^2), as pairs know it; 0 where they do not.

        A pair of successes takes part in its own V. Without the term 2 V, found by trying,
        influence in states of five visits would be overstated by a third, or half.
        """
        twice = 2 * self.x / np.maximum(self.n, 1)
        below = self.total + twice * self.lucky
        ratio = np.divide(self.n - 1 + twice, below, out=np.zeros_like(below), where=self.known)
        return np.asarray(ratio)

    @property
    def influence(self) -> Array:
        """The estimate; 0 where there is none."""
        return np.asarray((self.within - self.total / np.maximum(self.n - 1, 1)) * self.factor)


def _per_success(part: _Part) -> Array:
    """Successful visits per success, d_+."""
    wins = part.episodes @ part.y
    return part.add(part.N @ part.y) / wins if wins > 0 else np.zeros(part.n_states)


def _per_prompt(part: _Part) -> Array:
    """All that were solved alike."""
    solved = part.add(part.N @ part.y) > 0
    return np.asarray(solved / max(solved.sum(), 1))


def _judged(weight: Array, table: _Table, known: NDArray[np.bool_]) -> float:
    """Return the share of the weight that lies where visits can be compared.

    If actions differ in value by as much everywhere, a state's influence goes with the probability
    that two of its visits differ in action.
    """
    seen = table.visits > 1
    all_of_it = weight @ np.where(seen, table.diversity, 0)
    if all_of_it <= 0:
        return 1.0 if weight[seen].sum() > 0 else 0.0
    return float((weight * known) @ table.judged / all_of_it * weight[seen].sum() / weight.sum())


def _spread(weight: Array, values: Array, share: float) -> float:
    """Add up values, and let what cannot be judged be like the rest."""
    return float(weight @ values / share) if share > 0 else np.nan


# Without influence: moments over all permutations of a state's outcomes


@dataclass(frozen=True, eq=False)
class _Null:
    """Moments of the influence estimate over permutations, by state."""

    variance: Array
    noise: Array  # mean of the square that the estimate is centred by
    log_chance: Array  # of just this table

    @classmethod
    def of(cls, table: _Table, y: Array) -> "_Null":
        n_a, pairs = table.N.sum(axis=1), _Pairs.of(table, y, y)
        K = table.add(np.ones(len(n_a)))
        totals = np.stack([table.add(column) for column in table.N.T], axis=1)
        n = pairs.n
        z = y - (totals @ y / np.maximum(n, 1))[:, np.newaxis]
        m_2, m_4 = ((totals * z**k).sum(axis=1) / np.maximum(n, 1) for k in (2, 4))
        variance = _variance_of_pairs(table, n_a, n, m_2, m_4)
        factor = pairs.factor
        noise = np.maximum(K - 1, 0) * m_2 * n / np.maximum(n - 1, 1)
        return cls(
            np.maximum(variance, 0) * factor**2 * (K > 1),
            noise * factor,
            table.add(gammaln(n_a + 1) - gammaln(table.N + 1).sum(axis=1))
            + gammaln(totals + 1).sum(axis=1)
            - gammaln(n + 1),
        )


def _variance_of_pairs(table: _Table, r: Array, n: Array, m_2: Array, m_4: Array) -> Array:
    r"""Return the variance of :math:`\sum_a \sum_{i \ne j \in a} z_i z_j / (n_a - 1)`.

    The z, with moments m_2 and m_4 about their mean 0, are dealt out to the actions at random.
    """
    n_1, n_2, n_3 = (np.maximum(n - k, 1) for k in (1, 2, 3))  # what is divided by 1 is not needed
    two_pairs = np.where(n > 1, (n * m_2**2 - m_4) / n_1, 0)  # E z_1^2 z_2^2
    one_pair = np.where(n > 2, (2 * m_4 - n * m_2**2) / n_1 / n_2, 0)  # E z_1^2 z_2 z_3
    no_pair = np.where(n > 3, 3 * (n * m_2**2 - 2 * m_4) / n_1 / n_2 / n_3, 0)  # E z_1 z_2 z_3 z_4
    left = np.maximum(r - 1, 1)
    once, twice, never = (
        table.add(x / left) for x in (4 * r * (r - 2), 2 * r, r * (r - 2) * (r - 3))
    )
    across = n**2 - table.add(r**2)
    square = twice * two_pairs + once * one_pair + (never + across) * no_pair
    return np.asarray(square - (n * m_2 / n_1) ** 2)


def _skill(table: _Table, y: Array) -> Array:
    r"""Estimate :math:`\mathrm{KL}(\pi_+ \| \pi_0)` by state; 0 where there is nothing to compare.

    The digamma function takes the logarithms' bias away but for a remainder, which is known where
    there is no influence (Grassberger 2003).
    """
    n_a, S_a = table.N.sum(axis=1), table.N @ y
    n, X, q = (table.add(v) for v in (n_a, S_a, table.N @ y**2))
    known = (q > 0) & (X**2 >= (2 - 1e-9) * q)
    effective = np.divide(X, q, out=np.ones_like(X), where=known)
    s = table.state
    share = np.divide(S_a, X[s], out=np.zeros_like(S_a), where=known[s])
    wins, won = np.maximum(S_a * effective[s], 1e-12), np.maximum(X * effective, 1)
    terms = share * (psi(wins) - psi(won[s]) - psi(n_a) + psi(n[s]))
    rate = np.minimum(won / np.maximum(n, 1), 1)
    misses = -np.log1p(-np.minimum(rate, 1 - 1e-12))
    rest = n_a / n[s] * (exp1((n_a - 0.5) * misses[s]) - exp1((n[s] - 0.5) * misses[s]))
    return np.where(known, table.add(terms - rest * known[s]), 0)


# Estimates and their intervals


@dataclass(frozen=True, eq=False)
class _Signal:
    """Estimates that have mean 0, and a known variance, where there is no influence. One shape."""

    value: Array
    variance: Array  # without influence; 0 where there is no evidence
    noise: Array
    jackknife: Array  # variance, whatever the influence
    log_chance: Array  # of just these tables: no exact test could have a smaller p value

    def _law(self) -> tuple[NDArray[np.bool_], Array, Array]:
        """Return where there is evidence, and degrees of freedom and scale."""
        known = (self.variance > 0) & (self.noise > 0) & np.isfinite(self.value)
        variance, noise = (np.where(known, x, 1.0) for x in (self.variance, self.noise))
        df = np.maximum(2 * noise**2 / variance, LEAST_DF)
        return known, df, np.sqrt(variance / (2 * df))

    def p_value(self) -> Array:
        known, df, scale = self._law()
        p = chdtrc(df, np.maximum(df + np.where(known, self.value, 0) / scale, 0))
        least = np.exp(np.minimum(self.log_chance, 0))
        return np.where(known, np.maximum(p, least), 1.0)

    def interval(self, confidence: float) -> tuple[Array, Array]:
        known, df, scale = self._law()
        value = np.where(known, self.value, 0)
        slope = _slope(value, 2 * df * scale**2, np.where(known, self.jackknife, 0), scale)
        low, high = scaled_interval(value, df, scale, slope, confidence=confidence)
        low = np.where(self.p_value() <= 1 - confidence, np.maximum(low, 1e-300), 0)
        certain = np.where(np.isfinite(self.value), np.maximum(self.value, 0), np.inf)
        return low, np.where(known, high, certain)

    def estimate(self, confidence: float) -> Estimate:
        low, high = self.interval(confidence)
        return Estimate(float(self.value), float(low), float(high))


def _slope(value: Array, variance: Array, jackknife: Array, scale: Array) -> Array:
    """Return by how much the variance grows with the signal.

    A square that is all noise has twice its variance in the jackknife. A slope of 4 scales, that of
    the noncentral law, counts for as much as a signal of one standard deviation.
    """
    sd = np.sqrt(variance)
    signal = np.clip(jackknife - 2 * variance, 0, 1e300)
    return np.asarray((signal + 4 * scale * sd) / (np.maximum(value, 0) + sd))


def _jackknife(
    log: _Groups, statistics: Callable[[_Part], Array], blocks: list[Integers]
) -> tuple[Array, Array]:
    """Return estimates and their variances, by leaving out one block of groups at a time."""
    whole = log.part(np.concatenate(blocks))
    value = statistics(whole)
    total, squares, n = np.zeros_like(value), np.zeros_like(value), 0
    for block in blocks:
        part = log.part(block)
        if part.episodes.sum() > 0:
            shift = statistics(whole.without(part)) - value
            shift = np.where(np.isfinite(shift), shift, 0)
            total, squares, n = total + shift, squares + shift**2, n + 1
    if n < 2:
        return value, np.full_like(value, np.inf)
    return value, np.maximum(squares - total**2 / n, 0) * (n - 1) / n


def _mean(values: Array, weights: Array) -> tuple[float, float]:
    """Return a mean over episodes and its variance."""
    n = weights.sum()
    mean = float(weights @ values / n)
    return mean, float(weights @ (values - mean) ** 2 / n / max(n - 1, 1))


def _proportion(y: Array, episodes: Array, confidence: float) -> Estimate:
    """Clopper and Pearson's interval; other worths count as the coins that tell as much."""
    n, (mean, variance) = episodes.sum(), _mean(y, episodes)
    spread = mean * (1 - mean)
    if spread > 1e-12 and n > 1:
        n = min(n * max(spread / max(variance * (n - 1), 1e-15), 1.0), 1e15)
    wins, tail = mean * n, (1 - confidence) / 2
    low = betaincinv(wins, n - wins + 1, tail) if wins > 0 else 0.0
    high = betaincinv(wins + 1, n - wins, 1 - tail) if wins < n else 1.0
    return Estimate(mean, float(low), float(high))


def _around(value: float, variance: float, df: int, confidence: float) -> Estimate:
    if not np.isfinite(variance):
        return Estimate(value, -np.inf, np.inf)
    half = float(stdtrit(df, (1 + confidence) / 2)) * float(np.sqrt(variance))
    return Estimate(value, value - half, value + half)


def _grown(rate: Estimate, growth: Estimate) -> Estimate:
    """Return rate times exp(growth), at most 1, its error put together from the two (Zou 2008)."""
    with np.errstate(divide="ignore"):
        r, r_low, r_high = np.log([rate.value, rate.low, rate.high])
    at = max(growth.value, 0.0)
    if rate.value == 0:
        return Estimate(0.0, 0.0, 1.0)
    down = np.hypot(r - r_low, at - min(growth.low, at))
    up = np.hypot(r_high - r, max(growth.high, at) - at)
    return Estimate(*(float(np.exp(min(x, 0.0))) for x in (r + at, r + at - down, r + at + up)))


def _holm(p: Array, tested: NDArray[np.bool_]) -> Array:
    """Adjust p values for how many are tested (Holm 1979)."""
    adjusted, among = np.ones_like(p), np.flatnonzero(tested)
    order = among[np.argsort(p[among], kind="stable")]
    steps = np.maximum.accumulate(p[order] * np.arange(order.size, 0, -1))
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


# The verdict


@dataclass(frozen=True, eq=False)
class _Verdict:
    """A tally that is being judged."""

    tally: Tally
    log: _Groups
    confidence: float

    def diagnosis(self) -> Diagnosis:
        tally, level, whole = self.tally, self.confidence, self.log.part()
        rate = _proportion(whole.y, whole.episodes, level)
        signals, states = self._signals(whole)
        influence = signals["influence"].estimate(level)
        p = float(signals["influence"].p_value())
        balanced = signals["balanced"].estimate(level) if tally.single else None
        twice = signals["skill"].estimate(level)
        table = _Table.of(whole)
        judged = _judged(_per_success(whole), table, _Pairs.of(table, whole.y, whole.y).known)
        deterministic = _deterministic(self.log, level) if tally.single else None
        sweep, best = _sweep(tally, level)
        growth = Estimate(
            *np.log1p(np.maximum([influence.value, influence.low, influence.high], 0))
        )
        skill = Estimate(twice.value / 2, twice.low / 2, twice.high / 2)
        found = Diagnosis(
            episodes=int(whole.episodes.sum()),
            decisions=int(whole.N.sum()),
            skipped=tally.skipped,
            n_states=len(tally.states),
            n_actions=None if tally.actions is None else len(tally.actions),
            single=tally.single,
            confidence=level,
            success_rate=rate,
            mean_return=_mean_return(tally, level),
            influence=influence,
            p_value=p,
            detectable=p <= 1 - level,
            judged=judged,
            pooled=_grown(rate, growth),
            balanced=balanced,
            floor=_grown(rate, skill),
            deterministic=deterministic,
            states=states,
            sweep=sweep,
            best=best,
            needed=self._needed(signals["influence"], int(whole.episodes.sum())),
            cautions=(),
        )
        return replace(found, cautions=tuple(_cautions(tally, whole, found)))

    def _signals(self, whole: _Part) -> tuple[dict[str, _Signal], tuple[StateReport, ...]]:
        blocks = [np.array([g]) for g in range(len(self.tally.counts))]
        known_actions = self.tally.actions is not None
        values, spread = _jackknife(self.log, _statistics, blocks)
        coarse = [np.arange(k, len(blocks), COARSE) for k in range(min(COARSE, len(blocks)))]
        skill, skill_spread = _jackknife(self.log, _total_skill, coarse)
        table = _Table.of(whole)
        null, pairs = _Null.of(table, whole.y), _Pairs.of(table, whole.y, whole.y)
        tested = pairs.known & (null.variance > 0) & known_actions
        signals = {}
        weights = {"influence": _per_success, "balanced": _per_prompt, "skill": _per_success}
        estimates = [(values[0], spread[0]), (values[1], spread[1])]
        estimates += [(2 * skill[0], 4 * skill_spread[0])]  # 2 KL is an influence, if small
        for (name, weight), (value, jackknife) in zip(weights.items(), estimates, strict=True):
            w = weight(whole)
            share = _judged(w, table, pairs.known)
            signals[name] = _Signal(
                np.asarray(value if known_actions else np.nan),
                np.asarray((w**2 @ null.variance) / share**2 if share > 0 else 0.0),
                np.asarray((w @ null.noise) / share if share > 0 else 0.0),
                np.asarray(jackknife),
                np.asarray(null.log_chance[tested].sum()),
            )
        factor = _factor(table)
        each = _Signal(
            values[2:] if known_actions else np.full_like(values[2:], np.nan),
            np.where(tested, null.variance * factor**2, 0),
            np.where(tested, null.noise * factor, 0),
            spread[2:],
            null.log_chance,
        )
        return signals, self._reports(whole, each, tested)

    def _reports(
        self, whole: _Part, each: _Signal, tested: NDArray[np.bool_]
    ) -> tuple[StateReport, ...]:
        n, wins = whole.add(whole.N.sum(axis=1)), whole.add(whole.N @ whole.y)
        low, high = each.interval(self.confidence)
        p = _holm(each.p_value(), tested)
        share = np.where(np.isfinite(each.value), wins * np.nan_to_num(each.value), -np.inf)
        with np.errstate(invalid="ignore", divide="ignore"):
            rate = wins / n
        return tuple(
            StateReport(
                self.tally.states[s],
                int(n[s]),
                float(rate[s]),
                Estimate(float(each.value[s]), float(low[s]), float(high[s])),
                float(p[s]),
            )
            for s in np.argsort(-share, kind="stable")
        )

    def _needed(self, signal: _Signal, episodes: int) -> tuple[tuple[float, int], ...]:
        known, df, scale = (x.item() for x in signal._law())
        level = 1 - self.confidence
        if not known or not level < POWER:
            return ()
        noncentrality = noncentrality_needed(df, level=level, power=POWER)
        targets = [*TARGETS, float(signal.value)] if signal.value > 0 else [*TARGETS]
        return tuple((x, int(np.ceil(episodes * noncentrality * scale / x))) for x in targets)


def _factor(table: _Table) -> Array:
    """Return what a state's influence is scaled by, for the actions that cannot be compared."""
    nothing = np.where(
        table.diversity > 1e-12, np.nan, 1.0
    )  # with one action there is no influence
    nothing[np.isnan(table.diversity)] = np.nan
    return np.divide(table.diversity, table.judged, out=nothing, where=table.judged > 0)


def _statistics(part: _Part) -> Array:
    """Return Gamma, its balanced version, and the influence of each state."""
    table = _Table.of(part)
    pairs, d_plus, even = _Pairs.of(table, part.y, part.y), _per_success(part), _per_prompt(part)
    shares = [_judged(w, table, pairs.known) if w.any() else 0.0 for w in (d_plus, even)]
    each = np.where(pairs.known, pairs.influence * _factor(table), np.nan)
    return np.append(
        [
            _spread(d_plus, pairs.influence, shares[0]),
            _spread(even, pairs.influence, shares[1]),
        ],
        each,
    )


def _total_skill(part: _Part) -> Array:
    table, d_plus = _Table.of(part), _per_success(part)
    share = _judged(d_plus, table, _Pairs.of(table, part.y, part.y).known) if d_plus.any() else 0.0
    return np.array([_spread(d_plus, _skill(table, part.y), share)])


def _mean_return(tally: Tally, confidence: float) -> Estimate | None:
    if tally.returns is None:
        return None
    episodes = tally.episodes.sum(axis=0).astype(np.float64)
    return _around(*_mean(tally.returns, episodes), max(int(episodes.sum()) - 1, 1), confidence)


def _deterministic(log: _Groups, confidence: float) -> Estimate | None:
    """Estimate Gamma from failures in prompts that were solved, if answers are judged alike."""
    whole = log.part()
    both = (whole.N > 0).sum(axis=1) > 1
    if not np.isin(whole.y, [0, 1]).all() or log.tally.actions is None or both.any():
        return None

    def odds(part: _Part) -> Array:
        n, wins = part.add(part.N.sum(axis=1)), part.add(part.N @ part.y)
        solved = wins > 0
        return np.array([(n - wins) @ solved / max(wins.sum(), 1)])

    blocks = [np.array([g]) for g in range(len(log.tally.counts))]
    value, variance = _jackknife(log, odds, blocks)
    if not (whole.N @ whole.y).any():
        return Estimate(np.nan, 0.0, np.inf)
    found = _around(float(value[0]), float(variance[0]), len(blocks) - 1, confidence)
    return replace(found, low=max(found.low, 0.0))


# Thresholds of returns


def _sweep(tally: Tally, confidence: float) -> tuple[tuple[ThresholdReport, ...], Choice | None]:
    if tally.returns is None or tally.actions is None:
        return (), None
    Y, episodes = tally.returns, tally.episodes.sum(axis=0)
    used = np.unique(Y[episodes > 0])
    if used.size < 2:
        return (), None
    thresholds = used[1:]
    if thresholds.size > MOST_THRESHOLDS:
        thresholds = thresholds[np.linspace(0, thresholds.size - 1, MOST_THRESHOLDS).astype(int)]
    faithful = np.clip((Y - used[0]) / (used[-1] - used[0]), 0, 1)
    log = _Groups.of(tally, faithful, np.eye(Y.size))
    labels = [(Y >= theta).astype(np.float64) for theta in thresholds]

    def statistics(part: _Part) -> Array:
        return _proxies(part, labels)

    G = len(tally.counts)
    blocks = [np.arange(k, G, COARSE) for k in range(min(COARSE, G))]
    value, variance = _jackknife(log, statistics, blocks)
    values, variances = (x[1:].reshape(-1, 4) for x in (value, variance))
    unit, df = used[-1] - used[0], len(blocks) - 1
    own = _label_signal(log.part(), faithful, np.nan, np.nan)
    reports = []
    for k, theta in enumerate(thresholds):
        signal = _label_signal(log.part(), labels[k], values[k, 0], variances[k, 0])
        gain = _around(unit * values[k, 1], unit**2 * variances[k, 1], df, confidence)
        seen = (
            min(values[k, 2], value[0]) > 0
            and max(signal.p_value(), own.p_value()) <= 1 - confidence
        )
        louder = float(np.sqrt(values[k, 2] / value[0])) if seen else np.nan
        reports.append(
            ThresholdReport(
                threshold=float(theta),
                success_rate=float(labels[k] @ episodes / episodes.sum()),
                influence=signal.estimate(confidence),
                amplification=louder,
                alignment=_clipped(
                    _around(values[k, 3], variances[k, 3], df, confidence), bool(seen)
                ),
                gain=gain,
            )
        )
    choice = Choice(
        threshold=float(thresholds[int(np.nanargmax(_finite(values[:, 1])))]),
        gain=_honest_gain(log, statistics, blocks, unit, confidence),
        faithful=_around(unit * value[0], unit**2 * variance[0], df, confidence),
    )
    return tuple(reports), choice


def _finite(values: Array) -> Array:
    return np.where(np.isfinite(values), values, -1e300)


def _clipped(estimate: Estimate, seen: bool) -> Estimate:
    if not seen:
        return Estimate(np.nan, -1.0, 1.0)
    return Estimate(
        *(float(np.clip(x, -1, 1)) for x in (estimate.value, estimate.low, estimate.high))
    )


def _proxies(part: _Part, labels: Iterable[Array]) -> Array:
    """Return the faithful gain; then of each label Gamma, gain and, over the same visits, more.

    Gains are those of the scaled return; the last two are the label's influence and its alignment.
    """
    table, E = _Table.of(part), np.maximum(part.episodes.sum(), 1)
    n, own = part.add(part.N.sum(axis=1)), part.add(part.N @ part.y) / E
    plain = _Pairs.of(table, part.y, part.y)
    faithful = _spread(own, plain.influence, _judged(own, table, plain.known))
    found = [faithful]
    for label in labels:
        one = _Pairs.of(table, label, label)
        d_plus = part.add(part.N @ label) / np.maximum(part.episodes @ label, 1)
        two = _Pairs.of(table, label, part.y)
        lift = np.divide(
            two.within - two.total / np.maximum(two.n - 1, 1),
            two.x,
            out=np.zeros_like(two.x),
            where=two.x > 0,
        )
        louder = _spread(own, one.influence, _judged(own, table, one.known))
        gain = _spread(n / E, lift, _judged(n / E, table, two.x > 0))
        product = louder * faithful
        aligned = gain / np.sqrt(product) if product > 0 else np.nan
        found += [
            _spread(d_plus, one.influence, _judged(d_plus, table, one.known)),
            gain,
            louder,
            aligned,
        ]
    return np.array(found)


def _label_signal(part: _Part, label: Array, value: float, variance: float) -> _Signal:
    """Return a label's Gamma with its moments under no influence."""
    y, code = np.unique(label, return_inverse=True)
    merge = np.eye(y.size)[code]
    merged = replace(part, N=part.N @ merge, episodes=part.episodes @ merge, y=y)
    table = _Table.of(merged)
    null, pairs, w = _Null.of(table, y), _Pairs.of(table, y, y), _per_success(merged)
    share = _judged(w, table, pairs.known) if w.any() else 0.0
    if np.isnan(value):
        value = _spread(w, pairs.influence, share)
    return _Signal(
        np.asarray(value),
        np.asarray((w**2 @ null.variance) / share**2 if share > 0 else 0.0),
        np.asarray((w @ null.noise) / share if share > 0 else 0.0),
        np.asarray(variance),
        np.asarray(null.log_chance[pairs.known].sum()),
    )


def _honest_gain(
    log: _Groups,
    statistics: Callable[[_Part], Array],
    blocks: list[Integers],
    unit: float,
    confidence: float,
) -> Estimate:
    """Choose on one half of the blocks, measure on the other, and the other way round."""
    halves = [
        [x[1:].reshape(-1, 4)[:, 1] for x in _jackknife(log, statistics, half)]
        for half in (blocks[::2], blocks[1::2])
    ]
    chosen = [int(np.argmax(_finite(gains))) for gains, _ in halves]
    value = (halves[0][0][chosen[1]] + halves[1][0][chosen[0]]) / 2
    variance = (halves[0][1][chosen[1]] + halves[1][1][chosen[0]]) / 4
    return _around(unit * value, unit**2 * variance, max(len(blocks) - 2, 1), confidence)


# What may be wrong


def _association(table: _Table, n_a: Array, signed: Array) -> float:
    """Test whether actions differ, state by state, between groups of episodes; by permutations.

    `signed`, shape (R, C), counts decisions with a sign that the groups have, in C ways.
    """
    value = variance = noise = 0.0
    n, K = table.add(n_a), table.add(np.ones(len(n_a)))
    at_least_one, left = np.maximum(n, 1), np.maximum(n - 1, 1)
    for x_a in signed.T:
        X = table.add(x_a)
        mean = X / at_least_one
        m_2, m_4 = 1 - mean**2, (1 - mean**2) * (1 + 3 * mean**2)
        s_2 = m_2 * n / left
        w = np.divide(1, s_2, out=np.zeros_like(s_2), where=(s_2 > 1e-12) & (K > 1))
        value += float(w @ (table.add((x_a**2 - n_a) / (n_a - 1)) - (X**2 - n) / left))
        variance += float(w**2 @ np.maximum(_variance_of_pairs(table, n_a, n, m_2, m_4), 0))
        noise += float(np.maximum(K - 1, 0) @ (w * s_2))
    if not variance > 0:
        return 1.0
    df, scale = 2 * noise**2 / variance, variance / (2 * noise)
    return float(chdtrc(df, max(df + value / scale, 0)))


def _habits(tally: Tally) -> tuple[float, float]:
    """Return p values: of no drift of the actions between halves, of no habits of episodes."""
    G = len(tally.counts)
    half = G // 2
    late = np.where(np.arange(G) < half, -1.0, 1.0)
    signs = [np.ones(G), late]
    if not tally.single:  # Walsh's functions: all contrasts between the groups of a half
        signs += [
            np.array([(-1.0) ** (k & (g % half)).bit_count() for g in range(G)])
            for k in range(1, half)
        ]
    visits = tally.counts.sum(axis=2).astype(np.float64)
    signed = np.stack([sign @ visits for sign in signs], axis=1)
    table = _Table.pool(tally.state, len(tally.states), signed[:, 0], signed)
    n_a, drift, habits = table.N[:, 0], table.N[:, 1:2], table.N[:, 2:]
    return _association(table, n_a, drift), _association(table, n_a, habits)


def _cautions(tally: Tally, whole: _Part, found: Diagnosis) -> Iterable[Caution]:
    n, wins = whole.add(whole.N.sum(axis=1)), whole.add(whole.N @ whole.y)
    successes = whole.episodes @ whole.y
    if successes == 0:
        yield Caution(
            "success",
            f"No episode succeeds: there is nothing to imitate. The success rate is at most "
            f"{found.success_rate.high:.3g}.",
        )
    elif successes < 30:
        yield Caution(
            "success", f"Only {successes:.4g} successes: whatever is read from them is vague."
        )
    if tally.actions is None:
        yield Caution(
            "coverage",
            "There are too many different actions to keep them apart: their influence cannot be "
            "read. Group them, or cut long answers down to what is judged.",
        )
        return
    pair_n = whole.N.sum(axis=1)
    yield from _of_actions(tally, whole, found, pair_n)
    dead = (n > 0) & (wins == 0)
    if dead.any() and successes > 0:
        yield Caution(
            "coverage",
            f"{dead.sum()} of {(n > 0).sum()} states, with {n[dead].sum() / n.sum():.1%} of the "
            "decisions, lie on no success: imitation learns nothing there.",
        )
    thin = pair_n[pair_n > 0] < FEW_VISITS
    if thin.any():
        yield Caution(
            "coverage",
            f"{thin.sum()} of {thin.size} pairs of state and action were seen fewer than "
            f"{FEW_VISITS} times.",
        )
    yield from _of_time(tally, whole)
    yield Caution(
        "behaviour",
        "The behaviour was not given: its action shares are read from the same log, failures "
        "included. Lines that were filtered by outcome before they were logged would spoil it.",
    )


def _of_actions(tally: Tally, whole: _Part, found: Diagnosis, pair_n: Array) -> Iterable[Caution]:
    states = np.bincount(tally.state[pair_n > 0], minlength=whole.n_states)
    if (states <= 1).all():
        yield Caution(
            "coverage",
            "Every state saw one action only: imitation has nothing to choose from.",
        )
    once = pair_n[pair_n > 0] == 1
    if tally.single and once.mean() > 0.5:
        yield Caution(
            "unique",
            f"{once.mean():.0%} of the answers came once: their influence cannot be told from the "
            "verifier's noise. If the verifier judges an answer always alike, see the gain on that "
            "assumption.",
        )
    elif found.judged < 0.5 and (states > 1).any() and (whole.N @ whole.y).any():
        yield Caution(
            "coverage",
            f"Only {found.judged:.0%} of the influence can be judged from visits that can be "
            "compared; the rest is taken to be like it.",
        )
    again = pair_n > 1
    both = again & ((whole.N > 0).sum(axis=1) > 1)
    if tally.single and both.any() and again.any():
        yield Caution(
            "noise",
            f"{both.sum()} of {again.sum()} answers that recurred were judged differently: the "
            "verifier is noisy, or judges something that the answer does not show.",
        )


def _of_time(tally: Tally, whole: _Part) -> Iterable[Caution]:
    actions, habits = _habits(tally)
    half = len(tally.counts) // 2
    early, late = tally.episodes[:half].sum(axis=0), tally.episodes[half:].sum(axis=0)
    if min(early.sum(), late.sum()) > 1:
        (a, u), (b, v) = (_mean(tally.success, x.astype(np.float64)) for x in (early, late))
        z_2 = (a - b) ** 2 / (u + v) if u + v > 0 else 0.0
        if chdtrc(1, z_2) < ALARM:
            yield Caution(
                "drift",
                f"The success rate was {a:.3g} in the first half of the log and {b:.3g} in the "
                "second: it is not one behaviour, or not one environment.",
            )
    if actions < ALARM:
        yield Caution(
            "drift",
            f"Action shares differ between the halves of the log (p = {actions:.1g}): the log "
            "mixes behaviours.",
        )
    text = (
        "What chose the actions may have seen more than the log's states; then part of the "
        "influence is not the actions'. No log can exclude that."
    )
    if habits < ALARM:
        text = (
            f"Episodes keep habits: action shares differ between groups of episodes (p = "
            f"{habits:.1g}). What chose the actions saw more than the log's states, and part of "
            "the influence may not be the actions'."
        )
    yield Caution("confounding", text)
