"""Influence from pairs of visits: those that acted alike, compared with all.

The visits to a state are counted by action and outcome, and a label says what each outcome is
worth. Without influence all orders of a state's outcomes are equally likely; what is estimated
here has then mean 0, and a variance that is known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc, exp1, gammaln, psi

from sc_utils.probabilities import Array

__all__ = [
    "Part",
    "Table",
    "association_p_value",
    "excess_of_pairs",
    "influence_of_pairs",
    "is_known",
    "judged_share",
    "lift_of_pooling",
    "pair_factor",
    "permutation_moments",
    "skill_of_pairs",
    "spread_out",
    "variance_along",
    "variance_of_pairs",
]

Integers = NDArray[np.signedinteger]


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the decisions: of all groups, of one, of all but one."""

    state: Integers  # (P,)
    n_states: int
    N: Array  # (P, B), decisions by pair and outcome
    episodes: Array  # (B,)
    y: Array  # (B,), the label: what each outcome is worth

    def add(self, values: Array) -> Array:
        """Add up by state."""
        return np.asarray(np.bincount(self.state, values, self.n_states), np.float64)

    @property
    def visits(self) -> Array:
        """Decisions by state."""
        return self.add(self.N.sum(axis=1))

    @property
    def wins(self) -> Array:
        """Return what they are worth, by state."""
        return self.add(self.N @ self.y)


@dataclass(frozen=True, eq=False)
class Table:
    """Visits to each state by action, those to actions seen once pooled.

    A lone action seen once is left out: it cannot be pooled, and has no like.
    """

    state: Integers  # (R,)
    N: Array  # (R, B), at least two decisions in each row
    visits: Array  # (S,), with those left out
    diversity: Array  # (S,), probability that two visits differ in action; NaN if visited once
    judged: Array  # (S,), that part of it which the rows show

    @classmethod
    def of(cls, part: Part) -> "Table":
        """Count a part of a log."""
        return cls.pool(part.state, part.n_states, part.N.sum(axis=1), part.N)

    @classmethod
    def pool(cls, state: Integers, S: int, n_a: Array, columns: Array) -> "Table":
        """Pool what belongs to actions seen once; n_a are the visits by pair."""
        once, often = n_a == 1, n_a > 1
        lone = np.bincount(state[once], minlength=S)
        pool = np.stack([np.bincount(state[once], x, S) for x in columns[once].T], axis=1)
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
        """Add up by state."""
        return np.asarray(np.bincount(self.state, values, self.visits.size), np.float64)

    def sums(self, y: Array, most: int) -> list[Array]:
        """Return the sums of the powers 0 ... most of y over each row."""
        return [self.N @ y**k for k in range(most + 1)]


def is_known(table: Table, y: Array) -> NDArray[np.bool_]:
    """Return where there are two successes, or as much."""
    _, X, q = (table.add(x) for x in table.sums(y, 2))
    return np.asarray((X**2 > q) & (X**2 >= (2 - 1e-9) * q))


def pair_factor(table: Table, y: Array) -> Array:
    """Return (n - 1) / P, and 0 where it is not known."""
    n, X, q = (table.add(x) for x in table.sums(y, 2))
    return np.divide(n - 1, X**2 - q, out=np.zeros_like(n), where=is_known(table, y))


def excess_of_pairs(table: Table, x: Array, y: Array) -> Array:
    """Compare pairs that acted alike with all pairs, weighted by two labels; shape (S,)."""
    n_a, x_a, y_a, q_a = (table.N @ v for v in (np.ones_like(x), x, y, x * y))
    n, X, Y, q = (table.add(v) for v in (n_a, x_a, y_a, q_a))
    return table.add((x_a * y_a - q_a) / (n_a - 1)) - (X * Y - q) / np.maximum(n - 1, 1)


def influence_of_pairs(table: Table, y: Array) -> tuple[Array, Array]:
    """Return I_1 and I_2 by state; 0 where they are not known."""
    n_a, S_a, q_a, cubes = table.sums(y, 3)
    n, X, q = (table.add(v) for v in (n_a, S_a, q_a))
    P_a, twice, s = S_a**2 - q_a, 2 * (S_a * q_a - cubes), table.state
    share = (n_a - 2) / np.maximum(n[s] - 2, 1)
    third = S_a * P_a - twice - share * (X[s] * P_a - twice)  # a third visit, alike or any
    factor = pair_factor(table, y)
    bias = factor * X * table.add(third / (n_a - 1) ** 2) / np.where(factor > 0, X**2 - q, 1)
    plain = factor * excess_of_pairs(table, y, y)
    return plain - bias, plain - 2 * bias


def variance_along(table: Table, y: Array) -> Array:
    r"""Return by state the variance of the estimate in the direction of the influence.

    With :math:`r_a = \hat Q_a / \hat V` and :math:`\theta = 1 + \hat I`, a visit with action a and
    outcome y moves the estimate by :math:`2 (r_a - \theta) y / \hat V - r_a^2 + \theta`, over n.
    """
    n_a, S_a = table.sums(y, 1)
    n, X, s = table.add(n_a), table.add(S_a), table.state
    V = np.where(X > 0, X / np.maximum(n, 1), 1.0)
    r = S_a / n_a / V[s]
    theta = table.add(n_a * r**2) / np.maximum(n, 1)
    moves = (
        2 * (r - theta[s])[:, np.newaxis] * y / V[s, np.newaxis] - (r**2 - theta[s])[:, np.newaxis]
    )
    return np.asarray(table.add((table.N * moves**2).sum(axis=1)) / np.maximum(n, 1) ** 2)


def judged_share(weight: Array, table: Table, known: NDArray[np.bool_]) -> float:
    """Return the share of the weight that lies where visits can be compared.

    If actions differ in value by as much everywhere, a state's influence goes with the probability
    that two of its visits differ in action.
    """
    seen = table.visits > 1
    all_of_it = weight @ np.where(seen, table.diversity, 0)
    if all_of_it <= 0:
        return 1.0 if weight[seen].sum() > 0 else 0.0
    return float((weight * known) @ table.judged / all_of_it * weight[seen].sum() / weight.sum())


def spread_out(weight: Array, values: Array, share: float) -> float:
    """Add up values, and let what cannot be judged be like the rest."""
    return float(weight @ values / share) if share > 0 else np.nan


def lift_of_pooling(table: Table) -> Array:
    """Return what a state's influence is scaled by, for the actions that cannot be compared."""
    alone = np.where(table.diversity <= 1e-12, 1.0, np.nan)  # one action has no influence
    return np.divide(table.diversity, table.judged, out=alone, where=table.judged > 0)


def skill_of_pairs(table: Table, y: Array) -> Array:
    r"""Estimate :math:`\mathrm{KL}(\pi_+ \| \pi_0)` by state; 0 where there is nothing to compare.

    The digamma function takes the logarithms' bias away but for a remainder, which is known where
    there is no influence (Grassberger 2003).
    """
    n_a, S_a, q_a = table.sums(y, 2)
    n, X, q = (table.add(v) for v in (n_a, S_a, q_a))
    known, s = is_known(table, y), table.state
    effective = np.divide(X, q, out=np.ones_like(X), where=known)
    share = np.divide(S_a, X[s], out=np.zeros_like(S_a), where=known[s])
    wins, won = np.maximum(S_a * effective[s], 1e-12), np.maximum(X * effective, 1)
    terms = share * (psi(wins) - psi(won)[s] - psi(n_a) + psi(n)[s])
    rate = np.minimum(won / np.maximum(n, 1), 1 - 1e-12)
    misses = -np.log1p(-rate)
    rest = n_a / n[s] * (exp1((n_a - 0.5) * misses[s]) - exp1((n - 0.5) * misses)[s])
    return np.where(known, table.add(terms - rest), 0)


# Without influence: moments over all permutations of a state's outcomes


def permutation_moments(table: Table, y: Array) -> tuple[Array, Array, Array]:
    """Return by state the variance of the plain estimate, and the mean that was subtracted.

    The third is the logarithm of the chance of just this table.
    """
    levels, code = np.unique(y, return_inverse=True)
    columns = table.N @ np.eye(levels.size)[code]
    n_a, totals = columns.sum(axis=1), np.stack([table.add(x) for x in columns.T], axis=1)
    n, K = totals.sum(axis=1), table.add(np.ones(len(n_a)))
    z = levels - (totals @ levels / np.maximum(n, 1))[:, np.newaxis]
    m_2, m_4 = ((totals * z**k).sum(axis=1) / np.maximum(n, 1) for k in (2, 4))
    variance, factor = variance_of_pairs(table, n_a, n, m_2, m_4), pair_factor(table, y)
    return (
        np.maximum(variance, 0) * factor**2 * (K > 1),
        np.maximum(K - 1, 0) * m_2 * n / np.maximum(n - 1, 1) * factor,
        table.add(gammaln(n_a + 1) - gammaln(columns + 1).sum(axis=1))
        + gammaln(totals + 1).sum(axis=1)
        - gammaln(n + 1),
    )


def variance_of_pairs(table: Table, r: Array, n: Array, m_2: Array, m_4: Array) -> Array:
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


def association_p_value(table: Table, n_a: Array, signed: Array) -> float:
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
        variance += float(w**2 @ np.maximum(variance_of_pairs(table, n_a, n, m_2, m_4), 0))
        noise += float(np.maximum(K - 1, 0) @ (w * s_2))
    if not variance > 0:
        return 1.0
    df, scale = 2 * noise**2 / variance, variance / (2 * noise)
    return float(chdtrc(df, max(df + value / scale, 0)))
