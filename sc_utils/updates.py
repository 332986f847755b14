r"""Rival updates of a policy, state by state: what other methods make of the same (policy, Q).

All of them keep what succeeds more often than average. They differ in three things: how far they go
(`best_of_n`, `chi_squared_update`), along which curve (`exponential_tilt`, `guided_policy`), and
how they weigh one prompt against another (`group_relative_factor`).

As in `conditioning`, arrays are (S, A), one row per state, or (A,) where there is one state only.
A temperature, weight, price or number of tries is one number for all states or one per state. Where
V(s) = 0 nothing ever succeeds, and every update keeps the behaviour.

Sources are named in the notes of each function.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import xlog1py
from scipy.stats import binom

from sc_utils.conditioning import condition_on_failure, condition_on_success
from sc_utils.probabilities import (
    Array,
    as_action_values,
    as_array,
    as_count,
    as_policy,
    first,
    place,
)
from sc_utils.trust_region import success_step

__all__ = [
    "best_of_n",
    "best_of_n_step",
    "chi_squared_update",
    "exponential_tilt",
    "group_relative_factor",
    "guided_policy",
]


def exponential_tilt(policy: ArrayLike, Q: ArrayLike, temperature: ArrayLike) -> Array:
    r"""Return :math:`\pi(a|s) \propto \pi_0(a|s)\, e^{Q_0(s, a) / \beta}`.

    The policy that maximises :math:`\mathbb{E}_\pi Q_0 - \beta\, \mathrm{KL}(\pi \| \pi_0)`. At the
    temperature :math:`\beta = V_0(s)` it agrees with the success-conditioned policy up to terms of
    second order in Q_0 / V_0 - 1.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.
    temperature
        The temperature beta, above 0, a number or one per state (S,); may be ``inf``.

    Returns
    -------
    Array
        Shape of `policy`; the behaviour where the temperature is ``inf``.

    Raises
    ------
    ValueError
        If a temperature is not above 0 or there are not as many as states, `policy` is not a
        policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> exponential_tilt([0.5, 0.5], [0.0, 1.0], 1 / np.log(3)).round(12)
    array([0.25, 0.75])

    Notes
    -----
    The target of MPO (Abdolmaleki et al., 2018), MARWIL (Wang et al., 2018) and AWR (Peng et al.,
    2019); the advantage in place of Q_0 gives the same policy.
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    beta = _per_state(temperature, "temperature", pi_0, low=0, strict=True)
    best = np.where(pi_0 > 0, q, 0.0).max(axis=-1, keepdims=True)
    with np.errstate(over="ignore"):  # a tiny temperature leaves the best actions only
        return _normalised(pi_0 * np.exp(np.minimum(q - best, 0) / beta))


def guided_policy(policy: ArrayLike, Q: ArrayLike, weight: ArrayLike) -> Array:
    r"""Return :math:`\pi(a|s) \propto \pi_0 (\pi_+ / \pi_0)^\gamma \propto \pi_0\, Q_0^\gamma`.

    Guidance towards success: weight 0 is the behaviour, 1 the success-conditioned policy, and in
    one decision a whole weight is a number of rounds of success conditioning.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.
    weight
        The weight gamma, at least 0 and finite, a number or one per state (S,).

    Returns
    -------
    Array
        Shape of `policy`. At any weight above 0, however small, actions that never succeed are
        dropped. Where V(s) = 0 the behaviour is kept.

    Raises
    ------
    ValueError
        If a weight is negative or infinite or there are not as many as states, `policy` is not a
        policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> guided_policy([0.5, 0.5], [0.2, 0.6], 2).round(12)
    array([0.1, 0.9])

    Notes
    -----
    Classifier-free guidance (Ho and Salimans, 2022) as an update of a policy (Frans et al., 2025).
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    gamma = _per_state(weight, "weight", pi_0, low=0)
    if np.isinf(gamma).any():
        raise ValueError("weight must be finite, got inf")
    best = np.where(pi_0 > 0, q, 0.0).max(axis=-1, keepdims=True)
    share = np.divide(q, best, out=np.ones_like(q), where=best > 0)  # no power of it overflows
    return _normalised(pi_0 * np.minimum(share, 1) ** gamma)


def best_of_n(policy: ArrayLike, Q: ArrayLike, n: ArrayLike) -> Array:
    r"""Return :math:`c_n\, \pi_+ + (1 - c_n)\, \pi_-` with :math:`c_n = 1 - (1 - V_0(s))^n`.

    The law of the action if one tries up to n times and returns a success, or a failure if there is
    none. It is the step `best_of_n_step` on the path from the behaviour to pi_+, and never passes
    pi_+.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Probability that a try with this action succeeds, same shape.
    n
        Number of tries, at least 1, one for all states or one per state (S,); need not be whole,
        and may be ``inf``.

    Returns
    -------
    Array
        Shape of `policy`; the behaviour for n = 1, pi_+ for n = ``inf`` where V(s) > 0.

    Raises
    ------
    ValueError
        If n is below 1 or there are not as many as states, `policy` is not a policy, or `Q` not
        probabilities of the same shape.

    Examples
    --------
    >>> best_of_n([0.5, 0.5], [0.0, 1.0], 2)
    array([0.25, 0.75])

    Notes
    -----
    The selection is by the outcome itself. By a score that ranks the tries more finely it is
    another policy; its divergence is bounded by Beirami et al. (2024).
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    found = _some_success(pi_0, q, _per_state(n, "n", pi_0, low=1))
    return found * condition_on_success(pi_0, q) + (1 - found) * condition_on_failure(pi_0, q)


def best_of_n_step(policy: ArrayLike, Q: ArrayLike, n: ArrayLike) -> Array:
    r"""Return :math:`\eta_n(s) = 1 - (1 - V_0(s))^{n-1}`, the step that best-of-n takes.

    `best_of_n` is pi_0 + eta_n (pi_+ - pi_0): the probability that one of the *other* tries
    succeeds is the share of the way to pi_+.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Probability that a try with this action succeeds, same shape.
    n
        Number of tries, as in `best_of_n`.

    Returns
    -------
    Array
        Shape (S,), or a scalar; in [0, 1]. 0 where V(s) = 0.

    Raises
    ------
    ValueError
        As `best_of_n`.

    Examples
    --------
    >>> float(best_of_n_step([0.5, 0.5], [0.0, 1.0], 3))
    0.75
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    return _some_success(pi_0, q, _per_state(n, "n", pi_0, low=1) - 1)[..., 0]


def chi_squared_update(policy: ArrayLike, Q: ArrayLike, beta: ArrayLike) -> Array:
    r"""Return :math:`\pi_0 [(Q_0 - \nu_s) / \beta]_+`, with :math:`\nu_s` such that rows sum to 1.

    The policy that maximises :math:`\mathbb{E}_\pi Q_0 - \tfrac\beta2 \chi^2(\pi \| \pi_0)`. It is
    the `success_step` of length V_0(s) / beta; the price beta = V_0(s) gives pi_+.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.
    beta
        Price of movement, above 0, a number or one per state (S,); may be ``inf``.

    Returns
    -------
    Array
        Shape of `policy`; the behaviour where the price is ``inf``.

    Raises
    ------
    ValueError
        If a price is not above 0 or there are not as many as states, `policy` is not a policy, or
        `Q` not probabilities of the same shape.

    Examples
    --------
    >>> chi_squared_update([0.5, 0.5], [0.2, 0.6], 0.8)
    array([0.375, 0.625])

    Notes
    -----
    Belousov and Peters (2017) derive the update from a Pearson penalty.
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    price = _per_state(beta, "beta", pi_0, low=0, strict=True)[..., 0]
    with np.errstate(over="ignore"):  # a tiny price is an infinite step
        return success_step(pi_0, q, (pi_0 * q).sum(axis=-1) / price)


def group_relative_factor(success_rate: ArrayLike, group: int) -> Array:
    r"""Return :math:`c_G(p) = \mathbb{E}[\sigma_K] / (p (1 - p))`, how GRPO weighs a prompt.

    Rewards 0 or 1 of G answers, K of them right, are centred and divided by their standard
    deviation :math:`\sigma_K = \sqrt{(K/G)(1 - K/G)}`. The gradient this gives is c_G(p) times that
    of the success rate p, on average. Dividing both binomials,

    .. math::

       c_G(p) = \mathbb{E} \frac{G - 1}{\sqrt{(J + 1)(G - 1 - J)}}, \qquad
       J \sim \operatorname{Bin}(G - 2, p) .

    Parameters
    ----------
    success_rate
        The prompt's success rate p, in [0, 1], any shape.
    group
        Number of answers G per prompt.

    Returns
    -------
    Array
        Shape of `success_rate`; between 2 (G - 1) / G and sqrt(G - 1), 1 for two answers and 0 for
        one.

    Raises
    ------
    TypeError
        If `group` is not an integer.
    ValueError
        If `group` is below 1, or a success rate is not a probability.

    Examples
    --------
    >>> round(float(group_relative_factor(0.3, 8)), 4)
    1.9627

    Notes
    -----
    GRPO is by Shao et al. (2024); for large groups c_G tends to 1 / sqrt(p (1 - p)) (Mroueh, 2025).
    """
    p, G = as_array(success_rate, "success_rate"), as_count(group, "group")
    outside = (p < 0) | (p > 1)
    if outside.any():
        where = first(outside)
        raise ValueError(
            f"{place('success_rate', where)} must be a probability, got {p[where]:.6g}"
        )
    if G == 1:
        return np.zeros_like(p)
    J = np.arange(G - 1)
    weight = (G - 1) / np.sqrt((J + 1.0) * (G - 1 - J))
    return np.asarray(binom.pmf(J, G - 2, p[..., np.newaxis]) @ weight)


def _some_success(pi_0: Array, q: Array, tries: Array) -> Array:
    """Return the probability that one of so many tries succeeds, shape (..., 1)."""
    V = np.minimum((pi_0 * q).sum(axis=-1, keepdims=True), 1.0)
    with np.errstate(invalid="ignore"):
        some = -np.expm1(xlog1py(tries, -V))
    return np.where(V > 0, some, 0.0)


def _per_state(
    value: ArrayLike, name: str, pi_0: Array, *, low: float, strict: bool = False
) -> Array:
    """Return a number per state, checked to be at least (or above) `low`, shape (..., 1)."""
    array = as_array(value, name)
    if array.shape not in ((), pi_0.shape[:-1]):
        raise ValueError(
            f"{name} must be a number or have one entry per state {pi_0.shape[:-1]}, "
            f"got {array.shape}"
        )
    outside = (array <= low) if strict else (array < low)
    if outside.any():
        where = first(outside)
        bound = "above" if strict else "at least"
        raise ValueError(f"{place(name, where)} must be {bound} {low}, got {array[where]:.6g}")
    return array[..., np.newaxis]


def _normalised(weights: Array) -> Array:
    """Divide each row by its sum."""
    rows: Array = weights / weights.sum(axis=-1, keepdims=True)
    return rows
