"""Confidence intervals and sample sizes for a sum of squares: the noncentral chi-squared law.

A statistic T has this law, with df degrees of freedom and noncentrality lambda, if it is the
squared length of a normal vector in df dimensions with unit variances, whose mean has the squared
length lambda. Pearson's statistic has it nearly. The question is always the same: T was seen, what
can lambda be?
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq
from scipy.optimize.elementwise import find_root
from scipy.special import chdtri, chndtr, gammaln, ive, ndtri

from sc_utils.probabilities import Array, as_array, as_count, first, place

__all__ = [
    "noncentral_interval",
    "noncentral_p_value",
    "noncentrality_needed",
    "scaled_interval",
    "successes_needed",
]

TOLERANCES: Any = {"xatol": 1e-10, "xrtol": 1e-12}
UNIFORM_ORDER = 50.0  # from which order the Bessel function's uniform expansion serves


def noncentral_p_value(statistic: ArrayLike, df: ArrayLike, noncentrality: ArrayLike) -> Array:
    r"""Return how probable a statistic is that speaks against this noncentrality as much, or more.

    .. math:: p(\lambda; t) = P_\lambda\{R_\lambda(T) \le R_\lambda(t)\}, \qquad
              R_\lambda(t) = f_\lambda(t) / f_{\hat\lambda(t)}(t), \quad
              \hat\lambda(t) = \max(0, t - \mathrm{df}),

    with f the density: what speaks against it is that another noncentrality, the estimate,
    explains t much better. At noncentrality 0 this is the usual test in the upper tail; far from
    0 it is two-sided.

    Parameters
    ----------
    statistic
        t; a negative one counts as 0. Any shape that broadcasts with the others.
    df
        Degrees of freedom, above 0.
    noncentrality
        lambda, at least 0.

    Returns
    -------
    Array
        In [0, 1]; uniformly distributed if lambda is true and T continuous.

    Raises
    ------
    ValueError
        If `df` is not positive or `noncentrality` is negative; the message names the entry.

    Examples
    --------
    >>> round(float(noncentral_p_value(3.841, 1, 0)), 4)
    0.05

    Notes
    -----
    The order of Feldman and Cousins (1998), with the unbiased estimate, cut at 0, in the place of
    the likeliest one. Whatever the order, the probabilities are those of the exact law.
    """
    t, k, at = np.broadcast_arrays(
        *_as_statistic(statistic, df), as_array(noncentrality, "noncentrality")
    )
    if (at < 0).any():
        where = first(at < 0)
        raise ValueError(f"{place('noncentrality', where)} must not be negative, got {at[where]}")
    return _p_value(t, k, at)


def noncentral_interval(
    statistic: ArrayLike, df: ArrayLike, *, confidence: float = 0.95
) -> tuple[Array, Array]:
    """Return the noncentralities that a statistic does not speak against.

    Those with a `noncentral_p_value` above 1 - confidence. The interval is never empty. It starts
    at 0 if and only if the upper tail test does not reject 0.

    Parameters
    ----------
    statistic
        T; a negative one counts as 0. Any shape.
    df
        Degrees of freedom, above 0; broadcasts with `statistic`.
    confidence
        In (0, 1).

    Returns
    -------
    low, high
        Each of the statistic's shape.

    Raises
    ------
    ValueError
        If `df` is not positive, or `confidence` does not lie in (0, 1).

    Examples
    --------
    >>> low, high = noncentral_interval([0.5, 20.0], 1)
    >>> low.round(2), high.round(2)
    (array([0.  , 5.71]), array([ 6.59, 41.39]))
    """
    level = 1 - _as_fraction(confidence, "confidence")
    t, k = np.broadcast_arrays(*_as_statistic(statistic, df))
    middle = np.maximum(t - k, 0)
    beyond = (np.sqrt(t) + np.sqrt(k) - ndtri(level / 4) + 2) ** 2

    def excess(at: Array, t: Array, k: Array) -> Array:
        return _p_value(t, k, at) - level

    low = _root(excess, middle, np.zeros_like(t), t, k)
    high = _root(excess, middle, beyond, t, k)
    return low, high


def scaled_interval(
    estimate: ArrayLike,
    df: ArrayLike,
    scale: ArrayLike,
    slope: ArrayLike,
    *,
    confidence: float = 0.95,
) -> tuple[Array, Array]:
    r"""Return the signals that an estimate, of known variance, does not speak against.

    The estimate of the signal gamma has nearly the law of
    :math:`\delta (\chi^2_\mathrm{df}(\gamma / \delta) - \mathrm{df})`, whose scale gives it the
    variance that such a signal has:

    .. math:: 2\, \mathrm{df}\, \delta^2 + 4 \gamma \delta
              = 2\, \mathrm{df}\, \mathrm{scale}^2 + \mathrm{slope} \cdot \gamma .

    Parameters
    ----------
    estimate
        Of the signal, mean gamma; it may be negative. Any shape that broadcasts with the others.
    df, scale
        Above 0; they describe the estimate where there is no signal.
    slope
        Increase of the variance per unit of the signal, at least 0; with 4 scale the law is a
        scaled noncentral one throughout.
    confidence
        In (0, 1).

    Returns
    -------
    low, high
        Each of the estimate's shape, 0 <= low <= high; low is 0 if and only if the upper tail
        test does not reject that there is no signal.

    Raises
    ------
    ValueError
        If an argument is out of its range; the message names the entry.

    Examples
    --------
    >>> low, high = scaled_interval([0.0, 0.04, 0.5], 1, 0.01, 0.04)
    >>> low.round(3), high.round(3)
    (array([0.   , 0.003, 0.268]), array([0.088, 0.176, 0.828]))

    Notes
    -----
    An estimate below 0 is taken for 0. Then no estimate lies too far below a signal smaller than
    the least of the upper ends, and for such a signal the error of 1 - confidence is spent above,
    all of it; for others, half above and half below. Nowhere is it more. Two moments are matched,
    as Satterthwaite (1946) does.
    """
    level = 1 - _as_fraction(confidence, "confidence")
    G, k, c, slope = np.broadcast_arrays(
        as_array(estimate, "estimate"),
        *(as_array(x, n) for x, n in [(df, "df"), (scale, "scale"), (slope, "slope")]),
    )
    for values, name, wrong in [
        (k, "df", k <= 0),
        (c, "scale", c <= 0),
        (slope, "slope", slope < 0),
    ]:
        if wrong.any():
            where = first(wrong)
            least = "not be negative" if name == "slope" else "be positive"
            raise ValueError(f"{place(name, where)} must {least}, got {values[where]}")
    G, law = np.maximum(G, 0), (k, c, slope)
    lowest = _upper(np.zeros_like(G), level / 2, *law)
    low = np.minimum(_lower(G, level, *law), lowest)
    ends = np.maximum(low, _lower(G, level / 2, *law)), _upper(G, level / 2, *law)
    return np.reshape(ends[0], G.shape), np.reshape(ends[1], G.shape)


def _upper(G: Array, tail: float, *law: Array) -> Array:
    """Return the signal that leaves so much of its law below G."""
    _, c, slope = law
    steep = np.maximum(slope, 4 * c)
    beyond = (2 * np.sqrt(G + law[0] * c) + (2 - ndtri(tail / 2)) * np.sqrt(steep)) ** 2
    return _root(lambda at, G, *law: _below(at, G, *law) - tail, G, beyond, G, *law)


def _lower(G: Array, tail: float, *law: Array) -> Array:
    """Return the signal that leaves so much of its law above G; 0 if none leaves so little."""

    def excess(at: Array, G: Array, *law: Array) -> Array:
        return 1 - _below(at, G, *law) - tail

    return _root(excess, G, np.zeros_like(G), G, *law)


def _below(at: Array, G: Array, k: Array, c: Array, slope: Array) -> Array:
    """Return the probability of an estimate below G, if the signal is `at`."""
    right = k * c**2 + slope * at / 2
    delta = right / (np.sqrt(at**2 + k * right) + at)  # without cancellation
    return np.asarray(chndtr(k + G / delta, k, at / delta))


def noncentrality_needed(df: float, *, level: float = 0.05, power: float = 0.8) -> float:
    r"""Return the noncentrality at which the upper tail test at `level` has this `power`.

    Parameters
    ----------
    df
        Degrees of freedom, above 0.
    level, power
        Of the test, in (0, 1), with level < power.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> round(noncentrality_needed(1), 3)
    7.849
    """
    alpha, power = _as_fraction(level, "level"), _as_fraction(power, "power")
    if not df > 0:
        raise ValueError(f"df must be positive, got {df}")
    if not alpha < power:
        raise ValueError(f"power must exceed the level, got power {power} and level {alpha}")
    critical = chdtri(df, alpha)
    most = (np.sqrt(critical) - ndtri(1 - power) + np.sqrt(df) + 2) ** 2
    return float(brentq(lambda at: chndtr(critical, df, at) - (1 - power), 0, most, xtol=1e-12))


def successes_needed(
    influence: float, n_actions: int, *, level: float = 0.05, power: float = 0.8
) -> float:
    r"""Return how many successful visits show an influence, if they are independent.

    Pearson's test at `level` has this `power` after :math:`m = \lambda / I` of them, where
    :math:`\lambda` is the noncentrality at which :math:`\chi^2_{K-1}(\lambda)` exceeds the
    critical value so often.

    Parameters
    ----------
    influence
        I, above 0.
    n_actions
        K, the number of actions that are played, at least 2.
    level, power
        Of the test, in (0, 1), with level < power.

    Returns
    -------
    float
        m, not rounded. Divided by the success rate: episodes, if each visits the state once.

    Raises
    ------
    TypeError
        If `n_actions` is not an integer.
    ValueError
        If an argument is out of its range.

    Examples
    --------
    Two arms that succeed with probability 0.495 and 0.505, pulled equally often:

    >>> round(successes_needed(1e-4, 2))
    78489

    Notes
    -----
    Cohen (1988), chapter 7.
    """
    if not influence > 0:
        raise ValueError(f"influence must be positive, got {influence}")
    if as_count(n_actions, "n_actions") < 2:
        raise ValueError("n_actions must be at least 2: with one action there is no influence")
    return noncentrality_needed(n_actions - 1, level=level, power=power) / influence


def _p_value(t: Array, df: Array, at: Array) -> Array:
    """Add the two tails of the statistics that explain `at` no better than t does."""

    def better(x: Array, df: Array, at: Array, seen: Array) -> Array:
        return _log_ratio(x, df, at) - seen

    peak = at + df
    far = np.where(t < peak, peak + 20 * np.sqrt(2 * df + 4 * at) + 200, 0)
    other = _root(better, peak, far, df, at, _log_ratio(t, df, at))
    p: Array = np.asarray(
        chndtr(np.minimum(t, other), df, at) + (1 - chndtr(np.maximum(t, other), df, at))
    )
    p[(at == 0) & (t <= df)] = 1
    return p


def _log_ratio(t: Array, df: Array, at: Array) -> Array:
    """Return the logarithm of R."""
    best = np.maximum(t - df, 0)
    order = df / 2 - 1
    return _log_series(order, at * t) - _log_series(order, best * t) - (at - best) / 2


def _log_series(order: Array, product: Array) -> Array:
    """Return log 0F1(; order + 1; product / 4): the density's dependence on lambda * t.

    It is the Bessel function I of that order at z = sqrt(product), without its leading power.
    """
    z = np.sqrt(np.maximum(product, 1e-20))
    root = np.hypot(1, z / np.maximum(order, UNIFORM_ORDER))
    nu = np.minimum(order, UNIFORM_ORDER)
    exact = np.log(np.maximum(ive(nu, z), 1e-300)) + z - nu * np.log(z / 2) + gammaln(nu + 1)
    # Olver's expansion, DLMF 10.41.3, to leading order
    uniform = order * (root - 1 + np.log(2 / (1 + root))) - np.log(root) / 2
    series: Array = np.where(order > UNIFORM_ORDER, uniform, exact)
    return series


def _root(f: Callable[..., Array], start: Array, end: Array, *arguments: Array) -> Array:
    """Find where f, positive at the start, becomes 0 on the way to the end, entry by entry.

    Where it is not positive at the start, that is the start; where it never is 0, it is the end.
    """
    found: Any = find_root(f, (start, end), args=arguments, tolerances=TOLERANCES)
    nowhere = np.where(f(start, *arguments) > 0, end, start)
    return np.where(found.success, found.x, nowhere)


def _as_statistic(statistic: ArrayLike, df: ArrayLike) -> tuple[Array, Array]:
    t, k = as_array(statistic, "statistic"), as_array(df, "df")
    if (k <= 0).any():
        where = first(k <= 0)
        raise ValueError(f"{place('df', where)} must be positive, got {k[where]}")
    return np.maximum(t, 0), k


def _as_fraction(value: float, name: str) -> float:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}")
    return value
