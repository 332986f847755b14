r"""The optimisation problem that success conditioning solves, and its solution at every radius.

Among all policies, the success-conditioned one gains most, to first order, within a ball around the
behaviour: the ball's divergence is chi-squared, its weights are the visits of the episodes that
succeeded, and its radius is their influence.

The problem is posed by an `Evaluation` of the behaviour alone. At one state the solutions for all
radii lie on one path, `success_step`, which depends on ``(policy, Q)`` only. Beside it stand the
rival balls, by how far they let an action rise.

Source: Russo (2026), Section 4; what concerns radii other than Gamma goes beyond it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import kl_div

from sc_utils.conditioning import (
    action_influence,
    chi_squared,
    condition_on_success,
    success_ratio,
    successful_visits,
)
from sc_utils.probabilities import Array, as_array, as_policy, first, place

if TYPE_CHECKING:
    from sc_utils.mdp import Evaluation

__all__ = [
    "Certificate",
    "GapClosed",
    "certificate",
    "chi_squared_reach",
    "gap_closed",
    "kl_reach",
    "longest_step",
    "policy_movement",
    "reverse_kl_reach",
    "step_for_radius",
    "success_step",
    "surrogate_gain",
    "total_variation_reach",
    "trust_region_policy",
    "trust_region_radius",
]

TIE = 1e-13
"""Actions whose success probabilities differ by less, relatively, are equally good."""


@dataclass(frozen=True)
class Certificate:
    """Why a policy gains less than the success-conditioned one, to first order.

    Attributes
    ----------
    distance
        What it loses by differing from pi_+, at least 0.
    slack
        What it wins by moving further than the radius; negative if it moves less far.
    """

    distance: float
    slack: float


@dataclass(frozen=True, eq=False)
class GapClosed:
    r"""What share of the one-step gap, :math:`\max_a Q_0(s, a) - V_0(s)`, two steps close.

    Attributes
    ----------
    by_imitation : array (S,)
        Closed by the success-conditioned policy; the product of the other two.
    by_longest_step : array (S,)
        Closed by the longest step of `success_step` on the straight line; 1 if and only if the
        actions played have two success probabilities.
    contrast : array (S,)
        :math:`1 - \min_a Q_0(s, a) / V_0(s)`, which is 1 / `longest_step`: how far the worst action
        falls short of the average. 1 if it never succeeds.
    """

    by_imitation: Array
    by_longest_step: Array
    contrast: Array


def surrogate_gain(evaluation: Evaluation, new: ArrayLike) -> float:
    r"""Return :math:`L(\pi) = \sum_s d_0(s) \sum_a \pi(a|s)\, A_0(s, a)`, the first-order gain.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.
    new
        The policy pi, shape (S, A).

    Returns
    -------
    float
        In units of probability of success; an estimate of rho(pi) - rho_0 that keeps the visits of
        the behaviour.

    Raises
    ------
    ValueError
        If `new` is not a policy of shape (S, A).

    Notes
    -----
    Russo (2026), Section 4.1.
    """
    change = _as_rival(evaluation, new) - evaluation.policy  # the behaviour's own advantage is 0
    A_0 = evaluation.Q - evaluation.V[:, np.newaxis]
    return float(evaluation.visits @ (change * A_0).sum(axis=1))


def policy_movement(evaluation: Evaluation, new: ArrayLike) -> float:
    r"""Return :math:`D(\pi) = \sum_s d_+(s)\, \chi^2(\pi \| \pi_0)(s)`, as successes see it.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.
    new
        The policy pi, shape (S, A).

    Returns
    -------
    float
        Dimensionless, at least 0; ``inf`` if in a state that successful episodes visit `new` plays
        an action that the behaviour never plays.

    Raises
    ------
    ValueError
        If `new` is not a policy of shape (S, A), or the behaviour never succeeds.

    Notes
    -----
    Russo (2026), Proposition 4.1, the constraint.
    """
    pi, d_plus = _as_rival(evaluation, new), successful_visits(evaluation)
    seen = d_plus > 0
    return float(d_plus[seen] @ chi_squared(pi[seen], evaluation.policy[seen]))


def trust_region_radius(evaluation: Evaluation) -> float:
    r"""Return :math:`\Gamma = \sum_s d_+(s)\, I(s)`, the radius that the data set.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.

    Returns
    -------
    float
        Dimensionless, at least 0: the influence that a successful episode meets on its way.

    Raises
    ------
    ValueError
        If the behaviour never succeeds.

    Notes
    -----
    Russo (2026), Proposition 4.1.
    """
    return float(successful_visits(evaluation) @ action_influence(evaluation.policy, evaluation.Q))


def trust_region_policy(evaluation: Evaluation, radius: float) -> Array:
    r"""Return the policy that gains most, to first order, within a radius.

    It solves

    .. math::

       \text{maximise } \sum_s d_0(s) \sum_a \pi(a|s)\, A_0(s, a)
       \quad \text{subject to} \quad
       \sum_s d_+(s)\, \chi^2(\pi \| \pi_0)(s) \le \text{radius}.

    It is exact at every radius: a mixture of behaviour and pi_+ below Gamma, pi_+ itself at Gamma,
    an extrapolation beyond, and, once an action has nothing left to give, the path on which actions
    drop out one after the other (or several at once) until the best remain.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.
    radius
        At least 0; may be ``inf``.

    Returns
    -------
    Array
        Shape (S, A). It is the only solution in the states that successful episodes visit as long
        as the constraint binds; the others, which the problem leaves open, take the same step.

    Raises
    ------
    ValueError
        If the radius is negative or NaN, or the behaviour never succeeds.

    Examples
    --------
    >>> from sc_utils import bandit, evaluate
    >>> behaviour = evaluate(bandit([0.25, 0.75]), [[0.5, 0.5]])
    >>> trust_region_radius(behaviour)
    0.25
    >>> trust_region_policy(behaviour, 0.25)
    array([[0.25, 0.75]])
    >>> trust_region_policy(behaviour, 2.0)
    array([[0., 1.]])

    Notes
    -----
    Russo (2026), Proposition 4.1, for the radius Gamma; the other radii go beyond it.
    """
    return success_step(evaluation.policy, evaluation.Q, step_for_radius(evaluation, radius))


def step_for_radius(evaluation: Evaluation, radius: float) -> float:
    r"""Return the step :math:`\eta` on the path of `success_step` that moves as far as `radius`.

    Until the first action drops out it is :math:`\eta = \sqrt{\text{radius} / \Gamma}`.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.
    radius
        At least 0; may be ``inf``.

    Returns
    -------
    float
        Dimensionless; ``inf`` if even the best policy moves no further than `radius`, and 1 if no
        state that successful episodes visit has any influence, where every step is the same.

    Raises
    ------
    ValueError
        If the radius is negative or NaN, or the behaviour never succeeds.

    Notes
    -----
    Between two dropouts, :math:`D = a \eta^2 + b`: with m the behaviour's probability of the
    actions that are left and v their variance of w, a state adds :math:`d_+ m v` to a and
    :math:`d_+ (1/m - 1)` to b. As actions drop out a falls, so that D is concave in
    :math:`\eta^2`, and Newton's method comes to the right piece from below in a few steps.
    """
    radius, d_plus = _as_radius(radius), successful_visits(evaluation)
    seen = d_plus > 0
    d, pi_0 = d_plus[seen], evaluation.policy[seen]
    w = _ratio(pi_0, evaluation.Q[seen])
    drops = _dropouts(pi_0, w)
    eta, left = 0.0, np.full(w.shape, True)
    while True:
        mass, lost, gap = _remaining(pi_0, w, left)
        a = d @ (pi_0 * np.where(left, gap, 0) ** 2).sum(axis=1)
        if a == 0:  # the best are left
            return np.inf if eta > 0 else 1.0
        further = float(np.sqrt(max(radius - d @ (lost / mass), 0) / a))
        left = (drops > further) | np.isinf(drops)
        if further <= eta or not ((drops > eta) & ~left).any():
            return further
        eta = further


def success_step(policy: ArrayLike, Q: ArrayLike, step: ArrayLike) -> Array:
    r"""Return the policy a `step` along the path from the behaviour through :math:`\pi_+`.

    .. math::

       \pi_\eta(a|s) = \pi_0(a|s) \Big[ \eta\, \frac{Q_0(s, a)}{V_0(s)} - \nu_s \Big]_+ ,
       \qquad \nu_s \text{ such that the row sums to 1.}

    Up to `longest_step` it is the straight line :math:`\pi_0 + \eta\, (\pi_+ - \pi_0)`: the
    behaviour at 0, the success-conditioned policy at 1. Beyond, the actions that succeed least drop
    out, until the behaviour restricted to the best ones is left.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.
    step
        The step eta, at least 0, a number or one per state (S,); may be ``inf``.

    Returns
    -------
    Array
        Shape of `policy`. Where V(s) = 0 the behaviour is kept.

    Raises
    ------
    ValueError
        If a step is negative or NaN or there are not as many as states, `policy` is not a policy,
        or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> success_step([0.5, 0.5], [0.495, 0.505], 50)
    array([0.25, 0.75])
    >>> success_step([0.5, 0.5], [0.495, 0.505], np.inf)
    array([0., 1.])
    """
    pi_0 = as_policy(policy)
    w = _ratio(pi_0, Q)
    eta = as_array(step, "step")
    if eta.shape not in ((), pi_0.shape[:-1]):
        raise ValueError(
            f"step must be a number or have one entry per state {pi_0.shape[:-1]}, got {eta.shape}"
        )
    if (eta < 0).any():
        where = first(eta < 0)
        raise ValueError(f"{place('step', where)} must be at least 0, got {eta[where]:.6g}")
    eta = eta[..., np.newaxis]
    drops = _dropouts(pi_0, w)
    left = (drops > eta) | np.isinf(drops)
    mass, lost, gap = _remaining(pi_0, w, left)
    push = np.where(np.isinf(eta), 0.0, eta) * gap  # at inf the best are left, which do not differ
    ratio = 1 + (lost / mass)[..., np.newaxis] + push
    return np.where(left, pi_0 * np.maximum(ratio, 0.0), 0.0)


def longest_step(policy: ArrayLike, Q: ArrayLike) -> Array:
    r"""Return :math:`\eta_{\max}(s) = 1 / (1 - \min_a Q_0(s, a) / V_0(s))`, over actions played.

    The step at which the first action drops out: up to it, `success_step` is a straight line.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    Array
        Shape (S,), or a scalar; dimensionless, at least 1. ``inf`` where all actions played succeed
        equally often.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> round(float(longest_step([0.5, 0.5], [0.495, 0.505])))
    100
    """
    pi_0 = as_policy(policy)
    return np.asarray(_dropouts(pi_0, _ratio(pi_0, Q)).min(axis=-1))


def gap_closed(policy: ArrayLike, Q: ArrayLike) -> GapClosed:
    r"""Return which share of the gap to the best action one step closes, and why.

    .. math::

       \frac{\sum_a \pi_+ Q_0 - V_0}{q_{\max} - V_0} = \Big(1 - \frac{q_{\min}}{V_0}\Big) B, \qquad
       B = \frac{\operatorname{Var}_{\pi_0}(Q_0)}{(q_{\max} - V_0)(V_0 - q_{\min})} ,

    where q_min and q_max are the extreme success probabilities of the actions played.

    Parameters
    ----------
    policy
        Behaviour policy, shape (S, A) or (A,).
    Q
        Its probability of success after each action, same shape.

    Returns
    -------
    GapClosed
        Arrays (S,), or scalars, in [0, 1]. Where all actions played succeed equally often there is
        no gap: the contrast is 0 and the shares are NaN.

    Raises
    ------
    ValueError
        If `policy` is not a policy, or `Q` not probabilities of the same shape.

    Examples
    --------
    >>> arms = gap_closed([0.5, 0.5], [0.495, 0.505])
    >>> round(float(arms.by_imitation), 6), round(float(arms.by_longest_step), 6)
    (0.01, 1.0)

    Notes
    -----
    Goes beyond Russo (2026), whose Example 3.1 is the example above. That B is at most 1 is the
    inequality of Bhatia and Davis (2000).
    """
    pi_0 = as_policy(policy)
    w = _ratio(pi_0, Q)
    contrast = 1 / longest_step(pi_0, Q)
    best = np.where(pi_0 > 0, w, 0.0).max(axis=-1, keepdims=True)
    gap = (pi_0 * (best - w)).sum(axis=-1)  # best - 1, without cancellation
    some = contrast > 0
    share = np.full_like(gap, np.nan)
    np.divide(action_influence(pi_0, Q), gap, out=share, where=some)
    straight = np.full_like(gap, np.nan)
    np.divide(share, contrast, out=straight, where=some)
    return GapClosed(share, np.minimum(straight, 1.0), contrast)


def certificate(evaluation: Evaluation, new: ArrayLike) -> Certificate:
    r"""Return the two terms of :math:`L(\pi) - L(\pi_+) = -\text{distance} + \text{slack}`.

    .. math::

       \text{distance} = \frac{\rho_0}{2} \sum_s d_+(s) \sum_a
       \frac{(\pi(a|s) - \pi_+(a|s))^2}{\pi_0(a|s)}, \qquad
       \text{slack} = \frac{\rho_0}{2} \big( D(\pi) - \Gamma \big).

    Within the radius the slack is not positive, so that no policy gains more than pi_+.

    Parameters
    ----------
    evaluation
        Of the behaviour policy.
    new
        The policy pi, shape (S, A); it may play only what the behaviour plays.

    Returns
    -------
    Certificate
        In units of probability of success.

    Raises
    ------
    ValueError
        If `new` is not a policy of shape (S, A), plays an action that the behaviour never plays, or
        the behaviour never succeeds.

    Notes
    -----
    An identity, which completes the square; it replaces the Cauchy-Schwarz step in the proof of
    Proposition 4.1 of Russo (2026) and says how much any other policy loses.
    """
    pi, pi_0 = _as_rival(evaluation, new), evaluation.policy
    outside = (pi > 0) & (pi_0 == 0)
    if outside.any():
        s, a = first(outside)
        raise ValueError(
            f"new[{s}, {a}] is {pi[s, a]:.6g}, but the behaviour never plays action {a} in state "
            f"{s}: there is no certificate outside its support"
        )
    d_plus, pi_plus = successful_visits(evaluation), condition_on_success(pi_0, evaluation.Q)
    squares = np.divide((pi - pi_plus) ** 2, pi_0, out=np.zeros_like(pi), where=pi_0 > 0)
    price = evaluation.success_rate / 2
    return Certificate(
        distance=float(price * (d_plus @ squares.sum(axis=1))),
        slack=price * (policy_movement(evaluation, pi) - trust_region_radius(evaluation)),
    )


def chi_squared_reach(probability: ArrayLike, radius: float) -> Array:
    r"""Return how likely an action can become while :math:`\chi^2(\pi \| \pi_0)` is bounded.

    With delta its probability before, it is :math:`\delta + \sqrt{\text{radius}\; \delta\,
    (1 - \delta)}`, and at most 1: for rare actions of the order of :math:`\sqrt{\delta}`.

    Parameters
    ----------
    probability
        Of the action under the behaviour, in [0, 1], any shape.
    radius
        At least 0.

    Returns
    -------
    Array
        Same shape; the largest probability, however many other actions there are.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or the radius is negative or NaN.

    Notes
    -----
    Russo (2026), Lemma 4.6, where it is stated up to constants. By convexity the other actions are
    best kept in proportion, which leaves two outcomes: the action, and not the action.
    """
    delta, radius = _as_probability(probability), _as_radius(radius)
    return np.asarray(np.minimum(delta + np.sqrt(radius * delta * (1 - delta)), 1))


def kl_reach(probability: ArrayLike, radius: float) -> Array:
    r"""Return how likely an action can become while :math:`\mathrm{KL}(\pi \| \pi_0)` is bounded.

    The forward divergence, of mirror descent. For rare actions it falls very slowly, as
    :math:`\text{radius} / \log(1/\delta)`.

    Parameters
    ----------
    probability
        Of the action under the behaviour, in [0, 1], any shape.
    radius
        At least 0, in nats.

    Returns
    -------
    Array
        Same shape; the largest probability.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or the radius is negative or NaN.

    Notes
    -----
    Russo (2026), Lemma 4.6.
    """
    return _reach(probability, radius, lambda p, delta: (p, delta))


def reverse_kl_reach(probability: ArrayLike, radius: float) -> Array:
    r"""Return how likely an action can become while :math:`\mathrm{KL}(\pi_0 \| \pi)` is bounded.

    The divergence of TRPO. However rare the action, it can reach
    :math:`1 - e^{-\text{radius}}`.

    Parameters
    ----------
    probability
        Of the action under the behaviour, in [0, 1], any shape.
    radius
        At least 0, in nats.

    Returns
    -------
    Array
        Same shape; the largest probability. It is below 1 unless the action was certain: nothing
        may be forgotten. An action that is never played can reach the limit, yet no more.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or the radius is negative or NaN.
    """
    return _reach(probability, radius, lambda p, delta: (delta, p))


def total_variation_reach(probability: ArrayLike, radius: float) -> Array:
    r"""Return how likely an action can become while :math:`\mathrm{TV}(\pi, \pi_0)` is bounded.

    Parameters
    ----------
    probability
        Of the action under the behaviour, in [0, 1], any shape.
    radius
        At least 0; in units of probability.

    Returns
    -------
    Array
        Same shape: `probability` + `radius`, and at most 1.

    Raises
    ------
    ValueError
        If a probability lies outside [0, 1], or the radius is negative or NaN.
    """
    return np.asarray(np.minimum(_as_probability(probability) + _as_radius(radius), 1))


def _reach(
    probability: ArrayLike, radius: float, order: Callable[[float, float], tuple[float, float]]
) -> Array:
    """Solve for the largest p with KL = radius between (p, 1 - p) and the behaviour's pair."""
    limit = _as_radius(radius)

    def excess(p: float, delta: float) -> float:
        x, y = order(p, delta)
        return float(kl_div(x, y) + kl_div(1 - x, 1 - y)) - limit

    def largest(delta: float) -> float:
        if excess(1.0, delta) <= 0:
            return 1.0
        if excess(np.nextafter(delta, 1), delta) >= 0:
            return delta
        return float(brentq(excess, delta, 1.0, args=(delta,), xtol=1e-300, rtol=1e-15))

    deltas = _as_probability(probability)
    return np.asarray([largest(float(delta)) for delta in deltas.flat]).reshape(deltas.shape)


def _ratio(pi_0: Array, Q: ArrayLike) -> Array:
    """Return w = Q / V; where rounding alone parts the best of the actions played, they are one."""
    w = success_ratio(pi_0, Q)
    best = np.where(pi_0 > 0, w, 0.0).max(axis=-1, keepdims=True)
    return np.where(np.abs(w - best) <= TIE * best, best, w)


def _dropouts(pi_0: Array, w: Array) -> Array:
    r"""Return the step at which each action drops out, same shape.

    It is :math:`1 / \sum_b \pi_0(b) [w_b - w_a]_+`, and inf for the best actions.
    """
    loss = np.empty_like(w)
    for a in range(w.shape[-1]):  # one column at a time: (S, A, A) may be large
        loss[..., a] = (pi_0 * np.maximum(w - w[..., [a]], 0)).sum(axis=-1)
    played = pi_0 > 0
    return np.divide(1.0, loss, out=np.full_like(w, np.inf), where=played & (loss > 0))


def _remaining(pi_0: Array, w: Array, left: NDArray[np.bool_]) -> tuple[Array, Array, Array]:
    """Return the mass of the actions that are left, the mass that is lost, and w minus its mean.

    The mean is over the actions that are left, and taken from the likeliest of them: so rounding
    stays small against the policy, however rare the best action, and actions that do not differ
    have differences of 0.
    """
    kept = np.where(left, pi_0, 0.0)
    mass, lost = kept.sum(axis=-1), (pi_0 - kept).sum(axis=-1)
    likeliest = kept.argmax(axis=-1)[..., np.newaxis]
    above = w - np.take_along_axis(w, likeliest, axis=-1)
    mean = (kept * above).sum(axis=-1) / mass
    return mass, lost, above - mean[..., np.newaxis]


def _as_rival(evaluation: Evaluation, new: ArrayLike) -> Array:
    """Return a policy of the same states and actions."""
    pi = as_policy(new, "new")
    if pi.shape != evaluation.policy.shape:
        raise ValueError(
            f"new must have the behaviour's shape {evaluation.policy.shape}, got {pi.shape}"
        )
    return pi


def _as_probability(probability: ArrayLike) -> Array:
    """Return probabilities of an action."""
    delta = as_array(probability, "probability")
    outside = (delta < 0) | (delta > 1)
    if outside.any():
        where = first(outside)
        raise ValueError(
            f"{place('probability', where)} must lie in [0, 1], got {delta[where]:.6g}"
        )
    return delta


def _as_radius(radius: float) -> float:
    """Return a radius that is not negative."""
    if not radius >= 0:
        raise ValueError(f"radius must be at least 0, got {radius}")
    return float(radius)
