"""Success conditioning as an operator on policies, and the quantities it moves, state by state.

Everything here acts on ``(policy, Q)`` alone: exact values and estimates from a log enter by
the same door. Arrays are (S, A), one row per state, and results are (S,); where there is one state
only, a policy of shape (A,) gives a scalar.

Where V(s) = 0 no action that is played ever succeeds and there is nothing to imitate: the
conditioned policy keeps the behaviour there, and its influence is 0. The same goes for failure
where V(s) = 1.

Source: Russo, *Success Conditioning as Policy Improvement* (arXiv:2601.18175).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sc_utils.probabilities import Array, as_action_values, as_array, as_policy, first, place

if TYPE_CHECKING:
    from sc_utils.mdp import Evaluation

__all__ = [
    "action_influence",
    "chi_squared",
    "condition_on_failure",
    "condition_on_success",
    "kl_divergence",
    "merge_states",
    "relative_improvement",
    "success_ratio",
    "successful_visits",
    "total_variation",
]


def success_ratio(policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`w(s, a) = Q(s, a) / V(s)`, with :math:`V(s) = \sum_a \pi(a|s) Q(s, a)`.

    It is the density ratio of the conditioned to the behaviour policy: above 1 for the actions
    that succeed more often than the state's average. Its mean under the policy is 1.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape of `policy`; 1 where V(s) = 0.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.
    """
    pi_0 = as_policy(policy)
    q = as_action_values(Q, pi_0.shape)
    V = (pi_0 * q).sum(axis=-1, keepdims=True)
    ratio: Array = np.divide(q, V, out=np.ones_like(q), where=V > 0)
    return ratio


def condition_on_success(policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return the success-conditioned policy :math:`\pi_+(a|s) = \pi_0(a|s)\, Q_0(s, a) / V_0(s)`.

    It is the law of the action given the state and that the episode succeeds, for a behaviour
    policy that depends on the state only.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape of `policy`. Where V(s) = 0 the behaviour is kept.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> condition_on_success([0.5, 0.5], [0.25, 0.75])
    array([0.25, 0.75])

    Notes
    -----
    Russo (2026), Section 2 and Lemma A.1.
    """
    return as_policy(policy) * success_ratio(policy, Q)


def condition_on_failure(policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`\pi_-(a|s) = \pi_0(a|s)(1 - Q_0(s,a))/(1 - V_0(s))`, conditioned on failure.

    The behaviour is the mixture of the two: :math:`\pi_0 = V_0\, \pi_+ + (1 - V_0)\, \pi_-`.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape of `policy`. Where V(s) = 1 the behaviour is kept.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> condition_on_failure([0.5, 0.5], [0.25, 0.75])
    array([0.75, 0.25])
    """
    pi_0 = as_policy(policy)
    return condition_on_success(pi_0, 1 - as_action_values(Q, pi_0.shape))


def action_influence(policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`I(s) = \operatorname{Var}_{\pi_0} Q_0(s, A) / V_0(s)^2`.

    The squared coefficient of variation of the success probability over the behaviour's own
    actions: how much it matters what is done here.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; dimensionless, at least 0 and at most (1 - V) / V.
        0 where V(s) = 0.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> float(action_influence([0.5, 0.5], [0.25, 0.75]))
    0.25

    Notes
    -----
    Russo (2026), Definition 3.2 and Remark 3.3. Computed from centred ratios, so that a small
    influence keeps its digits.
    """
    pi_0 = as_policy(policy)
    return np.asarray((pi_0 * (success_ratio(pi_0, Q) - 1) ** 2).sum(axis=-1))


def chi_squared(new: ArrayLike, old: ArrayLike) -> Array:
    r"""Return :math:`\chi^2(\pi \| \pi_0)(s) = \sum_a (\pi(a|s) - \pi_0(a|s))^2 / \pi_0(a|s)`.

    Parameters
    ----------
    new
        The policy pi, shape (S, A) or (A,).
    old
        The policy pi_0 it is measured from, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; dimensionless. ``inf`` where `new` plays an action that `old`
        never plays.

    Raises
    ------
    ValueError
        If one is not a policy, or the shapes differ.

    Examples
    --------
    >>> float(chi_squared([0.25, 0.75], [0.5, 0.5]))
    0.25
    >>> float(chi_squared([0.5, 0.5], [1.0, 0.0]))
    inf

    Notes
    -----
    Russo (2026), Definition 4.2 (Pearson's divergence).
    """
    pi, pi_0 = _as_pair(new, old, "old")
    outside = np.where(pi > 0, np.inf, 0.0)
    return np.asarray(np.divide((pi - pi_0) ** 2, pi_0, out=outside, where=pi_0 > 0).sum(axis=-1))


def kl_divergence(new: ArrayLike, old: ArrayLike) -> Array:
    r"""Return :math:`\mathrm{KL}(\pi \| \pi_0)(s) = \sum_a \pi(a|s) \log(\pi(a|s)/\pi_0(a|s))`.

    With the arguments exchanged it is the reverse divergence, the one of TRPO.

    Parameters
    ----------
    new
        The policy pi, shape (S, A) or (A,).
    old
        The policy pi_0 it is measured from, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; in nats. ``inf`` where `new` plays an action that `old` never
        plays.

    Raises
    ------
    ValueError
        If one is not a policy, or the shapes differ.

    Examples
    --------
    >>> float(kl_divergence([1.0, 0.0], [0.5, 0.5]))  # log 2
    0.6931471805599453
    >>> float(kl_divergence([0.5, 0.5], [1.0, 0.0]))
    inf
    """
    pi, pi_0 = _as_pair(new, old, "old")
    outside = np.where(pi > 0, np.inf, 1.0)
    ratio = np.divide(pi, pi_0, out=outside, where=(pi > 0) & (pi_0 > 0))
    terms = pi * np.log(ratio) - pi + pi_0  # none is negative, and their sum is the same
    return np.asarray(terms.sum(axis=-1))


def total_variation(new: ArrayLike, old: ArrayLike) -> Array:
    r"""Return :math:`\operatorname{TV}(\pi, \pi_0)(s) = \frac12 \sum_a |\pi(a|s) - \pi_0(a|s)|`.

    Parameters
    ----------
    new, old
        Two policies, shape (S, A) or (A,).

    Returns
    -------
    Array
        Shape (S,), or a scalar; in [0, 1]: the probability that has to be moved.

    Raises
    ------
    ValueError
        If one is not a policy, or the shapes differ.

    Examples
    --------
    >>> float(total_variation([0.25, 0.75], [0.5, 0.5]))
    0.25
    """
    pi, pi_0 = _as_pair(new, old, "old")
    return np.asarray(np.abs(pi - pi_0).sum(axis=-1) / 2)


def relative_improvement(new: ArrayLike, policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`\sum_a \pi(a|s) A_0(s, a) / V_0(s)`, with advantage :math:`A_0 = Q_0 - V_0`.

    The gain, relative to V_0(s), of playing `new` for one step in s and `policy` ever after.

    Parameters
    ----------
    new
        The policy of the one step, shape (S, A) or (A,).
    policy
        Behaviour policy, same shape.
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; dimensionless. Where V(s) = 0 it is 0, or ``inf`` if `new` can
        succeed there.

    Raises
    ------
    ValueError
        If `new` or `policy` is not a policy, or a shape differs.

    Examples
    --------
    >>> float(relative_improvement([0.25, 0.75], [0.5, 0.5], [0.25, 0.75]))
    0.25

    Notes
    -----
    Russo (2026), the left side of Proposition 4.4.
    """
    pi, pi_0 = _as_pair(new, policy, "policy")
    ratio = success_ratio(pi_0, Q)
    q = as_action_values(Q, pi_0.shape)
    from_nothing = ((pi_0 * q).sum(axis=-1) == 0) & ((pi * q).sum(axis=-1) > 0)
    return np.where(from_nothing, np.inf, (pi * (ratio - 1)).sum(axis=-1))


def successful_visits(evaluation: Evaluation) -> Array:
    r"""Return :math:`d_+(s) = d_0(s)\, V_0(s) / \rho_0`: expected visits in a successful episode.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.

    Returns
    -------
    Array
        Shape (S,), expected number of visits given success; not normalised.

    Raises
    ------
    ValueError
        If the behaviour never succeeds.

    Notes
    -----
    Russo (2026), Lemma A.2.
    """
    refuse_no_success(evaluation)
    return evaluation.visits * evaluation.V / evaluation.success_rate


def merge_states(policy: ArrayLike, weights: ArrayLike, groups: ArrayLike) -> Array:
    r"""Return the policy of an imitator to whom the states of a group look alike.

    .. math:: \bar\pi(a|s) = \sum_{s' \sim s} w(s')\, \pi(a|s') \Big/ \sum_{s' \sim s} w(s')

    With :math:`\pi_+` and the visits :math:`d_+` of successes it is the limit of imitating the
    successes, with :math:`\pi_0` and :math:`d_0` that of imitating everything.

    Parameters
    ----------
    policy
        What the data show in each state, shape (S, A).
    weights
        How often they show each state, shape (S,), at least 0.
    groups
        What the imitator sees of each state, shape (S,), of any kind that can be compared.

    Returns
    -------
    Array
        Shape (S, A); its rows are equal within a group. A group without weight gets the plain mean.

    Raises
    ------
    ValueError
        If `policy` is not one, the other shapes differ from (S,), or a weight is negative.

    Examples
    --------
    >>> merge_states([[0.9, 0.1], [0.1, 0.9]], [3, 1], ["fog", "fog"])
    array([[0.7, 0.3],
           [0.7, 0.3]])
    """
    pi, w = as_policy(policy), as_array(weights, "weights")
    seen, number = np.unique(np.asarray(groups), return_inverse=True)
    S = len(pi)
    if pi.ndim != 2 or not w.shape == number.shape == (S,):
        raise ValueError(
            f"policy, weights and groups must have shapes (S, A), (S,) and (S,), "
            f"got {pi.shape}, {w.shape} and {number.shape}"
        )
    if (w < 0).any():
        where = first(w < 0)
        raise ValueError(f"{place('weights', where)} must not be negative, got {w[where]:.6g}")
    together = np.arange(seen.size)[:, np.newaxis] == number  # (groups, S)
    share = np.where((together @ w)[:, np.newaxis] > 0, together * w, together)
    merged: Array = share / share.sum(axis=1, keepdims=True) @ pi
    return merged[number]


def _as_pair(new: ArrayLike, old: ArrayLike, name: str) -> tuple[Array, Array]:
    """Return two policies of one shape; `name` is what the messages call the second."""
    pi, pi_0 = as_policy(new, "new"), as_policy(old, name)
    if pi.shape != pi_0.shape:
        raise ValueError(
            f"new and {name} must have the same shape, got {pi.shape} and {pi_0.shape}"
        )
    return pi, pi_0


def refuse_no_success(evaluation: Evaluation) -> None:
    """Refuse an evaluation whose policy never succeeds: it has no success to condition on."""
    if evaluation.success_rate == 0:
        raise ValueError("the policy never succeeds: there is no success to condition on")
